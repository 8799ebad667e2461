"""Leaving, waiting and being taken back: the handlers with every crash between two steps, and the service on the bus."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from services.compliance.tests.stories import DAY, HOUR, NIGHT, NOON, OPENING, accepted_message

from harkara_chassis import Service
from harkara_chassis.clock import now_utc
from harkara_compliance import cancelling
from harkara_compliance.app import build
from harkara_compliance.cancelling import BEING_TOLD, Canceller
from harkara_compliance.handlers import MessageHandlers
from harkara_compliance.settings import Settings
from harkara_compliance.store import Store
from harkara_compliance.verdict import unsure
from harkara_compliance.waiting import Waiting
from harkara_contracts.commands import CancelMessage, Done
from harkara_contracts.errors import ErrorCode, HarkaraError
from harkara_contracts.events import (
    BatchCancelled,
    Event,
    MessageAccepted,
    MessageCancelled,
    MessageCleared,
    MessageDeferred,
    MessageRejected,
    TimerDue,
)
from harkara_contracts.ids import new_account_id, new_batch_id, new_id
from harkara_contracts.subjects import Category
from harkara_registry import Registry

CLOSING = datetime(2026, 3, 2, 15, 30, tzinfo=UTC)  # 21:00 IST


accepted = partial(accepted_message, validity=7 * DAY)


def cancel_of(event: MessageAccepted) -> CancelMessage:
    return CancelMessage(
        command_id=new_id("CMD"), account_id=event.account_id, actor="KEY1", message_id=event.message_id
    )


def cancelled_batch(event: MessageAccepted) -> BatchCancelled:
    return BatchCancelled(
        batch_id=event.batch_id or "",
        account_id=event.account_id,
        lane=event.lane,
        cancelled_by="KEY1",
        cancelled_at=NOON,
    )


class Clock:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def handlers(store: Store, waiting: Waiting, canceller: Canceller, clock: Clock) -> MessageHandlers:
    return MessageHandlers(Registry(), store, waiting, canceller, clock)


def timers_of(events: Sequence[Event]) -> list[TimerDue]:
    return [TimerDue.model_validate_json(event.model_dump_json()) for event in events if isinstance(event, TimerDue)]


def kinds(events: Sequence[Event]) -> list[type[Event]]:
    return [type(event) for event in events]


def ids(events: Sequence[Event]) -> list[str]:
    return [event.event_id() for event in events]


async def test_what_was_cancelled_does_not_leave_with_its_timer(
    handlers: MessageHandlers, canceller: Canceller, clock: Clock, told: Any
) -> None:
    goes, stays = accepted(send_at=NOON + HOUR), accepted(send_at=NOON + HOUR)
    (timer,) = timers_of(await handlers.on_messages([goes, stays]))
    assert await canceller.cancel_message(cancel_of(stays)) == Done()
    assert [type(event) for event in told.events] == [MessageCancelled]
    clock.now = NOON + HOUR
    (outcome,) = await handlers.on_timers([timer])
    assert isinstance(outcome, MessageCleared)
    assert outcome.message_id == goes.message_id
    # The timer may come again; the message that left with it leaves by the same event.
    assert ids(await handlers.on_timers([timer])) == [outcome.event_id()]


async def test_the_accepted_event_may_come_again_at_any_time(
    handlers: MessageHandlers, canceller: Canceller, clock: Clock
) -> None:
    """A repeat neither brings back what was cancelled nor lets go what waits for its timer."""
    waits, cancelled = accepted(send_at=NOON + HOUR), accepted(send_at=NOON + HOUR)
    first = await handlers.on_messages([waits])
    await handlers.on_messages([cancelled])
    await canceller.cancel_message(cancel_of(cancelled))
    for now in (NOON, NOON + 2 * HOUR):
        clock.now = now
        assert await handlers.on_messages([cancelled]) == []
        assert ids(await handlers.on_messages([waits])) == ids(first)
    (timer,) = timers_of(first)
    assert kinds(await handlers.on_timers([timer])) == [MessageCleared]
    assert kinds(await handlers.on_messages([waits])) == [MessageCleared]


async def test_so_may_that_of_a_promotion_that_waited_for_its_hours(
    handlers: MessageHandlers, canceller: Canceller, clock: Clock
) -> None:
    evening, event = (accepted(Category.PROMOTIONAL, at=at) for at in (CLOSING - DAY - HOUR, NIGHT))
    clock.now = CLOSING - DAY  # late: it was accepted in time, and is deferred until the next morning
    (deferred, _) = await handlers.on_messages([evening])
    assert isinstance(deferred, MessageDeferred)
    assert deferred.until == OPENING
    clock.now = NIGHT
    await handlers.on_messages([event])
    for cancelled in (event, evening):
        await canceller.cancel_message(cancel_of(cancelled))
    for now in (OPENING, OPENING + timedelta(seconds=59), OPENING + HOUR, OPENING + DAY):
        clock.now = now
        assert await handlers.on_messages([event, evening]) == []


def test_what_leaves_at_once_is_not_looked_up() -> None:
    at_once = [accepted(), accepted(Category.TRANSACTIONAL), accepted(Category.PROMOTIONAL)]
    assert unsure(at_once, NOON + timedelta(seconds=50)) == []
    late, scheduled = accepted(Category.SERVICE_EXPLICIT, at=NOON - HOUR), accepted(send_at=NOON - HOUR)
    assert unsure([*at_once, late, scheduled], NOON) == [late.message_id, scheduled.message_id]
    fresh = accepted(Category.PROMOTIONAL, at=OPENING)
    assert unsure([fresh], OPENING) == [fresh.message_id]
    assert unsure([fresh], OPENING + timedelta(minutes=1)) == []


async def test_a_late_timer_defers_again_and_its_repeat_sends_nothing(
    handlers: MessageHandlers, canceller: Canceller, clock: Clock
) -> None:
    event = accepted(Category.PROMOTIONAL, at=NIGHT)
    clock.now = NIGHT
    (first,) = timers_of(await handlers.on_messages([event]))
    clock.now = CLOSING
    again = await handlers.on_timers([first])
    assert kinds(again) == [MessageDeferred, TimerDue]
    (second,) = timers_of(again)
    assert second.due_at == OPENING + DAY
    # Handled once more when the hours are open again: the message is the second timer's now.
    clock.now = OPENING + DAY
    assert ids(await handlers.on_timers([first])) == ids(again)
    await canceller.cancel_message(cancel_of(event))
    assert await handlers.on_timers([first, second]) == []


async def test_timers_of_before_the_table_let_their_messages_go(handlers: MessageHandlers, waiting: Waiting) -> None:
    event = accepted(send_at=NOON + HOUR)
    (timer,) = timers_of(await handlers.on_messages([event]))
    await waiting.forget(NOON + 60 * DAY)  # keeps what waits
    await waiting._database.execute("DELETE FROM waiting")
    assert kinds(await handlers.on_timers([timer])) == [MessageCleared]


async def test_who_asks_hears_how_the_message_stands(
    handlers: MessageHandlers, canceller: Canceller, told: Any
) -> None:
    event = accepted(send_at=NOON + HOUR)
    with pytest.raises(HarkaraError) as unknown:
        await canceller.cancel_message(cancel_of(event))
    assert unknown.value.code is ErrorCode.NOT_FOUND
    (timer,) = timers_of(await handlers.on_messages([event]))
    with pytest.raises(HarkaraError) as foreign:
        await canceller.cancel_message(cancel_of(event.model_copy(update={"account_id": "ACC2"})))
    assert foreign.value.code is ErrorCode.NOT_FOUND
    await handlers.on_timers([timer])
    with pytest.raises(HarkaraError, match="has left") as late:
        await canceller.cancel_message(cancel_of(event))
    assert late.value.code is ErrorCode.CONFLICT
    assert told.events == []


async def test_a_cancellation_is_told_once_however_often_it_is_asked_for(
    handlers: MessageHandlers, canceller: Canceller, told: Any
) -> None:
    event = accepted(send_at=NOON + HOUR)
    await handlers.on_messages([event])
    await asyncio.gather(*(canceller.cancel_message(cancel_of(event)) for _ in range(5)))
    await canceller.cancel_message(cancel_of(event))
    assert set(ids(told.events)) == {f"{event.message_id}.cancelled"}
    count = len(told.events)
    await canceller.cancel_message(cancel_of(event))
    assert len(told.events) == count


async def test_who_ends_before_telling_is_told_for(
    handlers: MessageHandlers, waiting: Waiting, told: Any, clock: Clock
) -> None:
    canceller = Canceller(waiting, told.publish, clock)
    event, of_batch = accepted(send_at=NOON + HOUR), accepted(send_at=NOON + HOUR, batch_id=new_batch_id())
    await handlers.on_messages([event, of_batch])
    told.broken = True
    with pytest.raises(TimeoutError):
        await canceller.cancel_message(cancel_of(event))
    with pytest.raises(TimeoutError):
        await canceller.on_batches([cancelled_batch(of_batch)])
    told.broken = False
    assert await canceller.tell(before=clock.now) == 0
    assert await canceller.tell(before=clock.now + BEING_TOLD) == 2
    assert {event.message_id for event in told.events} == {event.message_id, of_batch.message_id}
    assert await canceller.tell() == 0


async def test_of_a_cancelled_batch_nothing_waits_that_comes_later(
    handlers: MessageHandlers, canceller: Canceller, told: Any, clock: Clock
) -> None:
    batch_id = new_batch_id()
    early, late = (accepted(send_at=NOON + HOUR, batch_id=batch_id) for _ in range(2))
    other = accepted(send_at=NOON + HOUR, batch_id=new_batch_id())
    (timer,) = timers_of(await handlers.on_messages([early]))
    assert await canceller.on_batches([cancelled_batch(early)]) == []
    outcome = await handlers.on_messages([late, other])
    assert kinds(outcome) == [MessageDeferred, TimerDue]
    assert {type(event) for event in told.events} == {MessageCancelled}
    assert [event.message_id for event in told.events] == [early.message_id, late.message_id]
    assert {event.batch_id for event in told.events} == {batch_id}
    clock.now = NOON + HOUR
    assert await handlers.on_timers([timer]) == []
    # Comes again, as every event may.
    await canceller.on_batches([cancelled_batch(early)])
    assert len(told.events) == 2


# --- the service on the bus --------------------------------------------------------------------------------------------


class CutShortError(Exception):
    """Stands for the end of the process between two steps."""


def breaking(kind: type[Event], times: int = 1) -> Callable[[Service[Settings]], Any]:
    """Make the service with a publisher that fails before the first events of a kind, after all was written."""
    left = times

    async def build_breaking(service: Service[Settings]) -> None:
        publish = service.publisher.publish

        async def publish_or_break(events: Any, traces: Any = None) -> int:
            nonlocal left
            events = list(events)
            if left and any(isinstance(event, kind) for event in events):
                left -= 1
                raise CutShortError
            return await publish(events, traces)

        service.publisher.publish = publish_or_break  # type: ignore[method-assign]
        await build(service)

    return build_breaking


def soon(seconds: float = 2.0) -> datetime:
    return now_utc() + timedelta(seconds=seconds)


@pytest.mark.parametrize("kind", [TimerDue, MessageCleared])
async def test_a_scheduled_message_outlives_an_end_between_any_two_steps(
    bus: Any, run_service: Any, kind: type[Event]
) -> None:
    event = accepted(at=now_utc(), send_at=soon())
    async with run_service("compliance", breaking(kind), Settings):
        await bus.publish([event])
        cleared = await bus.next(MessageCleared, lambda seen: seen.message_id == event.message_id, timeout_s=15)
    assert event.send_at is not None
    assert now_utc() >= event.send_at
    assert cleared.correlation_id == "order-1"


async def test_a_cancelled_message_never_leaves(bus: Any, run_service: Any) -> None:
    at, due = now_utc(), soon(3)
    goes, stays = accepted(at=at, send_at=due), accepted(at=at, send_at=due)
    of_both = {goes.message_id, stays.message_id}
    async with run_service("compliance", build, Settings) as service:
        await bus.publish([goes, stays])
        await bus.all(MessageDeferred, 2, lambda seen: seen.message_id in of_both)
        assert await service.commands.call(cancel_of(stays)) == Done()
        cancelled = await bus.next(MessageCancelled, lambda seen: seen.message_id == stays.message_id)
        assert (cancelled.to, cancelled.cancelled_by) == (stays.to, "KEY1")
        assert await service.commands.call(cancel_of(stays)) == Done()
        # One timer was set for both, so what became of one is decided with the other.
        await bus.next(MessageCleared, lambda seen: seen.message_id == goes.message_id)
        with pytest.raises(HarkaraError) as late:
            await service.commands.call(cancel_of(goes))
        assert late.value.code is ErrorCode.CONFLICT
    of_stays = [type(one) for one in bus.seen if getattr(one, "message_id", None) == stays.message_id]
    assert of_stays == [MessageAccepted, MessageDeferred, MessageCancelled]


async def test_a_cancellation_that_was_cut_short_is_told_by_the_next_process(
    bus: Any, run_service: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cancelling, "BEING_TOLD", timedelta())
    event = accepted(at=now_utc(), send_at=soon(3600), account_id=new_account_id())
    async with run_service("compliance", breaking(MessageCancelled), Settings) as service:
        await bus.publish([event])
        await bus.next(MessageDeferred, lambda seen: seen.message_id == event.message_id)
        with pytest.raises(HarkaraError) as cut_short:
            await service.commands.call(cancel_of(event))
        assert cut_short.value.code is ErrorCode.INTERNAL
    async with run_service("compliance", build, Settings):
        cancelled = await bus.next(MessageCancelled, lambda seen: seen.message_id == event.message_id)
    assert cancelled.cancelled_by == "KEY1"


@pytest.mark.parametrize("start", [build, breaking(MessageCancelled, times=2)])
async def test_a_batch_is_taken_back(bus: Any, run_service: Any, start: Any) -> None:
    at, batch_id = now_utc(), new_batch_id()
    events = [accepted(at=at, send_at=soon(3600), batch_id=batch_id) for _ in range(300)]
    async with run_service("compliance", start, Settings):
        await bus.publish(events[:250])
        await bus.all(MessageDeferred, 250, lambda seen: seen.batch_id == batch_id)
        await bus.publish([cancelled_batch(events[0])])
        await bus.all(MessageCancelled, 250, lambda seen: seen.batch_id == batch_id, timeout_s=15)
        await bus.publish(events[250:])
        cancelled = await bus.all(MessageCancelled, 300, lambda seen: seen.batch_id == batch_id, timeout_s=15)
    assert {one.message_id for one in cancelled} == {event.message_id for event in events}
    deferred = [one for one in bus.seen if isinstance(one, MessageDeferred) and one.batch_id == batch_id]
    assert len(deferred) == 250


async def test_a_timer_may_be_years_away_and_one_that_is_past_comes_at_once(bus: Any, run_service: Any) -> None:
    late = accepted(at=now_utc(), send_at=soon(5 * 366 * 86_400))
    async with run_service("compliance", build, Settings) as service:
        await bus.publish([late])
        deferred = await bus.next(MessageDeferred, lambda seen: seen.message_id == late.message_id)
        assert deferred.until == late.send_at
        past = TimerDue(
            owner="compliance",
            lane=late.lane,
            timer_id=new_id("T"),
            name="decide",
            due_at=soon(-3600),
            payload={"accepted": [accepted(at=now_utc(), send_at=soon(-3600)).model_dump_json()]},
        )
        await bus.publish([past])
        await bus.next(MessageCleared, lambda seen: seen.message_id in str(past.payload))
        assert await service.commands.call(cancel_of(late)) == Done()
    of_late = [one for one in bus.seen if isinstance(one, TimerDue) and late.message_id in str(one.payload)]
    assert [type(one) for one in bus.seen if getattr(one, "message_id", "") == late.message_id] == [
        MessageAccepted,
        MessageDeferred,
        MessageCancelled,
    ]
    assert of_late == [], "it must not come before its time"


async def test_what_is_due_is_judged_by_the_rules_of_that_time(
    handlers: MessageHandlers, clock: Clock, store: Store
) -> None:
    """The template is one that the account does not have (any more) when the time comes."""
    event = accepted(send_at=NOON + HOUR, template="GONE")
    (timer,) = timers_of(await handlers.on_messages([event]))
    clock.now = NOON + HOUR
    (outcome,) = await handlers.on_timers([timer])
    assert isinstance(outcome, MessageRejected)
