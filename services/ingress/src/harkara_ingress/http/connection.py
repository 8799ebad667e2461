"""One connection of HTTP/1.1: uvicorn's protocol, made to stand what strangers send, and with a shorter way out.

Every wait has an end. Instead of a timer each, a connection has two deadlines that `HttpServer` looks at twice a second:
`deadline_s` for whatever the client owes (a head, the rest of a body nobody waits for, the next request, its own goodbye),
`unread_until_s` for taking what was written. What a running request waits for is the application's to bound.

What cannot be read is answered in its turn: requests before it on the same connection get their answers first, and what
comes behind it is not looked at, since nobody can say any more where a request would begin.
"""

import asyncio
import time
from collections import Counter
from functools import partial
from http import HTTPStatus

import httptools
import uvicorn
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from harkara_chassis.metrics import counter
from harkara_contracts.errors import ErrorCode
from harkara_contracts.ids import new_id
from harkara_ingress.access.limits import UNLIMITED
from harkara_ingress.http.context import ANSWER_KEY
from harkara_ingress.http.errors import Refusal
from harkara_ingress.http.proxies import TrustedProxies, counted_as
from harkara_ingress.settings import Settings

_NEVER_S = float("inf")
_LINGER_S = 2.0
"""How long a connection may go on after its last answer: shut at once, it would be reset, and the answer lost with it."""

_REST_S = 5.0
"""How long the rest of a body may take that was answered before it was there."""


_MAX_PIPELINED = 64
"""Requests that may wait for their turn on one connection."""

_FRAMING_TO_ONE = 16
"""Octets on the wire that one octet of a body may take; the rest of them is a flood."""

_RETRY_LINE = "retry-after: 1\r\n"
_VERSIONS = frozenset({"1.0", "1.1"})
_BODY_METHODS = frozenset({b"POST", b"PUT", b"PATCH", b"DELETE"})

_UNREADABLE = counter("harkara_http_unreadable", "What came over HTTP and was no request, by the answer.", ("status",))


class _RefusedHeadError(Exception):
    """Raised inside the parser, to stop it."""

    def __init__(self, status: int, words: str) -> None:
        self.status = status
        self.words = words


def _head_too_large() -> _RefusedHeadError:
    return _RefusedHeadError(431, "The request's line and headers are too large, or too many. Send fewer.")


