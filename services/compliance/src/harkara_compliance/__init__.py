"""May this be sent? DLT registry and verdicts."""
