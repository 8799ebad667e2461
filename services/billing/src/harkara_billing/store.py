"""The ledger in Postgres: one transaction a batch, few statements whatever its size.

lock the wallets of the batch's accounts (in the order of their ids, so that two batches cannot wait for each other in a
ring) -> read the holds and volumes -> decide in memory (`ledger.py`) -> write everything in one statement.

The wallet's lock guards all that belongs to its account; it is taken once a batch, not once a message. It also has a
version, which every write raises. So where this process remembers what it wrote last (`memory.py`) it need not lock and
read at all: the one statement that writes locks the wallets itself, and writes nothing if one has another version.

What locks do for instances that behave, CHECK constraints, keys and conditions do for those that do not: no balance below
zero, no attempt added twice, none moved from a state that it is not in.

An account's part of a batch is one row of `transfer`: so much for each ledger account, together nothing, and a line for each
movement. A row for each line would be three quarters of what the ledger costs; the view `ledger_line` shows them so.
"""

import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import TypeVar

import asyncpg

from harkara_billing.ledger import Attempt, Hold, Kind, Ledger, State, VolumeKey, Wallet
from harkara_billing.memory import Memory
from harkara_billing.posting import HOLD_COLUMNS, write
from harkara_billing.price_book import PriceBook, first_of_month, ist_day
from harkara_chassis.database import Connection, Database
from harkara_contracts.commands import LedgerEntry, UsageRow
from harkara_contracts.errors import ErrorCode, HarkaraError
from harkara_contracts.events import AttemptPlanned
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
SELECT account_id, available_mp, held_mp, lines, version FROM wallet WHERE account_id = ANY($1::text[])
ORDER BY account_id COLLATE "C" FOR UPDATE
"""
_OPEN_WALLETS = """
INSERT INTO wallet (account_id) SELECT account_id FROM unnest($1::text[]) AS account_id ORDER BY 1
ON CONFLICT DO NOTHING
"""
# One day a statement: the planner then looks into that day's partition only.
_READ_HOLDS = f"SELECT {HOLD_COLUMNS} FROM hold WHERE attempt_id = ANY($1::text[]) AND day = $2"  # noqa: S608  # constants
_REMOVE = "DELETE FROM hold WHERE attempt_id = ANY($1::text[]) AND day = ANY($2::date[])"
_READ_VOLUMES = """
SELECT account_id, month, channel, units FROM volume
WHERE account_id = ANY($1::text[]) AND month = ANY($2::date[])
"""
_TOP_UP = """
WITH topped AS (
    INSERT INTO topup (account_id, reference, amount_mp, created_at) VALUES ($1, $2, $3, $4)
    ON CONFLICT DO NOTHING RETURNING 1
), paid AS (
    UPDATE wallet SET available_mp = available_mp + $3, lines = lines + 1, version = version + 1
    WHERE account_id = $1 AND EXISTS (SELECT FROM topped) RETURNING lines
)
INSERT INTO transfer (account_id, number, day, wallet_mp, held_mp, revenue_mp, topups_mp,
    kind, reference, amount_mp, units, created_at)
SELECT $1, lines, $5, $3, 0, 0, -$3::bigint, ARRAY['topup'], ARRAY[$2], ARRAY[$3::bigint], '{0}', $4 FROM paid
RETURNING 1
"""
_READ_BALANCES = """
SELECT account_id, available_mp, held_mp, v.channel, v.units
FROM wallet LEFT JOIN (SELECT * FROM volume WHERE month = $2) AS v USING (account_id)
WHERE account_id = ANY($1::text[])
"""
_LIST = """
SELECT t.number + line.place - 1, line.reference, line.kind, line.amount_mp, line.units, t.created_at
FROM transfer AS t CROSS JOIN LATERAL unnest(t.reference, t.kind, t.amount_mp, t.units) WITH ORDINALITY
    AS line (reference, kind, amount_mp, units, place)
WHERE t.account_id = $1 AND t.number < $2 AND t.number + line.place - 1 < $2
ORDER BY t.number DESC, line.place DESC LIMIT $3
"""
# An attempt knows the numbers of its lines; the row that has a line is the last one that begins before it.
_LIST_OF_MESSAGE = """
SELECT line.number, hold.attempt_id, t.kind[line.number - t.number + 1], t.amount_mp[line.number - t.number + 1],
    t.units[line.number - t.number + 1], t.created_at
