"""Measuring, encoding and splitting a short message (3GPP TS 23.038, TS 23.040 §9.2.3.24.1).

A text is GSM when every character is in the GSM 7 bit alphabet or its extension (which costs two septets), else UCS-2.
Parts are joined by the 8-bit concatenation element `05 00 03 ref total number`: six octets, which leaves 153 septets or
67 UCS-2 units. Prices are per part, so `measure` and `split` must agree on every text; both cut greedily and step back
one unit rather than leave an escape or a high surrogate at the end of a part.

Text is personal data: no error raised here carries any of it.
"""

from enum import StrEnum
from itertools import pairwise
from typing import Final, NamedTuple

from harkara_sms_text.alphabet import ESCAPE, EXTENDED, NOT_GSM, encode_septets, is_basic

MAX_PARTS: Final = 255
ESM_CLASS_UDHI: Final = 0x40  # SMPP 3.4 §5.2.12
_UDH_CONCATENATION_8_BIT: Final = b"\x05\x00\x03"
_HIGH_SURROGATES: Final = range(0xD8, 0xDC)
_MAX_REFERENCE: Final = 0xFF

_GSM_SINGLE: Final = 160
_GSM_PART: Final = 153
_UCS2_SINGLE: Final = 70
_UCS2_PART: Final = 67


class Encoding(StrEnum):
    GSM = "gsm"
    UCS2 = "ucs2"

    @property
    def data_coding(self) -> int:
        """The SMPP data_coding: 0 is the carrier's default alphabet, 8 is UCS-2 (SMPP 3.4 §5.2.19)."""
        return 0 if self is Encoding.GSM else 8


class Measure(NamedTuple):
    """What a text costs. `units` are septets (GSM) or UTF-16 code units (UCS-2)."""

    encoding: Encoding
    units: int
    parts: int
    units_per_part: int
    forcing_characters: str
    """The distinct characters, in order of appearance, that forced UCS-2; empty for GSM."""


class Part(NamedTuple):
    """One short message as it goes into submit_sm."""

    esm_class: int
    data_coding: int
    short_message: bytes
    """User data with its header, if any."""
    text: str


class LoneSurrogateError(ValueError):
    """The text holds half of a surrogate pair, which no encoding can carry."""

    def __init__(self, position: int) -> None:
        super().__init__(
            f"Character {position + 1} of the text is half of a surrogate pair, which is not a character. "
            "Send the text as valid UTF-8, with emoji whole."
        )
        self.position = position


class TooManyPartsError(ValueError):
    """The text needs more parts than a concatenation header can count."""

    def __init__(self, parts: int) -> None:
        super().__init__(f"The text needs {parts} parts; a concatenated message has at most {MAX_PARTS}. Shorten it.")
        self.parts = parts


def measure(text: str) -> Measure:
    """Encoding, length and number of parts of `text`. An empty text is one empty part.

    Raises:
        LoneSurrogateError: the text holds half of a surrogate pair.
    """
    if is_basic(text):
        units = len(text)
        if units <= _GSM_SINGLE:
            return Measure(Encoding.GSM, units, 1, _GSM_SINGLE, "")
        return Measure(Encoding.GSM, units, -(-units // _GSM_PART), _GSM_PART, "")
    if NOT_GSM.search(text) is None:
        units = len(text) + len(EXTENDED.findall(text))
        if units <= _GSM_SINGLE:
            return Measure(Encoding.GSM, units, 1, _GSM_SINGLE, "")
        return Measure(Encoding.GSM, units, len(_cut_gsm(encode_septets(text))) - 1, _GSM_PART, "")
    octets = _encode_ucs2(text)
    units = len(octets) // 2
    forcing_characters = "".join(dict.fromkeys(NOT_GSM.findall(text)))
    if units <= _UCS2_SINGLE:
        return Measure(Encoding.UCS2, units, 1, _UCS2_SINGLE, forcing_characters)
    return Measure(Encoding.UCS2, units, len(_cut_ucs2(octets)) - 1, _UCS2_PART, forcing_characters)


def encode(text: str) -> tuple[Encoding, bytes]:
    """The whole text in its cheapest encoding, without headers (as `message_payload` carries it).

    Raises:
        LoneSurrogateError: the text holds half of a surrogate pair.
    """
    if is_basic(text) or NOT_GSM.search(text) is None:
        return Encoding.GSM, encode_septets(text)
    return Encoding.UCS2, _encode_ucs2(text)


def split(text: str, reference: int) -> list[Part]:
    """The parts of `text`, ready to submit. A text that fits in one message gets no header.

    Args:
        text: the text, any length up to 255 parts.
        reference: 0..255, the same in every part; must differ between long messages to one handset from one sender
            for as long as parts may be under way.

    Raises:
        LoneSurrogateError: the text holds half of a surrogate pair.
        TooManyPartsError: more than 255 parts.
        ValueError: the reference is not in 0..255.
    """
    if not 0 <= reference <= _MAX_REFERENCE:
        raise ValueError("The concatenation reference must be in 0..255.")
    encoding, octets = encode(text)
    if encoding is Encoding.GSM:
        fits, cut, count = len(octets) <= _GSM_SINGLE, _cut_gsm, _count_gsm
    else:
        fits, cut, count = len(octets) <= 2 * _UCS2_SINGLE, _cut_ucs2, _count_ucs2
    if fits:
        return [Part(0, encoding.data_coding, octets, text)]
    cuts = cut(octets)
    total = len(cuts) - 1
    if total > MAX_PARTS:
        raise TooManyPartsError(total)
    header = _UDH_CONCATENATION_8_BIT + bytes((reference, total))
    parts: list[Part] = []
    text_start = 0
    for number, (start, end) in enumerate(pairwise(cuts), start=1):
        body = octets[start:end]
        text_end = text_start + count(body)
        short_message = header + bytes((number,)) + body
        parts.append(Part(ESM_CLASS_UDHI, encoding.data_coding, short_message, text[text_start:text_end]))
        text_start = text_end
    return parts


def is_gsm(text: str) -> bool:
    """Whether every character is in the GSM alphabet or its extension."""
    return NOT_GSM.search(text) is None


def _encode_ucs2(text: str) -> bytes:
    try:
        return text.encode("utf-16-be")
    except UnicodeEncodeError as error:
        position = error.start
    # Outside the handler, so that the codec's error, which holds the text, is not chained to ours.
    raise LoneSurrogateError(position)


def _cut_gsm(octets: bytes) -> list[int]:
    """Offsets where parts begin, and the end. ESC never is the second half of a pair, so one look back is enough."""
    cuts = [0]
    end = _GSM_PART
    while end < len(octets):
        if octets[end - 1] == ESCAPE:
            end -= 1
        cuts.append(end)
        end += _GSM_PART
    cuts.append(len(octets))
    return cuts


def _cut_ucs2(octets: bytes) -> list[int]:
    """Offsets, in octets, where parts begin, and the end."""
    cuts = [0]
    end = 2 * _UCS2_PART
    while end < len(octets):
        if octets[end - 2] in _HIGH_SURROGATES:
            end -= 2
        cuts.append(end)
        end += 2 * _UCS2_PART
    cuts.append(len(octets))
    return cuts


def _count_gsm(octets: bytes) -> int:
    """Characters that the septets spell."""
    return len(octets) - octets.count(ESCAPE)


def _count_ucs2(octets: bytes) -> int:
    """Characters that the octets spell."""
    return len(octets.decode("utf-16-be"))
