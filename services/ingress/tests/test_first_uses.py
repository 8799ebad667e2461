"""The first use of a signature, on a real Redis and without one."""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis

from harkara_contracts.ids import new_id
from harkara_ingress.access.first_uses import KEPT_S, FirstUses
from harkara_ingress.sending.idempotency import connect

SIGNATURE = b"0123456789abcdef"


class Clock:
    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
async def redis(servers: Any) -> AsyncIterator["Redis"]:
    async with connect(servers.redis_url) as client:
        yield client


@pytest.fixture
async def away() -> AsyncIterator["Redis"]:
    async with connect("redis://127.0.0.1:1/0") as client:
        yield client


@pytest.fixture
def account_id() -> str:
    return new_id("ACC")


async def test_a_signature_is_used_once_by_all_processes(redis: "Redis", account_id: str) -> None:
    one, other = FirstUses(redis), FirstUses(redis)
    assert await one.admit(account_id, SIGNATURE, None)
    assert not await one.admit(account_id, SIGNATURE, None)
    assert not await other.admit(account_id, SIGNATURE, None)
    assert await other.admit(new_id("ACC"), SIGNATURE, None)
    (name,) = await redis.keys(f"signature:{account_id}:*")
    assert (KEPT_S - 60) * 1_000 < await redis.pttl(name) <= KEPT_S * 1_000


async def test_of_many_at_once_one_is_first(redis: "Redis", account_id: str) -> None:
    processes = [FirstUses(redis) for _ in range(4)]
    found = await asyncio.gather(*(each.admit(account_id, SIGNATURE, None) for each in processes for _ in range(5)))
    assert found.count(True) == 1


async def test_the_same_use_again_is_a_repeat_everywhere(redis: "Redis", account_id: str) -> None:
    one, other = FirstUses(redis), FirstUses(redis)
    assert await one.admit(account_id, SIGNATURE, b"key 1")
    assert await one.admit(account_id, SIGNATURE, b"key 1")
    assert not await other.admit(account_id, SIGNATURE, b"key 2")
    assert not await one.admit(account_id, SIGNATURE, None)
    # Whoever tried another use here first must not keep the one it was made for from coming in.
    assert await other.admit(account_id, SIGNATURE, b"key 1")


async def test_without_redis_each_process_remembers_by_itself(
    away: "Redis", account_id: str, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    uses = FirstUses(away, clock)
    with caplog.at_level(logging.WARNING):
        assert await uses.admit(account_id, SIGNATURE, b"key 1")
        assert await uses.admit(account_id, SIGNATURE, b"key 1")
        assert not await uses.admit(account_id, SIGNATURE, None)
        clock.now_s += 2
        assert not await uses.admit(account_id, SIGNATURE, b"key 2")
    assert len(caplog.records) == 1
    clock.now_s += KEPT_S
    assert await uses.admit(account_id, SIGNATURE, None)


async def test_what_was_let_in_before_redis_went_is_remembered(redis: "Redis", account_id: str) -> None:
    clock = Clock()
    uses = FirstUses(redis, clock)
    assert await uses.admit(account_id, SIGNATURE, None)
    await redis.delete(*await redis.keys(f"signature:{account_id}:*"))
    assert not await uses.admit(account_id, SIGNATURE, None)


async def test_the_memory_here_is_bounded(away: "Redis", account_id: str) -> None:
    uses = FirstUses(away, Clock(), max_here=10)
    for number in range(25):
        assert await uses.admit(account_id, b"%d" % number, None)
    assert not await uses.admit(account_id, b"24", None)
    assert not await uses.admit(account_id, b"16", None)
    assert await uses.admit(account_id, b"0", None)


async def test_a_redis_that_does_not_answer_is_not_waited_for(
    account_id: str, redis: "Redis", caplog: pytest.LogCaptureFixture
) -> None:
    clock, loop = Clock(), asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = connect(f"redis://127.0.0.1:{silent.getsockname()[1]}/0")
        uses = FirstUses(client, clock)
        started_s = loop.time()
        assert await uses.admit(account_id, SIGNATURE, None)
        assert loop.time() - started_s < 1.5
        asked_s = loop.time()
        for number in range(100):
            assert await uses.admit(account_id, b"%d" % number, None)
        assert loop.time() - asked_s < 0.2
        clock.now_s += 2
        uses._redis = redis  # it answers again
        with caplog.at_level(logging.WARNING):
            assert await uses.admit(account_id, b"afterwards", None)
        assert "known to all processes again" in caplog.text
        assert not await FirstUses(redis).admit(account_id, b"afterwards", None)
        await client.aclose()
