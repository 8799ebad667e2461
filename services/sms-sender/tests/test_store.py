from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, MetaData
from sqlalchemy.ext.asyncio import create_async_engine

from harkara_chassis.database import Database
from harkara_contracts.events import AttemptFunded
from harkara_contracts.ids import day_of, random_tail
from harkara_sms_sender.attempt import Part, PartState
from harkara_sms_sender.deliveries import InboundText, Word
from harkara_sms_sender.store import InboundPart, Intent, ParkedReceipt, PartKey, Store, Submission

Fund = Callable[..., AttemptFunded]

NOW = datetime.now(UTC)


@pytest.fixture
async def database(servers: Any) -> AsyncIterator[Database]:
    opened = await Database.open(servers.database_url("sms-sender"), "sms-sender")
    await opened.ensure_partitions(("submission",))
    yield opened
    await opened.close()


@pytest.fixture
def store(database: Database) -> Store:
    return Store(database, owner="this process")


def intent(attempt: AttemptFunded, parts: int = 1) -> Intent:
    return Intent(attempt.attempt_id, parts, attempt.carrier, attempt.lane, "HRKARA", attempt.to, "{}")


async def sent(store: Store, attempt: AttemptFunded, key: str) -> PartKey:
    await store.insert_intents([intent(attempt)], NOW)
    place = PartKey(day_of(attempt.attempt_id), attempt.attempt_id, 1)
    await store.record_answers([(place, Part(PartState.SENT, key, key, answered_at=NOW))])
    return place


def word(key: str, attempt: AttemptFunded, state: PartState = PartState.DELIVERED) -> Word:
    return Word("jio", key, state, NOW, key, attempt.to, "HRKARA")


async def test_the_migration_makes_the_tables_that_the_code_declares(servers: Any, database: Database) -> None:
    metadata = MetaData()
    for table in (Submission, ParkedReceipt, InboundPart):
        table.metadata.tables[table.__tablename__].to_metadata(metadata)

    def differences(connection: Connection) -> list[Any]:
        def declared_or_not_a_partition(_: Any, name: str | None, kind: str, *__: Any) -> bool:
            return kind != "table" or not (name or "").startswith(("submission_", "alembic"))

        context = MigrationContext.configure(connection, opts={"include_object": declared_or_not_a_partition})
        return list(compare_metadata(context, metadata))

    url = servers.database_url("sms-sender").replace("postgresql://", "postgresql+asyncpg://", 1)
    settings = {"server_settings": {"search_path": "sms_sender"}}
    engine = create_async_engine(url, connect_args=settings)
    async with engine.connect() as connection:
        assert await connection.run_sync(differences) == []
    await engine.dispose()


async def test_an_intent_is_new_once_and_all_its_parts_with_it(funded: Fund, store: Store) -> None:
    first, second = funded(), funded()
    assert await store.insert_intents([intent(first, parts=3)], NOW) == {first.attempt_id}
    both = [intent(first, parts=3), intent(second)]
    assert await store.insert_intents(both, NOW) == {second.attempt_id}
    attempts = await store.attempts([first.attempt_id, second.attempt_id])
    assert len(attempts[first.attempt_id].parts) == 3


async def test_a_final_word_is_the_last_and_a_repeat_finds_it(funded: Fund, store: Store) -> None:
    attempt, key = funded(), random_tail()
    await sent(store, attempt, key)
    (first,) = await store.apply_words([word(key, attempt)], NOW.date())
    (again,) = await store.apply_words([word(key, attempt, PartState.FAILED)], NOW.date())
    assert (first.changed, again.changed) == (True, False)
    assert first.part.state is again.part.state is PartState.DELIVERED


async def test_an_id_used_again_is_not_taken_for_the_old_message(funded: Fund, store: Store) -> None:
    old, new, key = funded(), funded(), random_tail()
    await sent(store, old, key)
    assert await store.apply_words([word(key, old)], NOW.date())
    assert await store.apply_words([word(key, new)], NOW.date()) == []
    place = await sent(store, new, key)
    (found,) = await store.apply_words([word(key, new)], NOW.date())
    assert found.key == place


async def test_the_receipt_of_a_message_of_last_week_is_found(funded: Fund, store: Store) -> None:
    attempt, key = funded(), random_tail()
    await sent(store, attempt, key)
    (found,) = await store.apply_words([word(key, attempt)], NOW.date() + timedelta(days=7))
    assert found.changed


async def test_a_word_without_a_row_is_not_found(funded: Fund, store: Store) -> None:
    assert await store.apply_words([word(random_tail(), funded())], NOW.date()) == []


async def test_only_one_process_claims_what_another_left(funded: Fund, database: Database, store: Store) -> None:
    attempt = funded()
    await Store(database, owner="dead").insert_intents([intent(attempt)], NOW)
    left = list((await store.attempts([attempt.attempt_id])).values())
    assert await store.claim(left, NOW) == {attempt.attempt_id}
    assert await Store(database, owner="third").claim(left, NOW) == set()
    await store.give_up(left, "why", NOW)  # by the old owner's name: nothing of it is left
    attempts = await store.attempts([attempt.attempt_id])
    assert (attempts[attempt.attempt_id].tries, attempts[attempt.attempt_id].parts[0].state) == (2, "submitting")


async def test_what_this_process_has_in_hand_is_not_open(funded: Fund, database: Database, store: Store) -> None:
    mine, left = funded(), funded()
    await store.insert_intents([intent(mine)], NOW)
    await Store(database, owner="dead").insert_intents([intent(left)], NOW)
    words = [word("1", mine), word("2", left)]
    found = await store.open_parts(words, NOW - timedelta(hours=1))
    assert [key.attempt_id for keys in found.values() for key in keys] == [left.attempt_id]
    assert await store.open_parts(words, NOW + timedelta(hours=1)) == {}


async def test_parked_receipts_are_bounded_by_age_and_number(funded: Fund, store: Store, database: Database) -> None:
    await database.execute("TRUNCATE parked_receipt")
    words = [word(f"K{number}", funded())._replace(said_at=NOW - timedelta(hours=number)) for number in range(6)]
    await store.park(words)
    await store.forget_parked(NOW - timedelta(hours=4, minutes=30), keep=100)
    assert await _parked(database) == ["K0", "K1", "K2", "K3", "K4"]
    await store.forget_parked(NOW - timedelta(days=9), keep=2)
    assert await _parked(database) == ["K0", "K1"]
    await store.unpark(words)
    assert await _parked(database) == []


async def _parked(database: Database) -> list[str]:
    rows = await database.fetch("SELECT receipt_key FROM parked_receipt ORDER BY receipt_key")
    return [row[0] for row in rows]


async def test_the_parts_of_an_older_text_are_not_mixed_in(funded: Fund, store: Store) -> None:
    number = funded().to
    old = InboundText("jio", number, "56161", 7, 2, 1, "old ")
    await store.add_inbound(old, NOW - timedelta(hours=3), NOW - timedelta(hours=4))
    since = NOW - timedelta(hours=1)
    assert len(await store.add_inbound(old._replace(number=2, body="two"), NOW, since)) == 1
    parts = await store.add_inbound(old._replace(body="one "), NOW, since)
    assert [body for body, _ in parts] == ["one ", "two"]
    await store.forget_inbound(NOW + timedelta(seconds=1))
    assert len(await store.add_inbound(old, NOW, since)) == 1
