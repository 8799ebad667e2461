"""Reading along a stream on the real server: from any place on, in order, each once, whatever becomes of the consumer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import nats
import pytest
from libs.chassis.tests.conftest import OwnNats
from libs.chassis.tests.helpers import eventually, until
from nats.aio.client import Client

from harkara_chassis import pull as pulling
from harkara_chassis.clock import now_utc
from harkara_chassis.connection import Bus, connect
from harkara_chassis.ordered import OrderedReader, span_of
from harkara_chassis.publisher import Publisher
from harkara_contracts.events import ClientTold
from harkara_contracts.ids import new_account_id
from harkara_contracts.streams import CLIENT, StreamSpec

if TYPE_CHECKING:
    from conftest import BusProbe, Servers

AHEAD = 8
"""Messages that one reader may have in memory."""


def told(account_id: str, number: int) -> ClientTold:
    return ClientTold(
        account_id=account_id,
        cause=f"{account_id}.{number}",
        name="message.sent",
        message_id=f"M{number}",
        body=str(number),
        told_at=now_utc(),
    )


def subject_of(account_id: str) -> str:
    return f"client.v1.told.{account_id}"


@pytest.fixture
def account_id() -> str:
    return new_account_id()


@pytest.fixture
async def connection(servers: Servers) -> AsyncIterator[Bus]:
    connection = await connect(servers.nats_url, "reader", closing_is_loss=lambda: False)
    yield connection
    await connection.close()


@asynccontextmanager
async def reading(client: Client, account_id: str, after: int) -> AsyncIterator[OrderedReader]:
    reader = OrderedReader(client, CLIENT, subject_of(account_id), after, "test")
    yield reader
    await reader.close()


async def numbers(reader: OrderedReader, count: int) -> list[int]:
    """Take until so many events are there, and return their numbers in the order of arrival."""
    found: list[int] = []
    async with asyncio.timeout(20):
        while len(found) < count:
            messages = await reader.take()
            assert messages, "the reader ended"
            found += [int(one["data"]["body"]) for message in messages for one in json.loads(message.payload)]
    return found


async def consumers_of(client: Client, subject: str) -> list[str]:
    answer = json.loads((await client.request("$JS.API.CONSUMER.LIST.CLIENT", b"")).data)
    return [one["name"] for one in answer.get("consumers") or () if one["config"].get("filter_subject") == subject]


async def test_what_lies_behind_a_place_comes_in_order_and_then_what_happens(
    connection: Bus, bus: BusProbe, account_id: str
) -> None:
    places = [await bus.publish([told(account_id, number)]) for number in range(40)]
    await bus.publish([told(new_account_id(), 99)])
    async with reading(connection.client, account_id, places[9]) as reader:
        assert await numbers(reader, 30) == list(range(10, 40))
        await bus.publish([told(account_id, 40)])
        assert await numbers(reader, 1) == [40]


async def test_the_span_of_a_stream_is_told(connection: Bus, bus: BusProbe, account_id: str) -> None:
    last = await bus.publish([told(account_id, 1)])
    span = await span_of(connection.client, CLIENT)
    assert span.last == last
    assert 1 <= span.first <= last
    with pytest.raises(ConnectionError):
        await span_of(connection.client, StreamSpec("NOWHERE", ("nowhere.>",), 0.0, 0.0))


async def test_a_lost_consumer_is_made_anew_where_reading_was(connection: Bus, bus: BusProbe, account_id: str) -> None:
    client = connection.client
    async with reading(client, account_id, await bus.publish([told(account_id, 0)])) as reader:
        for number in range(1, 4):
            await bus.publish([told(account_id, number)])
            assert await numbers(reader, 1) == [number]
            [name] = await consumers_of(client, subject_of(account_id))
            await client.request(f"$JS.API.CONSUMER.DELETE.CLIENT.{name}", b"")


async def test_a_message_that_went_another_way_is_asked_for_again(
    connection: Bus, raw: Client, bus: BusProbe, account_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request of somebody else at the same consumer takes one away, as a lost connection does."""
    monkeypatch.setattr(pulling, "HEARTBEAT_S", 0.3)
    monkeypatch.setattr(pulling, "EXPIRES_S", 1.0)
    client = connection.client
    async with reading(client, account_id, await bus.publish([told(account_id, 0)])) as reader:
        first = asyncio.create_task(numbers(reader, 4))
        [name] = await eventually(lambda: consumers_of(client, subject_of(account_id)))
        stolen = asyncio.create_task(raw.request(f"$JS.API.CONSUMER.MSG.NEXT.CLIENT.{name}", b"", timeout=10))
        await raw.flush()
        number = 0
        while not stolen.done() or number < 4:
            number += 1
            await bus.publish([told(account_id, number)])
            await asyncio.sleep(0)
        found = await first
        found += await numbers(reader, number - len(found)) if number > len(found) else []
        assert found == list(range(1, number + 1))


async def test_a_reader_that_does_not_take_makes_nobody_fetch(
    connection: Bus, bus: BusProbe, account_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often its requests run out meanwhile with only some of what they asked for."""
    monkeypatch.setattr(pulling, "HEARTBEAT_S", 0.05)
    monkeypatch.setattr(pulling, "EXPIRES_S", 0.15)
    client = connection.client
    async with reading(client, account_id, await bus.publish([told(account_id, 0)])) as reader:
        await bus.publish([told(account_id, 1)])
        assert await numbers(reader, 1) == [1]
        for number in range(2, 32):
            await bus.publish([told(account_id, number)])
            if number % 3 == 0:
                await asyncio.sleep(2 * pulling.EXPIRES_S)  # a time-out is to pass
        [name] = await consumers_of(client, subject_of(account_id))
        info = json.loads((await client.request(f"$JS.API.CONSUMER.INFO.CLIENT.{name}", b"")).data)
        assert info["num_pending"] >= 30 - AHEAD
        assert await numbers(reader, 30) == list(range(2, 32))


async def test_the_end_is_told_to_who_waits(connection: Bus, bus: BusProbe, account_id: str) -> None:
    async with reading(connection.client, account_id, await bus.publish([told(account_id, 0)])) as reader:
        waiting = asyncio.create_task(reader.take())
        await eventually(lambda: consumers_of(connection.client, subject_of(account_id)))
        reader.end()
        async with asyncio.timeout(5):
            assert await waiting == []
            assert await reader.take() == []


async def test_a_restarted_server_costs_a_reader_nothing(own_nats: OwnNats, account_id: str) -> None:
    connection = await connect(own_nats.url, "reader", closing_is_loss=lambda: False)
    publisher = Publisher(connection.client, "test")
    await publisher.start()
    async with reading(connection.client, account_id, 0) as reader:
        connection.on_reconnect(_calling(reader.restart))
        await publisher.publish([told(account_id, number) for number in range(3)])
        assert await numbers(reader, 3) == [0, 1, 2]
        waiting = asyncio.create_task(numbers(reader, 2))
        own_nats.kill()
        await until(lambda: not connection.connected)
        await own_nats.start()
        client = await nats.connect(own_nats.url)
        other = Publisher(client, "test")
        await other.start()
        await other.publish([told(account_id, 3)])
        await other.publish([told(account_id, 4)])
        assert await waiting == [3, 4]
        await client.close()
    await connection.close()


def _calling(plain: Callable[[], None]) -> Any:
    async def call() -> None:
        plain()

    return call
