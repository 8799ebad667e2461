"""The load generator: POST /v1/sms/send over keep-alive connections, one request at a time on each.

Flat out it is a closed loop: every connection sends its next request when it has its answer. At a set rate it is an open
loop: requests fall due by the clock, and one that finds no free connection waits with its clock running, so that a system
that falls behind cannot hide it by slowing the generator down.

With `repeat`, it is a client as they are in the field: what got no answer or a 5xx is sent again with the same
Idempotency-Key until it has one, so that in the end of every message it is known whether it was accepted.
"""

import asyncio
import random
import socket
import time
from array import array
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, cast

import orjson

from bench.worker import Requests

NUMBER_DIGITS = 12
FIRST_NUMBER = 916_000_000_000
NUMBERS = 3_900_000_000
"""Indian mobile numbers from 916… up to 9199: the numbers with a fixed fate (9199999…) stay out."""

UNANSWERED = 0
_RECONNECT_AFTER_S = 0.1
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 2.0
_LOOK_FOR_STUCK_EVERY_S = 1.0
_LETTERS = bytes.maketrans(b"0123456789", b"ABCDEFGHIJ")
_LAST_CHUNK = b"\r\n0\r\n\r\n"
_MAX_HEAD = 64 * 1024
_TIMER_SLACK_S = 0.002
"""A loop's timers are this coarse; a request that left so little after its time was late by our doing."""


@dataclass(frozen=True, kw_only=True)
class Content:
    """What one sort of messages says. A variable of the value ORDER gets letters of its own in each message.

    `validity_s` is how long delivery is tried, None for as long as is usual.
    """

    sender: str
    template_id: str
    variables: Mapping[str, str]
    validity_s: int | None = None


TO, ORDER = "#" * NUMBER_DIGITS, "@" * NUMBER_DIGITS


@dataclass(frozen=True, kw_only=True)
class LoadPlan:
    """`count` messages to the numbers from `first_number` on. `rate` is requests a second, None for flat out.

    `contents` are sent in turn, message i being of the sort i modulo their number; none means the bench's own one, by
    `sender` and `template_id`. `request` is sent in place of our own API's where it is given: a whole HTTP request with TO
    and ORDER in it. `success` is the status of an accepted message.
    """

    host: str
    port: int
    api_key: str = field(default="", repr=False)
    sender: str = ""
    template_id: str = ""
    request: bytes = field(default=b"", repr=False)
    success: int = int(HTTPStatus.ACCEPTED)
    first_number: int
    count: int
    connections: int
    rate: float | None = None
    contents: tuple[Content, ...] = ()
    repeat: bool = False
    answer_timeout_s: float = 15.0
    give_up_s: float = 300.0


@dataclass
class LoadResult:
    """Message i went to `first_number + i`. Times in monotonic seconds, 0 for what did not happen.

    `begun` is when the request was due (at a set rate) or was written; `status` is HTTP's, 0 for no answer; `refusal` is
    the first answer other than `success`. `repeats` is how often a message was sent again.
    """

    first_number: int
    begun: "array[float]"
    answered: "array[float]"
    status: "array[int]"
    message_ids: list[str]
    late_s: list[float]
    connections_lost: int
    refusal: str
    last_error: str
    repeats: int = 0
    success: int = int(HTTPStatus.ACCEPTED)

    @property
    def count(self) -> int:
        return len(self.begun)

    @property
    def accepted(self) -> list[int]:
        """The indexes of what was accepted."""
        return [index for index, status in enumerate(self.status) if status == self.success]


