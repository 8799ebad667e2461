"""Optional parameters: tag, length and raw octets (SMPP 3.4 §3.2.4.1)."""

from struct import Struct
from struct import error as StructError  # noqa: N812 - it is an exception, and reads as one

from harkara_smpp.constants import CommandStatus
from harkara_smpp.frame import PduDecodeError, PduEncodeError

_TLV_HEADER = Struct(">HH")
_TLV_HEADER_LENGTH = _TLV_HEADER.size
_unpack_header = _TLV_HEADER.unpack_from


def encode_tlvs(tlvs: dict[int, bytes]) -> bytes:
    """Optional parameters in octets, in the order given."""
    try:
        return b"".join([_TLV_HEADER.pack(tag, len(value)) + value for tag, value in tlvs.items()])
    except StructError:
        raise PduEncodeError("a TLV's tag or length is above 0xFFFF", CommandStatus.ESME_RINVPARLEN) from None


def decode_tlvs(body: bytes, position: int = 0) -> dict[int, bytes]:
    """Optional parameters from `position` to the end; of a tag that comes twice the last value counts."""
    tlvs: dict[int, bytes] = {}
    available = len(body)
    while position < available:
        value_start = position + _TLV_HEADER_LENGTH
        if value_start > available:
            raise PduDecodeError("TLV header cut short", CommandStatus.ESME_RINVOPTPARSTREAM)
        tag, length = _unpack_header(body, position)
        position = value_start + length
        if position > available:
            raise PduDecodeError(f"TLV 0x{tag:04X} longer than its PDU", CommandStatus.ESME_RINVPARLEN)
        tlvs[tag] = body[value_start:position]
    return tlvs
