from datetime import timedelta
from functools import partial

from services.compliance.tests.stories import HOUR, NIGHT, NOON, OPENING, accepted_message

from harkara_compliance.verdict import (
    MAX_TIMER_BYTES,
    MAX_TIMER_MESSAGES,
    Deferral,
    decide,
    messages_of,
    outcomes,
)
from harkara_contracts.errors import ErrorCode
from harkara_contracts.events import (
    MessageAccepted,
    MessageCleared,
    MessageDeferred,
    MessageRejected,
    TimerDue,
)
from harkara_contracts.subjects import Category, Channel
from harkara_registry import Registry

REGISTRY = Registry()


accepted = partial(accepted_message, batch_id="BATCH1")


def test_cleared_carries_all_that_routing_needs() -> None:
    event = accepted(channels=(Channel.WHATSAPP, Channel.SMS))
    decision = decide(REGISTRY, event, NOON)
    assert isinstance(decision, MessageCleared)
    kept = {
        "message_id",
        "account_id",
        "lane",
        "test_mode",
        "correlation_id",
        "batch_id",
        "to",
        "category",
        "expires_at",
    }
    assert {name: getattr(decision, name) for name in kept} == {name: getattr(event, name) for name in kept}
    assert decision.channels == [Channel.SMS]
    assert [refusal.channel for refusal in decision.refusals] == [Channel.WHATSAPP]
    assert decision.sms is not None
    assert decision.sms.text == "Hello"


def test_rejected_says_why_and_for_whom() -> None:
    event = accepted(template="MISSING")
    decision = decide(REGISTRY, event, NOON)
    assert isinstance(decision, MessageRejected)
    assert (decision.error_code, decision.rejected_by) == (ErrorCode.SENDER_NOT_REGISTERED, "compliance")
    assert (decision.to, decision.sender, decision.channel) == (event.to, "HARKRA", Channel.SMS)
    assert decision.correlation_id == "order-1"


def test_what_has_expired_is_not_sent() -> None:
    decision = decide(REGISTRY, accepted(validity=HOUR), NOON + HOUR)
    assert isinstance(decision, MessageRejected)
    assert decision.error_code == ErrorCode.EXPIRED


def test_a_schedule_waits_and_then_goes() -> None:
    event = accepted(send_at=NOON + HOUR)
    assert decide(REGISTRY, event, NOON) == Deferral(event, NOON + HOUR, "scheduled")
    assert isinstance(decide(REGISTRY, event, NOON + HOUR), MessageCleared)


def test_promotion_waits_for_the_window() -> None:
    event = accepted(Category.PROMOTIONAL, at=NIGHT)
    assert decide(REGISTRY, event, NIGHT) == Deferral(event, OPENING, "promotional_window")
    assert isinstance(decide(REGISTRY, event, OPENING), MessageCleared)
    scheduled = accepted(Category.PROMOTIONAL, send_at=NIGHT)
    assert decide(REGISTRY, scheduled, NOON) == Deferral(scheduled, OPENING, "promotional_window")


def test_what_cannot_live_until_it_may_leave_is_refused_at_once() -> None:
    short = decide(REGISTRY, accepted(Category.PROMOTIONAL, at=NIGHT, validity=HOUR), NIGHT)
    assert isinstance(short, MessageRejected)
    assert short.error_code == ErrorCode.OUTSIDE_PROMO_WINDOW
    late = decide(REGISTRY, accepted(send_at=NOON + HOUR, validity=timedelta(0)), NOON)
    assert isinstance(late, MessageRejected)
    assert late.error_code == ErrorCode.EXPIRED


def _timers(events: list[MessageAccepted]) -> list[TimerDue]:
    made = outcomes([decide(REGISTRY, event, NOON) for event in events], NOON)
    deferred = [event.message_id for event in made if isinstance(event, MessageDeferred)]
    assert deferred == [event.message_id for event in events]
    return [event for event in made if isinstance(event, TimerDue)]


def test_one_timer_holds_all_that_wait_for_one_instant() -> None:
    events = [accepted(send_at=NOON + HOUR) for _ in range(100)]
    later = [accepted(send_at=NOON + 2 * HOUR) for _ in range(3)]
    first, second = _timers(events + later)
    assert (first.due_at, second.due_at) == (NOON + HOUR, NOON + 2 * HOUR)
    assert (first.owner, first.lane, first.name) == ("compliance", events[0].lane, "decide")
    read = TimerDue.model_validate_json(first.model_dump_json())
    assert messages_of(read) == events
    assert messages_of(second) == later


def test_a_timer_is_named_by_what_it_holds() -> None:
    events = [accepted(send_at=NOON + HOUR) for _ in range(4)]
    (whole,) = _timers(events)
    (again,) = _timers(events)
    (part,) = _timers(events[:3])
    assert whole.event_id() == again.event_id()
    assert whole.timer_id != part.timer_id


def test_timers_are_bounded() -> None:
    many = _timers([accepted(send_at=NOON + HOUR) for _ in range(MAX_TIMER_MESSAGES + 1)])
    assert sum(len(messages_of(timer)) for timer in many) == MAX_TIMER_MESSAGES + 1
    assert all(len(messages_of(timer)) <= MAX_TIMER_MESSAGES for timer in many)
    long = _timers([accepted(send_at=NOON + HOUR, message="\u0905" * 2000) for _ in range(50)])
    assert len(long) > 1
    assert sum(len(messages_of(timer)) for timer in long) == 50
    assert all(len(timer.model_dump_json()) < 2 * MAX_TIMER_BYTES for timer in long)
