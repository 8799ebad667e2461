"""Pages and figures over many messages: right to the message, and found by an index."""

import random
import statistics
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import orjson
import pytest

from harkara_contracts.ids import new_account_id, new_batch_id, new_message_id
from harkara_dlt import IST
from harkara_ingress.status import analytics
from harkara_ingress.status.analytics import GroupBy, Range
from harkara_ingress.status.message_search import Query, page_statement
from harkara_ingress.status.message_store import MessageStore
from harkara_ingress.status.read_model import AttemptRow, AttemptState, MessageRow, MessageState

MESSAGES = 20_000
LAST = datetime.now(UTC).replace(microsecond=0)
"""The newest message; each is as much older than the one before as puts them all within two days."""
APART = timedelta(days=2) / MESSAGES
BATCH = range(5_000, 7_000)
"""Those of the batch, all accepted in one moment."""
START, END = LAST - timedelta(days=3), LAST + timedelta(seconds=1)
STATES = (
    [MessageState.DELIVERED] * 900
    + [MessageState.FAILED] * 10
    + [MessageState.EXPIRED] * 5
    + [MessageState.REJECTED] * 4
    + [MessageState.CANCELLED] * 2
    + [MessageState.DEFERRED] * 3
    + [MessageState.ACCEPTED] * 3
    + [MessageState.SENDING] * 3
    + [MessageState.SENT] * 20
)
ERRORS = {
    MessageState.FAILED: "ERR_NUMBER_INACTIVE",
    MessageState.EXPIRED: "ERR_EXPIRED",
    MessageState.REJECTED: "ERR_DND_SUBSCRIBER",
}
SHOWN_BY = {MessageState.SENDING: AttemptState.FUNDED, MessageState.SENT: AttemptState.SENT}


class Made(NamedTuple):
    row: MessageRow
    state: MessageState
    latency_ms: int | None


class Messages(NamedTuple):
    """Messages of one account, newest first, and the batch that some of them belong to."""

    account_id: str
    batch_id: str
    made: list[Made]

    def ids(self, fits: Any) -> list[str]:
        return [one.row.message_id for one in self.made if fits(one)]


def make(account_id: str, batch_id: str, order: random.Random) -> Iterator[Made]:
    """Make messages of every state, delivered after up to a minute; a quarter of them are tests."""
    for place in range(MESSAGES):
        state = order.choice(STATES)
        accepted_at = LAST - (BATCH.start if place in BATCH else place) * APART
        own = MessageState.ACCEPTED if state in SHOWN_BY else state
        ended_at = accepted_at + timedelta(seconds=5)
        latency_ms = order.randrange(60_000) if state is MessageState.DELIVERED else None
        row = MessageRow(
            day=accepted_at.date(),
            message_id=f"TN{accepted_at:%Y%m%d}{new_message_id()[10:]}",
            account_id=account_id,
            test_mode=place % 4 == 0,
            rank=own.value,
            correlation_id=f"order-{place // 3}",
            batch_id=batch_id if place in BATCH else None,
            category=order.choice(["otp", "transactional"]),
            channels="sms" if place % 5 else "whatsapp,sms",
            accepted_at=accepted_at,
            expires_at=accepted_at + timedelta(days=1),
            deferred_until=accepted_at + timedelta(days=1) if state is MessageState.DEFERRED else None,
            deferred_reason=order.choice(["scheduled", "promotional_window"])
            if state is MessageState.DEFERRED
            else None,
            delivered_at=None if latency_ms is None else accepted_at + timedelta(milliseconds=latency_ms),
            failed_at=ended_at if MessageState.REJECTED <= state <= MessageState.FAILED else None,
            channel=None if own is MessageState.ACCEPTED else "sms",
            error_code=ERRORS.get(state),
        )
        yield Made(row, state, latency_ms)


