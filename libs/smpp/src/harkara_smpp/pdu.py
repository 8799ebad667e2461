"""The SMPP 3.4 PDUs: classes that hold the fields of a body, and their codec.

Sequence number and command status belong to the frame, not to the class: the same message may be written again under
another number. Encoding is strict (what leaves here is within the specification's lengths), decoding is as lenient as
is safe: a C-octet string may be longer than the specification allows, but nothing is read beyond its frame.

A long file on purpose: it is the specification's chapter 4, and every class is a few lines of the same pattern.
"""

from dataclasses import dataclass, field
from struct import Struct
from struct import error as StructError  # noqa: N812 - it is an exception, and reads as one
from typing import ClassVar, Protocol, Self

from harkara_smpp.constants import INTERFACE_VERSION, MAX_SEQUENCE_NUMBER, CommandId, CommandStatus
from harkara_smpp.frame import Frame, PduDecodeError, PduEncodeError, encode_frame
from harkara_smpp.tlv import decode_tlvs, encode_tlvs

MAX_SHORT_MESSAGE_LENGTH = 254
MAX_MESSAGE_ID_LENGTH = 64

_MESSAGE_FLAGS = Struct("BBB")
_MESSAGE_TAIL = Struct("BBBBB")


class Pdu(Protocol):
    """What every PDU class offers."""

    command_id: ClassVar[CommandId]

    def to_body(self) -> bytes: ...

    @classmethod
    def from_body(cls, body: bytes) -> Self: ...


def encode(pdu: Pdu, sequence_number: int, command_status: int = 0) -> bytes:
    """A whole PDU in octets. Raises PduEncodeError where a field does not fit."""
    if not 0 <= sequence_number <= MAX_SEQUENCE_NUMBER:
        raise PduEncodeError(f"sequence_number {sequence_number}")
    return encode_frame(pdu.command_id, sequence_number, pdu.to_body(), command_status)


def decode(frame: Frame) -> Pdu:
    """The PDU of a frame. Raises PduDecodeError for an unknown command or a malformed body.

    A response with an error status usually has no body (SMPP 3.4 §4.4.2): its fields are then empty.
    """
    pdu_class = PDU_CLASSES.get(frame.command_id)
    if pdu_class is None:
        raise PduDecodeError(f"command_id 0x{frame.command_id:08X}", CommandStatus.ESME_RINVCMDID)
    return pdu_class.from_body(frame.body)


def _c_octets(value: str, limit: int, name: str) -> bytes:
    """`value` without the closing NUL; Latin-1, because that maps every octet a peer may send to one character."""
    if not value:
        return b""
    try:
        octets = value.encode("latin-1")
    except UnicodeEncodeError:
        raise PduEncodeError(f"{name} has a character outside Latin-1") from None
    if len(octets) > limit or b"\0" in octets:
        raise PduEncodeError(f"{name} is longer than {limit} octets or has a NUL inside")
    return octets


class _Reader:
    """Reads a body from front to end; every overrun is a PduDecodeError."""

    __slots__ = ("_body", "_position")

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._position = 0

    def c_string(self) -> str:
        end = self._body.find(0, self._position)
        if end < 0:
            raise PduDecodeError("C-octet string without its NUL", CommandStatus.ESME_RINVCMDLEN)
        value = self._body[self._position : end].decode("latin-1")
        self._position = end + 1
        return value

    def octet(self) -> int:
        if self._position >= len(self._body):
            raise PduDecodeError("body cut short", CommandStatus.ESME_RINVCMDLEN)
        value = self._body[self._position]
        self._position += 1
        return value

    def tlvs(self) -> dict[int, bytes]:
        return decode_tlvs(self._body, self._position)


