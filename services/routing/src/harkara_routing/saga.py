"""The saga of one message: its states, every allowed transition, and what each event makes of it. Pure.

    planned ──sent by its carrier, no word yet──▶ (still planned: only the outcome matters here)
    planned ──retriable failure──▶ planned (next carrier) | waiting (no carrier can take it)
    waiting ──timer──▶ planned | waiting
    planned ──unknown──▶ unknown            nobody can say; never sent again, open for a late receipt
    planned | waiting | unknown ──▶ delivered | failed | rejected | expired
    failed | expired ──late receipt──▶ delivered

A repeat of an event finds the state it led to and yields the same events again, since the first time may have ended
before they were published. A receipt for an older attempt counts if it says delivered, else it is history.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol, cast

from harkara_contracts.errors import ErrorCode
from harkara_contracts.events import (
    AttemptDelivered,
    AttemptFailed,
    AttemptPlanned,
    AttemptRead,
    AttemptUnfunded,
    AttemptUnknown,
    Event,
    MessageCleared,
    MessageDelivered,
    MessageExpired,
    MessageFailed,
    MessageRead,
    MessageRejected,
)
from harkara_contracts.ids import attempt_id
from harkara_contracts.subjects import Channel
from harkara_routing.routes import RouteTable


class State(StrEnum):
    PLANNED = "planned"
    WAITING = "waiting"
    UNKNOWN = "unknown"
    DELIVERED = "delivered"
    FAILED = "failed"
    REJECTED = "rejected"
    EXPIRED = "expired"


OPEN = frozenset({State.PLANNED, State.WAITING, State.UNKNOWN})
_LONGEST_WAIT_S = 60.0
_MAY_BE_DELIVERED = OPEN | {State.FAILED, State.EXPIRED}


class Heard(Protocol):
    """What every event of an attempt has. One that is called delivered is a `Delivery`, any other of the event's class."""

    @property
    def event(self) -> str: ...
    @property
    def message_id(self) -> str: ...
    @property
    def attempt_id(self) -> str: ...
    @property
    def channel(self) -> Channel: ...
    @property
    def carrier(self) -> str: ...


class Delivery(Heard, Protocol):
    @property
    def delivered_at(self) -> datetime: ...


@dataclass(frozen=True, slots=True)
class Saga:
    """Where a message stands. `attempt` is the number of the current attempt, `ended_by` the attempt that ended it."""

    cleared: MessageCleared
    state: State
    attempt: int
    carrier: str
    tried: tuple[str, ...] = ()
    ended_by: str | None = None

    @property
    def attempt_id(self) -> str:
        return attempt_id(self.cleared.message_id, self.attempt)

    # The two changes that nearly every message sees are spelled out: `replace` takes twice as long.

    def planned_by(self, carrier: str) -> "Saga":
        return Saga(self.cleared, State.PLANNED, self.attempt, carrier, self.tried, self.ended_by)

    def delivered_by(self, attempt: str) -> "Saga":
        return Saga(self.cleared, State.DELIVERED, self.attempt, self.carrier, self.tried, attempt)


@dataclass(frozen=True, slots=True)
class Step:
    """What an event made of a saga: how it stands now, what is to be told, and when it wants to be woken."""

    saga: Saga
    events: tuple[Event, ...] = ()
    wake_at: datetime | None = None

    def followed_by(self, later: "Step") -> "Step":
        """Make one step of two that were taken one after the other."""
        return Step(later.saga, self.events + later.events, later.wake_at or self.wake_at)


