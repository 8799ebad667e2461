"""The first message of a new client: the line that `harkara up` prints, followed through everything that shows it."""

import json
from datetime import UTC, datetime
from urllib.parse import urlsplit

from tests.e2e.client import Account, Client, Phones
from tests.e2e.fates import PAISE_A_PART
from tests.e2e.receiver import Inbox
from tests.e2e.stack import Stack

DELIVERED_KEYS = {
    "event", "message_id", "channel", "to", "sender", "status", "carrier", "delivered_at", "latency_ms", "correlation_id",
    "timestamp",
}  # fmt: skip


def instant(text: str) -> datetime:
    """A time as the platform writes it: UTC, with Z."""
    assert text.endswith("Z"), text
    return datetime.fromisoformat(text)


def test_the_printed_line_sends_a_message(stack: Stack, operator: Client, phones: Phones, inbox: Inbox) -> None:
    words = stack.curl_line()
    url = urlsplit(next(word for word in words if word.startswith("http")))
    headers = dict(words[place + 1].split(": ", 1) for place, word in enumerate(words) if word == "-H")
    body = words[words.index("-d") + 1]
    # The number it names is everybody's: a number of its own shows that this message arrived, and no other.
    to = "916000000001"
    body = body.replace(json.loads(body)["to"], to)
    demo = Account(stack.demo["account_id"], Client(stack.base_url, stack.demo["api_key"]), operator)
    webhook = demo.webhook(inbox, "message.delivered")
    available_before, _ = demo.balance()

    answer = Client(f"{url.scheme}://{url.netloc}").call("POST", url.path, body.encode(), headers=headers)

    assert answer.status == 202
    accepted = answer.body
    assert accepted.keys() == {
        "status", "message_id", "to", "channel", "credits_debited", "estimated_delivery_seconds", "timestamp",
    }  # fmt: skip
    assert (accepted["status"], accepted["to"], accepted["channel"]) == ("accepted", to, "sms")
    assert accepted["credits_debited"] == 1
    assert accepted["estimated_delivery_seconds"] > 0
    message_id = accepted["message_id"]
    assert message_id.startswith(f"TN{datetime.now(UTC):%Y%m%d}")
    accepted_at = instant(accepted["timestamp"])

    text = "Dear Asha, your order ORD12345 has been shipped and reaches you by 12 May. Thank you for shopping with Harkara."
    shown = phones.the_message(to)
    assert (shown["from"], shown["text"], shown["parts"]) == (stack.demo["sender"], text, 1)
    (tlvs,) = shown["tlvs"]
    template = demo.client.get(f"/v1/templates/{stack.demo['template_id']}")
    (entity,) = demo.client.get("/v1/entities")["entities"]
    assert tlvs["0x1400"] == entity["entity_id"]
    assert tlvs["0x1401"] == template["dlt_template_id"]
    assert tlvs["0x1402"] == entity["chain_hash"]

    hook = inbox.the_hook(message_id)
    assert hook.body.keys() >= DELIVERED_KEYS
    assert (hook.body["event"], hook.body["status"]) == ("message.delivered", "DELIVERED")
    assert (hook.body["to"], hook.body["sender"], hook.body["channel"]) == (to, stack.demo["sender"], "sms")
    assert hook.body["correlation_id"] is None
    assert instant(hook.body["delivered_at"]) >= accepted_at
    assert instant(hook.body["timestamp"]) >= accepted_at
    assert 0 <= hook.body["latency_ms"] < 10_000
    assert hook.is_signed_with(webhook["secret"])
    assert hook.verify_standard(webhook["secret"]) == hook.body

    told = demo.client.reached(message_id, "delivered")
    (attempt,) = told["attempts"]
    assert attempt["carrier"] == told["carrier"] == hook.body["carrier"]
    assert (attempt["state"], attempt["parts"], attempt["cost_paise"]) == ("delivered", 1, PAISE_A_PART)
    assert (
        accepted_at <= instant(attempt["planned_at"]) <= instant(attempt["sent_at"]) <= instant(attempt["delivered_at"])
    )

    demo.paid(message_id, PAISE_A_PART)
    available, held = demo.balance()
    assert (available_before - available, held) == (PAISE_A_PART, 0)
    demo.client.delete(f"/v1/webhooks/{webhook['webhook_id']}")
