"""Claims on a real Redis: repeats, conflicts, waiting, take-over after a crash, and Redis away."""

import asyncio
import base64
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from harkara_chassis.ending import ended
from harkara_chassis.sealing import Sealer
from harkara_contracts.errors import ErrorCode, HarkaraError
from harkara_contracts.ids import new_id
from harkara_ingress.sending.idempotency import KEPT_S, Answered, Claim, Idempotency, connect

SEALER = Sealer(SecretStr(base64.b64encode(bytes(32)).decode()))


@pytest.fixture
async def redis(servers: Any) -> AsyncIterator["Redis"]:
    async with connect(servers.redis_url) as client:
        yield client


@pytest.fixture
def idempotency(redis: "Redis") -> Idempotency:
    return Idempotency(redis, SEALER)


@pytest.fixture
def account_id() -> str:
    return new_id("ACC")


async def claimed(idempotency: Idempotency, account_id: str, request: bytes = b"{}") -> Claim:
    claim = await idempotency.claim(account_id, "key", request)
    assert isinstance(claim, Claim)
    return claim


async def test_a_repeat_gets_the_first_answer_for_a_day(
    idempotency: Idempotency, redis: "Redis", account_id: str
) -> None:
    claim = await claimed(idempotency, account_id)
    await idempotency.complete(claim, b'{"message_id":"TN1"}')
    assert b"TN1" not in (await redis.hget(claim.key, "answer") or b"")
    assert await idempotency.claim(account_id, "key", b"{}") == Answered(b'{"message_id":"TN1"}')
    assert KEPT_S - 60 < await redis.ttl(claim.key) <= KEPT_S
    another = await idempotency.claim(new_id("ACC"), "key", b"{}")
    assert isinstance(another, Claim)


async def test_another_request_under_the_same_key_is_a_conflict(idempotency: Idempotency, account_id: str) -> None:
    claim = await claimed(idempotency, account_id)
    for _ in range(2):
        with pytest.raises(HarkaraError) as refusal:
            await idempotency.claim(account_id, "key", b'{"other":1}')
        assert refusal.value.code is ErrorCode.IDEMPOTENCY_CONFLICT
        await idempotency.complete(claim, b"{}")


async def test_who_comes_while_the_first_is_under_way_waits_for_its_answer(
    idempotency: Idempotency, account_id: str
) -> None:
    claim = await claimed(idempotency, account_id)
    waiting = [asyncio.create_task(idempotency.claim(account_id, "key", b"{}")) for _ in range(5)]
    done, _ = await asyncio.wait(waiting, timeout=0.1)
    assert not done
    await idempotency.complete(claim, b"answer")
    assert await asyncio.gather(*waiting) == [Answered(b"answer")] * 5


async def test_after_a_refusal_the_key_is_free_again(idempotency: Idempotency, account_id: str) -> None:
    first = await claimed(idempotency, account_id)
    await idempotency.release(first, refused=True)
    second = await claimed(idempotency, account_id, b'{"mended":1}')
    assert second.message_id != first.message_id


async def test_what_may_be_published_keeps_its_id(idempotency: Idempotency, account_id: str) -> None:
    first = await claimed(idempotency, account_id)
    await idempotency.release(first, refused=False)
    second = await claimed(idempotency, account_id)
    assert (second.message_id, second.at, second.is_new) == (first.message_id, first.at, False)
    # A refusal of the second does not make the first unpublished.
    await idempotency.release(second, refused=True)
    assert (await claimed(idempotency, account_id)).message_id == first.message_id