@dataclass(slots=True)
class Message:
    """The body that submit_sm and deliver_sm share (SMPP 3.4 §4.4.1 and §4.6.1).

    `tlvs` maps tags to raw octets; they are sent in the dict's order.
    """

    service_type: str = ""
    source_addr_ton: int = 0
    source_addr_npi: int = 0
    source_addr: str = ""
    dest_addr_ton: int = 0
    dest_addr_npi: int = 0
    destination_addr: str = ""
    esm_class: int = 0
    protocol_id: int = 0
    priority_flag: int = 0
    schedule_delivery_time: str = ""
    validity_period: str = ""
    registered_delivery: int = 0
    replace_if_present_flag: int = 0
    data_coding: int = 0
    sm_default_msg_id: int = 0
    short_message: bytes = b""
    tlvs: dict[int, bytes] = field(default_factory=dict)

    def to_body(self) -> bytes:
        short_message = self.short_message
        if len(short_message) > MAX_SHORT_MESSAGE_LENGTH:
            raise PduEncodeError("short_message is longer than 254 octets", CommandStatus.ESME_RINVMSGLEN)
        try:
            body = b"%b\0%c%c%b\0%c%c%b\0%b%b\0%b\0%b%b" % (
                _c_octets(self.service_type, 5, "service_type"),
                self.source_addr_ton,
                self.source_addr_npi,
                _c_octets(self.source_addr, 20, "source_addr"),
                self.dest_addr_ton,
                self.dest_addr_npi,
                _c_octets(self.destination_addr, 20, "destination_addr"),
                _MESSAGE_FLAGS.pack(self.esm_class, self.protocol_id, self.priority_flag),
                _c_octets(self.schedule_delivery_time, 16, "schedule_delivery_time"),
                _c_octets(self.validity_period, 16, "validity_period"),
                _MESSAGE_TAIL.pack(
                    self.registered_delivery,
                    self.replace_if_present_flag,
                    self.data_coding,
                    self.sm_default_msg_id,
                    len(short_message),
                ),
                short_message,
            )
        except (StructError, OverflowError):
            raise PduEncodeError("a one-octet field is outside 0..255") from None
        return body + encode_tlvs(self.tlvs) if self.tlvs else body

    @classmethod
    def from_body(cls, body: bytes) -> Self:
        # Written out in place of a _Reader: this runs for every message and every receipt.
        find = body.index
        try:
            service_end = find(0)
            source_end = find(0, service_end + 3)
            destination_end = find(0, source_end + 3)
            schedule_end = find(0, destination_end + 4)
            validity_end = find(0, schedule_end + 1)
            registered_delivery, replace_if_present_flag, data_coding, sm_default_msg_id, sm_length = (
                _MESSAGE_TAIL.unpack_from(body, validity_end + 1)
            )
        except (ValueError, StructError):
            raise PduDecodeError("message body cut short", CommandStatus.ESME_RINVCMDLEN) from None
        text_start = validity_end + 6
        text_end = text_start + sm_length
        if text_end > len(body):
            raise PduDecodeError("sm_length beyond the PDU", CommandStatus.ESME_RINVMSGLEN)
        strings = body[:validity_end].decode("latin-1")  # a character for each octet, so places are the same
        return cls(
            strings[:service_end],
            body[service_end + 1],
            body[service_end + 2],
            strings[service_end + 3 : source_end],
            body[source_end + 1],
            body[source_end + 2],
            strings[source_end + 3 : destination_end],
            body[destination_end + 1],
            body[destination_end + 2],
            body[destination_end + 3],
            strings[destination_end + 4 : schedule_end],
            strings[schedule_end + 1 : validity_end],
            registered_delivery,
            replace_if_present_flag,
            data_coding,
            sm_default_msg_id,
            body[text_start:text_end],
            decode_tlvs(body, text_end) if text_end < len(body) else {},
        )


@dataclass(slots=True)
class SubmitSm(Message):
    """ESME to SMSC: one message, or one part of a concatenated one."""

    command_id: ClassVar[CommandId] = CommandId.SUBMIT_SM


@dataclass(slots=True)
class DeliverSm(Message):
    """SMSC to ESME: a mobile-originated message or a delivery receipt."""

    command_id: ClassVar[CommandId] = CommandId.DELIVER_SM


@dataclass(slots=True)
class _MessageIdBody:
    """A response whose body is a message id; left out where the status is an error."""

    message_id: str = ""

    def to_body(self) -> bytes:
        return _c_octets(self.message_id, MAX_MESSAGE_ID_LENGTH, "message_id") + b"\0"

    @classmethod
    def from_body(cls, body: bytes) -> Self:
        return cls(decode_message_id(body))


def decode_message_id(body: bytes) -> str:
    """A response's message id; some SMSCs leave out its NUL, or the whole body."""
    end = body.find(0)
    return (body if end < 0 else body[:end]).decode("latin-1")


@dataclass(slots=True)
class SubmitSmResp(_MessageIdBody):
    command_id: ClassVar[CommandId] = CommandId.SUBMIT_SM_RESP


