"""The read model in Postgres: two upserts that take any batch in any order, and the queries of the status API.

A batch is one statement: `unnest` costs a twentieth of a row by row. The upsert merges as `read_model.merge` does.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple

from harkara_chassis.database import Database
from harkara_ingress.read_model import (
    ATTEMPT_BY_RANK,
    ATTEMPT_KEY,
    MESSAGE_BY_RANK,
    MESSAGE_KEY,
    AttemptRow,
    AttemptState,
    MessageRow,
    MessageState,
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

# The same reading of attempts as `read_model.message_state` and `cost_mp`, so that a page needs one statement.
_ATTEMPT_SUMMARY = f"""
    SELECT max(CASE WHEN a.rank >= {AttemptState.SENT.value} THEN {MessageState.SENT.value}
                    WHEN a.rank >= {AttemptState.FUNDED.value} THEN {MessageState.SENDING.value} ELSE 0 END) AS shown,
        sum(CASE WHEN a.rank >= {AttemptState.UNKNOWN.value} THEN a.price_mp ELSE 0 END)::bigint AS cost_mp,
        (array_agg(a.units ORDER BY a.number DESC))[1] AS units
    FROM attempt a WHERE a.day = m.day AND a.message_id = m.message_id
"""  # noqa: S608  # numbers from this package only

_PAGE = f"""
    SELECT {_MESSAGE}, greatest(m.rank, coalesce(s.shown, 0)) AS reached, s.cost_mp, s.units
    FROM message m LEFT JOIN LATERAL ({_ATTEMPT_SUMMARY}) s ON true
    WHERE m.account_id = $1
        AND m.day BETWEEN $2 AND $3
        AND m.accepted_at >= $4 AND m.accepted_at < $5
        AND (m.accepted_at, m.message_id) < ($6, $7)
        AND ($8::text IS NULL OR m.correlation_id = $8)
        AND ($9::smallint IS NULL OR greatest(m.rank, coalesce(s.shown, 0)) = $9)
        AND ($10::text IS NULL OR $10 = ANY (string_to_array(m.channels, ',')))
    ORDER BY m.accepted_at DESC, m.message_id DESC
    LIMIT $11
"""  # noqa: S608  # names from this package only


class Listed(NamedTuple):
    """One message of a page: its row, and what its attempts add."""

    row: MessageRow
    state: MessageState
    cost_mp: int
    units: int | None


class Query(NamedTuple):
    """A page of an account's messages, newest first, accepted in [start, end); `before` is the last of the page before."""

    account_id: str
    start: datetime
    end: datetime
    correlation_id: str | None
    state: MessageState | None
    channel: str | None
    before: tuple[datetime, str] | None
    limit: int


class MessageStore:
    """The tables `message` and `attempt`."""

    def __init__(self, database: Database) -> None:
        self._database = database

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
        last_at, last_id = query.before or (query.end, "")
        rows = await self._database.fetch(
            _PAGE,
            query.account_id,
            # An id is made just before its message is accepted, so at midnight its day may be the one before.
            query.start.astimezone(UTC).date() - timedelta(days=1),
            query.end.astimezone(UTC).date(),
            query.start,
            query.end,
            last_at,
            last_id,
            query.correlation_id,
            query.state.value if query.state else None,
            query.channel,
            query.limit,
        )
        width = len(MessageRow._fields)
        listed = []
        for record in rows:
            values = tuple(record.values())
            reached, cost, units = values[width:]
            listed.append(Listed(MessageRow(*values[:width]), MessageState(reached), cost or 0, units))
        return listed