async def test_after_a_crash_the_next_takes_over_with_the_same_id(
    idempotency: Idempotency, redis: "Redis", account_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harkara_ingress.sending.idempotency.LEASE_MS", 50)
    first = await claimed(idempotency, account_id)
    takers = await asyncio.gather(*(idempotency.claim(account_id, "key", b"{}") for _ in range(2)))
    assert {taker.message_id for taker in takers if isinstance(taker, Claim)} == {first.message_id}
    # The one who lost its lease cannot take the record away from under the others.
    await idempotency.release(first, refused=True)
    assert await redis.hget(first.key, "id") == first.message_id.encode()


async def test_redis_away_is_told(account_id: str) -> None:
    async with connect("redis://127.0.0.1:1/0") as nowhere:
        with pytest.raises(HarkaraError) as refusal:
            await Idempotency(nowhere, SEALER).claim(account_id, "key", b"{}")
    assert refusal.value.code is ErrorCode.UNAVAILABLE


async def test_a_claim_whose_reply_was_lost_is_had_by_asking_again(idempotency: Idempotency, account_id: str) -> None:
    first = await claimed(idempotency, account_id)
    again = await idempotency._try_claim(first.key, first.digest, first.owner)
    assert isinstance(again, Claim)
    assert again.message_id == first.message_id
    assert await idempotency._try_claim(first.key, first.digest, "another") is None


@asynccontextmanager
async def leases_kept(idempotency: Idempotency) -> AsyncIterator["asyncio.Task[None]"]:
    keeping = asyncio.create_task(idempotency.keep_leases())
    try:
        yield keeping
    finally:
        await ended(keeping)


async def test_what_takes_long_keeps_its_lease_while_it_lives(
    idempotency: Idempotency, account_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harkara_ingress.sending.idempotency.LEASE_MS", 400)
    monkeypatch.setattr("harkara_ingress.sending.idempotency._RENEW_EVERY_S", 0.05)
    async with leases_kept(idempotency):
        claim = await claimed(idempotency, account_id)
        repeat = asyncio.create_task(idempotency.claim(account_id, "key", b"{}"))
        done, _ = await asyncio.wait([repeat], timeout=1.0)  # more than twice the lease
        assert not done
        await idempotency.complete(claim, b"answer")
        assert await repeat == Answered(b"answer")


async def test_who_never_comes_back_loses_the_lease_though_the_process_lives(
    idempotency: Idempotency, account_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harkara_ingress.sending.idempotency.LEASE_MS", 100)
    monkeypatch.setattr("harkara_ingress.sending.idempotency._RENEW_EVERY_S", 0.02)
    monkeypatch.setattr("harkara_ingress.sending.idempotency._LONGEST_UNDER_WAY_S", 0.3)
    async with leases_kept(idempotency):
        first = await claimed(idempotency, account_id)
        second = await claimed(idempotency, account_id)
        assert (second.message_id, second.is_new) == (first.message_id, False)


async def test_redis_away_does_not_end_the_keeping_of_leases(
    idempotency: Idempotency, account_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harkara_ingress.sending.idempotency._RENEW_EVERY_S", 0.01)
    claim = await claimed(idempotency, account_id)
    async with connect("redis://127.0.0.1:1/0") as nowhere:
        lonely = Idempotency(nowhere, SEALER)
        lonely._under_way[claim.owner] = (claim, time.monotonic() - 1.0)
        async with leases_kept(lonely) as keeping:
            done, _ = await asyncio.wait([keeping], timeout=0.1)
            assert not done


async def accepted(message_id: str, _: Any) -> bytes:
    return message_id.encode()


async def test_once_accepts_once_however_many_ask(
    redis: "Redis", idempotency: Idempotency, servers: Any, account_id: str
) -> None:
    seen: list[str] = []

    async def accept(message_id: str, at: Any) -> bytes:
        seen.append(message_id)
        await asyncio.sleep(0.05)  # the bus takes its time
        return await accepted(message_id, at)

    async with connect(servers.redis_url) as other:
        edges = (idempotency, Idempotency(other, SEALER))
        answers = await asyncio.gather(
            *(edges[number % 2].once(account_id, "key", b"{}", accept) for number in range(300))
        )
    assert len(seen) == 1
    assert set(answers) == {seen[0].encode()}


async def test_a_refusal_is_not_remembered_and_a_fault_keeps_the_id(idempotency: Idempotency, account_id: str) -> None:
    seen: list[str] = []

    def failing(error: BaseException) -> Any:
        async def accept(message_id: str, _: Any) -> bytes:
            seen.append(message_id)
            raise error

        return accept

    refusal = HarkaraError(ErrorCode.RATE_LIMIT_EXCEEDED, "Too much.")
    for error in (refusal, HarkaraError(ErrorCode.UNAVAILABLE, "Away."), RuntimeError(), asyncio.CancelledError()):
        with pytest.raises(type(error)):
            await idempotency.once(account_id, "key", b"{}", failing(error))
    assert len(set(seen[:2])) == 2
    assert set(seen[1:]) == {(await idempotency.once(account_id, "key", b"{}", accepted)).decode()}


async def test_no_flood_opens_connections(idempotency: Idempotency, redis: "Redis", account_id: str) -> None:
    await claimed(idempotency, account_id)
    before = int((await redis.info("clients"))["connected_clients"])
    await asyncio.gather(*(idempotency.once(account_id, f"k{number}", b"{}", accepted) for number in range(500)))
    assert int((await redis.info("clients"))["connected_clients"]) <= before + 1


async def test_a_server_that_forgot_the_scripts_is_taught_them(
    idempotency: Idempotency, redis: "Redis", account_id: str
) -> None:
    await redis.script_flush()
    answers = await asyncio.gather(*(idempotency.once(account_id, f"k{n}", b"{}", accepted) for n in range(3)))
    assert len(set(answers)) == 3