class Template:
    """A request as octets, all of one length. Every text differs: its order is the number, spelt in letters.

    (In digits it would be a telephone number, which a text may hold only when the account has it whitelisted.)
    """

    def __init__(self, plan: LoadPlan, content: Content | None = None) -> None:
        octets = plan.request or self._own_request(plan, content)
        # Between the places of the number lies what has the place of the order, or none.
        self._pieces = [piece.split(ORDER.encode()) for piece in octets.split(TO.encode())]

    @staticmethod
    def _own_request(plan: LoadPlan, content: Content | None) -> bytes:
        variables = {"name": "Asha", "order_id": ORDER, "date": "12 December"}
        said = content or Content(sender=plan.sender, template_id=plan.template_id, variables=variables)
        fields = {"to": TO, "sender": said.sender, "template_id": said.template_id, "variables": dict(said.variables)}
        validity = {"validity_seconds": said.validity_s} if said.validity_s else {}
        body = orjson.dumps({**fields, **validity})
        key = f"Idempotency-Key: {TO}\r\n" if plan.repeat else ""
        head = (
            f"POST /v1/sms/send HTTP/1.1\r\nHost: {plan.host}:{plan.port}\r\nAuthorization: Bearer {plan.api_key}\r\n"
            f"{key}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        ).encode()
        return head + body

    def request(self, number: int) -> bytes:
        digits = b"%d" % number
        order = digits.translate(_LETTERS)
        return digits.join(order.join(piece) for piece in self._pieces)


class Load:
    """One run of a plan."""

    def __init__(self, plan: LoadPlan) -> None:
        self.plan = plan
        self._templates = [Template(plan, content) for content in plan.contents or (None,)]
        self._again: deque[int] = deque()
        self._tries: Counter[int] = Counter()
        self._next = 0
        self._settled = 0
        self._idle: deque[Connection] = deque()
        self._connections: list[Connection] = []
        self._done = asyncio.Event()
        self._began_at = 0.0
        self._reconnects: set[asyncio.Task[None]] = set()
        self._bodies: list[bytes] = [b""] * plan.count
        zeros = bytes(8 * plan.count)
        self.result = LoadResult(
            plan.first_number,
            array("d", zeros),
            array("d", zeros),
            array("H", bytes(2 * plan.count)),
            [],
            [],
            0,
            "",
            "",
            success=plan.success,
        )

    async def run(self) -> LoadResult:
        """Returns when every message has its answer, or has none for sure."""
        connections = min(self.plan.connections, self.plan.count)
        opened = await asyncio.gather(*(self._open() for _ in range(connections)))
        self._began_at = time.monotonic()
        for connection in opened:
            self.free(connection)
        watching = asyncio.create_task(self._watch())
        pacing = asyncio.create_task(self._pace()) if self.plan.rate else None
        try:
            async with asyncio.timeout(self.plan.give_up_s):
                await self._done.wait()
        except TimeoutError:
            self.result.last_error = f"given up after {self.plan.give_up_s:g} s"
        finally:
            for task in (watching, pacing, *self._reconnects):
                if task:
                    task.cancel()
            self._idle.clear()
            for connection in self._connections:
                connection.close()
        self.result.message_ids = [_message_id(body) for body in self._bodies]
        return self.result

    async def _open(self) -> "Connection":
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(lambda: Connection(self), self.plan.host, self.plan.port)
        self._connections.append(connection)
        return connection

    def _due_at(self, index: int) -> float:
        assert self.plan.rate
        return self._began_at + index / self.plan.rate

    def free(self, connection: "Connection") -> None:
        """The connection has nothing to do: it gets the next message that is due, or waits for one."""
        now = time.monotonic()
        if self._again:
            self._write(connection, self._again.popleft(), now)
        elif self._next < self.plan.count and (self.plan.rate is None or self._due_at(self._next) <= now):
            self._send(connection, now)
        else:
            self._idle.append(connection)

    async def _pace(self) -> None:
        while self._next < self.plan.count:
            now = time.monotonic()
            while self._idle and self._next < self.plan.count and self._due_at(self._next) <= now:
                self._send(self._idle.popleft(), now)
            # With no connection free, `free` sends what is due.
            due_at = self._due_at(self._next)
            await asyncio.sleep(max(due_at - time.monotonic(), 0.001))

    def _send(self, connection: "Connection", now: float) -> None:
        index = self._next
        self._next = index + 1
        begun = now
        if self.plan.rate:
            late_s = now - self._due_at(index)
            self.result.late_s.append(late_s)
            if late_s > _TIMER_SLACK_S:
                begun = self._due_at(index)
        self.result.begun[index] = begun
        self._write(connection, index, now)

    def _write(self, connection: "Connection", index: int, now: float) -> None:
        template = self._templates[index % len(self._templates)]
        connection.send(index, template.request(self.plan.first_number + index), now)

    def _send_again_soon(self, index: int) -> None:
        tried = self._tries[index] = self._tries[index] + 1
        self.result.repeats += 1
        pause_s = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2 ** min(tried - 1, 16))
        asyncio.get_running_loop().call_later(pause_s * random.uniform(0.5, 1.0), self._send_again, index)  # noqa: S311

    def _send_again(self, index: int) -> None:
        if self._idle:
            self._write(self._idle.popleft(), index, time.monotonic())
        else:
            self._again.append(index)

    def answered(self, index: int, status: int, body: bytes) -> None:
        if self.plan.repeat and status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            self._send_again_soon(index)
            return
        self.result.answered[index] = time.monotonic()
        self.result.status[index] = status
        self._bodies[index] = body
        if status != self.plan.success and not self.result.refusal:
            self.result.refusal = body.decode(errors="replace")[:300]
        self._settle()

    def _settle(self) -> None:
        self._settled += 1
        if self._settled == self.plan.count:
            self._done.set()

    def lost(self, connection: "Connection", index: int | None, reason: str) -> None:
        """The connection ended; a message under way on it has no answer, and is sent again only if the plan says so."""
        if connection in self._connections:
            self._connections.remove(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        self.result.connections_lost += 1
        self.result.last_error = reason
        if index is not None and self.plan.repeat:
            self._send_again_soon(index)
        elif index is not None:
            self._settle()
        if not self._done.is_set():
            task = asyncio.create_task(self._reconnect())
            self._reconnects.add(task)
            task.add_done_callback(self._reconnects.discard)

    async def _reconnect(self) -> None:
        while True:
            await asyncio.sleep(_RECONNECT_AFTER_S)
            try:
                self.free(await self._open())
            except OSError as error:
                self.result.last_error = str(error)
            else:
                return

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_FOR_STUCK_EVERY_S)
            before = time.monotonic() - self.plan.answer_timeout_s
            for connection in list(self._connections):
                connection.abort_if_stuck(before)


