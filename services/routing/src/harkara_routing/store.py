"""Where sagas are kept: one row a message, in daily partitions, written by batches.

The cleared message stands in the row as it came, so that another attempt can be planned from it.
"""

from collections.abc import Iterable, Sequence
from datetime import date, datetime

import asyncpg
from sqlalchemy import ARRAY, Column, DateTime, Index, LargeBinary, Text, text
from sqlmodel import Field, SQLModel

from harkara_chassis.database import Connection, Database
from harkara_contracts.events import MessageCleared
from harkara_contracts.ids import day_of
from harkara_routing.expiry import bucket_of
from harkara_routing.saga import Saga, State

# With those that did expire: a repeated timer must find them again to tell what may not have been told.
_EXPIRING = "('planned', 'waiting', 'unknown', 'expired')"


class SagaRow(SQLModel, table=True):
    """A message's saga; see `saga.py` for what the states mean."""

    __tablename__ = "saga"
    __table_args__ = (Index("saga_open", "expiry", "message_id", postgresql_where=text(f"state IN {_EXPIRING}")),)

    day: date = Field(primary_key=True)
    message_id: str = Field(primary_key=True, sa_type=Text)
    state: str = Field(sa_type=Text)
    attempt: int
    carrier: str = Field(sa_type=Text)
    tried: list[str] = Field(sa_column=Column(ARRAY(Text), nullable=False))
    ended_by: str | None = Field(default=None, sa_type=Text)
    expiry: datetime = Field(sa_type=DateTime(timezone=True))
    cleared: bytes = Field(sa_type=LargeBinary)


_INSERT = """
INSERT INTO saga (day, message_id, state, attempt, carrier, tried, expiry, cleared)
SELECT day, message_id, state, attempt, carrier, '{}', expiry, cleared
FROM unnest($1::date[], $2::text[], $3::text[], $4::int[], $5::text[], $6::timestamptz[], $7::bytea[])
  AS new (day, message_id, state, attempt, carrier, expiry, cleared)
ON CONFLICT DO NOTHING
RETURNING message_id
"""

_COLUMNS = "saga.message_id, state, attempt, carrier, tried, ended_by, cleared"

# Locked in one order, so that two instances never wait for each other in a ring.
_SELECT = f"""
SELECT {_COLUMNS}
FROM saga JOIN unnest($1::date[], $2::text[]) AS wanted (day, message_id) USING (day, message_id)
ORDER BY saga.message_id FOR UPDATE OF saga
"""  # noqa: S608  # made of the constants above

_SELECT_EXPIRED = f"""
SELECT {_COLUMNS} FROM saga
WHERE expiry = $1 AND message_id > $2 AND state IN {_EXPIRING}
ORDER BY message_id LIMIT $3 FOR UPDATE
"""  # noqa: S608  # made of the constants above

_UPDATE = """
UPDATE saga SET state = new.state, attempt = new.attempt, carrier = new.carrier,
  tried = string_to_array(new.tried, ','), ended_by = new.ended_by
FROM unnest($1::date[], $2::text[], $3::text[], $4::int[], $5::text[], $6::text[], $7::text[])
  AS new (day, message_id, state, attempt, carrier, tried, ended_by)
WHERE saga.day = new.day AND saga.message_id = new.message_id
"""


class Store:
    """Reads and writes sagas. Reading locks, so it belongs into the transaction that writes."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def insert(self, sagas: Sequence[Saga]) -> set[str]:
        """Insert new sagas and return the ids of those that were not there before."""
        rows = await self.database.fetch(
            _INSERT,
            [day_of(saga.cleared.message_id) for saga in sagas],
            [saga.cleared.message_id for saga in sagas],
            [saga.state.value for saga in sagas],
            [saga.attempt for saga in sagas],
            [saga.carrier for saga in sagas],
            [bucket_of(saga.cleared.expires_at) for saga in sagas],
            [saga.cleared.__pydantic_serializer__.to_json(saga.cleared, exclude_none=True) for saga in sagas],
        )
        return {row["message_id"] for row in rows}

    async def lock(self, connection: Connection, message_ids: Iterable[str]) -> dict[str, Saga]:
        """Return the sagas of these messages by id, locked until the transaction ends."""
        ids = sorted(set(message_ids))
        return _by_id(await connection.fetch(_SELECT, [day_of(one) for one in ids], ids))

    async def lock_expired(self, connection: Connection, bucket: datetime, after: str, limit: int) -> dict[str, Saga]:
        """Return sagas whose validity ended in this quarter minute without a word, by id from `after` on, locked."""
        return _by_id(await connection.fetch(_SELECT_EXPIRED, bucket, after, limit))

    async def update(self, connection: Connection, sagas: Sequence[Saga]) -> None:
        await connection.execute(
            _UPDATE,
            [day_of(saga.cleared.message_id) for saga in sagas],
            [saga.cleared.message_id for saga in sagas],
            [saga.state.value for saga in sagas],
            [saga.attempt for saga in sagas],
            [saga.carrier for saga in sagas],
            [",".join(saga.tried) for saga in sagas],
            [saga.ended_by for saga in sagas],
        )


def _by_id(rows: Sequence[asyncpg.Record]) -> dict[str, Saga]:
    return {
        row["message_id"]: Saga(
            cleared=MessageCleared.model_validate_json(row["cleared"]),
            state=State(row["state"]),
            attempt=row["attempt"],
            carrier=row["carrier"],
            tried=tuple(row["tried"]),
            ended_by=row["ended_by"],
        )
        for row in rows
    }
