"""The open event log on a real bus and socket: what is told is read, from any place on, once, in order, by its account."""

import asyncio
import itertools
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import aiohttp
import nats
import pytest
from prometheus_client import REGISTRY

from harkara_chassis.clock import now_utc
from harkara_chassis.ordered import Span
from harkara_contracts.errors import HarkaraError
from harkara_contracts.events import ClientTold
from harkara_contracts.facts import AccountFact, ApiKeyFact
from harkara_contracts.ids import new_account_id, new_message_id
from harkara_ingress.access.accounts import hash_key
from harkara_ingress.status.event_log import BEGINNING, TRUNCATED, EventLog

_SEVEN = {"event", "message_id", "channel", "status", "carrier", "correlation_id", "timestamp"}


class Event(NamedTuple):
    id: str
    name: str
    body: dict[str, Any]


@dataclass
class Stream:
    """A connection that reads events as a browser's EventSource does."""

    response: aiohttp.ClientResponse
    comments: int = 0

    async def events(self, count: int) -> list[Event]:
        async with asyncio.timeout(10):
            return [event async for event, _ in _enumerated(self, count)]

    async def next(self) -> Event | None:
        """Return the next event, or None at the stream's end."""
        fields: dict[str, str] = {}
        while line := (await self.response.content.readline()).decode():
            name, _, value = line.rstrip("\n").partition(": ")
            if name:
                fields[name] = value
            elif value:
                self.comments += 1
            elif "data" in fields:
                return Event(fields["id"], fields["event"], json.loads(fields["data"]))
        return None


async def _enumerated(stream: Stream, count: int) -> AsyncIterator[tuple[Event, int]]:
    for number in range(count):
        event = await stream.next()
        assert event is not None, "the stream ended"
        yield event, number


@asynccontextmanager
async def following(client: Any, *, last: str | None = None, **query: str) -> AsyncIterator[Stream]:
    headers = {"Authorization": f"Bearer {client.key}"} | ({"Last-Event-ID": last} if last is not None else {})
    async with client.session.get(f"{client.base_url}/v1/events", headers=headers, params=query) as response:
        assert response.status == 200, await response.text()
        assert response.headers["Content-Type"].startswith("text/event-stream")
        yield Stream(response)


_causes = itertools.count()


def told(account_id: str, name: str = "message.sent", number: int = 0, cause: str | None = None) -> ClientTold:
    message_id = new_message_id()
    return ClientTold(
        account_id=account_id,
        cause=cause or f"{message_id}.{next(_causes)}",
        name=name,
        message_id=message_id,
        body=json.dumps({"event": name, "message_id": message_id, "number": number}),
        told_at=now_utc(),
    )


def numbers(events: list[Event]) -> list[int]:
    return [event.body["number"] for event in events]


@pytest.fixture(autouse=True)
def rights_are_looked_at_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harkara_ingress.status.event_log._LOOK_S", 0.5)


async def test_an_account_follows_its_own_events_as_they_happen(client: Any, bus: Any) -> None:
    await bus.publish([told(client.account_id, number=99)])
    async with following(client) as stream:
        mine = [told(client.account_id, number=number) for number in range(300)]
        await bus.publish([told(new_account_id(), number=98)])
        await bus.publish(mine)
        got = await stream.events(300)
    assert numbers(got) == list(range(300))
    assert got[0].body == json.loads(mine[0].body)
    assert {event.name for event in got} == {"message.sent"}
    assert len({event.id for event in got}) == 300
    assert stream.response.headers["X-Request-Id"]
    assert stream.response.headers["Cache-Control"] == "no-store"


