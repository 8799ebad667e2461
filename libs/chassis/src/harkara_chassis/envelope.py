"""Record batches: one stream message carries 1 to 256 events of one subject as a CloudEvents JSON batch.

A quiet system sends batches of one; a busy one sends whatever one turn of the loop produced. Encoding splices each
event's own JSON into its envelope, and decoding validates the whole batch in one call, so JSON is handled once.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from hashlib import blake2b
from typing import Any, Generic, NotRequired, TypeVar

import orjson
from pydantic import TypeAdapter, ValidationError
from typing_extensions import TypedDict

from harkara_chassis.clock import now_utc
from harkara_contracts.events import Event

CONTENT_TYPE = "application/cloudevents-batch+json"
MAX_BATCH_EVENTS = 256
MAX_BATCH_BYTES = 512 * 1024

E = TypeVar("E", bound=Event)


class Envelope(TypedDict, Generic[E]):
    """The CloudEvents attributes a reader needs, and the event itself."""

    id: str
    type: str
    traceparent: NotRequired[str]
    data: E


@dataclass(slots=True)  # not frozen: that takes twice as long to make, and there is one for every event read
class Received:
    """An event as it came from the bus, or a view of it (see `views`), with its record's id."""

    event: Any
    traceparent: str | None
    id: str


@dataclass(frozen=True, slots=True)
class Bad:
    """What could not be read: a batch of the one bad record, or a whole payload. The reason never names values."""

    payload: bytes
    reason: str


class UnreadableError(Exception):
    """Why a record could not be read, without its values."""


@lru_cache(maxsize=256)
def _adapter(event: type[Event]) -> TypeAdapter[list[Envelope[Any]]]:
    return TypeAdapter(list[Envelope[event]])  # type: ignore[valid-type]  # the class is known at run time only


@lru_cache(maxsize=256)
def _adapter_of_one(event: type[Event]) -> TypeAdapter[Envelope[Any]]:
    return TypeAdapter(Envelope[event])  # type: ignore[valid-type]  # as above


def encode(events: Sequence[Event], source: str, traces: dict[str, str] | None = None) -> bytes:
    """Write events of one subject as a CloudEvents JSON batch.

    Args:
        events: at most 256, all of one class.
        source: who says so, such as `/harkara/routing`.
        traces: W3C traceparent by correlation key, for the events that are traced.
    """
    time = now_utc().isoformat(timespec="milliseconds").replace("+00:00", "Z")
    type_name = events[0].type_name()
    records: list[dict[str, object]] = []
    for event in events:
        record: dict[str, object] = {
            "specversion": "1.0",
            "id": event.event_id(),
            "type": type_name,
            "source": source,
            "time": time,
            "datacontenttype": "application/json",
        }
        if traces and (traceparent := traces.get(event.correlation_key())):
            record["traceparent"] = traceparent
        record["data"] = orjson.Fragment(event.__pydantic_serializer__.to_json(event, exclude_none=True))
        records.append(record)
    return orjson.dumps(records)


def batch_id(events: Sequence[Event]) -> str:
    """Derive the stream's de-duplication id of a batch from its events' ids; the same batch has the same id again."""
    if len(events) == 1:
        return events[0].event_id()
    digest = blake2b(digest_size=16)
    for event in events:
        digest.update(event.event_id().encode())
        digest.update(b"\n")
    return digest.hexdigest()


def decode(payload: bytes, event: type[Event]) -> tuple[list[Received], list[Bad]]:
    """Read a batch whose subject promises events of one class.

    A bad record does not spoil the batch: it is returned beside the good ones. A payload that is no JSON array at all
    is one bad record.
    """
    type_name = event.type_name()
    try:
        found = _adapter(event).validate_json(payload)
    except ValidationError:
        return decode_one_by_one(payload, partial(_decode_one, event))
    good = [Received(each["data"], each.get("traceparent"), each["id"]) for each in found if each["type"] == type_name]
    return (good, []) if len(good) == len(found) else decode_one_by_one(payload, partial(_decode_one, event))


def decode_one_by_one(payload: bytes, decode_one: Callable[[bytes], Received]) -> tuple[list[Received], list[Bad]]:
    """Read a batch that has a bad record somewhere. `decode_one` reads one record, or raises UnreadableError."""
    try:
        records = orjson.loads(payload)
    except orjson.JSONDecodeError:
        return [], [Bad(payload, "not JSON")]
    if not isinstance(records, list):
        return [], [Bad(payload, "not a CloudEvents JSON batch: an array is expected")]
    good: list[Received] = []
    bad: list[Bad] = []
    for each in records:
        try:
            good.append(decode_one(orjson.dumps(each)))
        except UnreadableError as error:
            bad.append(Bad(orjson.dumps([each]), str(error)))
    return good, bad


def check_type(found: str, expected: str) -> None:
    if found != expected:
        raise UnreadableError(f"the type is {found[:80]!r} where the subject promises {expected}")


def _decode_one(event: type[Event], payload: bytes) -> Received:
    try:
        found = _adapter_of_one(event).validate_json(payload)
    except ValidationError as error:
        raise UnreadableError(describe(error)) from None
    check_type(found["type"], event.type_name())
    return Received(found["data"], found.get("traceparent"), found["id"])


def record(payload: bytes, record_id: str) -> bytes:
    """Cut one record out of a batch that could be read; return it as a batch of its own."""
    return orjson.dumps([next(each for each in orjson.loads(payload) if each["id"] == record_id)])


def describe(error: ValidationError) -> str:
    """Say which fields are wrong and how, without the values: they may be personal data."""
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    return "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['type']}" for fault in faults[:10])


def cut(events: Iterable[Event]) -> list[list[Event]]:
    """Cut events into batches of one subject each, at most 256 events long, keeping the order within a subject."""
    by_subject: dict[str, list[list[Event]]] = {}
    for event in events:
        batches = by_subject.setdefault(event.subject(), [[]])
        if len(batches[-1]) >= MAX_BATCH_EVENTS:
            batches.append([])
        batches[-1].append(event)
    return [batch for batches in by_subject.values() for batch in batches]
