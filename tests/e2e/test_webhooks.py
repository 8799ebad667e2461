"""Endpoints: signatures while secrets change, retries, the log of deliveries, replay."""

import time
from typing import Any

import pytest
from standardwebhooks.webhooks import WebhookVerificationError
from tests.e2e.client import Account
from tests.e2e.receiver import Inbox, Receiver
from tests.e2e.stack import TRIES
from tests.e2e.waiting import eventually

PROMPT_S = 1.0


def deliveries(account: Account, webhook_id: str, message_id: str) -> list[dict[str, Any]]:
    path = f"/v1/webhooks/{webhook_id}/deliveries"
    found: list[dict[str, Any]] = account.client.get(path, message_id=message_id)["deliveries"]
    return found


def the_delivery(account: Account, webhook_id: str, message_id: str, state: str) -> dict[str, Any]:
    """Wait until the one delivery of a message is in a state."""

    def look() -> dict[str, Any] | None:
        found = deliveries(account, webhook_id, message_id)
        return found[0] if found and found[0]["state"] == state else None

    delivery = eventually(look, what=f"a delivery that is {state}")
    assert len(deliveries(account, webhook_id, message_id)) == 1
    return delivery


def test_an_endpoint_is_registered_promptly(account: Account, inbox: Inbox) -> None:
    began = time.monotonic()
    made = account.webhook(inbox)
    assert time.monotonic() - began < PROMPT_S
    assert made["secret"].startswith("whsec_")
    shown = account.client.get(f"/v1/webhooks/{made['webhook_id']}")
    assert (shown["url"], shown["status"], shown.get("secret")) == (inbox.url, "active", None)


def test_a_failed_delivery_is_tried_again(account: Account, inbox: Inbox) -> None:
    webhook_id = account.webhook(inbox)["webhook_id"]
    inbox.refuse_next(2)
    message_id = account.accepted()["message_id"]
    eventually(inbox.confirmed, what="a confirmed webhook")
    assert [hook.answered for hook in inbox.of(message_id)] == [500, 500, 200]
    assert len({hook.headers["webhook-id"] for hook in inbox.hooks}) == 1
    assert len({hook.raw for hook in inbox.hooks}) == 1

    delivery = the_delivery(account, webhook_id, message_id, "delivered")
    assert [(one["number"], one["status_code"]) for one in delivery["attempts"]] == [(1, 500), (2, 500), (3, 200)]


def test_a_delivery_that_failed_for_good_is_replayed(account: Account, inbox: Inbox) -> None:
    webhook_id = account.webhook(inbox)["webhook_id"]
    inbox.refuse_next(TRIES, status=503)
    message_id = account.accepted()["message_id"]
    failed = the_delivery(account, webhook_id, message_id, "failed")
    assert len(inbox.hooks) == TRIES
    assert failed["next_attempt_at"] is None

    account.client.post(f"/v1/webhooks/deliveries/{failed['delivery_id']}/replay")
    (hook,) = eventually(inbox.confirmed, what="the replayed webhook")
    assert hook.raw == inbox.hooks[0].raw
    the_delivery(account, webhook_id, message_id, "delivered")

    # What was delivered may be replayed too: a client that lost it asks.
    account.client.post(f"/v1/webhooks/deliveries/{failed['delivery_id']}/replay")
    eventually(lambda: len(inbox.confirmed()) == 2, what="a second replay")


def test_two_secrets_live_together(account: Account, inbox: Inbox) -> None:
    made = account.webhook(inbox)
    turned = account.client.post(f"/v1/webhooks/{made['webhook_id']}/rotate-secret", {"overlap_seconds": 60})
    old, new = made["secret"], turned["secret"]
    assert old != new
    hook = inbox.the_hook(account.accepted()["message_id"])
    # The plain header can hold one signature: it stays the one that every client can still verify.
    assert hook.is_signed_with(old)
    assert hook.verify_standard(old) == hook.verify_standard(new) == hook.body


def test_an_old_secret_ends(account: Account, inbox: Inbox) -> None:
    made = account.webhook(inbox)
    turned = account.client.post(f"/v1/webhooks/{made['webhook_id']}/rotate-secret", {"overlap_seconds": 0})
    hook = inbox.the_hook(account.accepted()["message_id"])
    assert hook.is_signed_with(turned["secret"])
    assert hook.verify_standard(turned["secret"])
    assert not hook.is_signed_with(made["secret"])
    with pytest.raises(WebhookVerificationError):
        hook.verify_standard(made["secret"])


def test_an_endpoint_gets_the_events_it_chose(account: Account, receiver: Receiver) -> None:
    sent, ended, everything = receiver.inbox(), receiver.inbox(), receiver.inbox()
    account.webhook(sent, "message.sent")
    account.webhook(ended, "message.delivered")
    account.client.post("/v1/webhooks", {"url": everything.url})
    message_id = account.accepted()["message_id"]
    eventually(lambda: len(everything.of(message_id)) == 2, what="both events")
    eventually(lambda: sent.hooks and ended.hooks, what="an event at each")
    assert {hook.body["event"] for hook in everything.hooks} == {"message.sent", "message.delivered"}
    assert [hook.body["event"] for hook in sent.hooks] == ["message.sent"]
    assert [hook.body["event"] for hook in ended.hooks] == ["message.delivered"]


def test_one_endpoint_does_not_delay_another(account: Account, receiver: Receiver) -> None:
    broken, sound = receiver.inbox(), receiver.inbox()
    account.webhook(broken)
    account.webhook(sound)
    broken.refuse_next(1_000)
    ids = [account.accepted()["message_id"] for _ in range(20)]
    for message_id in ids:
        sound.the_hook(message_id)
    broken.accept_again()


def test_a_test_event_can_be_sent(account: Account, inbox: Inbox) -> None:
    made = account.webhook(inbox)
    delivery = account.client.post(f"/v1/webhooks/{made['webhook_id']}/test")
    (hook,) = eventually(inbox.confirmed, what="the test event")
    assert delivery["message_id"] == hook.body["message_id"]
    assert hook.is_signed_with(made["secret"])
    assert hook.verify_standard(made["secret"]) == hook.body


def test_an_endpoint_can_be_switched_off_and_removed(account: Account, receiver: Receiver) -> None:
    mine, witness = receiver.inbox(), receiver.inbox()
    webhook_id = account.webhook(mine)["webhook_id"]
    account.webhook(witness)
    path = f"/v1/webhooks/{webhook_id}"
    assert account.client.patch(path, {"status": "disabled"})["status"] == "disabled"
    witness.the_hook(account.accepted()["message_id"])
    assert mine.hooks == []

    account.client.patch(path, {"status": "active"})
    mine.the_hook(account.accepted()["message_id"])

    account.client.delete(path)
    count = len(mine.hooks)
    witness.the_hook(account.accepted()["message_id"])
    assert len(mine.hooks) == count
    assert account.client.call("GET", path).status == 404


@pytest.mark.parametrize("url", ["ftp://example.com/x", "http://user:secret@example.com/x", "nowhere", "http://"])
def test_a_url_that_is_none_is_refused(account: Account, url: str) -> None:
    answer = account.client.call("POST", "/v1/webhooks", {"url": url})
    assert (answer.status, answer.body["error_code"]) == (400, "ERR_INVALID_REQUEST")
    assert "secret" not in answer.body["error_message"]