async def test_it_goes_on_behind_any_event_without_loss_or_double(client: Any, bus: Any) -> None:
    for start in range(0, 60, 20):  # three batches
        await bus.publish([told(client.account_id, number=number) for number in range(start, start + 20)])
    async with following(client, last_event_id=BEGINNING) as stream:
        everything = await stream.events(60)
    assert numbers(everything) == list(range(60))
    for place in (0, 7, 19, 20, 38, 58):  # in the middle, and at the ends, of batches
        async with following(client, last=everything[place].id) as stream:
            assert await stream.events(59 - place) == everything[place + 1 :]
    async with following(client, last=everything[-1].id) as stream:
        await bus.publish([told(client.account_id, number=60)])
        assert numbers(await stream.events(1)) == [60]


async def test_one_process_goes_on_where_another_ended(start_edge: Any, bus: Any) -> None:
    async with start_edge() as one, start_edge() as other:
        client = await one.client(bus)
        beside = type(client)(other.session, other.base_url, client.account_id, client.key)
        async with asyncio.timeout(5):
            while (await beside.call("GET", "/v1/messages"))[0] == 401:
                await asyncio.sleep(0.02)
        async with following(client) as stream:
            await bus.publish([told(client.account_id, number=number) for number in range(5)])
            read = await stream.events(3)
        async with following(beside, last=read[-1].id) as stream:
            await bus.publish([told(client.account_id, number=5)])
            assert numbers(await stream.events(3)) == [3, 4, 5]


async def test_it_can_be_iterated_by_who_hands_on_one_at_a_time(edge: Any, bus: Any) -> None:
    account_id = new_account_id()
    log = EventLog(edge.service.bus, 1, 1)
    async with log.follow(account_id) as events:
        await bus.publish([told(account_id, number=number) for number in range(4)])
        got = []
        async for event in events:
            got.append(json.loads(event.body)["number"])
            if len(got) == 4:
                break
        assert got == [0, 1, 2, 3]
        events.end()
        assert [event async for event in events] == []


async def test_the_header_is_newer_than_the_query(client: Any, bus: Any) -> None:
    """A browser goes on with the URL it began with, and tells where it is by the header."""
    await bus.publish([told(client.account_id, number=number) for number in range(4)])
    async with following(client, last_event_id=BEGINNING) as stream:
        events = await stream.events(4)
    async with following(client, last=events[2].id, last_event_id=BEGINNING) as stream:
        assert await stream.events(1) == events[3:]


async def test_a_repeat_in_another_batch_is_given_once(client: Any, bus: Any) -> None:
    """As whoever tells may do after a crash."""
    events = [told(client.account_id, number=number) for number in range(10)]
    async with following(client) as stream:
        await bus.publish(events[:6])
        await bus.publish(events[3:])
        assert numbers(await stream.events(10)) == list(range(10))


async def test_only_the_wanted_types_come(client: Any, bus: Any) -> None:
    async with following(client, types="message.failed, campaign.completed") as stream:
        names = ["message.sent", "message.failed", "message.delivered", "campaign.completed"]
        await bus.publish([told(client.account_id, name) for name in names])
        got = await stream.events(2)
    assert [event.name for event in got] == ["message.failed", "campaign.completed"]


@pytest.mark.parametrize(
    "query", ["types=message.snet", "types=,", "last_event_id=abc", "last_event_id=1-", "last_event_id=-1-0"]
)
async def test_what_is_no_id_or_type_is_refused(client: Any, query: str) -> None:
    status, body, _ = await client.call("GET", f"/v1/events?{query}")
    assert (status, body["error_code"]) == (400, "ERR_INVALID_REQUEST")


async def test_a_key_needs_the_right_to_read(edge: Any, bus: Any) -> None:
    client = await edge.client(bus, of_key={"scopes": ["send"]})
    status, body, _ = await client.call("GET", "/v1/events")
    assert (status, body["error_code"]) == (403, "ERR_FORBIDDEN")
    assert (await client.call("GET", "/v1/events", key="hk_live_nobody"))[0] == 401
    status, _, _ = await edge.operator().call("GET", "/v1/events")
    assert status == 403