@dataclass(slots=True)
class DeliverSmResp(_MessageIdBody):
    """SMPP 3.4 §4.6.2: message_id is unused and empty."""

    command_id: ClassVar[CommandId] = CommandId.DELIVER_SM_RESP


@dataclass(slots=True)
class DataSmResp(_MessageIdBody):
    """SMPP 3.4 §4.7.2; its optional parameters are not read."""

    command_id: ClassVar[CommandId] = CommandId.DATA_SM_RESP


@dataclass(slots=True)
class DataSm:
    """SMPP 3.4 §4.7.1; the text travels in the message_payload TLV."""

    command_id: ClassVar[CommandId] = CommandId.DATA_SM

    service_type: str = ""
    source_addr_ton: int = 0
    source_addr_npi: int = 0
    source_addr: str = ""
    dest_addr_ton: int = 0
    dest_addr_npi: int = 0
    destination_addr: str = ""
    esm_class: int = 0
    registered_delivery: int = 0
    data_coding: int = 0
    tlvs: dict[int, bytes] = field(default_factory=dict)

    def to_body(self) -> bytes:
        try:
            return b"%b\0%c%c%b\0%c%c%b\0%c%c%c%b" % (
                _c_octets(self.service_type, 5, "service_type"),
                self.source_addr_ton,
                self.source_addr_npi,
                _c_octets(self.source_addr, 64, "source_addr"),
                self.dest_addr_ton,
                self.dest_addr_npi,
                _c_octets(self.destination_addr, 64, "destination_addr"),
                self.esm_class,
                self.registered_delivery,
                self.data_coding,
                encode_tlvs(self.tlvs),
            )
        except OverflowError:
            raise PduEncodeError("a one-octet field is outside 0..255") from None

    @classmethod
    def from_body(cls, body: bytes) -> Self:
        read = _Reader(body)
        return cls(
            service_type=read.c_string(),
            source_addr_ton=read.octet(),
            source_addr_npi=read.octet(),
            source_addr=read.c_string(),
            dest_addr_ton=read.octet(),
            dest_addr_npi=read.octet(),
            destination_addr=read.c_string(),
            esm_class=read.octet(),
            registered_delivery=read.octet(),
            data_coding=read.octet(),
            tlvs=read.tlvs(),
        )


@dataclass(slots=True)
class Bind:
    """The body that the three bind requests share (SMPP 3.4 §4.1)."""

    command_id: ClassVar[CommandId] = CommandId.BIND_TRANSCEIVER

    system_id: str
    password: str = field(default="", repr=False)
    system_type: str = ""
    interface_version: int = INTERFACE_VERSION
    addr_ton: int = 0
    addr_npi: int = 0
    address_range: str = ""

    def to_body(self) -> bytes:
        try:
            return b"%b\0%b\0%b\0%c%c%c%b\0" % (
                _c_octets(self.system_id, 15, "system_id"),
                _c_octets(self.password, 8, "password"),
                _c_octets(self.system_type, 12, "system_type"),
                self.interface_version,
                self.addr_ton,
                self.addr_npi,
                _c_octets(self.address_range, 40, "address_range"),
            )
        except OverflowError:
            raise PduEncodeError("a one-octet field is outside 0..255") from None

    @classmethod
    def from_body(cls, body: bytes) -> Self:
        read = _Reader(body)
        return cls(
            system_id=read.c_string(),
            password=read.c_string(),
            system_type=read.c_string(),
            interface_version=read.octet(),
            addr_ton=read.octet(),
            addr_npi=read.octet(),
            address_range=read.c_string(),
        )


@dataclass(slots=True)
class BindTransceiver(Bind):
    command_id: ClassVar[CommandId] = CommandId.BIND_TRANSCEIVER


@dataclass(slots=True)
class BindTransmitter(Bind):
    command_id: ClassVar[CommandId] = CommandId.BIND_TRANSMITTER


@dataclass(slots=True)
class BindReceiver(Bind):
    command_id: ClassVar[CommandId] = CommandId.BIND_RECEIVER


@dataclass(slots=True)
class BindResp:
    """SMPP 3.4 §4.1.2; a refused bind may come without a body."""

    command_id: ClassVar[CommandId] = CommandId.BIND_TRANSCEIVER_RESP

    system_id: str = ""
    tlvs: dict[int, bytes] = field(default_factory=dict)

    def to_body(self) -> bytes:
        return _c_octets(self.system_id, 15, "system_id") + b"\0" + encode_tlvs(self.tlvs)

    @classmethod
    def from_body(cls, body: bytes) -> Self:
        if not body:
            return cls()
        read = _Reader(body)
        return cls(system_id=read.c_string(), tlvs=read.tlvs())


