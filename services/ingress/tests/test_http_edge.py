"""What every answer has, whoever made it: ids, limits, one form of error; and the drain."""

import asyncio
import base64
import re
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import orjson

from harkara_contracts.events import MessageAccepted
from harkara_contracts.facts import AccountFact
from harkara_contracts.ids import new_message_id


def is_refusal(body: Any, headers: Any, code: str) -> bool:
    """Tell whether an answer has all that a refusal must have."""
    return (
        body["status"] == "error"
        and body["error_code"] == code
        and bool(body["error_message"])
        and body["request_id"] == headers["X-Request-Id"]
        and all(headers[f"X-RateLimit-{name}"].isdigit() for name in ("Limit", "Remaining", "Reset"))
    )


async def test_every_refusal_has_the_same_form(client: Any) -> None:
    cases: list[tuple[str, str, Any, int, str]] = [
        ("GET", "/v1/nothing", None, 404, "ERR_NOT_FOUND"),
        ("GET", "/v1/messages/none", None, 404, "ERR_NOT_FOUND"),
        ("GET", "/v1/messages/TN20269999ABCDEFGHJKMNP", None, 404, "ERR_NOT_FOUND"),
        ("GET", "/v1/sms/send", None, 405, "ERR_INVALID_REQUEST"),
        ("POST", "/v1/keys", {"name": "x"}, 400, "ERR_INVALID_REQUEST"),
        ("GET", "/v1/messages?limit=0", None, 400, "ERR_INVALID_REQUEST"),
        ("GET", "/v1/messages?cursor=%21", None, 400, "ERR_INVALID_REQUEST"),
        ("GET", "/v1/messages?start=2026-01-01T00:00:00Z&end=2026-06-01T00:00:00Z", None, 400, "ERR_INVALID_REQUEST"),
        ("POST", "/v1/accounts", {"name": "x"}, 403, "ERR_FORBIDDEN"),
        ("GET", "/v1/accounts/ACC%00", None, 400, "ERR_INVALID_REQUEST"),
    ]
    for method, path, sent, status, code in cases:
        got, body, headers = await client.call(method, path, sent)
        assert got == status, (path, body)
        assert is_refusal(body, headers, code), (path, body)


AT_THE_ENDS_OF_TIME = [
    "0001-01-01T00:00:00%2B14:00",
    "0001-01-01T00:00:00Z",
    "9999-12-31T23:59:59Z",
    "9999-12-31T23:59:59-14:00",
]


async def test_no_time_is_too_far_to_be_refused(client: Any) -> None:
    for at in AT_THE_ENDS_OF_TIME:
        for path in (f"{listed}?{end}={at}" for listed in ("messages", "account/usage") for end in ("start", "end")):
            status, body, headers = await client.call("GET", f"/v1/{path}")
            assert status == 400, (path, body)
            assert is_refusal(body, headers, "ERR_INVALID_REQUEST")
        key = {"name": "x", "scopes": ["send"], "expires_at": at.replace("%2B", "+")}
        assert (await client.call("POST", "/v1/keys", key))[0] == 400
        cursor = base64.urlsafe_b64encode(f"{at.replace('%2B', '+')}|{new_message_id()}".encode()).decode()
        assert (await client.call("GET", f"/v1/messages?cursor={cursor}"))[0] in {200, 400}
        assert (await client.send(schedule_at=at.replace("%2B", "+")))[0] == 400


async def test_all_methods_of_a_path_are_allowed_by_name(client: Any) -> None:
    for path, methods in (
        ("/v1/sms/send", "POST"),
        ("/v1/messages/send", "POST"),
        ("/v1/senders", "GET, POST"),
        ("/v1/webhooks/WH1", "DELETE, GET, PATCH"),
    ):
        status, _, headers = await client.call("OPTIONS", path)
        assert (status, headers["Allow"]) == (405, methods)


async def test_a_long_key_of_the_clients_making_is_not_quoted(client: Any) -> None:
    _, body, _ = await client.send(variables={"x" * 1_000: "1"})
    assert len(body["errors"][0]["field"]) < 200


async def test_fields_are_named(client: Any) -> None:
    _, body, _ = await client.call("POST", "/v1/keys", {"name": "", "scopes": ["fly"]})
    assert {error["field"] for error in body["errors"]} == {"name", "scopes.0"}
    _, body, _ = await client.send(to=None, priority="urgent")
    assert {error["field"] for error in body["errors"]} == {"to", "priority"}