async def test_who_comes_back_too_late_is_told_so(client: Any, bus: Any, servers: Any) -> None:
    await bus.publish([told(client.account_id, number=1)])
    async with following(client, last_event_id=BEGINNING) as stream:
        [first] = await stream.events(1)
    kept = await bus.publish([told(client.account_id, number=number) for number in (2, 3)])
    raw = await nats.connect(servers.nats_url)
    await raw.request("$JS.API.STREAM.PURGE.CLIENT", json.dumps({"seq": kept}).encode())
    await raw.close()
    await bus.publish([told(client.account_id, number=4)])
    late = f"{int(first.id.partition('-')[0]) - 1}-0"
    async with following(client, last=late) as stream:
        truncated, *rest = await stream.events(4)
    assert truncated.name == truncated.body["event"] == TRUNCATED
    assert truncated.body.keys() >= _SEVEN
    assert numbers(rest) == [2, 3, 4]
    # That was told once: who goes on behind it has what is kept, and no second warning.
    async with following(client, last=truncated.id) as stream:
        assert await stream.events(3) == rest
    # Nor is there any for who asks for everything that is kept, or has seen all that is gone.
    async with following(client, last_event_id=BEGINNING) as stream:
        assert numbers(await stream.events(1)) == [2]


async def test_an_id_from_nowhere_gets_everything_and_a_warning(client: Any, bus: Any) -> None:
    """As of a stream that was lost and begun anew."""
    await bus.publish([told(client.account_id, number=1)])
    async with following(client, last="999999999999999-3") as stream:
        truncated, one = await stream.events(2)
    assert (truncated.name, one.body["number"]) == (TRUNCATED, 1)


@pytest.mark.parametrize(
    ("after", "start", "is_truncated"),
    [
        (None, 20, False),
        ("0", 0, False),
        ("15-3", 14, False),
        ("10-0", 9, False),
        ("9-255", 8, False),
        ("9-0", 9, True),
        ("5-0", 9, True),
        ("20-0", 19, False),
        ("21-0", 9, True),
    ],
)
def test_the_start_in_a_stream_that_keeps_10_to_20(after: str | None, start: int, is_truncated: bool) -> None:
    log = EventLog(_NoBus(), 1, 1)  # type: ignore[arg-type]  # nothing is read here
    reader = log.follow("ACC1", after)
    assert reader.start_in(Span(10, 20)) == start
    assert bool(reader._ready) is is_truncated


def test_an_empty_stream_has_a_start_too() -> None:
    log = EventLog(_NoBus(), 1, 1)  # type: ignore[arg-type]  # as above
    assert log.follow("ACC1").start_in(Span(1, 0)) == 0
    assert log.follow("ACC1", "0").start_in(Span(1, 0)) == 0
    with pytest.raises(HarkaraError):
        log.follow("ACC1", "zero")


class _NoBus:
    def on_reconnect(self, _: object) -> None:
        """Nothing ever comes back."""


async def test_a_quiet_stream_shows_that_it_lives(start_edge: Any, bus: Any) -> None:
    async with start_edge(event_heartbeat_s=0.05) as edge:
        client = await edge.client(bus)
        async with following(client) as stream, asyncio.timeout(5):
            waiting = asyncio.create_task(stream.next())
            while stream.comments < 4:
                await asyncio.sleep(0.01)
            await bus.publish([told(client.account_id)])
            assert await waiting is not None


async def test_so_many_streams_are_open_at_once(start_edge: Any, bus: Any) -> None:
    async with start_edge(max_event_streams=3, max_event_streams_per_account=2) as edge:
        client, other, third = [await edge.client(bus) for _ in range(3)]
        async with following(client), following(client) as second:
            status, body, headers = await client.call("GET", "/v1/events")
            assert (status, body["error_code"], headers["Retry-After"]) == (429, "ERR_RATE_LIMIT_EXCEEDED", "30")
            async with following(other):
                status, body, headers = await third.call("GET", "/v1/events")
                assert (status, body["error_code"], headers["Retry-After"]) == (503, "ERR_UNAVAILABLE", "2")
            # Other requests are not kept out by streams.
            assert (await third.call("GET", "/v1/messages"))[0] == 200
            second.response.close()
            async with asyncio.timeout(5):
                while await _status(client) != 200:
                    await asyncio.sleep(0.02)


