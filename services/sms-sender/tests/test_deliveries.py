from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harkara_smpp import DeliverSm, IdRule, Tag
from harkara_sms_sender.attempt import PartState
from harkara_sms_sender.deliveries import id_key, inbound_event, read_inbound, read_receipt
from harkara_sms_text import split

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def receipt(text: str, tlvs: dict[int, bytes] | None = None, esm_class: int = 0x04) -> DeliverSm:
    return DeliverSm(
        source_addr="919812345678",
        destination_addr="HRKARA",
        esm_class=esm_class,
        short_message=text.encode(),
        tlvs=tlvs or {},
    )


def test_a_delivered_receipt_is_a_final_word_addressed_like_its_message() -> None:
    pdu = receipt("id:00ab12 sub:001 dlvrd:001 submit date:2603011200 done date:2603011201 stat:DELIVRD err:000 text:")
    word = read_receipt("jio", IdRule.NONE, pdu, NOW).word
    assert word is not None
    assert (word.receipt_key, word.state, word.said_at) == ("AB12", PartState.DELIVERED, NOW)
    assert (word.recipient, word.sender) == ("919812345678", "HRKARA")


def test_a_failed_receipt_says_why_in_our_words() -> None:
    word = read_receipt("jio", IdRule.NONE, receipt("id:7 stat:UNDELIV err:001 text:"), NOW).word
    assert word is not None
    assert (word.state, word.error_code, word.carrier_code) == (PartState.FAILED, "ERR_NUMBER_INACTIVE", "001")


@pytest.mark.parametrize("stat", ["ACCEPTD", "ENROUTE", "UNKNOWN", "BUFFERED"])
def test_an_intermediate_state_is_no_final_word(stat: str) -> None:
    assert read_receipt("jio", IdRule.NONE, receipt(f"id:7 stat:{stat} err:000 text:"), NOW).word is None


def test_an_intermediate_receipt_is_no_final_word_whatever_it_says() -> None:
    assert read_receipt("jio", IdRule.NONE, receipt("id:7 stat:UNDELIV err:027", esm_class=0x20), NOW).word is None


def test_an_unlisted_code_is_told_and_the_state_counts() -> None:
    told = read_receipt("jio", IdRule.NONE, receipt("id:7 stat:REJECTD err:Z99 text:"), NOW)
    assert told.word is not None
    assert (told.word.error_code, told.known_code) == ("ERR_CARRIER_REJECTED", False)


def test_ids_in_hex_and_in_decimal_meet() -> None:
    word = read_receipt("jio", IdRule.HEX_TO_DEC, receipt("id:0255 stat:DELIVRD err:000"), NOW).word
    assert word is not None
    assert word.receipt_key == id_key("ff", IdRule.HEX_TO_DEC)


@given(st.binary(max_size=300), st.dictionaries(st.sampled_from([0x1E, 0x427, 0x424]), st.binary(max_size=300)))
def test_no_receipt_breaks_the_reader_or_the_database(octets: bytes, tlvs: dict[int, bytes]) -> None:
    pdu = DeliverSm(source_addr="1", destination_addr="2", esm_class=4, short_message=octets[:254], tlvs=tlvs)
    word = read_receipt("jio", IdRule.NONE, pdu, NOW).word
    for text in (word.receipt_key, word.carrier_message_id, word.carrier_code or "") if word else ():
        assert "\0" not in text
        assert len(text) <= 64


def test_a_text_is_read() -> None:
    pdu = DeliverSm(source_addr="919812345678", destination_addr="56161", short_message=b"STOP")
    text = read_inbound("jio", pdu)
    assert text is not None
    assert (text.sender, text.recipient, text.total, text.body) == ("919812345678", "56161", 1, "STOP")


def test_parts_are_read_by_header_and_by_parameters() -> None:
    by_header = [
        read_inbound("jio", DeliverSm(esm_class=p.esm_class, data_coding=p.data_coding, short_message=p.short_message))
        for p in split("long " * 50, 5)
    ]
    assert [(t.reference, t.total, t.number) for t in by_header if t] == [(5, 2, 1), (5, 2, 2)]
    tlvs = {
        int(Tag.SAR_MSG_REF_NUM): b"\x01\x02",
        int(Tag.SAR_TOTAL_SEGMENTS): b"\x03",
        int(Tag.SAR_SEGMENT_SEQNUM): b"\x02",
    }
    by_parameters = read_inbound("jio", DeliverSm(short_message=b"middle", tlvs=tlvs))
    assert by_parameters is not None
    assert by_parameters[3:] == (258, 3, 2, "middle")


@pytest.mark.parametrize(
    "pdu",
    [
        DeliverSm(esm_class=0x40, short_message=b"\xff\x00"),
        DeliverSm(data_coding=4, short_message=b"\x01\x02"),
    ],
)
def test_what_is_no_text_is_not_read(pdu: DeliverSm) -> None:
    assert read_inbound("jio", pdu) is None


def test_a_repeat_within_the_minute_is_the_same_message() -> None:
    pdu = DeliverSm(source_addr="919812345678", destination_addr="56161", short_message=b"YES")
    text = read_inbound("jio", pdu)
    assert text is not None
    first = inbound_event(text, text.body, NOW)
    assert inbound_event(text, text.body, NOW + timedelta(seconds=30)).event_id() == first.event_id()
    assert inbound_event(text, text.body, NOW + timedelta(seconds=60)).event_id() != first.event_id()
    assert inbound_event(text, "NO", NOW).event_id() != first.event_id()
