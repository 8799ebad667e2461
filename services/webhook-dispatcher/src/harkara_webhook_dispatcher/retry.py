"""When a failed delivery is tried again, and when it is given up.

The delays are 5 s, 30 s, 5 min, 30 min and 2 h, each ± 20 %. A time to try again is rounded up to a mark on a grid of a
twentieth of its delay, so that the thousands of deliveries which an outage puts off come back by a handful of timers.
"""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

_MARKS_PER_DELAY = 20
_FINEST_MARK_S = 0.1
_COARSEST_MARK_S = 300.0


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """`delays_s[n]` follows failed try n + 1; after the last the delivery is kept for replay.

    `retry_after_max_s` bounds what an endpoint may ask for by Retry-After. `uniform` draws the jitter.
    """

    delays_s: tuple[float, ...]
    jitter: float
    retry_after_max_s: float
    uniform: Callable[[float, float], float] = random.uniform

    def next_attempt_at(self, tries: int, retry_after_s: float | None, now: datetime) -> datetime | None:
        """Return when to try again after `tries` failures in a row (1 or more); None when it is enough."""
        if tries > len(self.delays_s):
            return None
        delay_s = self.delays_s[tries - 1] * self.uniform(1 - self.jitter, 1 + self.jitter)
        if retry_after_s is not None:
            delay_s = max(delay_s, min(retry_after_s, self.retry_after_max_s))
        return round_up(now + timedelta(seconds=delay_s), mark_s(delay_s))


def mark_s(delay_s: float) -> float:
    """Return the grid of due times this far ahead."""
    return min(max(delay_s / _MARKS_PER_DELAY, _FINEST_MARK_S), _COARSEST_MARK_S)


def round_up(at: datetime, grid_s: float) -> datetime:
    """Return the first mark at or after a time; marks lie on whole powers of two times the finest, to be shared."""
    grid_ms = round(_FINEST_MARK_S * 1000) * 2 ** max(0, math.floor(math.log2(grid_s / _FINEST_MARK_S)))
    at_ms = math.ceil(at.timestamp() * 1000)
    return datetime.fromtimestamp(-(-at_ms // grid_ms) * grid_ms / 1000, UTC)