async def test_without_a_valid_key_nothing_is_told(edge: Any) -> None:
    for sent in ({}, {"Authorization": "Bearer hk_live_guess"}, {"Authorization": "Basic eDp5"}, {"Authorization": ""}):
        for path in ("/v1/messages", "/v1/nothing", "/v1/sms/send"):
            async with edge.session.get(edge.base_url + path, headers=sent) as response:
                assert response.status == 401
                assert is_refusal(await response.json(), response.headers, "ERR_UNAUTHORIZED")
                assert response.headers["WWW-Authenticate"] == "Bearer"


async def test_a_sane_request_id_comes_back_and_another_does_not(client: Any) -> None:
    assert (await client.call("GET", "/v1/keys", X_Request_Id="trace-42"))[2]["X-Request-Id"] == "trace-42"
    for odd in ("two words", "x" * 129, "<script>"):
        assert (await client.call("GET", "/v1/keys", X_Request_Id=odd))[2]["X-Request-Id"].startswith("REQ")


async def test_bodies_are_bounded_and_must_be_json(start_edge: Any, bus: Any) -> None:
    async with start_edge(max_body_bytes=2048) as edge:
        client = await edge.client(bus)
        status, body, headers = await client.call("POST", "/v1/sms/send", b" " * 2049)
        assert status == 413
        assert is_refusal(body, headers, "ERR_PAYLOAD_TOO_LARGE")

        async def endless() -> Any:
            for _ in range(100):
                yield b" " * 100

        sent = {"Authorization": f"Bearer {client.key}", "Content-Type": "application/json"}
        async with edge.session.post(f"{edge.base_url}/v1/sms/send", data=endless(), headers=sent) as response:
            assert response.status == 413
        status, body, headers = await client.call("POST", "/v1/sms/send", b"{}", Content_Type="text/xml")
        assert status == 415
        assert is_refusal(body, headers, "ERR_INVALID_REQUEST")


async def test_a_body_that_does_not_come_is_not_waited_for_long(start_edge: Any, bus: Any) -> None:
    async with start_edge(body_timeout_s=0.1) as edge:
        client = await edge.client(bus)
        reader, writer = await asyncio.open_connection("127.0.0.1", int(edge.base_url.rpartition(":")[2]))
        head = f"POST /v1/sms/send HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {client.key}\r\nContent-Length: 9\r\n\r\n{{"
        writer.write(head.encode())
        assert await asyncio.wait_for(reader.readline(), 5) == b"HTTP/1.1 408 Request Timeout\r\n"
        writer.close()


async def test_requests_a_minute_are_limited_and_counted(edge: Any, bus: Any) -> None:
    client = await edge.client(bus, requests_per_minute=3)
    seen = [(await client.call("GET", "/v1/keys")) for _ in range(4)]
    assert [status for status, _, _ in seen] == [200, 200, 200, 429]
    assert [headers["X-RateLimit-Remaining"] for _, _, headers in seen] == ["2", "1", "0", "0"]
    assert {headers["X-RateLimit-Limit"] for _, _, headers in seen} == {"3"}
    _, body, headers = seen[-1]
    assert is_refusal(body, headers, "ERR_RATE_LIMIT_EXCEEDED")
    assert 1 <= int(headers["Retry-After"]) <= 20
    assert 0 <= int(headers["X-RateLimit-Reset"]) - time.time() <= 62


async def test_strangers_are_limited_too(start_edge: Any) -> None:
    async with start_edge(anonymous_requests_per_minute=5) as edge:
        seen = []
        for _ in range(6):
            async with edge.session.get(f"{edge.base_url}/v1/keys") as response:
                seen.append(response.status)
        assert seen[-1] == 429


async def test_a_suspended_account_is_refused_until_it_is_opened_again(edge: Any, bus: Any) -> None:
    client = await edge.client(bus, status="suspended")
    status, body, headers = await client.send()
    assert status == 403
    assert is_refusal(body, headers, "ERR_FORBIDDEN")
    active = AccountFact(version=time.time_ns(), account_id=client.account_id, name="Test", plan="enterprise")
    await edge.service.facts_reached(await bus.publish([active]))
    assert (await client.send())[0] == 202


async def test_an_expired_key_is_refused(edge: Any, bus: Any) -> None:
    client = await edge.client(bus, of_key={"expires_at": datetime.now(UTC) - timedelta(seconds=1)})
    assert (await client.send())[0] == 401


async def test_a_fault_of_ours_is_told_without_its_words(edge: Any, bus: Any, caplog: Any) -> None:
    client = await edge.client(bus)

    async def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("919876543210 said hello")

    edge.service.publisher.commit = broken
    edge.service.commands.call = broken
    for answer in (await client.send(), await client.call("GET", "/v1/account/balance")):
        status, body, headers = answer
        assert status == 500
        assert is_refusal(body, headers, "ERR_INTERNAL")
        assert "hello" not in str(body)
    assert "hello" not in caplog.text
    assert caplog.text.count("a request failed") == 2


