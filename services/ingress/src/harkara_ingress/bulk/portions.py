"""Portions: how the recipients of a bulk wait until it is their turn. Pure.

A portion is one timer of the bus: what was accepted survives whatever the bus survives, a schedule costs nothing, and any
process of the edge may feed it. Beside its recipients it has the prototype of their messages, the accepted event without
a recipient. A recipient's place in the request names its message, so whoever feeds a portion, and however often, makes the
same events.

Recipients and prototype are JSON as text inside the payload: written and read once, here, and not looked into by the bus's
envelope around them.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple, cast

import msgspec

from harkara_contracts.events import MessageAccepted, TimerDue
from harkara_contracts.ids import message_id_in
from harkara_registry import earliest_departure

OWNER = "ingress"
TIMER_NAME = "portion"
MAX_ENTRIES = 250
"""A quarter of a second's worth at a thousand a second: timers come due four times a second."""

MAX_BYTES = 80_000
"""Of the recipients as JSON, which grows by about a fifth inside the payload: a timer stays below 100 kB."""


class Entry(NamedTuple):
    """A recipient that may be sent to. `place` is that in the request, from 0, which names its message."""

    place: int
    to: str
    variables: dict[str, str]
    correlation_id: str | None


class Written(NamedTuple):
    """A portion as it is kept until its batch is accepted: `recipients` is JSON, `before` counts those of earlier ones."""

    number: int
    before: int
    recipients: str


class Portion(NamedTuple):
    """A portion whose time has come. `tries` counts how often its batch was not known."""

    number: int
    prototype: MessageAccepted
    entries: Sequence[Entry]
    tries: int

    @property
    def batch_id(self) -> str:
        return self.prototype.batch_id or ""


class Cutter:
    """Cuts recipients into portions as they come."""

    def __init__(self) -> None:
        self.portions: list[Written] = []
        self.count = 0
        self._texts: list[bytes] = []
        self._size = 0

    def add(self, entry: Entry) -> None:
        text = _encode(entry)
        if self._size + len(text) > MAX_BYTES or len(self._texts) == MAX_ENTRIES:
            self._cut()
        self._texts.append(text)
        self._size += len(text)
        self.count += 1

    def finish(self) -> list[Written]:
        self._cut()
        return self.portions

    def _cut(self) -> None:
        if self._texts:
            text = f"[{b','.join(self._texts).decode()}]"
            self.portions.append(Written(len(self.portions), self.count - len(self._texts), text))
            self._texts, self._size = [], 0


def timers(
    prototype: MessageAccepted, portions: Sequence[Written], start: datetime, per_second: float
) -> Iterator[TimerDue]:
    """Make the timers of a batch: its first recipient at `start`, the others after it at this rate."""
    prototype_text = _text(prototype)
    for portion in portions:
        due_at = start + timedelta(seconds=portion.before / per_second)
        yield _timer(prototype, prototype_text, portion.number, portion.recipients, due_at, tries=0)


def timer_again(portion: Portion, due_at: datetime, *, left: Sequence[Entry] | None = None, tries: int = 0) -> TimerDue:
    """Make the timer by which a portion, or what is left of it, comes back; it takes the place of its last one."""
    recipients = b"[%b]" % b",".join(_encode(entry) for entry in (portion.entries if left is None else left))
    prototype = portion.prototype
    return _timer(prototype, _text(prototype), portion.number, recipients.decode(), due_at, tries=tries)


def read_portion(timer: TimerDue) -> Portion:
    """Read the portion that waited for a timer.

    Raises:
        ValueError: the payload is not of a portion.
    """
    payload = timer.payload
    try:
        return Portion(
            cast("int", payload["number"]),
            MessageAccepted.model_validate_json(cast("str", payload["prototype"])),
            _decode(cast("str", payload["recipients"])),
            cast("int", payload["tries"]),
        )
    except (KeyError, TypeError, msgspec.DecodeError) as error:
        raise ValueError(f"this is no portion: {type(error).__name__}") from None


def messages(portion: Portion, entries: Sequence[Entry], now: datetime) -> list[MessageAccepted]:
    """Make the accepted events of some recipients of a portion.

    A batch was accepted all at once; a message's validity begins when it may leave, however long it waited for that.
    """
    prototype, content = portion.prototype, portion.prototype.content
    accepted_at, category = prototype.accepted_at, prototype.category
    validity = prototype.expires_at - earliest_departure(category, prototype.send_at, accepted_at)
    expires_at = earliest_departure(category, None, now) + validity
    return [
        prototype.model_copy(
            update={
                "message_id": message_id_in(portion.batch_id, entry.place),
                "to": entry.to,
                "content": content.model_copy(update={"variables": entry.variables}),
                "correlation_id": entry.correlation_id or prototype.correlation_id,
                "expires_at": expires_at,
            }
        )
        for entry in entries
    ]


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(list[Entry]).decode


def _text(prototype: MessageAccepted) -> str:
    return prototype.model_dump_json(exclude_none=True)


def _timer(
    prototype: MessageAccepted, prototype_text: str, number: int, recipients: str, due_at: datetime, *, tries: int
) -> TimerDue:
    return TimerDue(
        owner=OWNER,
        lane=prototype.lane,
        timer_id=f"{prototype.batch_id}-{number}",
        name=TIMER_NAME,
        due_at=due_at,
        payload={"number": number, "tries": tries, "prototype": prototype_text, "recipients": recipients},
    )
