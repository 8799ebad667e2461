"""The pipeline of a delivery: launch → land → settle, with a sweep for what is due.

    events ─▶ dispatch ─▶ couriers ─▶ POST ─▶ landed within the grace ─▶ one INSERT in the final state ─▶ inputs acked
                             ▲          └───▶ landed later ─▶ settle: timers, then one UPDATE for all
    timer, start ─▶ sweep ───┘ claims due rows under a lease

A batch is sent first and written once. That is safe because its inputs are acknowledged only after the write: a crash in
between sends again, with the same `webhook-id`. What has not landed when the grace is over (slow endpoints, long queues)
is written as pending under a lease, with a timer at the lease's end, before the inputs are acknowledged; from then on the
table and the timers remember it, not this process.

For endpoints known to be slow or failing nobody waits at all.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import datetime, timedelta
from types import TracebackType
from typing import NamedTuple, Self

from harkara_chassis.clock import now_utc
from harkara_chassis.faults import is_passing
from harkara_chassis.metrics import counter
from harkara_contracts.events import Event, TimerDue
from harkara_contracts.facts import EndpointFact
from harkara_contracts.subjects import Lane
from harkara_webhook_dispatcher.courier import Courier, CourierLimits, Fate, Flight, Landing, Post
from harkara_webhook_dispatcher.delivery import Delivery
from harkara_webhook_dispatcher.directory import Directory
from harkara_webhook_dispatcher.endpoint import Endpoint
from harkara_webhook_dispatcher.retry import RetryPolicy, round_up
from harkara_webhook_dispatcher.settings import RESERVE_S, Settings
from harkara_webhook_dispatcher.standing import Standing, standing_of
from harkara_webhook_dispatcher.store import Store

logger = logging.getLogger(__name__)

OWNER = "webhook-dispatcher"
_SPILL_S = 2.0
"""How soon to look again for what found no room in memory."""

_GRID_S = 1.0
_CLAIM_MAX = 1_000
_LANDED_MAX = 20_000
_SETTLE_PAUSE_S = 1.0

_ENDED = counter("harkara_webhook_deliveries", "Deliveries that ended, by state.", ("state",))
_DISABLED = counter("harkara_webhook_endpoints_disabled", "Endpoints switched off for their failures.")

Publish = Callable[[Iterable[Event]], Awaitable[int]]


class _Lease(NamedTuple):
    """The same moment by the wall clock and by the monotonic one."""

    ends_at: datetime
    ends_s: float

    @classmethod
    def until(cls, ends_at: datetime) -> Self:
        return cls(ends_at, time.monotonic() + (ends_at - now_utc()).total_seconds())


class Dispatcher:
    """Sends deliveries and keeps their rows true. An async context manager; run `settle_forever` beside it."""

    def __init__(self, store: Store, directory: Directory, post: Post, publish: Publish, settings: Settings) -> None:
        self._store = store
        self._directory = directory
        self._post = post
        self._publish = publish
        self._policy = RetryPolicy(
            settings.webhook_retry_delays_s, settings.webhook_retry_jitter, settings.webhook_retry_after_max_s
        )
        self._limits = CourierLimits(
            concurrency=settings.webhook_endpoint_concurrency,
            failing_concurrency=settings.webhook_failing_concurrency,
            capacity=settings.webhook_queue_capacity,
            slow_s=settings.webhook_grace_s,
            reserve_s=settings.webhook_timeout_s + RESERVE_S,
            disable_after=timedelta(seconds=settings.webhook_disable_after_s),
        )
        self._grace_s = settings.webhook_grace_s
        self._lease_s = settings.webhook_lease_s
        self._timeout_s = settings.webhook_timeout_s
        self._sweep_interval_s = settings.webhook_sweep_interval_s
        self._in_memory_max = settings.webhook_in_memory_max
        self._couriers: dict[str, Courier] = {}
        # Sent but not yet written: if the database is away and the batch comes again, it is not sent again.
        self._unwritten: dict[str, Flight] = {}
        self._in_memory = 0
        self._landed: list[Delivery] = []
        self._health: dict[str, Courier] = {}
        self._wake = asyncio.Event()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.gather(*(courier.stop(self._timeout_s + 1) for courier in self._couriers.values()))
        await self._settle()

    @property
    def standing(self) -> Standing:
        """How the endpoints do that this process delivers to."""
        return standing_of(self._couriers.values(), now_utc())

    async def refresh(self) -> None:
        """Read endpoints that changed, and hand couriers their new ones."""
        for webhook_id in await self._directory.refresh():
            courier = self._couriers.get(webhook_id)
            if courier is None:
                continue
            endpoint = self._directory.get(webhook_id)
            if endpoint is not None and endpoint.is_active:
                courier.change(endpoint)
            else:
                courier.retire()
                del self._couriers[webhook_id]

    async def dispatch(self, fresh: Sequence[Delivery], grace_s: float | None = None) -> list[TimerDue]:
        """Send new deliveries and write them; what is slow goes on in the background.

        Args:
            fresh: deliveries to endpoints the directory knows; `next_attempt_at` is set here.
            grace_s: how long to wait for their landing; None: as the settings say, and only for prompt endpoints.

        Returns:
            The timers that bring back what is not delivered; to be published before the inputs are acknowledged.
        """
        lease = _Lease.until(self.lease_ends_at(now_utc()))
        flights = [self._launch_once(delivery, lease) for delivery in {one.delivery_id: one for one in fresh}.values()]
        await Landing(
            flight for flight in flights if grace_s is not None or self._is_prompt(flight.delivery.webhook_id)
        ).wait(self._grace_s if grace_s is None else grace_s)
        landed = [flight.delivery for flight in flights if flight.is_down]
        late = [flight for flight in flights if not flight.is_down]
        everything = [flight.delivery for flight in flights]
        timers = self._timers(everything)
        try:
            await self._store.insert(everything)
        except Exception as failure:
            if not is_passing(failure):
                self._forget(flights)
            raise
        self._forget(flights)
        self._count(landed)
        for flight in late:
            flight.tell(self._on_down)
        return timers

    async def resend(self, delivery: Delivery, wait_s: float) -> list[TimerDue]:
        """Send a stored delivery that is pending under our lease; waits so long for its landing."""
        timers = self._timers([delivery])
        flight = self._launch(delivery, _Lease.until(delivery.next_attempt_at or now_utc()))
        flight.tell(self._on_down)
        await Landing([flight]).wait(wait_s)
        return timers

    async def sweep(self, now: datetime) -> list[TimerDue]:
        """Take up what is due at `now` or was left by a dead process; returns the timers that guard it from then on."""
        await self.refresh()
        spare = max(0, min(self._in_memory_max - self._in_memory, self._limits.capacity, _CLAIM_MAX))
        rooms = {webhook_id: max(0, min(courier.room, spare)) for webhook_id, courier in self._couriers.items()}
        lease = _Lease.until(self.lease_ends_at(now_utc()))
        claimed = await self._store.claim(now, lease.ends_at, rooms, spare)
        for delivery in claimed:
            self._launch(delivery, lease).tell(self._on_down)
        timers = self._timers(claimed)
        taken = Counter(delivery.webhook_id for delivery in claimed)
        # What had no room is looked for again soon.
        if 0 in (spare, *rooms.values()) or any(taken[one] == rooms.get(one, spare) for one in taken):
            timers.append(_timer(round_up(now_utc() + timedelta(seconds=_GRID_S), _GRID_S)))
        return timers

    async def sweep_forever(self) -> None:
        """Sweep at start and then now and then: the net under the timers."""
        while True:
            try:
                await self._publish(await self.sweep(now_utc()))
            except Exception as failure:
                if not is_passing(failure):
                    raise
                logger.warning("a sweep has to wait", extra={"kind": type(failure).__name__})
            for courier in self._couriers.values():
                courier.send_home()
            await asyncio.sleep(self._sweep_interval_s)

    async def settle_forever(self) -> None:
        """Write what lands in the background, all that a turn brings in one statement."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                await self._settle()
            except Exception as failure:
                if not is_passing(failure):
                    raise
                logger.warning("settling has to wait", extra={"kind": type(failure).__name__})
                await asyncio.sleep(_SETTLE_PAUSE_S)
                self._wake.set()

    def lease_ends_at(self, now: datetime) -> datetime:
        return round_up(now + timedelta(seconds=self._lease_s), _GRID_S)

    # --- launching -----------------------------------------------------------------------------------------------------

    def _launch_once(self, delivery: Delivery, lease: _Lease) -> Flight:
        known = self._unwritten.get(delivery.delivery_id)
        if known is not None and known.fate is not Fate.LET_GO:
            return known
        delivery.next_attempt_at = lease.ends_at
        flight = self._launch(delivery, lease)
        if flight.fate is Fate.LET_GO:
            delivery.next_attempt_at = round_up(now_utc() + timedelta(seconds=_SPILL_S), _GRID_S)
        self._unwritten[delivery.delivery_id] = flight
        return flight

    def _launch(self, delivery: Delivery, lease: _Lease) -> Flight:
        flight = Flight(delivery, lease.ends_s)
        endpoint = self._directory.get(delivery.webhook_id)
        if endpoint is None or not endpoint.is_active:
            delivery.give_up("the endpoint is switched off or deleted", now_utc())
            flight.end(Fate.LANDED)
        elif self._in_memory >= self._in_memory_max:
            flight.end(Fate.LET_GO)
        else:
            self._in_memory += 1
            flight.tell(self._on_left_memory)
            self._courier(endpoint).offer(flight)
        return flight

    def _on_left_memory(self, _: Flight) -> None:
        self._in_memory -= 1

    def _courier(self, endpoint: Endpoint) -> Courier:
        courier = self._couriers.get(endpoint.webhook_id)
        if courier is None:
            courier = Courier(endpoint, self._post, self._policy, self._limits, self._on_health)
            self._couriers[endpoint.webhook_id] = courier
        return courier

    def _is_prompt(self, webhook_id: str) -> bool:
        courier = self._couriers.get(webhook_id)
        return courier is not None and courier.is_prompt

    def _forget(self, flights: Iterable[Flight]) -> None:
        for flight in flights:
            self._unwritten.pop(flight.delivery.delivery_id, None)

    # --- settling ------------------------------------------------------------------------------------------------------

    def _on_down(self, flight: Flight) -> None:
        # What was let go untried stays pending in the table until its lease ends. If settling falls far behind, the
        # oldest results are given up: their leases end too, and they are sent again.
        if flight.fate is Fate.LANDED:
            del self._landed[: max(0, len(self._landed) - _LANDED_MAX)]
            self._landed.append(flight.delivery)
            self._wake.set()

    def _on_health(self, courier: Courier) -> None:
        self._health[courier.endpoint.webhook_id] = courier
        self._wake.set()

    async def _settle(self) -> None:
        landed, self._landed = self._landed, []
        health, self._health = self._health, {}
        try:
            # The timers first: a timer too many finds nothing due, a row without its timer would wait for the net.
            if timers := self._timers(landed):
                await self._publish(timers)
            if landed:
                await self._store.settle(landed)
                self._count(landed)
                landed = []
            for courier in health.values():
                await self._note_health(courier)
        except BaseException:
            self._landed[:0] = landed
            self._health = health | self._health
            raise

    async def _note_health(self, courier: Courier) -> None:
        webhook_id, since = courier.endpoint.webhook_id, courier.failing_since
        if courier.is_gone:
            await self._disable(webhook_id, "the endpoint answered 410 Gone", None)
        elif since is None or now_utc() - since < self._limits.disable_after:
            await self._store.note_health(webhook_id, since)
        elif not await self._disable(webhook_id, f"only failures since {since:%Y-%m-%d %H:%M} UTC", since):
            courier.failing_since = None
            await self._store.note_health(webhook_id, None)

    async def _disable(self, webhook_id: str, reason: str, unless_delivered_since: datetime | None) -> bool:
        endpoint = await self._store.disable(webhook_id, reason, unless_delivered_since)
        if endpoint is None:
            return False
        logger.warning("an endpoint was switched off", extra={"webhook_id": webhook_id, "reason": reason})
        _DISABLED.inc()
        self._directory.mark_stale(webhook_id)
        await self.refresh()
        await self._publish([fact_of(endpoint)])
        return True

    def _count(self, deliveries: Sequence[Delivery]) -> None:
        for state in ("delivered", "failed"):
            if ended := sum(delivery.state == state for delivery in deliveries):
                _ENDED.labels(state).inc(ended)

    def _timers(self, deliveries: Iterable[Delivery]) -> list[TimerDue]:
        now = round_up(now_utc(), _GRID_S)
        due = {one.next_attempt_at for one in deliveries if one.next_attempt_at}
        # A time that went by while the database was away is now.
        return [_timer(at) for at in sorted({at if at > now_utc() else now for at in due})]


def _timer(due_at: datetime) -> TimerDue:
    """Make the timer of a due time. All deliveries of that time share it, and setting it again changes nothing.

    It rides in the first lane: it wakes a sweep for all lanes, and couriers keep their order.
    """
    timer_id = f"due-{int(due_at.timestamp() * 1000)}"
    return TimerDue(owner=OWNER, lane=Lane.OTP, timer_id=timer_id, name="due", due_at=due_at)


def fact_of(endpoint: Endpoint, *, deleted: bool = False) -> EndpointFact:
    """Return what other instances and services are told of an endpoint."""
    return EndpointFact(
        version=time.time_ns(),
        deleted=deleted,
        account_id=endpoint.account_id,
        webhook_id=endpoint.webhook_id,
        status=endpoint.status,
        events=sorted(endpoint.events),
    )