def attempt_of(made: Made) -> AttemptRow:
    return AttemptRow(
        made.row.day, made.row.message_id, 1, made.row.account_id, 1, "sms", "jio", SHOWN_BY[made.state].value,
        units=1, price_mp=22_000,
    )  # fmt: skip


@pytest.fixture(scope="module")
def everything() -> Messages:
    account_id, batch_id = new_account_id(), new_batch_id()
    made = make(account_id, batch_id, random.Random(1))  # noqa: S311  # repeatable
    return Messages(
        account_id, batch_id, sorted(made, key=lambda one: (str(one.row.accepted_at), one.row.message_id), reverse=True)
    )


@pytest.fixture
async def store(database: Any, everything: Messages) -> MessageStore:
    """A store that has them all, and as many of another account."""
    store = MessageStore(database)
    if await store.message(everything.made[0].row.day, everything.made[0].row.message_id) is None:
        other = make(new_account_id(), new_batch_id(), random.Random(2))  # noqa: S311  # as above
        for messages in (everything.made, list(other)):
            rows = sorted((one.row for one in messages), key=lambda row: (row.day, row.message_id))
            for place in range(0, len(rows), 2_000):
                await store.upsert_messages(rows[place : place + 2_000])
            attempts = [attempt_of(one) for one in messages if one.state in SHOWN_BY]
            await store.upsert_attempts(sorted(attempts, key=lambda attempt: (attempt.day, attempt.message_id)))
        await database.execute("ANALYZE message, attempt")
    return store


def query(everything: Messages, **wanted: Any) -> Query:
    return Query(everything.account_id, START, END, **wanted)


async def all_pages(store: MessageStore, wanted: Query) -> list[str]:
    found: list[str] = []
    while page := await store.page(wanted):
        found += [one.row.message_id for one in page]
        last = page[-1].row
        assert last.accepted_at is not None
        wanted = wanted._replace(before=(last.accepted_at, last.message_id))
    return found


@pytest.mark.parametrize("state", [state for state in MessageState if state is not MessageState.READ])
async def test_every_state_is_found(store: MessageStore, everything: Messages, state: MessageState) -> None:
    page = await store.page(query(everything, state=state, limit=200))
    assert [one.row.message_id for one in page] == everything.ids(lambda one: one.state is state)[:200]
    assert {one.state for one in page} == {state}


async def test_pages_lead_through_a_whole_batch(store: MessageStore, everything: Messages) -> None:
    wanted = Query(everything.account_id, START, None, batch_id=everything.batch_id, limit=150)
    assert await all_pages(store, wanted) == everything.ids(lambda one: one.row.batch_id is not None)


async def test_filters_are_together(store: MessageStore, everything: Messages) -> None:
    wanted = query(everything, category="otp", channel="whatsapp", test_mode=False, error_code="ERR_EXPIRED", limit=200)
    expected = everything.ids(
        lambda one: (
            one.row.category == "otp"
            and one.row.channels != "sms"
            and not one.row.test_mode
            and one.row.error_code == "ERR_EXPIRED"
        )
    )
    assert await all_pages(store, wanted) == expected
    assert expected
    scheduled = query(everything, state=MessageState.DEFERRED, deferred_reason="scheduled", limit=200)
    assert await all_pages(store, scheduled) == everything.ids(lambda one: one.row.deferred_reason == "scheduled")


async def test_what_comes_in_between_moves_no_page(store: MessageStore, everything: Messages) -> None:
    wanted = query(everything, correlation_id="order-1000", limit=2)
    first = await store.page(wanted)
    newer = first[0].row._replace(message_id=new_message_id(), accepted_at=LAST, day=LAST.date())
    await store.upsert_messages([newer])
    last = first[-1].row
    assert last.accepted_at is not None
    second = await store.page(wanted._replace(before=(last.accepted_at, last.message_id)))
    found = [one.row.message_id for one in first + second]
    await store._database.execute("DELETE FROM message WHERE message_id = $1", newer.message_id)
    assert found == everything.ids(lambda one: one.row.correlation_id == "order-1000")