@dataclass(frozen=True, slots=True)
class Router:
    """The rules with what they depend on: the routes, a random number, and how long to wait when there is none."""

    routes: RouteTable
    retry_after_s: float

    def begin(self, cleared: MessageCleared, now: datetime, roll: float) -> Step:
        """Start the saga of a cleared message on its first channel."""
        saga = Saga(cleared, State.PLANNED, attempt=1, carrier="")
        if not self.routes.has(cleared.channels[0], sandbox=cleared.test_mode):
            return _unroutable(saga, now)
        return self._plan(saga, now, roll)

    def begin_again(self, saga: Saga, now: datetime, roll: float) -> Step:
        """Tell once more what was decided when the same message was cleared before: it may never have been told."""
        if saga.state is State.REJECTED and not saga.carrier:
            return _unroutable(saga, now)
        return self.wake(saga, now, roll)

    def wake(self, saga: Saga, now: datetime, roll: float) -> Step:
        """Try again for a message that found no carrier."""
        if saga.state is State.PLANNED:
            return Step(saga, (planned(saga, now),))  # a repeat of the timer
        if saga.state is not State.WAITING:
            return Step(saga)
        return self._plan(replace(saga, tried=()), now, roll)

    def expire(self, saga: Saga, now: datetime) -> Step:
        """End a message whose validity is over without a final word.

        An attempt of unknown fate is ended with it: until then its price stays held.
        """
        if saga.state is not State.EXPIRED and saga.state not in OPEN:
            return Step(saga)
        unknown = saga.attempt_id if saga.state is State.UNKNOWN else saga.ended_by
        ended = replace(saga, state=State.EXPIRED, ended_by=unknown)
        words = "The validity of the message ended before a delivery receipt came."
        told: list[Event] = [
            MessageExpired(**_outcome(saga, now), error_code=ErrorCode.EXPIRED.value, error_description=words)
        ]
        if unknown is not None:
            told.append(_given_up(saga, now))
        return Step(ended, tuple(told))

    def on_attempt(self, saga: Saga, event: Heard, now: datetime, roll: float) -> Step:
        """Apply what was heard of an attempt."""
        if event.event == AttemptDelivered.event:
            return _delivered(saga, cast("Delivery", event))
        match event:
            case AttemptRead():
                return Step(saga, (_read(saga, event),))
            case AttemptFailed():
                return self._failed(saga, event, now, roll)
            case AttemptUnfunded():
                return _unfunded(saga, event)
            case AttemptUnknown() if event.attempt_id == saga.attempt_id:
                return _unknown(saga, now)
            case _:
                return Step(saga)

    def _plan(self, saga: Saga, now: datetime, roll: float) -> Step:
        cleared = saga.cleared
        carrier = self.routes.choose(cleared.channels[0], sandbox=cleared.test_mode, tried=saga.tried, roll=roll)
        if carrier is not None:
            chosen = saga.planned_by(carrier)
            return Step(chosen, (planned(chosen, now),))
        # How often all of them were tried before this round; attempts count carriers, not rounds.
        rounds = max(0, (saga.attempt - 1) // max(1, len(saga.tried)) - 1)
        wake_at = now + timedelta(seconds=min(self.retry_after_s * 2 ** min(rounds, 10), _LONGEST_WAIT_S))
        return Step(replace(saga, state=State.WAITING), wake_at=wake_at)

    def _failed(self, saga: Saga, event: AttemptFailed, now: datetime, roll: float) -> Step:
        if event.attempt_id != saga.attempt_id:
            follows = event.attempt_id == attempt_id(saga.cleared.message_id, saga.attempt - 1)
            if follows and saga.state is State.WAITING:
                return self._plan(saga, now, roll)  # the timer may not have been set
            repeat = follows and saga.state is State.PLANNED
            return Step(saga, (planned(saga, now),)) if repeat else Step(saga)
        if saga.state in OPEN and event.retriable and not event.left:
            return self._plan(replace(saga, attempt=saga.attempt + 1, tried=(*saga.tried, event.carrier)), now, roll)
        again = saga.state is State.FAILED and saga.ended_by == event.attempt_id
        if saga.state in OPEN or again:
            ended = replace(saga, state=State.FAILED, ended_by=event.attempt_id)
            return Step(ended, (_message_failed(saga, event),))
        return Step(saga)


def planned(saga: Saga, now: datetime) -> AttemptPlanned:
    """Make the event that hands the current attempt to billing."""
    cleared = saga.cleared
    channel = cleared.channels[0]
    sms = cleared.sms if channel is Channel.SMS else None
    return AttemptPlanned(
        attempt_id=saga.attempt_id,
        message_id=cleared.message_id,
        account_id=cleared.account_id,
        lane=cleared.lane,
        channel=channel,
        carrier=saga.carrier,
        to=cleared.to,
        sender=sms.sender if sms else None,
        category=cleared.category,
        correlation_id=cleared.correlation_id,
        test_mode=cleared.test_mode,
        units=sms.parts if sms else 1,
        sms=sms,
        expires_at=cleared.expires_at,
        planned_at=now,
    )


def _given_up(saga: Saga, now: datetime) -> AttemptFailed:
    """End the current attempt, of which nobody could say whether the carrier took it."""
    attempt = planned(saga, now)
    return AttemptFailed(
        **attempt.trail(),
        error_code=ErrorCode.OUTCOME_UNKNOWN.value,
        error_description="Whether the carrier took the message could not be learnt before its validity ended.",
        left=True,
        failed_at=now,
    )


def _delivered(saga: Saga, event: Delivery) -> Step:
    again = saga.state is State.DELIVERED and saga.ended_by == event.attempt_id
    if not again and saga.state not in _MAY_BE_DELIVERED:
        return Step(saga)
    ended = saga.delivered_by(event.attempt_id)
    latency = event.delivered_at - saga.cleared.accepted_at
    told = MessageDelivered(
        **_outcome(saga, event.delivered_at, event),
        delivered_at=event.delivered_at,
        latency_ms=max(0, round(latency.total_seconds() * 1000)),
    )
    return Step(ended, (told,))


def _read(saga: Saga, event: AttemptRead) -> MessageRead:
    return MessageRead(**_outcome(saga, event.read_at, event), read_at=event.read_at)


def _message_failed(saga: Saga, event: AttemptFailed) -> MessageFailed:
    return MessageFailed(
        **_outcome(saga, event.failed_at, event),
        error_code=event.error_code,
        error_description=event.error_description,
    )


def _unknown(saga: Saga, now: datetime) -> Step:
    match saga.state:
        case State.PLANNED:
            return Step(replace(saga, state=State.UNKNOWN))
        case State.EXPIRED:
            # Nothing else would ever say what becomes of its price.
            return Step(replace(saga, ended_by=saga.attempt_id), (_given_up(saga, now),))
        case _:
            return Step(saga)


def _unroutable(saga: Saga, now: datetime) -> Step:
    words = f"No carrier is configured for the channel {saga.cleared.channels[0].value}."
    return _rejected(saga, ErrorCode.CARRIER_UNAVAILABLE, words, "routing", now)


def _unfunded(saga: Saga, event: AttemptUnfunded) -> Step:
    if event.attempt_id != saga.attempt_id or saga.state not in {State.PLANNED, State.REJECTED}:
        return Step(saga)
    return _rejected(saga, ErrorCode(event.error_code), event.error_description, "billing", event.occurred_at)


def _rejected(saga: Saga, code: ErrorCode, words: str, rejected_by: str, now: datetime) -> Step:
    event = MessageRejected(
        **_outcome(saga, now), error_code=code.value, error_description=words, rejected_by=rejected_by
    )
    return Step(replace(saga, state=State.REJECTED), (event,))


def _outcome(saga: Saga, occurred_at: datetime, attempt: Heard | None = None) -> dict[str, object]:
    """Return what every final word about a message tells."""
    cleared = saga.cleared
    return {
        "message_id": cleared.message_id,
        "account_id": cleared.account_id,
        "lane": cleared.lane,
        "test_mode": cleared.test_mode,
        "correlation_id": cleared.correlation_id,
        "batch_id": cleared.batch_id,
        "to": cleared.to,
        "sender": cleared.sms.sender if cleared.sms else None,
        "channel": attempt.channel if attempt else cleared.channels[0],
        "carrier": attempt.carrier if attempt else saga.carrier or None,
        "attempt_id": attempt.attempt_id if attempt else saga.attempt_id,
        "occurred_at": occurred_at,
    }
