import pytest
from hypothesis import given
from hypothesis import strategies as st

from harkara_smpp.pacing import Pacer
from harkara_smpp.window import Window


def test_the_agreed_rate_is_kept_over_a_second() -> None:
    pacer = Pacer(tps=100, now=0.0)
    pacer.take(1000, 0.0)
    taken = sum(pacer.take(1000, tick * 0.02) for tick in range(1, 51))
    assert 99 <= taken <= 100


@given(st.floats(0.5, 5000), st.lists(st.tuples(st.floats(0, 0.5), st.integers(0, 500)), max_size=60))
def test_no_pattern_of_asking_exceeds_the_rate_and_one_burst(tps: float, asks: list[tuple[float, int]]) -> None:
    pacer = Pacer(tps, 0.0)
    now, taken = 0.0, 0
    for pause_s, wanted in asks:
        now += pause_s
        granted = pacer.take(wanted, now)
        assert 0 <= granted <= wanted
        taken += granted
    assert taken <= tps * now + max(1.0, tps * 0.1) + 1e-6


def test_a_throttle_pauses_and_halves_and_a_window_of_them_counts_once() -> None:
    pacer = Pacer(tps=100, now=0.0)
    for _ in range(10):
        pacer.throttled(1.0)
    assert pacer.rate == 50
    assert pacer.take(10, 1.49) == 0
    assert pacer.take(10, 1.7) == 10


def test_repeated_throttles_pause_longer_and_acceptance_resets_that() -> None:
    pacer = Pacer(tps=100, now=0.0)
    pacer.throttled(0.0)
    pacer.accepted(0.1)  # of the window that was throttled: says nothing
    pacer.throttled(0.5)
    assert pacer.paused_until == 1.5
    pacer.accepted(2.0)
    pacer.throttled(3.0)
    assert pacer.paused_until == 3.5


def test_the_rate_recovers_and_never_exceeds_the_agreed_one() -> None:
    pacer = Pacer(tps=100, now=0.0)
    pacer.throttled(0.0)
    for tick in range(1, 2000):
        pacer.take(0, tick * 0.02)
    assert pacer.rate == 100


@pytest.mark.parametrize("tps", [0.5, 1, 100])
def test_the_rate_never_falls_to_nothing(tps: float) -> None:
    pacer = Pacer(tps=tps, now=0.0)
    for now in range(0, 1000, 10):
        pacer.throttled(float(now))
    assert pacer.rate >= min(tps, 1.0)


def test_in_a_pause_what_is_urgent_trickles_and_the_agreed_rate_is_kept() -> None:
    pacer = Pacer(tps=10, now=1.0)
    pacer.throttled(1.0)
    ticks = [1.0 + tick * 0.02 for tick in range(1, 20)]
    assert sum(pacer.take(1, now) for now in ticks) == 0
    assert 3 <= sum(pacer.take_urgent(now) for now in ticks) <= 4
    assert pacer.take_urgent(pacer.paused_until) == 0


def test_a_rate_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="tps"):
        Pacer(0, 0.0)


def test_a_response_is_matched_once_in_time_or_late_or_never() -> None:
    window: Window[str] = Window(limit=3, timeout_s=10)
    for number, item in enumerate("abc", 1):
        window.written(number, item, float(number))
    assert window.free == 0
    assert window.answered(2) == ("b", False)
    assert window.answered(2) is None
    assert window.expire(11.0) == ["a"]
    assert window.free == 2
    assert window.answered(1) == ("a", True)
    assert window.answered(1) is None
    assert window.clear() == ["c"]
    assert window.answered(3) is None


def test_late_requests_are_remembered_up_to_a_limit() -> None:
    window: Window[int] = Window(limit=5, timeout_s=1, late_limit=2)
    for number in range(1, 5):
        window.written(number, number, 0.0)
    assert window.expire(2.0) == [1, 2, 3, 4]
    assert [window.answered(number) for number in range(1, 5)] == [None, None, (3, True), (4, True)]