class Connection(asyncio.Protocol):
    """Sends one request at a time and reads its answer."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._index: int | None = None
        self._sent_at = 0.0
        self._received = b""
        self._closing = False
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but name
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, index: int, request: bytes, now: float) -> None:
        self._index, self._sent_at = index, now
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        received = self._received + data if self._received else data
        head_end = received.find(b"\r\n\r\n")
        if head_end < 0:
            self._received = received
            if len(received) > _MAX_HEAD:
                self._transport.abort()
            return
        end = answer_end(received, head_end)
        if end is None:
            self._received = received
            return
        self._received = received[end:]
        index = self._index
        if index is None:
            self._transport.abort()
            return
        self._index = None
        self._load.answered(index, int(received[9:12]), received[head_end + 4 : end])
        # The server may have said that it closes: then `connection_lost` comes, and must not meet a new request.
        if b"onnection: close" in received[:head_end]:
            self._transport.close()
        else:
            self._load.free(self)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._closing:
            self._load.lost(self, self._index, str(exc or "closed by the server"))

    def abort_if_stuck(self, before: float) -> None:
        if self._index is not None and self._sent_at < before:
            self._transport.abort()

    def close(self) -> None:
        self._closing = True
        self._transport.close()


def answer_end(received: bytes, head_end: int) -> int | None:
    """Where the answer ends whose head ends there; None while the rest of it is to come.

    Of one in chunks (RFC 9112 §7.1) only the last chunk is looked for: nothing comes behind the answer to a single request.
    """
    head = received[:head_end].lower()
    if b"transfer-encoding: chunked" in head:
        return len(received) if received.endswith(_LAST_CHUNK) else None
    end = head_end + 4 + content_length(head)
    return end if len(received) >= end else None


def content_length(head: bytes) -> int:
    """The length that a head announces; ValueError where it announces none."""
    lowered = head.lower()
    start = lowered.index(b"content-length:") + len(b"content-length:")
    end = lowered.find(b"\r\n", start)
    return int(lowered[start : end if end >= 0 else None])


def _message_id(body: bytes) -> str:
    try:
        answer: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        return ""
    return str(answer.get("message_id", "")) if isinstance(answer, dict) else ""


async def serve(requests: Requests) -> None:
    """The generator's process: `run` with a LoadPlan gives its LoadResult, or the error's text."""
    requests.answer("ready")
    while True:
        _, plan = await requests.next()
        try:
            requests.answer(await Load(plan).run())
        except OSError as error:
            requests.answer(f"the load generator cannot reach {plan.host}:{plan.port}: {error.strerror or error}")
