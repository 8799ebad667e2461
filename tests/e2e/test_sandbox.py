"""Test mode: the whole way on a simulated carrier, for nothing."""

import pytest
from tests.e2e.client import Account, Client, Phones, new_number, open_account
from tests.e2e.fates import FATES, PAISE_A_PART, Sent
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


@pytest.mark.parametrize("name", FATES)
def test_every_fate_holds_in_test_mode(name: str, tested_each_fate: Sent) -> None:
    fate, sent = FATES[name], tested_each_fate
    message_id = sent.message_ids[name]
    hook = sent.inbox.the_hook(message_id, timeout_s=fate.timeout_s)
    assert (hook.body["test_mode"], hook.body.get("error_code")) == (True, fate.error_code)
    told = sent.account.client.reached(message_id, fate.state)
    assert (told["error_code"], told["carrier"], told["cost_paise"], told["test_mode"]) == (
        fate.error_code, "sandbox", 0, True,
    )  # fmt: skip
    assert told["attempts"][-1]["carrier_code"] == fate.carrier_code


def test_fates_cost_nothing_in_test_mode(tested_each_fate: Sent) -> None:
    account = tested_each_fate.account
    assert account.balance() == (0, 0)
    assert account.client.get("/v1/account/ledger")["entries"] == []
    assert account.client.get("/v1/account/usage")["usage"] == []


def test_tests_and_live_messages_are_kept_apart_in_one_account(account: Account, inbox: Inbox, phones: Phones) -> None:
    account.webhook(inbox)
    before = account.settled_balance()
    sends = [(new_number(), place % 2 == 0) for place in range(10)]
    messages = {account.accepted(to, test_mode=test_mode)["message_id"]: (to, test_mode) for to, test_mode in sends}
    for message_id, (to, test_mode) in messages.items():
        hook = inbox.the_hook(message_id)
        assert hook.body.get("test_mode", False) is test_mode
        assert (phones.the_message(to)["system_id"] == "hk-sandbox") is test_mode
        assert account.client.reached(message_id, "delivered")["test_mode"] is test_mode
    for test_mode in (True, False):
        listed = account.client.pages("/v1/messages", "messages", test_mode=str(test_mode).lower(), limit=2)
        expected = {message_id for message_id, (_, is_test) in messages.items() if is_test is test_mode}
        assert {each["message_id"] for each in listed} == expected
        report = account.client.get("/v1/analytics/delivery", test_mode=str(test_mode).lower())
        assert (report["messages"], report["states"]["delivered"], report["delivery_rate"]) == (5, 5, 1.0)
    assert account.settled_balance() == before - 5 * PAISE_A_PART
