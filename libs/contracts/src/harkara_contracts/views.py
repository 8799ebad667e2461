"""Views of events: for a reader that needs little of many events, such as a read model.

A view names the fields it wants, as the event names them. Everything else is skipped over, so it is read in a fifth of the
time that the whole event takes. Types are checked all the same.
"""

import msgspec


class View(msgspec.Struct, gc=False, kw_only=True):
    """Base of views. A field that the event may lack has a default."""

    message_id: str

    def correlation_key(self) -> str:
        """As the event's own."""
        return self.message_id
