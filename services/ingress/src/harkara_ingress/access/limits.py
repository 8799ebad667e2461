"""Rate limits by GCRA, the leaky bucket as a meter: two numbers a key, exact, no window edges.

A bucket is filled by what is taken and runs out at the rate; a take is allowed while it fits. The level is kept in ticks,
of which one unit of cost has as many as the period has microseconds and `Rate.count` run out in a microsecond: whole
numbers only, so that every process, and the script that shares buckets between them, comes to the same decision. What is
pure is here, and the buckets of one process; those that all share are in `shared_limits`.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

_US = 1_000_000


@dataclass(frozen=True, slots=True)
class Rate:
    """`count` in `period_s` seconds, of which `burst` may come at once."""

    count: int
    period_s: float
    burst: int

    def ticks(self, cost: int) -> int:
        return cost * round(self.period_s * _US)

    def room(self, reserve: float) -> int:
        """Ticks that fit into an empty bucket, of which a share (0 to 1) is left to others."""
        return self.ticks(self.burst - int(self.burst * reserve))


class Decision(NamedTuple):
    """What to answer. `remaining` could come at once; `reset_s` until the bucket is empty again; waits in seconds."""

    allowed: bool
    limit: int
    remaining: int
    reset_s: float
    retry_after_s: float


UNLIMITED = Decision(allowed=True, limit=1_000_000_000, remaining=1_000_000_000, reset_s=0.0, retry_after_s=0.0)
"""Accounts without a limit are told a number, since clients read the headers as integers."""


class Bucket(NamedTuple):
    """How full a bucket was, in ticks, when it was last taken from."""

    level: int
    at_us: int


EMPTY = Bucket(0, 0)


def decide(rate: Rate, level: int, cost: int, reserve: float) -> tuple[Decision, int]:
    """Decide on a take from a bucket that is this full now; return the decision and how full it is afterwards."""
    filled = level + rate.ticks(cost)
    excess = filled - rate.room(reserve)
    allowed = excess <= 0
    if allowed:
        level = filled
    remaining = max(0, rate.room(0.0) - level) // rate.ticks(1)
    retry_after_s = 0.0 if allowed else _seconds(rate, excess)
    return Decision(allowed, rate.count, remaining, _seconds(rate, level), retry_after_s), level


def gcra(rate: Rate, bucket: Bucket, now_us: int, cost: int = 1, reserve: float = 0.0) -> tuple[Decision, Bucket]:
    """Decide on `cost` units now; return the decision and the bucket as it is then.

    What is refused leaves the bucket alone; but a clock that was set back must not keep it full until the old time.
    """
    elapsed_us = max(0, now_us - bucket.at_us)
    decision, level = decide(rate, max(0, bucket.level - elapsed_us * rate.count), cost, reserve)
    is_to_keep = decision.allowed or now_us < bucket.at_us
    return decision, Bucket(level, now_us) if is_to_keep else bucket


def _seconds(rate: Rate, ticks: int) -> float:
    """Until so many ticks have run out, rounded up to a microsecond: who waits so long is let in."""
    return -(-ticks // rate.count) / _US


class Limiter(Protocol):
    async def take(self, key: str, rate: Rate | None, cost: int = 1, reserve: float = 0.0) -> Decision:
        """Take `cost` units of `key`'s bucket; without a rate nothing is limited.

        Args:
            key: whose bucket.
            rate: what it may take; the bucket keeps its level when the rate changes.
            cost: how many units; more than the burst less the reserve are never allowed.
            reserve: the share of the burst (0 to 1) that this take has to leave to others.
        """
        ...


class LocalLimiter:
    """The buckets of one process, bounded: those that were not used the longest are forgotten first."""

    def __init__(self, clock: Callable[[], float], max_keys: int = 100_000) -> None:
        self._clock = clock
        self._max_keys = max_keys
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()

    async def take(self, key: str, rate: Rate | None, cost: int = 1, reserve: float = 0.0) -> Decision:
        return UNLIMITED if rate is None else self.decide(key, rate, cost, reserve)

    def decide(self, key: str, rate: Rate, cost: int, reserve: float) -> Decision:
        decision, bucket = gcra(rate, self._buckets.get(key, EMPTY), self._now_us(), cost, reserve)
        self._keep(key, bucket)
        return decision

    def remember(self, key: str, level: int) -> None:
        """Note how full a bucket is that is kept elsewhere."""
        self._keep(key, Bucket(level, self._now_us()))

    def _now_us(self) -> int:
        return int(self._clock() * _US)

    def _keep(self, key: str, bucket: Bucket) -> None:
        self._buckets[key] = bucket
        self._buckets.move_to_end(key)
        if len(self._buckets) > self._max_keys:
            self._buckets.popitem(last=False)
