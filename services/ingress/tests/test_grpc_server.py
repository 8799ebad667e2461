"""The server around the calls: TLS, health, reflection, what strangers may do, and how it ends."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, cast

import grpc
import grpc.aio
import pytest
import trustme
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from services.ingress.tests.grpc_client import Grpc, GrpcEdge, a_bulk, a_send, connected, refusal

from harkara_chassis.ending import ended
from harkara_ingress.access.accounts import Directory
from harkara_ingress.access.admission import Admission
from harkara_ingress.access.guard import Guard
from harkara_ingress.access.limits import LocalLimiter
from harkara_ingress.grpc.calls import Calls
from harkara_ingress.grpc.gen.harkara.v1 import events_pb2, messages_pb2
from harkara_ingress.grpc.gen.harkara.v1 import messages_pb2 as pb
from harkara_ingress.grpc.server import GrpcServer
from harkara_ingress.http.proxies import TrustedProxies
from harkara_ingress.settings import Settings

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
HEALTH = "/grpc.health.v1.Health/"


StartGrpc = Callable[..., AbstractAsyncContextManager[int]]


@pytest.fixture
def start_grpc() -> StartGrpc:
    """Start a server without services: `async with start_grpc(tls_cert_file=…) as port:`."""

    @asynccontextmanager
    async def start(**values: Any) -> AsyncIterator[int]:
        settings = Settings(**{"grpc_port": 0} | values)
        no_guard = cast("Guard", None)  # nobody here has a key
        admission = Admission(
            Directory(), LocalLimiter(time.monotonic), no_guard, settings.anonymous_requests_per_minute
        )
        calls = Calls(admission, TrustedProxies(""), settings)
        server = GrpcServer([], calls, settings, lambda: True)
        serving = asyncio.create_task(server.serve())
        async with asyncio.timeout(10):
            while server.problem() is not None:
                await asyncio.sleep(0.01)
        yield server.port
        await ended(serving)

    return start


def health(channel: grpc.aio.Channel, service: str = "") -> Any:
    check: Any = channel.unary_unary(
        f"{HEALTH}Check", health_pb2.HealthCheckRequest.SerializeToString, health_pb2.HealthCheckResponse.FromString
    )
    return check(health_pb2.HealthCheckRequest(service=service), timeout=5)


def watch(channel: grpc.aio.Channel) -> Any:
    call: Any = channel.unary_stream(
        f"{HEALTH}Watch", health_pb2.HealthCheckRequest.SerializeToString, health_pb2.HealthCheckResponse.FromString
    )
    return call(health_pb2.HealthCheckRequest())


async def test_anybody_may_ask_for_health_and_description(grpc_edge: GrpcEdge) -> None:
    async with connected(grpc_edge.port, "") as client:
        for service in ("", "harkara.v1.Messages", "harkara.v1.Events"):
            async with asyncio.timeout(10):
                while (await health(client.channel, service)).status != SERVING:
                    await asyncio.sleep(0.05)
        ask: Any = client.channel.stream_stream(
            "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
            reflection_pb2.ServerReflectionRequest.SerializeToString,
            reflection_pb2.ServerReflectionResponse.FromString,
        )
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        (answer,) = [answer async for answer in ask(iter([request]), timeout=5)]
        listed = {service.name for service in answer.list_services_response.service}
        assert {"harkara.v1.Messages", "harkara.v1.Events", "grpc.health.v1.Health"} <= listed


async def test_every_method_that_is_described_is_served(grpc_client: Grpc) -> None:
    services = [
        *messages_pb2.DESCRIPTOR.services_by_name.values(),
        *events_pb2.DESCRIPTOR.services_by_name.values(),
    ]
    paths = [f"/{service.full_name}/{method.name}" for service in services for method in service.methods]
    assert len(paths) >= 9
    for path in paths:
        call: Any = grpc_client.channel.unary_unary(path)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(b"\xff", timeout=5, metadata=[])
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED, path
    unknown: Any = grpc_client.channel.unary_unary("/harkara.v1.Messages/Sent")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await unknown(b"", timeout=5)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_strangers_are_counted_by_address(start_grpc: StartGrpc) -> None:
    async with start_grpc(anonymous_requests_per_minute=20) as port, connected(port, "") as stranger:
        answers = await asyncio.gather(*(health(stranger.channel) for _ in range(40)), return_exceptions=True)
        refused = [refusal(each).told for each in answers if isinstance(each, grpc.aio.AioRpcError)]
        assert refused == [("RESOURCE_EXHAUSTED", "ERR_RATE_LIMIT_EXCEEDED")] * 20


async def test_strangers_hold_few_streams(start_grpc: StartGrpc) -> None:
    async with start_grpc() as port, connected(port, "") as stranger:
        calls = [watch(stranger.channel) for _ in range(140)]
        answers = await asyncio.gather(*(call.read() for call in calls), return_exceptions=True)
        refused = [refusal(each).told for each in answers if isinstance(each, grpc.aio.AioRpcError)]
        assert refused == [("UNAVAILABLE", "ERR_UNAVAILABLE")] * 12
        calls[0].cancel()
        async with asyncio.timeout(5):
            while isinstance(
                (await asyncio.gather(watch(stranger.channel).read(), return_exceptions=True))[0], Exception
            ):
                await asyncio.sleep(0.01)


async def test_what_is_under_way_is_finished_and_nothing_new_taken(
    start_edge: Any, bus: Any, unused_tcp_port: int
) -> None:
    async with start_edge(grpc_port=unused_tcp_port) as edge:
        account = await edge.client(bus)
        async with connected(unused_tcp_port, account.key) as client, connected(unused_tcp_port, "") as watcher:
            watching = watch(watcher.channel)
            async with asyncio.timeout(10):
                while (await watching.read()).status != SERVING:
                    pass
            requests: asyncio.Queue[Any] = asyncio.Queue()

            async def said() -> Any:
                while (request := await requests.get()) is not None:
                    yield request

            path = "/harkara.v1.Messages/SendBulk"
            bulk: Any = client.channel.stream_unary(
                path, pb.SendBulkRequest.SerializeToString, pb.SendBulkResponse.FromString
            )
            under_way = bulk(said(), metadata=client.metadata({}))
            header, portion = a_bulk("919876543210")
            await requests.put(header)
            await under_way.wait_for_connection()
            stopping = asyncio.create_task(edge.service.stop())
            async with asyncio.timeout(10):
                assert (await watching.read()).status == NOT_SERVING
            await requests.put(portion)
            await requests.put(None)
            assert (await under_way).status == "accepted"
            await stopping
            async with connected(unused_tcp_port, account.key) as late:
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await late.call("Send", a_send())
                assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_tls_with_certificates_that_change(start_grpc: StartGrpc, tmp_path: Path) -> None:
    first, second = trustme.CA(), trustme.CA()
    cert_file, key_file = tmp_path / "cert.pem", tmp_path / "key.pem"

    def show(authority: trustme.CA) -> None:
        issued = authority.issue_cert("127.0.0.1")
        cert_file.write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(key_file)

    async def is_served(port: int, credentials: grpc.ChannelCredentials | None) -> bool:
        async with connected(port, "", credentials) as client:
            try:
                return bool((await health(client.channel)).status)
            except grpc.aio.AioRpcError as error:
                assert error.code() is grpc.StatusCode.UNAVAILABLE  # noqa: PT017  # either answer is one
                return False

    def trusting(authority: trustme.CA) -> grpc.ChannelCredentials:
        return grpc.ssl_channel_credentials(authority.cert_pem.bytes())

    show(first)
    async with start_grpc(tls_cert_file=cert_file, tls_key_file=key_file) as port:
        assert await is_served(port, trusting(first))
        assert not await is_served(port, trusting(second))
        assert not await is_served(port, None)
        key_file.write_text("half a change")
        assert await is_served(port, trusting(first))
        show(second)
        assert await is_served(port, trusting(second))


async def test_a_port_that_is_taken_is_no_port(start_grpc: StartGrpc) -> None:
    async with start_grpc() as port:
        with pytest.raises(OSError, match="cannot be used"):
            async with start_grpc(grpc_port=port):
                pass


async def test_two_processes_share_a_port(start_grpc: StartGrpc) -> None:
    async with start_grpc(http_shared=True) as port, start_grpc(http_shared=True, grpc_port=port) as same:
        assert port == same
        async with connected(port, "") as client:
            assert (await health(client.channel)).status == SERVING


async def test_what_counts_is_said_once(start_grpc: StartGrpc) -> None:
    async with start_grpc() as port, connected(port, "") as client:
        check: Any = client.channel.unary_unary(f"{HEALTH}Check")
        for name in ("authorization", "idempotency-key"):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await check(b"", metadata=[(name, "a"), (name, "b")], timeout=5)
            assert refusal(caught.value).told == ("INVALID_ARGUMENT", "ERR_INVALID_REQUEST")
