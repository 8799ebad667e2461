"""Client code that is in the field already, and what it takes for granted.

Much of it was written against other guides than ours: it retries unless it reads exactly 202, takes `Retry-After` for an
integer, looks at keys before it looks at the status, drops what it believes to have seen, and signs bodies that its HTTP
library then writes otherwise. Each of these is a test here, with the client's own steps in it. T14 and T15 (the last call of
a code, the length of an RCS text) stand in the edge's `test_channels.py`, T16, T17 and T22 (what WhatsApp is sold by, prices
below cost, the edges of slabs) in billing's `test_price_book.py`.
"""

import hashlib
import hmac
import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.client import (
    SHIPPED,
    SHIPPED_DLT_ID,
    SHIPPED_TEXT,
    SHIPPED_VARIABLES,
    Account,
    Answer,
    Client,
    Phones,
    furnish,
    new_number,
    open_account,
    shipping,
)
from tests.e2e.receiver import Inbox
from tests.e2e.waiting import eventually

DOCS = sorted(Path(__file__).parents[2].glob("docs/*.md"))


class HandlerInTheField:
    """A client's handler: indexes what it wants before it asks what happened, and drops what it has seen."""

    def __init__(self) -> None:
        self.seen: set[str] = set()
        self.handled: list[dict[str, Any]] = []

    def take(self, event: dict[str, Any]) -> None:
        key = f"webhook:{event['event']}:{event['message_id']}"
        if key in self.seen:
            return
        self.seen.add(key)
        fields = ("message_id", "status", "timestamp", "carrier", "correlation_id", "channel", "event")
        self.handled.append({name: event[name] for name in fields})


def test_t1_success_is_202_and_nothing_else(account: Account) -> None:
    body = json.dumps(shipping(new_number())).encode()
    repeat = {"Idempotency-Key": "t1"}
    answers = [
        account.send(),
        account.send(path="/v1/messages/send", channel="sms"),
        account.send(test_mode=True),
        account.client.call("POST", "/v1/sms/send", body, headers=repeat),
        account.client.call("POST", "/v1/sms/send", body, headers=repeat),
    ]
    assert [answer.status for answer in answers] == [202] * 5


def test_t2_retry_after_is_an_integer_of_seconds(operator: Client) -> None:
    account = open_account(operator, paise=0)
    operator.patch(f"/v1/accounts/{account.account_id}", {"requests_per_minute": 1})
    answers = [account.client.call("GET", "/v1/account/balance") for _ in range(3)]
    refused = answers[-1]
    assert refused.status == 429
    assert 1 <= int(refused.headers["Retry-After"]) <= 60


def test_t3_errors_are_read_at_the_top(account: Account) -> None:
    answer = account.send(template_id="NOBODYS")
    assert answer.status == 422
    assert isinstance(answer.body["error_code"], str)
    assert isinstance(answer.body["error_message"], str)


def test_t4_and_t5_every_event_can_be_indexed_and_none_is_dropped_for_another(account: Account, inbox: Inbox) -> None:
    account.webhook(inbox, "message.sent", "message.delivered", "message.failed")
    delivered, failed = account.accepted(test_mode=True), account.accepted("919999900002")
    ids = {delivered["message_id"], failed["message_id"]}
    ends = {"message.delivered", "message.failed"}

    def ended() -> bool:
        return {hook.body["message_id"] for hook in inbox.hooks if hook.body["event"] in ends} == ids

    eventually(ended, what="both ends")
    handler = HandlerInTheField()
    for hook in inbox.hooks:
        handler.take(hook.body)
    told = {(event["event"], event["message_id"]) for event in handler.handled}
    assert len(told) == len(handler.handled)
    assert {message_id for _, message_id in told} == ids


def test_t6_the_guide_says_by_what_to_tell_repeats() -> None:
    guide = next(path for path in DOCS if path.name == "api.md").read_text()
    assert re.search(r"`event`\s*(\+|and)\s*`message_id`", guide)


def test_t7_a_webhook_has_one_signature_of_the_raw_body_in_lower_case(account: Account, inbox: Inbox) -> None:
    secret = account.webhook(inbox)["secret"]
    account.accepted()
    hook = eventually(lambda: inbox.hooks[0] if inbox.hooks else None, what="a webhook")
    expected = hmac.new(secret.encode(), hook.raw, hashlib.sha256).hexdigest()
    assert hook.headers["X-TechTo-Signature"] == f"sha256={expected}"


@pytest.fixture
def signing(operator: Client) -> tuple[Account, str]:
    """An account whose every request must be signed, and its secret."""
    made = operator.post("/v1/accounts", {"name": "Signs", "plan": "enterprise", "auto_approve": True})
    account = Account(made["account_id"], Client(operator.base_url, made["api_key"]), operator)
    account.top_up(100_000, "first")
    furnish(account)
    account.client.call("PUT", "/v1/security", {"ip_allow_list": [], "require_signature": True})
    return account, made["signing_secret"]


