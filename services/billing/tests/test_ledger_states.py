"""A state machine over the ledger in Postgres: events in any order, repeated, cut into any batches, with crashes."""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from harkara_billing.ledger import Kind, Ledger, State, post, share
from harkara_billing.price_book import load_price_book
from harkara_billing.store import Store
from harkara_chassis.clock import now_utc
from harkara_chassis.database import Database
from harkara_contracts.events import AttemptEvent, AttemptPlanned
from harkara_contracts.ids import new_account_id

BOOK = load_price_book()
NAMES = ["planned", "sent", "delivered", "read", "unknown", "never left", "failed, billed", "failed, not billed"]
ATTEMPTS = 6

NewPlan = Callable[..., AttemptPlanned]
NewEnd = Callable[[AttemptPlanned, str], AttemptEvent]

batches = st.lists(
    st.tuples(st.integers(0, 1), st.integers(0, ATTEMPTS - 1), st.sampled_from(NAMES)), min_size=1, max_size=12
)

instances = st.integers(0, 1)
"""Two processes with the same tables, each with a memory of its own."""


class CrashError(Exception):
    """The process died before the commit."""


@dataclass(frozen=True)
class World:
    runner: asyncio.Runner
    database: Database
    stores: tuple[Store, Store]
    new_plan: NewPlan
    new_end: NewEnd


class LedgerStates(RuleBasedStateMachine):
    world: ClassVar[World]

    @initialize()
    def two_accounts(self) -> None:
        self.accounts: list[str] = [new_account_id() for _ in range(2)]
        self.plans = [
            [self.world.new_plan(account, units=1 + n % 3) for n in range(ATTEMPTS)] for account in self.accounts
        ]
        self.topped = 0
        self.answers: dict[str, tuple[bool, int]] = {}

    def _handle(self, picks: list[tuple[int, int, str]], instance: int, *, crash: bool = False) -> None:
        events = [self.world.new_end(self.plans[account][number], name) for account, number, name in picks]

        def decide(ledger: Ledger) -> list[tuple[AttemptPlanned, bool, int]]:
            decided = post(ledger, events)
            if crash:
                raise CrashError
            return [(plan, hold.state is not State.UNFUNDED, hold.price_mp) for plan, hold in decided]

        answers, _ = self.world.runner.run(self.world.stores[instance].apply(events, now_utc(), decide))
        for plan, funded, price_mp in answers:
            # A repeat is answered as it was the first time.
            assert self.answers.setdefault(plan.attempt_id, (funded, price_mp)) == (funded, price_mp)

    @rule(
        amount_mp=st.sampled_from([10_000, 30_000, 100_000]),
        account=st.integers(0, 1),
        reference=st.integers(0, 9),
        instance=instances,
    )
    def top_up(self, amount_mp: int, account: int, reference: int, instance: int) -> None:
        name = f"{reference}.{amount_mp}"
        before = self._available(account)
        store = self.world.stores[instance]
        self.world.runner.run(store.top_up(self.accounts[account], name, amount_mp, now_utc()))
        self.topped += self._available(account) - before

    @rule(picks=batches, instance=instances)
    def handle(self, picks: list[tuple[int, int, str]], instance: int) -> None:
        self._handle(picks, instance)

    @rule(picks=batches, instance=instances)
    def crash_before_the_commit(self, picks: list[tuple[int, int, str]], instance: int) -> None:
        before = self._tables()
        try:
            self._handle(picks, instance, crash=True)
        except CrashError:
            assert self._tables() == before

    @rule(picks=batches, cut=st.integers(0, 12), first=instances, second=instances)
    def crash_before_the_publish(self, picks: list[tuple[int, int, str]], cut: int, first: int, second: int) -> None:
        self._handle(picks, first)
        settled = self._tables()
        for part in (picks[:cut], picks[cut:]):
            if part:
                self._handle(part, second)
        assert self._tables() == settled

    @invariant()
    def the_books_agree(self) -> None:
        wallets, transfers = self._tables()
        sums: Counter[str] = Counter()
        for account_id, _, _, debit, credit, amount_mp, _ in transfers:
            for side, sign in ((debit, -1), (credit, 1)):
                own = side in {"wallet", "held"}
                sums[f"{side}.{account_id}" if own else side] += sign * amount_mp
        assert sum(sums.values()) == 0
        assert -sums["topups"] == self.topped
        assert sums["revenue"] >= 0
        found = {account_id: (available_mp, held_mp) for account_id, available_mp, held_mp in wallets}
        for account_id in self.accounts:
            available_mp, held_mp = found.get(account_id, (0, 0))
            assert available_mp == sums[f"wallet.{account_id}"] >= 0
            assert held_mp == sums[f"held.{account_id}"] >= 0

    @invariant()
    def a_batch_is_the_sum_of_its_lines(self) -> None:
        batches = self.world.runner.run(_batches(self.world.database, self.accounts))
        for kinds, amounts_mp, *sums in batches:
            lines = list(zip(map(Kind, kinds), amounts_mp, strict=True))
            names = ("wallet", "held", "revenue", "topups")
            assert sums == [sum(share(name, kind) * amount_mp for kind, amount_mp in lines) for name in names]

    @invariant()
    def lines_are_numbered_without_a_gap(self) -> None:
        for account_id in self.accounts:
            numbers = [number for owner, *_, number in self._tables()[1] if owner == account_id]
            assert numbers == list(range(1, len(numbers) + 1))

    @invariant()
    def each_attempt_is_moved_once(self) -> None:
        _, transfers = self._tables()
        kinds = Counter((reference, kind) for _, reference, kind, *_ in transfers if kind != Kind.TOPUP)
        for plan in [plan for plans in self.plans for plan in plans]:
            counts = {kind: kinds[plan.attempt_id, kind] for kind in Kind}
            assert counts[Kind.HOLD] <= 1
            assert counts[Kind.CAPTURE] + counts[Kind.RELEASE] <= counts[Kind.HOLD]
            assert counts[Kind.REFUND] <= counts[Kind.CAPTURE]

    def _tables(self) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
        return self.world.runner.run(_tables(self.world.database, self.accounts))

    def _available(self, account: int) -> int:
        wallets, _ = self._tables()
        return sum(available for account_id, available, _ in wallets if account_id == self.accounts[account])


