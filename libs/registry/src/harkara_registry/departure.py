"""When a message may leave: its schedule, and the hours in which promotion is allowed."""

from datetime import datetime

from harkara_contracts.subjects import Category
from harkara_dlt import RULES, ClientCategory, next_open

_WINDOWED = frozenset(category for category in Category if RULES[ClientCategory(category)].window_applies)


def earliest_departure(category: Category, send_at: datetime | None, now: datetime) -> datetime:
    """Return `now` if the message may leave at once, else the first instant at which it may.

    That is its schedule, moved into the next window (10:00-21:00 IST) for promotional and service-explicit messages.
    """
    departure = send_at if send_at is not None and send_at > now else now
    return next_open(departure) if category in _WINDOWED else departure
