"""What the bus and its client do to the unwary, one test a trap, each on the real server.

Take a guard out of the chassis and its test here fails.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import urllib.request
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from libs.chassis.tests.conftest import OwnNats
from libs.chassis.tests.helpers import (
    DURABLE,
    ConsumerInfo,
    Defer,
    MakeAccepted,
    by_id,
    eventually,
    reading,
    until,
)
from nats.aio.client import Client
from nats.aio.msg import Msg
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pydantic import SecretStr

from harkara_chassis import ServiceSettings, provisioner
from harkara_chassis import publisher as publishing
from harkara_chassis import pull as pulling
from harkara_chassis.connection import connect
from harkara_chassis.dead import DeadLetter, list_dead
from harkara_chassis.publisher import Outgoing, Publisher, PublishRefusedError, headers
from harkara_chassis.service import Service, running
from harkara_chassis.tracing import Tracing
from harkara_contracts import consumers
from harkara_contracts.events import Event, MessageAccepted, MessageDeferred
from harkara_contracts.facts import CarrierHealthFact
from harkara_contracts.subjects import Channel

if TYPE_CHECKING:
    from conftest import BusProbe, RunService, Servers

REPOSITORY = Path(__file__).parents[3]


async def test_1_a_handlers_exception_does_not_destroy_the_message(
    bus: BusProbe, run_service: RunService, accepted: MakeAccepted, deferred: Defer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harkara_chassis.faults.FIRST_RETRY_S", 0.01)
    failures = iter([True, True])

    async def handler(events: Sequence[MessageAccepted]) -> Sequence[Event]:
        if next(failures, False):
            raise ValueError
        return [deferred(event) for event in events]

    async with run_service("compliance", reading(handler), ServiceSettings):
        event = accepted()
        await bus.publish([event])
        assert await bus.next(MessageDeferred, by_id(event))


async def test_2_a_failed_publish_of_the_result_leaves_the_input_to_be_handled_again(
    bus: BusProbe, run_service: RunService, accepted: MakeAccepted, deferred: Defer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harkara_chassis.faults.FIRST_RETRY_S", 0.01)
    real_send, refusals = Publisher.send, iter([True, True])

    async def send(self: Publisher, messages: Sequence[Outgoing]) -> int:
        if messages and "deferred" in messages[0].subject and next(refusals, False):
            raise PublishRefusedError("no")
        return await real_send(self, messages)

    async def handler(events: Sequence[MessageAccepted]) -> Sequence[Event]:
        return [deferred(event) for event in events]

    monkeypatch.setattr(Publisher, "send", send)
    async with run_service("compliance", reading(handler), ServiceSettings):
        event = accepted()
        await bus.publish([event])
        assert await bus.next(MessageDeferred, by_id(event))


async def test_3_a_publish_whose_ack_is_lost_is_repeated_and_stored_once(
    servers: Servers, raw: Client, accepted: MakeAccepted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publishing, "ACK_TIMEOUT_S", 0.2)
    connection = await connect(servers.nats_url, "trap3", closing_is_loss=lambda: False)
    publisher = Publisher(connection.client, "trap3")
    lost = iter([True])
    real = publisher._on_ack

    async def on_ack(message: Msg) -> None:
        if not next(lost, False):
            await real(message)

    monkeypatch.setattr(publisher, "_on_ack", on_ack)
    await publisher.start()
    before = (await raw.jetstream().stream_info("MESSAGES")).state.messages
    sequence = await publisher.publish([accepted()])
    after = (await raw.jetstream().stream_info("MESSAGES")).state
    assert after.messages == before + 1
    assert sequence == after.last_seq
    await connection.close()


async def test_4_services_declare_nothing_and_the_provisioner_puts_right_what_differs(
    run_service: RunService, raw: Client, servers: Servers
) -> None:
    async def handler(_: Sequence[MessageAccepted]) -> Sequence[Event]:
        return []

    stream = raw.jetstream()
    right = (await stream.stream_info("MESSAGES")).config
    async with run_service("compliance", reading(handler), ServiceSettings) as service:
        assert (await stream.stream_info("MESSAGES")).config == right
        assert service.health().problems == []
        await stream.update_stream(right.evolve(max_age=3600))
        await until(lambda: "stream MESSAGES differs in max_age" in service.health().problems)
        await provisioner.provision(servers.nats_url)
        await until(lambda: service.health().is_ready)
    assert (await stream.stream_info("MESSAGES")).config.max_age == right.max_age


@pytest.mark.parametrize("concurrency", [1, 2])
async def test_5_no_more_is_fetched_than_can_be_worked_on(
    bus: BusProbe, run_service: RunService, accepted: MakeAccepted, consumer_info: ConsumerInfo, concurrency: int
) -> None:
    release = asyncio.Event()

    async def handler(_: Sequence[MessageAccepted]) -> Sequence[Event]:
        await release.wait()
        return []

    async with run_service("compliance", reading(handler, concurrency=concurrency), ServiceSettings):
        for _ in range(200):
            await bus.publish([accepted()])
        info = await eventually(lambda: _pending(consumer_info, 200))
        assert info["num_ack_pending"] <= 64 * concurrency
        release.set()
        await eventually(lambda: _pending(consumer_info, 0))


async def _pending(consumer_info: ConsumerInfo, total: int) -> dict[str, Any] | None:
    info = await consumer_info("MESSAGES", DURABLE)
    return info if info["num_ack_pending"] + info["num_pending"] == total else None


async def test_6_at_the_drain_work_is_finished_and_the_rest_given_back_at_once(
    bus: BusProbe, run_service: RunService, accepted: MakeAccepted, long_ack_wait: None
) -> None:
    begun, release = asyncio.Event(), asyncio.Event()
    handled: list[str] = []

    async def handler(events: Sequence[MessageAccepted]) -> Sequence[Event]:
        begun.set()
        await release.wait()
        handled.extend(event.message_id for event in events)
        return []

    sent = [accepted() for _ in range(40)]
    async with run_service("compliance", reading(handler), ServiceSettings, max_batch_events=1) as service:
        for event in sent:
            await bus.publish([event])
        await begun.wait()
        stopping = asyncio.create_task(service.stop())
        await until(service.stopping.is_set)
        assert service.health().problems == ["draining"]
        release.set()
        await stopping
        assert handled, "what was in hand is finished"

    async with run_service("compliance", reading(handler), ServiceSettings):
        # Well within the ack_wait of a minute: what was given back comes at once.
        await until(lambda: set(handled) == {event.message_id for event in sent}, timeout_s=20)


async def test_7_a_durable_that_differs_is_told_and_mended(
    raw: Client, servers: Servers, consumer_info: ConsumerInfo
) -> None:
    wanted = dict(provisioner.consumer_configs()[0][1])
    changed = wanted | {"ack_wait": 99_000_000_000}
    body = json.dumps({"stream_name": "MESSAGES", "config": changed}).encode()
    await raw.request(f"$JS.API.CONSUMER.CREATE.MESSAGES.{wanted['durable_name']}", body)
    assert await provisioner.differences(raw, "compliance") == [
        f"consumer {wanted['durable_name']} differs in ack_wait"
    ]
    assert await provisioner.provision(servers.nats_url) == [f"consumer {wanted['durable_name']} updated: ack_wait"]
    assert await provisioner.differences(raw) == []


async def test_8_a_deleted_consumer_is_told_from_an_idle_one_and_comes_back(
    bus: BusProbe,
    run_service: RunService,
    raw: Client,
    servers: Servers,
    accepted: MakeAccepted,
    deferred: Defer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pulling, "HEARTBEAT_S", 0.3)
    monkeypatch.setattr(pulling, "_SILENCE_S", 0.7)

    async def handler(events: Sequence[MessageAccepted]) -> Sequence[Event]:
        return [deferred(event) for event in events]

    async with run_service("compliance", reading(handler), ServiceSettings) as service:
        await raw.jetstream().delete_consumer("MESSAGES", DURABLE)
        pull = next(loop.pull for loop in service.loops if loop.durable == DURABLE)
        await until(lambda: pull.problem is not None)
        await until(lambda: f"consumer {DURABLE} is missing" in service.health().problems)
        await provisioner.provision(servers.nats_url)
        event = accepted()
        await bus.publish([event])
        assert await bus.next(MessageDeferred, by_id(event), timeout_s=15)
        await until(lambda: service.health().is_ready)


async def test_9_a_retry_waits_longer_each_time_and_the_last_goes_to_dead(
    bus: BusProbe, run_service: RunService, servers: Servers, accepted: MakeAccepted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harkara_chassis.faults.FIRST_RETRY_S", 0.05)
    bad = accepted()
    calls: list[float] = []

    async def handler(events: Sequence[MessageAccepted]) -> Sequence[Event]:
        if any(event.message_id == bad.message_id for event in events):
            calls.append(asyncio.get_running_loop().time())
            raise ValueError
        return []

    async def dead() -> list[DeadLetter]:
        return [letter for letter in await list_dead(servers.nats_url) if bad.message_id.encode() in letter.body]

    async with run_service("compliance", reading(handler), ServiceSettings):
        await bus.publish([bad])
        (letter,) = await eventually(dead)
    assert letter.deliveries == 6
    deliveries = calls[::2]  # each delivery tries the batch, then the event alone
    gaps = [later - earlier for earlier, later in itertools.pairwise(deliveries)]
    assert all(gap >= 0.05 * 2**n * 0.9 for n, gap in enumerate(gaps)), gaps


async def test_10_publishing_where_no_stream_listens_is_never_taken_for_done(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publishing, "ACK_TIMEOUT_S", 0.1)
    connection = await connect(servers.nats_url, "trap10", closing_is_loss=lambda: False)
    publisher = Publisher(connection.client, "trap10")
    await publisher.start()
    with pytest.raises(KeyError):
        headers("nowhere.v1.thing", "id")
    unbound = Outgoing("nowhere.v1.thing", b"[]", {"Nats-Msg-Id": "x", "Nats-Expected-Stream": "MESSAGES"})
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.6):
            await publisher.send([unbound])
    wrong = Outgoing("message.v1.accepted.otp", b"[]", {"Nats-Msg-Id": "y", "Nats-Expected-Stream": "ATTEMPTS"})
    with pytest.raises(PublishRefusedError):
        await asyncio.wait_for(publisher.send([wrong]), 5)
    await connection.close()


def test_10_nothing_but_the_chassis_speaks_to_the_bus() -> None:
    allowed = {"libs/chassis"}
    sources = [*REPOSITORY.glob("services/*/src/**/*.py"), *REPOSITORY.glob("libs/*/src/**/*.py")]
    guilty = [
        str(file.relative_to(REPOSITORY))
        for file in sources
        if not any(str(file.relative_to(REPOSITORY)).startswith(one) for one in allowed)
        and any(line.startswith(("import nats", "from nats")) for line in file.read_text().splitlines())
    ]
    assert len(sources) > 50
    assert guilty == []


async def test_11_and_15_a_restarted_server_is_found_again_and_views_go_on(
    own_nats: OwnNats, accepted: MakeAccepted, deferred: Defer
) -> None:
    """The client gives up after two minutes by default, and a watch goes on only seconds after a restart."""
    handled: asyncio.Queue[str] = asyncio.Queue()
    changes: asyncio.Queue[CarrierHealthFact] = asyncio.Queue()

    async def handler(events: Sequence[MessageAccepted]) -> Sequence[Event]:
        for event in events:
            handled.put_nowait(event.message_id)
        return [deferred(event) for event in events]

    async def build(service: Service[ServiceSettings]) -> None:
        service.view(CarrierHealthFact, on_change=changes.put_nowait)
        service.consume(consumers.COMPLIANCE_MESSAGES, handler)

    def health(number: int, *, healthy: bool) -> CarrierHealthFact:
        return CarrierHealthFact(
            version=number, channel=Channel.SMS, carrier="jio", healthy=healthy, changed_at=accepted().accepted_at
        )

    async with running("compliance", ServiceSettings(nats_url=SecretStr(own_nats.url)), build) as service:
        await service.publisher.publish([accepted(), health(1, healthy=True)])
        await handled.get()
        assert (await changes.get()).healthy
        own_nats.kill()
        await until(lambda: not service.bus.connected)
        assert service.health().problems == ["the bus is away"]
        waiting = asyncio.create_task(service.publisher.publish([accepted(), health(2, healthy=False)]))
        await own_nats.start()
        async with asyncio.timeout(15):
            assert await waiting
            await handled.get()
            assert not (await changes.get()).healthy
        await until(lambda: service.health().is_ready)


async def test_11_a_connection_closed_for_good_ends_the_service(own_nats: OwnNats) -> None:
    async def build(_: Service[ServiceSettings]) -> None:
        return

    async with running("compliance", ServiceSettings(nats_url=SecretStr(own_nats.url)), build) as service:
        await service.bus.client.close()
        with pytest.raises(ConnectionError, match="closed for good"):
            await asyncio.wait_for(service.failed(), 5)


async def test_12_what_is_acknowledged_is_on_the_disk(servers: Servers) -> None:
    port = servers.stack.ports["nats.monitoring"]
    jetstream = json.load(urllib.request.urlopen(f"http://127.0.0.1:{port}/jsz"))  # noqa: ASYNC210
    assert jetstream["config"]["sync_always"] is True


async def test_13_the_window_for_doubles_is_ten_minutes_on_the_sagas_streams(raw: Client) -> None:
    for name in ("MESSAGES", "ATTEMPTS", "INBOUND"):
        assert (await raw.jetstream().stream_info(name)).config.duplicate_window == 600


async def test_14_requests_that_ran_out_are_renewed(
    bus: BusProbe, run_service: RunService, accepted: MakeAccepted, deferred: Defer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulling, "EXPIRES_S", 0.3)
    monkeypatch.setattr(pulling, "HEARTBEAT_S", 0.1)

    async def handler(events: Sequence[MessageAccepted]) -> Sequence[Event]:
        return [deferred(event) for event in events]

    async with run_service("compliance", reading(handler), ServiceSettings) as service:
        pull = service.loops[0].pull
        renewals: list[int] = []
        real = pull._on_status

        async def on_status(told: dict[str, str]) -> None:
            renewals.append(int(told["Status"]))
            await real(told)

        monkeypatch.setattr(pull, "_on_status", on_status)
        await until(lambda: renewals.count(408) >= 3)
        event = accepted()
        await bus.publish([event])
        assert await bus.next(MessageDeferred, by_id(event))


def test_14_the_client_is_new_enough_for_its_fetch_repairs() -> None:
    assert tuple(int(part) for part in version("nats-py").split(".")[:2]) >= (2, 15)


async def test_15_timers_and_ttls_are_allowed_from_the_first_day(raw: Client) -> None:
    answer = json.loads((await raw.request("$JS.API.STREAM.INFO.TIMERS", b"")).data)
    assert answer["config"]["allow_msg_schedules"] is True
    assert answer["config"]["allow_msg_ttl"] is True


async def test_16_a_step_is_the_child_of_the_step_before_it(
    bus: BusProbe, run_service: RunService, accepted: MakeAccepted, deferred: Defer, raw: Client
) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracing = Tracing("compliance", "test", None, 0)
    tracing._tracer = provider.get_tracer("test")
    event = accepted()

    async def handler(events: Sequence[MessageAccepted]) -> Sequence[Event]:
        return [deferred(one) for one in events]

    async def build(service: Service[ServiceSettings]) -> None:
        service.tracing = tracing
        service.consume(consumers.COMPLIANCE_MESSAGES, handler)

    edge = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    async with run_service("compliance", build, ServiceSettings) as service:
        await service.publisher.publish([event], {event.message_id: edge})
        await bus.next(MessageDeferred, by_id(event))
    (span,) = exporter.get_finished_spans()
    assert span.context is not None
    assert span.parent is not None
    assert f"{span.context.trace_id:032x}" == edge.split("-")[1]
    assert f"{span.parent.span_id:016x}" == edge.split("-")[2]
    last = await raw.jetstream().get_last_msg("MESSAGES", "message.v1.deferred.otp")
    (record,) = [one for one in json.loads(last.data or b"[]") if event.message_id in one["id"]]
    assert record["traceparent"].split("-")[2] == f"{span.context.span_id:016x}"


async def test_17_what_cannot_be_read_goes_to_dead_on_first_sight_and_alone(
    bus: BusProbe,
    run_service: RunService,
    raw: Client,
    servers: Servers,
    accepted: MakeAccepted,
    deferred: Defer,
    consumer_info: ConsumerInfo,
) -> None:
    async def handler(events: Sequence[MessageAccepted]) -> Sequence[Event]:
        return [deferred(event) for event in events]

    stream = raw.jetstream()
    good = accepted()
    last_good = await stream.publish("message.v1.accepted.otp", b"123456")
    async with run_service("compliance", reading(handler), ServiceSettings):
        await bus.publish([good])
        await bus.next(MessageDeferred, by_id(good))
        stored = await stream.get_last_msg("MESSAGES", "message.v1.accepted.otp")
        assert stored.headers == {
            "Content-Type": "application/cloudevents-batch+json",
            "Nats-Msg-Id": good.event_id(),
            "Nats-Expected-Stream": "MESSAGES",
        }
        fresh = accepted()
        record = json.loads(stored.data or b"[]")[0]
        fine = record | {"id": fresh.event_id(), "data": json.loads(fresh.model_dump_json())}
        spoilt = fine | {"id": "spoilt", "data": {"message_id": "spoilt-one"}}
        stranger = fine | {"id": "stranger", "type": "message.accepted.v9"}
        await stream.publish("message.v1.accepted.otp", json.dumps([fine, spoilt, stranger]).encode())
        await bus.next(MessageDeferred, by_id(fresh))
        await eventually(lambda: _pending(consumer_info, 0))
    letters = await list_dead(servers.nats_url, 20)
    garbage = [letter for letter in letters if letter.body == b"123456"]
    spoilt_letters = [letter for letter in letters if b"spoilt-one" in letter.body]
    strangers = [letter for letter in letters if b"message.accepted.v9" in letter.body]
    assert [letter.deliveries for letter in (*garbage, *spoilt_letters, *strangers)] == [1, 1, 1]
    assert last_good.seq > 0
    assert "919876543210" not in "".join(letter.reason for letter in letters)


async def test_18_the_server_is_a_sound_one_and_filters_are_few(raw: Client) -> None:
    assert raw.connected_server_version.major >= 2
    assert str(raw._server_info["version"]) not in {"2.12.3", "2.12.4"}
    for spec in consumers.CONSUMERS:
        assert len(spec.filters(spec.lanes[0])) < 20


async def test_an_unreachable_bus_is_told_in_plain_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harkara_chassis.connection.FIRST_CONNECT_TIMEOUT_S", 0.5)
    with pytest.raises(ConnectionError, match="no NATS server can be reached"):
        await connect("nats://127.0.0.1:1", "nobody")
