"""The feeder: portions whose time has come become accepted messages, at the rate their account may send.

The due times of portions are spread by that rate already; the account's bucket, which its single sends take from too,
decides. A feeder leaves a share of the bucket alone, so that a bulk never keeps a single send waiting. What may not leave
yet comes back by timer, in the order it was put off, and so does a portion that meets the closed hours for promotion.

A portion does not leave in one go: a few hundred messages at once are a pause for everybody behind them, in each service on
their way. It leaves in pieces, an account's portions one after the other. A pause or a publishing that takes longer than it
should tells that the machine is short of CPU: then the next pause is longer by far, for what cannot wait.
"""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Protocol

from harkara_chassis.clock import now_utc
from harkara_chassis.metrics import counter
from harkara_contracts.events import Event, TimerDue
from harkara_contracts.facts import AccountFact
from harkara_ingress.access.accounts import AccountStatus, rates
from harkara_ingress.access.limits import Limiter, Rate
from harkara_ingress.bulk.portions import MAX_ENTRIES, Entry, Portion, messages, read_portion, timer_again
from harkara_registry import earliest_departure

logger = logging.getLogger(__name__)

RETRIES_S = (0.5, 2.0, 10.0, 60.0, 180.0, 300.0)
"""When a portion whose batch nobody knows is looked at again: its call may be a moment from its 202, or it broke off and
nobody was ever answered."""

RESERVE = 0.5
"""The share of an account's burst that is left to its single sends."""

FEEDING_AT_ONCE = 4
"""Calls of the handler: an account that is fed slowly does not keep others waiting."""

_PIECE = 64
"""Fewer, and what a turn costs each service whatever its size would be half of all work."""

_SMOOTH_S = 0.25
"""Timers come due four times a second, so a portion takes no longer than until the next one."""

_USUAL_PUBLISH_S = 0.01
_YIELD = 4
"""What was late is waited for so many times over: where all are late, it is the bulk that makes room."""

_LONGEST_YIELD_S = 0.5
_SUSPENDED_S = 60.0
_PUT_OFF_BATCHES = 10_000

_FED = counter("harkara_bulk_messages", "Messages of bulks that were given to the saga.")
_PUT_OFF = counter("harkara_bulk_put_off", "Portions that came back for later, by reason.", ("reason",))
_DROPPED = counter("harkara_bulk_dropped", "Recipients of portions that were dropped, by reason.", ("reason",))


class Batches(Protocol):
    async def cancelled(self, batch_ids: Iterable[str]) -> dict[str, bool]:
        """Tell of each batch that is known whether it was cancelled."""
        ...


