"""Delivery receipts: the text of SMPP 3.4 Appendix B and the TLVs that say the same more reliably.

Carriers differ in the case of labels, in dates with or without seconds, and in the form of the message id: an id given
in hex by the submit_sm_resp may come back in decimal. `response_key` and `receipt_key` bring both sides to one
comparable form under the carrier's `IdRule`.
"""

import re
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from harkara_smpp.constants import EsmClass, MessageState, Tag
from harkara_smpp.pdu import DeliverSm, Message

_FIELDS = re.compile(
    r"\bid: ?(?P<id>[^\s:]*)(?=\s|$)"
    r"|sub: ?(?P<sub>\d{1,9})"
    r"|dlvrd: ?(?P<dlvrd>\d{1,9})"
    r"|submit date: ?(?P<submit_date>\d{10}(?:\d\d)?)"
    r"|done date: ?(?P<done_date>\d{10}(?:\d\d)?)"
    r"|stat: ?(?P<stat>\w{1,20})(?![\w:])"
    r"|err: ?(?P<err>\w{1,20})(?![\w:])"
    r"|text:(?P<text>.*)",
    re.IGNORECASE | re.DOTALL,
)
_NAMES = ("id", "submit_date", "done_date", "stat", "err", "text")
# The layout of Appendix B to the letter, which most receipts have: read in one step, not searched field by field.
_LAYOUT = re.compile(
    r"id:([^\s:]*) sub:\d{1,9} dlvrd:\d{1,9} submit date:(\d{10}(?:\d\d)?) done date:(\d{10}(?:\d\d)?) "
    r"stat:(\w{1,20}) err:(\w{1,20}) text:(.*)",
    re.DOTALL,
)
_STATES_BY_NAME = {state.name: state for state in MessageState}
_STATES_BY_OCTET = {bytes((state,)): state for state in MessageState}
_NETWORK_ERROR_LENGTH = 3

# Plain numbers: an operation on members of an enum costs as much as the rest of a receipt.
_INTERMEDIATE = int(EsmClass.INTERMEDIATE)
_RECEIPT_BITS = int(EsmClass.RECEIPT) | _INTERMEDIATE
_MESSAGE_PAYLOAD = int(Tag.MESSAGE_PAYLOAD)
_MESSAGE_STATE = int(Tag.MESSAGE_STATE)
_NETWORK_ERROR_CODE = int(Tag.NETWORK_ERROR_CODE)
_RECEIPTED_MESSAGE_ID = int(Tag.RECEIPTED_MESSAGE_ID)


class Receipt(NamedTuple):
    """What a carrier says of one submitted part.

    `message_id` is the id to match by, `id_from_tlv` tells where it came from; `state` is None where the carrier's
    word is not one of the specification's (see `stat`); `error_code` is the carrier's own, as text; dates are the
    carrier's local time and carry no zone; `intermediate` receipts are never final.
    """

    message_id: str
    state: MessageState | None
    stat: str = ""
    error_code: str = ""
    submit_date: datetime | None = None
    done_date: datetime | None = None
    text: str = ""
    text_message_id: str = ""
    id_from_tlv: bool = False
    network_error_code: tuple[int, int] | None = None
    intermediate: bool = False


def is_receipt(message: Message) -> bool:
    """Whether a deliver_sm is a receipt rather than a mobile-originated message (SMPP 3.4 §5.2.12)."""
    return message.esm_class & _RECEIPT_BITS != 0


def parse_receipt(message: DeliverSm) -> Receipt | None:
    """The receipt in a deliver_sm, or None where neither its text nor its TLVs name a message."""
    tlvs = message.tlvs
    octets = message.short_message or tlvs.get(_MESSAGE_PAYLOAD, b"")
    text_message_id, submit_date, done_date, stat, error_code, text = _fields(octets.decode("latin-1"))
    tlv_message_id = tlvs.get(_RECEIPTED_MESSAGE_ID, b"").rstrip(b"\0").decode("latin-1")
    message_id = tlv_message_id or text_message_id
    if not message_id:
        return None
    stat = stat.upper()
    return Receipt(  # by place: by name it takes four times as long
        message_id,
        _state(tlvs.get(_MESSAGE_STATE, b""), stat),
        stat,
        error_code,
        _date(submit_date),
        _date(done_date),
        text,
        text_message_id,
        bool(tlv_message_id),
        _network_error(tlvs.get(_NETWORK_ERROR_CODE, b"")),
        message.esm_class & _INTERMEDIATE != 0,
    )


