"""uvicorn inside the service's own loop: the chassis has the signals and the drain, uvicorn only the sockets."""

import asyncio
import contextlib
import socket
import sys
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp

from harkara_chassis.ending import to_the_end
from harkara_ingress.http.connection import Bounds, Connection
from harkara_ingress.http.tls import Certificate
from harkara_ingress.settings import Settings

_BACKLOG = 2_048
_SWEEP_TICKS = 5
"""uvicorn ticks ten times a second."""

_CERTIFICATE_TICKS = 10
_PROBE_IDLE_S = 60
_UNACKNOWLEDGED_MS = 60_000


class _Server(uvicorn.Server):
    """uvicorn's, with our own connections."""

    def __init__(self, config: uvicorn.Config, settings: Settings, certificate: Certificate | None) -> None:
        super().__init__(config)
        self._bounds = Bounds(settings)
        self._certificate = certificate

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        loop = asyncio.get_running_loop()
        certificate = self._certificate
        self.servers = [
            await loop.create_server(
                lambda: Connection(self.config, self.server_state, self._bounds),
                sock=listener,
                backlog=_BACKLOG,
                ssl=certificate.context if certificate else None,
                ssl_handshake_timeout=self._bounds.settings.head_timeout_s if certificate else None,
            )
            for listener in sockets or ()
        ]
        self.started = True

    async def on_tick(self, counter: int) -> bool:
        is_over = await super().on_tick(counter)
        state = self.server_state
        self._bounds.date_line = b"".join([b"%b: %b\r\n" % header for header in state.default_headers])
        if counter % _SWEEP_TICKS == 0:
            now_s = asyncio.get_running_loop().time()
            for connection in list(state.connections):
                if isinstance(connection, Connection):
                    connection.expire(now_s)
        if self._certificate is not None and counter % _CERTIFICATE_TICKS == 0:
            self._certificate.read_again()
        return is_over

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class HttpServer:
    """Serves an application until it is cancelled; then takes nothing new and finishes what it has begun."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        config = uvicorn.Config(
            app,
            loop="none",
            http=Connection,
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,  # the middleware looks for the client's address
            timeout_graceful_shutdown=int(settings.drain_timeout_s) + 1,
        )
        self._server = _Server(config, settings, _certificate(settings))
        self._socket = _bound(settings.http_host, settings.http_port, is_shared=settings.http_shared)

    @property
    def port(self) -> int:
        port: int = self._socket.getsockname()[1]
        return port

    async def serve(self) -> None:
        serving = asyncio.create_task(self._server.serve(sockets=[self._socket]))
        try:
            await asyncio.shield(serving)
        finally:
            self._server.should_exit = True
            await to_the_end(serving)  # whoever ends it asks again every second

    def problem(self) -> str | None:
        """Say why no request can come in yet, or None."""
        return None if self._server.started and not self._server.should_exit else "not listening"


def _certificate(settings: Settings) -> Certificate | None:
    if settings.tls_cert_file is None or settings.tls_key_file is None:
        return None
    return Certificate(settings.tls_cert_file, settings.tls_key_file)


def _bound(host: str, port: int, *, is_shared: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if is_shared:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    # Accepted connections inherit these. Answers are small and must not wait for each other; and a client that is gone
    # without a word shall not be written to for a quarter of an hour.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if sys.platform == "linux":
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _PROBE_IDLE_S)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNACKNOWLEDGED_MS)
    try:
        listener.bind((host, port))
    except OSError:
        listener.close()
        raise
    listener.setblocking(False)
    return listener
