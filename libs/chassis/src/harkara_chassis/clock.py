"""The one place that asks what time it is, so that tests can hand over another clock."""

from datetime import UTC, datetime


def now_utc() -> datetime:
    return datetime.now(UTC)
