"""Reading what a carrier delivers: the user data header and the text of a mobile-originated message.

Reading is forgiving (a handset's text must always become something that can be shown and stored) except where the
octets are not text at all.
"""

from typing import Final, NamedTuple

from harkara_sms_text.alphabet import decode_septets

_IEI_CONCATENATION_8_BIT: Final = 0x00  # 3GPP TS 23.040 §9.2.3.24.1
_IEI_CONCATENATION_16_BIT: Final = 0x08  # 3GPP TS 23.040 §9.2.3.24.8
_CLASS_GROUP: Final = 0xF0  # 3GPP TS 23.038 §4, passed on by SMPP 3.4 §5.2.19
_CLASS_GROUP_BINARY: Final = 0x04


class Concatenation(NamedTuple):
    """Which part of which long message this is."""

    reference: int
    total: int
    number: int


class UserData(NamedTuple):
    concatenation: Concatenation | None
    body: bytes
    """The octets after the header."""


class UnreadableCodingError(ValueError):
    """The data_coding does not carry text that this library reads."""

    def __init__(self, data_coding: int) -> None:
        super().__init__(f"data_coding 0x{data_coding:02X} is binary or unknown; read are 0, 1, 3, 8 and 0xF0-0xF3.")
        self.data_coding = data_coding


class MalformedHeaderError(ValueError):
    """The user data header runs beyond the message."""

    def __init__(self) -> None:
        super().__init__("The user data header is longer than the message that carries it.")


def decode(data_coding: int, octets: bytes) -> str:
    """The text of a message body (header removed). Octets that stand for nothing become U+FFFD.

    Raises:
        UnreadableCodingError: binary data or an alphabet that is not read here.
    """
    if data_coding == 0 or (data_coding & 0xF0 == _CLASS_GROUP and not data_coding & (_CLASS_GROUP_BINARY | 0x08)):
        return decode_septets(octets)
    if data_coding == 8:  # noqa: PLR2004  # SMPP 3.4 §5.2.19
        return octets.decode("utf-16-be", "replace")
    if data_coding == 1:
        return octets.decode("ascii", "replace")
    if data_coding == 3:  # noqa: PLR2004  # SMPP 3.4 §5.2.19
        return octets.decode("latin-1")
    raise UnreadableCodingError(data_coding)


def read_user_data(short_message: bytes) -> UserData:
    """Separates the user data header from the body; call it when esm_class has the UDHI bit (0x40).

    Information elements other than concatenation are passed over. An impossible part number makes the element void
    (TS 23.040 §9.2.3.24.1).

    Raises:
        MalformedHeaderError: a length points beyond the message.
    """
    if not short_message or short_message[0] >= len(short_message):
        raise MalformedHeaderError
    end = short_message[0] + 1
    concatenation: Concatenation | None = None
    position = 1
    while position < end:
        if position + 2 > end or position + 2 + short_message[position + 1] > end:
            raise MalformedHeaderError
        element = short_message[position]
        value = short_message[position + 2 : position + 2 + short_message[position + 1]]
        concatenation = _read_concatenation(element, value) or concatenation
        position += 2 + len(value)
    return UserData(concatenation, short_message[end:])


def _read_concatenation(element: int, value: bytes) -> Concatenation | None:
    expected_octets = {_IEI_CONCATENATION_8_BIT: 3, _IEI_CONCATENATION_16_BIT: 4}.get(element)
    if len(value) != expected_octets:
        return None
    reference, total, number = int.from_bytes(value[:-2], "big"), value[-2], value[-1]
    return Concatenation(reference, total, number) if 1 <= number <= total else None
