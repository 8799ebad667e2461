"""Events in, decisions of the saga, events out."""

import random
from collections.abc import Callable, Sequence
from datetime import datetime

from harkara_chassis.clock import now_utc
from harkara_contracts.events import AttemptEvent, Event, MessageCleared, TimerDue
from harkara_contracts.subjects import Lane
from harkara_routing.expiry import bucket_of
from harkara_routing.saga import Router, Saga, Step
from harkara_routing.store import Store

EXPIRE = "expire"
WAKE = "wake"
_EXPIRE_AT_ONCE = 2_000


class Handlers:
    """What routing does with what it hears."""

    def __init__(
        self,
        store: Store,
        router: Router,
        clock: Callable[[], datetime] = now_utc,
        roll: Callable[[], float] = random.random,
    ) -> None:
        self._store = store
        self._router = router
        self._clock = clock
        self._roll = roll

    async def on_cleared(self, events: Sequence[MessageCleared]) -> Sequence[Event]:
        now = self._clock()
        steps = {event.message_id: self._router.begin(event, now, self._roll()) for event in events}
        fresh = await self._store.insert([step.saga for step in steps.values()])
        known = steps.keys() - fresh
        if known:
            steps |= await self._again(known, now)
        return self._told(list(steps.values()), self._expiry_timers(events))

    async def on_attempts(self, events: Sequence[AttemptEvent]) -> Sequence[Event]:
        now = self._clock()
        steps: list[Step] = []
        async with self._store.database.transaction() as connection:
            sagas = await self._store.lock(connection, (event.message_id for event in events))
            changed: dict[str, Saga] = {}
            for event in events:
                saga = sagas.get(event.message_id)
                if saga is None:
                    continue  # older than what is kept
                step = self._router.on_attempt(saga, event, now, self._roll())
                steps.append(step)
                if step.saga is not saga:
                    sagas[event.message_id] = changed[event.message_id] = step.saga
            if changed:
                await self._store.update(connection, list(changed.values()))
        return self._told(steps)

    async def on_timers(self, events: Sequence[TimerDue]) -> Sequence[Event]:
        told: list[Event] = []
        for event in events:
            told.extend(await (self._expire(event) if event.name == EXPIRE else self._wake(event)))
        return told

    async def _again(self, known: set[str], now: datetime) -> dict[str, Step]:
        """Tell again what was decided for messages that were here before: the telling may have been cut off."""
        async with self._store.database.transaction() as connection:
            sagas = await self._store.lock(connection, known)
            steps = {one: self._router.begin_again(saga, now, self._roll()) for one, saga in sagas.items()}
            await self._store.update(connection, [step.saga for step in steps.values()])
        return steps

    async def _expire(self, timer: TimerDue) -> Sequence[Event]:
        now = self._clock()
        bucket, after = datetime.fromisoformat(str(timer.payload["bucket"])), str(timer.payload["after"])
        async with self._store.database.transaction() as connection:
            sagas = await self._store.lock_expired(connection, bucket, after, _EXPIRE_AT_ONCE)
            # The other lanes have timers of their own for the same moment, and would tell all of it again.
            steps = [self._router.expire(saga, now) for saga in sagas.values() if saga.cleared.lane is timer.lane]
            await self._store.update(connection, [step.saga for step in steps])
        told = self._told(steps)
        if len(sagas) == _EXPIRE_AT_ONCE:
            told.append(_expiry_timer(timer.lane, bucket, after=max(sagas), due_at=now))
        return told

    async def _wake(self, timer: TimerDue) -> Sequence[Event]:
        now = self._clock()
        ids = [str(one) for one in timer.payload["message_ids"]]  # type: ignore[attr-defined]  # written by _told below
        async with self._store.database.transaction() as connection:
            sagas = await self._store.lock(connection, ids)
            steps = [self._router.wake(saga, now, self._roll()) for saga in sagas.values()]
            await self._store.update(connection, [step.saga for step in steps])
        return self._told(steps)

    def _told(self, steps: Sequence[Step], timers: Sequence[Event] = ()) -> list[Event]:
        """Collect what the steps tell, with one timer for all who want to be woken."""
        told: list[Event] = [event for step in steps for event in step.events]
        told.extend(timers)
        by_lane: dict[Lane, list[Step]] = {}
        for step in steps:
            if step.wake_at is not None:
                by_lane.setdefault(step.saga.cleared.lane, []).append(step)
        for lane, sleeping in by_lane.items():
            ids = sorted(step.saga.cleared.message_id for step in sleeping)
            due_at = max(step.wake_at for step in sleeping if step.wake_at is not None)
            told.append(
                TimerDue(
                    owner="routing",
                    lane=lane,
                    timer_id=f"{WAKE}.{ids[0]}.{int(due_at.timestamp())}",
                    name=WAKE,
                    due_at=due_at,
                    payload={"message_ids": ids},
                )
            )
        return told

    def _expiry_timers(self, events: Sequence[MessageCleared]) -> list[Event]:
        """Set the timers of these messages' quarter minutes: each time, since who knows whether an earlier one landed.

        For one that is over it is set for now: the timer may have fired before these messages were here.
        """
        now = self._clock()
        ending = {(event.lane, bucket_of(event.expires_at)) for event in events}
        return [_expiry_timer(lane, bucket, after="", due_at=max(bucket, now)) for lane, bucket in ending]


def _expiry_timer(lane: Lane, bucket: datetime, after: str, due_at: datetime) -> TimerDue:
    """Make the timer that ends what is still open in a quarter minute, from message id `after` on."""
    return TimerDue(
        owner="routing",
        lane=lane,
        timer_id=f"{EXPIRE}.{lane.value}.{int(bucket.timestamp())}.{after}",
        name=EXPIRE,
        due_at=due_at,
        payload={"bucket": bucket.isoformat(), "after": after},
    )
