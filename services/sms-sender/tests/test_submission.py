from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harkara_contracts.carriers import DltTags
from harkara_contracts.events import AttemptFunded
from harkara_sms_sender.submission import References, relative_time, submit_pdus
from harkara_sms_text import decode, read_user_data

Fund = Callable[..., AttemptFunded]

NOW = datetime(2026, 3, 1, tzinfo=UTC)
LONG = "Your order 4711 has left our warehouse. " * 12


def test_one_part_carries_everything_an_indian_carrier_asks_for(funded: Fund) -> None:
    (pdu,) = submit_pdus(funded(to="919812345678", expires_at=NOW + timedelta(hours=25)), DltTags(), 7, NOW)
    assert (pdu.source_addr_ton, pdu.source_addr_npi, pdu.source_addr) == (5, 0, "HRKARA")
    assert (pdu.dest_addr_ton, pdu.dest_addr_npi, pdu.destination_addr) == (1, 1, "919812345678")
    assert pdu.validity_period == "000001010000000R"
    assert (pdu.registered_delivery, pdu.esm_class, pdu.data_coding) == (1, 0, 0)
    assert pdu.short_message == b"Your parcel is on its way."
    assert pdu.tlvs == {0x1400: b"1001234567890123456", 0x1401: b"1007123456789012345", 0x1402: b"ab" * 32}


def test_every_part_has_the_dlt_parameters_and_the_same_reference(funded: Fund) -> None:
    pdus = submit_pdus(funded(text=LONG), DltTags(entity_id=0x1501, template_id=0x1502, chain=0x1503), 99, NOW)
    assert len(pdus) == 4
    headers = [read_user_data(pdu.short_message) for pdu in pdus]
    assert [header.concatenation for header in headers] == [(99, 4, number) for number in range(1, 5)]
    assert "".join(decode(0, header.body) for header in headers) == LONG
    for pdu in pdus:
        assert pdu.esm_class == 0x40
        assert sorted(pdu.tlvs) == [0x1501, 0x1502, 0x1503]


def test_what_a_message_does_not_have_is_left_out(funded: Fund) -> None:
    attempt = funded()
    assert attempt.sms is not None
    sms = attempt.sms.model_copy(update={"entity_id": None, "chain_hash": None})
    (pdu,) = submit_pdus(attempt.model_copy(update={"sms": sms}), DltTags(), 0, NOW)
    assert list(pdu.tlvs) == [0x1401]


def test_hindi_goes_as_ucs2(funded: Fund) -> None:
    (pdu,) = submit_pdus(funded(text="नमस्ते"), DltTags(), 0, NOW)
    assert (pdu.data_coding, pdu.short_message.decode("utf-16-be")) == (8, "नमस्ते")


def test_an_attempt_without_sms_is_refused(funded: Fund) -> None:
    with pytest.raises(ValueError, match="no SMS"):
        submit_pdus(funded(sms=None), DltTags(), 0, NOW)


@given(st.floats(min_value=-1e6, max_value=1e9))
def test_a_relative_time_is_the_validity_within_bounds(seconds: float) -> None:
    text = relative_time(seconds)
    assert len(text) == 16
    assert text.startswith("0000")
    assert text.endswith("000R")
    day, hour, minute, second = (int(text[place : place + 2]) for place in (4, 6, 8, 10))
    assert hour < 24
    assert minute < 60
    assert second < 60
    told = ((day * 24 + hour) * 60 + minute) * 60 + second
    assert told == max(1, min(int(seconds), 30 * 86_400))


def test_a_destination_meets_a_reference_again_only_after_256_messages() -> None:
    references = References()
    used = []
    for number in range(256):
        used.append(references.next("919812345678", f"TN2026030100000-{number}"))
        references.next("919800000000", f"TN2026030100001-{number}")
    assert sorted(used) == list(range(256))


def test_references_forget_the_destinations_of_long_ago() -> None:
    references = References(max_destinations=2)
    for destination in ("a", "b", "c"):
        references.next(destination, "TN1-1")
    assert list(references._last) == ["b", "c"]
