"""The HTTP edge: one middleware that admits, routes per resource, one form of error."""
