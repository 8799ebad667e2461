"""The webhook sink: answers 200 at once and writes down when what came; everything is looked at later.

While a measurement runs it only splits octets. Bodies are parsed when progress is asked for, and every signature is
verified at the end, by both recipes.
"""

import asyncio
import base64
import hashlib
import hmac
import socket
import time
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, cast

import orjson

from bench.load import content_length
from bench.worker import Requests

_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
_FAILURE = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_MAX_REQUEST = 1 << 20
_MAX_KEPT = 1_000_000

Mood = Literal["well", "failing", "hanging", "refusing"]
"""Answers 200; answers 500 and keeps nothing; reads and never answers; takes no connection."""


class Arrival(NamedTuple):
    """A webhook; `at` in monotonic seconds."""

    event: str
    message_id: str
    to: str
    at: float


@dataclass
class Collected:
    """`bad_signatures` counts webhooks that either of the recipes refuses."""

    arrivals: list[Arrival]
    bad_signatures: int
    malformed: int


@dataclass
class Sink:
    """What came so far. `port` is where it listens."""

    port: int = 0
    malformed: int = 0
    answer: bytes = _ANSWER
    mood: Mood = "well"
    _raw: list[tuple[float, bytes, bytes]] = field(default_factory=list)
    _arrivals: list[Arrival] = field(default_factory=list)
    _unique: set[tuple[str, str]] = field(default_factory=set)
    _server: asyncio.Server | None = None
    _connections: set["_Connection"] = field(default_factory=set)

    async def start(self, host: str = "127.0.0.1") -> asyncio.Server:
        server = await asyncio.get_running_loop().create_server(lambda: _Connection(self), host, self.port, backlog=512)
        self.port = server.sockets[0].getsockname()[1]
        self._server = server
        return server

    def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def behave(self, mood: Mood) -> None:
        """From now on; what is connected when the mood changes is cut off."""
        self.mood = mood
        for connection in list(self._connections):
            connection.abort()
        if mood == "refusing":
            self.stop()
        elif self._server is None:
            await self.start()

    def connected(self, connection: "_Connection") -> None:
        self._connections.add(connection)

    def disconnected(self, connection: "_Connection") -> None:
        self._connections.discard(connection)

    def received(self, head: bytes, body: bytes) -> bool:
        """False when there is no room for more."""
        if len(self._raw) >= _MAX_KEPT:
            return False
        self._raw.append((time.monotonic(), head, body))
        return True

    def progress(self) -> int:
        """How many different webhooks came."""
        self._parse()
        return len(self._unique)

    def _parse(self) -> None:
        for at, _, body in self._raw[len(self._arrivals) :]:
            arrival = _arrival(body, at)
            self._arrivals.append(arrival)
            self._unique.add((arrival.event, arrival.message_id))

    def collect(self, secret: str) -> Collected:
        """What came since the last time; it is forgotten here."""
        self._parse()
        bad = sum(not is_signed(head, body, secret) for _, head, body in self._raw)
        collected = Collected(self._arrivals, bad, self.malformed)
        self._raw, self._arrivals, self._unique, self.malformed = [], [], set(), 0
        return collected


class _Connection(asyncio.Protocol):
    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._received = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._sink.connected(self)
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but name
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def connection_lost(self, _: Exception | None) -> None:
        self._sink.disconnected(self)

    def abort(self) -> None:
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._sink.mood == "hanging":
            return
        received = self._received + data if self._received else data
        answers = 0
        while (head_end := received.find(b"\r\n\r\n")) >= 0:
            head = received[:head_end]
            try:
                # A GET calls back by its URL alone.
                end = head_end + 4 + (0 if head.startswith(b"GET ") else content_length(head))
            except ValueError:
                self._refuse()
                return
            if len(received) < end:
                break
            if self._sink.mood == "failing":
                self._transport.write(_FAILURE)
                self._transport.close()
                return
            if not self._sink.received(head, received[head_end + 4 : end]):
                self._refuse()
                return
            answers += 1
            received = received[end:]
        if len(received) > _MAX_REQUEST:
            self._refuse()
            return
        self._received = received
        if answers:
            self._transport.write(self._sink.answer * answers)
            if b"onnection: close" in head:
                self._transport.close()

    def _refuse(self) -> None:
        self._sink.malformed += 1
        self._transport.abort()


def _arrival(body: bytes, at: float) -> Arrival:
    try:
        event: Any = orjson.loads(body)
        return Arrival(event["event"], event["message_id"], event.get("to") or "", at)
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        return Arrival("", "", "", at)


def is_signed(head: bytes, body: bytes, secret: str) -> bool:
    """Whether both signatures are right: HMAC-SHA256 of the body by the secret's text, and Standard Webhooks 1.0."""
    headers = {
        name.lower(): value.strip()
        for name, _, value in (line.partition(":") for line in head.decode("latin-1").split("\r\n")[1:])
    }
    by_text = "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    signed = f"{headers.get('webhook-id')}.{headers.get('webhook-timestamp')}.".encode() + body
    key = base64.b64decode(secret.removeprefix("whsec_"))
    by_standard = "v1," + base64.b64encode(hmac.digest(key, signed, "sha256")).decode()
    return hmac.compare_digest(headers.get("x-techto-signature", ""), by_text) and by_standard in headers.get(
        "webhook-signature", ""
    ).split(" ")


async def serve(requests: Requests) -> None:
    """The sink's process: its first answer is its port.

    `progress` gives a number, `collect` with a secret Collected, `behave` with a Mood nothing.
    """
    sink = Sink()
    await sink.start()
    requests.answer(sink.port)
    try:
        while True:
            name, argument = await requests.next()
            if name == "behave":
                await sink.behave(argument)
                requests.answer(None)
            else:
                requests.answer(sink.progress() if name == "progress" else sink.collect(argument))
    finally:
        sink.stop()
