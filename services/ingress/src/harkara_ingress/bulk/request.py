"""A bulk send as the client writes it: what all its messages share, and the recipients.

What is shared is a send without its recipient, so the send's own model reads it. The recipients stay the octets they came
as and are read one by one by who judges them: a hundred thousand at once would hold up everybody else's requests, and one
that cannot be read is one rejected recipient, not a refused request. Pure.
"""

from collections.abc import Sequence
from typing import Annotated, NamedTuple, TypeVar

import msgspec
from msgspec import Meta, Raw, Struct

from harkara_contracts.errors import ErrorCode, HarkaraError
from harkara_ingress.sending.request import SmsSend, checked_mobile

MAX_RECIPIENTS = 100_000
MAX_RECIPIENT_BYTES = 64 * 1024
MAX_VARIABLES = 100
_SHOWN = 32

_RECIPIENTS = "recipients"
_NOBODY = b'"to":""'
"""A send's model asks for a number; of a bulk each recipient has its own."""

_Text = Annotated[str, Meta(max_length=2_000)]
_Name = Annotated[str, Meta(max_length=64)]
_CorrelationId = Annotated[str, Meta(max_length=128, pattern=r"^[^\x00-\x1f\x7f]*\Z")]
_Number = int | float

S = TypeVar("S", bound=SmsSend)


class Recipient(NamedTuple):
    """One recipient of a bulk; its number is `91` and ten digits."""

    to: str
    variables: dict[str, str]
    correlation_id: str | None = None


class Bulk(NamedTuple):
    """`message` is what all share; its `to` means nothing, and its variables are those a recipient does not give."""

    message: SmsSend
    recipients: Sequence[Raw]


class _Written(Struct, gc=False):
    """A recipient as clients write it: numbers for strings, null and [] for nothing (PHP writes empty objects so)."""

    to: Annotated[str, Meta(max_length=32)] | int
    variables: dict[_Name, _Text | _Number] | list[Raw] | None = None
    correlation_id: _CorrelationId | _Number | None = None


_fields = msgspec.json.Decoder(dict[str, Raw])
_array = msgspec.json.Decoder(list[Raw])
_recipient = msgspec.json.Decoder(_Written)


def read_bulk(body: bytes, model: type[S]) -> Bulk:
    """Read a request's body.

    Args:
        body: JSON, of which the recipients are not looked into.
        model: of a send by the same route.

    Raises:
        pydantic.ValidationError: something that all messages share is wrong.
        HarkaraError: ERR_INVALID_REQUEST, not one to 100,000 recipients.
    """
    try:
        fields = _fields.decode(body)
    except msgspec.DecodeError:
        model.model_validate_json(body)  # says what is wrong, and where
        raise HarkaraError(ErrorCode.INVALID_REQUEST, "The body is not valid JSON.") from None
    listed = fields.pop(_RECIPIENTS, None)
    fields.pop("to", None)
    shared = b",".join([_NOBODY, *(msgspec.json.encode(name) + b":" + bytes(raw) for name, raw in fields.items())])
    message = model.model_validate_json(b"{%b}" % shared)
    try:
        recipients = _array.decode(listed) if listed is not None else []
    except msgspec.DecodeError:
        recipients = []
    check_count(len(recipients))
    return Bulk(message, recipients)


def check_count(recipients: int) -> None:
    """Check how many recipients there are.

    Raises:
        HarkaraError: ERR_INVALID_REQUEST, not one to 100,000.
    """
    if not 1 <= recipients <= MAX_RECIPIENTS:
        raise HarkaraError(
            ErrorCode.INVALID_REQUEST,
            f"Field `recipients` takes an array of 1 to {MAX_RECIPIENTS:,} objects with `to` and `variables`.",
        )


def read_recipient(given: Raw) -> Recipient:
    """Read one recipient and check its number.

    Raises:
        HarkaraError: what is wrong with it, without any value of it.
    """
    if memoryview(given).nbytes > MAX_RECIPIENT_BYTES:
        raise HarkaraError(ErrorCode.INVALID_REQUEST, f"A recipient may have at most {MAX_RECIPIENT_BYTES:,} bytes.")
    try:
        written = _recipient.decode(given)
    except msgspec.DecodeError as error:
        # The words tell kinds and places, and quote no value.
        raise HarkaraError(ErrorCode.INVALID_REQUEST, f"The recipient is not valid: {error}.") from None
    to, variables, correlation_id = written.to, written.variables, written.correlation_id
    if isinstance(variables, list):
        if variables:
            raise HarkaraError(ErrorCode.INVALID_REQUEST, "`variables` is an object: names and their values.")
        variables = None
    if variables and len(variables) > MAX_VARIABLES:
        raise HarkaraError(ErrorCode.INVALID_REQUEST, f"At most {MAX_VARIABLES} variables may be given.")
    texts = {name: value if isinstance(value, str) else str(value) for name, value in (variables or {}).items()}
    return Recipient(
        checked_mobile(to if isinstance(to, str) else str(to)),
        texts,
        correlation_id if correlation_id is None or isinstance(correlation_id, str) else str(correlation_id),
    )


def shown_number(given: Raw) -> str | None:
    """Return `to` as it was written, for the client to find a rejected recipient by; None if it cannot be read."""
    try:
        to = _fields.decode(given).get("to")
        return None if to is None else str(msgspec.json.decode(to, type=str | int))[:_SHOWN]
    except (msgspec.DecodeError, ValueError):
        return None
