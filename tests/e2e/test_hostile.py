"""What strangers and broken clients send to a running stack: each gets its 4xx, and the edge goes on as if nothing were.

How single connections and bodies are bounded is tested where they are; this is about all of it together.
"""

import gzip
import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest
from tests.e2e.client import Account, Client, at_once, new_number, shipping
from tests.e2e.stack import Stack

DEEP = 10_000
HUGE = 300 * 1024
BULK = 48 * 1024 * 1024 - 1_000
TIMEOUT_S = 20.0
ALL_LIMITS_S = 15.0


def is_refusal(body: Any, *codes: str) -> bool:
    return (
        body["status"] == "error"
        and body["error_code"] in codes
        and bool(body["error_message"])
        and bool(body["request_id"])
    )


def raw_send(**changes: str) -> bytes:
    """The shipping message with some values written exactly as given."""
    fields = {name: json.dumps(value) for name, value in shipping(new_number()).items()} | changes
    return ("{" + ",".join(f'"{name}":{value}' for name, value in fields.items()) + "}").encode()


BODIES: dict[str, tuple[bytes, int, str]] = {
    "nothing": (b"", 400, "ERR_INVALID_REQUEST"),
    "no JSON": (b"<xml/>", 400, "ERR_INVALID_REQUEST"),
    "half of it": (raw_send()[:-5], 400, "ERR_INVALID_REQUEST"),
    "something behind it": (raw_send() + b"x", 400, "ERR_INVALID_REQUEST"),
    "a byte order mark": (b"\xef\xbb\xbf" + raw_send(), 400, "ERR_INVALID_REQUEST"),
    "a list": (b"[" + raw_send() + b"]", 400, "ERR_INVALID_REQUEST"),
    "null": (b"null", 400, "ERR_INVALID_REQUEST"),
    "a number": (b"1e9", 400, "ERR_INVALID_REQUEST"),
    "deep lists": (b"[" * DEEP + b"]" * DEEP, 400, "ERR_INVALID_REQUEST"),
    "deep objects": (b'{"a":' * DEEP + b"1" + b"}" * DEEP, 400, "ERR_INVALID_REQUEST"),
    "deep variables": (raw_send(variables="[" * DEEP + "]" * DEEP), 400, "ERR_INVALID_REQUEST"),
    "a list for a string": (raw_send(to='["919876543210"]'), 400, "ERR_INVALID_REQUEST"),
    "an object for a string": (raw_send(to='{"$gt":""}'), 400, "ERR_INVALID_REQUEST"),
    "true for a number": (raw_send(validity_seconds="true"), 400, "ERR_INVALID_REQUEST"),
    "a key twice": (raw_send()[:-1] + b',"to":"919999999999"}', 400, "ERR_INVALID_REQUEST"),
    "a key twice, written otherwise": (raw_send()[:-1] + b',"\\u0074o":"919999999999"}', 400, "ERR_INVALID_REQUEST"),
    "a key twice, inside": (raw_send(variables='{"name":"a","name":"b"}'), 400, "ERR_INVALID_REQUEST"),
    "not a number": (raw_send(validity_seconds="NaN"), 400, "ERR_INVALID_REQUEST"),
    "infinity": (raw_send(validity_seconds="Infinity"), 400, "ERR_INVALID_REQUEST"),
    "more than a float holds": (raw_send(validity_seconds="1e999"), 400, "ERR_INVALID_REQUEST"),
    "a number of 5,000 digits": (raw_send(validity_seconds="9" * 5_000), 400, "ERR_INVALID_REQUEST"),
    "a number for a mobile, too large": (raw_send(to="9" * 400), 400, "ERR_INVALID_REQUEST"),
    "a negative number": (raw_send(validity_seconds="-1"), 400, "ERR_INVALID_REQUEST"),
    "bad UTF-8": (raw_send().replace(b"Asha", b"\xff\xfe"), 400, "ERR_INVALID_UNICODE"),
    "overlong UTF-8": (raw_send().replace(b"Asha", b"\xc0\x80"), 400, "ERR_INVALID_UNICODE"),
    "UTF-16": (raw_send().decode().encode("utf-16"), 400, "ERR_INVALID_UNICODE"),
    "a surrogate alone": (raw_send(message='"\\ud800"'), 400, "ERR_INVALID_UNICODE"),
    "a surrogate alone, as bytes": (raw_send().replace(b"Asha", b"\xed\xa0\x80"), 400, "ERR_INVALID_UNICODE"),
    "NUL": (raw_send(message='"a\\u0000b"'), 400, "ERR_INVALID_UNICODE"),
    "NUL as a byte": (raw_send().replace(b"Asha", b"\x00"), 400, "ERR_INVALID_REQUEST"),
    "too much": (raw_send(message=json.dumps("a" * HUGE)), 413, "ERR_PAYLOAD_TOO_LARGE"),
    "a very long id": (raw_send(template_id=json.dumps("T" * 10_000)), 400, "ERR_INVALID_REQUEST"),
    "very many variables": (
        raw_send(variables=json.dumps({f"v{n}": "x" for n in range(1_000)})),
        400,
        "ERR_INVALID_REQUEST",
    ),
    "SQL for an id": (raw_send(template_id='"x\' OR 1=1 --"'), 422, "ERR_TEMPLATE_NOT_FOUND"),
}


