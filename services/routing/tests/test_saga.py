"""The saga's rules: every order of what may be heard of a message ends in one story."""

from datetime import timedelta
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from services.routing.tests.stories import NOW, cleared, trail

from harkara_contracts.carriers import SmppCarrier
from harkara_contracts.events import (
    AttemptDelivered,
    AttemptEvent,
    AttemptFailed,
    AttemptPlanned,
    AttemptUnfunded,
    AttemptUnknown,
    MessageDelivered,
    MessageExpired,
    MessageFailed,
    MessageRejected,
)
from harkara_contracts.facts import CarrierHealthFact
from harkara_contracts.subjects import Channel
from harkara_routing.expiry import bucket_of
from harkara_routing.routes import RouteTable
from harkara_routing.saga import OPEN, Router, Saga, State

A = TypeVar("A", bound=AttemptEvent)


def carrier(name: str, weight: int = 50, *, sandbox: bool = False) -> SmppCarrier:
    return SmppCarrier(name=name, weight=weight, sandbox=sandbox, host="127.0.0.1", port=2775, system_id="x")


def router(*carriers: SmppCarrier) -> Router:
    return Router(RouteTable(carriers or (carrier("jio"), carrier("airtel"), carrier("sandbox", sandbox=True))), 5.0)


def heard(kind: type[A], saga: Saga, number: int = 1, **more: Any) -> A:
    return kind(**trail(saga.cleared, number, saga.carrier), **more)


def failed(saga: Saga, number: int = 1, *, left: bool, retriable: bool) -> AttemptFailed:
    return heard(
        AttemptFailed,
        saga,
        number,
        error_code="ERR_X",
        error_description="x",
        left=left,
        retriable=retriable,
        failed_at=NOW,
    )


def delivered(saga: Saga, number: int = 1) -> AttemptDelivered:
    return heard(AttemptDelivered, saga, number, delivered_at=NOW + timedelta(seconds=3))


def test_a_cleared_message_is_planned_with_its_parts_as_units() -> None:
    step = router().begin(cleared(parts=2), NOW, 0.1)
    (event,) = step.events
    assert isinstance(event, AttemptPlanned)
    assert (event.units, event.carrier, step.saga.state) == (2, "jio", State.PLANNED)


@pytest.mark.parametrize(("roll", "expected"), [(0.0, "jio"), (0.49, "jio"), (0.51, "airtel"), (0.999, "airtel")])
def test_carriers_share_by_weight(roll: float, expected: str) -> None:
    assert router().begin(cleared(), NOW, roll).saga.carrier == expected


def test_test_messages_go_by_the_sandbox_only() -> None:
    assert router().begin(cleared(test_mode=True), NOW, 0.5).saga.carrier == "sandbox"


def test_no_carrier_for_the_channel_is_told_at_once() -> None:
    (event,) = router(carrier("sandbox", sandbox=True)).begin(cleared(), NOW, 0.5).events
    assert isinstance(event, MessageRejected)
    assert event.error_code == "ERR_CARRIER_UNAVAILABLE"


def test_an_unhealthy_carrier_is_not_chosen_until_it_is_well() -> None:
    routes = router()
    health = CarrierHealthFact(version=1, channel=Channel.SMS, carrier="jio", healthy=False, changed_at=NOW)
    routes.routes.apply(health)
    assert routes.begin(cleared(), NOW, 0.0).saga.carrier == "airtel"
    routes.routes.apply(health.model_copy(update={"healthy": True}))
    assert routes.begin(cleared(), NOW, 0.0).saga.carrier == "jio"


def test_a_retriable_failure_goes_to_another_carrier_then_waits_and_begins_anew() -> None:
    rules = router()
    first = rules.begin(cleared(), NOW, 0.0).saga
    second = rules.on_attempt(first, failed(first, left=False, retriable=True), NOW, 0.0)
    assert second.saga.carrier == "airtel"
    assert second.events[0].event_id().endswith("-2.planned")
    third = rules.on_attempt(second.saga, failed(second.saga, 2, left=False, retriable=True), NOW, 0.0)
    assert (third.saga.state, third.events) == (State.WAITING, ())
    assert third.wake_at == NOW + timedelta(seconds=5)
    again = rules.wake(third.saga, third.wake_at, 0.0)
    assert again.events[0].event_id().endswith("-3.planned")
    fourth = rules.on_attempt(again.saga, failed(again.saga, 3, left=False, retriable=True), NOW, 0.0)
    fifth = rules.on_attempt(fourth.saga, failed(fourth.saga, 4, left=False, retriable=True), NOW, 0.0)
    assert fifth.wake_at == NOW + timedelta(seconds=10)


def test_a_failure_after_it_left_is_final_however_retriable() -> None:
    saga = router().begin(cleared(), NOW, 0.0).saga
    step = router().on_attempt(saga, failed(saga, left=True, retriable=True), NOW, 0.0)
    assert isinstance(step.events[0], MessageFailed)
    assert step.saga.state is State.FAILED


def test_latency_is_from_acceptance_to_the_handset() -> None:
    saga = router().begin(cleared(), NOW, 0.0).saga
    (event,) = router().on_attempt(saga, delivered(saga), NOW, 0.0).events
    assert isinstance(event, MessageDelivered)
    assert event.latency_ms == 3000


