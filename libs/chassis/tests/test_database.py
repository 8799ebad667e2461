"""Connections are lent, given back and kept; what broke is not lent again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import asyncpg
import pytest

from harkara_chassis import database as module
from harkara_chassis.database import Database

if TYPE_CHECKING:
    from conftest import Servers

SIZE = 2


@pytest.fixture
async def database(servers: Servers) -> AsyncIterator[Database]:
    opened = await Database.open(servers.database_url("routing"), "routing", size=SIZE)
    yield opened
    await opened.close()


async def backend_of(database: Database) -> int:
    row = await database.fetchrow("SELECT pg_backend_pid()")
    assert row is not None
    return int(row[0])


async def test_the_same_connection_is_lent_again(database: Database) -> None:
    assert await backend_of(database) == await backend_of(database)


async def test_a_connection_goes_back_to_the_pool_now_and_then(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_OUT_OF_POOL_S", -1.0)
    first = await backend_of(database)
    assert database._ready == []
    assert await backend_of(database) == first


async def test_no_more_are_lent_than_there_are_and_all_get_their_turn(database: Database) -> None:
    at_once, most = 0, 0

    async def work() -> None:
        nonlocal at_once, most
        async with database.connection() as connection:
            at_once += 1
            most = max(most, at_once)
            await connection.execute("SELECT pg_sleep(0.01)")
            at_once -= 1

    async with asyncio.timeout(5):
        await asyncio.gather(*(work() for _ in range(10)))
    assert most == SIZE


async def test_who_waits_too_long_is_told(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    async with database.connection(), database.connection():
        monkeypatch.setattr(module, "_CONNECT_TIMEOUT_S", 0.05)
        with pytest.raises(TimeoutError):
            await database.fetch("SELECT 1")
    assert await database.fetch("SELECT 1")


async def test_a_lost_connection_is_replaced(database: Database, servers: Servers) -> None:
    first = await backend_of(database)
    administrator = await asyncpg.connect(servers.admin_database_url)
    await administrator.execute("SELECT pg_terminate_backend($1, 5000)", first)
    await administrator.close()
    async with asyncio.timeout(5):
        while database._ready and module._is_open(database._ready[0][0]):
            await asyncio.sleep(0)  # the loop has yet to hear of it
    for _ in range(2 * SIZE):
        assert await backend_of(database) != first


async def test_a_failed_statement_and_a_cancelled_one_leave_the_pool_whole(database: Database) -> None:
    for _ in range(SIZE + 1):
        with pytest.raises(asyncpg.UndefinedTableError):
            await database.execute("SELECT * FROM nothing_of_this_name")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02), database.transaction() as connection:
                await connection.execute("SELECT pg_sleep(10)")
    rows = await asyncio.gather(*(database.fetchrow("SELECT pg_backend_pid()") for _ in range(SIZE)))
    assert len(rows) == SIZE


async def test_closing_waits_for_what_is_lent(database: Database) -> None:
    lent = asyncio.Event()

    async def work() -> None:
        async with database.connection() as connection:
            lent.set()
            await connection.execute("SELECT pg_sleep(0.1)")

    task = asyncio.create_task(work())
    await lent.wait()
    async with asyncio.timeout(2):
        await database.close()
    await task
    with pytest.raises(asyncpg.InterfaceError):
        await database.fetch("SELECT 1")
