"""The one way out: record batches, pipelined, bounded, every acknowledgement awaited.

A publish without a stream behind it is lost without a word, and one that timed out may still have landed. So each batch
names its stream and its de-duplication id, and is repeated with the same id until the server says it has it. Nothing
else in the platform publishes (a test reads the sources for it).
"""

import asyncio
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import nats.errors
import orjson
from nats.aio.client import Client
from nats.aio.msg import Msg

from harkara_chassis import envelope
from harkara_chassis.metrics import EVENTS_PUBLISHED, PUBLISH_REPEATS
from harkara_contracts.events import Event, TimerDue
from harkara_contracts.streams import stream_of
from harkara_contracts.subjects import key_token, subject

logger = logging.getLogger(__name__)

ACK_TIMEOUT_S = 5.0
MAX_IN_FLIGHT = 256
_COMMIT_TIMEOUT_S = 60.0
_FIRST_BACKOFF_S = 0.05
_MAX_BACKOFF_S = 2.0
_PASSING = (10158, 10002)
"""JetStream's err_codes that sound as if the message were to blame, and pass: a repeat that overtakes its first try on
the way through a cluster, and an account whose storage is full."""

_FIRED_TIMER_TTL = "259200s"
"""A fired timer stays as long as the saga's streams; its owner has acknowledged it long before."""


class PublishRefusedError(Exception):
    """The server will never take this message as it is: a fault of ours, not of the moment."""


@dataclass(slots=True)
class Outgoing:
    """One stream message on its way."""

    subject: str
    payload: bytes
    headers: dict[str, str]
    sequence: int = 0


@dataclass(slots=True)
class _Commits:
    """Events of one subject whose callers wait together."""

    waiting: list[tuple[Event, asyncio.Future[None]]] = field(default_factory=list)
    busy: bool = False