class Bounds:
    """What all connections of one server share: the limits, and who has how many open."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.date_line = b""
        self._proxies = TrustedProxies(settings.forwarded_allow_ips)
        self._open = 0
        self._open_by_address: Counter[str] = Counter()

    def enter(self, host: str) -> bool:
        """Count a connection in; return whether it may stay. Either way it has to `leave`."""
        self._open += 1
        address = counted_as(host)
        self._open_by_address[address] += 1
        most = self.settings.max_connections_per_address
        return self._open <= self.settings.max_connections and (
            self._open_by_address[address] <= most or self._proxies.trusts(host)
        )

    def leave(self, host: str) -> None:
        self._open -= 1
        address = counted_as(host)
        self._open_by_address[address] -= 1
        if self._open_by_address[address] <= 0:
            del self._open_by_address[address]


class Connection(HttpToolsProtocol):
    def __init__(self, config: uvicorn.Config, state: ServerState, bounds: Bounds) -> None:
        super().__init__(config, state, {})
        self._bounds = bounds
        self._settings = bounds.settings
        self._is_head_open = False
        self._is_head_new = False
        self._head_bytes = 0
        self._piece_bytes = 0
        self._has_request = False
        self._framing_bytes = 0
        self._unanswered = 0
        self._body_beside_upgrade = 0
        self._last_words: bytes | None = None
        self.deadline_s = _NEVER_S
        self.unread_until_s = _NEVER_S

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self.deadline_s = self.loop.time() + self._settings.head_timeout_s
        if not self._bounds.enter(self._peer):
            self._refuse(503, "Too many connections are open. Use fewer, or try again shortly.")

    def connection_lost(self, exc: Exception | None) -> None:
        self._bounds.leave(self._peer)
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        self.unread_until_s = self.loop.time() + self._settings.write_timeout_s
        super().pause_writing()

    def resume_writing(self) -> None:
        self.unread_until_s = _NEVER_S
        super().resume_writing()

    def expire(self, now_s: float) -> None:
        """End what has waited too long."""
        if self.unread_until_s <= now_s:
            self.transport.abort()
        elif self.deadline_s > now_s:
            return
        elif self._last_words is not None or self.transport.is_closing():
            self.transport.abort()
        elif self._is_head_open:
            self._refuse(408, "The request's head did not arrive in time. Send it again.")
        else:
            self.transport.close()
            self.deadline_s = now_s + _LINGER_S

    def data_received(self, data: bytes) -> None:
        if self._has_request and self.cycle.more_body:
            self._framing_bytes += len(data)
        while data and self._last_words is None:
            if self._body_beside_upgrade:
                data = self._take_body(data)
                continue
            self._piece_bytes = len(data)
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                # Not taken up, as RFC 9110 §7.8 allows: what follows is HTTP/1.1 as before.
                data = data[upgrade.args[0] :]
            except httptools.HttpParserError as error:
                self._cannot_read(error)
            else:
                break
        if self._last_words is not None:
            return
        if self._is_head_open:
            self._wait_for_head(len(data))
        elif self._framing_bytes > self._settings.max_head_bytes:
            self._refuse(400, "The body's framing is larger than the body. Send larger chunks, and no trailers.")

    def _wait_for_head(self, piece_bytes: int) -> None:
        if self._is_head_new:
            # Its first piece may be the end of a long body; only what follows is surely the head's.
            self._is_head_new = False
            self.deadline_s = self.loop.time() + self._settings.head_timeout_s
            return
        self._head_bytes += piece_bytes
        if self._head_bytes > self._settings.max_head_bytes:
            self._refuse_head(_head_too_large())

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._is_head_open = self._is_head_new = True
        self._has_request = False
        self._head_bytes = 0

    def on_headers_complete(self) -> None:
        self._check_head()
        super().on_headers_complete()
        self.headers = []  # what comes behind the body (trailers) is no header of the request
        self._is_head_open = False
        self._has_request = True
        self._framing_bytes = 0
        self._unanswered += 1
        self.deadline_s = _NEVER_S
        cycle = self.cycle
        if self.expect_100_continue and self.parser.get_method() not in _BODY_METHODS:
            cycle.keep_alive = False  # nobody asks for the body, so nobody knows whether it comes
        self.scope[ANSWER_KEY] = partial(self._answer, cycle)  # type: ignore[literal-required]  # ASGI allows more

    def on_body(self, body: bytes) -> None:
        # A chunk of one octet takes six; with an extension somewhat more.
        self._framing_bytes -= _FRAMING_TO_ONE * len(body)
        cycle = self.cycle
        if cycle.response_complete:
            return
        cycle.body += body
        if len(cycle.body) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()
        cycle.message_event.set()

    def on_message_complete(self) -> None:
        if self._body_beside_upgrade:
            return  # the parser leaves the body of a request that asks for an upgrade to the new protocol
        cycle = self.cycle
        if cycle.response_complete:
            self.deadline_s = self.loop.time() + self._settings.keep_alive_s
        else:
            cycle.more_body = False
            cycle.message_event.set()

    def on_response_complete(self) -> None:
        self._unanswered -= 1
        now_s = self.loop.time()
        if self.transport.is_closing():
            self.deadline_s = now_s + _LINGER_S
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif self._last_words is not None:
            self._say_last_words()
        elif not self._is_head_open:
            self.deadline_s = now_s + (_REST_S if self.cycle.more_body else self._settings.keep_alive_s)

    @property
    def _peer(self) -> str:
        return self.client[0] if self.client else ""

    def _check_head(self) -> None:
        """Refuse heads that are too large, and those that other servers on the way may have read differently."""
        settings = self._settings
        if len(self.headers) > settings.max_headers:
            raise _head_too_large()
        if self._head_bytes + self._piece_bytes > settings.max_head_bytes:  # else there is no need to count
            size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
            if size > settings.max_head_bytes:
                raise _head_too_large()
        version = self.parser.get_http_version()
        if version not in _VERSIONS:
            raise _RefusedHeadError(505, "HTTP/1.1 is spoken here.")
        if self.parser.should_upgrade():
            self._check_upgrade()
        elif len(self.pipeline) >= _MAX_PIPELINED:
            raise _RefusedHeadError(503, "Too many requests wait on this connection. Read the answers first.")

    def _check_upgrade(self) -> None:
        headers = dict(self.headers)
        if b"transfer-encoding" in headers or self.parser.get_method() == b"CONNECT":
            raise _RefusedHeadError(400, "No upgrade is made here. Leave the header Upgrade out.")
        self._body_beside_upgrade = int(headers.get(b"content-length", 0))

    def _take_body(self, data: bytes) -> bytes:
        part = data[: self._body_beside_upgrade]
        self._body_beside_upgrade -= len(part)
        self.on_body(part)
        if not self._body_beside_upgrade:
            self.on_message_complete()
        return data[len(part) :]

    def _cannot_read(self, error: httptools.HttpParserError) -> None:
        if isinstance(error.__context__, _RefusedHeadError):
            self._refuse_head(error.__context__)
        else:
            self._refuse(400, "This is no HTTP/1.1 request that can be read.")

    def _refuse_head(self, error: _RefusedHeadError) -> None:
        self._refuse(error.status, error.words)

    def _refuse(self, status: int, words: str) -> None:
        """Let this be the last answer on the connection, after those that are due before it."""
        _UNREADABLE.labels(str(status)).inc()
        self._last_words = _last_words(status, words, self._bounds.date_line)
        self.deadline_s = _NEVER_S
        self._is_head_open = False
        if self._has_request and self.cycle.more_body and not self.cycle.response_complete:
            self._forget_request()
        if not self._unanswered:
            self._say_last_words()

    def _forget_request(self) -> None:
        """Take back the request whose body cannot be read further; it has not been acted on."""
        cycle = self.cycle
        self._unanswered -= 1
        if self.pipeline and self.pipeline[0][0] is cycle:
            self.pipeline.popleft()
            return
        if cycle.response_started:
            self._last_words = b""  # half an answer is out: nothing better can be said over this connection
        cycle.disconnected = True
        cycle.message_event.set()

    def _say_last_words(self) -> None:
        self.transport.write(self._last_words or b"")
        self.deadline_s = self.loop.time() + _LINGER_S
        if self.transport.can_write_eof():
            self.transport.write_eof()
        else:
            self.transport.close()

    async def _answer(
        self, cycle: RequestResponseCycle, status: int, lines: bytes, body: bytes, *, is_last: bool
    ) -> None:
        """Do what the cycle's `send` would do in two calls.

        ASGI sends an answer in two messages, which become two system calls and wake the client twice, and each header
        is searched for what may not be in it. That is a quarter of all work on a request.

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
        # A client that waits for its 100 may send the body or not: where the next request begins is anybody's guess.
        is_last = is_last or not cycle.keep_alive or cycle.waiting_for_100_continue
        end = b"%bcontent-length: %d\r\n\r\n" % (b"connection: close\r\n" if is_last else b"", len(body))
        if cycle.scope["method"] == "HEAD":
            body = b""
        cycle.response_started = cycle.response_complete = True
        cycle.transport.write(b"".join((STATUS_LINE[status], self._bounds.date_line, lines, end, body)))
        cycle.message_event.set()
        if is_last:
            cycle.transport.close()
        cycle.on_response()


def _last_words(status: int, words: str, date_line: bytes) -> bytes:
    request_id = new_id("REQ")
    code = ErrorCode.UNAVAILABLE if status == HTTPStatus.SERVICE_UNAVAILABLE else ErrorCode.INVALID_REQUEST
    refusal = Refusal(status, code, words)
    body = refusal.body(request_id)
    head = (
        f"x-request-id: {request_id}\r\nx-ratelimit-limit: {UNLIMITED.limit}\r\n"
        f"x-ratelimit-remaining: {UNLIMITED.remaining}\r\nx-ratelimit-reset: {int(time.time())}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\nconnection: close\r\n"
        f"{_RETRY_LINE if code is ErrorCode.UNAVAILABLE else ''}\r\n"
    )
    return STATUS_LINE[status] + date_line + head.encode() + body