def _fields(text: str) -> tuple[str, ...]:
    """The fields of `_NAMES`, of each the first, empty where there is none; what stands behind `text:` is no field."""
    layout = _LAYOUT.fullmatch(text)
    if layout is not None:
        return layout.groups()
    fields: dict[str, str] = {}
    for match in _FIELDS.finditer(text):
        name = match.lastgroup
        if name is not None:
            fields.setdefault(name, match.group(name))
    return tuple([fields.get(name, "") for name in _NAMES])


def receipt_text(
    message_id: str,
    state: MessageState,
    *,
    submit_date: datetime,
    done_date: datetime,
    error_code: str = "000",
    text: str = "",
) -> str:
    """The text of a receipt for one part, in the layout of SMPP 3.4 Appendix B; `text` is cut to its 20 characters."""
    delivered = 1 if state is MessageState.DELIVRD else 0
    return (
        f"id:{message_id} sub:001 dlvrd:{delivered:03d} submit date:{submit_date:%y%m%d%H%M} "
        f"done date:{done_date:%y%m%d%H%M} stat:{state.name} err:{error_code} text:{text[:20]}"
    )


def receipt_tlvs(message_id: str, state: MessageState) -> dict[int, bytes]:
    """receipted_message_id (§5.3.2.12) and message_state (§5.3.2.35)."""
    return {
        int(Tag.RECEIPTED_MESSAGE_ID): message_id.encode("latin-1") + b"\0",
        int(Tag.MESSAGE_STATE): bytes((state,)),
    }


class IdRule(StrEnum):
    """How a carrier's receipts write the id that its submit_sm_resp gave."""

    NONE = "none"
    HEX_TO_DEC = "hex_to_dec"
    DEC_TO_HEX = "dec_to_hex"


def response_key(message_id: str, rule: IdRule = IdRule.NONE) -> str:
    """The form to store for an id given by a submit_sm_resp; equal to `receipt_key` of its receipts."""
    if rule is IdRule.NONE:
        return _canonical(message_id)
    try:
        # int() alone would also take signs, blanks and underscores, which are no part of an id.
        if not message_id.isalnum():
            return _canonical(message_id)
        return str(int(message_id, 16)) if rule is IdRule.HEX_TO_DEC else f"{int(message_id):X}"
    except ValueError:
        return _canonical(message_id)


def receipt_key(receipt: Receipt, rule: IdRule = IdRule.NONE) -> str:
    """The form to look a receipt's id up by.

    The TLV repeats the submit_sm_resp's id by definition (§5.3.2.12), unless it is the very id of the text, in which
    case the carrier wrote both its own way.
    """
    if receipt.id_from_tlv and receipt.message_id != receipt.text_message_id:
        return response_key(receipt.message_id, rule)
    return _canonical(receipt.message_id)


def _canonical(message_id: str) -> str:
    return message_id.lstrip("0").upper() or "0"


def _state(tlv: bytes, stat: str) -> MessageState | None:
    return _STATES_BY_OCTET.get(tlv) or _STATES_BY_NAME.get(stat)


def _date(digits: str) -> datetime | None:
    """YYMMDDhhmm[ss]; by hand, as strptime would cost more than the rest of the receipt."""
    if not digits:
        return None
    try:
        # Carriers write their local time without saying which: a zone here would be an invention.
        return datetime.fromisoformat(f"20{digits[:6]}T{digits[6:]}")
    except ValueError:
        return None


def _network_error(tlv: bytes) -> tuple[int, int] | None:
    """Network type and its error number (SMPP 3.4 §5.3.2.31)."""
    if len(tlv) != _NETWORK_ERROR_LENGTH:
        return None
    return tlv[0], int.from_bytes(tlv[1:], "big")
