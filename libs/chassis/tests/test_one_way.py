"""The one way to handle an event, on the real server: nothing lost, nothing doubled, the bad one alone to DEAD."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from harkara_chassis import ServiceSettings
from harkara_chassis.dead import list_dead, replay_dead
from harkara_chassis.service import Service
from harkara_contracts import consumers
from harkara_contracts.events import Event, MessageAccepted, MessageDeferred, TimerDue
from harkara_contracts.subjects import Lane


async def test_events_flow_through_a_handler_and_out(bus, run_service, accepted, deferred):
    async def handler(events: Sequence[MessageAccepted]) -> Sequence[Event]:
        return [deferred(event) for event in events]

    async def build(service: Service[ServiceSettings]) -> None:
        service.consume(consumers.COMPLIANCE_MESSAGES, handler)

    sent = [accepted(lane) for lane in Lane for _ in range(300)]
    async with run_service("compliance", build, ServiceSettings):
        await bus.publish(sent)
        ids = {event.message_id for event in sent}
        got = await bus.all(MessageDeferred, len(sent), lambda event: event.message_id in ids)
    assert sorted(event.message_id for event in got) == sorted(ids)


async def test_a_failing_event_goes_to_dead_alone_and_comes_back_by_replay(
    bus, run_service, accepted, deferred, servers, monkeypatch
):
    monkeypatch.setattr("harkara_chassis.faults.FIRST_RETRY_S", 0.01)
    broken = True
    sent = [accepted() for _ in range(20)]
    bad = sent[7].message_id

    async def handler(events: Sequence[MessageAccepted]) -> Sequence[Event]:
        if broken and any(event.message_id == bad for event in events):
            raise ValueError("cannot")
        return [deferred(event) for event in events]

    async def build(service: Service[ServiceSettings]) -> None:
        service.consume(consumers.COMPLIANCE_MESSAGES, handler)

    async with run_service("compliance", build, ServiceSettings):
        await bus.publish(sent)
        good = {event.message_id for event in sent} - {bad}
        await bus.all(MessageDeferred, len(good), lambda event: event.message_id in good)
        async with asyncio.timeout(10):
            while not (
                letters := [letter for letter in await list_dead(servers.nats_url) if bad.encode() in letter.body]
            ):
                await asyncio.sleep(0.05)
        assert letters[0].consumer == "compliance__MESSAGES__otp"
        assert sent[8].message_id.encode() not in letters[0].body
        broken = False
        assert await replay_dead(servers.nats_url, letters[0].sequence) == 1
        await bus.next(MessageDeferred, lambda event: event.message_id == bad)


async def test_a_passing_trouble_is_waited_out_and_counts_against_nobody(bus, run_service, accepted, deferred):
    calls = 0

    async def handler(events: Sequence[MessageAccepted]) -> Sequence[Event]:
        nonlocal calls
        calls += 1
        if calls < 4:
            raise ConnectionRefusedError
        return [deferred(event) for event in events]

    async def build(service: Service[ServiceSettings]) -> None:
        service.consume(consumers.COMPLIANCE_MESSAGES, handler)

    async with run_service("compliance", build, ServiceSettings):
        event = accepted()
        await bus.publish([event])
        await bus.next(MessageDeferred, lambda out: out.message_id == event.message_id)
    assert calls == 4


async def test_a_returned_timer_comes_back_at_its_time(bus, run_service, accepted, deferred):
    due: asyncio.Future[float] = asyncio.get_running_loop().create_future()
    wanted = accepted()

    async def on_messages(events: Sequence[MessageAccepted]) -> Sequence[Event]:
        return [
            TimerDue(
                owner="compliance",
                lane=event.lane,
                timer_id=event.message_id,
                name="again",
                due_at=datetime.now(UTC) + timedelta(seconds=0.4),
                payload={"event": event.model_dump(mode="json")},
            )
            for event in events
            if event.message_id == wanted.message_id
        ]

    async def on_timers(events: Sequence[TimerDue]) -> Sequence[Event]:
        for timer in events:
            if timer.timer_id == wanted.message_id and not due.done():
                due.set_result((datetime.now(UTC) - timer.due_at).total_seconds())
        return []

    async def build(service: Service[ServiceSettings]) -> None:
        service.consume(consumers.COMPLIANCE_MESSAGES, on_messages)
        service.consume(consumers.COMPLIANCE_TIMERS, on_timers)

    async with run_service("compliance", build, ServiceSettings):
        await bus.publish([wanted])
        late_s = await asyncio.wait_for(due, 5)
    assert 0 <= late_s < 2
