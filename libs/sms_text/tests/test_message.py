from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harkara_sms_text import (
    Encoding,
    LoneSurrogateError,
    TooManyPartsError,
    decode,
    encode,
    is_gsm,
    measure,
    read_user_data,
    split,
)

# A handset, written from the tables of the standard alone.
DEFAULT_ALPHABET = {
    0x00: "@", 0x01: "£", 0x02: "$", 0x03: "¥", 0x04: "è", 0x05: "é", 0x06: "ù", 0x07: "ì",
    0x08: "ò", 0x09: "Ç", 0x0A: "\n", 0x0B: "Ø", 0x0C: "ø", 0x0D: "\r", 0x0E: "Å", 0x0F: "å",
    0x10: "\u0394", 0x11: "_", 0x12: "\u03a6", 0x13: "\u0393", 0x14: "\u039b", 0x15: "\u03a9", 0x16: "\u03a0",
    0x17: "\u03a8", 0x18: "\u03a3", 0x19: "\u0398", 0x1A: "\u039e", 0x1C: "Æ", 0x1D: "æ", 0x1E: "ß", 0x1F: "É",
    0x24: "¤", 0x40: "¡", 0x5B: "Ä", 0x5C: "Ö", 0x5D: "Ñ", 0x5E: "Ü", 0x5F: "§", 0x60: "¿",
    0x7B: "ä", 0x7C: "ö", 0x7D: "ñ", 0x7E: "ü", 0x7F: "à",
}  # fmt: skip
# Everywhere else the alphabet agrees with ASCII.
DEFAULT_ALPHABET |= {code: chr(code) for code in range(0x20, 0x7B) if code not in DEFAULT_ALPHABET}
EXTENSION = {
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


def read_body(data_coding: int, body: bytes) -> str:
    """The characters of one complete body; fails on half a pair, as a strict handset would."""
    characters = []
    units = iter(body) if data_coding == 0 else iter([body[i] << 8 | body[i + 1] for i in range(0, len(body), 2)])
    for unit in units:
        if data_coding == 0 and unit == 0x1B:
            characters.append(EXTENSION[next(units)])
        elif data_coding == 0:
            characters.append(DEFAULT_ALPHABET[unit])
        elif 0xD800 <= unit < 0xDC00:
            low = next(units)
            assert 0xDC00 <= low < 0xE000
            characters.append(chr(0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00)))
        else:
            assert not 0xDC00 <= unit < 0xE000
            characters.append(chr(unit))
    return "".join(characters)


GSM_CHARACTERS = "".join([*DEFAULT_ALPHABET.values(), *EXTENSION.values()])


