"""The ways to send one message, and what each of them comes to at the handset, in the webhook and on the bill."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from tests.e2e.client import (
    SENDER,
    SHIPPED_DLT_ID,
    SHIPPED_TEXT,
    Account,
    Phones,
    new_number,
)
from tests.e2e.fates import PAISE_A_PART
from tests.e2e.receiver import Hook, Inbox
from tests.e2e.waiting import eventually

INDIA = timezone(timedelta(hours=5, minutes=30))

HINDI_BODY = "नमस्ते {#str:name#}, आपका ऑर्डर भेज दिया गया है। " + "हमारे साथ खरीदारी करने के लिए धन्यवाद। " * 3
ENGLISH_BODY = "Dear {#str:name#}, your order has been shipped. " + "Thank you for shopping with us at E2E Stores. " * 7


def test_by_the_door_of_all_channels(account: Account, phones: Phones) -> None:
    to = new_number()
    accepted = account.accepted(to, "/v1/messages/send", channel="sms")
    assert accepted["channel"] == "sms"
    assert phones.the_message(to)["text"] == SHIPPED_TEXT
    told = account.client.reached(accepted["message_id"], "delivered")
    assert (told["channels"], told["channel"]) == (["sms"], "sms")


@pytest.mark.parametrize(
    "changes",
    [
        {"message": SHIPPED_TEXT, "variables": None},
        {"message": SHIPPED_TEXT},
        {"template_id": SHIPPED_DLT_ID},
        {"template_id": SHIPPED_DLT_ID, "message": SHIPPED_TEXT, "variables": None},
        {"category": None},
        {"priority": "high", "validity_seconds": 600},
        {"to_other_platforms": {"known": True}, "callback_url": None},
    ],
    ids=[
        "the text itself",
        "the text and its variables",
        "the template by its DLT id",
        "the text with the DLT id",
        "the category left to the template",
        "priority and validity",
        "fields that are not ours",
    ],
)
def test_other_ways_to_say_the_same(account: Account, phones: Phones, changes: dict[str, Any]) -> None:
    to = new_number()
    message_id = account.accepted(to, **changes)["message_id"]
    shown = phones.the_message(to)
    assert (shown["text"], shown["tlvs"][0]["0x1401"]) == (SHIPPED_TEXT, SHIPPED_DLT_ID)
    account.client.reached(message_id, "delivered")
    account.paid(message_id, PAISE_A_PART)


def test_a_number_may_have_a_plus(account: Account, phones: Phones) -> None:
    to = new_number()
    assert account.accepted(f"+{to}")["to"] == to
    assert phones.the_message(to)["text"] == SHIPPED_TEXT


def test_the_correlation_id_comes_back_everywhere(account: Account, inbox: Inbox) -> None:
    account.webhook(inbox, "message.sent", "message.delivered")
    mine = "order 77/आ"
    accepted = account.accepted(correlation_id=mine)
    account.accepted(correlation_id="another")
    assert accepted["correlation_id"] == mine

    message_id = accepted["message_id"]
    told = account.client.reached(message_id, "delivered")
    assert told["correlation_id"] == mine
    (listed,) = account.client.get("/v1/messages", correlation_id=mine)["messages"]
    assert (listed["message_id"], listed["correlation_id"]) == (message_id, mine)
    events = {hook.body["event"]: hook.body for hook in hooks_of(inbox, message_id, 2)}
    assert events.keys() == {"message.sent", "message.delivered"}
    assert {body["correlation_id"] for body in events.values()} == {mine}


def hooks_of(inbox: Inbox, message_id: str, count: int) -> list[Hook]:
    """Wait until a message has so many webhooks."""

    def look() -> list[Hook] | None:
        hooks = inbox.of(message_id)
        return hooks if len(hooks) == count else None

    return eventually(look, what=f"{count} webhooks")


def test_a_scheduled_message_waits_for_its_time(account: Account, inbox: Inbox, phones: Phones) -> None:
    account.webhook(inbox)
    due_at = (datetime.now(INDIA) + timedelta(seconds=3)).replace(microsecond=0)
    given = due_at.isoformat()
    to = new_number()
    accepted = account.accepted(to, schedule_at=given)
    assert accepted["scheduled_at"] == given
    assert accepted["estimated_delivery_seconds"] >= 2

    message_id = accepted["message_id"]
    waiting = account.client.reached(message_id, "deferred")
    assert datetime.fromisoformat(waiting["scheduled_at"]) == due_at
    assert datetime.fromisoformat(waiting["deferred_until"]) == due_at
    assert waiting["deferred_reason"]
    assert (phones.got(to), account.entries(message_id)) == ([], [])

    hook = inbox.the_hook(message_id)
    delivered_at = datetime.fromisoformat(hook.body["delivered_at"])
    assert due_at <= delivered_at < due_at + timedelta(seconds=10)
    assert account.client.reached(message_id, "delivered")["deferred_until"] is None
    assert phones.the_message(to)["text"] == SHIPPED_TEXT


@pytest.mark.parametrize(
    ("body", "language", "data_coding", "units_a_part"),
    [(ENGLISH_BODY.strip(), "en", 0, 153), (HINDI_BODY.strip(), "hi", 8, 67)],
    ids=["GSM", "Hindi"],
)
def test_a_long_text_arrives_whole(
    account: Account, inbox: Inbox, phones: Phones, body: str, language: str, data_coding: int, units_a_part: int
) -> None:
    account.webhook(inbox)
    dlt_template_id = account.template("LONG", body, language=language)["dlt_template_id"]
    text = body.replace("{#str:name#}", "Asha")
    assert 2 * units_a_part < len(text) <= 3 * units_a_part

    to = new_number()
    accepted = account.accepted(to, template_id="LONG", variables={"name": "Asha"})
    assert accepted["credits_debited"] == 3
    message_id = accepted["message_id"]

    shown = phones.the_message(to)
    assert (shown["text"], shown["parts"], shown["data_coding"]) == (text, 3, data_coding)
    assert [(tlvs["0x1400"], tlvs["0x1401"], len(tlvs["0x1402"])) for tlvs in shown["tlvs"]] == [
        (shown["tlvs"][0]["0x1400"], dlt_template_id, 64)
    ] * 3

    told = account.client.reached(message_id, "delivered")
    assert (told["parts"], told["cost_paise"]) == (3, 3 * PAISE_A_PART)
    account.paid(message_id, 3 * PAISE_A_PART)
    # A later message's webhook has come: one more for this one would have come by now.
    inbox.the_hook(account.accepted()["message_id"])
    assert [hook.body["event"] for hook in inbox.of(message_id)] == ["message.delivered"]


def test_a_rupee_sign_halves_the_room(account: Account, phones: Phones) -> None:
    account.template(
        "PAID", "Dear {#str:name#}, we have received your payment of {#str:sum#} for the order. Thank you. - E2E Stores"
    )
    sends = {"Rs 500": ("gsm", 0, 1), "\u20b9500": ("ucs2", 8, 2)}
    for amount, (encoding, data_coding, parts) in sends.items():
        to = new_number()
        wanted: dict[str, Any] = {"template_id": "PAID", "variables": {"name": "Asha", "sum": amount}}
        verdict = account.client.post(
            "/v1/messages/validate", {"to": to, "sender": SENDER, "category": "transactional", **wanted}
        )
        assert (verdict["valid"], verdict["encoding"], verdict["parts"]) == (True, encoding, parts)
        assert verdict["price_paise"] == PAISE_A_PART * parts
        assert verdict["gsm_alternative_exists"] == (encoding == "ucs2")

        accepted = account.accepted(to, **wanted)
        assert accepted["credits_debited"] == parts
        shown = phones.the_message(to)
        assert amount in shown["text"]
        assert (shown["data_coding"], shown["parts"]) == (data_coding, parts)
        account.paid(accepted["message_id"], PAISE_A_PART * parts)


def test_a_code_by_sms_has_its_own_price(account: Account, phones: Phones) -> None:
    account.template("LOGIN", "{#num:otp#} is your login code. - E2E Stores", category="otp")
    to = new_number()
    accepted = account.accepted(to, template_id="LOGIN", category="otp", variables={"otp": "482913"})
    assert phones.the_message(to)["text"] == "482913 is your login code. - E2E Stores"
    account.client.reached(accepted["message_id"], "delivered")
    account.paid(accepted["message_id"], 28)


def test_promotion_keeps_to_its_hours(account: Account, phones: Phones) -> None:
    account.template("SALE", "Big sale at E2E Stores: {#num:percent#} percent off.", category="promotional")
    to = new_number()
    before = datetime.now(INDIA)
    accepted = account.accepted(to, template_id="SALE", category="promotional", variables={"percent": "20"})
    message_id = accepted["message_id"]
    hour = before.hour
    if 10 <= hour < 21 and datetime.now(INDIA).hour == hour:
        account.client.reached(message_id, "delivered")
        account.paid(message_id, 18)
    else:
        told = account.client.reached(message_id, "deferred")
        until = datetime.fromisoformat(told["deferred_until"]).astimezone(INDIA)
        assert (until.hour, until.minute, phones.got(to)) == (10, 0, [])


def test_messages_are_listed_newest_first(account: Account) -> None:
    ids = [account.accepted()["message_id"] for _ in range(5)]
    for message_id in ids:
        account.client.reached(message_id, "delivered")
    listed = list(account.client.pages("/v1/messages", "messages", limit=2, state="delivered"))
    assert [one["message_id"] for one in listed] == ids[::-1]
    later = (datetime.now(UTC) + timedelta(minutes=1)).isoformat()
    assert account.client.get("/v1/messages", start=later, end=later.replace("+00:00", "-01:00"))["messages"] == []
