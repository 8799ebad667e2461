"""Which channel, which carrier, when to give up: the saga of a message."""
