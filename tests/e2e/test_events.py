"""The open event log from outside: everything a client is told, read as it happens, through every fault of ours."""

import http.client
import itertools
import os
import signal
import threading
from collections import Counter

import pytest
from tests.e2e.client import Account, Client, at_once, furnish, new_number, open_account, shipping
from tests.e2e.follower import Follower, following
from tests.e2e.receiver import Inbox
from tests.e2e.stack import Stack
from tests.e2e.waiting import eventually

COUNT = 200
SETTLE_TIMEOUT_S = 60.0
LIFE = ("message.sent", "message.delivered")


def test_a_message_is_told_as_webhooks_tell_it(account: Account, inbox: Inbox) -> None:
    account.webhook(inbox, *LIFE)
    with following(account.client) as events:
        message_id = account.accepted(correlation_id="order-7")["message_id"]
        eventually(lambda: events.has(*((name, message_id) for name in LIFE)), what="both events")
        eventually(lambda: len(inbox.of(message_id)) == len(LIFE), what="both webhooks")
    assert {one.raw.encode() for one in events.told()} == {hook.raw for hook in inbox.hooks}
    assert {one.body["correlation_id"] for one in events.told()} == {"order-7"}
    assert len(events.told()) == len(LIFE)


def test_nobody_else_is_told(account: Account, operator: Client) -> None:
    neighbour = open_account(operator)
    furnish(neighbour)
    with following(account.client) as mine, following(neighbour.client, last_event_id="0") as theirs:
        message_id = account.accepted()["message_id"]
        eventually(lambda: mine.has(("message.delivered", message_id)), what="my event")
        other_id = neighbour.accepted()["message_id"]
        eventually(lambda: theirs.has(("message.delivered", other_id)), what="the neighbour's event")
    assert {one.body["message_id"] for one in mine.told()} == {message_id}
    assert {one.body["message_id"] for one in theirs.told()} == {other_id}


def test_failures_and_tests_are_marked(account: Account, stack: Stack) -> None:
    with following(account.client, types="message.failed,message.delivered") as events:
        failing = account.accepted(stack.demo["magic_numbers"]["failed_inactive"])["message_id"]
        tried = account.accepted(test_mode=True)["message_id"]
        wanted = (("message.failed", failing), ("message.delivered", tried))
        eventually(lambda: events.has(*wanted), timeout_s=30, what="a failure and a test")
    bodies = {one.body["message_id"]: one.body for one in events.told()}
    assert bodies.keys() == {failing, tried}
    assert bodies[tried]["test_mode"] is True
    assert bodies[failing]["error_code"] == "ERR_NUMBER_INACTIVE"
    assert "test_mode" not in bodies[failing]


@pytest.mark.parametrize("victim", ["nats", "ingress", "webhook-dispatcher"])
def test_whatever_is_killed_nothing_is_missing(victim: str, stack: Stack, account: Account) -> None:
    pid = stack.processes()[victim]["pid"]
    with following(account.client) as events:
        ids = send_and_kill(account, pid)
        wanted = [(name, message_id) for message_id in ids for name in LIFE]
        eventually(lambda: events.has(*wanted), timeout_s=SETTLE_TIMEOUT_S, what="every event of every message")
    assert_once(events, may_repeat=victim == "webhook-dispatcher")
    assert len(events.connections) == (2 if victim == "ingress" else 1)
    eventually(stack.is_ready, timeout_s=30, what="a stack that is whole again")


def send_and_kill(account: Account, pid: int) -> list[str]:
    """Send as clients do that repeat under the same key, and kill in the middle of it."""
    sent = itertools.count()

    def send(_: int) -> str:
        number = new_number()
        if next(sent) == COUNT // 3:
            os.kill(pid, signal.SIGKILL)

        def ask() -> str | None:
            try:
                body, key = shipping(number), {"Idempotency-Key": number}
                answer = account.client.call("POST", "/v1/sms/send", body, headers=key)
            except (OSError, http.client.HTTPException):
                return None
            assert answer.status in {202, 503}, answer
            return str(answer.body["message_id"]) if answer.status == 202 else None

        return eventually(ask, timeout_s=SETTLE_TIMEOUT_S, what="202")

    return list(at_once(COUNT, send, threads=16))


def assert_once(events: Follower, *, may_repeat: bool) -> None:
    """No event comes twice over one connection; over all of them only where who tells was killed at it."""
    for connection in events.connections:
        seen = Counter((one.name, one.body["message_id"]) for one in connection)
        assert set(seen.values()) <= {1}
        places = [tuple(map(int, one.id.split("-"))) for one in connection]
        assert places == sorted(places)
    everything = [(one.name, one.body["message_id"]) for one in events.told()]
    assert may_repeat or len(everything) == len(set(everything))


def test_it_goes_on_behind_the_last_event_of_an_earlier_connection(account: Account) -> None:
    with following(account.client) as first:
        before = account.accepted()["message_id"]
        eventually(lambda: first.has(("message.delivered", before)), what="an event")
    missed = [account.accepted()["message_id"] for _ in range(5)]
    for message_id in missed:
        account.client.reached(message_id, "delivered")
    last = first.told()[-1].id
    with following(account.client, last_event_id=last) as second:
        wanted = [(name, message_id) for message_id in missed for name in LIFE]
        eventually(lambda: second.has(*wanted), what="what happened between")
    assert len(second.told()) == len(wanted)


def test_many_clients_of_one_account_are_told_the_same(account: Account) -> None:
    ready = threading.Barrier(5)

    def follow(_: int) -> list[str]:
        with following(account.client) as events:
            ready.wait(20)
            eventually(lambda: len(events.told()) == 2 * 20, what="all events")
            return sorted(one.raw for one in events.told())

    def send() -> None:
        ready.wait(20)
        for _ in range(20):
            account.accepted()

    sender = threading.Thread(target=send)
    sender.start()
    first, *others = at_once(4, follow, threads=4)
    sender.join()
    assert all(other == first for other in others)
