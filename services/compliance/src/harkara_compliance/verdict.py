"""What becomes of accepted messages: cleared, rejected, or deferred until they may leave. Pure.

The rules themselves are the registry library's, shared with the edge; here they meet time: validity, schedule, window.
A message that was deferred has a standing, which outlives the event it came by and any repeat of it: until when it waits,
that it has left, or that it was cancelled. Where there is one, it has the last word.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple, cast

from harkara_contracts.errors import ErrorCode
from harkara_contracts.events import (
    Event,
    MessageAccepted,
    MessageCleared,
    MessageDeferred,
    MessageRejected,
    Refusal,
    TimerDue,
)
from harkara_contracts.subjects import Category, Channel, Lane
from harkara_registry import Refused, Registry, Verdict, earliest_departure, judge

OWNER = "compliance"
TIMER_NAME = "decide"
SCHEDULED = "scheduled"
WINDOW = "promotional_window"

MAX_TIMER_MESSAGES = 256
MAX_TIMER_BYTES = 128 * 1024
"""A timer is one message of the bus, and all of its messages are decided in one go when it comes due."""


@dataclass(frozen=True, slots=True)
class Deferral:
    event: MessageAccepted
    until: datetime
    reason: str


Decision = MessageCleared | MessageRejected | Deferral

PROMPT = timedelta(minutes=1)
"""What is decided so soon after its acceptance, with the hours open all the while, was never deferred."""


class State(StrEnum):
    WAITING = "waiting"
    LEFT = "left"
    CANCELLED = "cancelled"


class Standing(NamedTuple):
    """How a message that was deferred stands; `until` is the time of the timer that may let it leave, or did."""

    state: State
    until: datetime


def decide(registry: Registry, event: MessageAccepted, now: datetime) -> Decision:
    """Decide one message as things stand at `now`."""
    if event.expires_at <= now:
        return _rejected(event, ErrorCode.EXPIRED, "The message's validity ended before it could be sent.", now)
    departure = earliest_departure(event.category, event.send_at, now)
    if departure > now:
        return _deferred(event, departure, now)
    verdict = judge(
        registry,
        account_id=event.account_id,
        category=event.category,
        channels=event.channels,
        content=event.content,
        test_mode=event.test_mode,
    )
    refused = verdict.refused
    if refused is not None:
        return _rejected(event, refused.code, refused.message, now, refused.channel)
    return _cleared(event, verdict)


def outcomes(decisions: Iterable[Decision], now: datetime) -> list[Event]:
    """Return the events of a batch's decisions: one a message, and one timer for all that wait for the same instant."""
    events: list[Event] = []
    waiting: defaultdict[tuple[datetime, Lane], list[MessageAccepted]] = defaultdict(list)
    for decision in decisions:
        if isinstance(decision, Deferral):
            waiting[decision.until, decision.event.lane].append(decision.event)
            events.append(_deferred_event(decision, now))
        else:
            events.append(decision)
    for (until, lane), messages in waiting.items():
        events.extend(_timer(until, lane, portion) for portion in _portions(messages))
    return events


def unsure(events: Sequence[MessageAccepted], now: datetime) -> list[str]:
    """Return the ids of messages of which an earlier copy may have been deferred, although they may leave by now.

    These are few in the ordinary course of things: what has a schedule, and what is decided late.
    """
    since = now - PROMPT
    was_open = earliest_departure(Category.PROMOTIONAL, None, since) <= since
    return [
        event.message_id
        for event in events
        if event.send_at is not None
        or (event.lane is Lane.PROMOTIONAL and not (was_open and event.accepted_at >= since))
    ]


def as_they_stand(
    events: Iterable[MessageAccepted], decisions: Iterable[Decision], standings: Mapping[str, Standing]
) -> list[Decision]:
    """Return the decisions that hold: what waits goes on waiting for its own time, and of what was cancelled comes nothing.

    What has left goes on as decided: its first copy may have come no further than that, and a repeat harms nobody.
    """
    held: list[Decision] = []
    for event, decision in zip(events, decisions, strict=True):
        standing = standings.get(event.message_id)
        if standing is None or standing.state is State.LEFT:
            held.append(decision)
        elif standing.state is State.WAITING:
            reason = SCHEDULED if standing.until == event.send_at else WINDOW
            held.append(Deferral(event, standing.until, reason))
    return held


