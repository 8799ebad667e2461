"""What is known of a message and of its attempts, folded from their events in any order.

Each event becomes a row of its own with what it alone knows; rows of one key merge by two rules. What belongs to a state
(channel, carrier, error) comes from the row with the higher rank; everything else is told once, so the first to know it
stays. Both rules give the same result in any order and for any repeat, in Python here and in the upsert of the store.

Messages and attempts never write each other's rows: that a message is being sent is read off its attempts.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime
from enum import IntEnum
from typing import Any, NamedTuple, TypeVar, cast

from harkara_contracts import events as e
from harkara_contracts.events import AttemptEvent, Event, MessageEvent, OutcomeEvent
from harkara_contracts.ids import day_of


class MessageState(IntEnum):
    """The higher rank wins. A receipt that comes after the end was told still counts: delivered beats failed."""

    ACCEPTED = 10
    DEFERRED = 20
    SENDING = 30
    SENT = 40
    REJECTED = 50
    EXPIRED = 52
    FAILED = 54
    DELIVERED = 60
    READ = 70


class AttemptState(IntEnum):
    """FAILED_UNSENT is a failure of what no carrier ever took; clients see it as failed."""

    UNFUNDED = 10
    FUNDED = 30
    FAILED_UNSENT = 35
    UNKNOWN = 38
    SENT = 40
    FAILED = 50
    DELIVERED = 60
    READ = 70


class MessageRow(NamedTuple):
    day: date
    message_id: str
    account_id: str
    test_mode: bool
    rank: int
    correlation_id: str | None = None
    batch_id: str | None = None
    category: str | None = None
    channels: str | None = None
    accepted_at: datetime | None = None
    expires_at: datetime | None = None
    send_at: datetime | None = None
    deferred_until: datetime | None = None
    deferred_reason: str | None = None
    delivered_at: datetime | None = None
    failed_at: datetime | None = None
    read_at: datetime | None = None
    channel: str | None = None
    carrier: str | None = None
    error_code: str | None = None
    error_description: str | None = None


class AttemptRow(NamedTuple):
    """`number` counts a message's attempts from 1."""

    day: date
    message_id: str
    number: int
    account_id: str
    hop: int
    channel: str
    carrier: str
    rank: int
    units: int | None = None
    price_mp: int | None = None
    planned_at: datetime | None = None
    sent_at: datetime | None = None
    delivered_at: datetime | None = None
    read_at: datetime | None = None
    ended_at: datetime | None = None
    carrier_code: str | None = None
    error_code: str | None = None
    error_description: str | None = None


MESSAGE_KEY = ("day", "message_id")
MESSAGE_BY_RANK = frozenset({"failed_at", "channel", "carrier", "error_code", "error_description"})
ATTEMPT_KEY = ("day", "message_id", "number")
ATTEMPT_BY_RANK = frozenset({"ended_at", "carrier_code", "error_code", "error_description"})


def message_row(event: MessageEvent) -> MessageRow:
    """Make the row that one event alone knows.

    Raises:
        ValueError: the id is no message id.
        KeyError: the event says nothing about a message's state.
    """
    state, known = _OF_MESSAGE[type(event)]
    return MessageRow(
        day=day_of(event.message_id),
        message_id=event.message_id,
        account_id=event.account_id,
        test_mode=event.test_mode,
        rank=state.value,
        correlation_id=event.correlation_id,
        batch_id=event.batch_id,
        **known(event),
    )


def attempt_row(event: AttemptEvent) -> AttemptRow:
    """Make the row that one event of an attempt alone knows.

    Raises:
        ValueError: the ids are not a message's and its attempt's.
        KeyError: the event says nothing about an attempt's state.
    """
    known = _OF_ATTEMPT[type(event)](event)
    return AttemptRow(
        day=day_of(event.message_id),
        message_id=event.message_id,
        number=_number(event),
        account_id=event.account_id,
        hop=event.hop,
        channel=event.channel.value,
        carrier=event.carrier,
        **known,
    )


def fold_messages(events: Iterable[Event]) -> list[MessageRow]:
    """Return one row a message, in the order of the key (so that two writers lock rows in one order)."""
    rows: dict[str, MessageRow] = {}
    for event in events:
        row = message_row(cast("MessageEvent", event))
        known = rows.get(row.message_id)
        rows[row.message_id] = row if known is None else merge(known, row, MESSAGE_BY_RANK)
    return [rows[key] for key in sorted(rows)]


def fold_attempts(events: Iterable[Event]) -> list[AttemptRow]:
    """Return one row an attempt, in the order of the key."""
    rows: dict[tuple[str, int], AttemptRow] = {}
    for event in events:
        row = attempt_row(cast("AttemptEvent", event))
        key = (row.message_id, row.number)
        known = rows.get(key)
        rows[key] = row if known is None else merge(known, row, ATTEMPT_BY_RANK)
    return [rows[key] for key in sorted(rows)]


R = TypeVar("R", MessageRow, AttemptRow)


def merge(first: R, second: R, by_rank: frozenset[str]) -> R:
    """Merge two rows of one key: state fields by rank, the others by who knew first."""
    higher = second if second.rank > first.rank else first
    values = [
        getattr(higher, name) if name in by_rank or name == "rank" else (mine if mine is not None else theirs)
        for name, mine, theirs in zip(first._fields, first, second, strict=True)
    ]
    return type(first)._make(values)


