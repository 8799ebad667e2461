from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harkara_smpp import (
    DeliverSm,
    IdRule,
    MessageState,
    Receipt,
    is_receipt,
    parse_receipt,
    receipt_key,
    response_key,
)
from harkara_smpp.receipt import receipt_text, receipt_tlvs

_EXAMPLE = (
    b"id:0123456789 sub:001 dlvrd:001 submit date:2611221530 done date:261122153142 stat:DELIVRD err:000 text:Your "
)


def _deliver(text: bytes, tlvs: dict[int, bytes] | None = None, esm_class: int = 4) -> DeliverSm:
    return DeliverSm(esm_class=esm_class, short_message=text, tlvs=tlvs or {})


def _parsed(text: bytes, tlvs: dict[int, bytes] | None = None) -> Receipt:
    receipt = parse_receipt(_deliver(text, tlvs))
    assert receipt is not None
    return receipt


def test_every_field_of_the_text_is_read() -> None:
    assert _parsed(_EXAMPLE) == Receipt(
        message_id="0123456789",
        state=MessageState.DELIVRD,
        stat="DELIVRD",
        error_code="000",
        submit_date=datetime(2026, 11, 22, 15, 30),  # noqa: DTZ001 - a carrier's local time
        done_date=datetime(2026, 11, 22, 15, 31, 42),  # noqa: DTZ001
        text="Your ",
        text_message_id="0123456789",
    )


@pytest.mark.parametrize("change", [bytes.upper, bytes.lower, bytes.title])
def test_the_case_of_labels_and_states_does_not_matter(change: object) -> None:
    assert callable(change)
    receipt = _parsed(change(_EXAMPLE))
    assert (receipt.message_id, receipt.state, receipt.error_code) == ("0123456789", MessageState.DELIVRD, "000")
    assert receipt.done_date is not None


def test_the_message_state_tlv_and_the_id_tlv_come_first() -> None:
    receipt = _parsed(_EXAMPLE, {0x001E: b"7B\x00", 0x0427: b"\x05", 0x0423: b"\x03\x00\x1b"})
    assert receipt.message_id == "7B"
    assert receipt.id_from_tlv
    assert receipt.state is MessageState.UNDELIV
    assert receipt.network_error_code == (3, 27)


def test_tlvs_alone_make_a_receipt() -> None:
    receipt = _parsed(b"", {0x001E: b"7B\x00", 0x0427: b"\x02"})
    assert (receipt.message_id, receipt.state, receipt.text_message_id) == ("7B", MessageState.DELIVRD, "")


def test_a_receipt_in_message_payload_is_read() -> None:
    assert _parsed(b"", {0x0424: _EXAMPLE}).message_id == "0123456789"


@pytest.mark.parametrize("stat", [b"BUFFERD", b"", b"DELIVERED"])
def test_a_carriers_own_word_is_no_state(stat: bytes) -> None:
    receipt = _parsed(b"id:1 stat:" + stat + b" err:00A")
    assert receipt.state is None
    assert receipt.stat == stat.decode()
    assert receipt.error_code == "00A"


def test_labels_inside_the_text_are_not_fields() -> None:
    receipt = _parsed(b"id:1 sub:001 stat:DELIVRD err:000 text:id:2 stat:UNDELIV err:999")
    assert (receipt.message_id, receipt.state, receipt.error_code) == ("1", MessageState.DELIVRD, "000")


@pytest.mark.parametrize("text", [b"", b"hello", b"id: sub:001 stat:DELIVRD", b"paid:77 thanks"])
def test_what_names_no_message_is_no_receipt(text: bytes) -> None:
    assert parse_receipt(_deliver(text)) is None


def test_impossible_dates_are_left_out() -> None:
    assert _parsed(b"id:1 submit date:2613322561 done date:0000000000 stat:DELIVRD").done_date is None


@pytest.mark.parametrize(("esm_class", "expected"), [(0, False), (0x40, False), (4, True), (0x20, True), (0x44, True)])
def test_the_esm_class_tells_a_receipt(esm_class: int, expected: bool) -> None:
    assert is_receipt(_deliver(b"", esm_class=esm_class)) is expected


def test_only_final_states_are_final() -> None:
    assert {state.name for state in MessageState if state.is_final} == {
        "DELIVRD",
        "EXPIRED",
        "DELETED",
        "UNDELIV",
        "REJECTD",
    }


