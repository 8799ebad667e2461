from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harkara_webhook_dispatcher.retry import RetryPolicy, mark_s, round_up
from harkara_webhook_dispatcher.sender import retry_after_seconds
from harkara_webhook_dispatcher.settings import Settings

NOW = datetime(2026, 11, 22, 9, 30, tzinfo=UTC)
DELAYS_S = (5.0, 30.0, 300.0, 1_800.0, 7_200.0)


def middle(low: float, high: float) -> float:
    return (low + high) / 2


def policy(retry_after_max_s: float = 3_600.0) -> RetryPolicy:
    return RetryPolicy(DELAYS_S, 0.2, retry_after_max_s, uniform=middle)


def test_the_default_schedule_is_the_one_clients_are_told() -> None:
    settings = Settings()
    assert settings.webhook_retry_delays_s == DELAYS_S
    assert settings.webhook_retry_jitter == 0.2
    assert settings.webhook_timeout_s == 5


@pytest.mark.parametrize(("tries", "delay_s"), list(enumerate(DELAYS_S, start=1)))
def test_five_retries_further_and_further_apart(tries: int, delay_s: float) -> None:
    due = policy().next_attempt_at(tries, None, NOW)
    assert due is not None
    late_s = (due - NOW).total_seconds() - delay_s
    assert 0 <= late_s <= mark_s(delay_s)


def test_then_it_is_enough() -> None:
    assert policy().next_attempt_at(6, None, NOW) is None
    assert policy().next_attempt_at(6, 60.0, NOW) is None


@pytest.mark.parametrize(("end", "expected_s"), [(min, 240), (max, 360)])
def test_jitter_is_a_fifth_to_either_side(end: Callable[[float, float], float], expected_s: float) -> None:
    due = RetryPolicy(DELAYS_S, 0.2, 0, uniform=end).next_attempt_at(3, None, NOW)
    assert due is not None
    assert expected_s <= (due - NOW).total_seconds() <= expected_s + mark_s(expected_s)


@pytest.mark.parametrize(("asked_s", "waits_s"), [(1, 5), (60, 60), (86_400, 3_600)])
def test_retry_after_only_lengthens_and_is_bounded(asked_s: float, waits_s: float) -> None:
    due = policy().next_attempt_at(1, asked_s, NOW)
    assert due is not None
    assert waits_s <= (due - NOW).total_seconds() <= waits_s + mark_s(waits_s)


@given(st.datetimes(datetime(2026, 1, 1), datetime(2036, 1, 1)), st.floats(0.1, 300))  # noqa: DTZ001  # made UTC below
def test_a_mark_is_at_or_after_and_shared(naive: datetime, grid_s: float) -> None:
    at = naive.replace(tzinfo=UTC)
    mark = round_up(at, grid_s)
    assert timedelta(0) <= mark - at <= timedelta(seconds=grid_s)
    assert round_up(mark, grid_s) == mark


def test_an_outage_of_thousands_comes_back_by_a_handful_of_timers() -> None:
    jittered = RetryPolicy(DELAYS_S, 0.2, 0)
    for tries in range(1, 6):
        assert len({jittered.next_attempt_at(tries, None, NOW) for _ in range(5_000)}) <= 20


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("120", 120.0),
        (" 7 ", 7.0),
        ("Sun, 22 Nov 2026 09:31:00 GMT", 60.0),
        ("Sun, 22 Nov 2026 09:29:00 GMT", None),
        ("-5", None),
        ("soon", None),
        ("1.5", None),
        ("Sun, 22 Nov 2026 09:31:00 -0000", None),
        ("", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(header: str, seconds: float | None) -> None:
    assert retry_after_seconds(header, NOW) == seconds