async def _tables(database: Database, accounts: list[str]) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
    wallets = await database.fetch(
        "SELECT account_id, available_mp, held_mp FROM wallet "
        "WHERE account_id = ANY($1) AND available_mp + held_mp > 0 ORDER BY 1",
        accounts,
    )
    transfers = await database.fetch(
        "SELECT account_id, reference, kind, debit, credit, amount_mp, number FROM ledger_line WHERE account_id = ANY($1) "
        "ORDER BY number",
        accounts,
    )
    return [tuple(row) for row in wallets], [tuple(row) for row in transfers]


async def _batches(database: Database, accounts: list[str]) -> list[list[Any]]:
    rows = await database.fetch(
        "SELECT kind, amount_mp, wallet_mp, held_mp, revenue_mp, topups_mp FROM transfer WHERE account_id = ANY($1)",
        accounts,
    )
    return [list(row) for row in rows]


def test_any_order_of_anything_keeps_the_books(servers: Any, new_plan: NewPlan, new_end: NewEnd) -> None:
    with asyncio.Runner() as runner:
        database = runner.run(Database.open(servers.database_url("billing"), "billing", size=1))
        runner.run(database.ensure_partitions(("hold",)))
        stores = (Store(database, BOOK), Store(database, BOOK))
        runner.run(stores[0].open_ledger_months(now_utc().date()))
        LedgerStates.world = World(runner, database, stores, new_plan, new_end)
        run_state_machine_as_test(LedgerStates, settings=settings(max_examples=30, stateful_step_count=15))
        runner.run(database.close())
