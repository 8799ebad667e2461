"""Kept HTTP/1.1 connections for small POSTs, each one request at a time.

A general HTTP client costs more than everything else that is done for a webhook together. Little of one is needed here: a
request leaves in one write, a bounded beginning of the answer is read (by llhttp, which knows framing), nothing is followed,
unpacked or remembered. Whatever is odd about an answer costs the connection.
"""

import asyncio
import socket
import ssl
from collections import deque
from dataclasses import dataclass
from typing import NamedTuple, cast

import aiohappyeyeballs
import httptools

from harkara_webhook_dispatcher.guard import AddressRefusedError, Guard

BODY_KEPT = 4_096
_HEAD_MAX = 16_384
_RECEIVED_MAX = 65_536
_KEPT_S = 60.0
_SWEEP_S = 15.0
_SECOND_ADDRESS_AFTER_S = 0.25  # RFC 8305 §5

_NOT_HTTP = "the answer is not valid HTTP"
_NO_CONNECTION: tuple[tuple[tuple[type[Exception], ...], str], ...] = (
    ((socket.gaierror, UnicodeError), "the host's name has no address"),
    ((ssl.SSLCertVerificationError,), "the host's TLS certificate is not valid"),
    ((ssl.SSLError,), "TLS could not be agreed with the host"),
    ((OSError, RuntimeError), "the connection could not be made"),  # uvloop raises some of the system's as RuntimeError
)
"""The first line that fits names the failure: narrower kinds stand before wider ones."""


class NoAnswerError(Exception):
    """There is no whole answer; the text says why, in words the client may read."""


class Place(NamedTuple):
    """Where a connection goes to; `host` as it is in DNS, SNI and the certificate."""

    host: str
    port: int
    is_tls: bool


@dataclass(slots=True)
class Reply:
    """`body` is the beginning, of at most `BODY_KEPT` octets."""

    status: int = 0
    retry_after: str | None = None
    body: bytes = b""


