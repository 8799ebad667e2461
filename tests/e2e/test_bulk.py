"""A bulk of thousands through the whole stack: each recipient once, whatever is killed meanwhile, and its end told once."""

import os
import signal
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from tests.e2e.client import SENDER, SHIPPED, SHIPPED_VARIABLES, Account, Phones, new_number
from tests.e2e.fates import PAISE_A_PART
from tests.e2e.receiver import Inbox
from tests.e2e.stack import Stack
from tests.e2e.waiting import eventually

COUNT = 2_000
BAD = 5
SETTLE_TIMEOUT_S = 90.0
BEGIN_TIMEOUT_S = 20.0
COMPLETED = "campaign.completed"


@pytest.fixture(autouse=True)
def whole_stack(stack: Stack) -> Iterator[None]:
    """Whatever a test killed is back before the next one begins."""
    yield
    eventually(stack.is_ready, timeout_s=30, what="a stack that is whole again")


def bulk(numbers: list[str], **changes: object) -> dict[str, object]:
    recipients = [{"to": number, "variables": SHIPPED_VARIABLES, "correlation_id": number} for number in numbers]
    shared = {"sender": SENDER, "template_id": SHIPPED, "category": "transactional"}
    return {**shared, "recipients": recipients, **changes}


def accepted(account: Account, numbers: list[str], **changes: object) -> dict[str, Any]:
    answer = account.client.call("POST", "/v1/sms/bulk", bulk(numbers, **changes))
    assert answer.status == 202, answer
    return answer.body


def batch_of(account: Account, batch_id: str) -> dict[str, Any]:
    return account.client.get(f"/v1/batches/{batch_id}")


def arrived(phones: Phones, since: float, numbers: list[str]) -> Counter[str]:
    wanted = set(numbers)
    return Counter(to for to in phones.arrivals(since) if to in wanted)


def completions(inbox: Inbox) -> list[dict[str, Any]]:
    return [hook.body for hook in list(inbox.hooks) if hook.body["event"] == COMPLETED]


@pytest.mark.parametrize("victim", ["ingress", "nats", "postgres"])
def test_each_recipient_is_reached_once_whatever_is_killed(
    victim: str, stack: Stack, account: Account, inbox: Inbox, phones: Phones
) -> None:
    account.webhook(inbox, "message.delivered", COMPLETED)
    dead_before = stack.dead_letters()
    pid = stack.processes()[victim]["pid"]
    numbers = [new_number() for _ in range(COUNT)]
    since = phones.now()
    body = accepted(account, [*numbers, *["12345"] * BAD], correlation_id="campaign-1")
    batch_id = body["batch_id"]
    assert (body["total_recipients"], body["estimated_credits"]) == (COUNT, COUNT)
    assert [(one["index"], one["error_code"]) for one in body["rejected"]] == [
        (COUNT + place, "ERR_INVALID_MOBILE") for place in range(BAD)
    ]
    began = eventually(lambda: arrived(phones, since, numbers), timeout_s=BEGIN_TIMEOUT_S, what="a first message")
    assert len(began) < COUNT
    os.kill(pid, signal.SIGKILL)

    (told,) = eventually(lambda: completions(inbox), timeout_s=SETTLE_TIMEOUT_S, what="the end of the campaign")
    assert (told["message_id"], told["correlation_id"]) == (batch_id, "campaign-1")
    assert told["status"] == "COMPLETED"
    assert arrived(phones, since, numbers) == Counter(dict.fromkeys(numbers, 1))
    status = eventually(
        lambda: one if (one := batch_of(account, batch_id))["state"] == "completed" else None, what="the batch complete"
    )
    assert (status["counts"], status["rejected_recipients"]) == ({"delivered": COUNT}, BAD)
    delivered = eventually(
        lambda: ids if len(ids := delivered_ids(inbox)) == COUNT else None, what="a webhook for each message"
    )
    listed = list(account.client.pages("/v1/messages", "messages", limit=200, batch_id=batch_id))
    assert {one["message_id"] for one in listed} == delivered
    assert {one["correlation_id"] for one in listed} == set(numbers)
    assert account.settled_balance() == 1_000_000 - COUNT * PAISE_A_PART
    assert len(completions(inbox)) == 1
    assert stack.dead_letters() == dead_before


def delivered_ids(inbox: Inbox) -> set[str]:
    return {hook.body["message_id"] for hook in list(inbox.hooks) if hook.body["event"] == "message.delivered"}


def test_a_bulk_that_is_cancelled_on_its_way_stops(account: Account, inbox: Inbox, phones: Phones) -> None:
    account.webhook(inbox, COMPLETED)
    numbers = [new_number() for _ in range(4_000)]
    since = phones.now()
    batch_id = accepted(account, numbers)["batch_id"]
    eventually(lambda: arrived(phones, since, numbers), timeout_s=BEGIN_TIMEOUT_S, what="a first message")
    assert account.client.delete(f"/v1/batches/{batch_id}") == {"status": "cancelled", "batch_id": batch_id}
    (told,) = eventually(lambda: completions(inbox), timeout_s=SETTLE_TIMEOUT_S, what="the end of the campaign")
    counts = batch_of(account, batch_id)["counts"]
    reached = arrived(phones, since, numbers)
    assert set(reached.values()) == {1}
    assert counts == {"delivered": len(reached), "cancelled": len(numbers) - len(reached)}
    assert told["counts"] == counts
    assert 0 < len(reached) < len(numbers)
    assert account.settled_balance() == 1_000_000 - len(reached) * PAISE_A_PART


def test_the_same_key_sends_one_bulk(account: Account, phones: Phones) -> None:
    numbers = [new_number() for _ in range(20)]
    since = phones.now()
    headers = {"Idempotency-Key": "campaign-7"}
    answers = [account.client.call("POST", "/v1/sms/bulk", bulk(numbers), headers=headers) for _ in range(3)]
    assert {answer.status for answer in answers} == {202}
    (batch_id,) = {answer.body["batch_id"] for answer in answers}
    eventually(lambda: batch_of(account, batch_id)["state"] == "completed", what="the batch complete")
    assert arrived(phones, since, numbers) == Counter(dict.fromkeys(numbers, 1))
