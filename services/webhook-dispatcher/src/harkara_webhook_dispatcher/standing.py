"""How the clients' endpoints do, for those who run the platform.

An endpoint that fails is its owner's trouble, and daily life. When every one of them fails, it is more likely ours: the way
out, or the resolver.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from harkara_webhook_dispatcher.courier import Courier


@dataclass(frozen=True)
class Standing:
    """The endpoints this process has delivered to. `waiting` counts deliveries in its queues, not those of the table."""

    endpoints: int
    failing: int
    failing_for_s: float
    waiting: int


def standing_of(couriers: Iterable[Courier], now: datetime) -> Standing:
    known = list(couriers)
    failing_s = [(now - courier.failing_since).total_seconds() for courier in known if courier.failing_since]
    return Standing(
        len(known), len(failing_s), round(max(failing_s, default=0.0), 1), sum(courier.queued for courier in known)
    )


def warnings_of(standing: Standing) -> list[str]:
    if not standing.endpoints or standing.failing < standing.endpoints:
        return []
    return [f"no webhook arrives: all endpoints in use fail ({standing.endpoints}), for {standing.failing_for_s:.0f} s"]
