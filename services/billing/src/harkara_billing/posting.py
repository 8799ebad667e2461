"""A decided batch becomes rows: one statement, made of the parts that the batch has use for.

Nothing of it happens unless every account that changes has the version that was decided on. So it can be sent without
having locked and read anything; it locks the wallets itself, in the order of their ids.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import accumulate
from typing import Any

from harkara_billing.ledger import Ledger, Transfer, share
from harkara_chassis.database import Connection

HOLD_COLUMNS = """
attempt_id, day, account_id, channel, category, units, price_mp, planned_on, state, decided_at,
held_line, ended_line, refunded_line
"""

# In each part a name in braces is a parameter.
_KNOWN = """
WITH locked AS MATERIALIZED (
    SELECT version FROM wallet WHERE account_id = ANY({accounts}::text[]) ORDER BY account_id COLLATE "C" FOR UPDATE
), known AS MATERIALIZED (
    SELECT coalesce(array_agg(version) = {versions}::bigint[], false) AS is_so FROM locked
), paid AS (
    UPDATE wallet
    SET available_mp = new.available_mp, held_mp = new.held_mp, lines = new.lines, version = wallet.version + 1
    FROM unnest({accounts}::text[], {available_mp}::bigint[], {held_mp}::bigint[], {lines}::bigint[])
        AS new (account_id, available_mp, held_mp, lines)
    WHERE wallet.account_id = new.account_id AND (SELECT is_so FROM known)
)
"""
_ADDED = f"""
, added AS (
    INSERT INTO hold ({HOLD_COLUMNS})
    SELECT attempt_id, day, account_id, channel, category, units, price_mp, planned_on, state, {{now}}::timestamptz,
        held_line, ended_line, refunded_line
    FROM unnest({{added}}::text[], {{days}}::date[], {{added_accounts}}::text[], {{channels}}::text[],
        {{categories}}::text[], {{units}}::int[], {{prices_mp}}::bigint[], {{planned_on}}::date[], {{states}}::text[],
        {{held_lines}}::bigint[], {{ended_lines}}::bigint[], {{refunded_lines}}::bigint[])
        AS new (attempt_id, day, account_id, channel, category, units, price_mp, planned_on, state,
            held_line, ended_line, refunded_line)
    WHERE (SELECT is_so FROM known)
)
"""  # noqa: S608  # made of a constant
# The ids are given twice: with the join alone, a plan made while the day is young reads all of its rows, and stays.
_MOVED = """
, moved AS (
    UPDATE hold SET state = new.state, ended_line = new.ended_line, refunded_line = new.refunded_line
    FROM unnest({moved}::text[], {before}::text[], {after}::text[], {end_lines}::bigint[], {refund_lines}::bigint[])
        AS new (attempt_id, before, state, ended_line, refunded_line)
    WHERE hold.day = ANY({moved_days}::date[]) AND hold.attempt_id = ANY({moved}::text[])
        AND hold.attempt_id = new.attempt_id AND hold.state = new.before AND (SELECT is_so FROM known)
    RETURNING 1
)
"""
_POSTED = """
, posted AS (
    INSERT INTO transfer (account_id, number, day, wallet_mp, held_mp, revenue_mp, topups_mp,
        kind, reference, amount_mp, units, created_at)
    SELECT account_id, number, {today}::date, wallet_mp, held_mp, revenue_mp, 0, ({kinds}::text[])[first:last],
        ({references}::text[])[first:last], ({amounts_mp}::bigint[])[first:last], ({line_units}::int[])[first:last],
        {now}::timestamptz
    FROM unnest({posted}::text[], {numbers}::bigint[], {to_wallet_mp}::bigint[], {to_held_mp}::bigint[],
        {to_revenue_mp}::bigint[], {firsts}::int[], {lasts}::int[])
        AS new (account_id, number, wallet_mp, held_mp, revenue_mp, first, last)
    WHERE (SELECT is_so FROM known)
)
"""
_COUNTED = """
, counted AS (
    INSERT INTO volume AS v (account_id, month, channel, units)
    SELECT * FROM unnest({counted}::text[], {months}::date[], {month_channels}::text[], {month_units}::bigint[])
    WHERE (SELECT is_so FROM known)
    ON CONFLICT (account_id, month, channel) DO UPDATE SET units = v.units + excluded.units
)
"""
_USED = """
, used AS (
    INSERT INTO usage AS u (account_id, day, channel, category, units, amount_mp)
    SELECT * FROM unnest({used}::text[], {used_days}::date[], {used_channels}::text[], {used_categories}::text[],
        {used_units}::bigint[], {used_mp}::bigint[])
    WHERE (SELECT is_so FROM known)
    ON CONFLICT (account_id, day, channel, category)
    DO UPDATE SET units = u.units + excluded.units, amount_mp = u.amount_mp + excluded.amount_mp
)
"""
_END = "SELECT is_so FROM known"
# Ends the statement, and so undoes all of it, where an attempt was not in the state that it was moved from.
_END_IF_MOVED = """
SELECT is_so, 1 / (NOT is_so OR (SELECT count(*) FROM moved) = cardinality({moved}::text[]))::int FROM known
"""


@dataclass(slots=True)
class _Posting:
    """An account's part of a batch: what it does to each ledger account, and its lines."""

    wallet_mp: int = 0
    held_mp: int = 0
    revenue_mp: int = 0
    lines: list[Transfer] = field(default_factory=list)

    def add(self, transfer: Transfer) -> None:
        self.wallet_mp += share("wallet", transfer.kind) * transfer.amount_mp
        self.held_mp += share("held", transfer.kind) * transfer.amount_mp
        self.revenue_mp += share("revenue", transfer.kind) * transfer.amount_mp
        self.lines.append(transfer)


