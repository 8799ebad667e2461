"""The gRPC server, inside the service's own loop; its sockets and frames are gRPC's own.

Health (grpc.health.v1) and reflection are for anybody, as is the description of the HTTP API; see `strangers`.
"""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

import grpc
import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from harkara_chassis.ending import to_the_end
from harkara_ingress.grpc.calls import Calls, GrpcService
from harkara_ingress.grpc.strangers import Strangers
from harkara_ingress.settings import Settings

_LOOK_S = 1.0
_MAX_STREAMS_PER_CONNECTION = 256
_MAX_METADATA_BYTES = 16 * 1024
_IDLE_MS = 300_000
_PING_AFTER_MS = 30_000
_PING_TIMEOUT_MS = 10_000
_MIN_PING_INTERVAL_MS = 10_000
_MAX_PING_STRIKES = 3


class GrpcServer:
    """Serves until it is cancelled; then takes nothing new and finishes what it has begun."""

    def __init__(
        self,
        services: Sequence[GrpcService],
        calls: Calls,
        settings: Settings,
        is_ready: Callable[[], bool],
    ) -> None:
        self._calls = calls
        self._settings = settings
        self._is_ready = is_ready
        names = [service.name for service in services]
        self._names = [*names, ""]
        self._health = health.aio.HealthServicer()
        self._strangers = Strangers(calls, names)
        self._server = grpc.aio.server(
            interceptors=[self._strangers],
            options=_options(settings),
            maximum_concurrent_rpcs=settings.max_requests_in_flight,
        )
        handlers = [grpc.method_handlers_generic_handler(name, dict(methods)) for name, methods in services]
        self._server.add_generic_rpc_handlers(handlers)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection([*names, health.SERVICE_NAME, reflection.SERVICE_NAME], self._server)
        self._is_serving = False
        self.port = self._bound()

    async def serve(self) -> None:
        await self._server.start()
        self._is_serving = True
        try:
            while True:
                await self._tell_health()
                await asyncio.sleep(_LOOK_S)
        finally:
            self._is_serving = False
            await to_the_end(self._drain())

    async def _drain(self) -> None:
        await self._health.enter_graceful_shutdown()
        await self._strangers.end()
        await self._server.stop(self._settings.drain_timeout_s)
        await self._calls.finish()

    def problem(self) -> str | None:
        """Say why no call can come in yet, or None."""
        return None if self._is_serving else "not listening"

    async def _tell_health(self) -> None:
        kinds = health_pb2.HealthCheckResponse
        status = kinds.SERVING if self._is_ready() else kinds.NOT_SERVING
        for name in self._names:
            await self._health.set(name, status)

    def _bound(self) -> int:
        settings = self._settings
        address = f"{_bracketed(settings.grpc_host)}:{settings.grpc_port}"
        try:
            if settings.tls_cert_file and settings.tls_key_file:
                credentials = _credentials(settings.tls_cert_file, settings.tls_key_file)
                return self._server.add_secure_port(address, credentials)
            return self._server.add_insecure_port(address)
        except RuntimeError as error:
            raise OSError(f"the gRPC port {settings.grpc_port} cannot be used") from error


def _options(settings: Settings) -> list[tuple[str, int]]:
    # Peers that have gone are noticed by pings; peers that ping for sport are cut off.
    return [
        ("grpc.so_reuseport", int(settings.http_shared)),
        ("grpc.max_receive_message_length", settings.max_body_bytes),
        ("grpc.max_metadata_size", _MAX_METADATA_BYTES),
        ("grpc.absolute_max_metadata_size", _MAX_METADATA_BYTES),
        ("grpc.max_concurrent_streams", _MAX_STREAMS_PER_CONNECTION),
        ("grpc.server_handshake_timeout_ms", int(settings.head_timeout_s * 1_000)),
        ("grpc.max_connection_idle_ms", _IDLE_MS),
        ("grpc.keepalive_time_ms", _PING_AFTER_MS),
        ("grpc.keepalive_timeout_ms", _PING_TIMEOUT_MS),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", _MIN_PING_INTERVAL_MS),
        ("grpc.http2.max_ping_strikes", _MAX_PING_STRIKES),
    ]


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _credentials(cert_file: Path, key_file: Path) -> grpc.ServerCredentials:
    """Serve the certificate that is in the files now; they are looked at with every handshake."""
    files = (cert_file, key_file)

    def read() -> grpc.ServerCertificateConfiguration:
        return grpc.ssl_server_certificate_configuration([(key_file.read_bytes(), cert_file.read_bytes())])

    def age() -> list[int]:
        return [file.stat().st_mtime_ns for file in files]

    known = age()

    def changed() -> grpc.ServerCertificateConfiguration | None:
        nonlocal known
        try:
            current = age()
            if current == known:
                return None
            configuration = read()
        except OSError:
            return None  # half way through a change: the next handshake looks again
        known = current
        return configuration

    # None says that nothing has changed, which the stubs do not know.
    return grpc.dynamic_ssl_server_credentials(read(), changed)  # type: ignore[arg-type]
