"""uvicorn inside the service's own loop: the chassis has the signals and the drain, uvicorn only the sockets."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from functools import partial
from typing import Any, cast

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from harkara_ingress.http.context import ANSWER_KEY
from harkara_ingress.settings import Settings

_BACKLOG = 2_048


class _Protocol(HttpToolsProtocol):
    """uvicorn's own, with a shorter way out for answers that are whole.

    ASGI sends an answer in two messages, which become two system calls and wake the client twice, and each header is
    searched for what may not be in it. That is a quarter of all work on a request.
    """

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        cast("dict[str, Any]", self.scope)[ANSWER_KEY] = partial(_answer, self.cycle)


async def _answer(cycle: RequestResponseCycle, status: int, lines: bytes, body: bytes, *, is_last: bool) -> None:
    """Do what the cycle's `send` would do in two calls.

    Args:
        cycle: the request and its answer.
        status: of HTTP.
        lines: the headers as they go out; nothing in them comes from outside unchecked.
        body: all of it.
        is_last: close the connection afterwards, and say so.
    """
    if cycle.flow.write_paused:
        await cycle.flow.drain()
    if cycle.disconnected:
        return
    is_last = is_last or not cycle.keep_alive
    date = b"".join([b"%b: %b\r\n" % header for header in cycle.default_headers])
    end = b"%bcontent-length: %d\r\n\r\n" % (b"connection: close\r\n" if is_last else b"", len(body))
    cycle.response_started = cycle.response_complete = True
    cycle.transport.write(b"".join((STATUS_LINE[status], date, lines, end, body)))
    cycle.message_event.set()
    if is_last:
        cycle.transport.close()
    cycle.on_response()


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class HttpServer:
    """Serves an application until it is cancelled; then takes nothing new and finishes what it has begun."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        config = uvicorn.Config(
            app,
            loop="none",
            http=_Protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=bool(settings.forwarded_allow_ips),
            forwarded_allow_ips=settings.forwarded_allow_ips or None,
            limit_concurrency=settings.max_connections,
            backlog=_BACKLOG,
            timeout_keep_alive=settings.keep_alive_s,
            timeout_graceful_shutdown=int(settings.drain_timeout_s) + 1,
        )
        self._server = _Server(config)
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
            await serving

    def problem(self) -> str | None:
        """Say why no request can come in yet, or None."""
        return None if self._server.started and not self._server.should_exit else "not listening"


def _bound(host: str, port: int, *, is_shared: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if is_shared:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    # Accepted connections inherit it: answers are small and must not wait for each other.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        listener.bind((host, port))
    except OSError:
        listener.close()
        raise
    listener.setblocking(False)
    return listener