def message_state(rank: int, attempt_ranks: Iterable[int]) -> MessageState:
    """Return the state of a message whose own events reached `rank`, with what its attempts show."""
    shown = max(map(_shown_by_attempt, attempt_ranks), default=0)
    return MessageState(max(rank, shown))


def attempt_state_name(rank: int) -> str:
    state = AttemptState(rank)
    return "failed" if state is AttemptState.FAILED_UNSENT else state.name.lower()


def cost_mp(rank: int, price_mp: int | None) -> int:
    """Return what an attempt costs by what is known here: its price once the carrier took it, or may have."""
    return price_mp or 0 if rank >= AttemptState.UNKNOWN else 0


def total_cost_mp(attempts: Sequence[AttemptRow]) -> int:
    return sum(cost_mp(attempt.rank, attempt.price_mp) for attempt in attempts)


def _shown_by_attempt(rank: int) -> int:
    if rank >= AttemptState.SENT:
        return MessageState.SENT
    return MessageState.SENDING if rank >= AttemptState.FUNDED else 0


def _number(event: AttemptEvent) -> int:
    head, _, tail = event.attempt_id.rpartition("-")
    if head != event.message_id:
        raise ValueError("an attempt's id is its message's id, a dash and its number")
    return int(tail)


def _accepted(event: e.MessageAccepted) -> dict[str, Any]:
    return {
        "category": event.category.value,
        "channels": ",".join([channel.value for channel in event.channels]),
        "accepted_at": event.accepted_at,
        "expires_at": event.expires_at,
        "send_at": event.send_at,
    }


def _deferred(event: e.MessageDeferred) -> dict[str, Any]:
    return {"deferred_until": event.until, "deferred_reason": event.reason}


def _outcome(event: OutcomeEvent) -> dict[str, Any]:
    return {"channel": event.channel.value if event.channel else None, "carrier": event.carrier}


def _delivered(event: e.MessageDelivered) -> dict[str, Any]:
    return {**_outcome(event), "delivered_at": event.delivered_at}


def _read(event: e.MessageRead) -> dict[str, Any]:
    return {**_outcome(event), "read_at": event.read_at}


def _not_delivered(event: e.MessageRejected | e.MessageExpired | e.MessageFailed) -> dict[str, Any]:
    return {
        **_outcome(event),
        "failed_at": event.occurred_at,
        "error_code": event.error_code,
        "error_description": event.error_description,
    }


_OF_MESSAGE: Mapping[type[Event], tuple[MessageState, Callable[[Any], dict[str, Any]]]] = {
    e.MessageAccepted: (MessageState.ACCEPTED, _accepted),
    e.MessageDeferred: (MessageState.DEFERRED, _deferred),
    e.MessageRejected: (MessageState.REJECTED, _not_delivered),
    e.MessageExpired: (MessageState.EXPIRED, _not_delivered),
    e.MessageFailed: (MessageState.FAILED, _not_delivered),
    e.MessageDelivered: (MessageState.DELIVERED, _delivered),
    e.MessageRead: (MessageState.READ, _read),
}


def _attempt_funded(event: e.AttemptFunded) -> dict[str, Any]:
    return {
        "rank": AttemptState.FUNDED.value,
        "units": event.units,
        "price_mp": event.price_mp,
        "planned_at": event.planned_at,
    }


def _attempt_unfunded(event: e.AttemptUnfunded) -> dict[str, Any]:
    return {
        "rank": AttemptState.UNFUNDED.value,
        "ended_at": event.occurred_at,
        "error_code": event.error_code,
        "error_description": event.error_description,
    }


def _attempt_sent(event: e.AttemptSent) -> dict[str, Any]:
    return {"rank": AttemptState.SENT.value, "sent_at": event.sent_at}


def _attempt_delivered(event: e.AttemptDelivered) -> dict[str, Any]:
    return {
        "rank": AttemptState.DELIVERED.value,
        "delivered_at": event.delivered_at,
        "carrier_code": event.carrier_code,
    }


def _attempt_failed(event: e.AttemptFailed) -> dict[str, Any]:
    return {
        "rank": AttemptState.FAILED.value if event.left else AttemptState.FAILED_UNSENT.value,
        "ended_at": event.failed_at,
        "carrier_code": event.carrier_code,
        "error_code": event.error_code,
        "error_description": event.error_description,
    }


def _attempt_read(event: e.AttemptRead) -> dict[str, Any]:
    return {"rank": AttemptState.READ.value, "read_at": event.read_at}


def _attempt_unknown(event: e.AttemptUnknown) -> dict[str, Any]:
    return {
        "rank": AttemptState.UNKNOWN.value,
        "ended_at": event.occurred_at,
        "error_code": "ERR_OUTCOME_UNKNOWN",
        "error_description": event.reason,
    }


_OF_ATTEMPT: Mapping[type[Event], Callable[[Any], dict[str, Any]]] = {
    e.AttemptFunded: _attempt_funded,
    e.AttemptUnfunded: _attempt_unfunded,
    e.AttemptSent: _attempt_sent,
    e.AttemptDelivered: _attempt_delivered,
    e.AttemptFailed: _attempt_failed,
    e.AttemptRead: _attempt_read,
    e.AttemptUnknown: _attempt_unknown,
}
