"""The one way to handle an event, in one place.

    take what is there -> decode -> handler (decides, one database transaction) -> publish all results, await every
    acknowledgement -> acknowledge the inputs

The acknowledgement comes last, event ids are deterministic and tables have natural keys: a crash at any point repeats
work and loses or doubles nothing. What cannot be read goes to DEAD on first sight; a batch whose handler fails is taken
event by event, and what still fails after its last delivery goes to DEAD alone.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from nats.aio.client import Client
from nats.aio.msg import Msg

from harkara_chassis import envelope
from harkara_chassis.dead import dead_letter
from harkara_chassis.envelope import Bad, Received
from harkara_chassis.faults import MAX_DELIVERIES, MAX_RETRY_S, is_passing, retry_delay_s
from harkara_chassis.metrics import BATCH_SECONDS, BATCH_SIZE, EVENTS_DEAD, EVENTS_HANDLED, HANDLER_ERRORS
from harkara_chassis.pace import LONGEST_S, Pace
from harkara_chassis.publisher import Publisher
from harkara_chassis.pull import Pull
from harkara_chassis.tracing import Tracing
from harkara_contracts.consumers import ConsumerSpec
from harkara_contracts.events import Event
from harkara_contracts.subjects import Lane

logger = logging.getLogger(__name__)

Handler = Callable[[Sequence[Event]], Awaitable[Sequence[Event]]]
Decode = Callable[[bytes, type[Event]], tuple[list[Received], list[Bad]]]

_PASSING_BACKOFF_S = 0.1
_OCTETS_AN_EVENT = 1_024


def _events_in(messages: Sequence[Msg]) -> int:
    """About how many events are in these messages, which nobody has opened yet."""
    return max(len(messages), sum(len(message.data) for message in messages) // _OCTETS_AN_EVENT)


@dataclass(frozen=True, slots=True)
class _Item:
    """One stream message and the events in it."""

    message: Msg
    events: list[Received]


class LaneLoop:
    """One service's loop over one stream in one lane; it waits for no other loop.

    Args:
        client: the bus connection.
        spec: what is read.
        lane: in which lane.
        handler: events in, events out.
        publisher: of the service.
        tracing: of the service.
        concurrency: handler calls at once, each for events of one subject; 1 keeps the order of the stream.
        max_events: upper bound of one handler call.
        decode: how a batch is read; a handler that needs little of its events gets views of them (see `views`).
    """

    def __init__(
        self,
        client: Client,
        spec: ConsumerSpec,
        lane: Lane,
        handler: Handler,
        publisher: Publisher,
        tracing: Tracing,
        *,
        concurrency: int = 1,
        max_events: int = 512,
        decode: Decode = envelope.decode,
    ) -> None:
        self.durable = spec.durable(lane)
        self._service = spec.service
        self._handler = handler
        self._publisher = publisher
        self._tracing = tracing
        self._concurrency = concurrency
        self._max_events = max_events
        self._decode = decode
        self._classes = {f"{event.domain}.v{event.major}.{event.event}": event for event in spec.events}
        self.pull = Pull(
            client, spec.stream.name, self.durable, batch=64 * concurrency, ack_wait_s=spec.ack_wait_s(lane)
        )
        self._pace = Pace(LONGEST_S[lane])
        self._calls: set[asyncio.Task[None]] = set()
        self._ended_by: BaseException | None = None
        self._room: dict[str, asyncio.Semaphore] = {}
        self._handled = EVENTS_HANDLED.labels(self.durable)
        self._sizes = BATCH_SIZE.labels(self.durable)
        self._seconds = BATCH_SECONDS.labels(self.durable)

    async def run(self) -> None:
        """Handle events until `stop()`.

        Raises:
            Exception: what a handler's call ended by: its messages would stay in hand for ever.
        """
        await self.pull.start()
        clock = asyncio.get_running_loop().time
        while messages := await self.pull.take():
            if (wait_s := self._pace.wait_s(clock())) > 0:
                await asyncio.sleep(wait_s)
                messages += await self.pull.take_more()
            self._pace.began(clock(), _events_in(messages))
            for portion in self._portions(messages):
                if self._concurrency == 1:
                    await self._handle_all(portion)
                else:
                    self._start(portion)
        if self._ended_by is not None:
            raise self._ended_by

    async def stop(self, timeout_s: float) -> None:
        """Take no more, finish what is in hand within the time; what was not begun is given back."""
        await self.pull.stop()
        if self._calls:
            _, late = await asyncio.wait(self._calls, timeout=timeout_s)
            for call in late:
                call.cancel()

    def _start(self, portion: list[Msg]) -> None:
        """Handle a portion beside others. How many can wait is bounded by what the pull holds."""
        room = self._room.setdefault(portion[0].subject, asyncio.Semaphore(self._concurrency))
        call = asyncio.create_task(self._handle_in_room(room, portion))
        self._calls.add(call)
        call.add_done_callback(self._on_ended)

    def _on_ended(self, call: asyncio.Task[None]) -> None:
        self._calls.discard(call)
        if not call.cancelled() and (error := call.exception()) is not None:
            self._ended_by = error
            self.pull.end()

    async def _handle_in_room(self, room: asyncio.Semaphore, portion: list[Msg]) -> None:
        # Waited for here and not in the loop: one slow carrier must not keep the others of its lane waiting.
        async with room:
            await self._handle_all(portion)

    async def _handle_all(self, portion: list[Msg]) -> None:
        # Opened only now: a backlog waits as octets, which take a tenth of the memory that events take.
        items = [item for message in portion if (item := await self._open(message)) is not None]
        for group in self._groups(items):
            await self._handle(group)

    def _portions(self, messages: list[Msg]) -> list[list[Msg]]:
        """Cut what was taken into portions of bounded size; concurrent calls get one subject each."""
        if self._concurrency > 1:
            messages = sorted(messages, key=lambda message: message.subject)  # stable: a subject's order stays
        portions: list[list[Msg]] = []
        size = 0
        for message in messages:
            apart = self._concurrency > 1 and portions and message.subject != portions[-1][0].subject
            if not portions or apart or size + len(message.data) > self._max_events * _OCTETS_AN_EVENT:
                portions.append([])
                size = 0
            portions[-1].append(message)
            size += len(message.data)
        return portions

    def _groups(self, items: list[_Item]) -> list[list[_Item]]:
        """Cut a portion into handler calls of at most so many events."""
        groups: list[list[_Item]] = []
        size = 0
        for item in items:
            if not groups or size + len(item.events) > self._max_events:
                groups.append([])
                size = 0
            groups[-1].append(item)
            size += len(item.events)
        return groups

    async def _open(self, message: Msg) -> _Item | None:
        kind = ".".join(message.subject.split(".", 3)[:3])
        event_class = self._classes.get(kind)
        if event_class is None:
            unknown = Bad(message.data, f"unknown event or major version {kind}")
            await self._bury_unreadable(message, [unknown])
            await self.pull.ack([message])
            return None
        received, bad = self._decode(message.data, event_class)
        if bad:
            await self._bury_unreadable(message, bad)
        if not received:
            await self.pull.ack([message])
            return None
        return _Item(message, received)

    async def _handle(self, items: list[_Item]) -> None:
        started_ns = time.time_ns()
        received = [one for item in items for one in item.events]
        if not await self._attempt(received):
            await self._one_by_one(items)
            return
        await self.pull.ack([item.message for item in items])
        self._handled.inc(len(received))
        self._sizes.observe(len(received))
        self._seconds.observe((time.time_ns() - started_ns) / 1e9)

    async def _attempt(self, received: Sequence[Received]) -> bool:
        """Handle and publish, waiting out passing troubles. False: the handler cannot do these together.

        Raises:
            asyncio.CancelledError: the drain's time is over; nothing was acknowledged.
        """
        events = [one.event for one in received]
        traces = {one.event.correlation_key(): one.traceparent for one in received if one.traceparent is not None}
        backoff_s = _PASSING_BACKOFF_S
        while True:
            started_ns = time.time_ns()
            try:
                results = await self._handler(events)
                onward = self._tracing.step(self.durable, traces, started_ns, time.time_ns()) if traces else None
                if results:
                    await self._publisher.publish(results, onward)
            except Exception as error:
                HANDLER_ERRORS.labels(self.durable, type(error).__name__).inc()
                if not is_passing(error):
                    logger.exception("a handler failed", extra={"consumer": self.durable, "events": len(events)})
                    return False
                logger.warning("waiting", extra={"consumer": self.durable, "kind": type(error).__name__})
                await asyncio.sleep(backoff_s)
                backoff_s = min(2 * backoff_s, MAX_RETRY_S / 6)
            else:
                return True

    async def _one_by_one(self, items: list[_Item]) -> None:
        for item in items:
            failed = [one for one in item.events if not await self._attempt([one])]
            deliveries = item.message.metadata.num_delivered or 1
            if failed and deliveries < MAX_DELIVERIES:
                await self.pull.nak([item.message], retry_delay_s(deliveries))
                continue
            for one in failed:
                await self._bury(item.message, one.id, deliveries)
            await self.pull.ack([item.message])

    async def _bury(self, message: Msg, record_id: str, deliveries: int) -> None:
        EVENTS_DEAD.labels(self.durable).inc()
        body = envelope.record(message.data, record_id)
        reason = f"the handler failed {deliveries} times"
        letter = dead_letter(self._service, message.subject, self.durable, reason, deliveries, body, record_id)
        await self._publisher.send([letter])

    async def _bury_unreadable(self, message: Msg, bad: list[Bad]) -> None:
        EVENTS_DEAD.labels(self.durable).inc(len(bad))
        sequence = message.metadata.sequence.stream
        logger.error("unreadable records", extra={"consumer": self.durable, "records": len(bad), "sequence": sequence})
        await self._publisher.send(
            [
                dead_letter(
                    self._service, message.subject, self.durable, one.reason, 1, one.payload, f"{sequence}.{place}"
                )
                for place, one in enumerate(bad)
            ]
        )
