"""Entities, senders, templates and the whitelist, through every state that decides whether a message may leave."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.e2e.client import (
    ENTITY_ID,
    SENDER,
    SHIPPED,
    SHIPPED_BODY,
    TELEMARKETER_ID,
    Account,
    Client,
    open_account,
)


@pytest.fixture
def unapproved(operator: Client) -> Account:
    """An account whose registrations wait for the operator."""
    return open_account(operator, auto_approve=False)


def approve(account: Account, what: str, status: str = "approved", reason: str | None = None) -> str:
    body = {"account_id": account.account_id, "status": status, "reason": reason}
    return str(account.operator.post(f"/v1/{what}/status", body)["status"])


def outcome(account: Account) -> tuple[int, str | None]:
    answer = account.send()
    return answer.status, answer.body.get("error_code")


def test_from_nothing_to_a_message_and_back(unapproved: Account) -> None:
    client = unapproved.client
    assert outcome(unapproved) == (422, "ERR_SENDER_NOT_REGISTERED")

    entity = client.post(
        "/v1/entities", {"entity_id": ENTITY_ID, "name": "E2E Stores", "telemarketer_chain": [TELEMARKETER_ID]}
    )
    assert len(entity["chain_hash"]) == 64
    sender = client.post("/v1/senders", {"sender": SENDER, "entity_id": ENTITY_ID, "kind": "transactional"})
    assert sender["status"] == "pending"
    assert unapproved.template(SHIPPED, SHIPPED_BODY)["status"] == "pending"
    assert outcome(unapproved) == (422, "ERR_SENDER_NOT_REGISTERED")
    assert "pending" in unapproved.send().body["error_message"]

    assert approve(unapproved, f"senders/{SENDER}") == "approved"
    assert outcome(unapproved) == (422, "ERR_TEMPLATE_NOT_FOUND")
    assert approve(unapproved, f"templates/{SHIPPED}") == "approved"
    assert outcome(unapproved) == (202, None)

    assert approve(unapproved, f"senders/{SENDER}", "suspended", "complaints") == "suspended"
    assert outcome(unapproved) == (422, "ERR_SENDER_SUSPENDED")
    assert "complaints" in unapproved.send().body["error_message"]
    assert client.get(f"/v1/senders/{SENDER}")["reason"] == "complaints"
    approve(unapproved, f"senders/{SENDER}")

    assert approve(unapproved, f"templates/{SHIPPED}", "suspended", "not renewed") == "suspended"
    assert outcome(unapproved) == (422, "ERR_DLT_TEMPLATE_SUSPENDED")
    approve(unapproved, f"templates/{SHIPPED}")
    message_id = unapproved.accepted()["message_id"]
    client.reached(message_id, "delivered")


def test_a_rejected_template_says_why(unapproved: Account) -> None:
    unapproved.template(SHIPPED, SHIPPED_BODY, senders=[])
    approve(unapproved, f"templates/{SHIPPED}", "rejected", "no brand in the text")
    told = unapproved.client.get(f"/v1/templates/{SHIPPED}")
    assert (told["status"], told["reason"]) == ("rejected", "no brand in the text")


def test_a_changed_body_is_judged_anew(unapproved: Account) -> None:
    client = unapproved.client
    client.post("/v1/entities", {"entity_id": ENTITY_ID, "name": "E2E Stores", "telemarketer_chain": [TELEMARKETER_ID]})
    client.post("/v1/senders", {"sender": SENDER, "entity_id": ENTITY_ID, "kind": "transactional"})
    unapproved.template(SHIPPED, SHIPPED_BODY)
    approve(unapproved, f"senders/{SENDER}")
    approve(unapproved, f"templates/{SHIPPED}")
    assert outcome(unapproved) == (202, None)
    changed = client.patch(f"/v1/templates/{SHIPPED}", {"body": SHIPPED_BODY.replace("shipped", "sent")})
    assert changed["status"] == "pending"
    assert outcome(unapproved) == (422, "ERR_TEMPLATE_NOT_FOUND")


def test_a_message_under_way_meets_the_suspension(account: Account) -> None:
    """What is found later comes as a failure with the same code, and costs nothing."""
    due_at = (datetime.now(UTC) + timedelta(seconds=2)).isoformat()
    message_id = account.accepted(schedule_at=due_at)["message_id"]
    assert approve(account, f"senders/{SENDER}", "suspended") == "suspended"
    told = account.client.reached(message_id, "rejected")
    assert told["error_code"] == "ERR_SENDER_SUSPENDED"
    assert account.entries(message_id) == []


def test_a_link_needs_the_whitelist(account: Account) -> None:
    account.template("LINK", "Track your order: {#url:link#} - E2E Stores")
    link: dict[str, Any] = {"template_id": "LINK", "variables": {"link": "https://shop.example.com/t/1"}}
    assert account.send(**link).body["error_code"] == "ERR_URL_NOT_WHITELISTED"
    url = account.client.post("/v1/urls", {"domain": "example.com"})
    assert account.send(**link).status == 202
    assert [one["url_id"] for one in account.client.get("/v1/urls")["urls"]] == [url["url_id"]]
    account.client.delete(f"/v1/urls/{url['url_id']}")
    assert account.send(**link).body["error_code"] == "ERR_URL_NOT_WHITELISTED"


def test_what_is_registered_is_listed(account: Account) -> None:
    assert [one["entity_id"] for one in account.client.get("/v1/entities")["entities"]] == [ENTITY_ID]
    assert [one["sender"] for one in account.client.get("/v1/senders")["senders"]] == [SENDER]
    (template,) = account.client.get("/v1/templates")["templates"]
    assert [variable["name"] for variable in template["variables"]] == ["name", "order_id"]
    assert account.client.get(f"/v1/templates/{template['dlt_template_id']}") == template


def test_registering_twice_is_registering_once(account: Account) -> None:
    again = {"sender": SENDER, "entity_id": ENTITY_ID, "kind": "transactional"}
    first = account.client.get(f"/v1/senders/{SENDER}")
    assert account.client.post("/v1/senders", again) == first


def test_accounts_do_not_see_each_other(account: Account, operator: Client) -> None:
    other = open_account(operator)
    assert other.client.get("/v1/senders")["senders"] == []
    assert outcome(other) == (422, "ERR_SENDER_NOT_REGISTERED")
