"""Identifiers as types.

A message id carries its day (`TN` + YYYYMMDD, UTC), so that a row's daily partition can be told from its id alone, then
its time of day, so that rows of one moment lie together in every index, and then 65 random bits, unguessable across
accounts. Time and tail are Crockford base 32, without look-alike letters.
"""

import hashlib
import os
import re
import time
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import NewType

MessageId = NewType("MessageId", str)
AttemptId = NewType("AttemptId", str)
BatchId = NewType("BatchId", str)
AccountId = NewType("AccountId", str)

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
# Each of the 256 octets stands for one of the 32 characters, each character for eight octets: none is likelier.
_CHARACTER_OF_OCTET = _ALPHABET.encode() * 8
_TAIL_LENGTH = 13
_MOMENT_LENGTH = 4
_MOMENTS_A_DAY = 32**_MOMENT_LENGTH
_DAY_S = 86_400
_EPOCH = date(1970, 1, 1)
_MESSAGE_ID = re.compile(r"TN([0-9]{8})[0-9A-HJKMNP-TV-Z]{10,32}")
_BATCH = "BATCH"
_MESSAGE = "TN"
_TIME_LENGTH = 8 + _MOMENT_LENGTH


def random_tail(length: int = _TAIL_LENGTH) -> str:
    """Return `length` random base-32 characters (5 bits each) from the system's CSPRNG."""
    return os.urandom(length).translate(_CHARACTER_OF_OCTET).decode()


def new_message_id() -> MessageId:
    return MessageId(f"TN{_now()}{random_tail()}")


def new_batch_id() -> BatchId:
    return BatchId(f"{_BATCH}{_now()}{random_tail()}")


def batch_id_of(message_id: str) -> BatchId:
    """Name the batch of a request that was given a message's id: of the same time, with the same random tail."""
    return BatchId(_BATCH + message_id.removeprefix(_MESSAGE))


def message_id_in(batch_id: str, index: int) -> MessageId:
    """Name the message to a batch's recipient by its place in the request; deterministic, so a repeat is the same message.

    It has the day and moment of its batch. Who does not know the batch's random tail cannot guess it.
    """
    octets = hashlib.sha256(f"{batch_id}:{index}".encode()).digest()[:_TAIL_LENGTH]
    time_of_batch = batch_id[len(_BATCH) : len(_BATCH) + _TIME_LENGTH]
    return MessageId(f"{_MESSAGE}{time_of_batch}{octets.translate(_CHARACTER_OF_OCTET).decode()}")


def is_batch_id(text: str) -> bool:
    """Tell whether a text from outside has the form of a batch id, with a day that exists: `day_of_batch` takes it."""
    return text.startswith(_BATCH) and is_message_id(_MESSAGE + text.removeprefix(_BATCH))


def day_of_batch(batch_id: str) -> date:
    """Return the UTC day of a batch, which is that of its messages too."""
    return day_of(_MESSAGE + batch_id.removeprefix(_BATCH))


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
    return _day_of_digits(message_id[2:10])


# There are few days, and each has a great many messages.


@lru_cache(maxsize=256)
def _day_of_digits(digits: str) -> date:
    return date(int(digits[:4]), int(digits[4:6]), int(digits[6:]))


def _now() -> str:
    return _day_and_moment(int(time.time() * _MOMENTS_A_DAY) // _DAY_S)


@lru_cache(maxsize=4)
def _day_and_moment(moments: int) -> str:
    """Write the moments (of 82 ms) since 1970 as eight digits of the day and four characters of its time, in order."""
    days, moment = divmod(moments, _MOMENTS_A_DAY)
    characters = [_ALPHABET[(moment >> shift) & 31] for shift in range(5 * (_MOMENT_LENGTH - 1), -1, -5)]
    return f"{_EPOCH + timedelta(days=days):%Y%m%d}{''.join(characters)}"
