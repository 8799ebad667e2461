"""Two processes of routing with one database: what one remembers is never believed against the row."""

import random
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from services.routing.tests.stories import NOW, cleared, trail

from harkara_chassis.database import Database
from harkara_contracts.carriers import SmppCarrier
from harkara_contracts.events import (
    AttemptDelivered,
    AttemptEvent,
    AttemptFailed,
    AttemptPlanned,
    AttemptUnfunded,
    AttemptUnknown,
    Event,
    MessageCleared,
    MessageDelivered,
    MessageExpired,
    MessageFailed,
    TimerDue,
)
from harkara_routing.handlers import Handlers
from harkara_routing.routes import RouteTable
from harkara_routing.saga import Router, State
from harkara_routing.store import _MOVE, Store


def failed(message: MessageCleared, number: int, *, retriable: bool = False) -> AttemptFailed:
    return AttemptFailed(
        **trail(message, number),
        error_code="ERR_X",
        error_description="x",
        left=not retriable,
        retriable=retriable,
        failed_at=NOW,
    )


def delivered(message: MessageCleared, number: int) -> AttemptDelivered:
    return AttemptDelivered(**trail(message, number), delivered_at=NOW)


def unknown(message: MessageCleared, number: int) -> AttemptUnknown:
    return AttemptUnknown(**trail(message, number), reason="x", occurred_at=NOW)


def unfunded(message: MessageCleared, number: int) -> AttemptUnfunded:
    return AttemptUnfunded(
        **trail(message, number), error_code="ERR_INSUFFICIENT_CREDITS", error_description="x", occurred_at=NOW
    )


def names(events: Sequence[Event]) -> list[str]:
    return sorted(event.event_id() for event in events)


@pytest.fixture
async def database(servers: Any) -> AsyncIterator[Database]:
    opened = await Database.open(servers.database_url("routing"), "routing")
    await opened.ensure_partitions(("saga",))
    yield opened
    await opened.close()


def handlers(database: Database, remembered: int = 100) -> Handlers:
    carriers = [SmppCarrier(name=name, host="127.0.0.1", port=2775, system_id="x") for name in ("jio", "airtel")]
    router = Router(RouteTable(carriers), 5.0)
    return Handlers(Store(database, remembered), router, clock=lambda: NOW, roll=lambda: 0.0)


async def state_of(database: Database, message: MessageCleared) -> tuple[str, int, int]:
    row = await database.fetchrow("SELECT state, attempt, version FROM saga WHERE message_id = $1", message.message_id)
    assert row is not None
    return row[0], row[1], row[2]


async def test_what_is_remembered_is_moved_without_being_read(database: Database) -> None:
    ours, message = handlers(database), cleared()
    await ours.on_cleared([message])
    # Unreadable, so that whoever reads it fails.
    await database.execute("UPDATE saga SET cleared = '' WHERE message_id = $1", message.message_id)
    (told,) = await ours.on_attempts([delivered(message, 1)])
    assert isinstance(told, MessageDelivered)
    assert await state_of(database, message) == (State.DELIVERED, 1, 1)


async def test_an_event_that_memory_knows_nothing_of_is_decided_on_the_row(database: Database) -> None:
    ours, other, message = handlers(database), handlers(database), cleared()
    await ours.on_cleared([message])
    (planned,) = await other.on_attempts([failed(message, 1, retriable=True)])
    assert isinstance(planned, AttemptPlanned)
    (told,) = await ours.on_attempts([failed(message, 2)])
    assert isinstance(told, MessageFailed)
    assert await state_of(database, message) == (State.FAILED, 2, 2)


async def test_a_change_decided_on_an_old_saga_is_decided_anew(database: Database) -> None:
    ours, other, message = handlers(database), handlers(database), cleared()
    await ours.on_cleared([message])
    await other.on_attempts([delivered(message, 1)])
    assert await ours.on_attempts([unknown(message, 1)]) == []
    assert await ours.on_attempts([unfunded(message, 1)]) == []
    assert await state_of(database, message) == (State.DELIVERED, 1, 1)


async def test_of_a_batch_only_what_was_lost_is_decided_anew(database: Database) -> None:
    ours, other = handlers(database), handlers(database)
    messages = [cleared() for _ in range(4)]
    await ours.on_cleared(messages)
    await other.on_attempts([failed(messages[1], 1, retriable=True)])
    told = await ours.on_attempts([delivered(message, 1) for message in messages])
    assert names(told) == sorted(f"{message.message_id}.delivered" for message in messages)
    assert [(await state_of(database, message))[2] for message in messages] == [1, 2, 1, 1]


