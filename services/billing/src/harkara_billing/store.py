"""The ledger in Postgres: one transaction a batch, five statements whatever its size.

lock the wallets of the batch's accounts (in the order of their ids, so that two batches cannot wait for each other in a
ring) -> read the holds and volumes -> decide in memory (`ledger.py`) -> write everything in one statement.

The wallet's lock guards all that belongs to its account; it is taken once a batch, not once a message. What the lock
does for instances that behave, CHECK constraints and natural keys do for those that do not: no balance below zero, no
attempt moved twice in the same way.
"""

import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import TypeVar

import asyncpg

from harkara_billing.ledger import POSTINGS, Hold, Kind, Ledger, State, VolumeKey, Wallet
from harkara_billing.price_book import PriceBook, first_of_month, ist_day
from harkara_chassis.database import Connection, Database
from harkara_contracts.commands import LedgerEntry, UsageRow
from harkara_contracts.errors import ErrorCode, HarkaraError
from harkara_contracts.events import AttemptEvent, AttemptPlanned
from harkara_contracts.ids import day_of
from harkara_contracts.money import to_rupees
from harkara_contracts.subjects import Channel

T = TypeVar("T")

_LEDGER_MONTHS_AHEAD = 2
# A row of a day ahead would go to the default partition, and then that day's own could no longer be made.
_CLOCKS_DIFFER = timedelta(days=2)
_FACTS_LOCK = 0x4841524B
# As the account sees it: a hold takes from what can be spent, a capture from what was held.
_TAKEN = (Kind.HOLD, Kind.CAPTURE)

_LOCK_WALLETS = """
SELECT account_id, available_mp, held_mp FROM wallet WHERE account_id = ANY($1::text[]) ORDER BY account_id FOR UPDATE
"""
_OPEN_WALLETS = """
INSERT INTO wallet (account_id) SELECT account_id FROM unnest($1::text[]) AS account_id ORDER BY 1
ON CONFLICT DO NOTHING
"""
# One day a statement: the planner then looks into that day's partition only.
_READ_HOLDS = """
SELECT attempt_id, day, account_id, channel, category, units, price_mp, planned_on, state, decided_at
FROM hold WHERE attempt_id = ANY($1::text[]) AND day = $2
"""
_READ_VOLUMES = """
SELECT account_id, month, channel, units FROM volume
WHERE account_id = ANY($1::text[]) AND month = ANY($2::date[])
"""
_WRITE = """
WITH held AS (
    INSERT INTO hold
        (attempt_id, day, account_id, channel, category, units, price_mp, planned_on, state, decided_at)
    SELECT * FROM unnest(
        $1::text[], $2::date[], $3::text[], $4::text[], $5::text[], $6::int[], $7::bigint[], $8::date[], $9::text[],
        $10::timestamptz[])
    ON CONFLICT (attempt_id, day) DO UPDATE SET
        units = excluded.units, price_mp = excluded.price_mp, planned_on = excluded.planned_on,
        state = excluded.state, decided_at = excluded.decided_at
), moved AS (
    INSERT INTO transfer (account_id, reference, kind, day, debit, credit, amount_mp, units, created_at)
    SELECT m.*, $19 FROM unnest(
        $11::text[], $12::text[], $13::text[], $14::date[], $15::text[], $16::text[], $17::bigint[], $18::int[]) AS m
), counted AS (
    INSERT INTO volume AS v (account_id, month, channel, units)
    SELECT * FROM unnest($20::text[], $21::date[], $22::text[], $23::bigint[])
    ON CONFLICT (account_id, month, channel) DO UPDATE SET units = v.units + excluded.units
), used AS (
    INSERT INTO usage AS u (account_id, day, channel, category, units, amount_mp)
    SELECT * FROM unnest($24::text[], $25::date[], $26::text[], $27::text[], $28::bigint[], $29::bigint[])
    ON CONFLICT (account_id, day, channel, category)
    DO UPDATE SET units = u.units + excluded.units, amount_mp = u.amount_mp + excluded.amount_mp
)
UPDATE wallet SET available_mp = new.available_mp, held_mp = new.held_mp
FROM unnest($30::text[], $31::bigint[], $32::bigint[]) AS new (account_id, available_mp, held_mp)
WHERE wallet.account_id = new.account_id
  AND (wallet.available_mp, wallet.held_mp) IS DISTINCT FROM (new.available_mp, new.held_mp)
"""
_TOP_UP = """
WITH topped AS (
    INSERT INTO topup (account_id, reference, amount_mp, created_at) VALUES ($1, $2, $3, $4)
    ON CONFLICT DO NOTHING RETURNING 1
), moved AS (
    INSERT INTO transfer (account_id, reference, kind, day, debit, credit, amount_mp, units, created_at)
    SELECT $1, $2, $5, $6, $7, $8, $3, 0, $4 FROM topped
)
UPDATE wallet SET available_mp = available_mp + $3 WHERE account_id = $1 AND EXISTS (SELECT FROM topped) RETURNING 1
"""
_READ_BALANCES = """
SELECT account_id, available_mp, held_mp, v.channel, v.units
FROM wallet LEFT JOIN (SELECT * FROM volume WHERE month = $2) AS v USING (account_id)
WHERE account_id = ANY($1::text[])
"""
_LIST = """
SELECT number, reference, kind, amount_mp, units, created_at FROM transfer
WHERE account_id = $1 AND number < $2 ORDER BY number DESC LIMIT $3
"""
_LIST_OF_MESSAGE = """
SELECT number, reference, kind, amount_mp, units, created_at FROM transfer
WHERE account_id = $1 AND number < $2 AND day = $4 AND reference >= $5 || '-' AND reference < $5 || '.'
  AND kind <> 'topup'
ORDER BY number DESC LIMIT $3
"""


