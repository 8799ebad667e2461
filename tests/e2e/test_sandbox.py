"""Test mode: the whole way on a simulated carrier, for nothing."""

import pytest
from tests.e2e.client import Account, Client, Phones, new_number, open_account
from tests.e2e.receiver import Inbox


@pytest.fixture
def bare(operator: Client) -> Account:
    """An account that has registered nothing and has no money."""
    return open_account(operator, paise=0)


def test_a_sandbox_template_needs_nothing(bare: Account, inbox: Inbox, phones: Phones) -> None:
    bare.webhook(inbox)
    to = new_number()
    accepted = bare.accepted(
        to,
        sender="ANYONE",
        template_id="SANDBOX_TXN",
        variables={"name": "Asha", "reference": "ORD1"},
        test_mode=True,
        correlation_id="try",
    )
    assert accepted["test_mode"] is True
    message_id = accepted["message_id"]

    hook = inbox.the_hook(message_id)
    assert (hook.body["event"], hook.body["test_mode"]) == ("message.delivered", True)
    assert hook.body["correlation_id"] == "try"
    shown = phones.the_message(to)
    assert (shown["text"], shown["system_id"]) == (
        "Dear Asha, your order ORD1 is on its way. - Harkara Sandbox",
        "hk-sandbox",
    )
    told = bare.client.reached(message_id, "delivered")
    assert (told["test_mode"], told["carrier"], told["cost_paise"]) == (True, "sandbox", 0)
    assert bare.balance() == (0, 0)
    assert bare.client.get("/v1/account/ledger")["entries"] == []


def test_own_templates_work_in_test_mode_and_cost_nothing(account: Account, inbox: Inbox, phones: Phones) -> None:
    account.webhook(inbox)
    before = account.balance()
    to = new_number()
    message_id = account.accepted(to, test_mode=True)["message_id"]
    assert inbox.the_hook(message_id).body["test_mode"] is True
    assert phones.the_message(to)["system_id"] == "hk-sandbox"
    assert account.entries(message_id) == []
    assert account.balance() == before


def test_a_test_key_only_ever_tests(account: Account, phones: Phones) -> None:
    made = account.client.post("/v1/keys", {"name": "ci", "scopes": ["send", "read"], "test_only": True})
    assert made["api_key"].startswith("hk_test_")
    tester = Account(account.account_id, Client(account.client.base_url, made["api_key"]), account.operator)
    to = new_number()
    accepted = tester.accepted(to)
    assert accepted["test_mode"] is True
    assert phones.the_message(to)["system_id"] == "hk-sandbox"
    assert tester.entries(accepted["message_id"]) == []


def test_fates_hold_in_test_mode(bare: Account, inbox: Inbox) -> None:
    bare.webhook(inbox)
    fated = {"919999900002": "ERR_HANDSET_UNREACHABLE", "919999900004": "ERR_DND_SUBSCRIBER"}
    for to, error_code in fated.items():
        accepted = bare.accepted(to, sender="ANYONE", template_id="SANDBOX_FREE", message="Anything at all.",
                                 variables=None, test_mode=True)  # fmt: skip
        hook = inbox.the_hook(accepted["message_id"])
        assert (hook.body["event"], hook.body["error_code"]) == ("message.failed", error_code)
        assert hook.body["test_mode"] is True
    assert bare.balance() == (0, 0)
