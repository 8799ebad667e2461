"""The GSM 7 bit default alphabet and its extension table (3GPP TS 23.038 §6.2.1), one septet per octet.

Over SMPP septets travel unpacked, so an encoded text is a plain byte string and both tables become one lookup:
characters of the extension table are first spelled as ESC and their basic partner, then a charmap does the rest.
National shift tables are not used: Indian application-to-person routes do not carry them reliably.
"""

import codecs
import re
from typing import Final

ESCAPE: Final = 0x1B

# Index in this string = septet. Position 0x1B stands for ESC itself.
_BASIC: Final = (
    "@£$¥èéùìòÇ\nØø\rÅå"
    "Δ_ΦΓΛΩΠΨΣΘΞ\x1bÆæßÉ"
    " !\"#¤%&'()*+,-./"
    "0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNO"
    "PQRSTUVWXYZÄÖÑÜ§"
    "¿abcdefghijklmno"
    "pqrstuvwxyzäöñüà"
)
_EXTENSION: Final = {
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

BASIC_CHARACTERS: Final = frozenset(_BASIC) - {"\x1b"}
EXTENSION_CHARACTERS: Final = frozenset(_EXTENSION.values())

_CHARMAP: Final = codecs.charmap_build(_BASIC + "\ufffe" * 128)  # U+FFFE marks "no such octet" for charmaps
_SPELL_EXTENSION: Final = {ord(character): "\x1b" + _BASIC[septet] for septet, character in _EXTENSION.items()}
_READ_BASIC: Final = _BASIC.replace("\x1b", " ") + "\ufffd" * 128

NOT_BASIC: Final = re.compile("[^" + re.escape("".join(sorted(BASIC_CHARACTERS))) + "]")
NOT_GSM: Final = re.compile("[^" + re.escape("".join(sorted(BASIC_CHARACTERS | EXTENSION_CHARACTERS))) + "]")
EXTENDED: Final = re.compile("[" + re.escape("".join(sorted(EXTENSION_CHARACTERS))) + "]")
# Most texts are plain ASCII, and octets are looked up a hundred times sooner than characters.
_BASIC_ASCII: Final = "".join(sorted(filter(str.isascii, BASIC_CHARACTERS))).encode()
_SEPTET_OF_ASCII: Final = bytes(_BASIC.find(chr(octet)) & 0xFF for octet in range(256))
_ESCAPED: Final = re.compile(b"\x1b(.?)", re.DOTALL)


def is_basic(text: str) -> bool:
    """Whether every character is in the alphabet itself, and costs one septet."""
    if text.isascii():
        return not text.encode().translate(None, _BASIC_ASCII)
    return NOT_BASIC.search(text) is None


def encode_septets(text: str) -> bytes:
    """The septets of `text`, one per octet; every character must be in the alphabet or its extension."""
    if text.isascii() and is_basic(text):
        return text.encode().translate(_SEPTET_OF_ASCII)
    if NOT_BASIC.search(text) is not None:
        text = text.translate(_SPELL_EXTENSION)
    return codecs.charmap_encode(text, "strict", _CHARMAP)[0]


def decode_septets(octets: bytes) -> str:
    """The text of unpacked septets. Never fails: what a handset sent must always be readable.

    An escape followed by a septet without an extension shows the basic character, ESC ESC or a lone ESC shows a space
    (TS 23.038 §6.2.1.1); an octet above 0x7F shows U+FFFD.
    """
    if ESCAPE not in octets:
        return codecs.charmap_decode(octets, "strict", _READ_BASIC)[0]
    pieces: list[str] = []
    end = 0
    for escape in _ESCAPED.finditer(octets):
        pieces.append(codecs.charmap_decode(octets[end : escape.start()], "strict", _READ_BASIC)[0])
        pieces.append(_extended_character(escape[1]))
        end = escape.end()
    pieces.append(codecs.charmap_decode(octets[end:], "strict", _READ_BASIC)[0])
    return "".join(pieces)


def _extended_character(septet: bytes) -> str:
    if not septet:
        return " "
    return _EXTENSION.get(septet[0]) or _READ_BASIC[septet[0]]
