from datetime import UTC, datetime, timedelta
from itertools import permutations

from hypothesis import given
from hypothesis import strategies as st

from harkara_contracts.events import AttemptDelivered, AttemptFailed, AttemptSent, AttemptUnknown
from harkara_contracts.subjects import Category, Channel, Lane
from harkara_sms_sender.attempt import TAKEN, Part, PartState, events_of, final_word, hand_over

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
TRAIL = {
    "attempt_id": "TN20260301QZYHNFKMGJYHC-1",
    "message_id": "TN20260301QZYHNFKMGJYHC",
    "account_id": "ACCTEST",
    "lane": Lane.OTP,
    "channel": Channel.SMS,
    "carrier": "jio",
    "to": "919812345678",
    "category": Category.OTP,
}


def part(state: PartState, *, retriable: bool = False, number: int = 1) -> Part:
    answered = None if state is PartState.SUBMITTING else NOW
    final = NOW + timedelta(seconds=number) if state in {PartState.DELIVERED, PartState.FAILED} else None
    message_id = str(number) if state in TAKEN else None
    code = "ERR_NUMBER_INACTIVE" if state in {PartState.FAILED, PartState.REFUSED} else None
    return Part(state, message_id, message_id, code, "words", None, retriable, answered, final)


SENT, DELIVERED, FAILED = part(PartState.SENT), part(PartState.DELIVERED), part(PartState.FAILED)
REFUSED, UNKNOWN, SUBMITTING = part(PartState.REFUSED), part(PartState.UNKNOWN), part(PartState.SUBMITTING)
BUSY = part(PartState.REFUSED, retriable=True)


def test_sent_tells_the_ids_in_the_order_of_the_parts() -> None:
    event = hand_over(TRAIL, [part(PartState.SENT, number=2), part(PartState.DELIVERED, number=1)])
    assert isinstance(event, AttemptSent)
    assert event.carrier_message_ids == ["2", "1"]
    assert event.sent_at == NOW


def test_nothing_is_told_before_every_part_is_answered() -> None:
    assert events_of(TRAIL, [SENT, SUBMITTING]) == []


def test_a_refused_part_fails_the_message() -> None:
    cases = [
        ([REFUSED], False, False),
        ([BUSY], False, True),
        ([BUSY, BUSY], False, True),
        ([BUSY, REFUSED], False, False),
        ([SENT, BUSY], True, False),
        ([UNKNOWN, BUSY], False, False),
    ]
    for parts, left, retriable in cases:
        event = hand_over(TRAIL, parts)
        assert isinstance(event, AttemptFailed)
        assert (event.left, event.retriable) == (left, retriable), parts


def test_delivered_means_all_parts() -> None:
    assert final_word(TRAIL, [DELIVERED, SENT]) is None
    event = final_word(TRAIL, [DELIVERED, part(PartState.DELIVERED, number=9)])
    assert isinstance(event, AttemptDelivered)
    assert event.delivered_at == NOW + timedelta(seconds=9)


def test_one_failed_part_fails_the_message_and_only_a_single_one_may_go_elsewhere() -> None:
    retriable = part(PartState.FAILED, retriable=True)
    single, double = final_word(TRAIL, [retriable]), final_word(TRAIL, [SENT, retriable])
    assert isinstance(single, AttemptFailed)
    assert isinstance(double, AttemptFailed)
    assert (single.left, single.retriable, double.retriable) == (True, True, False)


def test_unknown_says_why() -> None:
    (event,) = events_of(TRAIL, [SENT, UNKNOWN])
    assert isinstance(event, AttemptUnknown)
    assert event.reason == "words"


def test_receipts_of_a_message_that_was_refused_in_part_tell_no_more() -> None:
    assert len(events_of(TRAIL, [DELIVERED, REFUSED])) == 1


ANY_PART = st.sampled_from([SENT, DELIVERED, FAILED, REFUSED, UNKNOWN, SUBMITTING, BUSY])


@given(st.lists(ANY_PART, min_size=1, max_size=4))
def test_another_carrier_is_tried_only_when_nothing_can_have_arrived(parts: list[Part]) -> None:
    for event in events_of(TRAIL, parts):
        if isinstance(event, AttemptFailed) and event.retriable:
            assert all(one.state is PartState.REFUSED for one in parts) or parts == [FAILED]


@given(st.lists(ANY_PART, min_size=1, max_size=4))
def test_the_order_of_the_parts_does_not_matter_for_what_happened(parts: list[Part]) -> None:
    kinds = {tuple(sorted(type(e).__name__ for e in events_of(TRAIL, list(order)))) for order in permutations(parts)}
    assert len(kinds) == 1


@given(st.lists(ANY_PART, min_size=1, max_size=4))
def test_a_message_is_never_both_delivered_and_failed(parts: list[Part]) -> None:
    kinds = {type(event) for event in events_of(TRAIL, parts)}
    assert not {AttemptDelivered, AttemptFailed} <= kinds
