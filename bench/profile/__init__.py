"""Where the time of a message goes: `python -m bench profile`."""
