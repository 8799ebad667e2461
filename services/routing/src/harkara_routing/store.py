"""Where sagas are kept: one row a message, in daily partitions, written by batches.

The cleared message stands in the row as it came, so that another attempt can be planned from it.

No row is ever locked. Every change names the version of the row that it was decided on, and is lost if another process
changed the row meanwhile; then it is decided anew. So what this process wrote last may be remembered: a memory that is out
of date is found out by the write.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from itertools import groupby

import asyncpg
from sqlalchemy import ARRAY, Column, DateTime, Index, LargeBinary, Text
from sqlmodel import Field, SQLModel

from harkara_chassis.database import Database
from harkara_contracts.events import MessageCleared
from harkara_contracts.ids import day_of
from harkara_contracts.subjects import Lane
from harkara_routing.expiry import bucket_of
from harkara_routing.saga import OPEN, Saga, State

_REMEMBERED = 8_192
"""About 25 MB. Sagas that end leave; of those that wait long the oldest are read from their rows again."""
_DAY_LENGTH = len("TN20260131")


class SagaRow(SQLModel, table=True):
    """A message's saga; see `saga.py` for what the states mean."""

    __tablename__ = "saga"
    # Of columns that never change: a change of state then stays on the row's own page.
    __table_args__ = (Index("saga_expiry", "expiry", "lane"),)

    day: date = Field(primary_key=True)
    message_id: str = Field(primary_key=True, sa_type=Text)
    version: int
    state: str = Field(sa_type=Text)
    attempt: int
    carrier: str = Field(sa_type=Text)
    tried: list[str] = Field(sa_column=Column(ARRAY(Text), nullable=False))
    ended_by: str | None = Field(default=None, sa_type=Text)
    expiry: datetime = Field(sa_type=DateTime(timezone=True))
    lane: str = Field(sa_type=Text)
    cleared: bytes = Field(sa_type=LargeBinary)


# Without ON CONFLICT, which takes two tries and two records a row: a message that was here before is rare.
_INSERT = """
INSERT INTO saga (day, message_id, version, state, attempt, carrier, tried, expiry, lane, cleared)
SELECT $1, message_id, 0, state, attempt, carrier, '{}', expiry, lane, cleared
FROM unnest($2::text[], $3::text[], $4::int[], $5::text[], $6::timestamptz[], $7::text[], $8::bytea[])
  AS new (message_id, state, attempt, carrier, expiry, lane, cleared)
"""
_INSERT_NEW = f"{_INSERT} ON CONFLICT DO NOTHING RETURNING message_id"

_COLUMNS = "message_id, version, state, attempt, carrier, tried, ended_by, cleared"

# One day a statement, here as below: only that day's partition is looked into.
_SELECT = f"SELECT {_COLUMNS} FROM saga WHERE day = $1 AND message_id = ANY($2::text[])"  # noqa: S608  # constants

# With those that did expire: a repeated timer must find them again to tell what may not have been told.
_SELECT_EXPIRED = f"""
SELECT {_COLUMNS} FROM saga
WHERE expiry = $1 AND lane = $2 AND message_id > $3 AND state IN ('planned', 'waiting', 'unknown', 'expired')
ORDER BY message_id LIMIT $4
"""  # noqa: S608  # made of the constants above

# The ids are given twice: with the join alone, a plan made while the day is young reads all of its rows, and stays.
# In the order of the ids, so that two instances seldom wait for each other in a ring (and then one of them tries again).
_MOVE = """
UPDATE saga SET version = saga.version + 1, state = new.state, attempt = new.attempt, carrier = new.carrier,
  tried = string_to_array(new.tried, ','), ended_by = new.ended_by
FROM unnest($2::text[], $3::int[], $4::text[], $5::int[], $6::text[], $7::text[], $8::text[])
  AS new (message_id, version, state, attempt, carrier, tried, ended_by)
WHERE saga.day = $1 AND saga.message_id = ANY($2::text[])
  AND saga.message_id = new.message_id AND saga.version = new.version
RETURNING saga.message_id
"""


@dataclass(frozen=True, slots=True)
class Kept:
    """A saga as its row has it. `version` counts the row's changes."""

    saga: Saga
    version: int


