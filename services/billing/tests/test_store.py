"""The ledger on a real Postgres."""

import asyncio
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta

import asyncpg
import pytest

from harkara_billing.ledger import Ledger, State, post
from harkara_billing.price_book import first_of_month, ist_day, load_price_book
from harkara_billing.store import Balance, Store
from harkara_chassis.clock import now_utc
from harkara_chassis.database import Database
from harkara_contracts.errors import ErrorCode, HarkaraError
from harkara_contracts.events import AttemptEvent, AttemptPlanned
from harkara_contracts.ids import new_account_id, new_message_id
from harkara_contracts.subjects import Category

BOOK = load_price_book()
NEWEST = 2**63 - 1

NewPlan = Callable[..., AttemptPlanned]
NewEnd = Callable[[AttemptPlanned, str], AttemptEvent]


@pytest.fixture
async def store(database: Database) -> Store:
    made = Store(database, BOOK)
    await made.open_ledger_months(now_utc().date())
    return made


async def apply(store: Store, *events: AttemptEvent) -> list[tuple[State, int]]:
    decided, _ = await store.apply(events, now_utc(), lambda ledger: post(ledger, events))
    return [(hold.state, hold.price_mp) for _, hold in decided]


async def balance_of(store: Store, account_id: str) -> Balance:
    [balance] = await store.balances([account_id], first_of_month(ist_day(now_utc())))
    return balance


async def with_money(store: Store, amount_mp: int) -> str:
    account_id = new_account_id()
    await store.top_up(account_id, "first", amount_mp, now_utc())
    return account_id


async def test_reserve_and_capture(store: Store, new_plan: NewPlan, new_end: NewEnd) -> None:
    account_id = await with_money(store, 100_000)
    plan = new_plan(account_id, units=2)
    assert await apply(store, plan) == [(State.HELD, 44_000)]
    held = await balance_of(store, account_id)
    assert (held.available_mp, held.held_mp, held.volumes) == (56_000, 44_000, {"sms": 2})

    await apply(store, new_end(plan, "sent"))
    await apply(store, new_end(plan, "delivered"), new_end(plan, "sent"))
    assert await apply(store, plan) == [(State.CAPTURED, 44_000)]
    after = await balance_of(store, account_id)
    assert (after.available_mp, after.held_mp) == (56_000, 0)
    entries = await store.entries(account_id, 10, NEWEST, None)
    assert [(entry.kind, entry.amount_mp, entry.units, entry.reference) for entry in entries] == [
        ("capture", -44_000, 2, plan.attempt_id),
        ("hold", -44_000, 2, plan.attempt_id),
        ("topup", 100_000, 0, "first"),
    ]
    assert [entry.message_id for entry in entries] == [plan.message_id, plan.message_id, None]


async def test_usage_counts_what_was_captured_and_not_refunded(
    store: Store, new_plan: NewPlan, new_end: NewEnd
) -> None:
    account_id = await with_money(store, 1_000_000)
    otp = new_plan(account_id, category=Category.OTP)
    promotion, refunded, released = (new_plan(account_id, category=Category.PROMOTIONAL) for _ in range(3))
    ends = [
        new_end(otp, "sent"),
        new_end(promotion, "sent"),
        new_end(refunded, "sent"),
        new_end(released, "never left"),
    ]
    await apply(store, otp, promotion, refunded, released, *ends)
    await apply(store, new_end(refunded, "failed, not billed"))

    today = ist_day(now_utc())
    rows = await store.usage(account_id, today, today)
    assert [(row.day, row.channel, row.category, row.units, row.amount_mp) for row in rows] == [
        (today.isoformat(), "sms", "otp", 1, 28_000),
        (today.isoformat(), "sms", "promotional", 1, 18_000),
    ]
    assert (await balance_of(store, account_id)).volumes == {"sms": 2}
    assert await store.usage(account_id, today - timedelta(days=9), today - timedelta(days=1)) == []


async def test_an_end_before_its_plan_is_kept(store: Store, new_plan: NewPlan, new_end: NewEnd) -> None:
    account_id = await with_money(store, 100_000)
    sent, freed = new_plan(account_id), new_plan(account_id)
    await apply(store, new_end(sent, "sent"), new_end(freed, "never left"))
    assert await apply(store, sent, freed) == [(State.CAPTURED, 22_000), (State.RELEASED, 22_000)]
    after = await balance_of(store, account_id)
    assert (after.available_mp, after.held_mp, after.volumes) == (78_000, 0, {"sms": 1})


async def test_an_account_never_seen_has_no_money(store: Store, new_plan: NewPlan) -> None:
    account_id = new_account_id()
    plan = new_plan(account_id)
    assert await apply(store, plan) == [(State.UNFUNDED, 22_000)]
    await store.top_up(account_id, "late", 22_000, now_utc())
    assert await apply(store, plan, new_plan(account_id)) == [(State.UNFUNDED, 22_000), (State.HELD, 22_000)]


async def test_days_without_a_partition_are_paid_for(store: Store, new_plan: NewPlan, new_end: NewEnd) -> None:
    account_id = await with_money(store, 100_000)
    old = new_plan(account_id, message_id="TN20200101ABCDEFGHJKMNP")
    today = new_plan(account_id)
    assert await apply(store, old, today) == [(State.HELD, 22_000)] * 2
    await apply(store, new_end(today, "sent"), new_end(old, "sent"))
    assert (await balance_of(store, account_id)).held_mp == 0