def signed(account: Account, secret: str, sent: str, signed_over: str) -> Answer:
    now = str(int(time.time()))
    digest = hmac.new(secret.encode(), (now + signed_over).encode(), hashlib.sha256).hexdigest()
    headers = {"X-TechTo-Timestamp": now, "X-TechTo-Signature": f"sha256={digest}"}
    return account.client.call("POST", "/v1/sms/send", sent.encode(), headers=headers)


def test_t8_a_compact_signature_holds_for_what_pythons_library_writes(signing: tuple[Account, str]) -> None:
    account, secret = signing
    body = shipping(new_number())
    compact = json.dumps(body, separators=(",", ":"))
    assert signed(account, secret, json.dumps(body), compact).status == 202
    assert signed(account, secret, json.dumps(body), json.dumps(body)).status == 202
    assert signed(account, secret, json.dumps(body), compact + " ").status == 401
    assert account.send().status == 401


def test_t9_a_rupee_sign_is_signed_as_python_or_as_javascript_writes_it(signing: tuple[Account, str]) -> None:
    account, secret = signing
    for ascii_only in (True, False):
        for sent_ascii_only in (True, False):
            body = shipping(new_number(), correlation_id=f"₹499 {ascii_only}{sent_ascii_only}")
            compact = json.dumps(body, separators=(",", ":"), ensure_ascii=ascii_only)
            answer = signed(account, secret, json.dumps(body, ensure_ascii=sent_ascii_only), compact)
            assert answer.status == 202, answer.body


def test_t10_words_or_variables_by_either_door(account: Account, phones: Phones) -> None:
    for path, more in (("/v1/sms/send", {}), ("/v1/messages/send", {"channel": "sms"})):
        for content in ({"message": SHIPPED_TEXT, "variables": None}, {"variables": SHIPPED_VARIABLES}):
            to = new_number()
            account.accepted(to, path, **content, **more)
            assert phones.the_message(to)["text"] == SHIPPED_TEXT


def test_t11_a_template_goes_by_our_name_or_by_its_dlt_id(account: Account, phones: Phones) -> None:
    for template_id in (SHIPPED, SHIPPED_DLT_ID):
        to = new_number()
        account.accepted(to, template_id=template_id)
        assert phones.the_message(to)["text"] == SHIPPED_TEXT


def test_t12_a_code_may_live_for_any_seconds_of_its_range(account: Account) -> None:
    account.template("CODE", "{#num:otp#} is your E2E Stores code. - E2E Stores", category="otp")
    for seconds in (30, 60, 90, 120, 137, 180):
        account.accepted(template_id="CODE", category="otp", variables={"otp": "4711"}, validity_seconds=seconds)
    for wrong in (29, 90.5, "soon"):
        assert account.send(template_id="CODE", category="otp", validity_seconds=wrong).status == 400


def test_t13_the_order_of_a_cascade_is_the_callers_and_its_timeouts_are_by_channel(account: Account) -> None:
    cascade = {"timeouts": {"whatsapp": 8, "sms": 15, "voice": 30}, "mode": "fallback"}
    account.accepted(path="/v1/messages/send", channels=["sms"], cascade=cascade)
    wrong = account.send(path="/v1/messages/send", channels=["sms"], cascade={"timeouts": {"pigeon": 8}})
    assert (wrong.status, wrong.body["error_code"]) == (400, "ERR_INVALID_REQUEST")


@pytest.mark.parametrize("document", DOCS, ids=lambda path: path.name)
def test_t18_the_acts_are_called_by_their_names(document: Path) -> None:
    assert "DPDP Act 2024" not in document.read_text()


def test_t19_tags_go_by_trais_names_and_by_those_of_the_field(account: Account) -> None:
    for name, tags in (("OURS", ("num", "str")), ("TRAIS", ("numeric", "alphanumeric"))):
        body = f"Code {{#{tags[0]}:code#}} for order {{#{tags[1]}:order#}}. - E2E Stores"
        account.template(name, body)
        account.accepted(template_id=name, variables={"code": "4711", "order": "ORD1"})


def test_t20_service_messages_have_the_prices_of_their_columns(account: Account) -> None:
    account.template("IMPLICIT", "Order {#str:order_id#} is ready. - E2E Stores", category="service_implicit")
    price = {}
    for category, template_id in (("transactional", SHIPPED), ("service_implicit", "IMPLICIT")):
        variables = {"order_id": "ORD1"} | (SHIPPED_VARIABLES if template_id == SHIPPED else {})
        body = shipping(new_number(), category=category, template_id=template_id, variables=variables)
        price[category] = account.client.post("/v1/messages/validate", body)["price_paise"]
    assert price["service_implicit"] == price["transactional"] == 22


def test_t21_a_rupee_sign_makes_a_text_unicode_and_the_answer_says_how_to_avoid_it(account: Account) -> None:
    told = {}
    for name in ("Rs 499", "₹499"):
        variables = SHIPPED_VARIABLES | {"name": name}
        told[name] = account.client.post("/v1/messages/validate", shipping(new_number(), variables=variables))
    assert told["Rs 499"]["parts"] == 1
    assert (told["₹499"]["encoding"], told["₹499"]["gsm_alternative_exists"]) == ("ucs2", True)
