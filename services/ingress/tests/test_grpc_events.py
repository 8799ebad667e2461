"""The open event log over gRPC: followed as it happens, and resumed."""

import asyncio
import itertools
import json
from typing import Any

import grpc
import pytest
from services.ingress.tests.grpc_client import Grpc, GrpcEdge, connected, refused

from harkara_chassis.clock import now_utc
from harkara_contracts.events import ClientTold
from harkara_contracts.facts import ApiKeyFact
from harkara_contracts.ids import new_id, new_message_id
from harkara_ingress.access.accounts import hash_key, new_api_key
from harkara_ingress.grpc.gen.harkara.v1 import events_pb2 as pb

_causes = itertools.count()


def told(account_id: str, name: str = "message.delivered", **fields: Any) -> ClientTold:
    message_id = new_message_id()
    body = {
        "event": name,
        "message_id": message_id,
        "status": "DELIVERED",
        "channel": "sms",
        "carrier": None,
        "correlation_id": "order-7",
        "timestamp": "2026-11-22T10:00:00.250Z",
        "latency_ms": 1200,
    } | fields
    return ClientTold(
        account_id=account_id,
        cause=f"{message_id}.{next(_causes)}",
        name=name,
        message_id=message_id,
        body=json.dumps(body),
        told_at=now_utc(),
    )


async def begun(call: Any) -> Any:
    """Wait until what happens is in the stream."""
    await call.initial_metadata()
    return call


async def next_of(call: Any, count: int) -> list[pb.SubscribeResponse]:
    async with asyncio.timeout(10):
        return [await call.read() for _ in range(count)]


async def test_events_come_as_they_happen_with_all_they_tell(grpc_edge: GrpcEdge, bus: Any) -> None:
    account, other = await grpc_edge.account(), await grpc_edge.account()
    async with grpc_edge.connected(account) as client:
        call = await begun(client.subscribe())
        mine = [told(account.account_id), told(account.account_id, test_mode=True)]
        await bus.publish([told(other.account_id)])
        await bus.publish(mine)
        first, second = await next_of(call, 2)
        call.cancel()
    assert (first.event, first.message_id, first.body) == ("message.delivered", mine[0].message_id, mine[0].body)
    assert (first.status, first.channel, first.correlation_id) == ("DELIVERED", "sms", "order-7")
    assert not first.HasField("carrier")
    assert first.timestamp.ToJsonString() == "2026-11-22T10:00:00.250Z"
    assert (first.test_mode, second.test_mode) == (False, True)


async def test_who_comes_back_misses_nothing(grpc_edge: GrpcEdge, bus: Any) -> None:
    account = await grpc_edge.account()
    events = [told(account.account_id) for _ in range(6)]
    async with grpc_edge.connected(account) as client:
        call = await begun(client.subscribe())
        await bus.publish(events[:3])
        seen = await next_of(call, 2)
        call.cancel()
    await bus.publish(events[3:])
    async with grpc_edge.connected(account) as client:
        call = client.subscribe(pb.SubscribeRequest(after=seen[-1].id))
        seen += await next_of(call, 4)
        call.cancel()
        everything = client.subscribe(pb.SubscribeRequest(after="0"))
        assert [each.id for each in await next_of(everything, 6)] == [each.id for each in seen]
        everything.cancel()
    assert [each.message_id for each in seen] == [each.message_id for each in events]


async def test_only_the_types_that_were_asked_for(grpc_edge: GrpcEdge, bus: Any) -> None:
    account = await grpc_edge.account()
    async with grpc_edge.connected(account) as client:
        call = await begun(client.subscribe(pb.SubscribeRequest(types=["message.failed"])))
        await bus.publish([told(account.account_id), told(account.account_id, "message.failed")])
        (only,) = await next_of(call, 1)
        call.cancel()
    assert only.event == "message.failed"


async def test_what_cannot_be_followed_is_refused(grpc_edge: GrpcEdge, grpc_client: Grpc, bus: Any) -> None:
    for request in (pb.SubscribeRequest(after="nowhere"), pb.SubscribeRequest(types=["message.lost"])):
        told_so = await refused(grpc_client.subscribe(request).read())
        assert told_so.told == ("INVALID_ARGUMENT", "ERR_INVALID_REQUEST")
    owner, sender = await grpc_edge.account(), new_api_key(test_only=False)
    only_sends = ApiKeyFact(
        version=1, key_id=new_id("KEY"), account_id=owner.account_id, key_hash=hash_key(sender), scopes=["send"]
    )
    assert await grpc_edge.edge.service.facts_reached(await bus.publish([only_sends]))
    async with connected(grpc_edge.port, sender) as client:
        assert (await refused(client.subscribe().read())).told == ("PERMISSION_DENIED", "ERR_FORBIDDEN")


async def test_a_stream_is_told_when_the_edge_goes(start_edge: Any, bus: Any, unused_tcp_port: int) -> None:
    async with start_edge(grpc_port=unused_tcp_port) as edge:
        account = await edge.client(bus)
        async with connected(unused_tcp_port, account.key) as client:
            call = await begun(client.subscribe())
            stopping = asyncio.create_task(edge.service.stop())
            assert (await refused(call.read())).told == ("UNAVAILABLE", "ERR_UNAVAILABLE")
            await stopping


async def test_clients_that_break_off_in_mid_stream_harm_nobody(
    grpc_edge: GrpcEdge, bus: Any, caplog: pytest.LogCaptureFixture
) -> None:
    accounts = [await grpc_edge.account() for _ in range(4)]
    over = asyncio.Event()

    async def publish() -> None:
        while not over.is_set():
            await bus.publish([told(account.account_id) for account in accounts for _ in range(50)])

    async def come_and_go(account: Any, turn: int) -> None:
        async with grpc_edge.connected(account) as client:
            call = await begun(client.subscribe(pb.SubscribeRequest(after="0")))
            await next_of(call, 1 + turn % 5)
            if turn % 2:
                call.cancel()  # else the connection goes without a word

    publishing = asyncio.create_task(publish())
    for turn in range(12):
        await asyncio.gather(*(come_and_go(account, turn) for account in accounts))
    over.set()
    await publishing
    assert not [record for record in caplog.records if record.levelname in {"ERROR", "WARNING"}]


async def test_a_client_that_does_not_read_loses_its_stream_only(
    start_edge: Any, bus: Any, unused_tcp_port: int
) -> None:
    async with start_edge(grpc_port=unused_tcp_port, write_timeout_s=0.5, max_event_streams_per_account=1) as edge:
        account = await edge.client(bus)
        async with connected(unused_tcp_port, account.key) as idle, connected(unused_tcp_port, account.key) as reader:
            await begun(idle.subscribe())
            taken = await refused(reader.subscribe().read())
            assert taken.told == ("RESOURCE_EXHAUSTED", "ERR_RATE_LIMIT_EXCEEDED")
            large = [told(account.account_id, text="x" * 8_000) for _ in range(64)]
            for _ in range(40):
                await bus.publish([each.model_copy(update={"cause": f"again.{next(_causes)}"}) for each in large])
            async with asyncio.timeout(20):
                while True:
                    call = reader.subscribe()
                    try:
                        await begun(call)
                        await bus.publish([told(account.account_id)])
                        await next_of(call, 1)
                    except grpc.aio.AioRpcError:
                        await asyncio.sleep(0.1)
                    else:
                        call.cancel()
                        return
