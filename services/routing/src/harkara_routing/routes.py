"""Which carrier: a choice by weight among those that are healthy and were not tried yet. Pure.

A carrier is taken for healthy until its sender says otherwise, so that a stack without any news still sends.
"""

from collections.abc import Collection, Sequence

from harkara_contracts.carriers import SmppCarrier
from harkara_contracts.facts import CarrierHealthFact
from harkara_contracts.subjects import Channel


class RouteTable:
    """The configured carriers and what is known of their health."""

    def __init__(self, carriers: Sequence[SmppCarrier]) -> None:
        self._carriers = carriers
        self._unhealthy: set[tuple[Channel, str]] = set()

    def apply(self, fact: CarrierHealthFact) -> None:
        key = (fact.channel, fact.carrier)
        if fact.healthy or fact.deleted:
            self._unhealthy.discard(key)
        else:
            self._unhealthy.add(key)

    def has(self, channel: Channel, *, sandbox: bool) -> bool:
        """Tell whether any carrier is configured for the channel, healthy or not."""
        return any(carrier.channel == channel and carrier.sandbox == sandbox for carrier in self._carriers)

    def choose(self, channel: Channel, *, sandbox: bool, tried: Collection[str], roll: float) -> str | None:
        """Choose a carrier.

        Args:
            channel: of the message.
            sandbox: test messages go by sandbox carriers only, and others never do.
            tried: carriers that refused this message already.
            roll: a random number in [0, 1).

        Returns:
            The carrier's name, or None when none can take the message now.
        """
        open_ones = [
            carrier
            for carrier in self._carriers
            if carrier.channel == channel
            and carrier.sandbox == sandbox
            and carrier.weight > 0
            and carrier.name not in tried
            and (channel, carrier.name) not in self._unhealthy
        ]
        place = roll * sum(carrier.weight for carrier in open_ones)
        for carrier in open_ones:
            place -= carrier.weight
            if place < 0:
                return carrier.name
        return open_ones[-1].name if open_ones else None