@pytest.mark.parametrize("name", BODIES)
def test_a_body_that_cannot_be_is_refused(account: Account, name: str) -> None:
    body, status, code = BODIES[name]
    answer = account.client.call("POST", "/v1/sms/send", body)
    assert answer.status == status, answer
    assert is_refusal(answer.body, code), answer


@pytest.mark.parametrize(
    "path", ["/v1/messages/send", "/v1/messages/validate", "/v1/webhooks", "/v1/sms/bulk", "/v1/keys", "/v1/templates"]
)
def test_no_route_takes_what_cannot_be(account: Account, path: str) -> None:
    for name in ("deep lists", "deep objects", "a list", "null", "a number", "half of it", "bad UTF-8", "nothing"):
        answer = account.client.call("POST", path, BODIES[name][0])
        assert answer.status == 400, (name, answer)
        assert is_refusal(answer.body, "ERR_INVALID_REQUEST", "ERR_INVALID_UNICODE"), (name, answer)


def test_a_bulk_body_has_its_own_bound(account: Account) -> None:
    within = account.client.call("POST", "/v1/sms/bulk", b'{"recipients":[' + b" " * BULK)
    assert within.status == 400, within
    beyond = account.client.call("POST", "/v1/sms/bulk", b" " * (BULK + 1_000_000))
    assert beyond.status == 413, beyond
    assert is_refusal(beyond.body, "ERR_PAYLOAD_TOO_LARGE")


BOMB = gzip.compress(b" " * 50_000_000)


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({"Content-Encoding": "gzip"}, BOMB, 415),
        ({"Content-Encoding": "br"}, b"{}", 415),
        ({"Content-Type": "text/plain"}, raw_send(), 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, b"to=919876543210", 415),
        ({"Content-Type": "multipart/form-data; boundary=x"}, b"--x--", 415),
        ({"Content-Type": "application/json; charset=utf-16"}, raw_send().decode().encode("utf-16"), 400),
        ({"Idempotency-Key": "k" * 1_000}, raw_send(), 400),
        ({"Idempotency-Key": "\x7f"}, raw_send(), 400),
        ({f"X-{n}": "x" for n in range(200)}, raw_send(), 431),
        ({"X-Much": "x" * 60_000}, raw_send(), 431),
    ],
)
def test_odd_headers_are_refused(account: Account, headers: dict[str, str], body: bytes, status: int) -> None:
    answer = account.client.call("POST", "/v1/sms/send", body, headers=headers)
    assert answer.status == status, answer
    assert is_refusal(answer.body, "ERR_INVALID_REQUEST", "ERR_INVALID_UNICODE")


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/v1/messages/..%2f..%2fetc%2fpasswd", 404),
        ("/v1/messages/%00", 404),
        ("/v1/messages/%ff", 404),
        ("/v1/keys/" + "k" * 5_000 + "/rotate", 405),
        ("//v1//messages", 404),
        ("/v1/messages?limit=1e3", 400),
        ("/v1/messages?limit=-1", 400),
        ("/v1/messages?limit=99999999999999999999", 400),
        ("/v1/messages?limit=1&limit=x", 400),
        ("/v1/messages?start=%00", 400),
        ("/v1/messages?correlation_id=%00", 400),
        ("/v1/messages?cursor=" + "A" * 600, 400),
        ("/v1/messages?cursor=%F0%9F%98%80", 400),
        ("/v1/nothing?" + "a=b&" * 2_000, 404),
    ],
)
def test_odd_targets_are_refused(account: Account, target: str, status: int) -> None:
    answer = account.client.call("GET", target)
    assert answer.status == status, answer
    assert is_refusal(answer.body, "ERR_INVALID_REQUEST", "ERR_NOT_FOUND")


@pytest.mark.parametrize(
    "credentials", ["Bearer", "Bearer ", "Basic eDp5", "Bearer \xff", "Bearer " + "k" * 9_000, "k"]
)
def test_odd_credentials_open_nothing(stack: Stack, credentials: str) -> None:
    answer = Client(stack.base_url).call("GET", "/v1/messages", headers={"Authorization": credentials})
    assert answer.status == 401, answer
    assert is_refusal(answer.body, "ERR_UNAUTHORIZED")


@contextmanager
def connection(stack: Stack) -> Iterator[socket.socket]:
    host = urlsplit(stack.base_url)
    with socket.create_connection((host.hostname or "", host.port or 0), timeout=TIMEOUT_S) as opened:
        yield opened


def said(stack: Stack, octets: bytes) -> bytes:
    """Say something, and nothing more; return all that comes until the edge ends it."""
    with connection(stack) as opened:
        opened.sendall(octets)
        return b"".join(iter(lambda: opened.recv(65_536), b""))


