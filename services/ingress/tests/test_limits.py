import pytest
from hypothesis import given
from hypothesis import strategies as st

from harkara_ingress.limits import UNLIMITED, LocalLimiter, Rate, gcra

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
    assert len(limiter._empty_at_s) <= 100
    assert (await limiter.take("999", MINUTE)).remaining == 58


@given(st.lists(st.tuples(st.floats(0, 5), st.integers(1, 20)), max_size=60))
def test_never_more_than_burst_and_rate_together(steps: list[tuple[float, int]]) -> None:
    now_s, state, taken = 0.0, 0.0, 0
    for pause_s, cost in steps:
        now_s += pause_s
        decision, state = gcra(SECOND, state, now_s, cost)
        taken += cost if decision.allowed else 0
        assert taken <= SECOND.burst + now_s * SECOND.count + 0.01
        assert 0 <= decision.remaining <= SECOND.burst
        if not decision.allowed:
            assert gcra(SECOND, state, now_s + decision.retry_after_s, cost)[0].allowed or cost > SECOND.burst
