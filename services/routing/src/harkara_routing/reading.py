"""How attempts are read off the bus: deliveries, which are nearly all of them, by what the saga needs; the rest whole."""

from datetime import datetime
from typing import ClassVar

from harkara_chassis import envelope
from harkara_chassis.envelope import Bad, Received
from harkara_chassis.views import reader
from harkara_contracts.events import AttemptDelivered, Event
from harkara_contracts.subjects import Channel
from harkara_contracts.views import View


class Delivered(View):
    event: ClassVar[str] = AttemptDelivered.event

    attempt_id: str
    channel: Channel
    carrier: str
    delivered_at: datetime


_read_deliveries = reader({AttemptDelivered: Delivered})


def read_attempts(payload: bytes, event: type[Event]) -> tuple[list[Received], list[Bad]]:
    """Read a batch as `envelope.decode` does; what is read is a `saga.Heard`."""
    return _read_deliveries(payload, event) if event is AttemptDelivered else envelope.decode(payload, event)
