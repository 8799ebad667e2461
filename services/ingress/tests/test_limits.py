import pytest
from hypothesis import given
from hypothesis import strategies as st

from harkara_ingress.access.limits import EMPTY, UNLIMITED, LocalLimiter, Rate, gcra

MINUTE = Rate(count=60, period_s=60.0, burst=60)
SECOND = Rate(count=10, period_s=1.0, burst=100)


class Clock:
    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


async def test_a_burst_passes_then_the_rate_holds() -> None:
    clock = Clock()
    limiter = LocalLimiter(clock)
    burst = [await limiter.take("a", SECOND) for _ in range(101)]
    assert [decision.allowed for decision in burst] == [True] * 100 + [False]
    assert burst[0].remaining == 99
    assert burst[-1].remaining == 0
    assert burst[-1].retry_after_s == pytest.approx(0.1)
    clock.now_s += burst[-1].retry_after_s
    assert (await limiter.take("a", SECOND)).allowed
    assert not (await limiter.take("a", SECOND)).allowed


async def test_a_refused_request_costs_nothing() -> None:
    clock = Clock()
    limiter = LocalLimiter(clock)
    assert (await limiter.take("a", MINUTE, 60)).allowed
    for _ in range(5):
        assert not (await limiter.take("a", MINUTE)).allowed
    clock.now_s += 1.0
    assert (await limiter.take("a", MINUTE)).allowed


async def test_more_than_the_burst_at_once_is_never_allowed() -> None:
    decision = await LocalLimiter(Clock()).take("a", MINUTE, 61)
    assert not decision.allowed
    assert decision.remaining == 60


async def test_keys_do_not_share_and_no_rate_is_no_limit() -> None:
    limiter = LocalLimiter(Clock())
    assert (await limiter.take("a", MINUTE, 60)).allowed
    assert (await limiter.take("b", MINUTE, 60)).allowed
    assert await limiter.take("a", None, 10**6) == UNLIMITED


async def test_the_number_of_buckets_is_bounded() -> None:
    limiter = LocalLimiter(Clock(), max_keys=100)
    for number in range(1_000):
        await limiter.take(str(number), MINUTE)
    assert len(limiter._buckets) <= 100
    assert (await limiter.take("999", MINUTE)).remaining == 58


@given(st.lists(st.tuples(st.integers(0, 5_000_000), st.integers(1, 100)), max_size=60))
def test_never_more_than_burst_and_rate_together(steps: list[tuple[int, int]]) -> None:
    now_us, bucket, taken = 0, EMPTY, 0
    for pause_us, cost in steps:
        now_us += pause_us
        decision, bucket = gcra(SECOND, bucket, now_us, cost)
        taken += cost if decision.allowed else 0
        assert taken * 1_000_000 <= SECOND.burst * 1_000_000 + now_us * SECOND.count
        assert 0 <= decision.remaining <= SECOND.burst
        if not decision.allowed:
            wait_us = round(decision.retry_after_s * 1_000_000)
            assert gcra(SECOND, bucket, now_us + wait_us, cost)[0].allowed
            assert not gcra(SECOND, bucket, now_us + wait_us - 1, cost)[0].allowed


async def test_a_reserve_is_left_to_others() -> None:
    limiter = LocalLimiter(Clock())
    feeder = [await limiter.take("a", SECOND, 10, reserve=0.25) for _ in range(8)]
    assert [decision.allowed for decision in feeder] == [True] * 7 + [False]
    assert (feeder[-1].remaining, feeder[-1].retry_after_s) == (30, 0.5)
    assert (await limiter.take("a", SECOND, 30)).allowed
    # A part of a unit is not reserved: the smallest burst can be used by everybody.
    assert (await limiter.take("b", Rate(1, 1.0, 1), 1, reserve=0.5)).allowed


async def test_rates_that_divide_no_second_are_exact() -> None:
    clock = Clock()
    limiter = LocalLimiter(clock)
    rate = Rate(count=3_000, period_s=1.0, burst=1)
    assert (await limiter.take("a", rate)).allowed
    assert (await limiter.take("a", rate)).retry_after_s == 0.000334  # 333.3 µs, up to the next whole one


def test_a_clock_set_back_does_not_keep_a_bucket_full() -> None:
    _, bucket = gcra(MINUTE, EMPTY, 10**15, 60)
    decision, bucket = gcra(MINUTE, bucket, 10**15 - 3_600_000_000)
    assert (decision.allowed, decision.retry_after_s) == (False, 1.0)
    assert gcra(MINUTE, bucket, bucket.at_us + 1_000_000)[0].allowed


async def test_what_is_kept_elsewhere_is_gone_on_with() -> None:
    clock = Clock()
    limiter = LocalLimiter(clock)
    limiter.remember("a", MINUTE.ticks(60))
    clock.now_s += 2.0
    assert [(await limiter.take("a", MINUTE)).allowed for _ in range(3)] == [True, True, False]
