"""The edge: authenticates, validates, accepts durably, answers; message status."""