class Publisher:
    """Publishes events for one service. `start()` first."""

    def __init__(self, client: Client, source: str) -> None:
        self._client = client
        self._source = f"/harkara/{source}"
        self._acks: dict[str, asyncio.Future[Msg]] = {}
        self._counter = 0
        self._room = asyncio.Semaphore(MAX_IN_FLIGHT)
        self._commits: dict[str, _Commits] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._prefix = ""

    async def start(self) -> None:
        self._prefix = self._client.new_inbox()
        await self._client.subscribe(f"{self._prefix}.*", cb=self._on_ack)

    async def publish(self, events: Iterable[Event], traces: dict[str, str] | None = None) -> int:
        """Publish events and wait until the server has stored all of them.

        Returns:
            The highest stream sequence that an acknowledgement told (0 for no events).

        Raises:
            PublishRefusedError: a message no server would take.
            nats.errors.ConnectionClosedError: the connection is closed for good.
        """
        outgoing = [message for batch in envelope.cut(events) for message in self._messages(batch, traces)]
        return await self.send(outgoing)

    async def commit(self, event: Event, traceparent: str | None = None, timeout_s: float = _COMMIT_TIMEOUT_S) -> None:
        """Publish one event together with those of other callers who arrive meanwhile: one batch, one fsync for all.

        Returns when the batch is stored; raises as `publish` does, and TimeoutError. Who gives up waiting cannot know
        whether its event was stored.
        """
        if traceparent is not None:
            async with asyncio.timeout(timeout_s):
                await self.publish([event], {event.correlation_key(): traceparent})
            return
        commits = self._commits_of(event.subject())
        loop = asyncio.get_running_loop()
        stored: asyncio.Future[None] = loop.create_future()
        # By hand: `asyncio.timeout` costs each caller three times as much.
        deadline = loop.call_later(timeout_s, _give_up, stored)
        commits.waiting.append((event, stored))
        if not commits.busy:
            commits.busy = True
            task = asyncio.create_task(self._drain(commits))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        try:
            await stored
        finally:
            deadline.cancel()

    def _commits_of(self, subject_name: str) -> _Commits:
        commits = self._commits.get(subject_name)
        if commits is None:
            commits = self._commits[subject_name] = _Commits()
        return commits

    async def send(self, messages: Sequence[Outgoing]) -> int:
        """Send prepared messages until each is acknowledged; returns the highest sequence."""
        pending = list(messages)
        backoff_s = _FIRST_BACKOFF_S
        while pending:
            acks = [(message, await self._emit(message)) for message in pending]
            pending = [message for message, ack in acks if not await self._acknowledged(message, ack)]
            if pending:
                PUBLISH_REPEATS.inc(len(pending))
                await asyncio.sleep(backoff_s)
                backoff_s = min(2 * backoff_s, _MAX_BACKOFF_S)
        return max((message.sequence for message in messages), default=0)

    def repeat_unacknowledged(self) -> None:
        """Publish again what waits for its acknowledgement: after a lost connection none of these will come."""
        for ack in list(self._acks.values()):
            ack.cancel()

    def _messages(self, batch: list[Event], traces: dict[str, str] | None) -> list[Outgoing]:
        EVENTS_PUBLISHED.labels(batch[0].type_name()).inc(len(batch))
        if isinstance(batch[0], TimerDue):
            return [self._timer(event, traces) for event in batch if isinstance(event, TimerDue)]
        payload = envelope.encode(batch, self._source, traces)
        if len(payload) > envelope.MAX_BATCH_BYTES and len(batch) > 1:
            half = len(batch) // 2
            return self._messages(batch[:half], traces) + self._messages(batch[half:], traces)
        return [Outgoing(batch[0].subject(), payload, headers(batch[0].subject(), envelope.batch_id(batch)))]

    def _timer(self, timer: TimerDue, traces: dict[str, str] | None) -> Outgoing:
        """Make the message that the server itself turns into a `timer.due` at its time.

        One subject a timer, so that a new one replaces the old one of the same id.
        """
        name = subject("timer", "set", timer.owner, key_token(timer.timer_id))
        extra = headers(name, f"{timer.event_id()}.set") | {
            "Nats-Schedule": f"@at {timer.due_at.isoformat().replace('+00:00', 'Z')}",
            "Nats-Schedule-Target": timer.subject(),
            "Nats-Schedule-TTL": _FIRED_TIMER_TTL,
        }
        return Outgoing(name, envelope.encode([timer], self._source, traces), extra)

    async def _drain(self, commits: _Commits) -> None:
        while commits.waiting:
            taken, commits.waiting = (
                commits.waiting[: envelope.MAX_BATCH_EVENTS],
                commits.waiting[envelope.MAX_BATCH_EVENTS :],
            )
            live = [(event, stored) for event, stored in taken if not stored.done()]
            try:
                if live:
                    await self.send(self._messages([event for event, _ in live], None))
            except Exception as error:  # noqa: BLE001  # whatever it is, every waiting caller must hear of it
                for _, stored in live:
                    if not stored.done():
                        stored.set_exception(error)
            else:
                for _, stored in live:
                    if not stored.done():
                        stored.set_result(None)
        commits.busy = False

    async def _emit(self, message: Outgoing) -> asyncio.Future[Msg]:
        await self._room.acquire()
        self._counter += 1
        token = str(self._counter)
        loop = asyncio.get_running_loop()
        ack: asyncio.Future[Msg] = loop.create_future()
        self._acks[token] = ack
        # From here on, whoever waits for it or not: an ack that was lost must not keep its place for ever.
        deadline = loop.call_later(ACK_TIMEOUT_S, ack.cancel)
        ack.add_done_callback(lambda _: self._forget(token, deadline))
        try:
            await self._client.publish(
                message.subject, message.payload, reply=f"{self._prefix}.{token}", headers=message.headers
            )
        except nats.errors.ConnectionClosedError:
            ack.cancel()
            raise
        except nats.errors.OutboundBufferLimitError:
            ack.cancel()  # the server is away and the buffer is full: tried again after a pause
        return ack

    def _forget(self, token: str, deadline: asyncio.TimerHandle) -> None:
        deadline.cancel()
        self._acks.pop(token, None)
        self._room.release()

    async def _on_ack(self, message: Msg) -> None:
        ack = self._acks.get(message.subject.rpartition(".")[2])
        if ack is not None and not ack.done():
            ack.set_result(message)

    async def _acknowledged(self, message: Outgoing, ack: asyncio.Future[Msg]) -> bool:
        """Tell whether the server has it. False means unknown: to be repeated with the same id."""
        try:
            answer = await ack
        except asyncio.CancelledError:
            if _being_cancelled():
                raise
            logger.warning("no acknowledgement in time", extra={"stream": message.headers["Nats-Expected-Stream"]})
            return False
        if answer.headers and answer.headers.get("Status") == "503":
            logger.warning("no stream takes the subject", extra={"stream": message.headers["Nats-Expected-Stream"]})
            return False
        result = orjson.loads(answer.data)
        if error := result.get("error"):
            return _retry_or_raise(error)
        message.sequence = result["seq"]
        return True


def headers(subject_name: str, deduplication_id: str) -> dict[str, str]:
    """Return the headers that every message of ours has."""
    return {
        "Content-Type": envelope.CONTENT_TYPE,
        "Nats-Msg-Id": deduplication_id,
        "Nats-Expected-Stream": stream_of(subject_name).name,
    }


def _give_up(stored: asyncio.Future[None]) -> None:
    if not stored.done():
        stored.set_exception(TimeoutError())


def _retry_or_raise(error: dict[str, object]) -> bool:
    code = error.get("code")
    is_theirs = isinstance(code, int) and code >= 500  # noqa: PLR2004  # as in HTTP: the server's trouble, not ours
    if is_theirs or error.get("err_code") in _PASSING:
        logger.warning("the bus cannot store now", extra={"err_code": error.get("err_code")})
        return False
    raise PublishRefusedError(str(error.get("description")))


def _being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
