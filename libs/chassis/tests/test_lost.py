"""What gets lost on the way, acknowledgements, requests, consumers, connections, is noticed and made good."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from libs.chassis.tests.conftest import OwnNats
from libs.chassis.tests.helpers import MakeAccepted, eventually, nothing, reading, until
from nats.aio.client import Client
from nats.aio.msg import Msg
from pydantic import SecretStr

from harkara_chassis import ServiceSettings
from harkara_chassis import connection as connecting
from harkara_chassis import publisher as publishing
from harkara_chassis import pull as pulling
from harkara_chassis.connection import connect
from harkara_chassis.facts import FactView
from harkara_chassis.publisher import Outgoing, Publisher, PublishRefusedError, headers
from harkara_chassis.pull import Pull
from harkara_chassis.service import Service, running
from harkara_contracts.commands import BalanceReply, TopUp
from harkara_contracts.errors import HarkaraError
from harkara_contracts.events import Event, MessageAccepted
from harkara_contracts.facts import BalanceFact
from harkara_contracts.ids import new_account_id

if TYPE_CHECKING:
    from conftest import BusProbe, RunService, Servers


@pytest.fixture
async def publisher(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Publisher]:
    """Give a publisher with room for one message at a time."""
    monkeypatch.setattr(publishing, "MAX_IN_FLIGHT", 1)
    monkeypatch.setattr(publishing, "ACK_TIMEOUT_S", 0.2)
    connection = await connect(servers.nats_url, "lost", closing_is_loss=lambda: False)
    publisher = Publisher(connection.client, "lost")
    yield publisher
    await connection.close()


async def test_a_lost_acknowledgement_does_not_keep_its_room(
    publisher: Publisher, accepted: MakeAccepted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of a send that is larger than the room, and waits for room while nobody awaits its acknowledgements."""
    real, lost = publisher._on_ack, iter([True, True])

    async def on_ack(message: Msg) -> None:
        if not next(lost, False):
            await real(message)

    monkeypatch.setattr(publisher, "_on_ack", on_ack)
    await publisher.start()
    messages = [Outgoing("message.v1.accepted.otp", b"[]", headers("message.v1.accepted.otp", id_)) for id_ in "ab"]
    async with asyncio.timeout(5):
        assert await publisher.send(messages) > 0
    assert publisher._acks == {}


async def test_a_passing_trouble_of_the_server_is_waited_out(publisher: Publisher, raw: Client) -> None:
    """As JetStream answers while it has no leader or no room."""
    trouble = {"error": {"code": 503, "err_code": 10008, "description": "JetStream system temporarily unavailable"}}
    answers = iter([trouble, {"stream": "MESSAGES", "seq": 7}])

    async def stand_in(message: Msg) -> None:
        await message.respond(json.dumps(next(answers)).encode())

    await raw.subscribe("stand.in", cb=stand_in)
    await raw.flush()
    await publisher.start()
    message = Outgoing("stand.in", b"[]", {"Nats-Msg-Id": "x", "Nats-Expected-Stream": "MESSAGES"})
    assert await asyncio.wait_for(publisher.send([message]), 5) == 7


