"""One courier an endpoint: a queue of its own, few workers, so that a slow endpoint delays nobody but itself.

A courier carries what it was offered in the order of lanes, then of arrival. What has waited so long that its lease is
nearly over is let go: the table still has it, and a sweep may already have given it to another process.
"""

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum, auto

from harkara_chassis.clock import now_utc
from harkara_contracts.subjects import Lane
from harkara_webhook_dispatcher.delivery import Answer, Delivery
from harkara_webhook_dispatcher.endpoint import Endpoint
from harkara_webhook_dispatcher.retry import RetryPolicy

logger = logging.getLogger(__name__)

Post = Callable[[Endpoint, Delivery], Awaitable[Answer]]


class Fate(Enum):
    FLYING = auto()
    LANDED = auto()
    """It was tried; the delivery itself says what became of it."""
    LET_GO = auto()
    """Untried."""


@dataclass(slots=True, eq=False)
class Flight:
    """A delivery in this process's hands until `lease_ends_s` (monotonic clock).

    Whom `tell` names is called when it is down, landed or let go. Calls and not futures: these are made for every
    delivery, and a future's way through the loop costs more than all that is done here.
    """

    delivery: Delivery
    lease_ends_s: float
    fate: Fate = Fate.FLYING
    _listeners: list[Callable[["Flight"], None]] = field(default_factory=list)

    @property
    def is_down(self) -> bool:
        return self.fate is not Fate.FLYING

    def tell(self, listener: Callable[["Flight"], None]) -> None:
        if self.is_down:
            listener(self)
        else:
            self._listeners.append(listener)

    def end(self, fate: Fate) -> None:
        """Come down, once."""
        if not self.is_down:
            self.fate = fate
            for listener in self._listeners:
                listener(self)


class Landing:
    """Waits until all of some flights are down."""

    def __init__(self, flights: Iterable[Flight]) -> None:
        self._all_down = asyncio.Event()
        self._flying = 1
        for flight in flights:
            self._flying += 1
            flight.tell(self._on_down)
        self._on_down(None)

    def _on_down(self, _: Flight | None) -> None:
        self._flying -= 1
        if self._flying == 0:
            self._all_down.set()

    async def wait(self, timeout_s: float) -> None:
        """Return when they are, or when the time is over."""
        if not self._all_down.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self._all_down.wait()


@dataclass(frozen=True, slots=True)
class CourierLimits:
    concurrency: int
    failing_concurrency: int
    capacity: int
    slow_s: float
    """An answer that takes longer makes an endpoint one that is not waited for."""

    reserve_s: float
    """What must be left of a lease to begin a try."""

    disable_after: timedelta


class Courier:
    """Carries deliveries to one endpoint.

    `health_changed` is called when failing begins or ends, and when the endpoint ought to be switched off: it answered
    410 Gone, or has been failing for too long.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        post: Post,
        policy: RetryPolicy,
        limits: CourierLimits,
        health_changed: Callable[["Courier"], None],
    ) -> None:
        self.endpoint = endpoint
        self.failing_since: datetime | None = endpoint.failing_since
        self.is_gone = False
        self._post = post
        self._policy = policy
        self._limits = limits
        self._health_changed = health_changed
        self._is_slow = False
        self._queues: dict[Lane, deque[Flight]] = {lane: deque() for lane in Lane}
        self._queued = 0
        self._workers: set[asyncio.Task[None]] = set()
        self._resting: list[asyncio.Future[bool]] = []
        self._working = 0
        self._starting = 0
        self._is_retired = False

    @property
    def is_prompt(self) -> bool:
        """Tell whether the endpoint is likely to answer at once."""
        return self.failing_since is None and not self._is_slow

    @property
    def queued(self) -> int:
        return self._queued

    @property
    def room(self) -> int:
        return self._limits.capacity - self._queued

    def change(self, endpoint: Endpoint) -> None:
        """Carry on to the endpoint as it is now."""
        self.endpoint = endpoint
        self.is_gone = False

    def offer(self, flight: Flight) -> None:
        """Take a flight, or let it go if the queue is full."""
        if self.room <= 0 or self._is_retired:
            flight.end(Fate.LET_GO)
            return
        self._queues[flight.delivery.lane].append(flight)
        self._queued += 1
        self._hire()

    def send_home(self) -> None:
        """End the workers that have nothing to do."""
        resting, self._resting = self._resting, []
        for waking in resting:
            waking.set_result(False)

    def retire(self) -> None:
        """Let everything go that was not begun, and take nothing any more; what is on its way is finished."""
        self._is_retired = True
        while (flight := self._pop()) is not None:
            flight.end(Fate.LET_GO)
        self.send_home()

    async def stop(self, timeout_s: float) -> None:
        """Retire, and give what is on its way this long to finish."""
        self.retire()
        if self._workers:
            _, late = await asyncio.wait(self._workers, timeout=timeout_s)
            for worker in late:
                worker.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    @property
    def _concurrency(self) -> int:
        return self._limits.failing_concurrency if self.failing_since else self._limits.concurrency

    def _hire(self) -> None:
        """Have a worker for everything queued, within the bound. Those at work count as busy for long."""
        while self._working < self._concurrency and self._starting < self._queued:
            self._working += 1
            self._starting += 1
            if self._resting:
                self._resting.pop().set_result(True)
            else:
                worker = asyncio.create_task(self._work(), name=f"courier {self.endpoint.webhook_id}")
                self._workers.add(worker)
                worker.add_done_callback(self._workers.discard)

    async def _work(self) -> None:
        is_wanted = True
        while is_wanted:
            self._starting -= 1
            try:
                await self._carry_all()
            finally:
                self._working -= 1
            is_wanted = not self._is_retired and await self._rest()

    async def _rest(self) -> bool:
        """Wait for more: cheaper than a new worker for each delivery. False: go home."""
        waking: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._resting.append(waking)
        return await waking

    async def _carry_all(self) -> None:
        while self._working <= self._concurrency and (flight := self._pop()) is not None:
            if flight.lease_ends_s - time.monotonic() < self._limits.reserve_s:
                flight.end(Fate.LET_GO)
                continue
            answer = await self._carry(flight.delivery)
            flight.delivery.record(answer, self._policy)
            self._learn(answer)
            flight.end(Fate.LANDED)

    async def _carry(self, delivery: Delivery) -> Answer:
        try:
            return await self._post(self.endpoint, delivery)
        except Exception:  # a fault of ours must not stop the endpoint's queue: the delivery counts as failed
            logger.exception("a delivery could not be carried", extra={"delivery_id": delivery.delivery_id})
            return Answer(now_utc(), 0, error="the platform failed at this; it has been recorded")

    def _pop(self) -> Flight | None:
        for queue in self._queues.values():
            if queue:
                self._queued -= 1
                return queue.popleft()
        return None

    def _learn(self, answer: Answer) -> None:
        self._is_slow = answer.latency_ms > self._limits.slow_s * 1000
        if answer.is_success:
            if self.failing_since is not None:
                self.failing_since = None
                self._health_changed(self)
                self._hire()
            return
        begins = self.failing_since is None
        self.failing_since = self.failing_since or answer.at
        self.is_gone = self.is_gone or answer.is_gone
        if begins or self.is_gone or answer.at - self.failing_since >= self._limits.disable_after:
            self._health_changed(self)