def lengthy(alphabet: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Texts of up to 900 characters; a short piece is repeated, since long random texts are rarely drawn."""
    return st.builds(
        lambda piece, times, tail: piece * times + tail, st.text(alphabet), st.integers(0, 30), st.text(alphabet)
    )


gsm_texts = lengthy(st.sampled_from(GSM_CHARACTERS))
pair_heavy_texts = lengthy(st.sampled_from("a{€😀क"))
texts = gsm_texts | pair_heavy_texts | lengthy(st.characters(exclude_categories=["Cs"]))


def test_the_alphabet_has_127_basic_and_10_extended_characters() -> None:
    assert len(DEFAULT_ALPHABET) == 127
    assert len(EXTENSION) == 10


@pytest.mark.parametrize("code", sorted(DEFAULT_ALPHABET))
def test_each_basic_character_has_its_septet(code: int) -> None:
    assert encode(DEFAULT_ALPHABET[code]) == (Encoding.GSM, bytes([code]))


@pytest.mark.parametrize("code", sorted(EXTENSION))
def test_each_extended_character_costs_an_escape(code: int) -> None:
    assert encode(EXTENSION[code]) == (Encoding.GSM, bytes([0x1B, code]))
    assert measure(EXTENSION[code]).units == 2


@pytest.mark.parametrize("code_point", [*range(0x20), 0x60, 0x7F, 0xA0, 0xE7, 0x20B9, 0x0905, 0x1F600])
def test_only_the_alphabet_is_gsm(code_point: int) -> None:
    assert is_gsm(chr(code_point)) == (chr(code_point) in GSM_CHARACTERS)


VECTORS = [
    # text, encoding, units, parts, units per part, forcing characters
    ("", Encoding.GSM, 0, 1, 160, ""),
    ("Your OTP is 482913.", Encoding.GSM, 19, 1, 160, ""),
    ("a" * 160, Encoding.GSM, 160, 1, 160, ""),
    ("a" * 161, Encoding.GSM, 161, 2, 153, ""),
    ("a" * 306, Encoding.GSM, 306, 2, 153, ""),
    ("a" * 307, Encoding.GSM, 307, 3, 153, ""),
    ("€" * 80, Encoding.GSM, 160, 1, 160, ""),
    ("€" * 81, Encoding.GSM, 162, 2, 153, ""),
    # Each part loses its last septet, since 153 is odd and no pair is broken.
    ("€" * 153, Encoding.GSM, 306, 3, 153, ""),
    ("a" * 152 + "€" + "a" * 153, Encoding.GSM, 307, 3, 153, ""),
    ("a" * 152 + "€" + "a" * 151, Encoding.GSM, 305, 2, 153, ""),
    ("₹499", Encoding.UCS2, 4, 1, 70, "₹"),
    ("₹" * 70, Encoding.UCS2, 70, 1, 70, "₹"),
    ("₹" * 71, Encoding.UCS2, 71, 2, 67, "₹"),
    ("₹" * 134, Encoding.UCS2, 134, 2, 67, "₹"),
    ("₹" * 135, Encoding.UCS2, 135, 3, 67, "₹"),
    ("😀" * 35, Encoding.UCS2, 70, 1, 70, "😀"),
    ("😀" * 67, Encoding.UCS2, 134, 3, 67, "😀"),  # 33 whole pairs a part
    ("“Hi” \u2013 €5…", Encoding.UCS2, 10, 1, 70, "“”\u2013…"),
    ("नमस्ते", Encoding.UCS2, 6, 1, 70, "नमस्ते"),
]


@pytest.mark.parametrize(("text", "expected"), [(vector[0], vector[1:]) for vector in VECTORS])
def test_measure(text: str, expected: tuple[object, ...]) -> None:
    assert measure(text) == expected
    assert len(split(text, 7)) == measure(text).parts


def test_split_writes_the_octets_of_the_standard() -> None:
    first, second = split("a" * 160 + "{", 0xAB)
    assert first == (0x40, 0, bytes.fromhex("050003ab0201") + b"a" * 153, "a" * 153)
    assert second == (0x40, 0, bytes.fromhex("050003ab0202") + b"a" * 7 + b"\x1b\x28", "a" * 7 + "{")
    assert split("₹5", 0) == [(0, 8, bytes.fromhex("20b90035"), "₹5")]


@given(texts, st.integers(0, 255))
@settings(max_examples=300)
def test_a_handset_reads_what_was_split(text: str, reference: int) -> None:
    parts = split(text, reference)
    cost = measure(text)
    assert len(parts) == cost.parts
    assert "".join(part.text for part in parts) == text
    assert {part.data_coding for part in parts} == {cost.encoding.data_coding}
    for number, part in enumerate(parts, start=1):
        assert len(part.short_message) <= (160 if cost.encoding is Encoding.GSM else 140)
        body = part.short_message
        if len(parts) > 1:
            assert part.esm_class == 0x40
            assert len(body) <= (159 if cost.encoding is Encoding.GSM else 140)
            assert body[:6] == bytes((5, 0, 3, reference, len(parts), number))
            body = body[6:]
        else:
            assert part.esm_class == 0
        assert read_body(part.data_coding, body) == part.text


@given(texts)
@settings(max_examples=200)
def test_no_part_could_take_one_more_character(text: str) -> None:
    parts = split(text, 1)
    limit = measure(text).units_per_part
    for part, following in pairwise(parts):
        assert _units(part.text + following.text[0], part.data_coding) > limit


def _units(text: str, data_coding: int) -> int:
    if data_coding == 8:
        return sum(2 if ord(character) > 0xFFFF else 1 for character in text)
    return sum(2 if character in EXTENSION.values() else 1 for character in text)


@given(texts)
@settings(max_examples=200)
def test_measure_counts_units_and_what_forced_them(text: str) -> None:
    cost = measure(text)
    forcing = [character for character in text if character not in GSM_CHARACTERS]
    assert cost.forcing_characters == "".join(sorted(set(forcing), key=forcing.index))
    assert (cost.encoding is Encoding.UCS2) == bool(forcing)
    assert cost.units == _units(text, cost.encoding.data_coding)


@given(texts)
@settings(max_examples=200)
def test_decode_undoes_encode(text: str) -> None:
    encoding, octets = encode(text)
    assert decode(encoding.data_coding, octets) == text


@given(pair_heavy_texts, st.integers(0, 255))
@settings(max_examples=100)
def test_the_header_is_read_back(text: str, reference: int) -> None:
    text += "a" * 161
    parts = split(text, reference)
    read = [read_user_data(part.short_message) for part in parts]
    assert [user_data.concatenation for user_data in read] == [
        (reference, len(parts), number) for number in range(1, len(parts) + 1)
    ]
    assert "".join(decode(part.data_coding, data.body) for part, data in zip(parts, read, strict=True)) == text


@pytest.mark.parametrize("text", ["ab\ude00", "ab\ud83dx\ude00", "ab\ude00\ud83d", "ab\ud83d" + "क" * 100])
def test_half_a_surrogate_pair_is_refused_where_it_stands(text: str) -> None:
    for refuse in (measure, encode, lambda wrong: split(wrong, 1)):
        with pytest.raises(LoneSurrogateError, match="Character 3 ") as caught:
            refuse(text)
        assert caught.value.position == 2
        assert caught.value.__context__ is None  # the codec's error holds the text


def test_the_header_counts_to_255() -> None:
    assert len(split("a" * 153 * 255, 1)) == 255
    with pytest.raises(TooManyPartsError, match="256 parts"):
        split("a" * (153 * 255 + 1), 1)


@pytest.mark.parametrize("reference", [-1, 256])
def test_a_reference_is_one_octet(reference: int) -> None:
    with pytest.raises(ValueError, match=r"0\.\.255"):
        split("a", reference)
