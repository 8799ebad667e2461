"""Batches in Postgres: what their events told, and what their messages tell of how far they are."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import asyncpg

from harkara_chassis.database import Database
from harkara_contracts.events import BatchAccepted, BatchCancelled, BatchCompleted
from harkara_contracts.ids import day_of_batch
from harkara_ingress.status.read_model import AttemptState, MessageState

BatchFact = BatchAccepted | BatchCancelled | BatchCompleted

FINAL_RANK = MessageState.REJECTED.value
"""From this rank on, a message has come to its end."""

_COLUMNS = (
    "batch_id", "account_id", "lane", "test_mode", "correlation_id", "category", "channels", "template_id", "sender",
    "total", "rejected", "portions", "estimated_credits", "accepted_at", "send_at", "cancelled_at", "completed_at", "counts",
)  # fmt: skip
_NAMES = ", ".join(_COLUMNS)
_KEY = ("batch_id", "account_id", "lane", "test_mode")
_UPSERT = (
    f"INSERT INTO batch ({_NAMES}) VALUES ({', '.join(f'${place}' for place in range(1, len(_COLUMNS) + 1))}) "  # noqa: S608  # names from this module
    "ON CONFLICT (batch_id) DO UPDATE SET "
    + ", ".join(f"{name} = coalesce(batch.{name}, excluded.{name})" for name in _COLUMNS if name not in _KEY)
)

_PAGE = f"""
    SELECT {_NAMES} FROM batch
    WHERE account_id = $1 AND (accepted_at, batch_id) < ($2, $3)
    ORDER BY accepted_at DESC, batch_id DESC LIMIT $4
"""  # noqa: S608  # names from this module

# A message that has ended says so itself; of the others the attempts know more, as in `read_model.message_state`.
_COUNTS = f"""
    SELECT greatest(m.rank, coalesce(s.shown, 0)) AS reached, count(*) AS messages
    FROM message m LEFT JOIN LATERAL (
        SELECT max(CASE WHEN a.rank >= {AttemptState.SENT.value} THEN {MessageState.SENT.value}
                        WHEN a.rank >= {AttemptState.FUNDED.value} THEN {MessageState.SENDING.value} ELSE 0 END) AS shown
        FROM attempt a WHERE a.day = m.day AND a.message_id = m.message_id
    ) s ON m.rank < {FINAL_RANK}
    WHERE m.batch_id = $1 AND m.day = $2
    GROUP BY 1
"""  # noqa: S608  # numbers from this package only

_PROGRESS = f"""
    SELECT count(*) AS messages, count(*) FILTER (WHERE rank >= {FINAL_RANK}) AS ended
    FROM message WHERE batch_id = $1 AND day = $2
"""  # noqa: S608  # a number from this package only


@dataclass(frozen=True, slots=True)
class BatchRow:
    """A batch as its row has it; `total` and `accepted_at` are known of each that is returned."""

    batch_id: str
    account_id: str
    lane: str
    test_mode: bool
    correlation_id: str | None
    category: str
    channels: str
    template_id: str | None
    sender: str | None
    total: int
    rejected: int
    portions: int
    estimated_credits: int
    accepted_at: datetime
    send_at: datetime | None
    cancelled_at: datetime | None = None
    completed_at: datetime | None = None
    counts: dict[str, int] | None = None


class Progress(NamedTuple):
    """How many messages of a batch there are by now, and how many of them have come to their end."""

    messages: int
    ended: int


def row_of(batch: BatchAccepted) -> BatchRow:
    """Make the row of a batch that was accepted a moment ago."""
    return BatchRow(*_accepted_values(batch))


class BatchStore:
    """Queries on `batch`, and on the messages of one."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def learn(self, facts: Iterable[BatchFact]) -> None:
        """Write what events tell, in any order and any number of times."""
        async with self._database.connection() as connection:
            for fact in facts:
                await connection.execute(_UPSERT, *_values(fact))

    async def batch(self, batch_id: str) -> BatchRow | None:
        row = await self._database.fetchrow(
            f"SELECT {_NAMES} FROM batch WHERE batch_id = $1 AND total IS NOT NULL",  # noqa: S608  # constants
            batch_id,
        )
        return _row(row) if row else None

    async def cancelled(self, batch_ids: Iterable[str]) -> dict[str, bool]:
        """Tell of each batch that is known whether it was cancelled; the others are left out."""
        rows = await self._database.fetch(
            """
            SELECT batch_id, cancelled_at IS NOT NULL FROM batch
            WHERE batch_id = ANY($1::text[]) AND total IS NOT NULL
            """,
            list(batch_ids),
        )
        return {row[0]: row[1] for row in rows}

    async def page(self, account_id: str, before: tuple[datetime, str], limit: int) -> list[BatchRow]:
        """Return an account's batches before one, newest first."""
        rows = await self._database.fetch(_PAGE, account_id, *before, limit)
        return [_row(row) for row in rows]

    async def open_batches(self, started_before: datetime, limit: int) -> list[str]:
        """Return batches that are not complete and may have begun to leave, oldest first."""
        rows = await self._database.fetch(
            """
            SELECT batch_id FROM batch
            WHERE completed_at IS NULL AND total IS NOT NULL AND accepted_at < $1
                AND (send_at IS NULL OR send_at < $1 OR cancelled_at IS NOT NULL)
            ORDER BY accepted_at LIMIT $2
            """,
            started_before,
            limit,
        )
        return [row[0] for row in rows]

    async def progress(self, batch_id: str) -> Progress:
        row = await self._database.fetchrow(_PROGRESS, batch_id, day_of_batch(batch_id))
        return Progress(*row) if row else Progress(0, 0)

    async def counts(self, batch_id: str) -> dict[MessageState, int]:
        """Count the messages there are by the state that the status API shows."""
        rows = await self._database.fetch(_COUNTS, batch_id, day_of_batch(batch_id))
        return {MessageState(row[0]): row[1] for row in rows}


def _values(fact: BatchFact) -> Sequence[Any]:
    key = (fact.batch_id, fact.account_id, fact.lane.value, fact.test_mode, fact.correlation_id)
    match fact:
        case BatchAccepted():
            return (*_accepted_values(fact), None, None, None)
        case BatchCancelled():
            return (*key, *[None] * 10, fact.cancelled_at, None, None)
        case BatchCompleted():
            return (*key, *[None] * 11, fact.completed_at, json.dumps(fact.counts))


def _accepted_values(batch: BatchAccepted) -> tuple[Any, ...]:
    return (
        batch.batch_id,
        batch.account_id,
        batch.lane.value,
        batch.test_mode,
        batch.correlation_id,
        batch.category.value,
        ",".join(batch.channels),
        batch.template_id,
        batch.sender,
        batch.total,
        batch.rejected,
        batch.portions,
        batch.estimated_credits,
        batch.accepted_at,
        batch.send_at,
    )


def _row(record: asyncpg.Record) -> BatchRow:
    values = dict(record)
    counts = values.pop("counts")
    return BatchRow(**values, counts=None if counts is None else json.loads(counts))
