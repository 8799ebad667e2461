"""One message that waits, through any order of what can happen to it: repeats, ends between two steps, cancelling.

Whatever the order, in the end it has left or was cancelled, never both and never neither, and who asked was told which.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harkara_compliance.cancelling import Canceller
from harkara_compliance.handlers import MessageHandlers
from harkara_compliance.store import Store
from harkara_compliance.waiting import Waiting
from harkara_contracts.commands import CancelMessage
from harkara_contracts.errors import ErrorCode, HarkaraError
from harkara_contracts.events import (
    BatchCancelled,
    Content,
    Event,
    MessageAccepted,
    MessageCancelled,
    MessageCleared,
    TimerDue,
)
from harkara_contracts.ids import new_batch_id, new_message_id
from harkara_contracts.subjects import Category, Channel, lane_of
from harkara_registry import Registry

MORNING = datetime(2026, 3, 1, 4, 30, tzinfo=UTC)  # 10:00 IST
HOUR = timedelta(hours=1)


class CutShortError(Exception):
    """The process ends before it could publish."""


@dataclass
class World:
    """The bus as one message sees it: what was published stays there and may come again; nothing is lost."""

    event: MessageAccepted
    now: datetime
    is_cut_short: bool = False
    published: list[Event] = field(default_factory=list)
    timers: list[TimerDue] = field(default_factory=list)
    unread_timers: list[TimerDue] = field(default_factory=list)
    is_accepted_handled: bool = False
    is_told_done: bool = False
    is_told_left: bool = False
    is_batch_cancelled: bool = False
    is_batch_handled: bool = False

    async def publish(self, events: Sequence[Event]) -> int:
        if self.is_cut_short:
            raise CutShortError
        for event in events:
            self.published.append(event)
            if isinstance(event, TimerDue) and all(event.event_id() != known.event_id() for known in self.timers):
                self.timers.append(event)
                self.unread_timers.append(event)
        return len(self.published)

    def ids(self, kind: type[Event]) -> set[str]:
        return {event.event_id() for event in self.published if isinstance(event, kind)}


class Process:
    """Compliance, of which each step may be its last."""

    def __init__(self, world: World, store: Store, waiting: Waiting) -> None:
        self._world = world
        self._canceller = Canceller(waiting, world.publish, lambda: world.now)
        self._handlers = MessageHandlers(Registry(), store, waiting, self._canceller, lambda: world.now)

    async def accepted(self) -> None:
        await self._world.publish(await self._handlers.on_messages([self._world.event]))
        self._world.is_accepted_handled = True

    async def timer(self, timer: TimerDue) -> None:
        await self._world.publish(await self._handlers.on_timers([timer]))
        if timer in self._world.unread_timers:
            self._world.unread_timers.remove(timer)

    async def cancel(self) -> None:
        event = self._world.event
        command = CancelMessage(command_id="CMD1", account_id=event.account_id, message_id=event.message_id)
        try:
            await self._canceller.cancel_message(command)
        except HarkaraError as refusal:
            self._world.is_told_left |= refusal.code is ErrorCode.CONFLICT
        else:
            self._world.is_told_done = True

    async def cancel_batch(self) -> None:
        event, world = self._world.event, self._world
        world.is_batch_cancelled = True
        batch = BatchCancelled(
            batch_id=event.batch_id or "",
            account_id=event.account_id,
            lane=event.lane,
            cancelled_by="KEY1",
            cancelled_at=world.now,
        )
        await self._canceller.on_batches([batch])
        world.is_batch_handled = True

    async def tell(self) -> None:
        await self._canceller.tell()


STEPS = st.sampled_from(["accepted", "timer", "timer", "cancel", "batch", "tell", "wait", "wait"])
PLANS = st.lists(st.tuples(STEPS, st.booleans(), st.sampled_from([0.2, 1.0, 5.0, 13.0])), max_size=14)


async def take(step: str, hours: float, world: World, process: Process) -> None:
    due = [timer for timer in world.timers if timer.due_at <= world.now]
    left_at_once = bool(world.ids(MessageCleared)) and not world.timers
    match step:
        # A promotion that left at once, and of which a copy is handled after the hours have closed, waits once more. It
        # does no harm at ten o'clock, but can be cancelled till then; nothing is written of what leaves at once.
        case "accepted" if not left_at_once:
            await process.accepted()
        case "timer" if due:
            await process.timer(due[int(hours) % len(due)])
        case "cancel":
            await process.cancel()
        case "batch":
            await process.cancel_batch()
        case "tell":
            await process.tell()
        case "wait":
            world.now += hours * HOUR


async def come_to_rest(world: World, process: Process) -> None:
    """Let everything be handled that somebody still owes."""
    world.is_cut_short = False
    if not world.is_accepted_handled:
        await process.accepted()
    if world.is_batch_cancelled and not world.is_batch_handled:
        await process.cancel_batch()
    while world.unread_timers:
        timer = world.unread_timers[0]
        world.now = max(world.now, timer.due_at)
        await process.timer(timer)
    await process.tell()


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(plan=PLANS, is_promotion=st.booleans(), first_hour=st.integers(-16, 10))
async def test_it_leaves_or_is_cancelled_whatever_happens(
    store: Store,
    waiting: Waiting,
    plan: list[tuple[str, bool, float]],
    is_promotion: bool,
    first_hour: int,
) -> None:
    category = Category.PROMOTIONAL if is_promotion else Category.TRANSACTIONAL
    at = MORNING + first_hour * HOUR
    event = MessageAccepted(
        message_id=new_message_id(),
        account_id="ACC1",
        lane=lane_of(category),
        test_mode=True,
        batch_id=new_batch_id(),
        to="919876543210",
        category=category,
        channels=[Channel.SMS],
        content=Content(sender="HARKRA", template_id="SANDBOX_FREE", message="Hello"),
        accepted_at=at,
        expires_at=at + timedelta(days=30),
        send_at=None if is_promotion else at + 2 * HOUR,
    )
    world = World(event, at)
    process = Process(world, store, waiting)
    for step, is_cut_short, hours in plan:
        world.is_cut_short = is_cut_short
        try:
            await take(step, hours, world, process)
        except CutShortError:
            process = Process(world, store, waiting)
    await come_to_rest(world, process)

    left, cancelled = world.ids(MessageCleared), world.ids(MessageCancelled)
    assert (left, cancelled) in [({f"{event.message_id}.cleared"}, set()), (set(), {f"{event.message_id}.cancelled"})]
    if world.is_told_done:
        assert cancelled
    if world.is_told_left:
        assert left
