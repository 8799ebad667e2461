"""Logs help whoever runs the stack, and tell nothing of whom the messages are for."""

import re

from tests.e2e.client import SHIPPED_TEXT, Account, new_number
from tests.e2e.receiver import Inbox
from tests.e2e.stack import Stack


def test_no_number_text_or_secret_is_in_any_log(stack: Stack, account: Account, inbox: Inbox) -> None:
    secret = account.webhook(inbox)["secret"]
    to = new_number()
    message_id = account.accepted(to, correlation_id="tell-nobody")["message_id"]
    account.send(to, template_id="NOTHING")
    inbox.the_hook(message_id)
    stack_secrets = (stack.home / "secrets.json").read_text()

    logs = {path.name: path.read_text(errors="replace") for path in (stack.home / "logs").iterdir()}
    assert {"ingress.log", "sms-sender.log", "webhook-dispatcher.log"} <= logs.keys()
    told = "\n".join(logs.values())
    for hidden in (to, to[2:], SHIPPED_TEXT, "Asha", "tell-nobody", secret, account.client.key, account.operator.key):
        assert hidden is not None
        assert hidden not in told
    for hidden in re.findall(r'": "([^"]{16,})"', stack_secrets):
        assert hidden not in told
    assert stack.demo["api_key"] not in told
