"""Rate limits by GCRA, the leaky bucket as a meter: one number a key, exact, no window edges.

The state is the theoretical arrival time: when the bucket will be empty again. A request of `cost` is allowed while the
time it would move to lies no further ahead than the burst. `gcra` is pure; `LocalLimiter` keeps the numbers of one
process, and another limiter (one that shares them) fits behind the same `take`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol


@dataclass(frozen=True, slots=True)
class Rate:
    """`count` in `period_s` seconds, of which `burst` may come at once."""

    count: int
    period_s: float
    burst: int


class Decision(NamedTuple):
    """What to answer. `remaining` could come at once; `reset_s` until the bucket is full again; waits in seconds."""

    allowed: bool
    limit: int
    remaining: int
    reset_s: float
    retry_after_s: float


UNLIMITED = Decision(allowed=True, limit=1_000_000_000, remaining=1_000_000_000, reset_s=0.0, retry_after_s=0.0)
"""Accounts without a limit are told a number, since clients read the headers as integers."""


def gcra(rate: Rate, empty_at_s: float, now_s: float, cost: int = 1) -> tuple[Decision, float]:
    """Decide on `cost` units now; return the decision and the new state."""
    interval_s = rate.period_s / rate.count
    capacity_s = rate.burst * interval_s
    current_s = max(empty_at_s, now_s)
    next_s = current_s + cost * interval_s
    wait_s = next_s - capacity_s - now_s
    # Clock sums are floats: a unit that fits exactly must not fail by a rounding error.
    allowed = wait_s <= interval_s * 1e-6
    state_s = next_s if allowed else current_s
    remaining = math.floor((capacity_s - (state_s - now_s)) / interval_s + 1e-6)
    retry_after_s = 0.0 if allowed else wait_s
    return Decision(allowed, rate.count, max(0, remaining), state_s - now_s, retry_after_s), state_s


class Limiter(Protocol):
    async def take(self, key: str, rate: Rate | None, cost: int = 1) -> Decision:
        """Take `cost` units of `key`'s bucket; without a rate nothing is limited."""
        ...


class LocalLimiter:
    """The buckets of one process, bounded: full buckets are forgotten first (they say nothing), then the oldest."""

    def __init__(self, clock: Callable[[], float], max_keys: int = 100_000) -> None:
        self._clock = clock
        self._max_keys = max_keys
        self._empty_at_s: dict[str, float] = {}

    async def take(self, key: str, rate: Rate | None, cost: int = 1) -> Decision:
        if rate is None:
            return UNLIMITED
        now_s = self._clock()
        decision, self._empty_at_s[key] = gcra(rate, self._empty_at_s.get(key, 0.0), now_s, cost)
        if len(self._empty_at_s) > self._max_keys:
            self._shrink(now_s)
        return decision

    def _shrink(self, now_s: float) -> None:
        live = {key: empty_at_s for key, empty_at_s in self._empty_at_s.items() if empty_at_s > now_s}
        # Half is freed at once, so that a flood of new keys does not pay for a sweep each.
        excess = len(live) - self._max_keys // 2
        for key in list(live)[: max(0, excess)]:
            del live[key]
        self._empty_at_s = live