@dataclass(slots=True)
class BindTransceiverResp(BindResp):
    command_id: ClassVar[CommandId] = CommandId.BIND_TRANSCEIVER_RESP


@dataclass(slots=True)
class BindTransmitterResp(BindResp):
    command_id: ClassVar[CommandId] = CommandId.BIND_TRANSMITTER_RESP


@dataclass(slots=True)
class BindReceiverResp(BindResp):
    command_id: ClassVar[CommandId] = CommandId.BIND_RECEIVER_RESP


@dataclass(slots=True)
class QuerySm:
    """SMPP 3.4 §4.8.1: the source address must be that of the submit_sm asked about."""

    command_id: ClassVar[CommandId] = CommandId.QUERY_SM

    message_id: str = ""
    source_addr_ton: int = 0
    source_addr_npi: int = 0
    source_addr: str = ""

    def to_body(self) -> bytes:
        try:
            return b"%b\0%c%c%b\0" % (
                _c_octets(self.message_id, MAX_MESSAGE_ID_LENGTH, "message_id"),
                self.source_addr_ton,
                self.source_addr_npi,
                _c_octets(self.source_addr, 20, "source_addr"),
            )
        except OverflowError:
            raise PduEncodeError("a one-octet field is outside 0..255") from None

    @classmethod
    def from_body(cls, body: bytes) -> Self:
        read = _Reader(body)
        return cls(
            message_id=read.c_string(),
            source_addr_ton=read.octet(),
            source_addr_npi=read.octet(),
            source_addr=read.c_string(),
        )


@dataclass(slots=True)
class QuerySmResp:
    """SMPP 3.4 §4.8.2: `final_date` is empty while the message is under way; `message_state` as MessageState."""

    command_id: ClassVar[CommandId] = CommandId.QUERY_SM_RESP

    message_id: str = ""
    final_date: str = ""
    message_state: int = 0
    error_code: int = 0

    def to_body(self) -> bytes:
        try:
            return b"%b\0%b\0%c%c" % (
                _c_octets(self.message_id, MAX_MESSAGE_ID_LENGTH, "message_id"),
                _c_octets(self.final_date, 16, "final_date"),
                self.message_state,
                self.error_code,
            )
        except OverflowError:
            raise PduEncodeError("a one-octet field is outside 0..255") from None

    @classmethod
    def from_body(cls, body: bytes) -> Self:
        if not body:
            return cls()
        read = _Reader(body)
        return cls(
            message_id=read.c_string(),
            final_date=read.c_string(),
            message_state=read.octet(),
            error_code=read.octet(),
        )


@dataclass(slots=True)
class _EmptyBody:
    """A PDU that is its header; octets after it are ignored, some peers send a few."""

    def to_body(self) -> bytes:
        return b""

    @classmethod
    def from_body(cls, body: bytes) -> Self:  # noqa: ARG003 - the codec hands every class its body
        return cls()


@dataclass(slots=True)
class Unbind(_EmptyBody):
    command_id: ClassVar[CommandId] = CommandId.UNBIND


@dataclass(slots=True)
class UnbindResp(_EmptyBody):
    command_id: ClassVar[CommandId] = CommandId.UNBIND_RESP


@dataclass(slots=True)
class EnquireLink(_EmptyBody):
    command_id: ClassVar[CommandId] = CommandId.ENQUIRE_LINK


@dataclass(slots=True)
class EnquireLinkResp(_EmptyBody):
    command_id: ClassVar[CommandId] = CommandId.ENQUIRE_LINK_RESP


@dataclass(slots=True)
class GenericNack(_EmptyBody):
    command_id: ClassVar[CommandId] = CommandId.GENERIC_NACK


PDU_CLASSES: dict[int, type[Pdu]] = {
    int(pdu_class.command_id): pdu_class
    for pdu_class in (
        BindTransceiver,
        BindTransceiverResp,
        BindTransmitter,
        BindTransmitterResp,
        BindReceiver,
        BindReceiverResp,
        SubmitSm,
        SubmitSmResp,
        DeliverSm,
        DeliverSmResp,
        DataSm,
        DataSmResp,
        QuerySm,
        QuerySmResp,
        Unbind,
        UnbindResp,
        EnquireLink,
        EnquireLinkResp,
        GenericNack,
    )
}
