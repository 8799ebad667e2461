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
from typing import Any, NamedTuple, cast

import orjson

from bench.load import content_length
from bench.worker import Requests

_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
_MAX_REQUEST = 1 << 20
_MAX_KEPT = 1_000_000


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
    _raw: list[tuple[float, bytes, bytes]] = field(default_factory=list)
    _arrivals: list[Arrival] = field(default_factory=list)
    _unique: set[tuple[str, str]] = field(default_factory=set)

    async def start(self, host: str = "127.0.0.1") -> asyncio.Server:
        server = await asyncio.get_running_loop().create_server(lambda: _Connection(self), host, 0, backlog=512)
        self.port = server.sockets[0].getsockname()[1]
        return server

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
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but name
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data: bytes) -> None:
        received = self._received + data if self._received else data
        answers = 0
        while (head_end := received.find(b"\r\n\r\n")) >= 0:
            try:
                end = head_end + 4 + content_length(received[:head_end])
            except ValueError:
                self._refuse()
                return
            if len(received) < end:
                break
            if not self._sink.received(received[:head_end], received[head_end + 4 : end]):
                self._refuse()
                return
            answers += 1
            received = received[end:]
        if len(received) > _MAX_REQUEST:
            self._refuse()
            return
        self._received = received
        if answers:
            self._transport.write(_ANSWER * answers)

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
    """The sink's process: its first answer is its port; `progress` gives a number, `collect` with a secret Collected."""
    sink = Sink()
    server = await sink.start()
    requests.answer(sink.port)
    try:
        while True:
            name, argument = await requests.next()
            requests.answer(sink.progress() if name == "progress" else sink.collect(argument))
    finally:
        server.close()
