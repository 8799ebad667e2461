"""The open event log: an account's own events, from any place on, and then as they happen.

What clients are told lies in the stream CLIENT, one subject an account, in record batches. An event's id is its batch's
place in the stream and its own place in the batch; to clients it is a word that leads back to where they were. Whoever
comes back with an id that the stream does not keep any more is told so first, in so many words.

A reader that falls behind holds a few batches and fetches no more, so a slow client costs a bounded amount of memory. A
batch that is told twice (after a crash of who tells) is given once to a reader that had it a moment ago.
"""

import asyncio
import re
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import NamedTuple, Self

import orjson

from harkara_chassis.clock import now_utc
from harkara_chassis.connection import Bus
from harkara_chassis.metrics import counter, gauge
from harkara_chassis.ordered import Message, OrderedReader, Span, span_of
from harkara_chassis.views import reader
from harkara_contracts.client_events import CLIENT_EVENTS
from harkara_contracts.errors import ErrorCode, HarkaraError
from harkara_contracts.events import ClientTold
from harkara_contracts.streams import CLIENT
from harkara_contracts.subjects import key_token, subject
from harkara_contracts.views import View
from harkara_ingress.access.limits import Decision
from harkara_ingress.refusals import BusyError, RateLimitedError

TRUNCATED = "log.truncated"
BEGINNING = "0"
"""The id before all others: whoever comes with it gets everything that is kept."""

_ID = re.compile(r"([0-9]{1,18})-([0-9]{1,3})")
_LAST_IN_BATCH = 255
_REMEMBERED = 4_096
_LOOK_S = 5.0
_RETRY_S = 2.0
_RETRY_WHEN_CLOSED_S = 30.0

_OPEN = gauge("harkara_event_streams", "Clients that follow their event log.")
_TOLD = counter("harkara_event_log_events", "Events of the log that were handed to followers.")


class LoggedEvent(NamedTuple):
    """One event: where it is, what clients call it, and the JSON text that webhooks carry too."""

    id: str
    event: str
    body: str


class Place(NamedTuple):
    """Behind this event a reader goes on: its batch's place in the stream, and its own in the batch."""

    sequence: int
    offset: int


class _Told(View):
    """What is read of a `client.told`."""

    name: str
    body: str


_decode = reader({ClientTold: _Told})


class EventLog:
    """Opens the log for readers, so many at most. Run `watch` beside it."""

    def __init__(self, bus: Bus, max_followers: int, max_followers_per_account: int) -> None:
        self._bus = bus
        self._max_followers = max_followers
        self._max_per_account = max_followers_per_account
        self._followers: set[Following] = set()
        bus.on_reconnect(self._restart)

    def follow(
        self,
        account_id: str,
        after: str | None = None,
        events: frozenset[str] | None = None,
        is_allowed: Callable[[], bool] = lambda: True,
    ) -> "Following":
        """Return a reader of an account's events, to be entered (`async with`) and then iterated.

        Args:
            account_id: whose events.
            after: the id of the last event that is known already; None begins with what happens from now on, and
                `BEGINNING` with everything that is kept.
            events: only these, by the names clients know; None for all.
            is_allowed: asked every few seconds; the reader ends when it says no (a key was revoked).

        Raises:
            HarkaraError: ERR_INVALID_REQUEST, `after` is no id of ours, or `events` has an unknown name. Entering raises
                ERR_RATE_LIMIT_EXCEEDED or ERR_UNAVAILABLE where too many follow already, or the bus is away.
        """
        if events is not None and (unknown := events - CLIENT_EVENTS):
            raise HarkaraError(
                ErrorCode.INVALID_REQUEST,
                f"There are no events of {len(unknown)} of the given types; there are: "
                f"{', '.join(sorted(CLIENT_EVENTS))}.",
            )
        return Following(self, account_id, _place(after), events, is_allowed)

    async def watch(self, stopping: asyncio.Event) -> None:
        """End readers whose right has gone, and all of them when the process is to end."""
        while not stopping.is_set():
            for following in list(self._followers):
                if not following.is_allowed():
                    following.end()
            try:
                async with asyncio.timeout(_LOOK_S):
                    await stopping.wait()
            except TimeoutError:
                continue
        self._max_followers = 0
        for following in list(self._followers):
            following.end()

    async def _restart(self) -> None:
        for following in self._followers:
            following.restart()

    async def open(self, following: "Following") -> OrderedReader:
        """Count a reader in, and find where the stream is now."""
        if len(self._followers) >= self._max_followers:
            raise BusyError("No more clients can follow their events here. Try again shortly.", _RETRY_S)
        if sum(one.account_id == following.account_id for one in self._followers) >= self._max_per_account:
            limit = self._max_per_account
            raise RateLimitedError(
                f"An account may follow its events over {limit} connections at once. Close one first.",
                Decision(allowed=False, limit=limit, remaining=0, reset_s=0.0, retry_after_s=_RETRY_WHEN_CLOSED_S),
            )
        self._followers.add(following)
        _OPEN.inc()
        try:
            span = await span_of(self._bus.client, CLIENT)
        except ConnectionError as error:
            self.leave(following)
            raise BusyError("The event log cannot be read now. Try again shortly.", _RETRY_S) from error
        except BaseException:
            self.leave(following)
            raise
        name = subject("client", "told", key_token(following.account_id))
        return OrderedReader(self._bus.client, CLIENT, name, following.start_in(span), "ingress__log")

    def leave(self, following: "Following") -> None:
        if following in self._followers:
            self._followers.discard(following)
            _OPEN.dec()