class _Line:
    """The portions of an account that are being fed in this process, or wait for the one that is: two at most."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.length = 0


class Feeder:
    """Handles the timers of the edge.

    Args:
        batches: what is known of batches.
        account: looks an account up in memory.
        limiter: of messages, shared with single sends.
        publish: returns when all is stored.
        per_second: messages of all bulks of an account that has no limit of its own.
        clock: the time.
        sleep: waits for so many seconds.
        time_s: a clock that only goes forward.
    """

    def __init__(
        self,
        batches: Batches,
        account: Callable[[str], AccountFact | None],
        limiter: Limiter,
        publish: Callable[[Sequence[Event]], Awaitable[int]],
        per_second: int,
        clock: Callable[[], datetime] = now_utc,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        time_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._batches = batches
        self._account = account
        self._limiter = limiter
        self._publish = publish
        self._unlimited = Rate(per_second, 1.0, max(per_second // 2, 2 * MAX_ENTRIES))
        self._clock = clock
        self._sleep = sleep
        self._time_s = time_s
        self._put_off_until: OrderedDict[str, datetime] = OrderedDict()
        self._lines: dict[str, _Line] = {}

    async def on_timers(self, timers: Sequence[TimerDue]) -> Sequence[Event]:
        """Feed portions, beside each other: one that is fed smoothly keeps no other waiting."""
        portions = [read_portion(timer) for timer in timers]
        cancelled = await self._batches.cancelled({portion.batch_id for portion in portions})
        feeding = (self._feed(portion, cancelled.get(portion.batch_id)) for portion in portions)
        for error in await asyncio.gather(*feeding, return_exceptions=True):
            if error is not None:
                raise error
        return ()

    async def _feed(self, portion: Portion, is_cancelled: bool | None) -> None:
        now = self._clock()
        if is_cancelled is None:
            await self._of_nobody(portion, now)
            return
        if is_cancelled:
            _DROPPED.labels("cancelled").inc(len(portion.entries))
            return
        account = self._account(portion.prototype.account_id)
        if account is None or account.status != AccountStatus.ACTIVE:
            await self._put_off(portion, now + timedelta(seconds=_SUSPENDED_S), "suspended")
            return
        rate = rates(account)[1]
        departure = earliest_departure(portion.prototype.category, portion.prototype.send_at, now)
        if departure > now:
            turn = self._turn(portion, departure, len(portion.entries), rate or self._unlimited)
            await self._put_off(portion, turn, "window")
            return
        line = self._lines.setdefault(account.account_id, _Line())
        if line.length > 1:
            turn = self._turn(portion, now, len(portion.entries), rate or self._unlimited)
            await self._put_off(portion, turn, "slow")
            return
        line.length += 1
        try:
            async with line.lock:
                await self._paced(portion, rate, self._clock())
        finally:
            line.length -= 1
            if not line.length:
                self._lines.pop(account.account_id, None)

    async def _paced(self, portion: Portion, rate: Rate | None, now: datetime) -> None:
        """Let leave what the account may send now; the rest comes back."""
        if rate is None:
            key, pace, reserve = f"bulk:{portion.prototype.account_id}", self._unlimited, 0.0
        else:
            key, pace, reserve = f"messages:{portion.prototype.account_id}", rate, RESERVE
        # Half of what there can be room for: all of it is never there while single sends come, too.
        size = max(1, (pace.burst - int(pace.burst * reserve)) // 2)
        leaving, staying = portion.entries[:size], portion.entries[size:]
        decision = await self._limiter.take(key, pace, len(leaving), reserve)
        if not decision.allowed:
            later = now + timedelta(seconds=decision.retry_after_s)
            await self._put_off(portion, self._turn(portion, later, len(leaving), pace), "rate")
            return
        await self._let_leave(portion, leaving, pace.period_s / pace.count)
        if staying:
            # It follows when what left now has run out again.
            later = now + timedelta(seconds=len(leaving) * pace.period_s / pace.count)
            await self._publish([timer_again(portion, later, left=staying)])

    async def _let_leave(self, portion: Portion, leaving: Sequence[Entry], interval_s: float) -> None:
        pause_s = min(_PIECE * interval_s, _SMOOTH_S * _PIECE / len(leaving))
        late_s = 0.0
        for start in range(0, len(leaving), _PIECE):
            began_s = self._time_s()
            piece = leaving[start : start + _PIECE]
            await self._publish(messages(portion, piece, self._clock()))
            _FED.inc(len(piece))
            if start + _PIECE < len(leaving):
                published_s = self._time_s() - began_s
                late_s += max(0.0, published_s - _USUAL_PUBLISH_S)
                wanted_s = max(0.0, pause_s - min(published_s, _USUAL_PUBLISH_S)) + min(
                    _YIELD * late_s, _LONGEST_YIELD_S
                )
                began_s = self._time_s()
                await self._sleep(wanted_s)
                late_s = max(0.0, self._time_s() - began_s - wanted_s)

    async def _of_nobody(self, portion: Portion, now: datetime) -> None:
        if portion.tries < len(RETRIES_S):
            later = now + timedelta(seconds=RETRIES_S[portion.tries])
            await self._put_off(portion, later, "unknown", tries=portion.tries + 1)
            return
        _DROPPED.labels("never_accepted").inc(len(portion.entries))
        logger.warning(
            "a portion of a bulk that was never accepted is dropped",
            extra={"batch_id": portion.batch_id, "portion": portion.number, "recipients": len(portion.entries)},
        )

    async def _put_off(self, portion: Portion, due_at: datetime, reason: str, tries: int = 0) -> None:
        _PUT_OFF.labels(reason).inc()
        await self._publish([timer_again(portion, due_at, tries=tries)])

    def _turn(self, portion: Portion, earliest: datetime, size: int, pace: Rate) -> datetime:
        """Return when a portion is to come back: not with all others of its batch at once, of which one would get in."""
        turns = self._put_off_until
        turn = max(earliest, turns.get(portion.batch_id, earliest))
        turns[portion.batch_id] = turn + timedelta(seconds=size * pace.period_s / pace.count)
        turns.move_to_end(portion.batch_id)
        if len(turns) > _PUT_OFF_BATCHES:
            turns.popitem(last=False)
        return turn
