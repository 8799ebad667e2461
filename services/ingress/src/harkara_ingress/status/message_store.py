"""The read model in Postgres: two upserts that take any batch in any order, and the queries of the status API.

A batch is one statement: `unnest` costs a twentieth of a row by row. The upsert merges as `read_model.merge` does.
"""

import asyncio
from collections.abc import Iterator, Sequence
from datetime import date
from typing import Any

from harkara_chassis.database import Database
from harkara_contracts.errors import ErrorCode, HarkaraError
from harkara_ingress.status.analytics import DeliveryReport, Range, report, statement
from harkara_ingress.status.message_search import Listed, Query, page_statement
from harkara_ingress.status.read_model import (
    ATTEMPT_BY_RANK,
    ATTEMPT_KEY,
    DEFERRAL,
    MESSAGE_BY_RANK,
    MESSAGE_KEY,
    AttemptRow,
    MessageRow,
)

_TYPES = {
    "day": "date",
    "number": "smallint",
    "hop": "smallint",
    "rank": "smallint",
    "test_mode": "boolean",
    "units": "integer",
    "price_mp": "bigint",
}
_SEARCH_TIMEOUT_S = 20.0
_SEARCHES_AT_ONCE = 3
_ALWAYS_KNOWN = frozenset({"account_id", "test_mode", "hop"})


def _is_instant(column: str) -> bool:
    return column.endswith("_at") or column == "deferred_until"


def _type(column: str) -> str:
    if _is_instant(column):
        # As seconds they are exact to the microsecond, and the driver writes them in a fifth of the time.
        return "float8"
    # Every event of an attempt names its channel and carrier; those of a message are what its outcome told.
    return _TYPES.get(column, "text")


def _upsert(table: str, columns: Sequence[str], key: Sequence[str], by_rank: frozenset[str]) -> str:
    arrays = ", ".join(f"${place}::{_type(column)}[]" for place, column in enumerate(columns, 1))
    merges = [f"rank = greatest({table}.rank, excluded.rank)"]
    for column in columns:
        if column in by_rank:
            merges.append(
                f"{column} = CASE WHEN excluded.rank > {table}.rank THEN excluded.{column} ELSE {table}.{column} END"
            )
        elif column in DEFERRAL:
            # Compared with NULL, the later is neither: then the one that is known counts.
            merges.append(
                f"{column} = CASE WHEN excluded.deferred_until > {table}.deferred_until THEN excluded.{column} "
                f"ELSE coalesce({table}.{column}, excluded.{column}) END"
            )
        elif column not in key and column not in _ALWAYS_KNOWN and column != "rank":
            merges.append(f"{column} = coalesce({table}.{column}, excluded.{column})")
    names = ", ".join(columns)
    values = ", ".join(f"to_timestamp({column})" if _is_instant(column) else column for column in columns)
    return (
        f"INSERT INTO {table} ({names}) SELECT {values} FROM unnest({arrays}) AS told ({names}) "  # noqa: S608  # names from this package only
        f"ON CONFLICT ({', '.join(key)}) DO UPDATE SET {', '.join(merges)}"
    )


def _columns(rows: Sequence[MessageRow] | Sequence[AttemptRow]) -> Iterator[Sequence[Any] | None]:
    """Turn rows into columns. One that nobody knows is NULL as a whole, which `unnest` takes for as many NULLs."""
    for name, column in zip(rows[0]._fields, zip(*rows, strict=True), strict=True):
        if column.count(None) == len(column):
            yield None
        elif _is_instant(name):
            yield [None if instant is None else instant.timestamp() for instant in column]
        else:
            yield column


_UPSERT_MESSAGES = _upsert("message", MessageRow._fields, MESSAGE_KEY, MESSAGE_BY_RANK)
_UPSERT_ATTEMPTS = _upsert("attempt", AttemptRow._fields, ATTEMPT_KEY, ATTEMPT_BY_RANK)
_MESSAGE = ", ".join(f"m.{name}" for name in MessageRow._fields)
_ATTEMPT = ", ".join(AttemptRow._fields)


class MessageStore:
    """The tables `message` and `attempt`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._searching = asyncio.Semaphore(_SEARCHES_AT_ONCE)

    async def upsert_messages(self, rows: Sequence[MessageRow]) -> None:
        """Merge rows into the table; they come folded (one a key) and sorted by key."""
        await self._database.execute(_UPSERT_MESSAGES, *_columns(rows))

    async def upsert_attempts(self, rows: Sequence[AttemptRow]) -> None:
        """Merge rows into the table; they come folded (one a key) and sorted by key."""
        await self._database.execute(_UPSERT_ATTEMPTS, *_columns(rows))

    async def message(self, day: date, message_id: str) -> MessageRow | None:
        row = await self._database.fetchrow(
            f"SELECT {_MESSAGE} FROM message m WHERE m.day = $1 AND m.message_id = $2",  # noqa: S608  # constants
            day,
            message_id,
        )
        return MessageRow(*row.values()) if row else None

    async def attempts(self, day: date, message_id: str) -> list[AttemptRow]:
        rows = await self._database.fetch(
            f"SELECT {_ATTEMPT} FROM attempt WHERE day = $1 AND message_id = $2 ORDER BY number",  # noqa: S608  # constants
            day,
            message_id,
        )
        return [AttemptRow(*row.values()) for row in rows]

    async def page(self, query: Query) -> list[Listed]:
        """Return a page.

        Raises:
            HarkaraError: ERR_UNAVAILABLE, it takes too long to find.
        """
        return [Listed.of(tuple(row.values())) for row in await self._search(*page_statement(query))]

    async def delivery(self, wanted: Range) -> DeliveryReport:
        """Return the figures of a range.

        Raises:
            HarkaraError: ERR_UNAVAILABLE, it takes too long to count.
        """
        return report(wanted, [tuple(row.values()) for row in await self._search(*statement(wanted))])

    async def _search(self, text: str, values: Sequence[Any]) -> Sequence[Any]:
        """Read what may be much: a few at a time, so that those who follow the events always find a connection."""
        try:
            async with asyncio.timeout(_SEARCH_TIMEOUT_S), self._searching:
                return await self._database.fetch(text, *values)
        except TimeoutError as error:
            raise HarkaraError(
                ErrorCode.UNAVAILABLE,
                "There is too much to look through at once. Ask for a shorter range, or try later.",
            ) from error
