"""The harkara command: runs the whole stack on one machine and looks inside."""
