"""The bench's own account, made through the public API as any client's is, and what the API tells of it."""

import random
import string
from dataclasses import dataclass, field
from http import HTTPStatus
from http.client import HTTPConnection
from typing import Any, NamedTuple

from bench.stack import Stack
from harkara_cli.api import Api, ApiError

TOPUP_PAISE = 1_000_000_000
FINAL_EVENTS = ("message.delivered", "message.failed")
TEMPLATE_ID = "BENCH_SHIPPED"
_BODY = (
    "Dear {#str:name#}, your order {#str:order_id#} has been shipped and reaches you by {#str:date#}. "
    "Thank you for shopping with us."
)
_PATIENCE_S = 15.0


@dataclass(frozen=True)
class Account:
    """An approved sender and template with money. `webhook_secret` signs what the sink gets."""

    account_id: str
    api_key: str = field(repr=False)
    sender: str
    template_id: str
    webhook_id: str
    webhook_secret: str = field(repr=False)


class Money(NamedTuple):
    """What was charged: units in the usage report, and what is held and charged in paise."""

    units: int
    charged_paise: float
    held_paise: float
    available_paise: float


def open_account(stack: Stack, webhook_url: str) -> Account:
    """Makes the account. A stack may be measured many times, so everything that is registered has a new name."""
    operator = Api(stack.base_url, stack.operator_key, _PATIENCE_S)
    made = operator.post("/v1/accounts", {"name": "Bench", "plan": "enterprise", "auto_approve": True})
    account_id, api_key = made["account_id"], made["api_key"]
    operator.post(
        f"/v1/accounts/{account_id}/topups", {"amount_paise": TOPUP_PAISE, "reference": f"bench-{account_id}"}
    )
    client = Api(stack.base_url, api_key, _PATIENCE_S)
    entity_id, chain_id, dlt_template_id = dlt_id("1101"), dlt_id("1102"), dlt_id("1107")
    sender = "".join(random.choices(string.ascii_uppercase, k=6))  # noqa: S311  # a name, nothing secret
    client.post("/v1/entities", {"entity_id": entity_id, "name": "Bench Stores", "telemarketer_chain": [chain_id]})
    client.post("/v1/senders", {"sender": sender, "entity_id": entity_id, "kind": "transactional"})
    client.post(
        "/v1/templates",
        {
            "template_id": TEMPLATE_ID,
            "channel": "sms",
            "dlt_template_id": dlt_template_id,
            "category": "transactional",
            "senders": [sender],
            "body": _BODY,
            "language": "en",
        },
    )
    webhook = client.post("/v1/webhooks", {"url": webhook_url, "events": list(FINAL_EVENTS), "description": "bench"})
    return Account(account_id, api_key, sender, TEMPLATE_ID, webhook["webhook_id"], webhook["secret"])


def dlt_id(prefix: str) -> str:
    """An id as the DLT registry gives them, of 19 digits."""
    return prefix + "".join(random.choices(string.digits, k=15))  # noqa: S311  # a name, nothing secret


def money_of(stack: Stack, account: Account) -> Money:
    client = Api(stack.base_url, account.api_key, _PATIENCE_S)
    usage, balance = client.get("/v1/account/usage")["usage"], client.get("/v1/account/balance")
    return Money(
        sum(line["units"] for line in usage),
        sum(line["amount_paise"] for line in usage),
        balance["held_paise"],
        balance["available_paise"],
    )


def statuses_of(stack: Stack, account: Account, message_ids: list[str]) -> list[dict[str, Any]]:
    """GET /v1/messages/{id} of each; those that are not found are left out."""
    client = Api(stack.base_url, account.api_key, _PATIENCE_S)
    statuses: list[dict[str, Any]] = []
    for message_id in message_ids:
        try:
            statuses.append(client.get(f"/v1/messages/{message_id}"))
        except ApiError as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise
    return statuses


def close_webhook(stack: Stack, account: Account) -> None:
    """Takes the endpoint away: the sink is about to end, a stack that goes on need not call it."""
    connection = HTTPConnection(*stack.address, timeout=_PATIENCE_S)
    try:
        connection.request(
            "DELETE", f"/v1/webhooks/{account.webhook_id}", headers={"Authorization": f"Bearer {account.api_key}"}
        )
        connection.getresponse().read()
    finally:
        connection.close()
