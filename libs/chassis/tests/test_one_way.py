"""The one way to handle an event, on the real server: nothing lost, nothing doubled, the bad one alone to DEAD."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from libs.chassis.tests.helpers import Defer, MakeAccepted, reading
from nats.aio.client import Client
from nats.aio.msg import Msg

from harkara_chassis import ServiceSettings
from harkara_chassis.dead import list_dead, replay_dead
from harkara_chassis.service import Service
from harkara_contracts import consumers
from harkara_contracts.events import AttemptFunded, Event, MessageAccepted, MessageDeferred, TimerDue
from harkara_contracts.ids import attempt_id
from harkara_contracts.subjects import Channel, Lane

if TYPE_CHECKING:
    from conftest import BusProbe, RunService, Servers


async def test_events_flow_through_a_handler_and_out(
    bus: BusProbe, run_service: RunService, accepted: MakeAccepted, deferred: Defer
) -> None:
    async def handler(events: Sequence[MessageAccepted]) -> Sequence[Event]:
        return [deferred(event) for event in events]

    sent = [accepted(lane) for lane in Lane for _ in range(300)]
    async with run_service("compliance", reading(handler), ServiceSettings):
        await bus.publish(sent)
        ids = {event.message_id for event in sent}
        got = await bus.all(MessageDeferred, len(sent), lambda event: event.message_id in ids)
    assert sorted(event.message_id for event in got) == sorted(ids)


async def test_a_failing_event_goes_to_dead_alone_and_comes_back_by_replay(
    bus: BusProbe,
    run_service: RunService,
    accepted: MakeAccepted,
    deferred: Defer,
    servers: Servers,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("harkara_chassis.faults.FIRST_RETRY_S", 0.01)
    broken = True
    sent = [accepted() for _ in range(20)]
    bad = sent[7].message_id

    async def handler(events: Sequence[MessageAccepted]) -> Sequence[Event]:
        if broken and any(event.message_id == bad for event in events):
            raise ValueError("cannot")
        return [deferred(event) for event in events]

    async with run_service("compliance", reading(handler), ServiceSettings):
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


async def test_a_passing_trouble_is_waited_out_and_counts_against_nobody(
    bus: BusProbe, run_service: RunService, accepted: MakeAccepted, deferred: Defer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harkara_chassis.consumer.MAX_DELIVERIES", 1)
    calls = 0

    async def handler(events: Sequence[MessageAccepted]) -> Sequence[Event]:
        nonlocal calls
        calls += 1
        if calls < 4:
            raise ConnectionRefusedError
        return [deferred(event) for event in events]

    async with run_service("compliance", reading(handler), ServiceSettings):
        event = accepted()
        await bus.publish([event])
        await bus.next(MessageDeferred, lambda out: out.message_id == event.message_id)
    assert calls == 4


async def test_a_returned_timer_comes_back_at_its_time(
    bus: BusProbe, run_service: RunService, accepted: MakeAccepted, deferred: Defer
) -> None:
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


async def test_a_subject_that_is_slow_keeps_no_other_of_its_lane_waiting(
    bus: BusProbe, run_service: RunService, accepted: MakeAccepted, raw: Client
) -> None:
    release, told = asyncio.Event(), asyncio.Event()

    async def handler(events: Sequence[AttemptFunded]) -> Sequence[Event]:
        if any(event.carrier == "slow" for event in events):
            await release.wait()
        else:
            told.set()
        return []

    async def build(service: Service[ServiceSettings]) -> None:
        service.consume(consumers.SMS_SENDER_ATTEMPTS, handler, concurrency=2)

    async with run_service("sms-sender", build, ServiceSettings) as service:
        taken = [Msg(raw, subject=subject) for subject in ("slow", "quick", "slow")]
        portions = service.loops[0]._portions(taken)
        assert [[message.subject for message in portion] for portion in portions] == [["quick"], ["slow", "slow"]]
        await bus.publish([funded(accepted(), "slow") for _ in range(5)])
        for _ in range(5):
            await bus.publish([funded(accepted(), "slow")])
        await bus.publish([funded(accepted(), "slow"), funded(accepted(), "quick")])
        await asyncio.wait_for(told.wait(), 2)
        release.set()


def funded(event: MessageAccepted, carrier: str) -> AttemptFunded:
    return AttemptFunded(
        attempt_id=attempt_id(event.message_id, 1),
        message_id=event.message_id,
        account_id=event.account_id,
        lane=event.lane,
        channel=Channel.SMS,
        carrier=carrier,
        to=event.to,
        category=event.category,
        units=1,
        expires_at=event.expires_at,
        planned_at=event.accepted_at,
        price_mp=1,
    )
