"""Deliveries in a real Postgres: repeats, leases, several sweepers, and a database that goes away in between."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from datetime import datetime, timedelta
from typing import Any

import pytest
from pydantic import SecretStr

from harkara_chassis.clock import now_utc
from harkara_chassis.database import Database
from harkara_chassis.sealing import Sealer
from harkara_contracts.events import Event
from harkara_contracts.ids import new_account_id, new_id
from harkara_contracts.subjects import Lane
from harkara_webhook_dispatcher.delivery import Answer, Delivery, delivery_id_of
from harkara_webhook_dispatcher.directory import Directory
from harkara_webhook_dispatcher.dispatcher import Dispatcher
from harkara_webhook_dispatcher.endpoint import Endpoint
from harkara_webhook_dispatcher.retry import RetryPolicy
from harkara_webhook_dispatcher.settings import Settings
from harkara_webhook_dispatcher.store import Store

POLICY = RetryPolicy((5.0,), 0.0, 60.0)


@pytest.fixture
async def database(servers: Any) -> AsyncIterator[Database]:
    opened = await Database.open(servers.database_url("webhook-dispatcher"), "webhook-dispatcher")
    await opened.ensure_partitions(("delivery",))
    await opened.execute("DELETE FROM delivery")  # sweeps see the whole table
    yield opened
    await opened.close()


@pytest.fixture
def store(servers: Any, database: Database) -> Store:
    return Store(database, Sealer(SecretStr(servers.secret_key)))


async def new_endpoint(store: Store) -> Endpoint:
    made = await store.create(new_account_id(), "http://127.0.0.1:1/", [], "", new_id("CMD"), 5)
    assert made is not None
    return made.endpoint


def delivery_to(endpoint: Endpoint, due_at: datetime | None = None) -> Delivery:
    now = now_utc()
    event_id = new_id("TN")
    return Delivery(
        delivery_id=delivery_id_of(endpoint.webhook_id, event_id, now.date()),
        day=now.date(),
        account_id=endpoint.account_id,
        webhook_id=endpoint.webhook_id,
        event="message.delivered",
        message_id=event_id,
        lane=Lane.PROMOTIONAL,
        body=b'{"a":1}',
        created_at=now,
        next_attempt_at=due_at or now,
    )


async def read(store: Store, delivery: Delivery) -> Delivery:
    found = await store.delivery(delivery.account_id, delivery.delivery_id)
    assert found is not None
    return found


async def test_what_is_written_is_read_again(store: Store) -> None:
    one = delivery_to(await new_endpoint(store))
    one.record(Answer(now_utc(), 12, 500, "answered 500", "oops"), POLICY)
    await store.insert([one])
    assert await read(store, one) == one


async def test_a_repeat_changes_nothing_but_a_late_success_counts(store: Store) -> None:
    one = delivery_to(await new_endpoint(store))
    await store.insert([one])
    repeat = await read(store, one)
    repeat.record(Answer(now_utc(), 12, 500, "answered 500"), POLICY)
    await store.insert([repeat])
    assert (await read(store, one)).attempts == []
    success = await read(store, one)
    success.record(Answer(now_utc(), 12, 200), POLICY)
    await store.insert([success])
    assert (await read(store, one)).state == "delivered"
    await store.insert([one])
    await store.settle([one])
    assert (await read(store, one)).state == "delivered"


async def test_sweepers_take_different_rows_and_leave_the_future_alone(store: Store) -> None:
    endpoint = await new_endpoint(store)
    now = now_utc()
    due = [delivery_to(endpoint, now - timedelta(seconds=1)) for _ in range(100)]
    later = [delivery_to(endpoint, now + timedelta(minutes=1)) for _ in range(5)]
    await store.insert([*due, *later])
    lease_ends_at = now + timedelta(seconds=30)
    claims = await asyncio.gather(*(store.claim(now, lease_ends_at, {}, 30) for _ in range(4)))
    claims.append(await store.claim(now, lease_ends_at, {}, 1000))
    taken = [one.delivery_id for claim in claims for one in claim]
    assert sorted(taken) == sorted(one.delivery_id for one in due)
    assert await store.claim(now, lease_ends_at, {}, 1000) == []
    assert len(await store.claim(lease_ends_at, lease_ends_at + timedelta(seconds=30), {}, 1000)) == 100


async def test_a_long_queue_of_one_endpoint_leaves_room_for_others(store: Store) -> None:
    full, long, short = [await new_endpoint(store) for _ in range(3)]
    await store.insert([delivery_to(endpoint) for endpoint in (full, long, short) for _ in range(20)])
    claimed = await store.claim(
        now_utc(), now_utc() + timedelta(seconds=30), {full.webhook_id: 0, long.webhook_id: 7}, 50
    )
    assert Counter(one.webhook_id for one in claimed) == {long.webhook_id: 7, short.webhook_id: 20}


class Client:
    """Stands for all clients: counts what each webhook-id was sent, and answers when let."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self._changed = asyncio.Condition()
        self.answers = asyncio.Event()
        self.answers.set()

    async def post(self, _: Endpoint, delivery: Delivery) -> Answer:
        async with self._changed:
            self.sent.append(delivery.delivery_id)
            self._changed.notify_all()
        await self.answers.wait()
        return Answer(now_utc(), 1, 200)

    async def until_sent(self, count: int) -> None:
        async with asyncio.timeout(5), self._changed:
            await self._changed.wait_for(lambda: len(self.sent) >= count)


