"""When validity ends: one timer for all messages of a quarter of a minute, not one for each. Pure."""

from datetime import UTC, datetime

BUCKET_S = 15


def bucket_of(expires_at: datetime) -> datetime:
    """Return the end of the quarter minute in which a validity ends."""
    seconds = -(-expires_at.timestamp() // BUCKET_S) * BUCKET_S
    return datetime.fromtimestamp(seconds, UTC)
