"""When validity ends: one timer for all messages of a quarter of a minute, not one for each. Pure."""

from datetime import UTC, datetime
from functools import lru_cache

BUCKET_S = 15


def bucket_of(expires_at: datetime) -> datetime:
    """Return the end of the quarter minute in which a validity ends."""
    return _moment(-(-expires_at.timestamp() // BUCKET_S) * BUCKET_S)


@lru_cache(maxsize=1_024)
def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