async def test_the_bus_away_is_told_in_time(start_edge: Any, bus: Any) -> None:
    async with start_edge(accept_timeout_s=0.1) as edge:
        client = await edge.client(bus)

        back = asyncio.Event()
        send = edge.service.publisher.send

        async def stuck(messages: Any) -> Any:
            await back.wait()
            return await send(messages)

        edge.service.publisher.send = stuck
        status, body, headers = await client.send()
        back.set()
        assert status == 503
        assert is_refusal(body, headers, "ERR_UNAVAILABLE")


async def test_too_many_at_once_are_refused(start_edge: Any, bus: Any) -> None:
    async with start_edge(max_requests_in_flight=1) as edge:
        client = await edge.client(bus)
        entered, go_on = asyncio.Event(), asyncio.Event()
        commit = edge.service.publisher.commit

        async def slow(event: Any, *_: Any) -> None:
            entered.set()
            await go_on.wait()
            await commit(event)

        edge.service.publisher.commit = slow
        first = asyncio.create_task(client.send())
        await entered.wait()
        status, body, headers = await client.send()
        go_on.set()
        assert status == 503
        assert is_refusal(body, headers, "ERR_UNAVAILABLE")
        assert (await first)[0] == 202


async def test_the_description_is_complete_and_the_docs_need_no_other_host(edge: Any) -> None:
    async with edge.session.get(f"{edge.base_url}/openapi.json") as response:
        description = await response.json()
    send = description["paths"]["/v1/sms/send"]["post"]
    assert send["requestBody"]["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/SmsSend"}
    assert {"202", "402", "422", "429"} <= send["responses"].keys()
    schemas = description["components"]["schemas"]
    text = str(description)
    named = {piece.partition("'")[0] for piece in text.split("#/components/schemas/")[1:]}
    assert named <= schemas.keys()
    assert {"SmsSend", "MessageSend", "ErrorBody"} <= named
    async with edge.session.get(f"{edge.base_url}/docs") as response:
        page = await response.text()
    assert "/v1/sms/send" in page
    assert not re.search(r"""(src|href|url)\s*[=(]\s*["']?(https?:)?//""", page)
    assert "<script" not in page


async def test_a_drain_finishes_what_has_begun_and_takes_nothing_new(start_edge: Any, bus: Any) -> None:
    entered, go_on = asyncio.Event(), asyncio.Event()

    async def run_until_drained(ready: "asyncio.Future[Any]") -> None:
        async with start_edge() as edge:
            commit = edge.service.publisher.commit

            async def slow(event: Any, *_: Any) -> None:
                entered.set()
                await go_on.wait()
                await commit(event)

            edge.service.publisher.commit = slow
            ready.set_result((edge, await edge.client(bus)))
            await entered.wait()

    ready: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    draining = asyncio.create_task(run_until_drained(ready))
    edge, first = await ready
    async with aiohttp.ClientSession() as session:
        url = f"{edge.base_url}/v1/sms/send"
        body = {
            "to": "919876543210",
            "sender": "HRKARA",
            "template_id": "TN_OTP_001",
            "variables": {"otp": "1", "minutes": "5"},
            "category": "otp",
        }
        sending = asyncio.create_task(
            session.post(url, json=body, headers={"Authorization": f"Bearer {first.key}"}).__aenter__()
        )
        await entered.wait()
        await edge.service.stopping.wait()
        await _until_refused(edge.base_url)
        assert not draining.done()
        go_on.set()
        response = await sending
        assert response.status == 202
        assert response.headers["Connection"] == "close"
        message_id = (await response.json())["message_id"]
    await draining
    assert (await bus.next(MessageAccepted, lambda e: e.message_id == message_id)).account_id == first.account_id


async def _until_refused(base_url: str) -> None:
    port = int(base_url.rpartition(":")[2])
    async with asyncio.timeout(5):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionError:
                return
            writer.close()
            await writer.wait_closed()


