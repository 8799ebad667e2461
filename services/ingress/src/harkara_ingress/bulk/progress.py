"""When a batch is complete: told once, by whoever sees it first.

The read model says of which batches messages have just come to their end; only those are looked at, and the less often the
more is still to come. A process that looks after its own write has committed sees all that was written before, so the last
one to write sees the end. What a killed process had in hand is found by the others, who look at every open batch now and
then.

Several may tell the same end: the event's id is the batch's, so the bus keeps one.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import datetime, timedelta

from harkara_chassis.clock import now_utc
from harkara_chassis.faults import is_passing
from harkara_contracts.events import BatchCompleted, Event
from harkara_contracts.subjects import Channel, Lane
from harkara_ingress.bulk.store import BatchRow, BatchStore, Progress
from harkara_ingress.status.read_model import MessageState

logger = logging.getLogger(__name__)

_SOONEST_S = 1.0
_LATEST_S = 30.0
_FASTEST_PER_S = 4_000
"""No batch ends faster: so long it need not be looked at again."""

_LOOK_ROUND_EVERY_S = 60.0
_LOOKED_AT_ONCE = 1_000
_AFTER_CANCEL = timedelta(seconds=5)
"""So long after a batch was cancelled a portion that was being fed then may still show up."""


def pause_s(row: BatchRow, progress: Progress) -> float:
    """Return how long nothing new can be found out about a batch that is not complete."""
    left = (row.total if row.cancelled_at is None else progress.messages) - progress.ended
    return min(max(_SOONEST_S, left / _FASTEST_PER_S), _LATEST_S)


def is_complete(row: BatchRow, progress: Progress, now: datetime) -> bool:
    """Tell whether a batch has come to its end: each message, or of a cancelled one each that was begun."""
    if progress.ended >= row.total:
        return True
    was_stopped = row.cancelled_at is not None and now >= row.cancelled_at + _AFTER_CANCEL
    return was_stopped and progress.ended == progress.messages


def counts_by_name(row: BatchRow, counts: dict[MessageState, int]) -> dict[str, int]:
    """Return how many recipients are in each state; those that no message was made for yet are queued, or cancelled."""
    named = {state.name.lower(): count for state, count in counts.items()}
    left = row.total - sum(counts.values())
    if left > 0:
        name = "queued" if row.cancelled_at is None else MessageState.CANCELLED.name.lower()
        named[name] = named.get(name, 0) + left
    return named


class Completion:
    """Watches open batches and tells of those that are complete.

    Args:
        store: of batches.
        publish: returns when the event is stored.
        clock: the time.
    """

    def __init__(
        self,
        store: BatchStore,
        publish: Callable[[Sequence[Event]], Awaitable[int]],
        clock: Callable[[], datetime] = now_utc,
    ) -> None:
        self._store = store
        self._publish = publish
        self._clock = clock
        self._due_s: dict[str, float] = {}
        self._not_before_s: dict[str, float] = {}
        self._wake = asyncio.Event()

    def touch(self, batch_ids: Iterable[str]) -> None:
        """Note that something of these batches has come to its end, and is committed."""
        now_s = time.monotonic()
        for batch_id in batch_ids:
            if batch_id not in self._due_s:
                self._due_s[batch_id] = self._not_before_s.get(batch_id, now_s)
                self._wake.set()

    async def run(self) -> None:
        """Look at what is due, for ever."""
        look_round_s = 0.0
        while True:
            try:
                if time.monotonic() >= look_round_s:
                    await self._look_round()
                    look_round_s = time.monotonic() + _LOOK_ROUND_EVERY_S
                await self._look_at_due()
            except Exception as error:
                if not is_passing(error):
                    raise
                logger.warning("batches are looked at later", extra={"kind": type(error).__name__})
                await asyncio.sleep(_SOONEST_S)
            await self._pause(look_round_s)

    async def _look_round(self) -> None:
        now_s = time.monotonic()
        self._not_before_s = {batch_id: at_s for batch_id, at_s in self._not_before_s.items() if at_s > now_s}
        self.touch(await self._store.open_batches(self._clock(), _LOOKED_AT_ONCE))

    async def _pause(self, until_s: float) -> None:
        """Wait for the next batch that is due, or for news."""
        next_s = min(self._due_s.values(), default=until_s)
        self._wake.clear()
        wait_s = min(next_s, until_s) - time.monotonic()
        if wait_s > 0:
            with_news = asyncio.get_running_loop().call_later(wait_s, self._wake.set)
            try:
                await self._wake.wait()
            finally:
                with_news.cancel()

    async def _look_at_due(self) -> None:
        now_s = time.monotonic()
        for batch_id in [batch_id for batch_id, due_s in self._due_s.items() if due_s <= now_s]:
            # What ends from here on needs another look.
            del self._due_s[batch_id]
            try:
                await self._look_at(batch_id)
            except BaseException:
                self._due_s.setdefault(batch_id, now_s)
                raise

    async def _look_at(self, batch_id: str) -> None:
        row = await self._store.batch(batch_id)
        if row is None or row.completed_at is not None:
            self._not_before_s.pop(batch_id, None)
            return
        progress = await self._store.progress(batch_id)
        now = self._clock()
        if is_complete(row, progress, now):
            await self._tell(row, now)
            self._not_before_s.pop(batch_id, None)
            return
        next_s = time.monotonic() + pause_s(row, progress)
        self._not_before_s[batch_id] = next_s
        if row.cancelled_at is not None and progress.ended == progress.messages:
            self._due_s.setdefault(batch_id, next_s)  # nothing more will end: it is time that completes it

    async def _tell(self, row: BatchRow, now: datetime) -> None:
        counts = counts_by_name(row, await self._store.counts(row.batch_id))
        event = BatchCompleted(
            batch_id=row.batch_id,
            account_id=row.account_id,
            lane=Lane(row.lane),
            test_mode=row.test_mode,
            correlation_id=row.correlation_id,
            channels=[Channel(name) for name in row.channels.split(",")],
            total=row.total,
            counts=counts,
            accepted_at=row.accepted_at,
            completed_at=now,
        )
        # By itself: the bus knows a repeat by the event's own id only where it is alone in its batch.
        await self._publish([event])
