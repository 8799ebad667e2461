"""When keys were last used, in a real table."""

import asyncio
import time
from datetime import UTC, datetime
from typing import Any

import pytest

from harkara_chassis.clock import now_utc
from harkara_chassis.database import Database
from harkara_contracts.ids import new_account_id, new_id
from harkara_ingress.access.key_use import KeyUse
from harkara_ingress.access.store import AccountRecord, AccountStore, KeyRecord


@pytest.fixture
async def keys(database: Any) -> tuple[AccountStore, str, list[str]]:
    """An account with three keys: the store, the account's id and the keys'."""
    store, account_id, now = AccountStore(database), new_account_id(), now_utc()
    account = AccountRecord(
        account_id, "A", "starter", "active", False, None, None, None, [], False, None, time.time_ns(), now
    )
    made = [
        KeyRecord(new_id("KEY"), account_id, new_id("HASH"), "k", ["read"], False, None, None, None, 1, now)
        for _ in range(3)
    ]
    await store.add_account(account, b"sealed", made[0])
    for key in made[1:]:
        await store.add_key(key, most=len(made))
    return store, account_id, [key.key_id for key in made]


async def last_used(store: AccountStore, account_id: str) -> dict[str, float | None]:
    return {
        key.key_id: key.last_used_at.timestamp() if key.last_used_at else None for key in await store.keys(account_id)
    }


async def test_the_latest_use_of_each_key_is_written(keys: Any) -> None:
    store, account_id, (first, second, third) = keys
    times = iter([100.0, 200.0, 300.0])
    use = KeyUse(store, lambda: next(times))
    for key_id in (first, second, first):
        use.note(key_id)
    await use.write()
    await use.write()
    assert await last_used(store, account_id) == {first: 300.0, second: 200.0, third: None}


async def test_an_earlier_use_that_is_told_later_changes_nothing(keys: Any) -> None:
    store, account_id, (first, *_) = keys
    for at_s in (500.0, 400.0):
        use = KeyUse(store, lambda at_s=at_s: at_s)  # type: ignore[misc]  # the loop's value of now
        use.note(first)
        await use.write()
    assert (await last_used(store, account_id))[first] == 500.0


async def test_keys_that_are_not_in_the_table_are_no_matter(keys: Any) -> None:
    store, account_id, (first, *_) = keys
    use = KeyUse(store, lambda: 100.0)
    use.note("operator")
    use.note(first)
    await use.write()
    assert (await last_used(store, account_id))[first] == 100.0


async def test_processes_that_write_of_the_same_keys_do_not_block_each_other(keys: Any) -> None:
    store, account_id, key_ids = keys
    now = datetime.fromtimestamp(100, UTC)
    orders = [key_ids, key_ids[::-1]] * 20
    await asyncio.gather(*(store.note_use(dict.fromkeys(order, now)) for order in orders))
    assert set((await last_used(store, account_id)).values()) == {100.0}


async def test_what_cannot_be_written_is_kept(keys: Any, servers: Any, caplog: pytest.LogCaptureFixture) -> None:
    store, account_id, (first, second, _) = keys
    gone = await Database.open(servers.database_url("ingress"), "ingress")
    await gone.close()
    use = KeyUse(AccountStore(gone), lambda: 100.0)
    async with use.written_at_the_end():
        use.note(first)
        writing = asyncio.create_task(use.keep_writing(every_s=0.01))
        async with asyncio.timeout(5):
            while "written later" not in caplog.text:
                await asyncio.sleep(0.01)
        assert not writing.done()
        writing.cancel()
        use.note(second)
    assert "not written" in caplog.text
    use._store = store  # the database is back
    await use.write()
    written = await last_used(store, account_id)
    assert (written[first], written[second]) == (100.0, 100.0)
