"""The public API as clients in the field call it: plain requests, and answers taken at their word."""

import http.client
import itertools
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from email.message import Message
from typing import Any
from urllib.parse import urlencode, urlsplit

from tests.e2e.receiver import Inbox
from tests.e2e.waiting import eventually

_TIMEOUT_S = 20.0
_PROMISED_HEADERS = ("X-Request-Id", "X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset")

ENTITY_ID = "1101555555550000001"
TELEMARKETER_ID = "1102555555550000002"
SENDER = "ETOEND"
SHIPPED = "SHIPPED"
SHIPPED_DLT_ID = "1107555555550000003"
SHIPPED_BODY = "Dear {#str:name#}, your order {#str:order_id#} has been shipped. - E2E Stores"
SHIPPED_VARIABLES = {"name": "Asha", "order_id": "ORD1"}
SHIPPED_TEXT = "Dear Asha, your order ORD1 has been shipped. - E2E Stores"

_numbers = itertools.count(917_000_000_001)
_dlt_ids = itertools.count(1107_5555_5555_1000_000)


def new_number() -> str:
    """A number no other message of this run goes to."""
    return str(next(_numbers))


def shipping(to: str, **changes: object) -> dict[str, object]:
    """The body that sends the shipping message; fields as changed, None leaves one out."""
    body: dict[str, object] = {
        "to": to,
        "sender": SENDER,
        "template_id": SHIPPED,
        "category": "transactional",
        "variables": SHIPPED_VARIABLES,
        **changes,
    }
    return {name: value for name, value in body.items() if value is not None}


@dataclass(frozen=True)
class Answer:
    """What the platform answered. `body` is its JSON."""

    status: int
    headers: Message
    body: dict[str, Any]


@dataclass(frozen=True)
class Client:
    """Calls with one key; without a key the header is left out."""

    base_url: str
    key: str | None = field(default=None, repr=False)

    def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, object] | None = None,
    ) -> Answer:
        """Send a request; `body` is sent as JSON, or as it is when it is bytes. Every answer keeps what all promise."""
        raw = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        given = {"Content-Type": "application/json"} if raw is not None else {}
        if self.key is not None:
            given["Authorization"] = f"Bearer {self.key}"
        target = f"{path}?{urlencode(query)}" if query else path
        connection = http.client.HTTPConnection(urlsplit(self.base_url).netloc, timeout=_TIMEOUT_S)
        try:
            connection.request(method, target, raw, {**given, **(headers or {})})
            response = connection.getresponse()
            answer = Answer(response.status, response.headers, json.loads(response.read()))
        finally:
            connection.close()
        assert all(name in answer.headers for name in _PROMISED_HEADERS), answer
        return answer

    def get(self, path: str, **query: object) -> dict[str, Any]:
        return _fine(self.call("GET", path, query=query))

    def post(self, path: str, body: object = None) -> dict[str, Any]:
        return _fine(self.call("POST", path, body))

    def patch(self, path: str, body: object) -> dict[str, Any]:
        return _fine(self.call("PATCH", path, body))

    def delete(self, path: str) -> dict[str, Any]:
        return _fine(self.call("DELETE", path))

    def message(self, message_id: str) -> dict[str, Any]:
        return self.get(f"/v1/messages/{message_id}")

    def reached(self, message_id: str, state: str, *, timeout_s: float = 15.0) -> dict[str, Any]:
        """Wait until a message is in a state, and return all that is told of it.

        A message and its attempts are told by streams of their own: delivered is it when an attempt says so, too.
        """

        def look() -> dict[str, Any] | None:
            told = self.message(message_id)
            is_told = state != "delivered" or state in {attempt["state"] for attempt in told["attempts"]}
            return told if told["state"] == state and is_told else None

        return eventually(look, timeout_s=timeout_s, what=f"{message_id} {state}")

    def pages(self, path: str, name: str, **query: object) -> Iterator[dict[str, Any]]:
        """Everything in a list that comes in pages."""
        cursor: dict[str, str] = {}
        while True:
            page = self.get(path, **query, **cursor)
            yield from page[name]
            if page["next_cursor"] is None:
                return
            cursor = {"cursor": page["next_cursor"]}