class Plan(NamedTuple):
    """What a statement read: rows in all, tables read whole, and the indexes by the names they have on the table."""

    rows: int
    whole: set[str]
    indexes: set[str]


async def plan_of(database: Any, text: str, values: list[Any]) -> Plan:
    names = dict(
        await database.fetch(
            "SELECT part.relname, whole.relname FROM pg_inherits JOIN pg_class part ON part.oid = inhrelid "
            "JOIN pg_class whole ON whole.oid = inhparent WHERE part.relkind = 'i'"
        )
    )
    explained = await database.fetchrow(f"EXPLAIN (ANALYZE, FORMAT JSON) {text}", *values)
    nodes = list(_nodes(orjson.loads(explained[0])[0]["Plan"]))
    scans = [node for node in nodes if "Scan" in node["Node Type"] and node.get("Alias") == "m"]
    return Plan(
        sum(
            int(node["Actual Loops"] * (node["Actual Rows"] + node.get("Rows Removed by Filter", 0))) for node in scans
        ),
        {node["Relation Name"] for node in scans if node["Node Type"] == "Seq Scan" and node["Actual Rows"]},
        {names.get(node["Index Name"], node["Index Name"]) for node in nodes if node.get("Index Name")},
    )


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", ()):
        yield from _nodes(below)


@pytest.mark.parametrize(
    ("wanted", "index", "most"),
    [
        ({}, "message_account_time", 60),
        ({"correlation_id": "order-1000"}, "message_correlation", 10),
        ({"state": MessageState.FAILED}, "message_failed", 300),
        ({"state": MessageState.CANCELLED}, "message_failed", 1_500),
        ({"error_code": "ERR_EXPIRED"}, "message_failed", 600),
        ({"state": MessageState.DEFERRED}, "message_deferred", 100),
    ],
)
async def test_pages_are_found_by_an_index(
    store: MessageStore, database: Any, everything: Messages, wanted: dict[str, Any], index: str, most: int
) -> None:
    plan = await plan_of(database, *page_statement(query(everything, **wanted)))
    assert not plan.whole
    assert index in plan.indexes
    assert plan.rows <= most


@pytest.mark.parametrize(("batch", "index"), [(True, "message_batch"), (False, "message_account_time")])
async def test_a_page_within_a_batch_reads_no_more_than_itself(
    store: MessageStore, database: Any, everything: Messages, batch: bool, index: str
) -> None:
    within = next(place for place, one in enumerate(everything.made) if one.row.batch_id) + len(BATCH) // 2
    row = everything.made[within].row
    assert row.accepted_at is not None
    wanted = query(
        everything, batch_id=everything.batch_id if batch else None, before=(row.accepted_at, row.message_id)
    )
    plan = await plan_of(database, *page_statement(wanted))
    assert (plan.whole, plan.rows <= wanted.limit + 10, index in plan.indexes) == (set(), True, True)
    page = await store.page(wanted)
    assert [one.row.message_id for one in page] == [
        one.row.message_id for one in everything.made[within + 1 : within + 51]
    ]


async def test_figures_read_no_more_than_their_range(store: MessageStore, database: Any, everything: Messages) -> None:
    range_ = Range(everything.account_id, LAST - timedelta(hours=2), END, GroupBy.HOUR, None, test_mode=False)
    plan = await plan_of(database, *analytics.statement(range_))
    assert (plan.whole, plan.rows <= timedelta(hours=2) / APART + 10) == (set(), True)
    assert "message_account_time" in plan.indexes


