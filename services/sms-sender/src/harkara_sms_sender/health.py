"""Tells routing how each carrier does: a fact when it changes and stays so for a moment, and one at the start.

The instances share one fact a carrier. Who has a bind has the last word: a fact of another instance that says otherwise,
and may since have died, is answered.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence

from harkara_chassis.clock import now_utc
from harkara_contracts.events import Event
from harkara_contracts.facts import CarrierHealthFact
from harkara_contracts.subjects import Channel
from harkara_sms_sender.carrier import Carrier
from harkara_sms_sender.metrics import BOUND


class HealthReporter:
    """Publishes CarrierHealthFact; `changed` is cheap and may be called for every transition of a bind."""

    def __init__(self, publish: Callable[[Sequence[Event]], Awaitable[object]], debounce_s: float) -> None:
        self._publish = publish
        self._debounce_s = debounce_s
        self._changed: dict[str, Carrier] = {}
        self._wake = asyncio.Event()
        self._told: dict[str, tuple[bool, str | None]] = {}
        self._newest = 0

    def changed(self, carrier: Carrier) -> None:
        if carrier.is_settled:
            self._changed[carrier.name] = carrier
            self._wake.set()

    def heard(self, fact: CarrierHealthFact, carrier: Carrier | None) -> None:
        """Take what the stream shows of a carrier, one's own facts among it."""
        self._newest = max(self._newest, fact.version)
        if carrier is not None and carrier.is_healthy and not fact.healthy:
            self._told.pop(carrier.name, None)
            self.changed(carrier)

    async def run(self) -> None:
        """Publish changes; never returns."""
        while True:
            await self._wake.wait()
            await asyncio.sleep(self._debounce_s)
            self._wake.clear()
            carriers, self._changed = self._changed, {}
            facts = self._news(carriers.values())
            if facts:
                await self._publish(facts)

    def _news(self, carriers: Iterable[Carrier]) -> list[Event]:
        facts: list[Event] = []
        for carrier in carriers:
            state = (carrier.is_healthy, carrier.trouble)
            if self._told.get(carrier.name) == state:
                continue
            self._told[carrier.name] = state
            BOUND.labels(carrier.name).set(carrier.is_healthy)
            # Above all that was told, or a clock that was set back would have it passed over.
            self._newest = max(time.time_ns(), self._newest + 1)
            facts.append(
                CarrierHealthFact(
                    version=self._newest,
                    channel=Channel.SMS,
                    carrier=carrier.name,
                    healthy=carrier.is_healthy,
                    reason=carrier.trouble,
                    changed_at=now_utc(),
                )
            )
        return facts