@dataclass(frozen=True, slots=True)
class Balance:
    """An account's wallet with its volumes of one month."""

    account_id: str
    available_mp: int
    held_mp: int
    volumes: dict[Channel, int]


class Store:
    def __init__(self, database: Database, book: PriceBook) -> None:
        self._database = database
        self._book = book

    async def apply(
        self, attempts: Sequence[AttemptEvent], now: datetime, decide: Callable[[Ledger], T]
    ) -> tuple[T, set[str]]:
        """Decide about a batch under the locks of its accounts, and write what was decided.

        Args:
            attempts: whose accounts, holds and volumes the ledger is to have.
            now: the time of all that is written.
            decide: changes the ledger it is given, and does nothing else; on an exception nothing is written.

        Returns:
            What `decide` returned, and the accounts whose balance or price may look different now.

        Raises:
            ValueError: an attempt's id is none, or of a day that has not come.
        """
        accounts = sorted({attempt.account_id for attempt in attempts})
        ids_by_day: dict[date, set[str]] = defaultdict(set)
        for attempt in attempts:
            ids_by_day[day_of(attempt.attempt_id)].add(attempt.attempt_id)
        if max(ids_by_day) > now.date() + _CLOCKS_DIFFER:
            raise ValueError("a message is dated ahead")
        while True:
            async with self._database.transaction() as connection:
                rows = await connection.fetch(_LOCK_WALLETS, accounts)
                if len(rows) == len(accounts):
                    ledger = Ledger(
                        book=self._book,
                        now=now,
                        wallets={account_id: Wallet(available, held) for account_id, available, held in rows},
                        holds=await _read_holds(connection, ids_by_day),
                        volumes=await _read_volumes(connection, attempts),
                    )
                    result = decide(ledger)
                    if ledger.changed:
                        await _write(connection, ledger)
                    return result, {account_id for account_id, _, _ in ledger.volume_changes}
            # Opened outside the transaction: there it could wait for another's lock out of the order.
            await self._database.execute(_OPEN_WALLETS, accounts)

    async def top_up(self, account_id: str, reference: str, amount_mp: int, now: datetime) -> None:
        """Add money once per reference.

        Raises:
            HarkaraError: CONFLICT, the reference was topped up with another amount.
        """
        posting = POSTINGS[Kind.TOPUP]
        await self._database.execute(_OPEN_WALLETS, [account_id])
        async with self._database.transaction() as connection:
            # The lock first, so that the number of the transfer is taken under it.
            await connection.execute(_LOCK_WALLETS, [account_id])
            added = await connection.fetchrow(
                _TOP_UP, account_id, reference, amount_mp, now, Kind.TOPUP, now.date(), posting.debit, posting.credit
            )
            if added is None:
                before = await connection.fetchval(
                    "SELECT amount_mp FROM topup WHERE account_id = $1 AND reference = $2", account_id, reference
                )
                if before != amount_mp:
                    raise HarkaraError(
                        ErrorCode.CONFLICT,
                        f"this reference was already topped up with ₹{to_rupees(before)}; "
                        "repeat it with the same amount, or give another top-up a reference of its own",
                    )

    async def balances(self, accounts: Iterable[str], month: date) -> list[Balance]:
        """Return what these accounts have, with their volumes of a month; an unknown account has nothing."""
        async with self._database.connection() as connection:
            return await _read_balances(connection, accounts, month)

    async def accounts_after(self, account_id: str, limit: int) -> list[str]:
        """Page through all accounts in the order of their ids."""
        rows = await self._database.fetch(
            "SELECT account_id FROM wallet WHERE account_id > $1 ORDER BY account_id LIMIT $2", account_id, limit
        )
        return [row[0] for row in rows]

    async def entries(self, account_id: str, limit: int, before: int, message_id: str | None) -> list[LedgerEntry]:
        """Return the newest entries whose number is below `before`, newest first.

        Raises:
            ValueError: the message id is none.
        """
        if message_id is None:
            rows = await self._database.fetch(_LIST, account_id, before, limit)
        else:
            day = day_of(message_id)
            rows = await self._database.fetch(_LIST_OF_MESSAGE, account_id, before, limit, day, message_id)
        return [_entry(row) for row in rows]

    async def usage(self, account_id: str, first: date, last: date) -> list[UsageRow]:
        """Return what was captured on these days (IST), both included."""
        rows = await self._database.fetch(
            "SELECT day, channel, category, units, amount_mp FROM usage "
            "WHERE account_id = $1 AND day BETWEEN $2 AND $3 AND units <> 0 ORDER BY day, channel, category",
            account_id,
            first,
            last,
        )
        return [
            UsageRow(day=day.isoformat(), channel=channel, category=category, units=units, amount_mp=amount_mp)
            for day, channel, category, units, amount_mp in rows
        ]

    async def open_ledger_months(self, today: date) -> None:
        """Make the ledger's monthly partitions from last month on."""
        month = first_of_month(first_of_month(today) - timedelta(days=1))
        for _ in range(_LEDGER_MONTHS_AHEAD + 2):
            following = first_of_month(month + timedelta(days=31))
            name = f"transfer_{month:%Y%m}"
            if await self._database.fetchrow("SELECT 1 WHERE to_regclass($1) IS NOT NULL", name) is None:
                # Another instance may be faster.
                with contextlib.suppress(asyncpg.DuplicateTableError, asyncpg.UniqueViolationError):
                    await self._database.execute(
                        f"CREATE TABLE {name} PARTITION OF transfer FOR VALUES FROM ('{month}') TO ('{following}')"
                    )
            month = following

    @contextlib.asynccontextmanager
    async def telling(self, accounts: Iterable[str], month: date) -> AsyncIterator[list[Balance]]:
        """Read balances to publish them inside the context, which one instance at a time may be in.

        Without this an instance could read a balance, be overtaken, and publish the old one last.
        """
        async with self._database.transaction() as connection:
            await connection.execute("SELECT pg_advisory_xact_lock($1)", _FACTS_LOCK)
            yield await _read_balances(connection, accounts, month)


