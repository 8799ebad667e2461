"""Measures a running Harkara from outside: `python -m bench`."""