async def test_a_message_cleared_again_among_new_ones_is_told_again(database: Database) -> None:
    ours, other = handlers(database), handlers(database)
    known, new = cleared(), cleared()
    await ours.on_cleared([known])
    told = await other.on_cleared([known, new])
    assert names([event for event in told if isinstance(event, AttemptPlanned)]) == sorted(
        f"{message.message_id}-1.planned" for message in (known, new)
    )
    assert (await other.on_attempts([delivered(new, 1)]))[0].event == "delivered"


async def test_a_delivery_while_it_expires_is_not_lost(database: Database) -> None:
    ours, other = handlers(database), handlers(database)
    messages = [cleared(), cleared()]
    (*_, timer) = await ours.on_cleared(messages)
    assert isinstance(timer, TimerDue)
    await other.on_attempts([delivered(messages[0], 1)])
    # Messages of other tests end in the same quarter minute.
    told = [event for event in await ours.on_timers([timer]) if isinstance(event, MessageExpired)]
    assert {event.message_id for event in told} & {message.message_id for message in messages} == {
        messages[1].message_id
    }
    (late,) = await other.on_attempts([delivered(messages[1], 1)])
    assert isinstance(late, MessageDelivered)


async def test_memory_is_bounded_and_misses_nothing(database: Database) -> None:
    ours = handlers(database, remembered=2)
    messages = [cleared() for _ in range(5)]
    await ours.on_cleared(messages)
    assert len(list(ours._store.remembered([message.message_id for message in messages]))) == 2
    told = await ours.on_attempts([delivered(message, 1) for message in messages])
    assert len(told) == 5
    assert list(ours._store.remembered([message.message_id for message in messages])) == []


@pytest.mark.parametrize("seed", range(8))
async def test_two_processes_tell_what_one_would(database: Database, seed: int) -> None:
    """Any events in any cut, by either process: each batch tells what a process without any memory tells."""
    draw = random.Random(seed)  # noqa: S311  # drawn again alike, which is the point
    pair = [handlers(database), handlers(database)]
    alone = handlers(database, remembered=0)
    messages = [(cleared(), cleared()) for _ in range(6)]
    await pair[0].on_cleared([first for first, _ in messages])
    await alone.on_cleared([second for _, second in messages])
    makers = [delivered, unknown, failed, unfunded]
    for _ in range(12):
        picks = [(draw.choice(messages), draw.choice(makers), draw.randint(1, 3)) for _ in range(draw.randint(1, 8))]
        retriable = draw.random() < 0.5

        def heard(place: int, picks: list[Any] = picks, retriable: bool = retriable) -> list[AttemptEvent]:
            return [
                make(pair[place], number, retriable=retriable) if make is failed else make(pair[place], number)
                for pair, make, number in picks
            ]

        by_pair = await draw.choice(pair).on_attempts(heard(0))
        by_one = await alone.on_attempts(heard(1))
        renamed = {first.message_id: second.message_id for first, second in messages}
        assert sorted(
            renamed[event.correlation_key()] + event.event_id().removeprefix(event.correlation_key())
            for event in by_pair
            if event.correlation_key() in renamed
        ) == [name for name in names(by_one) if not name.startswith("routing.")]
    for first, second in messages:
        assert await state_of(database, first) == await state_of(database, second)


async def test_a_plan_made_while_the_day_is_young_finds_rows_by_their_ids(database: Database) -> None:
    """It stays in use when the day has millions of rows."""
    async with database.transaction() as connection:
        await connection.execute(
            "CREATE TABLE saga_young PARTITION OF saga FOR VALUES FROM ('2031-01-01') TO ('2031-01-02')"
        )
        await connection.execute(
            f"PREPARE move (date, text[], int[], text[], int[], text[], text[], text[]) AS {_MOVE}"
        )
        rows = await connection.fetch(
            "EXPLAIN EXECUTE move ('2031-01-01', '{a,b}', '{0,0}', '{x,x}', '{1,1}', '{x,x}', '{x,x}', '{x,x}')"
        )
        await connection.execute("DEALLOCATE move")
        await connection.execute("DROP TABLE saga_young")
    plan = "\n".join(row[0] for row in rows)
    assert "saga_young_pkey" in plan
    assert "message_id = ANY" in plan.split("Index Cond", 1)[1].splitlines()[0]
