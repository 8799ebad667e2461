import asyncio
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from harkara_contracts.events import Content, Event, MessageAccepted, TimerDue
from harkara_contracts.facts import AccountFact
from harkara_contracts.ids import batch_id_of, message_id_in, new_message_id
from harkara_contracts.subjects import Category, Channel, Lane
from harkara_ingress.access.limits import LocalLimiter, Rate
from harkara_ingress.bulk.feeder import RETRIES_S, Feeder
from harkara_ingress.bulk.portions import Cutter, Entry, read_portion, timers

NOON = datetime(2026, 11, 22, 6, 30, tzinfo=UTC)  # 12:00 in India
CLOSED = datetime(2026, 11, 22, 15, 30, tzinfo=UTC)  # 21:00
OPENS = datetime(2026, 11, 23, 4, 30, tzinfo=UTC)


class World:
    """What the feeder sees: batches, an account, a clock; and what it has published."""

    def __init__(self, now: datetime = NOON, **account: Any) -> None:
        self.now = now
        self.known: dict[str, bool] = {}
        self.account = AccountFact(version=1, account_id="ACC1", name="A", **({"plan": "enterprise"} | account))
        self.published: list[Event] = []
        self.limiter = LocalLimiter(lambda: self.now.timestamp())  # noqa: PLW0108  # the clock moves
        self.pauses_s: list[float] = []
        self.time_s = 0.0
        self.late_s = self.publishing_s = 0.0
        self.feeder = Feeder(
            self,
            lambda _: self.account,
            self.limiter,
            self.publish,
            1_000,
            lambda: self.now,
            self.sleep,
            lambda: self.time_s,
        )

    async def sleep(self, seconds: float) -> None:
        self.pauses_s.append(seconds)
        self.time_s += seconds + self.late_s
        await asyncio.sleep(0)

    async def cancelled(self, batch_ids: Iterable[str]) -> dict[str, bool]:
        return {batch_id: self.known[batch_id] for batch_id in batch_ids if batch_id in self.known}

    async def publish(self, events: Sequence[Event]) -> int:
        self.published.extend(events)
        self.time_s += self.publishing_s
        return 1

    def batch(self, size: int, category: Category = Category.TRANSACTIONAL, *, known: bool = True) -> list[TimerDue]:
        """The timers of a batch that was accepted now."""
        batch_id = batch_id_of(new_message_id())
        if known:
            self.known[batch_id] = False
        prototype = MessageAccepted(
            message_id="",
            account_id="ACC1",
            lane=Lane.PROMOTIONAL if category is Category.PROMOTIONAL else Lane.TRANSACTIONAL,
            batch_id=batch_id,
            to="",
            category=category,
            channels=[Channel.SMS],
            content=Content(sender="HRKARA", template_id="T1"),
            accepted_at=self.now,
            expires_at=self.now + timedelta(days=1),
        )
        cutter = Cutter()
        for place in range(size):
            cutter.add(Entry(place, "919876543210", {}, None))
        return list(timers(prototype, cutter.finish(), self.now, 1_000.0))

    async def feed(self, due: list[TimerDue]) -> tuple[list[str], list[TimerDue]]:
        """Return the messages that left, and the timers that were set anew."""
        self.published.clear()
        await self.feeder.on_timers(due)
        left = [event.message_id for event in self.published if isinstance(event, MessageAccepted)]
        return left, [event for event in self.published if isinstance(event, TimerDue)]

    async def run(self, waiting: list[TimerDue], until: datetime) -> list[tuple[datetime, str]]:
        """Fire timers at their times; return when each message left."""
        left: list[tuple[datetime, str]] = []
        while waiting and (now := min(timer.due_at for timer in waiting)) <= until:
            self.now = max(self.now, now)
            due = [timer for timer in waiting if timer.due_at <= self.now]
            fed, again = await self.feed(due)
            left += [(self.now, message_id) for message_id in fed]
            waiting = [timer for timer in waiting if timer.due_at > self.now] + again
        assert not waiting
        return left


async def test_a_portion_that_is_due_becomes_messages() -> None:
    world = World()
    (timer,) = world.batch(3)
    left, again = await world.feed([timer])
    batch_id = read_portion(timer).batch_id
    assert left == [message_id_in(batch_id, place) for place in range(3)]
    assert not again


async def test_a_full_portion_leaves_piece_by_piece_until_the_next_may_come() -> None:
    world = World()
    left, _ = await world.feed(world.batch(250))
    assert len(left) == 250
    assert world.pauses_s == [0.064] * 3


async def test_a_bulk_gives_way_where_cpu_is_short() -> None:
    world = World()
    world.late_s = 0.05
    await world.feed(world.batch(250))
    assert world.pauses_s == pytest.approx([0.064, *[0.264] * 2])
    world.late_s = 9.0
    world.pauses_s.clear()
    world.now += timedelta(seconds=1)
    await world.feed(world.batch(250))
    assert world.pauses_s == pytest.approx([0.064, *[0.564] * 2])


