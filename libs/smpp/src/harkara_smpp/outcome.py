"""What became of a submitted message, as values.

The line that matters runs between `NotSent`, `Rejected` and `Throttled` (certainly not accepted: another route is
safe) and `Unknown` (perhaps accepted: a resend may double).
"""

from typing import NamedTuple, TypeAlias


class NotSent(NamedTuple):
    """Never written to the SMSC: another route may be tried without fear of a double."""

    reason: str


class Accepted(NamedTuple):
    """The SMSC took it. `late`: an `Unknown` was reported before."""

    message_id: str
    late: bool = False


class Rejected(NamedTuple):
    """The SMSC refused it, see `status_name`."""

    command_status: int
    late: bool = False


class Throttled(NamedTuple):
    """Refused for rate or a full queue, more often than `max_throttles` or until the queue time-out; not accepted."""

    command_status: int
    late: bool = False


class Unknown(NamedTuple):
    """Written, and no response: it may have been accepted. A late response is reported as a second outcome."""

    reason: str


Outcome: TypeAlias = NotSent | Accepted | Rejected | Throttled | Unknown