async def test_a_message_dated_ahead_is_refused(store: Store, new_plan: NewPlan) -> None:
    with pytest.raises(ValueError, match="dated ahead"):
        await apply(store, new_plan(new_account_id(), message_id="TN29990101ABCDEFGHJKMNP"))


async def test_volume_of_the_month_chooses_the_slab(store: Store, new_plan: NewPlan) -> None:
    account_id = await with_money(store, 10**12)
    await apply(store, new_plan(account_id, units=9_999))
    assert await apply(store, new_plan(account_id, units=2), new_plan(account_id)) == [
        (State.HELD, 42_000),
        (State.HELD, 20_000),
    ]


async def test_top_up_is_idempotent_by_reference(store: Store) -> None:
    account_id = await with_money(store, 100_000)
    await asyncio.gather(*[store.top_up(account_id, "again", 5_000, now_utc()) for _ in range(5)])
    assert (await balance_of(store, account_id)).available_mp == 105_000
    with pytest.raises(HarkaraError, match=r"already topped up with ₹0\.05") as refused:
        await store.top_up(account_id, "again", 5_001, now_utc())
    assert refused.value.code is ErrorCode.CONFLICT
    other = await with_money(store, 1_000)
    assert (await balance_of(store, other)).available_mp == 1_000


async def test_a_failed_transaction_leaves_nothing(store: Store, new_plan: NewPlan) -> None:
    account_id = await with_money(store, 100_000)
    plan = new_plan(account_id)

    def decide_and_crash(ledger: Ledger) -> None:
        post(ledger, [plan])
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await store.apply([plan], now_utc(), decide_and_crash)
    assert (await balance_of(store, account_id)).available_mp == 100_000
    assert await apply(store, plan) == [(State.HELD, 22_000)]


async def test_two_instances_fund_exactly_what_the_money_is_for(
    store: Store, servers: object, new_plan: NewPlan
) -> None:
    other_database = await Database.open(servers.database_url("billing"), "billing")  # type: ignore[attr-defined]  # the root fixture's class has no importable name
    other = Store(other_database, BOOK)
    funded, wanted = 137, 400
    accounts = [await with_money(store, funded * 22_000) for _ in range(2)]
    plans = [new_plan(account_id) for _ in range(wanted) for account_id in accounts]
    batches = [plans[start : start + 40] for start in range(0, len(plans), 40)]

    # Each batch is handled by both, as after a lost acknowledgement, and the second sees the accounts the other way round.
    first, second = await asyncio.gather(
        asyncio.gather(*[apply(store, *batch) for batch in batches]),
        asyncio.gather(*[apply(other, *reversed(batch)) for batch in batches]),
    )
    await other_database.close()

    assert [batch[::-1] for batch in second] == first
    states = [state for batch in first for state, _ in batch]
    assert states.count(State.HELD) == funded * len(accounts)
    for account_id in accounts:
        balance = await balance_of(store, account_id)
        assert (balance.available_mp, balance.held_mp) == (0, funded * 22_000)
        assert balance.volumes == {"sms": funded}


async def test_the_tables_themselves_refuse_a_debt(store: Store, database: Database) -> None:
    account_id = await with_money(store, 100_000)
    for column in ("available_mp", "held_mp"):
        with pytest.raises(asyncpg.CheckViolationError):
            await database.execute(f"UPDATE wallet SET {column} = -1 WHERE account_id = $1", account_id)  # noqa: S608  # two literals


async def test_entries_are_paged_newest_first(store: Store, new_plan: NewPlan) -> None:
    account_id = await with_money(store, 10**9)
    plans = [new_plan(account_id) for _ in range(7)]
    await apply(store, *plans)
    seen: list[str] = []
    cursor = NEWEST
    while page := await store.entries(account_id, 3, cursor, None):
        seen += [entry.reference for entry in page]
        cursor = int(page[-1].entry_id)
    assert seen == [*[plan.attempt_id for plan in reversed(plans)], "first"]


async def test_entries_of_one_message(store: Store, new_plan: NewPlan, new_end: NewEnd) -> None:
    account_id = await with_money(store, 10**9)
    message_id = new_message_id()
    first, second = (new_plan(account_id, message_id=message_id, number=number) for number in (1, 2))
    await apply(store, first, new_plan(account_id), new_end(first, "never left"), second)
    entries = await store.entries(account_id, 10, NEWEST, message_id)
    assert [(entry.kind, entry.reference) for entry in entries] == [
        ("hold", second.attempt_id),
        ("release", first.attempt_id),
        ("hold", first.attempt_id),
    ]
    assert await store.entries(new_account_id(), 10, NEWEST, message_id) == []


async def test_ledger_months_are_made_once(store: Store, database: Database) -> None:
    for _ in range(2):
        await store.open_ledger_months(date(2031, 12, 31))
    rows = await database.fetch("SELECT relname FROM pg_class WHERE relname ~ '^transfer_203[12]..$' ORDER BY 1")
    assert [row[0] for row in rows] == ["transfer_203111", "transfer_203112", "transfer_203201", "transfer_203202"]


async def test_a_moment_counts_for_its_day_in_india(store: Store, new_plan: NewPlan, new_end: NewEnd) -> None:
    account_id = await with_money(store, 10**9)
    late = new_plan(account_id, planned_at=datetime(2026, 6, 30, 18, 30, tzinfo=UTC))
    await apply(store, late, new_end(late, "sent"))
    [row] = await store.usage(account_id, date(2026, 7, 1), date(2026, 7, 1))
    assert row.units == 1
