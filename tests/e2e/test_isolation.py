"""One account can neither see nor change what is another's, by no operation that the API has.

Made from the API's description: every operation that takes an id of any kind is called by a second account with the ids of
the first. A new operation is covered by itself; where it takes an id of a new kind, the test fails until `Owner.ids` has
one, or `NO_SECRETS` says why there is none.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.e2e.client import SENDER, SHIPPED, SHIPPED_VARIABLES, Account, Client, furnish, new_number, open_account
from tests.e2e.receiver import Inbox
from tests.e2e.stack import Stack
from tests.e2e.waiting import eventually

ENDLESS = {"GET /v1/events"}
"""It takes no id of a thing: who listens hears its own account's events only."""

AN_ID = re.compile(r"(^|_)(id|ids|sender|senders|cursor)$")
NO_SECRETS = {
    "correlation_id": "the client's own word, looked for among the account's own messages",
    "dlt_template_id": "public at the DLT portal",
    "entity_id": "public at the DLT portal",
    "senders": "names of headers, which are the account's own whatever others call theirs",
    "last_event_id": "a place in the log, not a thing in it",
}
VOLATILE = {"last_used_at", "start", "end"}
"""What changes by looking."""


@dataclass(frozen=True)
class Owner:
    """An account that has one of everything, and the ids of it all."""

    account: Account
    ids: dict[str, str]
    marks: frozenset[str]
    """Words that are in nobody else's data."""

    def state(self, description: Any) -> dict[str, Any]:
        """Everything that the account can see of itself."""
        return {
            name: _steady(self.account.client.call("GET", _filled(path, self.ids)).body)
            for name, path, _ in _operations(description)
            if name.startswith("GET ") and name not in ENDLESS
        }


@pytest.fixture(scope="module")
def description(stack: Stack) -> Any:
    return Client(stack.base_url).call("GET", "/openapi.json").body


@pytest.fixture
def owner(operator: Client, inbox: Inbox) -> Owner:
    account = open_account(operator)
    furnish(account)
    client = account.client
    webhook = account.webhook(inbox)
    url = client.post("/v1/urls", {"domain": "owner-of-this.example"})
    sent = account.accepted(correlation_id="owner-of-this")
    client.reached(sent["message_id"], "delivered")
    eventually(lambda: account.entries(sent["message_id"]), what="entries in the ledger")
    account.settled_balance()
    in_a_day = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    waiting = account.accepted(schedule_at=in_a_day)
    client.reached(waiting["message_id"], "deferred")
    recipients = [{"to": new_number(), "variables": SHIPPED_VARIABLES} for _ in range(2)]
    bulk = {"recipients": recipients, "sender": SENDER, "template_id": SHIPPED, "category": "transactional"}
    batch = client.call("POST", "/v1/sms/bulk", bulk | {"schedule_at": in_a_day})
    assert batch.status == 202, batch
    deliveries = f"/v1/webhooks/{webhook['webhook_id']}/deliveries"
    delivery = eventually(
        lambda: [one for one in client.get(deliveries)["deliveries"] if one["state"] == "delivered"],
        what="a delivery that is done",
    )[0]
    ids = {
        "account_id": account.account_id,
        "batch_id": batch.body["batch_id"],
        "cursor": client.get("/v1/messages", limit=1)["next_cursor"],
        "delivery_id": delivery["delivery_id"],
        "key_id": client.get("/v1/keys")["keys"][0]["key_id"],
        "message_id": waiting["message_id"],
        "sender": SENDER,
        "template_id": SHIPPED,
        "url_id": url["url_id"],
        "webhook_id": webhook["webhook_id"],
    }
    marks = {ids[name] for name in ids if name not in {"sender", "template_id", "cursor"}}
    return Owner(account, ids, frozenset({*marks, sent["message_id"], "owner-of-this", webhook["secret"], inbox.url}))


def test_no_operation_lets_one_account_at_anothers(description: Any, owner: Owner, operator: Client) -> None:
    # Two of them: names are each account's own, and the second will have things by the same names.
    strangers = {"path": open_account(operator), "body": (other := open_account(operator)), "query": other}
    before = owner.state(description)
    asked = 0
    for name, path, operation in _operations(description):
        for place, request in _requests(path, operation, owner.ids):
            asked += 1
            method = name.partition(" ")[0]
            answer = strangers[place].client.call(method, request["path"], request["body"], query=request["query"])
            told = json.dumps(answer.body)
            assert answer.status < 500, (name, answer)
            if place == "path":
                assert answer.status in {403, 404}, (name, answer)
            given = json.dumps(request)
            assert not [mark for mark in owner.marks if mark in told and mark not in given], (name, place)
    assert asked > 20
    assert owner.state(description) == before


def test_every_kind_of_id_is_known(description: Any) -> None:
    known = {*_KINDS, *NO_SECRETS}
    unknown: set[tuple[str, str]] = set()
    for name, path, operation in _operations(description):
        named = {*re.findall(r"{(\w+)}", path)}
        named |= {one for one in (*_query(operation), *_fields(operation, description)) if AN_ID.search(one)}
        unknown |= {(name, one) for one in named - known}
    assert unknown == set(), "give ids for these in `Owner.ids`, or a reason in `NO_SECRETS`"


_KINDS = {
    "account_id",
    "batch_id",
    "cursor",
    "delivery_id",
    "key_id",
    "message_id",
    "sender",
    "template_id",
    "url_id",
    "webhook_id",
}


def _operations(description: Any) -> Iterator[tuple[str, str, Any]]:
    for path, operations in description["paths"].items():
        for method, operation in operations.items():
            yield f"{method.upper()} {path}", path, operation


def _query(operation: Any) -> list[str]:
    return [one["name"] for one in operation["parameters"] if one.get("in") == "query"]


def _fields(operation: Any, description: Any) -> set[str]:
    """The names of a body's fields, at its top."""
    if "requestBody" not in operation:
        return set()
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    for one in (schema, *schema.get("anyOf", ())):
        if "$ref" in one:
            return set(description["components"]["schemas"][one["$ref"].rpartition("/")[2]].get("properties", ()))
    return set()


def _requests(path: str, operation: Any, ids: dict[str, str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Requests with the owner's ids: where they are in the path, and in each place of query and body."""
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("example")
    target = _filled(path, ids)
    if target != path:
        yield "path", {"path": target, "body": body, "query": {}}
    elif isinstance(body, dict) and (named := {name: ids[name] for name in body if name in ids}):
        yield "body", {"path": target, "body": body | named, "query": {}}
    for name in _query(operation):
        if name in ids and target == path:
            yield "query", {"path": target, "body": body, "query": {name: ids[name]}}


def _filled(path: str, ids: dict[str, str]) -> str:
    return re.sub(r"{(\w+)}", lambda found: ids[found[1]], path)


def _steady(told: Any) -> Any:
    if isinstance(told, dict):
        return {name: _steady(value) for name, value in told.items() if name not in VOLATILE}
    if isinstance(told, list):
        return [_steady(each) for each in told]
    return told
