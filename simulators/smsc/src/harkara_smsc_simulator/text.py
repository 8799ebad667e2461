"""What a phone shows: octets of parts to text, by a decoder of the simulator's own.

It shares nothing with the encoder of the system under test, so that a mistake there is seen here.
"""

from dataclasses import dataclass

DEFAULT_CODING, ASCII, LATIN_1, UCS_2 = 0, 1, 3, 8
_ESCAPE = 0x1B
_CONCAT_8, _CONCAT_16 = 0x00, 0x08
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"

# 3GPP TS 23.038 §6.2.1, row by row; the escape's own place is never looked up.
GSM_ALPHABET = (
    "@£$¥èéùìòÇ\nØø\rÅå"
    "Δ_ΦΓΛΩΠΨΣΘΞ\x1bÆæßÉ"
    " !\"#¤%&'()*+,-./"
    "0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNO"
    "PQRSTUVWXYZÄÖÑÜ§"
    "¿abcdefghijklmno"
    "pqrstuvwxyzäöñüà"
)
# 3GPP TS 23.038 §6.2.1.1
GSM_EXTENSION = {
    0x0A: "\f",
    0x14: "^",
    0x28: "{",
    0x29: "}",
    0x2F: "\\",
    0x3C: "[",
    0x3D: "~",
    0x3E: "]",
    0x40: "|",
    0x65: "€",
}


def decode_text(data_coding: int, octets: bytes) -> str:
    """The text of octets without user data header; binary codings are shown in hex."""
    if data_coding == DEFAULT_CODING:
        return _decode_gsm(octets)
    if data_coding == ASCII:
        return octets.decode("ascii", "replace")
    if data_coding == LATIN_1:
        return octets.decode("latin-1")
    if data_coding == UCS_2:
        return octets.decode("utf-16-be", "replace")
    return octets.hex()


def _decode_gsm(octets: bytes) -> str:
    characters: list[str] = []
    escaped = False
    for octet in octets:
        if escaped:
            # An unknown extension is shown as its character of the main table (§6.2.1.1, note).
            characters.append(GSM_EXTENSION.get(octet) or _gsm_character(octet))
            escaped = False
        elif octet == _ESCAPE:
            escaped = True
        else:
            characters.append(_gsm_character(octet))
    return "".join(characters)


def _gsm_character(octet: int) -> str:
    return GSM_ALPHABET[octet] if octet < len(GSM_ALPHABET) else _REPLACEMENT


_GSM_OCTETS = {character: bytes((octet,)) for octet, character in enumerate(GSM_ALPHABET) if octet != _ESCAPE} | {
    character: bytes((_ESCAPE, octet)) for octet, character in GSM_EXTENSION.items()
}


def encode_text(text: str) -> list[tuple[int, int, bytes]]:
    """A phone's message as (esm_class, data_coding, short_message) for each part; an 8-bit reference joins them."""
    if all(character in _GSM_OCTETS for character in text):
        units, coding, single, part = [_GSM_OCTETS[character] for character in text], DEFAULT_CODING, 160, 153
    else:
        units, coding, single, part = [character.encode("utf-16-be") for character in text], UCS_2, 140, 134
    chunks = [b""]
    limit = single if sum(map(len, units)) <= single else part
    for unit in units:
        if len(chunks[-1]) + len(unit) > limit:
            chunks.append(b"")
        chunks[-1] += unit
    if len(chunks) == 1:
        return [(0, coding, chunks[0])]
    reference = hash(text) & 0xFF
    return [
        (0x40, coding, bytes((5, _CONCAT_8, 3, reference, len(chunks), number)) + chunk)
        for number, chunk in enumerate(chunks, 1)
    ]


@dataclass(frozen=True, slots=True)
class Concatenation:
    """Which part of which message."""

    reference: int
    total: int
    number: int


def split_header(octets: bytes) -> tuple[Concatenation | None, bytes]:
    """User data header (3GPP TS 23.040 §9.2.3.24) and the text behind it; a broken header counts as none."""
    if not octets or octets[0] + 1 > len(octets):
        return None, octets
    end = octets[0] + 1
    concatenation = None
    position = 1
    while position + 2 <= end:
        element, length = octets[position], octets[position + 1]
        value = octets[position + 2 : min(position + 2 + length, end)]
        if (element, len(value)) == (_CONCAT_8, 3):
            concatenation = Concatenation(value[0], value[1], value[2])
        elif (element, len(value)) == (_CONCAT_16, 4):
            concatenation = Concatenation(int.from_bytes(value[:2], "big"), value[2], value[3])
        position += 2 + length
    return concatenation, octets[end:]
