"""Every number with a fixed fate ends as it says: in the webhook, in the status and on the ledger."""

import pytest
from tests.e2e.fates import FATES, Sent
from tests.e2e.stack import Stack

COMMON_KEYS = {"event", "message_id", "channel", "to", "status", "carrier", "correlation_id", "timestamp"}


def test_every_number_has_its_expectation(stack: Stack) -> None:
    assert FATES.keys() == stack.demo["magic_numbers"].keys()


@pytest.mark.parametrize("name", FATES)
def test_fate(name: str, sent_to_each_fate: Sent) -> None:
    fate, sent = FATES[name], sent_to_each_fate
    message_id = sent.message_ids[name]

    hook = sent.inbox.the_hook(message_id, timeout_s=fate.timeout_s)
    assert hook.body.keys() >= COMMON_KEYS
    assert hook.body["event"] == ("message.delivered" if fate.state == "delivered" else "message.failed")
    assert hook.body["status"] == ("DELIVERED" if fate.state == "delivered" else "FAILED")
    assert hook.body.get("error_code") == fate.error_code
    assert bool(hook.body.get("error_description")) == (fate.error_code is not None)
    assert (hook.body["to"], hook.body["correlation_id"]) == (sent.numbers[name], f"fate-{name}")

    told = sent.account.client.reached(message_id, fate.state)
    assert told["error_code"] == fate.error_code
    assert told["carrier"] == hook.body["carrier"] != "sandbox"
    assert told["correlation_id"] == f"fate-{name}"
    assert told["attempts"][-1]["carrier_code"] == fate.carrier_code

    sent.account.paid(message_id, fate.paise)
