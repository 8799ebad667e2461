"""What is known of a message and of its attempts, folded from their events in any order.

Each event becomes a row of its own with what it alone knows; rows of one key merge by three rules. What belongs to a state
(channel, carrier, error) comes from the row with the higher rank; what belongs to a deferral from the one that ends later,
since a message may be deferred again; everything else is told once, so the first to know it stays. All give the same result
in any order and for any repeat, in Python here and in the upsert of the store.

Messages and attempts never write each other's rows: that a message is being sent is read off its attempts.

This is the reader of nearly all events there are, so it reads views of them: what no row wants is not even looked at.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from enum import IntEnum
from typing import Any, ClassVar, NamedTuple, Protocol, TypeVar

from msgspec import field
from msgspec.structs import asdict

from harkara_contracts import events as e
from harkara_contracts.events import Event
from harkara_contracts.ids import day_of
from harkara_contracts.views import View


class MessageState(IntEnum):
    """The higher rank wins. A receipt that comes after the end was told still counts: delivered beats failed."""

    ACCEPTED = 10
    DEFERRED = 20
    SENDING = 30
    SENT = 40
    REJECTED = 50
    CANCELLED = 51
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
DEFERRAL = ("deferred_until", "deferred_reason")
ATTEMPT_KEY = ("day", "message_id", "number")
ATTEMPT_BY_RANK = frozenset({"ended_at", "carrier_code", "error_code", "error_description"})
_MESSAGE_PLACES_BY_RANK = [MessageRow._fields.index(name) for name in MESSAGE_BY_RANK | {"rank"}]
_ATTEMPT_PLACES_BY_RANK = [AttemptRow._fields.index(name) for name in ATTEMPT_BY_RANK | {"rank"}]

R = TypeVar("R", MessageRow, AttemptRow)
R_co = TypeVar("R_co", MessageRow, AttemptRow, covariant=True)


def accepted_row(event: e.MessageAccepted) -> MessageRow:
    """Make the row of a message that was accepted here a moment ago, for as long as its event has not come back."""
    return MessageRow(
        day_of(event.message_id),
        event.message_id,
        event.account_id,
        event.test_mode,
        MessageState.ACCEPTED,
        event.correlation_id,
        event.batch_id,
        event.category,
        ",".join(event.channels),
        event.accepted_at,
        event.expires_at,
        event.send_at,
    )


class RowView(Protocol[R_co]):
    """What one event alone knows, as a row.

    Raises:
        ValueError: the ids are not a message's, or not a message's and its attempt's.
    """

    def row(self) -> R_co: ...


def fold_messages(events: Iterable[RowView[MessageRow]]) -> list[MessageRow]:
    """Return one row a message, in the order of the key (so that two writers lock rows in one order)."""
    rows: dict[str, MessageRow] = {}
    for event in events:
        row = event.row()
        known = rows.get(row.message_id)
        rows[row.message_id] = row if known is None else _merge_messages(known, row)
    return [rows[key] for key in sorted(rows)]


def fold_attempts(events: Iterable[RowView[AttemptRow]]) -> list[AttemptRow]:
    """Return one row an attempt, in the order of the key."""
    rows: dict[tuple[str, int], AttemptRow] = {}
    for event in events:
        row = event.row()
        key = (row.message_id, row.number)
        known = rows.get(key)
        rows[key] = row if known is None else _merge(known, row, _ATTEMPT_PLACES_BY_RANK)
    return [rows[key] for key in sorted(rows)]


def _merge_messages(first: MessageRow, second: MessageRow) -> MessageRow:
    merged = _merge(first, second, _MESSAGE_PLACES_BY_RANK)
    if first.deferred_until is None or second.deferred_until is None:
        return merged
    later = second if second.deferred_until > first.deferred_until else first
    return merged._replace(**{name: getattr(later, name) for name in DEFERRAL})


def _merge(first: R, second: R, places_by_rank: Sequence[int]) -> R:
    """Merge two rows of one key: state fields by rank, the others by who knew first."""
    higher = second if second.rank > first.rank else first
    values = [theirs if mine is None else mine for mine, theirs in zip(first, second, strict=True)]
    for place in places_by_rank:
        values[place] = higher[place]
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


# --- what is read of each event ----------------------------------------------------------------------------------------


class _OfMessage(View):
    """An event of a message. Its fields are columns of its row, whatever the event calls them."""

    state: ClassVar[MessageState]

    account_id: str
    test_mode: bool = False
    correlation_id: str | None = None
    batch_id: str | None = None

    def row(self) -> MessageRow:
        return MessageRow(day=day_of(self.message_id), rank=self.state, **self.known())

    def known(self) -> dict[str, Any]:
        return asdict(self)


class _Accepted(_OfMessage, kw_only=True):
    state = MessageState.ACCEPTED

    category: str
    channels: list[str]
    accepted_at: datetime
    expires_at: datetime
    send_at: datetime | None = None

    def known(self) -> dict[str, Any]:
        return asdict(self) | {"channels": ",".join(self.channels)}


class _Deferred(_OfMessage, kw_only=True):
    state = MessageState.DEFERRED

    deferred_until: datetime = field(name="until")
    deferred_reason: str = field(name="reason")


class _Outcome(_OfMessage):
    channel: str | None = None
    carrier: str | None = None


class _Delivered(_Outcome, kw_only=True):
    state = MessageState.DELIVERED

    delivered_at: datetime


class _Read(_Outcome, kw_only=True):
    state = MessageState.READ

    read_at: datetime


class _NotDelivered(_Outcome, kw_only=True):
    failed_at: datetime = field(name="occurred_at")
    error_code: str
    error_description: str


class _Rejected(_NotDelivered):
    state = MessageState.REJECTED


class _Cancelled(_Outcome, kw_only=True):
    state = MessageState.CANCELLED

    failed_at: datetime = field(name="occurred_at")


class _Expired(_NotDelivered):
    state = MessageState.EXPIRED


class _Failed(_NotDelivered):
    state = MessageState.FAILED


MESSAGE_VIEWS: Mapping[type[Event], type[View]] = {
    e.MessageAccepted: _Accepted,
    e.MessageDeferred: _Deferred,
    e.MessageRejected: _Rejected,
    e.MessageCancelled: _Cancelled,
    e.MessageExpired: _Expired,
    e.MessageFailed: _Failed,
    e.MessageDelivered: _Delivered,
    e.MessageRead: _Read,
}


class _OfAttempt(View, kw_only=True):
    """An event of an attempt. Its fields, but for the attempt's id, are columns of its row."""

    state: ClassVar[AttemptState]

    attempt_id: str
    account_id: str
    channel: str
    carrier: str
    hop: int = 1

    def row(self) -> AttemptRow:
        known = self.known()
        message_id, _, number = known.pop("attempt_id").rpartition("-")
        if message_id != self.message_id:
            raise ValueError("an attempt's id is its message's id, a dash and its number")
        return AttemptRow(day=day_of(message_id), number=int(number), rank=self.rank(), **known)

    def known(self) -> dict[str, Any]:
        return asdict(self)

    def rank(self) -> int:
        return self.state