async def write(connection: Connection, ledger: Ledger) -> bool:
    """Write what was decided; False, and nothing is written, where an account has another version by now.

    Raises:
        asyncpg.UniqueViolationError: an attempt that was taken for new is not.
        asyncpg.DivisionByZeroError: an attempt is not in the state that it was moved from.
    """
    parts = [_KNOWN]
    values = _known(ledger) | {"now": ledger.now}
    if ledger.added:
        parts.append(_ADDED)
        values |= _added(ledger)
    if ledger.moved:
        parts.append(_MOVED)
        values |= _moved(ledger)
    if ledger.transfers:
        parts.append(_POSTED)
        values |= _posted(ledger)
    if ledger.volume_changes:
        parts.append(_COUNTED)
        values |= _counted(ledger)
    if ledger.usage_changes:
        parts.append(_USED)
        values |= _used(ledger)
    parts.append(_END_IF_MOVED if ledger.moved else _END)
    statement, names = _statement(tuple(parts), tuple(values))
    row = await connection.fetchrow(statement, *(values[name] for name in names))
    return row is not None and row[0] is True


@lru_cache(maxsize=64)
def _statement(parts: tuple[str, ...], names: tuple[str, ...]) -> tuple[str, list[str]]:
    """Return the statement of these parts, and the parameters that it has, in their order."""
    text = "".join(parts)
    used = [name for name in names if f"{{{name}}}" in text]
    return text.format(**{name: f"${place}" for place, name in enumerate(used, start=1)}), used


def _known(ledger: Ledger) -> dict[str, Any]:
    accounts = sorted(ledger.changed)
    wallets = [ledger.wallets[account_id] for account_id in accounts]
    return {
        "accounts": accounts,
        "versions": [wallet.version for wallet in wallets],
        "available_mp": [wallet.available_mp for wallet in wallets],
        "held_mp": [wallet.held_mp for wallet in wallets],
        "lines": [wallet.lines for wallet in wallets],
    }


def _added(ledger: Ledger) -> dict[str, Any]:
    holds = list(ledger.added.values())
    return {
        "added": list(ledger.added),
        "days": [hold.day for hold in holds],
        "added_accounts": [hold.account_id for hold in holds],
        "channels": [hold.channel for hold in holds],
        "categories": [hold.category for hold in holds],
        "units": [hold.units for hold in holds],
        "prices_mp": [hold.price_mp for hold in holds],
        "planned_on": [hold.planned_on for hold in holds],
        "states": [hold.state for hold in holds],
        "held_lines": [hold.held_line for hold in holds],
        "ended_lines": [hold.ended_line for hold in holds],
        "refunded_lines": [hold.refunded_line for hold in holds],
    }


def _moved(ledger: Ledger) -> dict[str, Any]:
    holds = [ledger.holds[attempt_id] for attempt_id in ledger.moved]
    return {
        "moved": list(ledger.moved),
        "before": list(ledger.moved.values()),
        "after": [hold.state for hold in holds],
        "end_lines": [hold.ended_line for hold in holds],
        "refund_lines": [hold.refunded_line for hold in holds],
        "moved_days": list({hold.day for hold in holds}),
    }


def _posted(ledger: Ledger) -> dict[str, Any]:
    postings: defaultdict[str, _Posting] = defaultdict(_Posting)
    for transfer in ledger.transfers:
        postings[transfer.account_id].add(transfer)
    of_accounts: Sequence[_Posting] = list(postings.values())
    lines = [line for posting in of_accounts for line in posting.lines]
    lengths = [len(posting.lines) for posting in of_accounts]
    lasts = list(accumulate(lengths))
    return {
        "today": ledger.now.date(),
        "posted": list(postings),
        "numbers": [ledger.wallets[one].lines - len(posting.lines) + 1 for one, posting in postings.items()],
        "to_wallet_mp": [posting.wallet_mp for posting in of_accounts],
        "to_held_mp": [posting.held_mp for posting in of_accounts],
        "to_revenue_mp": [posting.revenue_mp for posting in of_accounts],
        "firsts": [last - length + 1 for last, length in zip(lasts, lengths, strict=True)],
        "lasts": lasts,
        "kinds": [line.kind for line in lines],
        "references": [line.reference for line in lines],
        "amounts_mp": [line.amount_mp for line in lines],
        "line_units": [line.units for line in lines],
    }


def _counted(ledger: Ledger) -> dict[str, Any]:
    volumes = ledger.volume_changes
    return {
        "counted": [account_id for account_id, _, _ in volumes],
        "months": [month for _, month, _ in volumes],
        "month_channels": [channel for _, _, channel in volumes],
        "month_units": list(volumes.values()),
    }


def _used(ledger: Ledger) -> dict[str, Any]:
    usages = ledger.usage_changes
    return {
        "used": [account_id for account_id, _, _, _ in usages],
        "used_days": [day for _, day, _, _ in usages],
        "used_channels": [channel for _, _, channel, _ in usages],
        "used_categories": [category for _, _, _, category in usages],
        "used_units": [usage.units for usage in usages.values()],
        "used_mp": [usage.amount_mp for usage in usages.values()],
    }
