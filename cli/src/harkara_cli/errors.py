"""What goes wrong and how to mend it, in one sentence: the only kind of error the command line shows."""


class HarkaraError(Exception):
    """Its text is one sentence for the person at the keyboard: what is wrong and how to mend it."""
