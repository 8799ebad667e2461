"""What a service says of itself, and the bus of its lanes, under faults of a real server."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

import aiohttp
import pytest
from libs.chassis.tests.conftest import OwnNats
from libs.chassis.tests.helpers import DURABLE, MakeAccepted, nothing, reading, until
from pydantic import SecretStr

from harkara_chassis import ServiceSettings, backlog, health
from harkara_chassis import pull as pulling
from harkara_chassis.admin import AdminServer
from harkara_chassis.connection import connect
from harkara_chassis.health import Health, Vitals
from harkara_chassis.publisher import Outgoing, Publisher, headers
from harkara_chassis.service import running
from harkara_contracts.events import Event, MessageAccepted

if TYPE_CHECKING:
    from conftest import BusProbe, RunService, Servers


_LARGE = 7 * 2**20
_RESERVED = 128 * 2**20
"""What the streams with a limit of their own may take; the server starts with no less."""


async def test_a_frozen_bus_is_told_while_the_connection_still_stands(own_nats: OwnNats) -> None:
    async with running("compliance", ServiceSettings(nats_url=SecretStr(own_nats.url)), nothing) as service:
        assert service.health() == Health([])
        own_nats.freeze()
        await until(lambda: service.health().problems[:1] == ["the bus has stored nothing for 1 s"])
        assert service.bus.connected
        own_nats.thaw()
        await until(lambda: service.health().is_ready)


async def test_a_full_store_is_told_by_a_service_that_has_nothing_to_do(own_nats: OwnNats) -> None:
    await own_nats.give_store(_RESERVED + 8 * _LARGE)
    async with running("compliance", ServiceSettings(nats_url=SecretStr(own_nats.url)), nothing) as service:
        assert service.health().is_ready
        filling = asyncio.create_task(service.publisher.send([_large(number) for number in range(30)]))
        await until(lambda: "the bus has stored nothing for" in str(service.health().problems))
        assert service.bus.connected
        await own_nats.give_store(2 * _RESERVED)
        async with asyncio.timeout(30):
            await filling
        await until(lambda: service.health().is_ready)


def _large(number: int) -> Outgoing:
    name = "message.v1.accepted.otp"
    return Outgoing(name, bytes(_LARGE), headers(name, f"large.{number}"))


async def test_a_handler_that_does_not_end_is_told(
    bus: BusProbe, run_service: RunService, accepted: MakeAccepted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulling, "STANDSTILL_S", 0.5)
    release = asyncio.Event()

    async def handler(_: Sequence[MessageAccepted]) -> Sequence[Event]:
        await release.wait()
        return []

    async with run_service("compliance", reading(handler), ServiceSettings) as service:
        # A quiet consumer is none that stands still.
        await asyncio.sleep(0.6)
        assert service.health() == Health([])
        await bus.publish([accepted()])
        await until(lambda: f"consumer {DURABLE} has got nothing done for" in str(service.health().problems))
        release.set()
        await until(lambda: service.health().is_ready)


async def test_what_a_service_survives_is_a_warning_and_what_is_outside_keeps_no_start() -> None:
    vitals = Vitals()
    vitals.check("database", lambda: ["no database"])
    vitals.check("carriers", lambda: ["no carrier"], outside=True)
    vitals.check("consumers", list)
    vitals.warn(lambda: ["slow"])
    vitals.tell("binds", lambda: 3)
    assert vitals.health() == Health(["no database", "no carrier"], ["slow"], {"binds": 3})
    assert vitals.start_problems() == ["no database"]
    vitals.survive(["database"])
    assert vitals.health() == Health(["no carrier"], ["no database", "slow"], {"binds": 3})
    assert vitals.start_problems() == []


async def test_a_question_that_fails_or_is_not_answered_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "PATIENCE_S", 0.2)
    answers: asyncio.Queue[OSError | None] = asyncio.Queue()

    async def ask() -> list[str]:
        if error := await answers.get():
            raise error
        return []

    pulse = health.Pulse("cache", ask, "the cache has not answered")
    asking = asyncio.create_task(pulse.run())
    try:
        assert pulse.problems == []
        await until(lambda: pulse.problems == ["the cache has not answered for 0 s"])
        answers.put_nowait(ConnectionRefusedError())
        await until(lambda: pulse.problems == ["the cache has not answered (ConnectionRefusedError)"])
        answers.put_nowait(None)
        await until(lambda: pulse.problems == [])
    finally:
        asking.cancel()


async def test_the_pages_say_what_the_service_says() -> None:
    told = Health(["no bus"], ["one carrier of two is down"], {"carriers": [{"name": "jio"}]})
    missing = ["no bus"]
    server = AdminServer("127.0.0.1", 0, alive=lambda: True, health=lambda: told, start_problems=lambda: missing)
    await server.start()
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{server.port}") as client:
            async with client.get("/readyz") as answer:
                assert answer.status == 503
                assert await answer.json() == {
                    "ready": False,
                    "problems": ["no bus"],
                    "warnings": ["one carrier of two is down"],
                    "details": {"carriers": [{"name": "jio"}]},
                }
            async with client.get("/startz") as answer:
                assert (answer.status, await answer.json()) == (503, {"started": False, "problems": ["no bus"]})
            told, missing = Health([], ["slow"]), []
            async with client.get("/readyz") as answer:
                assert (answer.status, (await answer.json())["ready"]) == (200, True)
            async with client.get("/startz") as answer:
                assert answer.status == 200
    finally:
        await server.close()


async def test_a_backlog_tells_how_many_wait_and_for_how_long(
    own_nats: OwnNats, accepted: MakeAccepted, servers: Servers
) -> None:
    begun, release = asyncio.Event(), asyncio.Event()

    async def handler(_: Sequence[MessageAccepted]) -> Sequence[Event]:
        begun.set()
        await release.wait()
        return []

    async def lane() -> backlog.Backlog:
        return next(one for one in (await backlog.look(own_nats.url)).backlogs if one.durable == DURABLE)

    quiet = await lane()
    assert (quiet.waiting, quiet.in_hand, quiet.oldest_s, quiet.idle_s) == (0, 0, None, None)
    bus = await connect(own_nats.url, "test", closing_is_loss=lambda: False)
    publisher = Publisher(bus.client, "test")
    await publisher.start()
    await publisher.publish([accepted()])
    await asyncio.sleep(0.3)
    await publisher.publish([accepted()])
    behind = await lane()
    assert (behind.service, behind.lane, behind.waiting, behind.in_hand) == ("compliance", "otp", 2, 0)
    assert behind.oldest_s is not None
    assert behind.oldest_s >= 0.3
    async with running("compliance", ServiceSettings(nats_url=SecretStr(own_nats.url)), reading(handler)):
        await begun.wait()
        busy = await lane()
        assert (busy.waiting, busy.in_hand) == (0, 2)
        release.set()
        async with asyncio.timeout(10):
            while (done := await lane()).in_hand:
                await asyncio.sleep(0.05)
    assert done.oldest_s is None
    assert done.idle_s is not None
    assert done.idle_s < 5
    await bus.close()