async def publish_nowhere(events: Iterable[Event]) -> int:
    return len(list(events))


async def new_dispatcher(store: Store, client: Client, **changes: Any) -> Dispatcher:
    dispatcher = Dispatcher(store, Directory(store.endpoints), client.post, publish_nowhere, Settings(**changes))
    await dispatcher.refresh()
    return dispatcher


async def test_a_batch_that_comes_again_since_the_database_was_away_is_not_sent_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = await new_endpoint(store)
    client = Client()
    async with await new_dispatcher(store, client) as dispatcher:
        fresh = [delivery_to(endpoint) for _ in range(3)]
        with monkeypatch.context() as patch:

            async def away(_: object) -> None:
                raise ConnectionRefusedError

            patch.setattr(store, "insert", away)
            with pytest.raises(ConnectionRefusedError):
                await dispatcher.dispatch(fresh)
        assert await dispatcher.dispatch(fresh) == []
    assert sorted(client.sent) == sorted(one.delivery_id for one in fresh)
    assert [(await read(store, one)).state for one in fresh] == ["delivered"] * 3


async def test_what_finds_no_room_in_memory_waits_in_the_table(store: Store) -> None:
    endpoint = await new_endpoint(store)
    client = Client()
    client.answers.clear()
    limits = {"webhook_queue_capacity": 2, "webhook_endpoint_concurrency": 1, "webhook_grace_s": 0.05}
    async with await new_dispatcher(store, client, **limits) as dispatcher:
        fresh = [delivery_to(endpoint) for _ in range(5)]
        timers = await dispatcher.dispatch(fresh)
        soonest = min(timer.due_at for timer in timers)
        assert soonest - now_utc() < timedelta(seconds=4)
        spilled = [one for one in fresh if (await read(store, one)).next_attempt_at == soonest]
        assert len(spilled) == 3
        client.answers.set()
        await client.until_sent(2)
        # Its couriers are free again: the sweep that the timer brings takes up what it has room for.
        again = await dispatcher.sweep(soonest)
        assert any(timer.due_at < now_utc() + timedelta(seconds=4) for timer in again)
        await client.until_sent(4)
    assert len(set(client.sent)) == 4


async def test_what_was_due_for_an_endpoint_that_is_gone_is_closed(store: Store, database: Database) -> None:
    endpoint = await new_endpoint(store)
    left = delivery_to(endpoint)
    await store.insert([left])
    await database.execute("DELETE FROM endpoint WHERE webhook_id = $1", endpoint.webhook_id)
    client = Client()
    async with await new_dispatcher(store, client) as dispatcher:
        await dispatcher.sweep(now_utc())
    assert client.sent == []
    closed = await read(store, left)
    assert (closed.state, closed.attempts[0].error) == ("failed", "the endpoint is switched off or deleted")


async def test_failing_is_noted_from_its_beginning_and_only_real_failure_disables(store: Store) -> None:
    endpoint = await new_endpoint(store)
    early, late = now_utc() - timedelta(days=4), now_utc() - timedelta(days=1)
    await store.note_health(endpoint.webhook_id, late)
    await store.note_health(endpoint.webhook_id, early)
    await store.note_health(endpoint.webhook_id, late)
    [found] = await store.endpoints([endpoint.webhook_id])
    assert found.failing_since == early
    by_another = delivery_to(endpoint)
    by_another.record(Answer(now_utc(), 12, 200), POLICY)
    await store.insert([by_another])
    assert await store.disable(endpoint.webhook_id, "only failures", early) is None
    assert (await store.disable(endpoint.webhook_id, "gone", None)) is not None
    assert await store.disable(endpoint.webhook_id, "gone", None) is None
