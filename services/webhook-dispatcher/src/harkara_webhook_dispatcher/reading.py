"""How what clients are told of is read off the bus: as views; replies and campaigns, of which there are few, come whole."""

from harkara_chassis import envelope
from harkara_chassis.envelope import Bad, Received
from harkara_chassis.views import reader
from harkara_contracts.events import Event
from harkara_webhook_dispatcher.views import VIEWS

_read_views = reader(VIEWS)


def read_events(payload: bytes, event: type[Event]) -> tuple[list[Received], list[Bad]]:
    """Read a batch as `envelope.decode` does; each is an event that `payload` knows, or its view."""
    return _read_views(payload, event) if event in VIEWS else envelope.decode(payload, event)
