"""Events in, decisions of the saga, events out."""

import random
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime

from harkara_chassis.clock import now_utc
from harkara_contracts.events import Event, MessageCleared, TimerDue
from harkara_contracts.subjects import Lane
from harkara_routing.expiry import bucket_of
from harkara_routing.saga import Heard, Router, Saga, Step
from harkara_routing.store import Kept, Store

EXPIRE = "expire"
WAKE = "wake"
_EXPIRE_AT_ONCE = 2_000

Decide = Callable[[Saga], Step]


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
        known = await self._store.insert([step.saga for step in steps.values()])
        told = [step for message_id, step in steps.items() if message_id not in known]
        if known:
            # Tell again what was decided for messages that were here before: the telling may have been cut off.
            told += await self._change(known, lambda saga: self._router.begin_again(saga, now, self._roll()))
        return self._told(told, self._expiry_timers(events))

    async def on_attempts(self, events: Sequence[Heard]) -> Sequence[Event]:
        now = self._clock()
        heard: dict[str, list[Heard]] = {}
        for event in events:
            heard.setdefault(event.message_id, []).append(event)

        def hear(saga: Saga) -> Step:
            first, *more = heard[saga.cleared.message_id]
            step = self._router.on_attempt(saga, first, now, self._roll())
            for event in more:
                step = step.followed_by(self._router.on_attempt(step.saga, event, now, self._roll()))
            return step

        return self._told(await self._change(heard.keys(), hear))

    async def on_timers(self, events: Sequence[TimerDue]) -> Sequence[Event]:
        told: list[Event] = []
        for event in events:
            told.extend(await (self._expire(event) if event.name == EXPIRE else self._wake(event)))
        return told

    async def _change(self, message_ids: AbstractSet[str], decide: Decide) -> list[Step]:
        """Decide about these messages' sagas and write what changes. What is older than what is kept is left out.

        A saga in memory may be out of date. It counts where the write proves that it was not; one that would stay as it
        is has no such proof, and is read.
        """
        drafts = [
            (kept, step)
            for kept in self._store.remembered(message_ids)
            if (step := decide(kept.saga)).saga is not kept.saga
        ]
        return await self._settle(drafts, message_ids - {_id_of(kept) for kept, _ in drafts}, decide)

    async def _settle(self, drafts: list[tuple[Kept, Step]], unread: AbstractSet[str], decide: Decide) -> list[Step]:
        """Write drafts; those that were lost to another process, and what was not read yet, are decided on their rows."""
        steps: list[Step] = []
        while drafts or unread:
            if unread:
                drafts += [(kept, decide(kept.saga)) for kept in await self._store.read(unread)]
            changes = [(kept, step.saga) for kept, step in drafts if step.saga is not kept.saga]
            unread = await self._store.move(changes)
            steps += [step for kept, step in drafts if _id_of(kept) not in unread]
            drafts = []
        return steps

    async def _expire(self, timer: TimerDue) -> Sequence[Event]:
        now = self._clock()
        bucket, after = datetime.fromisoformat(str(timer.payload["bucket"])), str(timer.payload["after"])

        def expire(saga: Saga) -> Step:
            return self._router.expire(saga, now)

        found = await self._store.read_expired(timer.lane, bucket, after, _EXPIRE_AT_ONCE)
        told = self._told(await self._settle([(kept, expire(kept.saga)) for kept in found], set(), expire))
        if len(found) == _EXPIRE_AT_ONCE:
            told.append(_expiry_timer(timer.lane, bucket, after=_id_of(found[-1]), due_at=now))
        return told

    async def _wake(self, timer: TimerDue) -> Sequence[Event]:
        now = self._clock()
        ids = {str(one) for one in timer.payload["message_ids"]}  # type: ignore[attr-defined]  # written by _told below
        return self._told(await self._change(ids, lambda saga: self._router.wake(saga, now, self._roll())))

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


def _id_of(kept: Kept) -> str:
    return kept.saga.cleared.message_id


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