class Store:
    """Reads and writes sagas."""

    def __init__(self, database: Database, remembered: int = _REMEMBERED) -> None:
        self._database = database
        self._room = remembered
        self._memory: dict[str, Kept] = {}

    def remembered(self, message_ids: Iterable[str]) -> Iterator[Kept]:
        """Give those of these sagas that are in memory, as this process wrote them last: rows may be newer."""
        for one in message_ids:
            if (kept := self._memory.get(one)) is not None:
                yield kept

    async def insert(self, sagas: Sequence[Saga]) -> set[str]:
        """Insert new sagas and return the ids of those that were there before, which stay as they are."""
        known: set[str] = set()
        for day, group in _by_day(sagas):
            ids = [saga.cleared.message_id for saga in group]
            columns = (
                ids,
                [saga.state for saga in group],
                [saga.attempt for saga in group],
                [saga.carrier for saga in group],
                [bucket_of(saga.cleared.expires_at) for saga in group],
                [saga.cleared.lane for saga in group],
                [saga.cleared.__pydantic_serializer__.to_json(saga.cleared, exclude_none=True) for saga in group],
            )
            try:
                await self._database.execute(_INSERT, day, *columns)
            except asyncpg.UniqueViolationError:
                new = {row[0] for row in await self._database.fetch(_INSERT_NEW, day, *columns)}
                known.update(set(ids) - new)
            for saga in group:
                if saga.cleared.message_id not in known:
                    self._remember(Kept(saga, 0))
        return known

    async def read(self, message_ids: Iterable[str]) -> list[Kept]:
        """Return the sagas of these messages as their rows have them now; those that are kept no more are left out."""
        found = []
        for prefix, ids in groupby(sorted(message_ids), key=_day_prefix):
            found += _kept(await self._database.fetch(_SELECT, day_of(prefix), list(ids)))
        for kept in found:
            self._remember(kept)
        return found

    async def read_expired(self, lane: Lane, bucket: datetime, after: str, limit: int) -> list[Kept]:
        """Return sagas of a lane whose validity ended in this quarter minute without a word, by id from `after` on."""
        return _kept(await self._database.fetch(_SELECT_EXPIRED, bucket, lane, after, limit))

    async def move(self, changes: Sequence[tuple[Kept, Saga]]) -> set[str]:
        """Write what became of sagas.

        Returns:
            The ids of those that are not as they were taken for: nothing was written about them.
        """
        lost: set[str] = set()
        by_id = {kept.saga.cleared.message_id: (kept, saga) for kept, saga in changes}
        for prefix, group in groupby(sorted(by_id), key=_day_prefix):
            ids = list(group)
            olds, news = zip(*(by_id[one] for one in ids), strict=True)
            rows = await self._database.fetch(
                _MOVE,
                day_of(prefix),
                ids,
                [old.version for old in olds],
                [new.state for new in news],
                [new.attempt for new in news],
                [new.carrier for new in news],
                [",".join(new.tried) for new in news],
                [new.ended_by for new in news],
            )
            if len(rows) < len(ids):
                lost.update(set(ids) - {row[0] for row in rows})
            for one, old, new in zip(ids, olds, news, strict=True):
                self._memory.pop(one, None)
                if one not in lost:
                    self._remember(Kept(new, old.version + 1))
        return lost

    def _remember(self, kept: Kept) -> None:
        """Keep an open saga in mind; of one that has ended there is hardly more to come."""
        if kept.saga.state not in OPEN:
            return
        self._memory[kept.saga.cleared.message_id] = kept
        if len(self._memory) > self._room:
            del self._memory[next(iter(self._memory))]


def _day_prefix(message_id: str) -> str:
    return message_id[:_DAY_LENGTH]


def _by_day(sagas: Collection[Saga]) -> Iterator[tuple[date, list[Saga]]]:
    ordered = sorted(sagas, key=lambda saga: saga.cleared.message_id)
    for prefix, group in groupby(ordered, key=lambda saga: saga.cleared.message_id[:_DAY_LENGTH]):
        yield day_of(prefix), list(group)


def _kept(rows: Iterable[asyncpg.Record]) -> list[Kept]:
    return [
        Kept(
            Saga(
                cleared=MessageCleared.model_validate_json(row["cleared"]),
                state=State(row["state"]),
                attempt=row["attempt"],
                carrier=row["carrier"],
                tried=tuple(row["tried"]),
                ended_by=row["ended_by"],
            ),
            row["version"],
        )
        for row in rows
    ]
