"""The tables of what waits: where leaving and cancelling meet."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from harkara_chassis.database import Database
from harkara_compliance import waiting as module
from harkara_compliance.cancelling import Canceller
from harkara_compliance.verdict import Deferral, Standing, State
from harkara_compliance.waiting import KEEP_CANCELLED, KEEP_LEFT, Waiting
from harkara_contracts.events import BatchCancelled, Content, MessageAccepted
from harkara_contracts.ids import new_account_id, new_batch_id, new_message_id
from harkara_contracts.subjects import Category, Channel, Lane

NOW = datetime(2026, 3, 1, 6, 30, tzinfo=UTC)
DUE = NOW + timedelta(hours=1)
LATER = NOW + timedelta(hours=2)
TO = "919876543210"
WAITS = Standing(State.WAITING, DUE)
LEFT = Standing(State.LEFT, DUE)
CANCELLED = Standing(State.CANCELLED, DUE)


def accepted(account_id: str = "ACC1", batch_id: str | None = None) -> MessageAccepted:
    return MessageAccepted(
        message_id=new_message_id(),
        account_id=account_id,
        lane=Lane.OTP,
        test_mode=True,
        correlation_id="order-1",
        batch_id=batch_id,
        to=TO,
        category=Category.OTP,
        channels=[Channel.SMS],
        content=Content(sender="ABCDEF", template_id="CODE"),
        accepted_at=NOW,
        expires_at=LATER,
        send_at=DUE,
    )


def deferral(event: MessageAccepted, until: datetime = DUE) -> Deferral:
    return Deferral(event, until, "scheduled")


async def stands(waiting: Waiting, event: MessageAccepted) -> Standing | None:
    return (await waiting.leave([event.message_id], None, NOW)).get(event.message_id)


async def test_what_waits_leaves_by_its_timer_and_a_repeat_finds_that_it_did(waiting: Waiting) -> None:
    events = [accepted(), accepted()]
    ids = [event.message_id for event in events]
    deferred = await waiting.defer([deferral(event) for event in events], None)
    assert deferred == dict.fromkeys(ids, WAITS)
    assert await waiting.leave(ids, DUE, DUE) == dict.fromkeys(ids, LEFT)
    assert await waiting.leave(ids, DUE, LATER) == dict.fromkeys(ids, LEFT)


async def test_a_repeat_of_a_deferral_changes_nothing(waiting: Waiting) -> None:
    event = accepted()
    await waiting.defer([deferral(event)], None)
    assert await waiting.defer([deferral(event, LATER)] * 2, None) == {event.message_id: WAITS}
    await waiting.leave([event.message_id], DUE, DUE)
    assert await waiting.defer([deferral(event)], None) == {event.message_id: LEFT}


async def test_what_is_deferred_again_waits_for_its_new_timer_only(waiting: Waiting) -> None:
    event = accepted()
    await waiting.defer([deferral(event)], None)
    again = {event.message_id: Standing(State.WAITING, LATER)}
    assert await waiting.defer([deferral(event, LATER)], DUE) == again
    # The timer that deferred it is handled once more, and would let it go by now.
    assert await waiting.leave([event.message_id], DUE, LATER) == again
    assert await waiting.leave([event.message_id], LATER, LATER) == {
        event.message_id: Standing(State.LEFT, LATER),
    }


async def test_a_timer_lets_no_cancelled_message_go(waiting: Waiting) -> None:
    event = accepted()
    await waiting.defer([deferral(event)], None)
    found = await waiting.cancel(event.account_id, event.message_id, "KEY1", NOW)
    assert found is not None
    state, untold = found
    assert state is State.CANCELLED
    assert untold is not None
    assert (untold.to, untold.sender, untold.lane, untold.test_mode) == (TO, "ABCDEF", Lane.OTP, True)
    assert (untold.correlation_id, untold.cancelled_by, untold.occurred_at) == ("order-1", "KEY1", NOW)
    assert await waiting.leave([event.message_id], DUE, DUE) == {event.message_id: CANCELLED}
    assert await waiting.defer([deferral(event, LATER)], DUE) == {event.message_id: CANCELLED}


async def test_a_cancellation_is_untold_until_it_is_said_to_be_told(waiting: Waiting) -> None:
    event = accepted()
    await waiting.defer([deferral(event)], None)
    _, first = await waiting.cancel(event.account_id, event.message_id, "KEY1", NOW) or (None, None)
    again = await waiting.cancel(event.account_id, event.message_id, "KEY2", DUE)
    assert first is not None
    assert again == (State.CANCELLED, first)
    assert await waiting.untold() == [first]
    assert await waiting.untold(before=NOW) == []
    await waiting.told([first])
    assert await waiting.untold() == []
    assert await waiting.cancel(event.account_id, event.message_id, "KEY1", NOW) == (State.CANCELLED, None)


async def test_only_what_waits_of_the_account_is_cancelled(waiting: Waiting) -> None:
    event = accepted()
    assert await waiting.cancel(event.account_id, event.message_id, "KEY1", NOW) is None
    await waiting.defer([deferral(event)], None)
    assert await waiting.cancel("ACC2", event.message_id, "KEY1", NOW) is None
    await waiting.leave([event.message_id], DUE, DUE)
    assert await waiting.cancel(event.account_id, event.message_id, "KEY1", NOW) == (State.LEFT, None)


async def test_of_leaving_and_cancelling_at_once_one_happens(waiting: Waiting) -> None:
    ends = set()
    for number in range(60):
        event = accepted()
        await waiting.defer([deferral(event)], None)

        async def cancel(event: MessageAccepted = event) -> State:
            found = await waiting.cancel(event.account_id, event.message_id, "KEY1", NOW)
            assert found is not None
            return found[0]

        async def leave(event: MessageAccepted = event) -> State:
            return (await waiting.leave([event.message_id], DUE, DUE))[event.message_id].state

        both = (cancel(), leave()) if number % 2 else (leave(), cancel())
        seen = await asyncio.gather(*both)
        assert len(set(seen)) == 1, "one of them was told something else"
        ends.add(seen[0])
    assert ends == {State.LEFT, State.CANCELLED}


def cancelled(batch_id: str, account_id: str) -> BatchCancelled:
    return BatchCancelled(
        batch_id=batch_id, account_id=account_id, lane=Lane.OTP, cancelled_by="KEY1", cancelled_at=NOW
    )


async def test_a_batch_is_cancelled_as_far_as_it_waits(waiting: Waiting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_AT_ONCE", 4)
    account_id, batch_id = new_account_id(), new_batch_id()
    of_batch = [accepted(account_id, batch_id) for _ in range(10)]
    others = [accepted(account_id), accepted(account_id, new_batch_id()), accepted("ACC2", batch_id)]
    left, *rest = of_batch
    await waiting.defer([deferral(event) for event in [*of_batch, *others]], None)
    await waiting.leave([left.message_id], DUE, DUE)
    await waiting.cancel_batch(cancelled(batch_id, account_id))
    assert {await stands(waiting, event) for event in rest} == {CANCELLED}
    assert await stands(waiting, left) == LEFT
    assert {await stands(waiting, event) for event in others} == {WAITS}
    assert await waiting.cancelled_among({batch_id, "BATCH0"}) == {batch_id}
    assert len(await waiting.untold(batch_id)) == 4
    assert await waiting.untold("BATCH0") == []


async def test_nothing_of_a_cancelled_batch_goes_on_waiting(waiting: Waiting, canceller: Canceller) -> None:
    """Deferring and cancelling at once: whoever comes second sees what the first has done."""
    account_id = new_account_id()
    for number in range(60):
        batch_id = new_batch_id()
        events = [accepted(account_id, batch_id) for _ in range(3)]

        async def defer(events: list[MessageAccepted] = events, batch_id: str = batch_id) -> None:
            await waiting.defer([deferral(event) for event in events], None)
            await canceller.cancel_late({batch_id})

        cancel = canceller.on_batches([cancelled(batch_id, account_id)])
        both = (cancel, defer()) if number % 2 else (defer(), cancel)
        await asyncio.gather(*both)
        assert {await stands(waiting, event) for event in events} == {CANCELLED}
    assert await waiting.untold() == []


async def test_what_still_waits_after_its_time_is_counted(waiting: Waiting) -> None:
    left, waits, later = (accepted() for _ in range(3))
    await waiting.defer([deferral(left), deferral(waits), deferral(later, LATER)], None)
    await waiting.leave([left.message_id], DUE, DUE)
    assert await waiting.overdue(DUE) == 0
    assert await waiting.overdue(DUE + timedelta(seconds=1)) == 1
    assert await waiting.overdue(LATER + timedelta(seconds=1)) == 2


async def test_no_number_is_readable_in_the_table(waiting: Waiting, database: Database) -> None:
    await waiting.defer([deferral(accepted())], None)
    rows = await database.fetch("SELECT w::text AS whole, detail FROM waiting w")
    assert len(rows) == 1
    assert TO not in rows[0]["whole"]
    assert TO.encode() not in rows[0]["detail"]


async def test_what_nobody_asks_for_any_more_is_forgotten(
    waiting: Waiting, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_AT_ONCE", 1)
    left, gone, untold, waits = (accepted() for _ in range(4))
    await waiting.defer([deferral(event) for event in (left, gone, untold, waits)], None)
    await waiting.leave([left.message_id], DUE, DUE)
    for event in (gone, untold):
        found = await waiting.cancel(event.account_id, event.message_id, "KEY1", NOW)
        if event is gone and found is not None and found[1] is not None:
            await waiting.told([found[1]])
    await waiting.cancel_batch(cancelled(new_batch_id(), "ACC1"))

    async def kept(at: datetime) -> set[str]:
        await waiting.forget(at)
        return {row["message_id"] for row in await database.fetch("SELECT message_id FROM waiting")}

    every = {event.message_id for event in (left, gone, untold, waits)}
    assert await kept(DUE + KEEP_LEFT) == every
    assert await kept(DUE + KEEP_LEFT + timedelta(seconds=1)) == every - {left.message_id}
    # Counted from its time: the timer may come due long after the cancellation.
    assert await kept(DUE + KEEP_CANCELLED) == every - {left.message_id}
    assert await kept(DUE + KEEP_CANCELLED + timedelta(seconds=1)) == {untold.message_id, waits.message_id}
    assert await database.fetch("SELECT FROM cancelled_batch WHERE cancelled_at <= $1", NOW) == []
