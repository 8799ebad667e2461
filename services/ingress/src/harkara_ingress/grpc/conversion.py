"""Between protocol buffers and the JSON of the HTTP API: their fields have the same names and mean the same.

So a request becomes the fields that the HTTP API's models check, and an answer is made of that API's answer.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from functools import cache, partial
from typing import Any, TypeVar

from google.protobuf.json_format import MessageToDict, SerializeToJsonError
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.timestamp_pb2 import Timestamp

from harkara_contracts.errors import ErrorCode, HarkaraError

M = TypeVar("M", bound=Message)
_TIMESTAMP = Timestamp.DESCRIPTOR.full_name


def decoded(kind: type[M], raw: bytes) -> M:
    """Read a message.

    Raises:
        HarkaraError: ERR_INVALID_REQUEST, these bytes are none of its kind.
    """
    try:
        return kind.FromString(raw)
    except DecodeError as error:
        raise HarkaraError(
            ErrorCode.INVALID_REQUEST,
            "The message cannot be read: its bytes are damaged, of another type, or have text that is not UTF-8.",
        ) from error


def fields_of(message: Message) -> dict[str, Any]:
    """Return what is set in a message, as JSON would have it.

    Raises:
        HarkaraError: ERR_INVALID_REQUEST, a number or time that JSON has no words for; ERR_INVALID_UNICODE, a NUL.
    """
    try:
        fields: dict[str, Any] = MessageToDict(message, preserving_proto_field_name=True)
    except (SerializeToJsonError, ValueError, OverflowError) as error:
        raise HarkaraError(
            ErrorCode.INVALID_REQUEST, "The message has a time out of range, or a number that is none (NaN, Infinity)."
        ) from error
    check_text(fields)
    return fields


def check_text(fields: Mapping[str, Any]) -> None:
    """Refuse what no database and no carrier takes in a text.

    Raises:
        HarkaraError: ERR_INVALID_UNICODE, a NUL.
    """
    if _has_nul(fields):
        raise HarkaraError(ErrorCode.INVALID_UNICODE, "The message has a NUL character in a text. Leave it out.")


def made(kind: type[M], fields: Mapping[str, Any]) -> M:
    """Make a message of an answer of the HTTP API, as its JSON has it; null, and what the message has not, is left out."""
    # The package's own way takes many times as long, and every answer comes by here.
    converters = _converters(kind)  # type: ignore[arg-type]  # a class is hashable, whatever its metaclass says
    known = ((name, value, converters.get(name)) for name, value in fields.items() if value is not None)
    return kind(**{name: convert(value) for name, value, convert in known if convert is not None})


@cache
def _converters(kind: type[Message]) -> Mapping[str, Callable[[Any], Any]]:
    return {field.name: _converter(field) for field in kind.DESCRIPTOR.fields}


def _converter(field: Any) -> Callable[[Any], Any]:
    kind = field.message_type
    if kind is None or kind.GetOptions().map_entry:
        return _same
    if kind.full_name == _TIMESTAMP:
        return datetime.fromisoformat
    convert = partial(made, GetMessageClass(kind))
    return (lambda values: list(map(convert, values))) if field.is_repeated else convert


def _same(value: Any) -> Any:
    return value


def _has_nul(value: Any) -> bool:
    match value:
        case str():
            return "\0" in value
        case dict():
            return any("\0" in key or _has_nul(each) for key, each in value.items())
        case list():
            return any(map(_has_nul, value))
        case _:
            return False
