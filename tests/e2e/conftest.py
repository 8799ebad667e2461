"""What the end-to-end tests share: one started stack, a webhook server, and accounts to work with."""

from collections.abc import Iterator

import pytest
from tests.e2e.client import Account, Client, Phones, furnish, open_account
from tests.e2e.fates import Sent, send_to_each_fate
from tests.e2e.receiver import Inbox, Receiver, running_receiver
from tests.e2e.stack import Stack, started_stack


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    with started_stack() as stack:
        yield stack


@pytest.fixture(scope="session")
def receiver() -> Iterator[Receiver]:
    with running_receiver() as receiver:
        yield receiver


@pytest.fixture(scope="session")
def operator(stack: Stack) -> Client:
    return Client(stack.base_url, stack.demo["operator_key"])


@pytest.fixture(scope="session")
def phones(stack: Stack) -> Phones:
    return Phones(stack.demo["simulators"]["smsc"])


@pytest.fixture(scope="session", autouse=True)
def sent_to_each_fate(stack: Stack, operator: Client, receiver: Receiver) -> Sent:
    """One message to every number with a fixed fate, sent first of all: some fates take most of a minute, and the other
    tests run meanwhile."""
    account = open_account(operator)
    furnish(account)
    return send_to_each_fate(account, receiver.inbox(), stack.demo["magic_numbers"])


@pytest.fixture(scope="session", autouse=True)
def tested_each_fate(operator: Client, receiver: Receiver) -> Sent:
    """The same in test mode, by an account that has registered nothing and has no money. The numbers are the API's own."""
    account = open_account(operator, paise=0)
    told = account.client.get("/v1/sandbox")
    numbers = {each["name"]: each["number"] for each in told["numbers"]}
    free = {"sender": told["sender"], "template_id": "SANDBOX_FREE", "message": "Anything at all.", "variables": None}
    return send_to_each_fate(account, receiver.inbox(), numbers, test_mode=True, **free)


@pytest.fixture
def account(operator: Client) -> Account:
    """An account with money, an approved sender and the shipping template."""
    account = open_account(operator)
    furnish(account)
    return account


@pytest.fixture
def inbox(receiver: Receiver) -> Inbox:
    return receiver.inbox()
