import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

from harkara_chassis.clock import now_utc
from harkara_chassis.database import Database
from harkara_contracts.events import BatchAccepted, BatchCancelled, BatchCompleted, Event
from harkara_contracts.ids import day_of_batch, message_id_in, new_account_id, new_batch_id
from harkara_contracts.subjects import Category, Channel, Lane
from harkara_ingress.bulk.progress import Completion, counts_by_name, is_complete, pause_s
from harkara_ingress.bulk.store import BatchStore, Progress, row_of
from harkara_ingress.status.message_store import MessageStore
from harkara_ingress.status.read_model import MessageRow, MessageState

NOW = now_utc()


def accepted(total: int = 3, account_id: str = "ACC1") -> BatchAccepted:
    return BatchAccepted(
        batch_id=new_batch_id(),
        account_id=account_id,
        lane=Lane.TRANSACTIONAL,
        category=Category.TRANSACTIONAL,
        channels=[Channel.SMS],
        total=total,
        rejected=0,
        portions=1,
        estimated_credits=total,
        accepted_at=NOW,
    )


def cancelled(batch: BatchAccepted) -> BatchCancelled:
    return BatchCancelled(
        batch_id=batch.batch_id,
        account_id=batch.account_id,
        lane=batch.lane,
        cancelled_by="client",
        cancelled_at=NOW,
    )


def rows(batch: BatchAccepted, *states: MessageState) -> list[MessageRow]:
    made = [
        MessageRow(
            day_of_batch(batch.batch_id),
            message_id_in(batch.batch_id, place),
            batch.account_id,
            False,
            state,
            batch_id=batch.batch_id,
            accepted_at=NOW,
        )
        for place, state in enumerate(states)
    ]
    return sorted(made, key=lambda row: row.message_id)


def test_a_batch_is_complete_when_all_have_ended() -> None:
    row = row_of(accepted(3))
    assert not is_complete(row, Progress(0, 0), NOW)
    assert not is_complete(row, Progress(2, 2), NOW + timedelta(days=1))
    assert not is_complete(row, Progress(3, 2), NOW)
    assert is_complete(row, Progress(3, 3), NOW)


def test_the_more_is_to_come_the_later_it_is_looked_at_again() -> None:
    row = row_of(accepted(100_000))
    pauses = [pause_s(row, Progress(ended, ended)) for ended in (0, 60_000, 99_000)]
    assert pauses == [25.0, 10.0, 1.0]
    assert pause_s(row_of(accepted(10_000_000)), Progress(0, 0)) == 30.0


def test_those_without_a_message_are_queued() -> None:
    counts = {MessageState.DELIVERED: 2, MessageState.SENDING: 1}
    assert counts_by_name(row_of(accepted(5)), counts) == {"delivered": 2, "sending": 1, "queued": 2}
    assert counts_by_name(row_of(accepted(3)), counts) == {"delivered": 2, "sending": 1}


class Told:
    """What was published."""

    def __init__(self) -> None:
        self.events: list[BatchCompleted] = []
        self.more = asyncio.Event()

    async def publish(self, events: Sequence[Event]) -> int:
        self.events += [event for event in events if isinstance(event, BatchCompleted)]
        self.more.set()
        return 1

    async def of(self, batch: BatchAccepted) -> BatchCompleted:
        async with asyncio.timeout(20):
            while not (found := [event for event in self.events if event.batch_id == batch.batch_id]):
                self.more.clear()
                await self.more.wait()
        return found[0]


@pytest.fixture
def store(database: Database) -> BatchStore:
    return BatchStore(database)


@asynccontextmanager
async def watching(store: BatchStore) -> AsyncIterator[tuple[Completion, Told]]:
    told = Told()
    completion = Completion(store, told.publish)
    running = asyncio.create_task(completion.run())
    yield completion, told
    running.cancel()
    await asyncio.wait([running])


async def test_the_end_is_told_when_the_last_one_ends(store: BatchStore, database: Database) -> None:
    batch = accepted(3)
    messages = MessageStore(database)
    await store.learn([batch])
    async with watching(store) as (completion, told):
        await messages.upsert_messages(rows(batch, MessageState.DELIVERED, MessageState.FAILED))
        completion.touch([batch.batch_id])
        await messages.upsert_messages(rows(batch, *[MessageState.ACCEPTED] * 2, MessageState.EXPIRED))
        completion.touch([batch.batch_id])
        done = await told.of(batch)
    assert (done.total, done.counts) == (3, {"delivered": 1, "failed": 1, "expired": 1})


async def test_what_another_process_left_behind_is_found(store: BatchStore, database: Database) -> None:
    batch, stopped, open_still = accepted(2), accepted(3), accepted(2)
    await store.learn([cancelled(stopped).model_copy(update={"cancelled_at": NOW - timedelta(minutes=1)})])
    await store.learn([batch, stopped, open_still])
    for ended in (batch, stopped):
        await MessageStore(database).upsert_messages(rows(ended, *[MessageState.DELIVERED] * 2))
    await MessageStore(database).upsert_messages(rows(open_still, MessageState.DELIVERED, MessageState.SENT))
    async with watching(store) as (_, told):
        assert (await told.of(batch)).counts == {"delivered": 2}
        assert (await told.of(stopped)).counts == {"delivered": 2, "cancelled": 1}
    assert open_still.batch_id not in {event.batch_id for event in told.events}


async def test_events_of_a_batch_are_learnt_in_any_order_and_again(store: BatchStore) -> None:
    batch = accepted(2, new_account_id())
    done = BatchCompleted(
        batch_id=batch.batch_id,
        account_id=batch.account_id,
        lane=batch.lane,
        total=2,
        counts={"delivered": 2},
        accepted_at=NOW,
        completed_at=NOW,
    )
    await store.learn([cancelled(batch)])
    assert await store.batch(batch.batch_id) is None
    assert await store.cancelled([batch.batch_id]) == {}
    await store.learn([done, batch, batch, cancelled(batch)])
    row: Any = await store.batch(batch.batch_id)
    assert (row.total, row.cancelled_at, row.completed_at, row.counts) == (2, NOW, NOW, {"delivered": 2})
    assert await store.cancelled([batch.batch_id, "BATCHNONE"]) == {batch.batch_id: True}
    assert [one.batch_id for one in await store.page(batch.account_id, (now_utc(), "~"), 5)] == [batch.batch_id]
