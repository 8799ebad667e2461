"""The read model in any order: folded in Python and merged by the database, both must say the same."""

import itertools
import random
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harkara_chassis import envelope, views
from harkara_contracts import consumers
from harkara_contracts import events as e
from harkara_contracts.events import Event
from harkara_contracts.ids import attempt_id, new_message_id
from harkara_contracts.subjects import Category, Channel, Lane
from harkara_ingress.bulk.store import BatchStore
from harkara_ingress.handlers import Handlers
from harkara_ingress.status.message_search import Query
from harkara_ingress.status.message_store import MessageStore
from harkara_ingress.status.read_model import (
    ATTEMPT_VIEWS,
    MESSAGE_VIEWS,
    AttemptRow,
    AttemptState,
    MessageRow,
    MessageState,
    RowView,
    cost_mp,
    fold_attempts,
    fold_messages,
    message_state,
)

START = datetime(2026, 7, 1, 10, 0, 0, 999_999, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


_READ = views.reader({**MESSAGE_VIEWS, **ATTEMPT_VIEWS})


def viewed(events: Sequence[Event]) -> list[Any]:
    """Return events as the read model gets them from the bus."""
    return [one.event for event in events for one in _READ(envelope.encode([event], "/harkara/test"), type(event))[0]]


def message_events(message_id: str, account_id: str = "ACC1", **changes: Any) -> list[RowView[MessageRow]]:
    """Every event a message may see; a real one sees some of them."""
    common: dict[str, Any] = {
        "message_id": message_id,
        "account_id": account_id,
        "lane": Lane.OTP,
        "correlation_id": f"c-{account_id}",
    }
    accepted: dict[str, Any] = {"accepted_at": at(0)} | changes
    outcome = common | {"to": "919876543210", "channel": Channel.SMS, "carrier": "jio", "occurred_at": at(9)}
    error = {"error_code": "ERR_EXPIRED", "error_description": "too late"}
    events = [
        e.MessageAccepted(
            **common | accepted,
            to="919876543210",
            category=Category.OTP,
            channels=[Channel.SMS],
            content=e.Content(),
            expires_at=at(600),
        ),
        e.MessageDeferred(**common, until=at(60), reason="schedule", deferred_at=at(1)),
        e.MessageRejected(
            **outcome, error_code="ERR_DND_SUBSCRIBER", error_description="dnd", rejected_by="compliance"
        ),
        e.MessageExpired(**outcome, **error),
        e.MessageFailed(**outcome | {"carrier": "vi"}, error_code="ERR_NUMBER_INACTIVE", error_description="gone"),
        e.MessageDelivered(**outcome, delivered_at=at(8), latency_ms=8_000),
        e.MessageRead(**outcome, read_at=at(20)),
        e.MessageDeferred(**common, until=at(120), reason="promotional_window", deferred_at=at(60)),
    ]
    return viewed(events)


def attempt_events(message_id: str, number: int = 1, of_message: str | None = None) -> list[RowView[AttemptRow]]:
    trail: dict[str, Any] = {
        "attempt_id": attempt_id(of_message or message_id, number),
        "message_id": message_id,
        "account_id": "ACC1",
        "lane": Lane.OTP,
        "channel": Channel.SMS,
        "carrier": "jio",
        "to": "919876543210",
        "category": Category.OTP,
    }
    failed = trail | {"error_code": "ERR_CARRIER_UNAVAILABLE", "error_description": "away", "failed_at": at(5)}
    events = [
        e.AttemptFunded(**trail, units=2, expires_at=at(600), planned_at=at(2), price_mp=56_000),
        e.AttemptSent(**trail, carrier_message_ids=["1", "2"], sent_at=at(3)),
        e.AttemptUnknown(**trail, reason="time-out", occurred_at=at(4)),
        e.AttemptFailed(**failed, left=False),
        e.AttemptFailed(**failed, left=True),
        e.AttemptDelivered(**trail, delivered_at=at(8), carrier_code="000"),
        e.AttemptRead(**trail, read_at=at(20)),
        e.AttemptUnfunded(**trail, error_code="ERR_INSUFFICIENT_CREDITS", error_description="", occurred_at=at(3)),
    ]
    return viewed(events)


MESSAGE_ID = new_message_id()
Order = st.randoms(use_true_random=False)


@given(st.lists(st.sampled_from(range(8)), min_size=1, max_size=12), Order)
def test_a_message_is_the_same_in_every_order_and_with_repeats(places: list[int], order: random.Random) -> None:
    events = [message_events(MESSAGE_ID)[place] for place in places]
    (expected,) = fold_messages(events)
    order.shuffle(events)
    assert fold_messages(events) == [expected]


@given(st.lists(st.sampled_from([0, 1, 2, 4, 5, 6]), min_size=1, max_size=12), Order)
def test_an_attempt_is_the_same_in_every_order_and_with_repeats(places: list[int], order: random.Random) -> None:
    events = [attempt_events(MESSAGE_ID)[place] for place in places]
    (expected,) = fold_attempts(events)
    order.shuffle(events)
    assert fold_attempts(events) == [expected]


def states(*places: int) -> tuple[str, str | None]:
    (row,) = fold_messages([message_events(MESSAGE_ID)[place] for place in places])
    return MessageState(row.rank).name, row.error_code


def test_a_late_delivery_upgrades_a_failure_and_nothing_lowers_it() -> None:
    assert states(0, 4) == ("FAILED", "ERR_NUMBER_INACTIVE")
    assert states(0, 4, 5) == ("DELIVERED", None)
    assert states(5, 3, 1, 0) == ("DELIVERED", None)
    assert states(6, 5) == ("READ", None)
    (row,) = fold_messages([message_events(MESSAGE_ID)[place] for place in (0, 4, 5)])
    assert (row.failed_at, row.delivered_at, row.carrier) == (None, at(8), "jio")


@pytest.mark.parametrize(
    ("rank", "attempts", "state"),
    [
        (MessageState.ACCEPTED, [], "ACCEPTED"),
        (MessageState.ACCEPTED, [AttemptState.UNFUNDED], "ACCEPTED"),
        (MessageState.DEFERRED, [AttemptState.FUNDED], "SENDING"),
        (MessageState.ACCEPTED, [AttemptState.FAILED_UNSENT, AttemptState.FUNDED], "SENDING"),
        (MessageState.ACCEPTED, [AttemptState.UNKNOWN], "SENDING"),
        (MessageState.ACCEPTED, [AttemptState.FAILED_UNSENT, AttemptState.SENT], "SENT"),
        (MessageState.ACCEPTED, [AttemptState.DELIVERED], "SENT"),
        (MessageState.EXPIRED, [AttemptState.SENT], "EXPIRED"),
        (MessageState.DELIVERED, [AttemptState.FAILED, AttemptState.DELIVERED], "DELIVERED"),
    ],
)
def test_what_attempts_show_of_a_message(rank: int, attempts: list[int], state: str) -> None:
    assert message_state(rank, attempts).name == state


def test_deferred_again_it_waits_for_the_later_time() -> None:
    accepted, first, *_, second = message_events(MESSAGE_ID)
    for order in itertools.permutations((accepted, first, second)):
        (row,) = fold_messages(order)
        assert (row.deferred_until, row.deferred_reason) == (at(120), "promotional_window")


def test_an_attempt_costs_once_a_carrier_may_have_taken_it() -> None:
    funded, sent, unknown, unsent, failed = (event.row().rank for event in attempt_events(MESSAGE_ID)[:5])
    assert [cost_mp(rank, 56_000) for rank in (funded, unsent, unknown, sent, failed)] == [0, 0, 56_000, 56_000, 56_000]
    assert cost_mp(sent, None) == 0


def test_an_attempt_of_another_message_is_refused() -> None:
    event = attempt_events(MESSAGE_ID, of_message=new_message_id())[1]
    with pytest.raises(ValueError, match="attempt's id"):
        fold_attempts([event])


def test_there_is_a_view_of_every_event_that_is_consumed() -> None:
    assert set(MESSAGE_VIEWS) == set(consumers.INGRESS_MESSAGES.events)
    assert set(ATTEMPT_VIEWS) == set(consumers.INGRESS_ATTEMPTS.events)


def batches(events: list[Any], random_source: random.Random) -> Iterator[list[Any]]:
    """Cut events into batches of one or more, with some of them sent twice."""
    queue = events + random_source.sample(events, len(events) // 2)
    random_source.shuffle(queue)
    while queue:
        size = random_source.randint(1, 4)
        yield queue[:size]
        del queue[:size]


async def test_the_database_merges_as_python_does(database: Any) -> None:
    store = MessageStore(database)
    ended = set[str]()
    handlers = Handlers(store, BatchStore(database), ended.update)
    for seed in range(40):
        source = random.Random(seed)  # noqa: S311  # reproducible orders, no secrets
        message_id = new_message_id()
        told = source.sample(message_events(message_id), source.randint(1, 8))
        tried = source.sample([attempt_events(message_id)[place] for place in (0, 1, 2, 4, 5, 6)], source.randint(1, 6))
        for batch in batches(told, source):
            assert await handlers.on_messages(batch) == ()
        for batch in batches(tried, source):
            assert await handlers.on_attempts(batch) == ()
        (expected,) = fold_messages(told)
        assert await store.message(expected.day, message_id) == expected
        assert await store.attempts(expected.day, message_id) == fold_attempts(tried)


async def test_one_statement_takes_many_messages(database: Any) -> None:
    store = MessageStore(database)
    ids = [new_message_id() for _ in range(200)]
    events = list(itertools.chain.from_iterable(message_events(each) for each in ids))
    ended = set[str]()
    await Handlers(store, BatchStore(database), ended.update).on_messages(events)
    assert not ended  # none of them is of a batch
    row = await store.message(fold_messages(events[:8])[0].day, ids[0])
    assert isinstance(row, MessageRow)
    assert MessageState(row.rank) is MessageState.READ


async def test_pages_filter_by_state_and_correlation_and_lead_on(database: Any) -> None:
    store = MessageStore(database)
    account_id = f"ACC{new_message_id()}"
    ids = [new_message_id() for _ in range(5)]
    accepted = [
        message_events(each, account_id, accepted_at=at(number), correlation_id=f"c-{number % 2}")[0]
        for number, each in enumerate(ids)
    ]
    await store.upsert_messages(fold_messages(accepted))
    await store.upsert_attempts(fold_attempts(attempt_events(ids[0])[:2] + attempt_events(ids[0], 2)[:1]))

    # These ids are of today, their messages of a made-up time: the window must cover both.
    now = datetime.now(UTC)
    query = Query(account_id, min(at(0), now), now + timedelta(days=1), limit=3)
    first = await store.page(query)
    assert [one.row.message_id for one in first] == ids[:1:-1]
    assert first[-1].row.accepted_at is not None
    second = await store.page(query._replace(before=(first[-1].row.accepted_at, first[-1].row.message_id)))
    assert [one.row.message_id for one in second] == ids[1::-1]
    assert second[-1][1:] == (MessageState.SENT, 56_000, 2)
    by_state = await store.page(query._replace(state=MessageState.SENT))
    assert [one.row.message_id for one in by_state] == [ids[0]]
    assert await store.page(query._replace(channel="sms")) == first
    assert await store.page(query._replace(channel="rcs")) == []
    by_correlation = await store.page(query._replace(correlation_id="c-1"))
    assert [one.row.message_id for one in by_correlation] == [ids[3], ids[1]]
    assert await store.page(query._replace(account_id="ACCother")) == []