def messages_of(timer: TimerDue) -> list[MessageAccepted]:
    """Return the messages that waited for a timer."""
    return [MessageAccepted.model_validate_json(text) for text in cast("list[str]", timer.payload["accepted"])]


def _deferred(event: MessageAccepted, until: datetime, now: datetime) -> Decision:
    scheduled = event.send_at is not None and event.send_at > now
    moved = until > (event.send_at if scheduled and event.send_at else now)
    if until < event.expires_at:
        return Deferral(event, until, WINDOW if moved else SCHEDULED)
    if not moved:
        return _rejected(event, ErrorCode.EXPIRED, "The message's validity ends before its scheduled time.", now)
    return _rejected(
        event,
        ErrorCode.OUTSIDE_PROMO_WINDOW,
        "Promotional messages leave from 10:00 to 21:00 IST, and the message's validity ends before the next window opens. "
        "Give it a longer validity, or send it within the window.",
        now,
    )


def _cleared(event: MessageAccepted, verdict: Verdict) -> MessageCleared:
    return MessageCleared(
        message_id=event.message_id,
        account_id=event.account_id,
        lane=event.lane,
        test_mode=event.test_mode,
        correlation_id=event.correlation_id,
        batch_id=event.batch_id,
        to=event.to,
        category=event.category,
        channels=verdict.channels,
        refusals=[_refusal(refused) for refused in verdict.refusals],
        sms=verdict.sms,
        cascade=event.cascade,
        accepted_at=event.accepted_at,
        expires_at=event.expires_at,
    )


def _refusal(refused: Refused) -> Refusal:
    return Refusal(channel=refused.channel, error_code=refused.code, reason=refused.message)


def _rejected(
    event: MessageAccepted, code: ErrorCode, description: str, now: datetime, channel: Channel | None = None
) -> MessageRejected:
    return MessageRejected(
        message_id=event.message_id,
        account_id=event.account_id,
        lane=event.lane,
        test_mode=event.test_mode,
        correlation_id=event.correlation_id,
        batch_id=event.batch_id,
        to=event.to,
        sender=event.content.sender,
        channel=channel,
        occurred_at=now,
        error_code=code,
        error_description=description,
        rejected_by=OWNER,
    )


def _deferred_event(deferral: Deferral, now: datetime) -> MessageDeferred:
    event = deferral.event
    return MessageDeferred(
        message_id=event.message_id,
        account_id=event.account_id,
        lane=event.lane,
        test_mode=event.test_mode,
        correlation_id=event.correlation_id,
        batch_id=event.batch_id,
        until=deferral.until,
        reason=deferral.reason,
        deferred_at=now,
    )


def _portions(messages: Sequence[MessageAccepted]) -> Iterator[list[str]]:
    """Cut messages, as JSON, into portions of a timer's size."""
    portion: list[str] = []
    size = 0
    for message in messages:
        text = message.model_dump_json(exclude_defaults=True)
        # As it will stand in the payload, where every quote is escaped.
        weight = len(json.dumps(text))
        if portion and (size + weight > MAX_TIMER_BYTES or len(portion) >= MAX_TIMER_MESSAGES):
            yield portion
            portion, size = [], 0
        portion.append(text)
        size += weight
    if portion:
        yield portion


def _timer(until: datetime, lane: Lane, portion: list[str]) -> TimerDue:
    # Named by what it holds: a repeated batch that is cut differently must not replace a timer that holds more.
    name = hashlib.sha256("".join(portion).encode()).hexdigest()[:32]
    return TimerDue(owner=OWNER, lane=lane, timer_id=name, name=TIMER_NAME, due_at=until, payload={"accepted": portion})
