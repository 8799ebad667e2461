"""How fast one bind may submit: a token bucket at the carrier's TPS that gives way when the carrier throttles.

Pure arithmetic over a clock that the caller passes in. A throttle stops the bind for a pause and halves the rate; while
nothing is refused the rate climbs back. The throttles of one window arrive together and count as one. What is urgent goes
on in a trickle: it was not its rate that the carrier refused.
"""

_BURST_S = 0.1
_RECOVERY_PER_S = 0.1
_SLOWEST_SHARE = 0.02
_SLOWEST_RATE = 1.0
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 8.0
_TRICKLE_EVERY_S = 0.05


class Pacer:
    """Tokens for submit_sm; `tps` is the agreed rate in messages a second, `now` is always monotonic seconds."""

    __slots__ = (
        "_burst",
        "_next_pause_s",
        "_refilled_at",
        "_slowest",
        "_tokens",
        "_tps",
        "_trickled_at",
        "paused_until",
        "rate",
    )

    def __init__(self, tps: float, now: float) -> None:
        if tps <= 0:
            raise ValueError("tps must be positive")
        self._tps = tps
        self.rate = tps
        self._slowest = min(tps, max(_SLOWEST_RATE, tps * _SLOWEST_SHARE))
        self._burst = max(1.0, tps * _BURST_S)
        self._tokens = self._burst
        self._refilled_at = now
        self._next_pause_s = _FIRST_PAUSE_S
        self._trickled_at = 0.0
        self.paused_until = now

    def take(self, wanted: int, now: float) -> int:
        """How many of `wanted` messages may be written now; they are taken from the bucket."""
        if now < self.paused_until:
            return 0
        elapsed = now - self._refilled_at
        self._refilled_at = now
        self.rate = self._recovered(elapsed)
        self._tokens = min(self._burst, self._tokens + elapsed * self.rate)
        granted = min(wanted, int(self._tokens))
        self._tokens -= granted
        return granted

    def take_urgent(self, now: float) -> int:
        """One or none: what may be written of urgent messages during a pause."""
        if now >= self.paused_until or now - self._trickled_at < max(_TRICKLE_EVERY_S, 1 / self._tps):
            return 0
        self._trickled_at = now
        return 1

    def share(self, now: float) -> float:
        """The share of the agreed rate that may be written now; 0 in the pause after a throttle."""
        return 0.0 if now < self.paused_until else self._recovered(now - self._refilled_at) / self._tps

    def _recovered(self, elapsed: float) -> float:
        if self.rate >= self._tps:
            return self.rate
        return min(self._tps, self.rate + self._tps * _RECOVERY_PER_S * elapsed)

    def throttled(self, now: float) -> None:
        """The carrier refused a message for its rate."""
        if now < self.paused_until:
            return
        self.rate = max(self.rate / 2, self._slowest)
        self.paused_until = now + self._next_pause_s
        self._next_pause_s = min(_LONGEST_PAUSE_S, self._next_pause_s * 2)
        self._tokens = 0.0
        self._refilled_at = self.paused_until

    def accepted(self, now: float) -> None:
        """The carrier took a message; if not one of the window that was throttled, the next throttle is a new story."""
        if now >= self.paused_until:
            self._next_pause_s = _FIRST_PAUSE_S
