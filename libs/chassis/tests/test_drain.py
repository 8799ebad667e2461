"""What is in hand stays in hand, and at the drain everything is finished or given back, within its time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING

import pytest
from libs.chassis.tests.conftest import OwnNats
from libs.chassis.tests.helpers import DURABLE, MakeAccepted, nothing, reading, until
from nats.aio.client import Client
from pydantic import SecretStr

from harkara_chassis import ServiceSettings, provisioner
from harkara_chassis.pull import Pull
from harkara_chassis.service import Service, running
from harkara_contracts import consumers
from harkara_contracts.commands import BalanceReply, TopUp
from harkara_contracts.events import Event, MessageAccepted
from harkara_contracts.subjects import Lane

if TYPE_CHECKING:
    from conftest import BusProbe, RunService, Servers

ACK_WAIT_S = 0.5


@pytest.fixture
async def short_ack_wait(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """Let the server deliver again after half a second."""
    with monkeypatch.context() as patch:
        patch.setitem(consumers._ACK_WAIT_S, Lane.OTP, ACK_WAIT_S)
        await provisioner.provision(servers.nats_url)
        yield
    await provisioner.provision(servers.nats_url)


@pytest.mark.parametrize("concurrency", [1, 2])
async def test_work_that_takes_longer_than_the_ack_wait_is_given_to_nobody_else(
    bus: BusProbe, run_service: RunService, accepted: MakeAccepted, short_ack_wait: None, concurrency: int
) -> None:
    """Neither in the usual course nor while the instance that has it is draining."""
    event = accepted()
    begun = asyncio.Event()
    handled: list[str] = []

    async def handler(events: Sequence[MessageAccepted]) -> Sequence[Event]:
        if any(one.message_id == event.message_id for one in events):
            handled.append(event.message_id)
            begun.set()
            await asyncio.sleep(4 * ACK_WAIT_S)
        return []

    build = reading(handler, concurrency=concurrency)
    async with run_service("compliance", build, ServiceSettings) as first:
        await bus.publish([event])
        await begun.wait()
        async with run_service("compliance", build, ServiceSettings):
            await asyncio.sleep(2 * ACK_WAIT_S)
            await first.stop()
    assert handled == [event.message_id]


async def test_what_is_on_its_way_when_the_pull_stops_comes_again_at_once(
    bus: BusProbe, raw: Client, accepted: MakeAccepted, long_ack_wait: None
) -> None:
    """What the server has sent and nobody has seen would else be nobody's until the ack_wait is over."""
    sent = [accepted() for _ in range(256)]
    await asyncio.gather(*(bus.publish([event]) for event in sent))
    first = Pull(raw, "MESSAGES", DURABLE, batch=256, ack_wait_s=60.0)
    await first.start()
    mine = await first.take()
    await first.stop()

    second = Pull(raw, "MESSAGES", DURABLE, batch=256, ack_wait_s=60.0)
    await second.start()
    left = len(sent) - len(mine)
    assert left > 0
    async with asyncio.timeout(20):
        while left > 0:
            messages = await second.take()
            await second.ack(messages)
            left -= len(messages)
    await second.close()
    await first.ack(mine)
    await first.close()


@pytest.mark.parametrize("concurrency", [1, 2])
async def test_the_drain_ends_in_its_time_and_gives_back_what_it_could_not_finish(
    bus: BusProbe, run_service: RunService, accepted: MakeAccepted, concurrency: int
) -> None:
    event = accepted()
    begun, handled, release = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def stuck(events: Sequence[MessageAccepted]) -> Sequence[Event]:
        if any(one.message_id == event.message_id for one in events):
            begun.set()
            await release.wait()
        return []

    async def well(events: Sequence[MessageAccepted]) -> Sequence[Event]:
        if any(one.message_id == event.message_id for one in events):
            handled.set()
        return []

    build = reading(stuck, concurrency=concurrency)
    async with run_service("compliance", build, ServiceSettings, drain_timeout_s=0.2) as service:
        await bus.publish([event])
        await begun.wait()
        await _stop_within(1.5, service, release)
    async with run_service("compliance", reading(well), ServiceSettings):
        await asyncio.wait_for(handled.wait(), 1.5)


async def _stop_within(time_s: float, service: Service[ServiceSettings], release: asyncio.Event) -> None:
    try:
        async with asyncio.timeout(time_s):
            await service.stop()
    finally:
        release.set()  # so that a drain without bounds is a failure and no standstill


async def test_a_command_that_does_not_end_does_not_hold_up_the_drain(run_service: RunService) -> None:
    begun, release = asyncio.Event(), asyncio.Event()

    async def top_up(_: TopUp) -> BalanceReply:
        begun.set()
        await release.wait()
        return BalanceReply(available_mp=0, held_mp=0)

    async def owner(service: Service[ServiceSettings]) -> None:
        service.answer(TopUp, top_up)

    command = TopUp(command_id="stuck", account_id="A", amount_mp=1, reference="r")
    async with (
        run_service("ingress", nothing, ServiceSettings) as caller,
        run_service("billing", owner, ServiceSettings, drain_timeout_s=0.2) as service,
    ):
        call = asyncio.create_task(caller.commands.call(command))
        await begun.wait()
        await _stop_within(1.5, service, release)
        call.cancel()
        await asyncio.wait([call])


async def test_the_drain_ends_in_its_time_while_the_bus_is_away(own_nats: OwnNats, accepted: MakeAccepted) -> None:
    begun = asyncio.Event()

    async def handler(_: Sequence[MessageAccepted]) -> Sequence[Event]:
        begun.set()
        await until(lambda: not service.bus.connected)
        return [accepted()]

    settings = ServiceSettings(nats_url=SecretStr(own_nats.url), drain_timeout_s=0.2)
    async with asyncio.timeout(8):
        async with running("compliance", settings, reading(handler)) as service:
            await service.publisher.publish([accepted()])
            await begun.wait()
            own_nats.kill()
            await until(lambda: not service.bus.connected)
