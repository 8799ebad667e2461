"""What a deliver_sm says: a receipt's final word, a message somebody wrote to us, or nothing of use. Pure."""

import hashlib
from datetime import datetime
from typing import Final, NamedTuple

from harkara_contracts.events import InboundReceived
from harkara_contracts.subjects import Channel
from harkara_smpp import DeliverSm, EsmClass, IdRule, MessageState, Tag, parse_receipt, receipt_key, response_key
from harkara_sms_sender.attempt import Part, PartState
from harkara_sms_sender.carrier_codes import of_receipt
from harkara_sms_text import MalformedHeaderError, UnreadableCodingError, UserData, decode, read_user_data

MAX_MESSAGE_ID: Final = 64  # SMPP 3.4 §4.4.2, without the NUL
_DELIVERED: Final = PartState.DELIVERED
_DELIVRD: Final = MessageState.DELIVRD
_BUCKET_S: Final = 60
"""The same words from the same person within a minute are the same message, sent again because it was not answered."""


class Word(NamedTuple):
    """A receipt's final word on the part a carrier knows by an id. `recipient` and `sender` are the message's."""

    carrier: str
    receipt_key: str
    state: PartState
    said_at: datetime
    carrier_message_id: str = ""
    recipient: str = ""
    sender: str = ""
    error_code: str | None = None
    error_description: str | None = None
    carrier_code: str | None = None
    retriable: bool = False


def with_word(part: Part, word: Word) -> Part:
    """Return what a part that the carrier took has become by a receipt."""
    return Part(
        word.state,
        part.carrier_message_id,
        part.receipt_key,
        word.error_code,
        word.error_description,
        word.carrier_code,
        word.retriable,
        part.answered_at,
        word.said_at,
    )


class Receipt(NamedTuple):
    """What a receipt says. `word` is None where it is not final, or names no message; `known_code` False: nobody listed it."""

    word: Word | None
    known_code: bool = True


class InboundText(NamedTuple):
    """A message, or a part of one, that a person wrote; `total` is 1 where it is whole."""

    carrier: str
    sender: str
    recipient: str
    reference: int
    total: int
    number: int
    body: str


def id_key(message_id: str, rule: IdRule) -> str:
    """Return what to store and look up a submit_sm_resp's id by."""
    return storable(response_key(message_id, rule))


def storable(text: str) -> str:
    """Cut to an id's length and take NULs out, which no text column holds."""
    return text.replace("\0", "")[:MAX_MESSAGE_ID]


def read_receipt(carrier: str, rule: IdRule, pdu: DeliverSm, now: datetime) -> Receipt:
    """Read a receipt.

    The time of the word is when it came: the carrier's own has no zone, and mostly no seconds.
    """
    receipt = parse_receipt(pdu)
    if receipt is None or receipt.intermediate or receipt.state is None or not receipt.state.is_final:
        return Receipt(None)
    # A receipt goes the other way round: from the handset to the header (SMPP 3.4 §4.6.1).
    recipient, sender = pdu.source_addr, pdu.destination_addr
    key, carrier_message_id = storable(receipt_key(receipt, rule)), storable(receipt.message_id)
    word = Word(  # by place: by name it takes three times as long
        carrier, key, _DELIVERED, now, carrier_message_id, recipient, sender, None, None, receipt.error_code or None
    )
    if receipt.state is _DELIVRD:
        return Receipt(word)
    verdict = of_receipt(carrier, receipt.state, receipt.error_code, receipt.text)
    failed = word._replace(
        state=PartState.FAILED,
        error_code=verdict.meaning.error_code.value,
        error_description=verdict.meaning.description,
        carrier_code=verdict.carrier_code,
        retriable=verdict.meaning.retriable,
    )
    return Receipt(failed, verdict.known)


def read_inbound(carrier: str, pdu: DeliverSm) -> InboundText | None:
    """Read what a person wrote; None where it is no text. Header elements other than concatenation are passed over."""
    octets = pdu.short_message or pdu.tlvs.get(Tag.MESSAGE_PAYLOAD, b"")
    try:
        data = read_user_data(octets) if pdu.esm_class & EsmClass.UDHI else UserData(None, octets)
        body = decode(pdu.data_coding, data.body).replace("\0", "")
    except (MalformedHeaderError, UnreadableCodingError):
        return None
    reference, total, number = data.concatenation or _segments(pdu.tlvs)
    return InboundText(carrier, pdu.source_addr, pdu.destination_addr, reference, total, number, body)


def _segments(tlvs: dict[int, bytes]) -> tuple[int, int, int]:
    """Reference, total and number of the sar_ parameters (SMPP 3.4 §5.3.2.22), else those of a whole message."""
    reference, total, number = (
        int.from_bytes(tlvs.get(tag, b""), "big")
        for tag in (Tag.SAR_MSG_REF_NUM, Tag.SAR_TOTAL_SEGMENTS, Tag.SAR_SEGMENT_SEQNUM)
    )
    return (reference & 0xFFFF, total, number) if 1 <= number <= total <= 0xFF else (0, 1, 1)  # noqa: PLR2004 - octets


def inbound_event(first: InboundText, text: str, now: datetime) -> InboundReceived:
    """Return the event of a whole message. Its id is made of what was said, by whom, to whom and in which minute."""
    said = (first.carrier, first.sender, first.recipient, text, str(int(now.timestamp()) // _BUCKET_S))
    digest = hashlib.sha256("\0".join(said).encode("utf-8", "surrogatepass")).hexdigest()
    return InboundReceived(
        inbound_id=f"IN{digest[:32]}",
        channel=Channel.SMS,
        carrier=first.carrier,
        sender=first.sender,
        to=first.recipient,
        text=text,
        received_at=now,
    )