@given(st.binary(max_size=300), st.dictionaries(st.sampled_from([0x1E, 0x423, 0x424, 0x427]), st.binary(max_size=70)))
def test_no_octets_crash_the_parser(text: bytes, tlvs: dict[int, bytes]) -> None:
    receipt = parse_receipt(_deliver(b"id:" + text, tlvs))
    assert receipt is None or receipt.message_id


@given(
    st.text("0123456789abcdefABCDEF-", min_size=1, max_size=36),
    st.sampled_from(MessageState),
    st.datetimes(datetime(2001, 1, 1), datetime(2099, 1, 1)),  # noqa: DTZ001
    st.booleans(),
)
def test_what_is_built_is_parsed(message_id: str, state: MessageState, when: datetime, with_tlvs: bool) -> None:
    minute = when.replace(second=0, microsecond=0)
    text = receipt_text(message_id, state, submit_date=when, done_date=when, error_code="0AB", text="Hello")
    receipt = _parsed(text.encode(), receipt_tlvs(message_id, state) if with_tlvs else None)
    assert (receipt.message_id, receipt.state, receipt.error_code) == (message_id, state, "0AB")
    assert receipt.submit_date == receipt.done_date == minute
    assert receipt.text == "Hello"


@pytest.mark.parametrize(
    ("response", "receipt", "rule"),
    [
        ("abc123", "ABC123", IdRule.NONE),
        ("000123", "123", IdRule.NONE),
        ("7B", "123", IdRule.HEX_TO_DEC),
        ("0000007b", "00123", IdRule.HEX_TO_DEC),
        ("123", "7b", IdRule.DEC_TO_HEX),
        ("0123", "007B", IdRule.DEC_TO_HEX),
        ("0", "000", IdRule.NONE),
        ("3f2b-77", "3F2B-77", IdRule.HEX_TO_DEC),  # no number at all: compared as it is
    ],
)
def test_both_forms_of_an_id_meet(response: str, receipt: str, rule: IdRule) -> None:
    assert response_key(response, rule) == receipt_key(_parsed(f"id:{receipt} stat:DELIVRD".encode()), rule)


@given(st.integers(0, 2**64 - 1), st.sampled_from(["", "0", "000"]), st.booleans())
def test_a_number_in_two_bases_is_one_id(number: int, zeros: str, upper: bool) -> None:
    in_hex = zeros + (f"{number:X}" if upper else f"{number:x}")
    in_decimal = zeros + str(number)
    decimal_receipt = _parsed(f"id:{in_decimal} stat:DELIVRD".encode())
    hex_receipt = _parsed(f"id:{in_hex} stat:DELIVRD".encode())
    assert response_key(in_hex, IdRule.HEX_TO_DEC) == receipt_key(decimal_receipt, IdRule.HEX_TO_DEC)
    assert response_key(in_decimal, IdRule.DEC_TO_HEX) == receipt_key(hex_receipt, IdRule.DEC_TO_HEX)


def test_the_tlv_repeats_the_responses_form_unless_it_is_the_texts() -> None:
    as_in_response = _parsed(b"id:123 stat:DELIVRD", {0x001E: b"7B\x00"})
    as_in_text = _parsed(b"id:123 stat:DELIVRD", {0x001E: b"123\x00"})
    expected = response_key("7B", IdRule.HEX_TO_DEC)
    assert receipt_key(as_in_response, IdRule.HEX_TO_DEC) == expected
    assert receipt_key(as_in_text, IdRule.HEX_TO_DEC) == expected


@given(
    st.from_regex(r"[!-9;-~]{1,36}", fullmatch=True),
    st.sampled_from(["2611221530", "261122153142", "0000000000"]),
    st.text(st.characters(codec="latin-1"), max_size=40),
)
def test_the_usual_layout_is_read_like_any_other(message_id: str, date: str, text: str) -> None:
    usual = f"id:{message_id} sub:001 dlvrd:001 submit date:{date} done date:{date} stat:UNDELIV err:0AB text:{text}"
    unusual = usual.replace(" sub:001 dlvrd:001", "", 1)
    assert parse_receipt(_deliver(usual.encode("latin-1"))) == parse_receipt(_deliver(unusual.encode("latin-1")))