async def test_every_caller_of_a_shared_batch_hears_that_it_failed(
    run_service: RunService, accepted: MakeAccepted, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, refusals = Publisher.send, iter([True])

    async def send(self: Publisher, messages: Sequence[Outgoing]) -> int:
        if next(refusals, False):
            raise PublishRefusedError("no")
        return await real(self, messages)

    async with run_service("ingress", nothing, ServiceSettings) as service:
        monkeypatch.setattr(Publisher, "send", send)
        calls = (service.publisher.commit(accepted()) for _ in range(3))
        async with asyncio.timeout(5):
            results = await asyncio.gather(*calls, return_exceptions=True)
            assert [type(result) for result in results] == [PublishRefusedError] * 3
            await service.publisher.commit(accepted())


async def test_a_consumer_that_gives_no_sign_of_life_is_told_and_asked_again(
    raw: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request may be lost with a leader: no error comes, no heartbeat and no message."""
    monkeypatch.setattr(pulling, "HEARTBEAT_S", 0.1)
    monkeypatch.setattr(pulling, "_SILENCE_S", 0.3)
    requests: list[Msg] = []

    async def silent(message: Msg) -> None:
        requests.append(message)

    subscription = await raw.subscribe("$JS.API.CONSUMER.MSG.NEXT.MESSAGES.silent", cb=silent)
    pull = Pull(raw, "MESSAGES", "silent")
    await pull.start()
    await until(lambda: pull.problem is not None and len(requests) > 1)
    assert pull.problem == "consumer silent gives no sign of life"
    await requests[-1].respond(b"")
    assert len(await asyncio.wait_for(pull.take(), 5)) == 1
    assert pull.problem is None
    await subscription.unsubscribe()
    await pull.close()


async def test_a_missing_consumer_is_asked_for_slowly(raw: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulling, "HEARTBEAT_S", 0.1)
    pull = Pull(raw, "MESSAGES", "missing", ack_wait_s=3.0)
    real, answers = pull._on_status, asyncio.Queue[float]()

    async def on_status(told: dict[str, str]) -> None:
        assert told["Status"] == "503"
        answers.put_nowait(asyncio.get_running_loop().time())
        await real(told)

    monkeypatch.setattr(pull, "_on_status", on_status)
    await pull.start()
    first, *_, last = [await asyncio.wait_for(answers.get(), 5) for _ in range(4)]
    assert last - first > 0.2
    assert pull.problem == "consumer missing is missing: run `harkara provision`"
    await pull.close()


async def test_a_view_whose_consumer_is_gone_reads_on_by_a_new_one(
    bus: BusProbe, run_service: RunService, raw: Client
) -> None:
    """The server forgets an ephemeral consumer after 30 s without requests, as of a process that was frozen."""
    views: list[FactView[BalanceFact]] = []

    async def build(service: Service[ServiceSettings]) -> None:
        views.append(service.view(BalanceFact))

    first = BalanceFact(version=1, account_id=new_account_id(), available_mp=5)
    fact = BalanceFact(version=1, account_id=new_account_id(), available_mp=5)
    async with run_service("ingress", build, ServiceSettings) as service:
        await bus.publish([first])
        await until(lambda: views[0].get(first.account_id) == first)  # its requests stand
        await raw.jetstream().delete_consumer("FACTS", service.facts._name)
        await bus.publish([fact])
        await until(lambda: views[0].get(fact.account_id) == fact, timeout_s=5)


async def test_replies_are_heard_again_when_their_consumer_is_gone(run_service: RunService, raw: Client) -> None:
    async def owner(service: Service[ServiceSettings]) -> None:
        service.answer(TopUp, _top_up)

    async with (
        run_service("billing", owner, ServiceSettings),
        run_service("ingress", nothing, ServiceSettings) as caller,
    ):
        assert (await caller.commands.call(_command("1"))).available_mp == 1
        await raw.jetstream().delete_consumer("REPLIES", f"replies_{caller.commands._instance}")

        async def heard() -> BalanceReply | None:
            with contextlib.suppress(HarkaraError):
                return await caller.commands.call(_command("2"), timeout_s=0.3)
            return None

        assert (await eventually(heard, timeout_s=5)).available_mp == 1


async def _top_up(_: TopUp) -> BalanceReply:
    return BalanceReply(available_mp=1, held_mp=0)


def _command(command_id: str) -> TopUp:
    return TopUp(command_id=command_id, account_id="A", amount_mp=1, reference="r")


async def test_reconnecting_never_gives_up(own_nats: OwnNats, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client's default is to close for good after 60 attempts."""
    monkeypatch.setattr(connecting, "RECONNECT_WAIT_S", 0.001)
    bus = await connect(own_nats.url, "patient")
    own_nats.kill()
    await until(lambda: bus.lost.is_set() or bus.client._server_pool[0].reconnects > 70)
    assert not bus.lost.is_set()
    await own_nats.start()
    await until(lambda: bus.connected)
    await bus.close()


async def test_a_link_that_is_half_open_is_noticed(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client's default is to ping every two minutes."""
    assert connecting.PING_INTERVAL_S * (connecting.MAX_OUTSTANDING_PINGS + 1) <= 30
    monkeypatch.setattr(connecting, "PING_INTERVAL_S", 0.05)
    async with _relay(servers.nats_url) as relay:
        bus = await connect(relay.url, "half-open")
        relay.cut.set()
        await until(lambda: not bus.connected, timeout_s=5)
        await bus.close()


async def test_after_a_reconnect_everything_is_asked_for_anew_at_once(
    own_nats: OwnNats, accepted: MakeAccepted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server has forgotten the open requests; only silence would tell of it, much later."""
    monkeypatch.setattr(pulling, "_SILENCE_S", 600.0)
    handled: asyncio.Queue[str] = asyncio.Queue()
    views: list[FactView[BalanceFact]] = []

    async def handler(events: Sequence[MessageAccepted]) -> Sequence[Event]:
        for event in events:
            handled.put_nowait(event.message_id)
        return []

    async def build(service: Service[ServiceSettings]) -> None:
        views.append(service.view(BalanceFact))
        await reading(handler)(service)

    async def owner(service: Service[ServiceSettings]) -> None:
        service.answer(TopUp, _top_up)

    settings = ServiceSettings(nats_url=SecretStr(own_nats.url))
    async with running("billing", settings, owner), running("compliance", settings, build) as service:
        assert (await service.commands.call(_command("before"))).available_mp == 1
        own_nats.kill()
        await until(lambda: not service.bus.connected)
        await own_nats.start()
        await until(lambda: service.bus.connected)
        event, fact = accepted(), BalanceFact(version=1, account_id=new_account_id(), available_mp=5)
        await service.publisher.publish([event, fact])
        assert await asyncio.wait_for(handled.get(), 5) == event.message_id
        await until(lambda: views[0].get(fact.account_id) == fact, timeout_s=5)
        assert (await service.commands.call(_command("after"))).available_mp == 1


async def test_what_fails_beside_the_handlers_ends_the_service(bus: BusProbe, run_service: RunService) -> None:
    async def background() -> None:
        raise ZeroDivisionError

    def on_change(_: BalanceFact) -> None:
        raise LookupError

    async def with_background(service: Service[ServiceSettings]) -> None:
        service.background(background, name="failing")

    async def with_view(service: Service[ServiceSettings]) -> None:
        service.view(BalanceFact, on_change=lambda fact: None if fact.account_id != account else on_change(fact))

    account = new_account_id()
    async with run_service("ingress", with_background, ServiceSettings) as service:
        with pytest.raises(ZeroDivisionError):
            await asyncio.wait_for(service.failed(), 5)
    async with run_service("ingress", with_view, ServiceSettings) as service:
        await bus.publish([BalanceFact(version=1, account_id=account, available_mp=5)])
        with pytest.raises(LookupError):
            await asyncio.wait_for(service.failed(), 5)


@pytest.mark.parametrize("concurrency", [1, 2])
async def test_a_dead_letter_that_cannot_be_kept_ends_the_service(
    bus: BusProbe, run_service: RunService, accepted: MakeAccepted, monkeypatch: pytest.MonkeyPatch, concurrency: int
) -> None:
    """Its message would else stay in hand for ever."""
    monkeypatch.setattr("harkara_chassis.consumer.MAX_DELIVERIES", 1)
    event, real = accepted(), Publisher.send

    async def send(self: Publisher, messages: Sequence[Outgoing]) -> int:
        if any(message.subject.startswith("dead.") for message in messages):
            raise PublishRefusedError("no")
        return await real(self, messages)

    async def handler(events: Sequence[MessageAccepted]) -> Sequence[Event]:
        if any(one.message_id == event.message_id for one in events):
            raise ValueError
        return []

    monkeypatch.setattr(Publisher, "send", send)
    async with run_service("compliance", reading(handler, concurrency=concurrency), ServiceSettings) as service:
        await bus.publish([event])
        with pytest.raises(PublishRefusedError):
            await asyncio.wait_for(service.failed(), 5)


@dataclass
class Relay:
    """Stands between a client and the server; once cut, it swallows everything and closes nothing."""

    url: str
    cut: asyncio.Event


@asynccontextmanager
async def _relay(server_url: str) -> AsyncIterator[Relay]:
    server = urlsplit(server_url)
    cut = asyncio.Event()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            if not cut.is_set():
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if cut.is_set():
            writer.close()
            return
        there, back = await asyncio.open_connection(server.hostname, server.port)
        await asyncio.gather(pump(reader, back), pump(there, writer), return_exceptions=True)
        back.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    try:
        yield Relay(server._replace(netloc=server.netloc.replace(str(server.port), str(port))).geturl(), cut)
    finally:
        listener.close()
