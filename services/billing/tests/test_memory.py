"""What a process remembers spares it the reading, and is never believed against the rows."""

import asyncio
from collections.abc import Callable, Sequence

import asyncpg
import pytest

from harkara_billing import memory
from harkara_billing.ledger import Ledger, State, Wallet, post
from harkara_billing.memory import Memory
from harkara_billing.price_book import load_price_book
from harkara_billing.store import Store
from harkara_chassis.clock import now_utc
from harkara_chassis.database import Database
from harkara_contracts.events import AttemptEvent, AttemptPlanned
from harkara_contracts.ids import new_account_id

BOOK = load_price_book()
NEWEST = 2**63 - 1
PRICE_MP = 22_000

NewPlan = Callable[..., AttemptPlanned]
NewEnd = Callable[[AttemptPlanned, str], AttemptEvent]


@pytest.fixture
async def stores(database: Database) -> list[Store]:
    """Two processes with the same tables."""
    made = [Store(database, BOOK) for _ in range(2)]
    await made[0].open_ledger_months(now_utc().date())
    return made


async def apply(store: Store, *events: AttemptEvent) -> list[State]:
    decided, _ = await store.apply(events, now_utc(), lambda ledger: post(ledger, events))
    return [hold.state for _, hold in decided]


async def with_money(store: Store, amount_mp: int) -> str:
    account_id = new_account_id()
    await store.top_up(account_id, "first", amount_mp, now_utc())
    return account_id


async def kinds_of(store: Store, plan: AttemptPlanned) -> list[str]:
    entries = await store.entries(plan.account_id, 10, NEWEST, plan.message_id)
    return [entry.kind for entry in reversed(entries)]


async def money_of(database: Database, account_id: str) -> tuple[int, int]:
    row = await database.fetchrow("SELECT available_mp, held_mp FROM wallet WHERE account_id = $1", account_id)
    assert row is not None
    return row[0], row[1]


async def test_what_changes_nothing_needs_no_database(
    stores: list[Store], database: Database, new_plan: NewPlan, new_end: NewEnd
) -> None:
    plan = new_plan(await with_money(stores[0], 10**6))
    await apply(stores[0], plan)
    await apply(stores[0], new_end(plan, "sent"))
    await database.close()
    await apply(stores[0], new_end(plan, "delivered"))
    with pytest.raises(asyncpg.InterfaceError):
        await apply(stores[1], new_end(plan, "delivered"))


async def test_what_another_process_did_meanwhile_counts(
    stores: list[Store], database: Database, new_plan: NewPlan, new_end: NewEnd
) -> None:
    ours, other = stores
    plan = new_plan(await with_money(ours, 100_000))
    await apply(ours, plan)
    await apply(other, new_end(plan, "never left"))
    await apply(ours, new_end(plan, "sent"))
    assert await kinds_of(ours, plan) == ["hold", "release"]
    assert await money_of(database, plan.account_id) == (100_000, 0)


async def test_money_that_another_process_spent_is_not_spent_again(
    stores: list[Store], database: Database, new_plan: NewPlan
) -> None:
    ours, other = stores
    account_id = await with_money(ours, 3 * PRICE_MP)
    assert await apply(ours, new_plan(account_id)) == [State.HELD]
    assert await apply(other, new_plan(account_id)) == [State.HELD]
    assert await apply(ours, new_plan(account_id), new_plan(account_id)) == [State.HELD, State.UNFUNDED]
    assert await money_of(database, account_id) == (0, 3 * PRICE_MP)


async def test_a_top_up_is_seen_at_once(stores: list[Store], new_plan: NewPlan) -> None:
    account_id = await with_money(stores[0], PRICE_MP)
    plans = [new_plan(account_id) for _ in range(3)]
    assert await apply(stores[0], *plans[:2]) == [State.HELD, State.UNFUNDED]
    await stores[1].top_up(account_id, "more", PRICE_MP, now_utc())
    assert await apply(stores[0], plans[2]) == [State.HELD]


async def test_a_plan_that_another_process_knows_is_answered_as_there(
    stores: list[Store], database: Database, new_plan: NewPlan, new_end: NewEnd
) -> None:
    ours, other = stores
    account_id = await with_money(ours, 200_000)
    await apply(ours, new_plan(account_id))
    known, early = new_plan(account_id), new_plan(account_id)
    await apply(other, known, new_end(early, "sent"))
    await apply(ours, new_plan(account_id))
    await apply(ours, new_plan(account_id))
    assert await apply(ours, known, early) == [State.HELD, State.CAPTURED]
    assert await kinds_of(ours, known) == ["hold"]
    assert await kinds_of(ours, early) == ["hold", "capture"]
    assert await money_of(database, account_id) == (200_000 - 5 * PRICE_MP, 4 * PRICE_MP)


async def test_an_attempt_is_not_moved_from_a_state_that_it_is_not_in(
    stores: list[Store], database: Database, new_plan: NewPlan, new_end: NewEnd
) -> None:
    """Even when somebody changed it without raising the account's version."""
    plan = new_plan(await with_money(stores[0], 100_000))
    await apply(stores[0], plan)
    await database.execute("UPDATE hold SET state = 'released' WHERE attempt_id = $1", plan.attempt_id)
    await apply(stores[0], new_end(plan, "sent"))
    assert await kinds_of(stores[0], plan) == ["hold"]
    assert await money_of(database, plan.account_id) == (100_000 - PRICE_MP, PRICE_MP)


async def test_a_decision_that_failed_leaves_no_trace(stores: list[Store], new_plan: NewPlan) -> None:
    account_id = await with_money(stores[0], 2 * PRICE_MP)
    await apply(stores[0], new_plan(account_id))
    plan = new_plan(account_id)

    def decide_and_crash(ledger: Ledger) -> None:
        post(ledger, [plan])
        raise ConnectionResetError

    for _ in range(2):
        with pytest.raises(ConnectionResetError):
            await stores[0].apply([plan], now_utc(), decide_and_crash)
    assert await apply(stores[0], plan) == [State.HELD]


async def test_lanes_of_one_process_share_an_account(
    stores: list[Store], database: Database, new_plan: NewPlan, new_end: NewEnd
) -> None:
    account_id = await with_money(stores[0], 90 * PRICE_MP)

    async def lane(store: Store) -> int:
        held = 0
        for _ in range(10):
            plans: Sequence[AttemptPlanned] = [new_plan(account_id) for _ in range(5)]
            held += (await apply(store, *plans)).count(State.HELD)
            await apply(store, *(new_end(plan, "sent") for plan in plans))
        return held

    assert sum(await asyncio.gather(lane(stores[0]), lane(stores[0]), lane(stores[1]))) == 90
    assert await money_of(database, account_id) == (0, 0)


async def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch, new_plan: NewPlan) -> None:
    monkeypatch.setattr(memory, "_MAX_HOLDS", 3)
    monkeypatch.setattr(memory, "_MAX_ACCOUNTS", 2)
    kept = Memory(BOOK)
    plans = [new_plan(f"ACC{number}") for number in range(4)]
    for plan in plans:
        ledger = Ledger(book=BOOK, now=now_utc(), wallets={plan.account_id: Wallet(10**6, 0)}, holds={}, volumes={})
        post(ledger, [plan])
        kept.keep(ledger, was_read=True)
    assert kept.take(plans[:1], now_utc()) is None
    last = kept.take(plans[3:], now_utc())
    assert last is not None
    assert last.holds[plans[3].attempt_id].state is State.HELD