class _AttemptFunded(_OfAttempt, kw_only=True):
    state = AttemptState.FUNDED

    units: int
    price_mp: int
    planned_at: datetime


class _AttemptUnfunded(_OfAttempt, kw_only=True):
    state = AttemptState.UNFUNDED

    ended_at: datetime = field(name="occurred_at")
    error_code: str
    error_description: str


class _AttemptSent(_OfAttempt, kw_only=True):
    state = AttemptState.SENT

    sent_at: datetime


class _AttemptDelivered(_OfAttempt, kw_only=True):
    state = AttemptState.DELIVERED

    delivered_at: datetime
    carrier_code: str | None = None


class _AttemptFailed(_OfAttempt, kw_only=True):
    left: bool
    ended_at: datetime = field(name="failed_at")
    carrier_code: str | None = None
    error_code: str
    error_description: str

    def known(self) -> dict[str, Any]:
        known = asdict(self)
        del known["left"]
        return known

    def rank(self) -> int:
        return AttemptState.FAILED if self.left else AttemptState.FAILED_UNSENT


class _AttemptRead(_OfAttempt, kw_only=True):
    state = AttemptState.READ

    read_at: datetime


class _AttemptUnknown(_OfAttempt, kw_only=True):
    state = AttemptState.UNKNOWN

    ended_at: datetime = field(name="occurred_at")
    error_code: str = "ERR_OUTCOME_UNKNOWN"
    error_description: str = field(name="reason")


ATTEMPT_VIEWS: Mapping[type[Event], type[View]] = {
    e.AttemptFunded: _AttemptFunded,
    e.AttemptUnfunded: _AttemptUnfunded,
    e.AttemptSent: _AttemptSent,
    e.AttemptDelivered: _AttemptDelivered,
    e.AttemptFailed: _AttemptFailed,
    e.AttemptRead: _AttemptRead,
    e.AttemptUnknown: _AttemptUnknown,
}