def test_an_unfunded_attempt_rejects_the_message() -> None:
    saga = router().begin(cleared(), NOW, 0.0).saga
    unfunded = heard(
        AttemptUnfunded, saga, error_code="ERR_INSUFFICIENT_CREDITS", error_description="top up", occurred_at=NOW
    )
    (event,) = router().on_attempt(saga, unfunded, NOW, 0.0).events
    assert isinstance(event, MessageRejected)
    assert event.rejected_by == "billing"


def test_an_expired_message_that_is_delivered_late_is_delivered() -> None:
    rules = router()
    saga = rules.begin(cleared(), NOW, 0.0).saga
    ended = rules.expire(saga, NOW)
    assert isinstance(ended.events[0], MessageExpired)
    late = rules.on_attempt(ended.saga, delivered(saga), NOW, 0.0)
    assert isinstance(late.events[0], MessageDelivered)
    assert rules.expire(late.saga, NOW).events == ()


def test_an_attempt_of_unknown_fate_ends_with_its_message_and_tells_so_again() -> None:
    rules = router()
    saga = rules.begin(cleared(), NOW, 0.0).saga
    unknown = rules.on_attempt(saga, heard(AttemptUnknown, saga, reason="x", occurred_at=NOW), NOW, 0.0).saga
    step = rules.expire(unknown, NOW)
    again = rules.expire(step.saga, NOW)
    for told in (step.events, again.events):
        expired, failure = told
        assert isinstance(expired, MessageExpired)
        assert isinstance(failure, AttemptFailed)
        assert (failure.error_code, failure.left) == ("ERR_OUTCOME_UNKNOWN", True)
        assert rules.on_attempt(step.saga, failure, NOW, 0.0).events == ()


def test_a_failure_that_comes_again_wakes_a_message_whose_timer_was_never_set() -> None:
    rules = router(carrier("jio"))
    saga = rules.begin(cleared(), NOW, 0.0).saga
    refused = failed(saga, left=False, retriable=True)
    waiting = rules.on_attempt(saga, refused, NOW, 0.0)
    assert waiting.wake_at is not None
    assert rules.on_attempt(waiting.saga, refused, NOW, 0.0) == waiting


def test_a_message_that_no_carrier_is_configured_for_is_rejected_again_when_it_comes_again() -> None:
    rules = router(carrier("sandbox", sandbox=True))
    first = rules.begin(cleared(), NOW, 0.5)
    assert rules.begin_again(first.saga, NOW, 0.5) == first


def test_an_attempt_that_is_unknown_only_after_its_message_expired_is_ended_too() -> None:
    rules = router()
    saga = rules.begin(cleared(), NOW, 0.0).saga
    ended = rules.expire(saga, NOW).saga
    unknown = heard(AttemptUnknown, saga, reason="x", occurred_at=NOW)
    step = rules.on_attempt(ended, unknown, NOW, 0.0)
    (event,) = step.events
    assert isinstance(event, AttemptFailed)
    assert (event.attempt_id, event.left) == (saga.attempt_id, True)
    assert rules.on_attempt(step.saga, unknown, NOW, 0.0) == step


def test_one_timer_serves_all_who_end_in_the_same_quarter_minute() -> None:
    assert (
        bucket_of(NOW + timedelta(seconds=1)) == bucket_of(NOW + timedelta(seconds=15)) == NOW + timedelta(seconds=15)
    )
    assert bucket_of(NOW) == NOW


STEPS = st.lists(
    st.sampled_from(["delivered", "failed", "retriable", "unknown", "unfunded", "expire", "wake", "repeat"]),
    max_size=12,
)


@given(STEPS, st.floats(0, 0.999))
def test_any_order_and_any_repeat_ends_in_one_story(names: list[str], roll: float) -> None:
    """Whatever comes, in whatever order: delivered is for ever, and a repeat tells the same."""
    rules = router()
    saga = rules.begin(cleared(), NOW, roll).saga
    last: AttemptEvent | None = None
    ends: set[str] = set()
    for name in names:
        event = {
            "delivered": delivered(saga, saga.attempt),
            "failed": failed(saga, saga.attempt, left=True, retriable=False),
            "retriable": failed(saga, saga.attempt, left=False, retriable=True),
            "unknown": heard(AttemptUnknown, saga, saga.attempt, reason="x", occurred_at=NOW),
            "unfunded": heard(
                AttemptUnfunded,
                saga,
                saga.attempt,
                error_code="ERR_INSUFFICIENT_CREDITS",
                error_description="",
                occurred_at=NOW,
            ),
        }.get(name)
        if name == "repeat":
            event = last
        before = saga
        if event is not None:
            step = rules.on_attempt(saga, event, NOW, roll)
            again = rules.on_attempt(step.saga, event, NOW, roll)
            assert again.saga == step.saga
            assert {one.event_id() for one in again.events} == {one.event_id() for one in step.events}
            last = event
        elif name == "wake":
            step = rules.wake(saga, NOW, roll)
        elif name == "expire":
            step = rules.expire(saga, NOW)
        else:
            continue
        saga = step.saga
        if before.state is State.DELIVERED:
            assert saga.state is State.DELIVERED
        if before.state not in OPEN:
            assert saga.state not in OPEN
        ends |= {one.event_id() for one in step.events if isinstance(one, MessageDelivered)}
    assert len(ends) <= 1
