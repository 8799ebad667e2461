"""How soon a loop takes its next turn: at once when it is quiet, in larger batches when it is busy.

A turn costs the same transaction, publish, fsync and acknowledgement whether it is for one event or for hundreds; flat out
these would be half of all work. So the events of a turn earn a pause, counted from the turn's beginning, in which more
come together. Below the rate at which the pauses meet (`1 / PAUSE_AN_EVENT_S`) turns stay small and nothing waits to speak
of; above it they grow until the lane's longest pause.
"""

from harkara_contracts.subjects import Lane

PAUSE_AN_EVENT_S = 0.002
LONGEST_S = {Lane.OTP: 0.004, Lane.TRANSACTIONAL: 0.04, Lane.PROMOTIONAL: 0.08}
"""Between the beginnings of two turns. Somebody waits for an OTP; nobody looks at the clock for a campaign."""


class Pace:
    """The turns of one loop. Times in seconds, of any clock that only goes forward.

    Args:
        longest_s: the longest time between the beginnings of two turns, while there is something to do.
    """

    def __init__(self, longest_s: float) -> None:
        self._longest_s = longest_s
        self._next_at = 0.0

    def wait_s(self, now: float) -> float:
        """How long a turn that could begin now should wait for company; 0 or less is not at all."""
        return self._next_at - now

    def began(self, now: float, events: int) -> None:
        """A turn with so many events began."""
        self._next_at = now + min(self._longest_s, events * PAUSE_AN_EVENT_S)
