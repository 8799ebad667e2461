"""Two processes of the edge on one port and one Valkey: limits exact to one request, a key sends once, Valkey away."""

import asyncio
import json
import math
import os
import re
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis
from tests.e2e.client import Account, Client, Phones, furnish, new_number, open_account, shipping
from tests.e2e.fates import PAISE_A_PART
from tests.e2e.stack import Stack, started_stack
from tests.e2e.waiting import eventually

from harkara_cli.home import Home
from harkara_cli.status import stack_of

PROCESSES = ("ingress", "ingress-2")
AT_ONCE = 150
KNOWN_AFTER = 16  # answers in a row, each over a new connection: that all came from one process is no luck to be had


@pytest.fixture(scope="module", autouse=True)
def sent_to_each_fate() -> None:
    """These tests have a stack of their own, and need no message of the shared one."""


@pytest.fixture(scope="module")
def edges() -> Iterator[Stack]:
    with started_stack("--scale", "ingress=2") as stack:
        yield stack


@pytest.fixture(scope="module")
def phones(edges: Stack) -> Phones:
    return Phones(edges.demo["simulators"]["smsc"])


@pytest.fixture
def account(edges: Stack) -> Account:
    """An enterprise account that both processes know, with money, a sender and the shipping template."""
    account = open_account(Client(edges.base_url, edges.demo["operator_key"]))
    furnish(account)
    return account


def limited(account: Account, **limits: object) -> None:
    """Change an account's limits; on return both processes know them. `requests_per_minute` has to be among them."""
    account.operator.patch(f"/v1/accounts/{account.account_id}", limits)

    def are_known() -> bool:
        answers = [account.client.call("GET", "/v1/account/balance") for _ in range(KNOWN_AFTER)]
        return {answer.headers["X-RateLimit-Limit"] for answer in answers} == {str(limits["requests_per_minute"])}

    eventually(are_known, what="limits known to both processes")


def emptied(edges: Stack) -> None:
    """Forget all that was counted: every bucket is as if nothing had been taken."""
    home = Home(edges.home)
    with redis.Redis.from_url(stack_of(home, home.require_running()).redis_url) as client:
        client.flushdb()


def admin(edges: Stack, process: str, path: str) -> tuple[int, str]:
    home = Home(edges.home)
    port = stack_of(home, home.require_running()).ports[process]
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def warnings_of(edges: Stack, process: str) -> list[str]:
    status, told = admin(edges, process, "/readyz")
    assert status == 200, told
    warnings: list[str] = json.loads(told)["warnings"]
    return warnings


def share_one_count(edges: Stack) -> bool:
    return not any("limits" in warning for process in PROCESSES for warning in warnings_of(edges, process))


def requests_of(edges: Stack, process: str) -> float:
    lines = admin(edges, process, "/metrics")[1].splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith("harkara_http_requests_total{"))


@dataclass(frozen=True)
class Fired:
    """What came back of requests that left at once. `elapsed_s` is from before the first to after the last."""

    answers: Sequence[tuple[int, dict[str, str], dict[str, Any]]]
    elapsed_s: float

    def count(self, status: int) -> int:
        return sum(answer[0] == status for answer in self.answers)


def fire(account: Account, requests: Sequence[tuple[str, str, object]], **headers: str) -> Fired:
    """Send requests (method, path, body), each over a connection of its own that stands already."""
    return asyncio.run(_fire(account.client, requests, headers))


async def _fire(client: Client, requests: Sequence[tuple[str, str, object]], headers: dict[str, str]) -> Fired:
    address = urlsplit(client.base_url)
    links = await asyncio.gather(*(asyncio.open_connection(address.hostname, address.port) for _ in requests))
    began = time.monotonic()
    for (_, writer), (method, path, body) in zip(links, requests, strict=True):
        raw = b"" if body is None else json.dumps(body).encode()
        lines = {"Host": "localhost", "Authorization": f"Bearer {client.key}", "Content-Length": len(raw), **headers}
        head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in lines.items())
        writer.write(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + raw)
    async with asyncio.timeout(30):
        answers = await asyncio.gather(*(_answer(reader) for reader, _ in links))
    elapsed_s = time.monotonic() - began
    for _, writer in links:
        writer.close()
    return Fired(answers, elapsed_s)


async def _answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], dict[str, Any]]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    headers = {name.lower(): value for name, value in re.findall(r"\r\n([^:]+): ([^\r]*)", head)}
    body = json.loads(await reader.readexactly(int(headers["content-length"])))
    return int(head.split(" ", 2)[1]), headers, body


def sends(count: int = AT_ONCE) -> list[tuple[str, str, object]]:
    return [("POST", "/v1/sms/send", shipping(new_number())) for _ in range(count)]


def refilled(per_second: float, elapsed_s: float) -> int:
    """How much of a limit came back while the requests were under way, at most."""
    return math.floor(per_second * elapsed_s)


