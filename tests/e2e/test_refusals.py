"""Everything that is refused at once: the status, the code, and words that say how to mend it, in one form."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from tests.e2e.client import (
    ENTITY_ID,
    SENDER,
    SHIPPED,
    Account,
    Answer,
    Client,
    furnish,
    open_account,
    shipping,
)
from tests.e2e.fates import PAISE_A_PART
from tests.e2e.waiting import eventually

SEND = "/v1/sms/send"
TO = "919812345670"
MAX_BODY_BYTES = 256 * 1024


def refused(answer: Answer, status: int, error_code: str, hint: str = "") -> None:
    """Check the one form of refusals. `hint` is in the words that tell how to mend it; no number is ever in them."""
    assert (answer.status, answer.body.get("error_code")) == (status, error_code), answer
    assert answer.body["status"] == "error"
    assert len(answer.body["error_message"].split()) > 3, answer
    assert answer.body["request_id"] == answer.headers["X-Request-Id"]
    everything = json.dumps(answer.body)
    assert hint in everything, answer
    assert TO[2:] not in everything, "a telephone number in a refusal"


def send(account: Account, **changes: Any) -> Answer:
    return account.send(TO, **changes)


@pytest.fixture(scope="module")
def shop(operator: Client) -> Account:
    """One account for all refusals: nothing they ask for changes it."""
    account = open_account(operator)
    furnish(account)
    account.template("FREE_TEXT", "Dear {#str:name#}, {#str:text#} - E2E Stores")
    account.template("LINK", "Dear customer, track your order here: {#url:link#} - E2E Stores")
    account.template(
        "LONGEST", "Dear {#str:name#}, " + "your order has been shipped and will reach you very soon. " * 27
    )
    account.template("SALE", "Big sale at E2E Stores: {#num:percent#} percent off.", category="promotional")
    return account


# -- 400: what cannot be read ------------------------------------------------------------------------------------------

UNREADABLE: dict[str, tuple[bytes, str]] = {
    "no body": (b"", "JSON"),
    "not JSON": (b'{"to": ', "JSON"),
    "an array": (b"[]", "body"),
    "a text": (b'"919812345670"', "body"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_body_that_cannot_be_read(shop: Account, name: str) -> None:
    raw, hint = UNREADABLE[name]
    refused(shop.client.call("POST", SEND, raw), 400, "ERR_INVALID_REQUEST", hint)


WRONG_FIELDS: dict[str, tuple[dict[str, Any], str]] = {
    "to is missing": ({"to": None}, '"field": "to"'),
    "to is a list": ({"to": [TO]}, '"field": "to"'),
    "variables are a list": ({"variables": ["Asha"]}, '"field": "variables"'),
    "no such category": ({"category": "gossip"}, '"field": "category"'),
    "an empty message": ({"message": ""}, '"field": "message"'),
    "test_mode is no yes or no": ({"test_mode": "perhaps"}, '"field": "test_mode"'),
    "no such priority": ({"priority": "urgent"}, '"field": "priority"'),
    "too short a validity": ({"validity_seconds": 5}, '"field": "validity_seconds"'),
    "schedule_at without an offset": ({"schedule_at": "2099-01-01T10:00:00"}, "schedule_at"),
    "schedule_at in the past": ({"schedule_at": "2020-01-01T10:00:00+05:30"}, "past"),
    "schedule_at too far ahead": ({"schedule_at": "2099-01-01T10:00:00+05:30"}, "5 years"),
    "schedule_at is no time": ({"schedule_at": "tomorrow"}, "ISO 8601"),
}


@pytest.mark.parametrize("name", WRONG_FIELDS)
def test_a_field_that_is_wrong(shop: Account, name: str) -> None:
    changes, hint = WRONG_FIELDS[name]
    refused(shop.client.call("POST", SEND, shipping(**{"to": TO, **changes})), 400, "ERR_INVALID_REQUEST", hint)


CHANNELS: dict[str, tuple[dict[str, Any], str]] = {
    "none": ({}, "channel"),
    "both ways of saying it": ({"channel": "sms", "channels": ["sms"]}, "not both"),
    "one that is not offered": ({"channel": "whatsapp"}, "Available: sms"),
    "one that does not exist": ({"channel": "pigeon"}, '"field": "channel"'),
    "one twice": ({"channels": ["sms", "sms"]}, "twice"),
}


@pytest.mark.parametrize("name", CHANNELS)
def test_channels_that_cannot_be_used(shop: Account, name: str) -> None:
    changes, hint = CHANNELS[name]
    refused(send(shop, path="/v1/messages/send", **changes), 400, "ERR_INVALID_REQUEST", hint)


@pytest.mark.parametrize(
    "to",
    [
        "12345",
        "9812345670",
        "09812345670",
        "91 98123 45670",
        "915812345670",
        "9198123456701",
        "+14155550100",
        "asha",
        "",
    ],
)
def test_a_number_that_is_none(shop: Account, to: str) -> None:
    refused(
        shop.client.call("POST", SEND, {"to": to, "category": "transactional"}), 400, "ERR_INVALID_MOBILE", "6 to 9"
    )


BAD_UNICODE: dict[str, bytes] = {
    "a lone surrogate": b'"\\ud83d"',
    "octets that are not UTF-8": b'"\xff\xfe"',
    "a NUL": b'"a\\u0000b"',
}


@pytest.mark.parametrize("name", BAD_UNICODE)
def test_characters_that_are_none(shop: Account, name: str) -> None:
    raw = b'{"to": "919812345670", "sender": "ETOEND", "template_id": "SHIPPED", "message": ' + BAD_UNICODE[name] + b"}"
    refused(shop.client.call("POST", SEND, raw), 400, "ERR_INVALID_UNICODE")


def test_a_text_that_is_not_gsm_although_it_shall_be(shop: Account) -> None:
    answer = send(shop, unicode=False, variables={"name": "आशा", "order_id": "1"})
    refused(answer, 400, "ERR_INVALID_UNICODE", "`unicode`")


# -- 401, 402, 403: who asks, and what it may ----------------------------------------------------------------------------


def test_a_key_that_is_none(shop: Account) -> None:
    for authorization in (
        {},
        {"Authorization": "Bearer hk_live_unknown"},
        {"Authorization": f"Basic {shop.client.key}"},
    ):
        nobody = Client(shop.client.base_url)
        answer = nobody.call("POST", SEND, {"to": TO}, headers=authorization)
        refused(answer, 401, "ERR_UNAUTHORIZED", "Authorization: Bearer")
        assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_a_key_that_was_revoked(account: Account) -> None:
    made = account.client.post("/v1/keys", {"name": "old", "scopes": ["send", "read"]})
    holder = Account(account.account_id, Client(account.client.base_url, made["api_key"]), account.operator)
    assert send(holder).status == 202
    account.client.delete(f"/v1/keys/{made['key_id']}")
    refused(send(holder), 401, "ERR_UNAUTHORIZED", "revoked")


def test_a_balance_that_does_not_cover_it(operator: Client) -> None:
    account = open_account(operator, paise=PAISE_A_PART - 1)
    furnish(account)
    refused(send(account), 402, "ERR_INSUFFICIENT_CREDITS", "Top up")
    account.top_up(1, "the last paisa")
    message_id = account.accepted(TO)["message_id"]
    account.client.reached(message_id, "delivered")
    # The edge hears of what was spent a moment later.
    eventually(lambda: not account.client.post("/v1/messages/validate", shipping(TO))["balance_sufficient"])
    refused(send(account), 402, "ERR_INSUFFICIENT_CREDITS", "Top up")
    assert account.balance() == (0, 0)


def ended(account: Account, message_id: str) -> str:
    """Wait for the end of a message that may be delivered or rejected."""

    def look() -> str | None:
        state = str(account.client.message(message_id)["state"])
        return state if state in {"delivered", "rejected"} else None

    return eventually(look, what=f"the end of {message_id}")


def test_money_that_two_messages_want_is_spent_once(operator: Client) -> None:
    account = open_account(operator, paise=PAISE_A_PART)
    furnish(account)
    answers = [account.send() for _ in range(3)]
    accepted = [answer.body["message_id"] for answer in answers if answer.status == 202]
    states = [ended(account, one) for one in accepted]
    assert states.count("delivered") == 1
    rejected = [one for one, state in zip(accepted, states, strict=True) if state == "rejected"]
    assert {account.client.message(one)["error_code"] for one in rejected} <= {"ERR_INSUFFICIENT_CREDITS"}
    assert account.balance() == (0, 0)


SCOPES: dict[str, tuple[list[str], str, str, Any]] = {
    "reading does not send": (["read"], "POST", SEND, {"to": TO, "sender": SENDER, "template_id": SHIPPED}),
    "sending does not read": (["send"], "GET", "/v1/messages", None),
    "sending does not manage": (["send", "read"], "POST", "/v1/keys", {"name": "more", "scopes": ["send"]}),
    "managing does not operate": (["manage"], "POST", "/v1/accounts", {"name": "Mine too"}),
    "managing does not approve": (["manage"], "POST", f"/v1/senders/{SENDER}/status", {"status": "approved"}),
    "nobody makes an operator": (["manage"], "POST", "/v1/keys", {"name": "all", "scopes": ["operator"]}),
}


@pytest.mark.parametrize("name", SCOPES)
def test_a_key_without_the_scope(shop: Account, name: str) -> None:
    scopes, method, path, body = SCOPES[name]
    made = shop.client.post("/v1/keys", {"name": name, "scopes": scopes})
    answer = Client(shop.client.base_url, made["api_key"]).call(method, path, body)
    refused(answer, 403, "ERR_FORBIDDEN", "scope")


def test_a_suspended_account(account: Account) -> None:
    account.operator.patch(f"/v1/accounts/{account.account_id}", {"status": "suspended"})
    refused(send(account), 403, "ERR_FORBIDDEN", "suspended")
    account.operator.patch(f"/v1/accounts/{account.account_id}", {"status": "active"})
    assert send(account).status == 202


# -- 404, 405, 409, 413, 415 ---------------------------------------------------------------------------------------------

MISSING: dict[str, str] = {
    "no such path": "/v1/telegrams",
    "no message id": "/v1/messages/nothing",
    "no such message": "/v1/messages/TN202601010123456789ABC",
    "an id of a day that is none": "/v1/messages/TN202613450123456789ABC",
    "no such template": "/v1/templates/NOTHING",
    "no such sender": "/v1/senders/NOBODY",
    "no such webhook": "/v1/webhooks/WHNOTHING",
}


@pytest.mark.parametrize("name", MISSING)
def test_what_is_not_there(shop: Account, name: str) -> None:
    refused(shop.client.call("GET", MISSING[name]), 404, "ERR_NOT_FOUND")


@pytest.mark.parametrize("message_id", ["nothing", "TN202613450123456789ABC"])
def test_money_is_not_looked_up_by_what_is_no_message_id(shop: Account, message_id: str) -> None:
    answer = shop.client.call("GET", "/v1/account/ledger", query={"message_id": message_id})
    refused(answer, 400, "ERR_INVALID_REQUEST", "message_id")


def test_what_is_somebody_elses_is_not_there(shop: Account, account: Account) -> None:
    message_id = account.accepted()["message_id"]
    refused(shop.client.call("GET", f"/v1/messages/{message_id}"), 404, "ERR_NOT_FOUND")
    account.client.reached(message_id, "delivered")
    refused(shop.client.call("GET", f"/v1/messages/{message_id}"), 404, "ERR_NOT_FOUND")


def test_a_method_that_a_path_does_not_take(shop: Account) -> None:
    refused(shop.client.call("GET", SEND), 405, "ERR_INVALID_REQUEST", "/docs")


def test_a_sender_that_is_registered_otherwise(shop: Account) -> None:
    body = {"sender": SENDER, "entity_id": ENTITY_ID, "kind": "promotional"}
    refused(shop.client.call("POST", "/v1/senders", body), 409, "ERR_CONFLICT", "PATCH")


def test_a_body_that_is_too_large(shop: Account) -> None:
    raw = b'{"message": "' + b"a" * MAX_BODY_BYTES + b'"}'
    refused(shop.client.call("POST", SEND, raw), 413, "ERR_PAYLOAD_TOO_LARGE", "Split")


def test_a_body_that_is_no_json(shop: Account) -> None:
    answer = shop.client.call(
        "POST", SEND, b"to=919812345670", headers={"Content-Type": "application/x-www-form-urlencoded"}
    )
    refused(answer, 415, "ERR_INVALID_REQUEST", "application/json")


# -- 422: the rules of the field -----------------------------------------------------------------------------------------

RULES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "no sender": ("ERR_SENDER_NOT_REGISTERED", "`sender`", {"sender": None}),
    "an unknown sender": ("ERR_SENDER_NOT_REGISTERED", "POST /v1/senders", {"sender": "NOBODY"}),
    "a sender in small letters": ("ERR_SENDER_NOT_REGISTERED", f"send as {SENDER}", {"sender": SENDER.lower()}),
    "no template": ("ERR_TEMPLATE_NOT_FOUND", "POST /v1/templates", {"template_id": None}),
    "an unknown template": ("ERR_TEMPLATE_NOT_FOUND", "POST /v1/templates", {"template_id": "NOTHING"}),
    "a sandbox template for real": ("ERR_TEMPLATE_NOT_FOUND", "test_mode", {"template_id": "SANDBOX_TXN"}),
    "another text": (
        "ERR_DLT_TEMPLATE_MISMATCH",
        "character",
        {"message": "Dear Asha, buy more. - E2E Stores", "variables": None},
    ),
    "a variable left out": ("ERR_DLT_TEMPLATE_MISMATCH", "order_id", {"variables": {"name": "Asha"}}),
    "a value of the wrong kind": (
        "ERR_DLT_TEMPLATE_MISMATCH",
        "percent",
        {"template_id": "SALE", "category": "promotional", "variables": {"percent": "half"}},
    ),
    "a promotional template for a transaction": (
        "ERR_TEMPLATE_CATEGORY_MISMATCH",
        "category",
        {"template_id": "SALE", "variables": {"percent": "20"}},
    ),
    "a transactional template for promotion": (
        "ERR_TEMPLATE_CATEGORY_MISMATCH",
        "category",
        {"category": "service_explicit"},
    ),
    "a link that is not listed": (
        "ERR_URL_NOT_WHITELISTED",
        "POST /v1/urls",
        {"template_id": "LINK", "variables": {"link": "https://example.com/t/1"}},
    ),
    "a telephone number in a text": (
        "ERR_URL_NOT_WHITELISTED",
        "POST /v1/urls",
        {"template_id": "FREE_TEXT", "variables": {"name": "Asha", "text": f"call {TO[2:]} now"}},
    ),
    "too long a text": (
        "ERR_MESSAGE_TOO_LONG",
        "10 parts",
        {"template_id": "LONGEST", "variables": {"name": "Asha"}},
    ),
}


@pytest.mark.parametrize("name", RULES)
def test_a_rule_that_is_broken(shop: Account, name: str) -> None:
    error_code, hint, changes = RULES[name]
    refused(send(shop, **changes), 422, error_code, hint)


def test_a_verdict_can_be_asked_before(shop: Account) -> None:
    verdict = shop.client.post("/v1/messages/validate", shipping(TO, sender="NOBODY"))
    assert (verdict["valid"], verdict["error_code"]) == (False, "ERR_SENDER_NOT_REGISTERED")


# -- 429: too much at once -----------------------------------------------------------------------------------------------


def too_many(ask: Callable[[], Answer], allowed: int) -> Answer:
    """Ask until it is too much, which must not be before `allowed`; return that answer."""
    for _ in range(allowed):
        assert (answer := ask()).status != 429, answer
    for _ in range(10):
        if (answer := ask()).status == 429:
            return answer
    raise AssertionError("nothing was too much")


def test_requests_beyond_the_plan(operator: Client) -> None:
    account = open_account(operator, plan="starter")
    answer = too_many(lambda: account.client.call("GET", "/v1/account/balance"), allowed=60)
    refused(answer, 429, "ERR_RATE_LIMIT_EXCEEDED", "Retry-After")
    assert int(answer.headers["Retry-After"]) >= 1
    assert (answer.headers["X-RateLimit-Limit"], answer.headers["X-RateLimit-Remaining"]) == ("60", "0")


def test_messages_beyond_the_rate(account: Account) -> None:
    limits = {"messages_per_second": 1, "burst": 3}
    account.operator.patch(f"/v1/accounts/{account.account_id}", limits)
    answer = too_many(lambda: send(account), allowed=3)
    refused(answer, 429, "ERR_RATE_LIMIT_EXCEEDED", "Retry-After")
    assert int(answer.headers["Retry-After"]) == 1
    # Who waits as told is let in.
    assert eventually(lambda: send(account).status == 202, timeout_s=3)


def test_a_request_id_of_the_clients_own_is_kept(shop: Account) -> None:
    answer = shop.client.call("POST", SEND, {"to": "1"}, headers={"X-Request-Id": "my-own.id:1"})
    refused(answer, 400, "ERR_INVALID_MOBILE")
    assert answer.body["request_id"] == "my-own.id:1"
