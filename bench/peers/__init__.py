"""Harkara beside Jasmin and Kannel: one generator, one SMSC, one sink, one table."""
