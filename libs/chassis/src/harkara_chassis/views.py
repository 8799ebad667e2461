"""Batches read as views of their events: see `harkara_contracts.views`. A record that does not fit is a bad one."""

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Generic, TypeVar, cast

import msgspec

from harkara_chassis.envelope import Bad, Received, UnreadableError, check_type, decode_one_by_one
from harkara_contracts.events import Event
from harkara_contracts.views import View

V = TypeVar("V", bound=View)

_VALUE = re.compile(r""" ['"].*['"]""", re.DOTALL)
"""What msgspec quotes of the record itself; names of fields and types stand between backticks."""


class _Record(msgspec.Struct, Generic[V], gc=False):
    """What is read of a record; it has all that `Received` has, and is taken for one."""

    id: str
    type: str
    event: V = msgspec.field(name="data")
    traceparent: str | None = None


def reader(views: Mapping[type[Event], type[View]]) -> Callable[[bytes, type[Event]], tuple[list[Received], list[Bad]]]:
    """Return what reads batches as `envelope.decode` does, each event as its view."""
    batches = {event: msgspec.json.Decoder(list[_Record[view]]) for event, view in views.items()}  # type: ignore[valid-type]  # known at run time only
    records = {event: msgspec.json.Decoder(_Record[view]) for event, view in views.items()}  # type: ignore[valid-type]  # as above

    def decode(payload: bytes, event: type[Event]) -> tuple[list[Received], list[Bad]]:
        type_name = event.type_name()
        try:
            found = batches[event].decode(payload)
        except msgspec.DecodeError:
            return decode_one_by_one(payload, partial(decode_one, event))
        good = [each for each in found if each.type == type_name]
        if len(good) < len(found):
            return decode_one_by_one(payload, partial(decode_one, event))
        return cast("list[Received]", good), []

    def decode_one(event: type[Event], payload: bytes) -> Received:
        try:
            found = records[event].decode(payload)
        except msgspec.ValidationError as error:
            raise UnreadableError(_VALUE.sub("", str(error))) from None
        check_type(found.type, event.type_name())
        return cast("Received", found)

    return decode