async def test_publishing_is_part_of_the_pause_unless_it_takes_too_long() -> None:
    world = World()
    for publishing_s, pause_s in ((0.004, 0.06), (0.05, 0.214)):
        world.publishing_s = publishing_s
        world.pauses_s.clear()
        world.now += timedelta(seconds=1)
        await world.feed(world.batch(250))
        assert world.pauses_s == pytest.approx([pause_s] * 3)


async def test_an_account_that_is_fed_slowly_keeps_no_call_waiting() -> None:
    world = World(messages_per_second=10_000)
    due = world.batch(250 * 5)
    left, again = await world.feed(due)
    assert len(left) == 2 * 250
    assert [timer.due_at - NOON for timer in again] == [timedelta(seconds=place * 0.025) for place in range(3)]


async def test_a_portion_again_is_the_same_messages_again() -> None:
    world = World()
    due = world.batch(3)
    assert await world.feed(due) == await world.feed(due)


async def test_a_cancelled_batch_is_dropped() -> None:
    world = World()
    (timer,) = world.batch(3)
    world.known[read_portion(timer).batch_id] = True
    assert await world.feed([timer]) == ([], [])


async def test_a_batch_that_is_not_known_yet_is_waited_for_and_then_given_up(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    waiting = world.batch(3, known=False)
    batch_id = read_portion(waiting[0]).batch_id
    for pause_s in RETRIES_S:
        left, waiting = await world.feed(waiting)
        assert not left
        assert waiting[0].due_at == world.now + timedelta(seconds=pause_s)
        world.now = waiting[0].due_at
    late = waiting
    assert await world.feed(late) == ([], [])
    assert "never accepted" in caplog.text
    world.known[batch_id] = False
    assert len((await world.feed(late))[0]) == 3
    assert sum(RETRIES_S) < 600


@pytest.mark.parametrize(
    ("account", "size", "per_second", "burst"),
    [
        ({"plan": "starter"}, 600, 10, 100),
        ({"plan": "business"}, 3_000, 100, 1_000),
        ({"plan": "enterprise"}, 5_000, 1_000, 500),
        ({"plan": "enterprise", "messages_per_second": 5, "burst": 1}, 60, 5, 1),
    ],
)
async def test_every_message_leaves_once_and_at_the_accounts_rate(
    account: dict[str, Any], size: int, per_second: int, burst: int
) -> None:
    world = World(**account)
    waiting = world.batch(size)
    batch_id = read_portion(waiting[0]).batch_id
    left = await world.run(waiting, NOON + timedelta(hours=2))
    assert sorted(message_id for _, message_id in left) == sorted(message_id_in(batch_id, n) for n in range(size))
    for at in {at for at, _ in left}:
        # Never more than the rate and the burst allow, from any instant on.
        within = [one for one, _ in left if at <= one <= at + timedelta(seconds=10)]
        assert len(within) <= per_second * 10 + burst
    took_s = (left[-1][0] - left[0][0]).total_seconds()
    assert took_s <= size / per_second * 1.2 + 1


async def test_two_bulks_share_one_rate_and_neither_comes_back_too_often() -> None:
    world = World(plan="business")
    left = await world.run(world.batch(2_000) + world.batch(2_000), NOON + timedelta(hours=1))
    assert len({message_id for _, message_id in left}) == len(left) == 4_000
    took_s = (left[-1][0] - left[0][0]).total_seconds()
    assert 30 <= took_s <= 50


async def test_a_bulk_leaves_half_of_the_burst_to_single_sends() -> None:
    world = World(plan="starter")
    await world.feed(world.batch(1_000))
    rate = Rate(10, 1.0, 100)
    taken = [(await world.limiter.take("messages:ACC1", rate)).allowed for _ in range(51)]
    assert taken == [True] * 50 + [False]


async def test_a_bulk_gets_what_single_sends_leave_and_refuses_them_nothing() -> None:
    world = World(plan="starter")
    waiting, left, singles = world.batch(200), 0, list[bool]()
    for tick in range(4 * 80):
        world.now = NOON + timedelta(seconds=tick / 4)
        if tick % 2 == 0:  # six a second, of ten
            singles += [(await world.limiter.take("messages:ACC1", Rate(10, 1.0, 100))).allowed for _ in range(3)]
        due = [timer for timer in waiting if timer.due_at <= world.now]
        fed, again = await world.feed(due)
        left += len(fed)
        waiting = [timer for timer in waiting if timer.due_at > world.now] + again
    assert left == 200
    assert all(singles)


async def test_promotion_waits_for_its_hours_and_does_not_come_all_at_once() -> None:
    world = World(CLOSED)
    left, again = await world.feed(world.batch(500, Category.PROMOTIONAL))
    assert not left
    assert [timer.due_at for timer in again] == [OPENS, OPENS + timedelta(seconds=0.25)]
    world.now = OPENS
    assert len((await world.feed(again[:1]))[0]) == 250


async def test_a_suspended_account_waits() -> None:
    world = World(status="suspended")
    left, (again,) = await world.feed(world.batch(3))
    assert not left
    assert again.due_at > NOON
    world.account = world.account.model_copy(update={"status": "active"})
    assert len((await world.feed([again]))[0]) == 3
