"""Accounts, their money, and the keys that open them."""

from typing import Any

import pytest
from tests.e2e.client import Account, Client, open_account
from tests.e2e.fates import PAISE_A_PART
from tests.e2e.waiting import eventually


def works(client: Client) -> bool:
    return client.call("GET", "/v1/account/balance").status == 200


def test_an_operator_opens_an_account(operator: Client) -> None:
    made = operator.post("/v1/accounts", {"name": "A client", "plan": "business"})
    assert made.keys() >= {"account_id", "api_key", "signing_secret"}
    its_own = Client(operator.base_url, made["api_key"])
    shown = operator.get(f"/v1/accounts/{made['account_id']}")
    assert its_own.get(f"/v1/accounts/{made['account_id']}") == shown
    assert (shown["name"], shown["plan"], shown["status"], shown["auto_approve"]) == (
        "A client", "business", "active", False,
    )  # fmt: skip
    assert "api_key" not in shown
    assert its_own.call("GET", "/v1/account/balance").headers["X-RateLimit-Limit"] == "600"


def test_a_top_up_counts_once(operator: Client) -> None:
    account = open_account(operator, paise=0)
    assert account.top_up(50_000, "payment 1")["available_paise"] == 50_000
    assert account.top_up(50_000, "payment 1")["available_paise"] == 50_000
    assert account.top_up(2_500, "payment 2")["available_paise"] == 52_500
    assert account.balance() == (52_500, 0)
    entries = account.client.get("/v1/account/ledger")["entries"]
    assert [(entry["kind"], entry["amount_paise"], entry["reference"]) for entry in entries] == [
        ("topup", 2_500, "payment 2"),
        ("topup", 50_000, "payment 1"),
    ]


def test_a_reference_cannot_mean_two_amounts(operator: Client) -> None:
    account = open_account(operator, paise=0)
    account.top_up(50_000, "payment 1")
    body = {"amount_paise": 60_000, "reference": "payment 1"}
    answer = operator.call("POST", f"/v1/accounts/{account.account_id}/topups", body)
    assert (answer.status, answer.body["error_code"]) == (409, "ERR_CONFLICT")
    assert account.balance() == (50_000, 0)


@pytest.mark.parametrize("amount", [0, -5, 1.5, "many"])
def test_a_top_up_is_of_whole_paise(operator: Client, account: Account, amount: object) -> None:
    body = {"amount_paise": amount, "reference": "odd"}
    assert operator.call("POST", f"/v1/accounts/{account.account_id}/topups", body).status == 400


def test_a_rotated_key_goes_on_for_a_while(account: Account) -> None:
    made = account.client.post("/v1/keys", {"name": "server", "scopes": ["send", "read"]})
    old = Client(account.client.base_url, made["api_key"])
    turned = account.client.post(f"/v1/keys/{made['key_id']}/rotate", {"overlap_seconds": 2})
    new = Client(account.client.base_url, turned["api_key"])
    assert (turned["former_key_id"], turned["scopes"]) == (made["key_id"], ["send", "read"])
    assert works(old)
    assert works(new)
    assert eventually(lambda: not works(old), timeout_s=6)
    assert works(new)


def test_keys_are_listed_without_themselves(account: Account) -> None:
    made = account.client.post("/v1/keys", {"name": "listed", "scopes": ["read"]})
    keys = account.client.get("/v1/keys")["keys"]
    assert made["key_id"] in {key["key_id"] for key in keys}
    assert all("api_key" not in key for key in keys)
    account.client.delete(f"/v1/keys/{made['key_id']}")
    assert made["key_id"] not in {key["key_id"] for key in account.client.get("/v1/keys")["keys"]}


def test_usage_adds_up_what_was_sent(account: Account) -> None:
    for _ in range(3):
        account.client.reached(account.accepted()["message_id"], "delivered")

    def three_units() -> list[dict[str, Any]]:
        lines: list[dict[str, Any]] = account.client.get("/v1/account/usage")["usage"]
        return lines if sum(line["units"] for line in lines) == 3 else []

    (line,) = eventually(three_units)
    assert (line["channel"], line["category"], line["amount_paise"]) == ("sms", "transactional", 3 * PAISE_A_PART)
    assert account.balance() == (1_000_000 - 3 * PAISE_A_PART, 0)
