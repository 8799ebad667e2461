"""What waits leaves at its time, once, whatever was restarted meanwhile; and what was taken back never does."""

import os
import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from tests.e2e.client import Account, Answer, Phones, at_once, new_number
from tests.e2e.fates import PAISE_A_PART
from tests.e2e.stack import Stack
from tests.e2e.waiting import eventually

COUNT = 20
FIRST_DUE_S = 16.0
LAST_DUE_S = 20.0
TOLERANCE_S = 2.0
FAR_S = 5 * 365 * 86_400.0
SERVICES = ("ingress", "compliance", "routing", "billing", "sms-sender", "webhook-dispatcher")
SERVERS = ("nats", "postgres", "valkey")
KILLED = ("ingress", "compliance", "sms-sender", "nats", "postgres")
"""These are given no time to do anything; the others end in good order, as far as that goes without what was killed."""
INDIA = timezone(timedelta(hours=5, minutes=30))


@pytest.fixture
def whole_stack(stack: Stack) -> Iterator[None]:
    yield
    eventually(stack.is_ready, timeout_s=60, what="a stack that is whole again")


def cancel(account: Account, message_id: str) -> Answer:
    return account.client.call("DELETE", f"/v1/messages/{message_id}")


def schedule(account: Account, to: str, due_at: float) -> str:
    """Schedule the shipping message for a number; `due_at` in unix seconds."""
    written = datetime.fromtimestamp(due_at, INDIA).isoformat()
    answer = account.accepted(to, schedule_at=written)
    assert answer["scheduled_at"] == written
    return str(answer["message_id"])


def arrivals(phones: Phones, since: float, numbers: set[str]) -> dict[str, list[float]]:
    """When each number's messages were handed to the carrier, in unix seconds."""
    offset = time.time() - phones.now()
    found: dict[str, list[float]] = {}
    for to, at in phones.arrivals_with_times(since):
        if to in numbers:
            found.setdefault(to, []).append(at + offset)
    return found


def restart_all(stack: Stack) -> None:
    """End every process of the platform at one moment; the supervisor starts them again."""
    before = stack.processes()
    names = (*SERVICES, *SERVERS)
    for name in names:
        os.kill(before[name]["pid"], signal.SIGKILL if name in KILLED else signal.SIGTERM)

    def is_new() -> bool:
        now = stack.processes()
        return all(now[name]["restarts"] > before[name]["restarts"] for name in names)

    eventually(is_new, timeout_s=60, what="every process started again")


@pytest.mark.usefixtures("whole_stack")
def test_a_restart_of_everything_changes_no_schedule(stack: Stack, account: Account, phones: Phones) -> None:
    dead_before, began = stack.dead_letters(), phones.now()
    first = time.time() + FIRST_DUE_S
    step_s = (LAST_DUE_S - FIRST_DUE_S) / (COUNT - 1)
    due = {new_number(): first + place * step_s for place in range(COUNT)}
    numbers = list(due)
    made = at_once(COUNT, lambda place: schedule(account, numbers[place], due[numbers[place]]))
    ids = dict(zip(numbers, made, strict=True))
    far = schedule(account, new_number(), time.time() + FAR_S)
    for message_id in (*ids.values(), far):
        account.client.reached(message_id, "deferred")
    early, late = numbers[5], numbers[12]
    assert cancel(account, ids[early]).status == 200
    restart_all(stack)
    eventually(lambda: cancel_when_up(account, ids[late]), timeout_s=30, what="an edge that cancels")
    sent = {to: message_id for to, message_id in ids.items() if to not in {early, late}}

    for message_id in sent.values():
        account.client.reached(message_id, "delivered", timeout_s=60)
    arrived = arrivals(phones, began, set(ids))
    assert arrived.keys() == sent.keys()
    assert {len(times) for times in arrived.values()} == {1}
    off = {to: times[0] - due[to] for to, times in arrived.items()}
    assert all(-0.5 < seconds < TOLERANCE_S for seconds in off.values()), off
    for to in (early, late):
        assert account.client.message(ids[to])["state"] == "cancelled"
        assert cancel(account, ids[to]).status == 200
    assert cancel(account, ids[numbers[0]]).status == 409
    assert account.client.message(far)["state"] == "deferred"
    assert cancel(account, far).status == 200
    spent = 1_000_000 - len(sent) * PAISE_A_PART
    eventually(lambda: account.balance() == (spent, 0), what="every message paid, and none that was cancelled")
    assert stack.dead_letters() == dead_before


def cancel_when_up(account: Account, message_id: str) -> bool:
    """Try to cancel while the edge, or who answers it, may just be starting."""
    try:
        answer = cancel(account, message_id)
    except OSError:
        return False
    assert answer.status in {200, 503}, answer
    return answer.status == 200


