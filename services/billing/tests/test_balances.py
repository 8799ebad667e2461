"""When and what is told about balances; the store is real, the stream is a list."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest

from harkara_billing.balances import TELL_EVERY_S, BalanceTeller
from harkara_billing.ledger import post
from harkara_billing.price_book import load_price_book
from harkara_billing.store import Store
from harkara_chassis.clock import now_utc
from harkara_chassis.database import Database
from harkara_contracts.events import AttemptPlanned
from harkara_contracts.facts import BalanceFact
from harkara_contracts.ids import new_account_id

BOOK = load_price_book()

NewPlan = Callable[..., AttemptPlanned]


class Stream:
    """What was published, the last value of each account, and a way to wait for it."""

    def __init__(self) -> None:
        self.facts: list[BalanceFact] = []
        self.last: dict[str, BalanceFact] = {}
        self.failures = 0
        self._arrived = asyncio.Condition()

    async def publish(self, facts: Sequence[BalanceFact]) -> int:
        if self.failures:
            self.failures -= 1
            raise ConnectionResetError
        async with self._arrived:
            self.facts += facts
            self.last |= {fact.account_id: fact for fact in facts}
            self._arrived.notify_all()
        return len(self.facts)

    async def shows(self, account_id: str, available_mp: int) -> BalanceFact:
        return await self.next(lambda fact: (fact.account_id, fact.available_mp) == (account_id, available_mp))

    async def next(self, fits: Callable[[BalanceFact], bool]) -> BalanceFact:
        async with asyncio.timeout(5), self._arrived:
            await self._arrived.wait_for(lambda: any(map(fits, self.facts)))
        return next(filter(fits, self.facts))


@pytest.fixture
async def store(database: Database) -> Store:
    made = Store(database, BOOK)
    await made.open_ledger_months(now_utc().date())
    return made


@asynccontextmanager
async def telling(
    store: Store, stream: Stream, clock: Callable[[], datetime] = now_utc
) -> AsyncIterator[BalanceTeller]:
    teller = BalanceTeller(store, BOOK, stream.publish, stream.last.get, clock)
    task = asyncio.create_task(teller.run())
    try:
        yield teller
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def reserve(store: Store, plan: AttemptPlanned) -> set[str]:
    _, touched = await store.apply([plan], now_utc(), lambda ledger: post(ledger, [plan]))
    return touched


async def test_many_changes_are_told_once_by_their_last_value(store: Store, new_plan: NewPlan) -> None:
    account_id = new_account_id()
    await store.top_up(account_id, "r", 10**9, now_utc())
    stream = Stream()
    async with telling(store, stream) as teller:
        await stream.shows(account_id, 10**9)
        begun = asyncio.get_running_loop().time()
        for _ in range(50):
            teller.mark(await reserve(store, new_plan(account_id)))
        fact = await stream.shows(account_id, 10**9 - 50 * 22_000)
        took = asyncio.get_running_loop().time() - begun
    told = [fact for fact in stream.facts if fact.account_id == account_id]
    assert len(told) <= 2 + took / TELL_EVERY_S
    assert fact.unit_price_mp["sms.otp"] == 28_000
    assert all(earlier.version < later.version for earlier, later in itertools.pairwise(told))


async def test_a_clock_that_is_set_back_does_not_make_news_look_old(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    account_id, stream = new_account_id(), Stream()
    teller = BalanceTeller(store, BOOK, stream.publish, stream.last.get)
    await teller.tell([account_id])
    monkeypatch.setattr("harkara_billing.balances.time.time_ns", lambda: 1)
    await teller.tell([account_id])
    first, second = stream.facts
    assert second.version > first.version


async def test_at_start_only_what_differs_is_told(store: Store) -> None:
    accounts = [new_account_id() for _ in range(3)]
    for account_id in accounts:
        await store.top_up(account_id, "r", 5_000, now_utc())
    stream = Stream()
    async with telling(store, stream):
        for account_id in accounts:
            await stream.shows(account_id, 5_000)
    stream.facts.clear()

    # The process dies with one change untold.
    await store.top_up(accounts[1], "more", 1, now_utc())
    async with telling(store, stream):
        await stream.shows(accounts[1], 5_001)
    assert [fact.account_id for fact in stream.facts] == [accounts[1]]


async def test_a_new_month_has_new_unit_prices(
    store: Store, new_plan: NewPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harkara_billing.balances._LOOK_AT_CALENDAR_S", 0.01)
    account_id = new_account_id()
    await store.top_up(account_id, "r", 10**12, now_utc())
    now = [datetime(2026, 5, 31, 18, 29, tzinfo=UTC)]
    await reserve(store, new_plan(account_id, units=10_000, planned_at=now[0]))
    stream = Stream()
    async with telling(store, stream, lambda: now[0]):
        assert (await stream.shows(account_id, 10**12 - 220_000_000)).unit_price_mp["sms.transactional"] == 20_000
        now[0] = datetime(2026, 5, 31, 18, 30, tzinfo=UTC)
        await stream.next(
            lambda fact: fact.account_id == account_id and fact.unit_price_mp["sms.transactional"] == 22_000
        )


async def test_what_could_not_be_told_is_told_later(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harkara_billing.balances._RETRY_S", 0)
    account_id = new_account_id()
    stream = Stream()
    async with telling(store, stream) as teller:
        await store.top_up(account_id, "r", 7_000, now_utc())
        stream.failures = 2
        teller.mark([account_id])
        await stream.shows(account_id, 7_000)
    assert stream.failures == 0
