"""Postgres for one service: its own role, its own schema, batches in one statement.

asyncpg directly: a row by `unnest` costs a twentieth of a row by its own statement, and a batch needs one round trip.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import asyncpg
import asyncpg.protocol.protocol as asyncpg_protocol

from harkara_chassis.faults import is_passing

logger = logging.getLogger(__name__)

_CONNECT_TIMEOUT_S = 10.0
_COMMAND_TIMEOUT_S = 30.0
_OUT_OF_POOL_S = 60.0
_DAYS_BEFORE = 2
_DAYS_AHEAD = 7
_PARTITION_CHECK_S = 3_600.0
_FILLFACTOR = 50
"""Nearly every hot row is updated once or twice soon after: room on its own page makes that cheap (a fifth less WAL)."""

# The driver asks of each element of an array whether it is an array itself, and asks two abstract classes: that is half of
# what it costs to write one. Arrays are lists and tuples here, and asking a class of its own is nothing.
for _abstract in ("IterableABC", "SizedABC"):
    setattr(asyncpg_protocol, _abstract, (list, tuple))

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    Connection = PoolConnectionProxy[asyncpg.Record]
    _Base = asyncpg.Connection[asyncpg.Record]
else:
    # The driver's classes are generic for the type checker only.
    Connection = Any
    _Base = asyncpg.Connection


class _Connection(_Base):
    """A connection that is not reset on its way back to the pool: that would cost each batch one more round trip.

    Nothing here leaves session state behind: no SET outside a transaction, no LISTEN, no session locks.
    """

    def get_reset_query(self) -> str:
        return ""


class Database:
    """The pool of one service. The schema is the service's name with `_` for `-`."""

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]", schema: str, size: int) -> None:
        self._pool = pool
        self.schema = schema
        self._room = asyncio.Semaphore(size)
        self._ready: list[tuple[Connection, float]] = []
        self._closing = False

    @classmethod
    async def open(cls, url: str, service: str, size: int = 8) -> "Database":
        """Connect.

        Raises:
            OSError, asyncpg.PostgresError: it cannot be reached, or refuses the role.
        """
        schema = schema_of(service)
        pool = await asyncpg.create_pool(
            url,
            min_size=1,
            max_size=size,
            connection_class=_Connection,
            timeout=_CONNECT_TIMEOUT_S,
            command_timeout=_COMMAND_TIMEOUT_S,
            max_inactive_connection_lifetime=300,
            server_settings={"search_path": schema, "application_name": f"harkara-{service}", "jit": "off"},
        )
        return cls(pool, schema, size)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """Lend a connection; each statement is a transaction of its own.

        To take one from the pool and to give it back starts a task each, which takes twice as long as a short statement. So
        a sound one waits here for the next borrower, and goes back to the pool's care now and then.
        """
        connection, since = await self._borrow()
        is_sound = False
        try:
            yield connection
            is_sound = True
        finally:
            try:
                if is_sound and not self._closing and time.monotonic() - since < _OUT_OF_POOL_S:
                    self._ready.append((connection, since))
                else:
                    await self._pool.release(connection)
            finally:
                self._room.release()

    async def _borrow(self) -> tuple[Connection, float]:
        if self._room.locked():
            async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                await self._room.acquire()
        else:
            await self._room.acquire()
        try:
            while self._ready:
                connection, since = self._ready.pop()
                if _is_open(connection):
                    return connection, since
                await self._pool.release(connection)
            return await self._pool.acquire(timeout=_CONNECT_TIMEOUT_S), time.monotonic()
        except BaseException:
            self._room.release()
            raise

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """Lend a connection inside one transaction, committed at the end, rolled back on an exception."""
        async with self.connection() as connection, connection.transaction():
            yield connection

    async def fetch(self, query: str, *args: Any) -> list[asyncpg.Record]:
        async with self.connection() as connection:
            return await connection.fetch(query, *args)

    async def fetchrow(self, query: str, *args: Any) -> asyncpg.Record | None:
        async with self.connection() as connection:
            return await connection.fetchrow(query, *args)

    async def execute(self, query: str, *args: Any) -> str:
        async with self.connection() as connection:
            return await connection.execute(query, *args)

    async def ensure_partitions(self, tables: tuple[str, ...], today: date | None = None) -> None:
        """Make the daily partitions around today of tables that are `PARTITION BY RANGE (day)`.

        Rows of any other day have a place, too: a message is of the day it was accepted on, and a schedule or a long
        outage may bring it here when that day's partition is gone, or was never made.
        """
        first = (today or datetime.now(UTC).date()) - timedelta(days=_DAYS_BEFORE)
        for table in tables:
            await self._create_partition(table, f"{table}_default", "DEFAULT")
            for offset in range(_DAYS_BEFORE + _DAYS_AHEAD + 1):
                day = first + timedelta(days=offset)
                await self._ensure_partition(table, day)

    async def _ensure_partition(self, table: str, day: date) -> None:
        bounds = f"FOR VALUES FROM ('{day}') TO ('{day + timedelta(days=1)}')"
        await self._create_partition(table, f"{table}_{day:%Y%m%d}", f"{bounds} WITH (fillfactor = {_FILLFACTOR})")

    async def _create_partition(self, table: str, name: str, bounds: str) -> None:
        if await self.fetchrow("SELECT 1 WHERE to_regclass($1) IS NOT NULL", name):
            return
        try:
            await self.execute(f'CREATE TABLE IF NOT EXISTS "{name}" PARTITION OF "{table}" {bounds}')
        except (asyncpg.DuplicateTableError, asyncpg.UniqueViolationError, asyncpg.InvalidObjectDefinitionError):
            logger.debug("another instance made the partition", extra={"partition": name})
        except asyncpg.CheckViolationError:
            logger.warning("rows of this day are in the default partition and stay there", extra={"partition": name})

    async def keep_partitions(self, tables: tuple[str, ...], sleep: Callable[[float], Any] = asyncio.sleep) -> None:
        """Keep partitions existing, for ever."""
        while True:
            await sleep(_PARTITION_CHECK_S)
            try:
                await self.ensure_partitions(tables)
            except Exception as error:
                if not is_passing(error):
                    raise
                logger.warning("partitions are made later", extra={"kind": type(error).__name__})

    async def close(self) -> None:
        """Close, waiting a little for statements in flight."""
        try:
            self._closing = True
            async with asyncio.timeout(5):
                while self._ready:
                    await self._pool.release(self._ready.pop()[0])
                await self._pool.close()
        except TimeoutError:
            self._pool.terminate()


def _is_open(connection: Connection) -> bool:
    try:
        return not connection.is_closed()
    except asyncpg.InterfaceError:
        return False  # the pool knows already that it is lost


def schema_of(service: str) -> str:
    return service.replace("-", "_")
