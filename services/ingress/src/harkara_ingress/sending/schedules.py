"""When a message is to leave, as clients write it. Pure."""

import re
from datetime import UTC, datetime, timedelta

from harkara_contracts.errors import ErrorCode, HarkaraError

MAX_AHEAD_YEARS = 5
MAX_AHEAD = timedelta(days=MAX_AHEAD_YEARS * 365 + 2)
PAST_TOLERANCE = timedelta(minutes=5)
"""A client's clock may be slow; a time only just gone by means now."""

_SIXTIETH = re.compile(r"(?<=T)(\d\d:?\d\d:?)60")
_LAST_OF_A_DAY = (23, 59, 59)


def checked_schedule(text: str | None, now: datetime) -> datetime | None:
    """Read `schedule_at`, in UTC from here on; None means at once.

    Raises:
        HarkaraError: ERR_INVALID_REQUEST, no time, a time without an offset, past, or too far ahead.
    """
    if text is None:
        return None
    send_at = read_time(text)
    if send_at is None:
        raise HarkaraError(
            ErrorCode.INVALID_REQUEST,
            "Field `schedule_at` must be an ISO 8601 time with its offset, such as 2026-12-01T10:30:00+05:30.",
        )
    if send_at.tzinfo is None:
        raise HarkaraError(
            ErrorCode.INVALID_REQUEST,
            "Field `schedule_at` has no offset. End it with +05:30 for India time, or with Z for UTC: "
            "2026-12-01T10:30:00+05:30.",
        )
    if send_at < now - PAST_TOLERANCE:
        raise HarkaraError(
            ErrorCode.INVALID_REQUEST, "Field `schedule_at` lies in the past. Leave it out to send at once."
        )
    if send_at > now + MAX_AHEAD:
        raise HarkaraError(
            ErrorCode.INVALID_REQUEST, f"Field `schedule_at` may lie at most {MAX_AHEAD_YEARS} years ahead."
        )
    return send_at.astimezone(UTC) if send_at > now else None


def read_time(text: str) -> datetime | None:
    """Read an ISO 8601 time, with an offset or without; None if it is none.

    Letters may be small (RFC 3339 §5.6). A leap second, which UTC has at the end of a day only, is the second after it.
    """
    text = text.upper()
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        shortened, found = _SIXTIETH.subn(r"\g<1>59", text, count=1)
    if not found:
        return None
    try:
        last = datetime.fromisoformat(shortened)
        in_utc = last.astimezone(UTC)
        is_leap = last.tzinfo is not None and (in_utc.hour, in_utc.minute, in_utc.second) == _LAST_OF_A_DAY
        return last + timedelta(seconds=1) if is_leap else None
    except (ValueError, OverflowError):
        return None
