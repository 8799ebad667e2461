"""Which carrier: a choice by weight among those that are healthy and were not tried yet. Pure.

A carrier is taken for healthy until its sender says otherwise, so that a stack without any news still sends.
"""

from collections.abc import Collection, Sequence

from harkara_contracts.carriers import SmppCarrier
from harkara_contracts.facts import CarrierHealthFact
from harkara_contracts.subjects import Channel

_Road = tuple[Channel, bool]
"""A channel, and whether messages on it are tests."""


class RouteTable:
    """The configured carriers and what is known of their health."""

    def __init__(self, carriers: Sequence[SmppCarrier]) -> None:
        self._carriers: dict[_Road, list[SmppCarrier]] = {}
        for carrier in carriers:
            self._carriers.setdefault((carrier.channel, carrier.sandbox), []).append(carrier)
        self._unhealthy: set[tuple[Channel, str]] = set()
        self._open = self._find_open()

    def apply(self, fact: CarrierHealthFact) -> None:
        key = (fact.channel, fact.carrier)
        if fact.healthy or fact.deleted:
            self._unhealthy.discard(key)
        else:
            self._unhealthy.add(key)
        self._open = self._find_open()

    def _find_open(self) -> dict[_Road, list[SmppCarrier]]:
        """Find which carriers take messages now, so that it need not be found for each message."""
        return {
            road: [one for one in carriers if one.weight > 0 and (road[0], one.name) not in self._unhealthy]
            for road, carriers in self._carriers.items()
        }

    def has(self, channel: Channel, *, sandbox: bool) -> bool:
        """Tell whether any carrier is configured for the channel, healthy or not."""
        return (channel, sandbox) in self._carriers

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
        open_ones = self._open.get((channel, sandbox), [])
        if tried:
            open_ones = [carrier for carrier in open_ones if carrier.name not in tried]
        place = roll * sum([carrier.weight for carrier in open_ones])
        for carrier in open_ones:
            place -= carrier.weight
            if place < 0:
                return carrier.name
        return open_ones[-1].name if open_ones else None
