import pytest
from hypothesis import given
from hypothesis import strategies as st

from harkara_sms_text import (
    Concatenation,
    MalformedHeaderError,
    UnreadableCodingError,
    decode,
    read_user_data,
)


@pytest.mark.parametrize(
    ("data_coding", "octets", "text"),
    [
        (0, b"STOP", "STOP"),
        (0, b"\x00\x11\x02", "@_$"),
        (0, b"\x1b\x65 5", "€ 5"),
        (0, b"\x1b\x41", "A"),  # no such extension: the basic character
        (0, b"\x1b\x1b", " "),
        (0, b"A\x1b", "A "),
        (0, b"A\x80\x1b\xffB", "A\ufffd\ufffdB"),
        (0, b"\x1b\n", "\f"),
        (1, b"Hi\xff", "Hi\ufffd"),
        (3, b"caf\xe9", "café"),
        (8, bytes.fromhex("0928092e"), "नम"),
        (8, bytes.fromhex("d83dde00"), "😀"),
        (8, bytes.fromhex("0041d83d"), "A\ufffd"),
        (8, bytes.fromhex("004100"), "A\ufffd"),
        (0xF0, b"\x00", "@"),
        (0xF1, b"\x00", "@"),
    ],
)
def test_decode(data_coding: int, octets: bytes, text: str) -> None:
    assert decode(data_coding, octets) == text


@pytest.mark.parametrize("data_coding", [2, 4, 5, 0xF4, 0xF8, 0xFF])
def test_binary_and_unknown_codings_are_refused(data_coding: int) -> None:
    with pytest.raises(UnreadableCodingError, match=f"0x{data_coding:02X}") as caught:
        decode(data_coding, b"\x01")
    assert caught.value.data_coding == data_coding


@given(st.sampled_from([0, 1, 3, 8]), st.binary(max_size=160))
def test_whatever_arrives_can_be_stored(data_coding: int, octets: bytes) -> None:
    decode(data_coding, octets).encode("utf-8")


@pytest.mark.parametrize(
    ("octets", "concatenation", "body"),
    [
        ("050003ab0201 41", Concatenation(0xAB, 2, 1), b"A"),
        ("060804abcd0302 41", Concatenation(0xABCD, 3, 2), b"A"),
        ("0b 0504 0b8423f0 0003 070201 41", Concatenation(7, 2, 1), b"A"),  # application ports first
        ("050003ab0203 41", None, b"A"),  # part 3 of 2
        ("050003ab0000 41", None, b"A"),
        ("03240106 41", None, b"A"),
        ("00 41", None, b"A"),
    ],
)
def test_read_user_data(octets: str, concatenation: Concatenation | None, body: bytes) -> None:
    assert read_user_data(bytes.fromhex(octets)) == (concatenation, body)


@pytest.mark.parametrize(
    "octets", ["", "05", "050003ab02", "0100 41", "020004 41", "03000501 41", "0a05040b8423f000030702"]
)
def test_a_header_beyond_the_message_is_refused(octets: str) -> None:
    with pytest.raises(MalformedHeaderError):
        read_user_data(bytes.fromhex(octets))


@given(st.binary(max_size=40))
def test_any_octets_are_read_or_refused(octets: bytes) -> None:
    try:
        user_data = read_user_data(octets)
    except MalformedHeaderError:
        return
    assert octets.endswith(user_data.body)
