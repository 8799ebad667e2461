"""Streams, declared once. The provisioner makes the live server equal to this; services only check that it is.

Ages and windows in seconds. `file` streams are fsynced before an ack where the server says `sync_interval: always`.
"""

from dataclasses import dataclass

DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class StreamSpec:
    """One stream. `last_per_subject` keeps only the newest message of a subject; `schedules` lets messages carry a time."""

    name: str
    subjects: tuple[str, ...]
    max_age_s: float
    duplicate_window_s: float
    last_per_subject: bool = False
    schedules: bool = False
    max_bytes: int = -1


# A repeat after a crash may come minutes later, so the first net against doubles is wider than the server's 120 s.
_SAGA_WINDOW_S = 600.0

MESSAGES = StreamSpec("MESSAGES", ("message.v1.>",), 3 * DAY_S, _SAGA_WINDOW_S)
ATTEMPTS = StreamSpec("ATTEMPTS", ("attempt.v1.>",), 3 * DAY_S, _SAGA_WINDOW_S)
INBOUND = StreamSpec("INBOUND", ("inbound.v1.>",), 3 * DAY_S, _SAGA_WINDOW_S)
BATCHES = StreamSpec("BATCHES", ("batch.v1.>",), 3 * DAY_S, _SAGA_WINDOW_S)
# What clients may read again. By age alone: a limit of size is room set aside from the first day, which a small disk has not,
# and it is less than a third of what the same messages take in the streams above.
CLIENT = StreamSpec("CLIENT", ("client.v1.>",), 3 * DAY_S, _SAGA_WINDOW_S)
FACTS = StreamSpec("FACTS", ("fact.v1.>",), 0.0, 120.0, last_per_subject=True)
# On file although short-lived: a stream in memory is gone, definition and consumers and all, when a single node restarts.
COMMANDS = StreamSpec("COMMANDS", ("command.v1.>",), 3_600.0, 120.0, max_bytes=64 * 2**20)
REPLIES = StreamSpec("REPLIES", ("reply.v1.>",), 60.0, 60.0, max_bytes=64 * 2**20)
TIMERS = StreamSpec("TIMERS", ("timer.v1.>",), 0.0, 120.0, schedules=True)
DEAD = StreamSpec("DEAD", ("dead.v1.>",), 30 * DAY_S, 120.0)

STREAMS: tuple[StreamSpec, ...] = (
    MESSAGES,
    ATTEMPTS,
    BATCHES,
    INBOUND,
    CLIENT,
    FACTS,
    COMMANDS,
    REPLIES,
    TIMERS,
    DEAD,
)

_BY_DOMAIN = {
    "message": MESSAGES,
    "attempt": ATTEMPTS,
    "batch": BATCHES,
    "inbound": INBOUND,
    "client": CLIENT,
    "fact": FACTS,
    "command": COMMANDS,
    "reply": REPLIES,
    "timer": TIMERS,
    "dead": DEAD,
}


def stream_of(subject: str) -> StreamSpec:
    """Return the stream a subject is stored in.

    Raises:
        KeyError: no stream takes it, so publishing there would be lost without a word.
    """
    return _BY_DOMAIN[subject.split(".", 1)[0]]