def test_requests_a_minute_are_exact(edges: Stack, account: Account) -> None:
    limited(account, plan="business", requests_per_minute=60)
    emptied(edges)
    before = [requests_of(edges, process) for process in PROCESSES]
    fired = fire(account, [("GET", "/v1/account/balance", None)] * AT_ONCE)
    assert 60 <= fired.count(200) <= 60 + refilled(1, fired.elapsed_s)
    assert fired.count(200) + fired.count(429) == AT_ONCE
    remaining = {int(headers["x-ratelimit-remaining"]) for status, headers, _ in fired.answers if status == 200}
    assert remaining == set(range(60))
    refused = [headers for status, headers, _ in fired.answers if status == 429]
    assert {(headers["retry-after"], headers["x-ratelimit-limit"]) for headers in refused} == {("1", "60")}
    assert all(requests_of(edges, process) > count for process, count in zip(PROCESSES, before, strict=True))


def test_messages_a_second_are_exact_and_what_was_refused_is_not_sent(
    edges: Stack, account: Account, phones: Phones
) -> None:
    limited(account, requests_per_minute=6_000, messages_per_second=10, burst=100)
    requests = sends()
    fired = fire(account, requests)
    assert 100 <= fired.count(202) <= 100 + refilled(10, fired.elapsed_s)
    assert fired.count(202) + fired.count(429) == AT_ONCE
    accepted = {body["to"] for status, _, body in fired.answers if status == 202}
    eventually(
        lambda: sum(line["units"] for line in account.client.get("/v1/account/usage")["usage"]) == len(accepted),
        what="every accepted message paid",
    )
    sent_to = {body["to"] for _, _, body in requests if isinstance(body, dict) and phones.got(body["to"])}
    assert sent_to == accepted


def test_the_starter_plan_takes_sixty_sends_at_once(edges: Stack, account: Account) -> None:
    account.operator.patch(f"/v1/accounts/{account.account_id}", {"plan": "starter"})
    limited(account, requests_per_minute=60)
    emptied(edges)
    fired = fire(account, sends())
    assert 60 <= fired.count(202) <= 60 + refilled(1, fired.elapsed_s)
    assert fired.count(202) + fired.count(429) == AT_ONCE


def test_a_key_fired_fifty_times_at_once_sends_one_message(account: Account, phones: Phones) -> None:
    to = new_number()
    fired = fire(account, [("POST", "/v1/sms/send", shipping(to))] * 50, Idempotency_Key="the-same")
    assert fired.count(202) == 50
    (message_id,) = {body["message_id"] for _, _, body in fired.answers}
    assert all(body == fired.answers[0][2] for _, _, body in fired.answers)
    account.client.reached(message_id, "delivered")
    assert len(phones.got(to)) == 1
    account.paid(message_id, PAISE_A_PART)
    assert account.client.get("/v1/account/usage")["usage"][0]["units"] == 1


def test_repeats_cost_requests_and_no_messages(edges: Stack, account: Account) -> None:
    limited(account, requests_per_minute=6_000, messages_per_second=1, burst=5)
    began = time.monotonic()
    fired = fire(account, [("POST", "/v1/sms/send", shipping(new_number()))] * 50, Idempotency_Key="cheap")
    assert fired.count(202) == 50
    others = fire(account, sends(20))
    assert 4 <= others.count(202) <= 4 + refilled(1, time.monotonic() - began)


def test_with_valkey_frozen_each_process_counts_alone_and_exactly_together_afterwards(
    edges: Stack, account: Account
) -> None:
    limited(account, requests_per_minute=6_000, messages_per_second=1, burst=100)
    valkey = edges.processes()["valkey"]["pid"]
    os.kill(valkey, signal.SIGSTOP)
    try:
        fired = fire(account, sends(250))
        assert 100 <= fired.count(202) <= 2 * (100 + refilled(1, fired.elapsed_s))
        assert fired.count(202) + fired.count(429) == 250
        assert fired.elapsed_s < 5
        assert any("limits" in warning for process in PROCESSES for warning in warnings_of(edges, process))
        # Who knows that nobody answers does not ask.
        assert fire(account, [("GET", "/v1/account/balance", None)]).elapsed_s < 1
    finally:
        os.kill(valkey, signal.SIGCONT)
    eventually(lambda: share_one_count(edges), what="both processes sharing one count again")
    emptied(edges)
    fired = fire(account, sends())
    assert 100 <= fired.count(202) <= 100 + refilled(1, fired.elapsed_s)


def test_a_killed_valkey_refuses_nobody(edges: Stack, account: Account) -> None:
    limited(account, requests_per_minute=6_000, messages_per_second=1, burst=100)
    os.kill(edges.processes()["valkey"]["pid"], signal.SIGKILL)
    fired = fire(account, sends(50))
    assert fired.count(202) == 50
    eventually(lambda: edges.is_ready() and share_one_count(edges), timeout_s=30, what="a stack that is whole again")
    emptied(edges)
    fired = fire(account, sends())
    assert 100 <= fired.count(202) <= 100 + refilled(1, fired.elapsed_s)
