"""How attempts are read off the bus: plans whole, since they are answered with all they say; ends by what money needs."""

from typing import ClassVar

from harkara_chassis import envelope
from harkara_chassis.envelope import Bad, Received
from harkara_chassis.views import reader
from harkara_contracts.events import (
    AttemptDelivered,
    AttemptFailed,
    AttemptPlanned,
    AttemptRead,
    AttemptSent,
    AttemptUnknown,
    Event,
)
from harkara_contracts.subjects import Category, Channel
from harkara_contracts.views import View


class _End(View, kw_only=True):
    event: ClassVar[str]

    attempt_id: str
    account_id: str
    channel: Channel
    category: Category
    test_mode: bool = False


class Sent(_End):
    event: ClassVar[str] = AttemptSent.event


class Delivered(_End):
    event: ClassVar[str] = AttemptDelivered.event


class Read(_End):
    event: ClassVar[str] = AttemptRead.event


class Failed(_End, kw_only=True):
    event: ClassVar[str] = AttemptFailed.event

    error_code: str
    left: bool


class Unknown(_End):
    event: ClassVar[str] = AttemptUnknown.event


_VIEWS: dict[type[Event], type[_End]] = {
    AttemptSent: Sent,
    AttemptDelivered: Delivered,
    AttemptRead: Read,
    AttemptFailed: Failed,
    AttemptUnknown: Unknown,
}
_read_ends = reader(_VIEWS)


def read_attempts(payload: bytes, event: type[Event]) -> tuple[list[Received], list[Bad]]:
    """Read a batch as `envelope.decode` does; what is read is an `Attempt`."""
    return envelope.decode(payload, event) if event is AttemptPlanned else _read_ends(payload, event)
