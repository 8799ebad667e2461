"""Any process may be killed at any moment, and what was accepted is neither lost nor doubled.

A few hundred messages are sent side by side, as a client does that repeats what got no answer with the same
Idempotency-Key. In the middle of it one process is killed. Then everything is counted: at the phones, in the webhooks, in
the status, on the ledger.
"""

import http.client
import os
import signal
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pytest
from tests.e2e.client import (
    SENDER,
    SHIPPED,
    SHIPPED_VARIABLES,
    Account,
    Phones,
    at_once,
    new_number,
)
from tests.e2e.fates import PAISE_A_PART
from tests.e2e.receiver import Inbox
from tests.e2e.stack import Stack
from tests.e2e.waiting import eventually

COUNT = 600
KILL_AFTER = 200
OTP_PAISE = 28
GIVE_UP_S = 60.0
SETTLE_TIMEOUT_S = 60.0
SHIPPING = {"template_id": SHIPPED, "category": "transactional", "variables": SHIPPED_VARIABLES}
LOGIN = {"template_id": "LOGIN", "category": "otp", "variables": {"otp": "482913"}}
SERVICES = ("ingress", "compliance", "routing", "billing", "sms-sender", "webhook-dispatcher")
SERVERS = ("nats", "postgres", "valkey")


@dataclass(frozen=True)
class Run:
    """What was accepted: message id by number, and when it began on the phones' clock."""

    ids: dict[str, str]
    began: float


def insist_on_202(account: Account, to: str, content: Mapping[str, object]) -> str:
    """Send as clients in the field do: what got no answer, or 503, is sent again under the same key."""
    body = {"to": to, "sender": SENDER, "correlation_id": to, **content}

    def ask() -> str | None:
        try:
            answer = account.client.call("POST", "/v1/sms/send", body, headers={"Idempotency-Key": to})
        except (OSError, http.client.HTTPException):
            return None
        assert answer.status in {202, 503}, answer
        return str(answer.body["message_id"]) if answer.status == 202 else None

    return eventually(ask, timeout_s=GIVE_UP_S, what="202")


def send_and_kill(account: Account, phones: Phones, pid: int, content: Mapping[str, object] = SHIPPING) -> Run:
    """Send all; as soon as some are accepted, and before all are, end the process as a fault would."""
    began = phones.now()
    numbers = [new_number() for _ in range(COUNT)]
    accepted = 0
    lock = threading.Lock()

    def send(place: int) -> str:
        nonlocal accepted
        message_id = insist_on_202(account, numbers[place], content)
        with lock:
            accepted += 1
            if accepted == KILL_AFTER:
                os.kill(pid, signal.SIGKILL)
        return message_id

    ids = at_once(COUNT, send, threads=32)
    return Run(dict(zip(numbers, ids, strict=True)), began)


def submissions(phones: Phones, run: Run) -> Counter[str]:
    return Counter(to for to in phones.arrivals(run.began) if to in run.ids)


def is_counted(account: Account, units: int) -> bool:
    """Nothing is held any more, and exactly so many units were paid."""
    return account.balance() == (1_000_000 - units * PAISE_A_PART, 0)


def assert_paid_once(account: Account, message_ids: set[str]) -> None:
    entries = list(account.client.pages("/v1/account/ledger", "entries", limit=1_000))
    captured = [entry["message_id"] for entry in entries if entry["kind"] == "capture"]
    assert len(captured) == len(set(captured))
    assert set(captured) == message_ids
    assert {entry["kind"] for entry in entries} == {"topup", "hold", "capture"}
    assert sum(line["units"] for line in account.client.get("/v1/account/usage")["usage"]) == len(message_ids)


def delivered_hooks(inbox: Inbox) -> set[str]:
    return {hook.body["message_id"] for hook in list(inbox.hooks) if hook.body["event"] == "message.delivered"}


def states(account: Account) -> dict[str, str]:
    return {one["message_id"]: one["state"] for one in account.client.pages("/v1/messages", "messages", limit=200)}


@pytest.fixture(autouse=True)
def whole_stack(stack: Stack) -> Iterator[None]:
    """Whatever a test killed is back before the next one begins."""
    yield
    eventually(stack.is_ready, timeout_s=30, what="a stack that is whole again")


@pytest.mark.parametrize("victim", [*SERVICES, *SERVERS])
def test_nothing_is_lost_or_doubled(victim: str, stack: Stack, account: Account, inbox: Inbox, phones: Phones) -> None:
    account.webhook(inbox)
    dead_before = stack.dead_letters()
    before = stack.processes()[victim]
    run = send_and_kill(account, phones, before["pid"])
    ids = set(run.ids.values())
    assert len(ids) == COUNT

    eventually(lambda: delivered_hooks(inbox) >= ids, timeout_s=SETTLE_TIMEOUT_S, what="a webhook for each message")
    assert {hook.body["event"] for hook in inbox.hooks} == {"message.delivered"}
    assert submissions(phones, run) == Counter(dict.fromkeys(run.ids, 1))
    eventually(lambda: set(states(account).values()) == {"delivered"}, what="every message delivered")
    assert states(account).keys() == ids
    eventually(lambda: is_counted(account, COUNT), what="every message paid")
    assert_paid_once(account, ids)

    assert stack.processes()[victim]["restarts"] == before["restarts"] + 1
    assert stack.dead_letters() == dead_before


def test_a_killed_sender_sends_every_code(stack: Stack, account: Account, inbox: Inbox, phones: Phones) -> None:
    """A code that may not have left is sent again: two copies do no harm, none does. It is paid once."""
    account.webhook(inbox)
    account.template("LOGIN", "{#num:otp#} is your login code. - E2E Stores", category="otp")
    dead_before = stack.dead_letters()
    run = send_and_kill(account, phones, stack.processes()["sms-sender"]["pid"], LOGIN)
    ids = set(run.ids.values())

    eventually(lambda: delivered_hooks(inbox) >= ids, timeout_s=SETTLE_TIMEOUT_S, what="a webhook for each code")
    submitted = submissions(phones, run)
    assert submitted.keys() == run.ids.keys()
    assert max(submitted.values()) <= 2
    eventually(lambda: set(states(account).values()) == {"delivered"}, what="every code delivered")
    expected = (1_000_000 - COUNT * OTP_PAISE, 0)
    eventually(lambda: account.balance() == expected, what="every code paid")
    assert_paid_once(account, ids)
    assert stack.dead_letters() == dead_before