class Following:
    """One reader's way along the log: `async with log.follow(…) as following: async for event in following: …`.

    The events that happen after it was entered are in it. It ends when its right has gone or the process is to end.
    """

    def __init__(
        self,
        log: EventLog,
        account_id: str,
        after: Place | None,
        events: frozenset[str] | None,
        is_allowed: Callable[[], bool],
    ) -> None:
        self.account_id = account_id
        self.is_allowed = is_allowed
        self._log = log
        self._after = after
        self._events = events
        self._reader: OrderedReader | None = None
        self._ready: list[LoggedEvent] = []
        self._left: deque[LoggedEvent] = deque()
        self._given: OrderedDict[str, None] = OrderedDict()
        self._is_over = False

    async def __aenter__(self) -> Self:
        self._reader = await self._log.open(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._log.leave(self)
        if self._reader is not None:
            await self._reader.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> LoggedEvent:
        if not self._left:
            self._left.extend(await self.take())
        if not self._left:
            raise StopAsyncIteration
        return self._left.popleft()

    async def take(self) -> Sequence[LoggedEvent]:
        """Wait for at least one event and return all that are there; none is the end.

        For who hands on many at once. Do not cancel it but to leave: what it has in hand is gone then.
        """
        if self._reader is None:
            raise RuntimeError("enter the reader first")
        while not self._is_over:
            if self._ready:
                ready, self._ready = self._ready, []
                return ready
            messages = await self._reader.take()
            if not messages:
                break
            self._ready = [event for message in messages for event in self._events_in(message)]
            _TOLD.inc(len(self._ready))
        return ()

    def restart(self) -> None:
        if self._reader is not None:
            self._reader.restart()

    def end(self) -> None:
        """Give no more; who waits gets the end."""
        self._is_over = True
        if self._reader is not None:
            self._reader.end()

    def start_in(self, span: Span) -> int:
        """Return the place behind which to begin, and have a truncated log told first."""
        after = self._after
        if after is None:
            return span.last
        if after == _FIRST:
            return 0
        before_first = Place(span.first - 1, _LAST_IN_BATCH)
        if before_first <= after and after.sequence <= span.last:
            # A batch that is read again to its end: the id may lie in its middle.
            return max(0, after.sequence - 1)
        self._after = before_first
        self._ready = [LoggedEvent(_id(before_first), TRUNCATED, _truncated(before_first))]
        return before_first.sequence

    def _events_in(self, message: Message) -> list[LoggedEvent]:
        received, _ = _decode(message.payload, ClientTold)
        events: list[LoggedEvent] = []
        for offset, one in enumerate(received):
            place = Place(message.place, offset)
            if (self._after is not None and place <= self._after) or one.id in self._given:
                continue
            self._given[one.id] = None
            if self._events is None or one.event.name in self._events:
                events.append(LoggedEvent(_id(place), one.event.name, one.event.body))
        while len(self._given) > _REMEMBERED:
            self._given.popitem(last=False)
        return events


_FIRST = Place(0, 0)


def _place(event_id: str | None) -> Place | None:
    """Read an id as it was given out.

    Raises:
        HarkaraError: ERR_INVALID_REQUEST.
    """
    if event_id is None:
        return None
    if event_id == BEGINNING:
        return _FIRST
    found = _ID.fullmatch(event_id)
    if found is None:
        raise HarkaraError(
            ErrorCode.INVALID_REQUEST,
            "The last event id is not one that was given out here: send the id of the last event you have, "
            f"{BEGINNING} for everything that is kept, or none for what happens from now on.",
        )
    return Place(int(found[1]), int(found[2]))


def _id(place: Place) -> str:
    return f"{place.sequence}-{place.offset}"


def _truncated(place: Place) -> str:
    """Tell that events between a reader's last and the first that is kept may be missing; with the keys of all events."""
    return orjson.dumps(
        {
            "event": TRUNCATED,
            "message_id": _id(place),
            "channel": None,
            "status": "TRUNCATED",
            "carrier": None,
            "correlation_id": None,
            "timestamp": now_utc().isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "sequence": 0,
            "message": "The log does not reach back to your last event: some of yours may be missing. "
            "Ask for the states of messages that you still wait for.",
        }
    ).decode()
