"""Where a page ended, as clients carry it to the next one: the time and the id of its last entry, opaque to them."""

import base64
import binascii
from collections.abc import Callable
from datetime import UTC, datetime

from harkara_contracts.errors import ErrorCode, HarkaraError


def cursor_after(at: datetime | None, entry_id: str) -> str:
    """Write the place behind an entry."""
    text = f"{at.isoformat() if at else ''}|{entry_id}"
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def read_cursor(cursor: str, is_id: Callable[[str], bool]) -> tuple[datetime, str]:
    """Return the time and the id of the entry that a page ended with.

    Raises:
        HarkaraError: ERR_INVALID_REQUEST, it was not given out for entries with such ids.
    """
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
        instant, _, entry_id = text.partition("|")
        at = datetime.fromisoformat(instant).astimezone(UTC)
    except (binascii.Error, ValueError, OverflowError):
        at, entry_id = None, ""
    if at is None or not is_id(entry_id):
        raise HarkaraError(ErrorCode.INVALID_REQUEST, "Field `cursor` must be the next_cursor of an earlier answer.")
    return at, entry_id