def test_what_is_cancelled_in_the_breath_it_was_accepted_in_never_leaves(account: Account, phones: Phones) -> None:
    due_at, began = time.time() + 8, phones.now()
    numbers = [new_number() for _ in range(40)]
    control = new_number()

    def accept_and_cancel(place: int) -> str:
        message_id = schedule(account, numbers[place], due_at)
        answer = cancel(account, message_id)
        assert (answer.status, answer.body) == (200, {"status": "cancelled", "message_id": message_id}), answer
        return message_id

    ids = at_once(len(numbers), accept_and_cancel)
    # It is due after all of them.
    account.client.reached(schedule(account, control, due_at + 1), "delivered")
    assert arrivals(phones, began, {*numbers, control}).keys() == {control}
    assert {account.client.message(message_id)["state"] for message_id in ids} == {"cancelled"}
    eventually(lambda: account.balance() == (1_000_000 - PAISE_A_PART, 0), what="one message paid")


def test_at_the_moment_it_is_due_a_message_leaves_or_is_cancelled(account: Account, phones: Phones) -> None:
    due_at, began = time.time() + 3, phones.now()
    numbers = [new_number() for _ in range(60)]
    ids = at_once(len(numbers), lambda place: schedule(account, numbers[place], due_at))

    def cancel_about_then(place: int) -> int:
        time.sleep(max(0.0, due_at - 0.3 + place * 0.01 - time.time()))
        return cancel(account, ids[place]).status

    statuses = at_once(len(numbers), cancel_about_then)
    assert set(statuses) == {200, 409}, "the moment was missed"
    left = {to for to, status in zip(numbers, statuses, strict=True) if status == 409}
    for to, message_id in zip(numbers, ids, strict=True):
        account.client.reached(message_id, "delivered" if to in left else "cancelled", timeout_s=30)
    assert {to: len(times) for to, times in arrivals(phones, began, set(numbers)).items()} == dict.fromkeys(left, 1)


@pytest.mark.usefixtures("whole_stack")
def test_what_is_due_while_nobody_is_there_leaves_when_they_are_back(
    stack: Stack, account: Account, phones: Phones
) -> None:
    due_at, began = time.time() + 4, phones.now()
    numbers = [new_number() for _ in range(5)]
    ids = at_once(len(numbers), lambda place: schedule(account, numbers[place], due_at))
    for message_id in ids:
        account.client.reached(message_id, "deferred")
    pids = [process["pid"] for name, process in stack.processes().items() if name in {"nats", "compliance"}]
    time.sleep(max(0.0, due_at - 0.2 - time.time()))
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    for message_id in ids:
        account.client.reached(message_id, "delivered", timeout_s=30)
    assert {to: len(times) for to, times in arrivals(phones, began, set(numbers)).items()} == dict.fromkeys(numbers, 1)


def test_a_promotion_that_waits_for_its_hours_can_be_taken_back(account: Account) -> None:
    account.template("SALE", "Big sale at E2E Stores: {#num:percent#} percent off.", category="promotional")
    tomorrow = datetime.now(INDIA).date() + timedelta(days=1)
    at_night = datetime(tomorrow.year, tomorrow.month, tomorrow.day, 23, 30, tzinfo=INDIA)
    sale: dict[str, Any] = {"template_id": "SALE", "category": "promotional", "variables": {"percent": "20"}}
    message_id = account.accepted(schedule_at=at_night.isoformat(), **sale)["message_id"]
    waiting = account.client.reached(message_id, "deferred")
    assert waiting["deferred_reason"] == "promotional_window"
    until = datetime.fromisoformat(waiting["deferred_until"])
    assert until == at_night.replace(hour=10, minute=0) + timedelta(days=1)
    assert cancel(account, message_id).status == 200
    assert account.client.reached(message_id, "cancelled")["deferred_until"] is None
    assert account.balance() == (1_000_000, 0)


def test_what_has_left_or_never_was_cannot_be_taken_back(account: Account) -> None:
    sent = account.accepted()["message_id"]
    account.client.reached(sent, "delivered")
    told = cancel(account, sent)
    assert (told.status, told.body["error_code"]) == (409, "ERR_CONFLICT")
    unknown = cancel(account, "TN202611220000000000AA")
    assert (unknown.status, unknown.body["error_code"]) == (404, "ERR_NOT_FOUND")


def test_a_message_may_be_scheduled_years_ahead(account: Account) -> None:
    at = (datetime.now(UTC) + timedelta(days=5 * 365)).replace(microsecond=0)
    given = at.isoformat().replace("+00:00", "Z")
    accepted = account.accepted(schedule_at=given)
    assert accepted["scheduled_at"] == given
    waiting = account.client.reached(accepted["message_id"], "deferred")
    assert datetime.fromisoformat(waiting["deferred_until"]) == at
    assert cancel(account, accepted["message_id"]).status == 200
