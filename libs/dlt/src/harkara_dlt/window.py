"""The daily hours in which promotional messages may be sent: 10:00 to 21:00 India time since October 2025.

The end is exclusive: at 21:00:00 the operators refuse (code 651). India keeps one offset all year.
"""

from datetime import datetime, time, timedelta, timezone
from typing import Final

IST: Final = timezone(timedelta(hours=5, minutes=30), "IST")
OPENS: Final = time(10)
CLOSES: Final = time(21)


def is_open(instant: datetime) -> bool:
    """Whether promotional messages may leave at `instant`.

    Raises:
        ValueError: the instant has no time zone.
    """
    return OPENS <= _in_india(instant).time() < CLOSES


def next_open(instant: datetime) -> datetime:
    """The earliest time, not before `instant`, at which the window is open: `instant` itself when it is open now.

    The answer is in the time zone of `instant`.

    Raises:
        ValueError: the instant has no time zone.
    """
    local = _in_india(instant)
    if OPENS <= local.time() < CLOSES:
        return instant
    day = local.date() if local.time() < OPENS else local.date() + timedelta(days=1)
    return datetime.combine(day, OPENS, IST).astimezone(instant.tzinfo)


def _in_india(instant: datetime) -> datetime:
    if instant.utcoffset() is None:
        raise ValueError("The time has no time zone; the window is kept in India time, so the zone must be known.")
    return instant.astimezone(IST)
