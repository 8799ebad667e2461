"""Identifiers as types.

A message id carries its day (`TN` + YYYYMMDD, UTC), so that a row's daily partition can be told from its id alone.
The tail is Crockford base 32 without look-alike letters: 65 random bits, unguessable across accounts.
"""

import re
import secrets
from datetime import UTC, date, datetime
from typing import NewType

MessageId = NewType("MessageId", str)
AttemptId = NewType("AttemptId", str)
BatchId = NewType("BatchId", str)
AccountId = NewType("AccountId", str)

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_TAIL_LENGTH = 13
_MESSAGE_ID = re.compile(r"TN([0-9]{8})[0-9A-HJKMNP-TV-Z]{10,32}")


def random_tail(length: int = _TAIL_LENGTH) -> str:
    """Return `length` random base-32 characters (5 bits each) from the system's CSPRNG."""
    bits = secrets.randbits(5 * length)
    return "".join([_ALPHABET[(bits >> shift) & 31] for shift in range(0, 5 * length, 5)])


def _today() -> str:
    return datetime.now(UTC).strftime("%Y%m%d")


def new_message_id() -> MessageId:
    return MessageId(f"TN{_today()}{random_tail()}")


def new_batch_id() -> BatchId:
    return BatchId(f"BATCH{_today()}{random_tail()}")


def new_account_id() -> AccountId:
    return AccountId(f"ACC{random_tail(12)}")


def new_id(prefix: str) -> str:
    """Return an id such as `WH7Q…` for things whose type needs no name of its own."""
    return f"{prefix}{random_tail(16)}"


def attempt_id(message_id: str, number: int) -> AttemptId:
    """Name the `number`-th attempt (1, 2, …) of a message; deterministic, so a repeated plan is the same attempt."""
    return AttemptId(f"{message_id}-{number}")


def is_message_id(text: str) -> bool:
    """Tell whether a text from outside has the form of a message id, with a day that exists: `day_of` takes it."""
    found = _MESSAGE_ID.fullmatch(text)
    if found is None:
        return False
    try:
        datetime.strptime(found[1], "%Y%m%d").replace(tzinfo=UTC)
    except ValueError:
        return False
    return True


def day_of(message_id: str) -> date:
    """Return the UTC day a message id (or an attempt id made of it) was made.

    Raises:
        ValueError: the text is no message id.
    """
    if not message_id.startswith("TN"):
        raise ValueError("a message id starts with TN and eight digits of its day")
    return date(int(message_id[2:6]), int(message_id[6:8]), int(message_id[8:10]))