class Connections:
    """Connections to many places, made when there is none to spare. `close` it."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._loop = asyncio.get_running_loop()
        self._tls = ssl.create_default_context()
        self._tls.set_alpn_protocols(["http/1.1"])
        self._spare: dict[Place, deque[Connection]] = {}
        self._sweeper = self._loop.call_later(_SWEEP_S, self._sweep)

    async def post(self, place: Place, request: bytes, timeout_s: float) -> Reply:
        """Send a request's octets and return what comes back; cancelled, it gives the connection up.

        Raises:
            NoAnswerError: none came, or none that can be read.
            TimeoutError: not all of it was there in time, from the look-up of the name on.
        """
        deadline = self._loop.time() + timeout_s
        connection = self._take(place)
        if connection is None:
            async with asyncio.timeout_at(deadline):
                connection = await self._connect(place)
        try:
            reply = await connection.post(request, deadline)
        except BaseException:
            connection.abort()
            raise
        if connection.is_spare:
            self._spare.setdefault(place, deque()).append(connection)
        return reply

    def close(self) -> None:
        self._sweeper.cancel()
        for connections in self._spare.values():
            for connection in connections:
                connection.abort()
        self._spare.clear()

    def _take(self, place: Place) -> "Connection | None":
        """Take the one used last: what is not needed is left to grow old."""
        connections = self._spare.get(place)
        while connections:
            connection = connections.pop()
            if connection.is_spare:
                return connection
        return None

    async def _connect(self, place: Place) -> "Connection":
        try:
            addresses = await self._guard.resolve(place.host, place.port)
            made = await aiohappyeyeballs.start_connection(
                addresses, happy_eyeballs_delay=_SECOND_ADDRESS_AFTER_S, socket_factory=self._guard.open_socket
            )
            try:
                _, connection = await self._loop.create_connection(
                    Connection,
                    sock=made,
                    ssl=self._tls if place.is_tls else None,
                    server_hostname=place.host if place.is_tls else None,
                )
            except BaseException:
                made.close()
                raise
        except AddressRefusedError as refused:
            raise NoAnswerError(str(refused)) from refused
        except (OSError, RuntimeError, UnicodeError) as failure:
            raise NoAnswerError(
                next(words for kinds, words in _NO_CONNECTION if isinstance(failure, kinds))
            ) from failure
        return connection

    def _sweep(self) -> None:
        """Let go of what lay unused for long; servers do so as well, mostly sooner."""
        self._sweeper = self._loop.call_later(_SWEEP_S, self._sweep)
        used_before = self._loop.time() - _KEPT_S
        for place, connections in list(self._spare.items()):
            while connections and (connections[0].used_at < used_before or not connections[0].is_spare):
                connections.popleft().abort()
            if not connections:
                del self._spare[place]


class Connection(asyncio.Protocol):
    """One connection. llhttp calls the `on_…` methods from within `feed_data`."""

    def __init__(self) -> None:
        self.used_at = 0.0
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        # As lenient as browsers and aiohttp: nothing passes through here that leniency could smuggle.
        self._parser.set_dangerous_leniencies(
            lenient_headers=True, lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True
        )
        self._is_over = False
        self._answered: asyncio.Future[Reply] | None = None
        self._reply = Reply()
        self._received = self._head = 0
        self._has_head = self._has_length = False

    @property
    def is_spare(self) -> bool:
        """Tell whether another request may follow."""
        transport = self._transport
        return not self._is_over and self._answered is None and transport is not None and not transport.is_closing()

    async def post(self, request: bytes, deadline: float) -> Reply:
        """Send a request and return the answer; `deadline` by the loop's clock. Raises as `Connections.post` does."""
        if self._transport is None or not self.is_spare:
            raise NoAnswerError("the connection broke before the answer")
        self._begin()
        answered: asyncio.Future[Reply] = self._loop.create_future()
        self._answered = answered
        timer = self._loop.call_at(deadline, self._fail, TimeoutError())  # a fifth of what asyncio.timeout costs
        self._transport.write(request)
        try:
            return await answered
        finally:
            timer.cancel()

    def abort(self) -> None:
        self._is_over = True
        if self._transport is not None:
            self._transport.abort()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but name

    def data_received(self, data: bytes) -> None:
        if self._answered is None:  # an answer to no question
            self.abort()
            return
        self._received += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._fail(NoAnswerError(_NOT_HTTP))
            return
        if len(self._reply.body) >= BODY_KEPT or (self._has_head and self._received > _RECEIVED_MAX):
            self._finish(is_kept=False)  # the rest is not worth the reading
        elif self._received > _RECEIVED_MAX:
            self._fail(NoAnswerError(_NOT_HTTP))

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is None and self._has_head and not self._has_length:
            self._finish(is_kept=False)  # RFC 9112 §6.3: the end of the connection is the end of such a body
        self._fail(
            NoAnswerError(f"the connection broke {'in the middle of' if self._received else 'before'} the answer")
        )

    # httptools

    def on_message_begin(self) -> None:
        if self._answered is None:
            raise ValueError("a second answer to one question")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head += len(name) + len(value)
        if self._head > _HEAD_MAX:
            raise ValueError("too long a head")
        lowered = name.lower()
        if lowered == b"retry-after":
            self._reply.retry_after = value.decode("latin-1")
        elif lowered in {b"content-length", b"transfer-encoding"}:
            self._has_length = True

    def on_headers_complete(self) -> None:
        self._reply.status = self._parser.get_status_code()
        self._has_head = self._reply.status >= 200  # noqa: PLR2004  # below it is not the answer yet

    def on_body(self, data: bytes) -> None:
        self._reply.body += data[: BODY_KEPT - len(self._reply.body)]

    def on_message_complete(self) -> None:
        if self._has_head:
            self._finish(is_kept=self._parser.should_keep_alive())
        else:
            self._reply, self._has_length = Reply(), False

    # An exchange's beginning and end

    def _begin(self) -> None:
        self._reply = Reply()
        self._received = self._head = 0
        self._has_head = self._has_length = False

    def _finish(self, *, is_kept: bool) -> None:
        answered, self._answered = self._answered, None
        self.used_at = self._loop.time()
        if not is_kept:
            self.abort()
        if answered is not None and not answered.done():
            answered.set_result(self._reply)

    def _fail(self, error: Exception) -> None:
        answered, self._answered = self._answered, None
        self.abort()
        if answered is not None and not answered.done():
            answered.set_exception(error)
