"""How long to wait before a dead process is started again."""

HEALTHY_AFTER_S = 30.0
_FIRST_DELAY_S = 0.5
_LONGEST_DELAY_S = 10.0


class Backoff:
    """At once the first time, then 0.5 s doubling to 10 s; a life of 30 s counts as healthy and begins anew."""

    def __init__(self) -> None:
        self._deaths = 0

    def delay_s(self, lived_s: float) -> float:
        """The delay after a death; `lived_s` is how long the process lived."""
        self._deaths = 1 if lived_s >= HEALTHY_AFTER_S else self._deaths + 1
        if self._deaths == 1:
            return 0.0
        # The exponent is bounded too: a process may die for days.
        return min(_LONGEST_DELAY_S, _FIRST_DELAY_S * 2.0 ** min(self._deaths - 2, 16))