def as_octets(client: Any, version: str = "1.1") -> bytes:
    message = {"to": "919876543210", "sender": "HRKARA", "template_id": "TN_OTP_001", "category": "otp"}
    body = orjson.dumps(message | {"variables": {"otp": "123456", "minutes": 5}})
    return (
        f"POST /v1/sms/send HTTP/{version}\r\nHost: edge\r\nAuthorization: Bearer {client.key}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode() + body


async def test_an_answer_comes_whole_and_in_its_turn(client: Any) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(client.base_url.rpartition(":")[2]))
    writer.write(as_octets(client))
    head, _, body = (await reader.read(65_536)).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 202 Accepted\r\ndate: ")
    assert orjson.loads(body)["status"] == "accepted"
    writer.write(as_octets(client) * 2)
    answers = b""
    while answers.count(b'"accepted"') < 2:
        answers += await reader.read(65_536)
    assert answers.count(b"HTTP/1.1 202 Accepted\r\n") == 2
    writer.write(as_octets(client, "1.0"))
    last = await reader.read()
    assert b"\r\nconnection: close\r\n" in last
    assert orjson.loads(last.partition(b"\r\n\r\n")[2])["status"] == "accepted"
    writer.close()


async def test_an_event_stream_is_no_request_under_way(start_edge: Any, bus: Any) -> None:
    async with start_edge(max_requests_in_flight=1) as edge:
        client = await edge.client(bus)
        sent = {"Authorization": f"Bearer {client.key}"}
        async with edge.session.get(f"{edge.base_url}/v1/events", headers=sent) as stream:
            assert stream.status == 200
            assert stream.headers["Content-Type"].startswith("text/event-stream")
            assert stream.headers["X-Request-Id"]
            assert stream.headers["X-RateLimit-Remaining"].isdigit()
            assert (await client.send())[0] == 202
        assert (await client.send())[0] == 202


async def test_an_address_is_believed_from_trusted_proxies_alone(start_edge: Any, bus: Any) -> None:
    async with start_edge() as edge:
        client = await edge.client(bus, ip_allow_list=["198.51.100.0/24"])
        for forwarded in ("198.51.100.1", "198.51.100.1, 127.0.0.1"):
            status, body, headers = await client.call("GET", "/v1/messages", X_Forwarded_For=forwarded)
            assert status == 401
            assert is_refusal(body, headers, "ERR_IP_NOT_ALLOWED")
    async with start_edge(forwarded_allow_ips="127.0.0.0/8") as edge:
        client = await edge.client(bus, ip_allow_list=["198.51.100.0/24"])
        for forwarded, status in (
            ("198.51.100.1", 200),
            ("1.1.1.1, 198.51.100.1", 200),
            ("198.51.100.1, 1.1.1.1", 401),
            ("198.51.100.1, nonsense", 401),
            ("", 401),
        ):
            assert (await client.call("GET", "/v1/messages", X_Forwarded_For=forwarded))[0] == status, forwarded


async def test_a_key_shown_from_elsewhere_uses_up_no_limit_of_its_account(start_edge: Any, bus: Any) -> None:
    async with start_edge(forwarded_allow_ips="127.0.0.1") as edge:
        client = await edge.client(bus, requests_per_minute=2, ip_allow_list=["198.51.100.1"])
        for _ in range(5):
            assert (await client.call("GET", "/v1/keys", X_Forwarded_For="203.0.113.1"))[0] == 401
        assert (await client.call("GET", "/v1/keys", X_Forwarded_For="198.51.100.1"))[0] == 200


async def test_headers_that_come_twice_are_refused(client: Any) -> None:
    port = int(client.base_url.rpartition(":")[2])
    for line in ("Host: elsewhere", "Authorization: Bearer x", "Idempotency-Key: b", "Content-Type: text/xml"):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        head = (
            f"GET /v1/messages HTTP/1.1\r\nHost: edge\r\nAuthorization: Bearer {client.key}\r\nIdempotency-Key: a\r\n"
            f"Content-Type: application/json\r\n{line}\r\nConnection: close\r\n\r\n"
        )
        writer.write(head.encode())
        answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 400 "), answer
        assert line.partition(":")[0].encode() in answer.rpartition(b"\r\n\r\n")[2]
        writer.close()


async def test_a_request_to_no_host_is_refused(client: Any) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(client.base_url.rpartition(":")[2]))
    writer.write(b"GET /v1/messages HTTP/1.1\r\nConnection: close\r\n\r\n")
    assert (await reader.read()).startswith(b"HTTP/1.1 400 ")
    writer.close()


async def test_what_is_busy_says_when_to_come_again(start_edge: Any, bus: Any) -> None:
    async with start_edge(max_event_streams=0) as edge:
        client = await edge.client(bus)
        status, body, headers = await client.call("GET", "/v1/events")
        assert status == 503
        assert is_refusal(body, headers, "ERR_UNAVAILABLE")
        assert int(headers["Retry-After"]) >= 1