FROM hold
CROSS JOIN LATERAL (VALUES (held_line), (ended_line), (refunded_line)) AS line (number)
CROSS JOIN LATERAL (
    SELECT * FROM transfer WHERE account_id = $1 AND transfer.number <= line.number ORDER BY transfer.number DESC LIMIT 1
) AS t
WHERE hold.day = $4 AND hold.attempt_id >= $5 || '-' AND hold.attempt_id < $5 || '.' AND hold.account_id = $1
    AND line.number < $2
ORDER BY line.number DESC LIMIT $3
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
        self._memory = Memory(book)

    async def apply(
        self, attempts: Sequence[Attempt], now: datetime, decide: Callable[[Ledger], T]
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
        if day_of(max(attempt.attempt_id for attempt in attempts)) > now.date() + _CLOCKS_DIFFER:
            raise ValueError("a message is dated ahead")
        ledger = self._memory.take(attempts, now)
        if ledger is not None:
            remembered = len(ledger.volumes)
            result = decide(ledger)
            if len(ledger.volumes) == remembered and await self._write_remembered(ledger):
                self._memory.keep(ledger, was_read=False)
                return result, _touched(ledger)
        return await self._apply_on_rows(attempts, now, decide)

    async def _write_remembered(self, ledger: Ledger) -> bool:
        """Write what was decided from memory, unless it was out of date."""
        if not ledger.changed:
            return True
        if ledger.replaced:
            return False
        try:
            async with self._database.connection() as connection:
                return await write(connection, ledger)
        except (asyncpg.UniqueViolationError, asyncpg.DivisionByZeroError):
            return False

    async def _apply_on_rows(
        self, attempts: Sequence[Attempt], now: datetime, decide: Callable[[Ledger], T]
    ) -> tuple[T, set[str]]:
        accounts = sorted({attempt.account_id for attempt in attempts})
        while True:
            async with self._database.transaction() as connection:
                rows = await connection.fetch(_LOCK_WALLETS, accounts)
                if len(rows) == len(accounts):
                    ledger = Ledger(
                        book=self._book,
                        now=now,
                        wallets={account_id: Wallet(*columns) for account_id, *columns in rows},
                        holds=await _read_holds(connection, attempts),
                        volumes=await _read_volumes(connection, attempts),
                    )
                    result = decide(ledger)
                    if ledger.replaced:
                        days = {ledger.holds[one].day for one in ledger.replaced}
                        await connection.execute(_REMOVE, list(ledger.replaced), list(days))
                    if ledger.changed and not await write(connection, ledger):
                        raise RuntimeError("a locked wallet has changed")
                    break
            # Opened outside the transaction: there it could wait for another's lock out of the order.
            await self._database.execute(_OPEN_WALLETS, accounts)
        self._memory.keep(ledger, was_read=True)
        return result, _touched(ledger)

    async def top_up(self, account_id: str, reference: str, amount_mp: int, now: datetime) -> None:
        """Add money once per reference.

        Raises:
            HarkaraError: CONFLICT, the reference was topped up with another amount.
        """
        await self._database.execute(_OPEN_WALLETS, [account_id])
        async with self._database.transaction() as connection:
            await connection.execute(_LOCK_WALLETS, [account_id])
            added = await connection.fetchrow(_TOP_UP, account_id, reference, amount_mp, now, now.date())
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


async def _read_holds(connection: Connection, attempts: Iterable[Attempt]) -> dict[str, Hold]:
    ids_by_day: dict[date, set[str]] = defaultdict(set)
    for attempt in attempts:
        ids_by_day[day_of(attempt.attempt_id)].add(attempt.attempt_id)
    holds = {}
    for day, ids in ids_by_day.items():
        for row in await connection.fetch(_READ_HOLDS, list(ids), day):
            hold = Hold(*row)
            hold.state = State(hold.state)
            holds[hold.attempt_id] = hold
    return holds


async def _read_volumes(connection: Connection, attempts: Iterable[Attempt]) -> dict[VolumeKey, int]:
    plans = [attempt for attempt in attempts if isinstance(attempt, AttemptPlanned)]
    if not plans:
        return {}
    accounts = list({plan.account_id for plan in plans})
    months = list({first_of_month(ist_day(plan.planned_at)) for plan in plans})
    rows = await connection.fetch(_READ_VOLUMES, accounts, months)
    return {(account_id, month, channel): units for account_id, month, channel, units in rows}


def _touched(ledger: Ledger) -> set[str]:
    return {account_id for account_id, _, _ in ledger.volume_changes}


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