async def _status(client: Any) -> int:
    headers = {"Authorization": f"Bearer {client.key}"}
    async with client.session.get(f"{client.base_url}/v1/events", headers=headers) as response:
        return int(response.status)


async def test_a_revoked_key_reads_no_longer(edge: Any, bus: Any) -> None:
    kept, lost = await edge.client(bus), await edge.client(bus, of_key={"key_id": "KEYLOST"})
    async with following(kept) as mine, following(lost) as theirs:
        gone: dict[str, Any] = {"account_id": lost.account_id, "key_hash": hash_key(lost.key), "scopes": []}
        await bus.publish([ApiKeyFact(version=2**62, deleted=True, key_id="KEYLOST", **gone)])
        async with asyncio.timeout(10):
            assert await theirs.next() is None
        await bus.publish([told(kept.account_id)])
        await mine.events(1)


async def test_a_suspended_account_reads_no_longer(edge: Any, bus: Any) -> None:
    client = await edge.client(bus)
    async with following(client) as stream:
        await bus.publish(
            [
                AccountFact(
                    version=2**62, account_id=client.account_id, name="Test", plan="enterprise", status="suspended"
                )
            ]
        )
        async with asyncio.timeout(10):
            assert await stream.next() is None


async def test_at_the_drain_a_stream_says_good_bye(start_edge: Any, bus: Any) -> None:
    async with aiohttp.ClientSession() as session:
        async with start_edge() as edge:
            client = await edge.client(bus)
            client = type(client)(session, client.base_url, client.account_id, client.key)
            context = following(client)
            stream = await context.__aenter__()
            await bus.publish([told(client.account_id)])
            await stream.events(1)
            began = asyncio.get_running_loop().time()
        # The edge has ended, well before the time that a drain may take.
        assert asyncio.get_running_loop().time() - began < 5
        assert await stream.next() is None
        assert stream.comments >= 2
        await context.__aexit__(None, None, None)


async def test_a_client_that_does_not_read_is_let_go_and_harms_nobody(start_edge: Any, bus: Any) -> None:
    async with start_edge(write_timeout_s=0.5) as edge:
        client = await edge.client(bus)
        host, port = edge.base_url.removeprefix("http://").split(":")
        with socket.socket() as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            deaf.connect((host, int(port)))
            deaf.sendall(
                b"GET /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + client.key.encode() + b"\r\n\r\n"
            )
            async with following(client) as stream:
                padding = [told(client.account_id, number=number) for number in range(250)]
                padding = [
                    one.model_copy(update={"body": one.body[:-1] + ',"x":"' + 900 * "x" + '"}'}) for one in padding
                ]
                for _ in range(40):
                    batch = [one.model_copy(update={"cause": f"{one.cause}.{next(_causes)}"}) for one in padding]
                    await bus.publish(batch)
                got = await stream.events(40 * 250)
                assert numbers(got) == [*range(250)] * 40
            deaf.setblocking(False)
            async with asyncio.timeout(20):
                while REGISTRY.get_sample_value("harkara_event_streams"):
                    await asyncio.sleep(0.02)
                assert await _drained(deaf) < 40 * 250 * 900


async def _drained(connection: socket.socket) -> int:
    """Count what comes until the other side has cut the connection."""
    loop = asyncio.get_running_loop()
    size = 0
    try:
        while data := await loop.sock_recv(connection, 65_536):
            size += len(data)
    except ConnectionResetError:
        pass
    return size
