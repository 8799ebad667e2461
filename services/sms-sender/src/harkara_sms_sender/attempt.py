"""What became of an attempt, told from its parts. Pure.

A message goes out as one or more parts, and each part has its own fate. The events of the attempt follow from all of them
together, whoever asks: the bind that was answered, a receipt days later, or a redelivery after a crash. So the same rows
always tell the same events, with the same ids.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from harkara_contracts.errors import ErrorCode
from harkara_contracts.events import (
    AttemptDelivered,
    AttemptEvent,
    AttemptFailed,
    AttemptSent,
    AttemptUnknown,
)


class PartState(StrEnum):
    """SUBMITTING → SENT | REFUSED | UNKNOWN; UNKNOWN → SENT; SENT → DELIVERED | FAILED. A late word on an end is no news."""

    SUBMITTING = "submitting"
    """The intent is recorded; whether the carrier has it is not known yet."""
    SENT = "sent"
    """The carrier took it and gave its id."""
    DELIVERED = "delivered"
    FAILED = "failed"
    """The carrier took it and a receipt says that it came to nothing."""
    REFUSED = "refused"
    """The carrier certainly does not have it."""
    UNKNOWN = "unknown"
    """Nobody can say; a late response or receipt may still tell."""


TAKEN: Final = frozenset({PartState.SENT, PartState.DELIVERED, PartState.FAILED})


# To name a member of an enum is a call, and these are named for every message.
_SUBMITTING: Final = PartState.SUBMITTING
_DELIVERED: Final = PartState.DELIVERED
_FAILED: Final = PartState.FAILED
_REFUSED: Final = PartState.REFUSED
_UNKNOWN: Final = PartState.UNKNOWN


@dataclass(slots=True)
class Part:
    """One part's fate. `error_description` is the reason where the state is UNKNOWN; times are UTC."""

    state: PartState = PartState.SUBMITTING
    carrier_message_id: str | None = None
    receipt_key: str | None = None
    error_code: str | None = None
    error_description: str | None = None
    carrier_code: str | None = None
    retriable: bool = False
    answered_at: datetime | None = None
    final_at: datetime | None = None


Trail = Mapping[str, Any]
"""The fields that all events of one attempt share."""


def events_of(trail: Trail, parts: Sequence[Part]) -> list[AttemptEvent]:
    """Return every event these parts stand for: how the hand-over went, then what the receipts said."""
    return [event for event in (hand_over(trail, parts), final_word(trail, parts)) if event is not None]


def hand_over(trail: Trail, parts: Sequence[Part]) -> AttemptEvent | None:
    """Return AttemptSent, AttemptFailed or AttemptUnknown; None while a part is not answered.

    A message of which any part was refused cannot be whole. Another carrier may try only if none of it may have left.
    """
    if len(parts) == 1 and parts[0].state in TAKEN:
        return _sent(trail, parts)
    states = {part.state for part in parts}
    if _SUBMITTING in states:
        return None
    if _REFUSED in states:
        refused = [part for part in parts if part.state is _REFUSED]
        gone = not states <= {_REFUSED}
        return AttemptFailed(
            **trail,
            error_code=refused[0].error_code or ErrorCode.CARRIER_REJECTED,
            error_description=refused[0].error_description or "",
            carrier_code=refused[0].carrier_code,
            left=not states.isdisjoint(TAKEN),
            retriable=not gone and all(part.retriable for part in refused),
            failed_at=_latest(part.answered_at for part in parts),
        )
    if _UNKNOWN in states:
        reasons = [part.error_description for part in parts if part.state is _UNKNOWN]
        return AttemptUnknown(**trail, reason=reasons[0] or "", occurred_at=_latest(part.answered_at for part in parts))
    return _sent(trail, parts)


def _sent(trail: Trail, parts: Sequence[Part]) -> AttemptSent:
    return AttemptSent(
        **trail,
        carrier_message_ids=[part.carrier_message_id or "" for part in parts],
        sent_at=_latest([part.answered_at for part in parts]),
    )


def final_word(trail: Trail, parts: Sequence[Part]) -> AttemptEvent | None:
    """Return AttemptDelivered when all parts are, AttemptFailed when any was taken and then failed, else None."""
    states = [part.state for part in parts]
    if _REFUSED in states:
        return None
    if _FAILED in states:
        failed = parts[states.index(_FAILED)]
        return AttemptFailed(
            **trail,
            error_code=failed.error_code or ErrorCode.CARRIER_REJECTED,
            error_description=failed.error_description or "",
            carrier_code=failed.carrier_code,
            left=True,
            # The other parts may well arrive: sending all of them again would double those.
            retriable=failed.retriable and len(parts) == 1,
            failed_at=_latest((failed.final_at,)),
        )
    if states.count(_DELIVERED) == len(parts):
        return AttemptDelivered(
            **trail,
            delivered_at=_latest([part.final_at for part in parts]),
            carrier_code=parts[-1].carrier_code,
        )
    return None


def _latest(times: Iterable[datetime | None]) -> datetime:
    return max([time for time in times if time is not None])