async def _read_holds(connection: Connection, ids_by_day: dict[date, set[str]]) -> dict[str, Hold]:
    holds = {}
    for day, ids in ids_by_day.items():
        for row in await connection.fetch(_READ_HOLDS, list(ids), day):
            hold = Hold(*row)
            hold.state = State(hold.state)
            holds[hold.attempt_id] = hold
    return holds


async def _read_volumes(connection: Connection, attempts: Iterable[AttemptEvent]) -> dict[VolumeKey, int]:
    plans = [attempt for attempt in attempts if isinstance(attempt, AttemptPlanned)]
    if not plans:
        return {}
    accounts = list({plan.account_id for plan in plans})
    months = list({first_of_month(ist_day(plan.planned_at)) for plan in plans})
    rows = await connection.fetch(_READ_VOLUMES, accounts, months)
    return {(account_id, month, channel): units for account_id, month, channel, units in rows}


async def _write(connection: Connection, ledger: Ledger) -> None:
    holds = list(ledger.changed.values())
    transfers = ledger.transfers
    postings = [POSTINGS[transfer.kind] for transfer in transfers]
    volumes = ledger.volume_changes
    usages = ledger.usage_changes
    await connection.execute(
        _WRITE,
        [hold.attempt_id for hold in holds],
        [hold.day for hold in holds],
        [hold.account_id for hold in holds],
        [hold.channel for hold in holds],
        [hold.category for hold in holds],
        [hold.units for hold in holds],
        [hold.price_mp for hold in holds],
        [hold.planned_on for hold in holds],
        [hold.state for hold in holds],
        [hold.decided_at for hold in holds],
        [transfer.account_id for transfer in transfers],
        [transfer.reference for transfer in transfers],
        [transfer.kind for transfer in transfers],
        [transfer.day for transfer in transfers],
        [posting.debit for posting in postings],
        [posting.credit for posting in postings],
        [transfer.amount_mp for transfer in transfers],
        [transfer.units for transfer in transfers],
        ledger.now,
        [account_id for account_id, _, _ in volumes],
        [month for _, month, _ in volumes],
        [channel for _, _, channel in volumes],
        list(volumes.values()),
        [account_id for account_id, _, _, _ in usages],
        [day for _, day, _, _ in usages],
        [channel for _, _, channel, _ in usages],
        [category for _, _, _, category in usages],
        [usage.units for usage in usages.values()],
        [usage.amount_mp for usage in usages.values()],
        list(ledger.wallets),
        [wallet.available_mp for wallet in ledger.wallets.values()],
        [wallet.held_mp for wallet in ledger.wallets.values()],
    )


async def _read_balances(connection: Connection, accounts: Iterable[str], month: date) -> list[Balance]:
    wanted = list(accounts)
    found = {account_id: Balance(account_id, 0, 0, {}) for account_id in wanted}
    for account_id, available_mp, held_mp, channel, units in await connection.fetch(_READ_BALANCES, wanted, month):
        balance = found[account_id]
        volumes = balance.volumes | ({Channel(channel): units} if channel else {})
        found[account_id] = Balance(account_id, available_mp, held_mp, volumes)
    return list(found.values())


def _entry(row: asyncpg.Record) -> LedgerEntry:
    number, reference, kind, amount_mp, units, created_at = row
    signed_mp = -amount_mp if kind in _TAKEN else amount_mp
    return LedgerEntry(
        entry_id=str(number),
        kind=kind,
        amount_mp=signed_mp,
        available_change_mp=0 if kind == Kind.CAPTURE else signed_mp,
        units=units,
        reference=reference,
        message_id=None if kind == Kind.TOPUP else reference.rpartition("-")[0],
        created_at=created_at,
    )
