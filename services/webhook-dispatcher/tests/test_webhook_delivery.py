from datetime import UTC, date, datetime, timedelta

import pytest

from harkara_contracts.subjects import Lane
from harkara_webhook_dispatcher.delivery import (
    Answer,
    Delivery,
    day_of_delivery,
    delivery_id_of,
    partition_day,
)
from harkara_webhook_dispatcher.retry import RetryPolicy

NOW = datetime(2026, 11, 22, 9, 30, tzinfo=UTC)
POLICY = RetryPolicy((5.0, 30.0), 0.0, 60.0)
OK = Answer(NOW, 40, 200, None, "thanks")
BAD = Answer(NOW, 40, 500, "answered 500", "oops")
GONE = Answer(NOW, 40, 410, "answered 410")


def delivery(event: str = "message.delivered") -> Delivery:
    day = date(2026, 11, 22)
    return Delivery("DL20261122A", day, "ACC1", "WH1", event, "TN1", Lane.OTP, b"{}", NOW)


def test_success_ends_it() -> None:
    one = delivery()
    one.record(OK, POLICY)
    assert (one.state, one.next_attempt_at, [attempt.number for attempt in one.attempts]) == ("delivered", None, [1])


def test_failures_are_tried_again_until_it_is_enough_then_kept() -> None:
    one = delivery()
    seen = []
    for _ in range(3):
        one.record(BAD, POLICY)
        seen.append((one.state, one.next_attempt_at is not None))
    assert seen == [("pending", True), ("pending", True), ("failed", False)]
    assert [attempt.number for attempt in one.attempts] == [1, 2, 3]


def test_gone_and_a_failed_test_are_not_tried_again() -> None:
    gone, test = delivery(), delivery("webhook.test")
    gone.record(GONE, POLICY)
    test.record(BAD, POLICY)
    assert (gone.state, test.state) == ("failed", "failed")


def test_a_replay_begins_a_new_series_in_the_same_log() -> None:
    one = delivery()
    for _ in range(3):
        one.record(BAD, POLICY)
    one.state, one.tries = "pending", 0
    one.record(BAD, POLICY)
    assert one.state == "pending"
    assert [attempt.number for attempt in one.attempts] == [1, 2, 3, 4]


def test_the_log_is_bounded_and_keeps_the_newest() -> None:
    one = delivery()
    for _ in range(30):
        one.state, one.tries = "pending", 0
        one.record(BAD, POLICY)
    assert [attempt.number for attempt in one.attempts] == list(range(11, 31))


def test_an_id_is_the_same_for_a_repeat_and_tells_its_day() -> None:
    day = date(2026, 11, 22)
    made = delivery_id_of("WH1", "TN1.delivered", day)
    assert made == delivery_id_of("WH1", "TN1.delivered", day)
    assert made != delivery_id_of("WH2", "TN1.delivered", day)
    assert made != delivery_id_of("WH1", "TN1.read", day)
    assert "." not in made
    assert day_of_delivery(made) == day


@pytest.mark.parametrize(
    "text", ["", "DL", "DL2026", "DL20261399X", "TN20261122ABC", "DL\u0968\u0966\u0968\u096c11\u0968\u0968X"]
)
def test_another_text_is_no_delivery_id(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # date's own words are as good
        day_of_delivery(text)


def test_an_event_from_before_the_oldest_partition_goes_into_that() -> None:
    today = date(2026, 11, 22)
    assert partition_day(NOW, today) == today
    assert partition_day(NOW - timedelta(days=2), today) == date(2026, 11, 20)
    assert partition_day(NOW - timedelta(days=3), today) == date(2026, 11, 20)


def test_a_body_is_not_shown_by_a_repr() -> None:
    one = delivery()
    one.body = b"919876543210"
    assert "919876543210" not in repr(one)