@pytest.mark.parametrize("group_by", [None, *GroupBy])
@pytest.mark.parametrize("test_mode", [False, True])
async def test_figures_are_those_of_the_messages(
    store: MessageStore, everything: Messages, group_by: GroupBy | None, test_mode: bool
) -> None:
    report = await store.delivery(Range(everything.account_id, START, END, group_by, None, test_mode))
    counted = [one for one in everything.made if one.row.test_mode is test_mode]
    _check(report, counted)
    assert {(e.error_code, e.channel): e.messages for e in report.errors} == Counter(
        (one.row.error_code, "sms") for one in counted if one.row.error_code
    )
    grouped: dict[str, list[Made]] = {}
    for one in counted:
        grouped.setdefault(_group(group_by, one.row), []).append(one)
    assert [group.group for group in report.groups] == (sorted(grouped) if group_by else [])
    for group in report.groups:
        _check(group, grouped[group.group])


async def test_figures_of_one_channel_and_of_nothing(store: MessageStore, everything: Messages) -> None:
    by_whatsapp = await store.delivery(Range(everything.account_id, START, END, None, "whatsapp", test_mode=False))  # type: ignore[arg-type]  # its text does
    expected = [
        one
        for one in everything.made
        if not one.row.test_mode and one.row.channel is None and one.row.channels == "whatsapp,sms"
    ]
    assert by_whatsapp.messages == len(expected) > 0
    nothing = await store.delivery(Range("ACCnobody", START, END, GroupBy.DAY, None, test_mode=False))
    assert (nothing.messages, nothing.delivery_rate, nothing.latency_ms, nothing.groups, nothing.errors) == (
        0, None, None, [], [],
    )  # fmt: skip


def _check(figures: analytics.Figures, messages: list[Made]) -> None:
    counts = Counter(one.state.name.lower() for one in messages)
    assert figures.messages == len(messages)
    assert {state: count for state, count in figures.states.items() if count} == counts
    ended = counts["delivered"] + counts["failed"] + counts["expired"]
    assert figures.delivery_rate == (round(counts["delivered"] / ended, 4) if ended else None)
    latencies = sorted(one.latency_ms for one in messages if one.latency_ms is not None)
    if not latencies:
        assert figures.latency_ms is None
        return
    assert figures.latency_ms is not None
    assert figures.latency_ms.p50 == statistics.median_low(latencies)
    for share, told in ((0.95, figures.latency_ms.p95), (0.99, figures.latency_ms.p99)):
        assert sum(latency <= told for latency in latencies) >= share * len(latencies)
        assert sum(latency < told for latency in latencies) < share * len(latencies)


def _group(group_by: GroupBy | None, row: MessageRow) -> str:
    assert row.accepted_at is not None
    local = row.accepted_at.astimezone(IST)
    if group_by is GroupBy.DAY:
        return f"{local:%Y-%m-%d}"
    if group_by is GroupBy.HOUR:
        return f"{local.replace(minute=0, second=0, microsecond=0).astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
    return row.channel or (row.channels or "").split(",")[0]


async def test_a_usual_life_writes_no_index(database: Any) -> None:
    """What is indexed is set once: an update that changes none of it stays on the row's own page."""
    moved = (
        "SELECT pg_stat_get_xact_tuples_updated(c) - pg_stat_get_xact_tuples_hot_updated(c) "
        "FROM (SELECT 'life'::regclass::oid AS c)"
    )
    async with database.transaction() as connection:
        await connection.execute("CREATE TABLE life (LIKE message INCLUDING INDEXES) ")
        await connection.execute(
            "INSERT INTO life (day, message_id, account_id, test_mode, rank, accepted_at, batch_id) "
            "VALUES (current_date, 'TN1', 'ACC1', false, 10, now(), 'BATCH1')"
        )
        await connection.execute("UPDATE life SET rank = 60, delivered_at = now(), channel = 'sms', carrier = 'jio'")
        await connection.execute("UPDATE life SET rank = 70, read_at = now()")
        assert await connection.fetchval(moved) == 0
        await connection.execute("UPDATE life SET rank = 54, failed_at = now()")
        assert await connection.fetchval(moved) == 1
        await connection.execute("DROP TABLE life")
