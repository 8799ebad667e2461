"""Signed delivery of events to clients, with retries and a log."""