def head(account: Account, *lines: str) -> bytes:
    given = ["POST /v1/sms/send HTTP/1.1", "Host: edge", f"Authorization: Bearer {account.client.key}", *lines]
    return "\r\n".join([*given, "", ""]).encode()


SMUGGLED = b"GET /v1/keys HTTP/1.1\r\nHost: edge\r\n\r\n"


@pytest.mark.parametrize(
    ("lines", "rest", "status"),
    [
        (["Content-Length: 5", "Transfer-Encoding: chunked"], b"0\r\n\r\n" + SMUGGLED, 400),
        (["Transfer-Encoding: chunked", "Content-Length: 5"], b"0\r\n\r\n" + SMUGGLED, 400),
        (["Content-Length: 2", "Content-Length: 2"], b"{}" + SMUGGLED, 400),
        (["Content-Length: 2", "Content-Length: 60"], b"{}" + SMUGGLED, 400),
        (["Transfer-Encoding: chunked", "Transfer-Encoding: identity"], b"0\r\n\r\n" + SMUGGLED, 400),
        (["Transfer-Encoding: chunked, chunked"], b"0\r\n\r\n" + SMUGGLED, 400),
        (["Transfer-Encoding: xchunked"], b"0\r\n\r\n" + SMUGGLED, 400),
        (["Transfer-Encoding : chunked"], b"0\r\n\r\n" + SMUGGLED, 400),
        (["Transfer-Encoding: chunked"], b"2\r\n{}XX0\r\n\r\n" + SMUGGLED, 400),
        (["Transfer-Encoding: chunked"], b"-2\r\n{}\r\n0\r\n\r\n" + SMUGGLED, 400),
        (["Content-Length: two"], b"{}" + SMUGGLED, 400),
        (["X: y\r\n Content-Length: 2"], b"{}" + SMUGGLED, 400),
        (["Host: elsewhere", "Content-Length: 2", "Connection: close"], b"{}", 400),
        (["Authorization: Bearer other", "Content-Length: 2", "Connection: close"], b"{}", 400),
        (["Content-Length: 2", "Upgrade: h2c", "Connection: upgrade, close"], b"{}", 400),
    ],
)
def test_no_request_is_smuggled(stack: Stack, account: Account, lines: list[str], rest: bytes, status: int) -> None:
    answer = said(stack, head(account, *lines) + rest)
    assert answer.startswith(f"HTTP/1.1 {status} ".encode()), answer
    assert answer.count(b"\r\nx-request-id: ") == 1
    assert is_refusal(json.loads(answer.rpartition(b"\r\n\r\n")[2]), "ERR_INVALID_REQUEST")


def test_chunks_of_any_size_make_one_body(stack: Stack, account: Account) -> None:
    body = raw_send()
    chunks = b"".join(b"1;ext=%d\r\n%c\r\n" % (place, octet) for place, octet in enumerate(body))
    answer = said(
        stack, head(account, "Transfer-Encoding: chunked", "Connection: close") + chunks + b"0\r\nT: x\r\n\r\n"
    )
    assert answer.startswith(b"HTTP/1.1 202 "), answer


def test_pipelined_sends_are_each_answered_once(stack: Stack, account: Account) -> None:
    bodies = [raw_send() for _ in range(20)]
    asked = b"".join(head(account, f"Content-Length: {len(body)}") + body for body in bodies[:-1])
    last = head(account, f"Content-Length: {len(bodies[-1])}", "Connection: close") + bodies[-1]
    answers = said(stack, asked + last)
    assert answers.count(b"HTTP/1.1 202 ") == 20
    assert len({part[:40] for part in answers.split(b'"message_id":"')[1:]}) == 20


def test_slow_clients_do_not_keep_others_from_sending(stack: Stack, account: Account) -> None:
    """A hundred heads that never end, a hundred bodies that never come, and clients that read no answer."""
    slow: list[socket.socket] = []
    try:
        host = urlsplit(stack.base_url)
        for number in range(200):
            opened = socket.create_connection((host.hostname or "", host.port or 0), timeout=TIMEOUT_S)
            slow.append(opened)
            opened.sendall(b"POST /v1/sms/send HT" if number % 2 else head(account, "Content-Length: 9") + b"{")
        began = time.monotonic()
        assert all(answer.status == 202 for answer in at_once(50, lambda _: account.send()))
        assert time.monotonic() - began < TIMEOUT_S
        for opened in slow:
            opened.settimeout(ALL_LIMITS_S)
            assert opened.recv(13) == b"HTTP/1.1 408 "
    finally:
        for opened in slow:
            opened.close()


def test_the_edge_has_lived_through_it(stack: Stack, account: Account) -> None:
    before = stack.processes()["ingress"]["pid"]
    at_once(
        200,
        lambda number: said(
            stack, [b"\x00" * 1_000, b"\r\n" * 500 + b"x\r\n\r\n", SMUGGLED[:-4] + b"\r\r"][number % 3]
        ),
    )
    assert stack.processes()["ingress"]["pid"] == before
    assert account.send().status == 202