@dataclass(frozen=True)
class Account:
    """An account of the test's own, with a sender, a template and money; other tests change nothing of it."""

    account_id: str
    client: Client
    operator: Client

    def send(self, to: str | None = None, path: str = "/v1/sms/send", **changes: object) -> Answer:
        """Send the shipping message, changed as `shipping` does."""
        return self.client.call("POST", path, shipping(to or new_number(), **changes))

    def accepted(self, to: str | None = None, path: str = "/v1/sms/send", **changes: object) -> dict[str, Any]:
        """Send, and expect exactly 202."""
        answer = self.send(to, path, **changes)
        assert answer.status == 202, answer
        return answer.body

    def template(self, template_id: str, body: str, **changes: object) -> dict[str, Any]:
        wanted = {
            "template_id": template_id,
            "channel": "sms",
            "dlt_template_id": str(next(_dlt_ids)),
            "category": "transactional",
            "senders": [SENDER],
            "body": body,
            "language": "en",
        }
        return self.client.post("/v1/templates", {**wanted, **changes})

    def webhook(self, inbox: Inbox, *events: str) -> dict[str, Any]:
        """Register an endpoint; its id and secret are in what is returned."""
        chosen = list(events) or ["message.delivered", "message.failed"]
        return self.client.post("/v1/webhooks", {"url": inbox.url, "events": chosen, "description": "e2e"})

    def top_up(self, amount_paise: int, reference: str) -> dict[str, Any]:
        body = {"amount_paise": amount_paise, "reference": reference}
        return self.operator.post(f"/v1/accounts/{self.account_id}/topups", body)

    def balance(self) -> tuple[float, float]:
        """What can be spent and what is held, in paise."""
        told = self.client.get("/v1/account/balance")
        return told["available_paise"], told["held_paise"]

    def settled_balance(self) -> float:
        """Wait until nothing is held; return what is left."""
        eventually(lambda: self.balance()[1] == 0, what="a balance with nothing held")
        return self.balance()[0]

    def entries(self, message_id: str) -> list[dict[str, Any]]:
        """The movements of a message's money; an attempt has each kind once at most."""
        entries: list[dict[str, Any]] = self.client.get("/v1/account/ledger", message_id=message_id)["entries"]
        assert len({(entry["reference"], entry["kind"]) for entry in entries}) == len(entries), entries
        return entries

    def paid(self, message_id: str, paise: float) -> None:
        """Wait until nothing is reserved for a message any more and this is what it cost in the end."""

        def look() -> bool:
            entries = self.entries(message_id)
            kinds = Counter(entry["kind"] for entry in entries)
            is_settled = 0 < kinds["hold"] == kinds["capture"] + kinds["release"]
            return is_settled and -sum(entry["available_change_paise"] for entry in entries) == paise

        eventually(look, what=f"{paise} paise paid for {message_id}")


def open_account(
    operator: Client, *, plan: str = "enterprise", auto_approve: bool = True, paise: int = 1_000_000
) -> Account:
    """Open an account with money and nothing registered."""
    made = operator.post("/v1/accounts", {"name": "End to end", "plan": plan, "auto_approve": auto_approve})
    account = Account(made["account_id"], Client(operator.base_url, made["api_key"]), operator)
    if paise:
        account.top_up(paise, "first")
    return account


def furnish(account: Account) -> None:
    """Register an entity, a sender and the shipping template."""
    entity = {"entity_id": ENTITY_ID, "name": "E2E Stores", "telemarketer_chain": [TELEMARKETER_ID]}
    account.client.post("/v1/entities", entity)
    account.client.post("/v1/senders", {"sender": SENDER, "entity_id": ENTITY_ID, "kind": "transactional"})
    account.template(SHIPPED, SHIPPED_BODY, dlt_template_id=SHIPPED_DLT_ID)


@dataclass(frozen=True)
class Phones:
    """What the simulated carrier's phones got."""

    url: str

    def _get(self, path: str) -> Any:
        return self._ask("GET", path)

    def _ask(self, method: str, path: str, body: object = None) -> Any:
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=_TIMEOUT_S)
        try:
            connection.request(method, path, None if body is None else json.dumps(body))
            response = connection.getresponse()
            assert response.status == 200, response.read()
            return json.loads(response.read())
        finally:
            connection.close()

    def got(self, to: str) -> list[dict[str, Any]]:
        messages: list[dict[str, Any]] = self._get(f"/messages?to={to}")
        return messages

    def the_message(self, to: str) -> dict[str, Any]:
        """Wait until a phone has a message, whole; it must be the only one."""
        (message,) = eventually(lambda: [one for one in self.got(to) if one["complete"]], what=f"a message at {to}")
        assert len(self.got(to)) == 1
        return message

    def now(self) -> float:
        """The time on the clock of `arrivals`."""
        return float(self._get("/stats")["monotonic"])

    def behave(self, settings: Mapping[str, object], system_id: str | None = None) -> None:
        """Have the carriers, or one of them, do as set, until they are restored."""
        self._ask("PUT", f"/behaviour?system_id={system_id}" if system_id else "/behaviour", settings)

    def restore(self) -> None:
        self._ask("DELETE", "/behaviour")

    def drop(self) -> None:
        """Cut every carrier's connections without a word."""
        self._ask("POST", "/drop")

    def rejected(self) -> int:
        """How many submits were refused so far."""
        return int(self._get("/stats")["rejected"])

    def arrivals(self, since: float) -> list[str]:
        """The number of each part that was submitted after a time."""
        return [to for to, _ in self.arrivals_with_times(since)]

    def arrivals_with_times(self, since: float) -> list[tuple[str, float]]:
        """The number of each part that was submitted after a time, with when it was, on the clock of `now`."""
        return [(to, at) for to, at in self._get(f"/arrivals?since={since!r}")]


def at_once(count: int, work: Any, *, threads: int = 20) -> list[Any]:
    """Do `work(0)` … `work(count - 1)` side by side; the first failure is raised."""
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(work, range(count)))


def _fine(answer: Answer) -> dict[str, Any]:
    assert answer.status == 200, answer
    return answer.body
