import asyncio
import base64
import hashlib
import hmac
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import orjson
from bench.load import FIRST_NUMBER, ORDER, Content, Load, LoadPlan, Template, content_length
from bench.processes import Watch
from bench.sink import Sink, is_signed

SECRET = "whsec_" + base64.b64encode(b"k" * 32).decode()
ANSWER = b"HTTP/1.1 202 Accepted\r\ncontent-length: 20\r\n\r\n" + b'{"message_id":"TN1"}'
Answer = Callable[[dict[str, Any]], bytes | None]


@asynccontextmanager
async def server(answer: Answer) -> AsyncIterator[int]:
    """Answers what `answer` gives for a request's body; closes the connection for None."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                answered = answer(orjson.loads(await reader.readexactly(content_length(head))))
                if answered is None:
                    break
                # In two pieces: answers do not always come as one.
                writer.write(answered[:30])
                await writer.drain()
                writer.write(answered[30:])
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield listening.sockets[0].getsockname()[1]
    finally:
        listening.close()
        await listening.wait_closed()


def plan(port: int, count: int, **more: Any) -> LoadPlan:
    fixed: dict[str, Any] = {
        "api_key": "key",
        "sender": "BENCHX",
        "template_id": "T",
        "first_number": FIRST_NUMBER,
        "connections": 4,
    }
    return LoadPlan(host="127.0.0.1", port=port, count=count, **{**fixed, **more})


def test_each_request_is_valid_json_with_its_number_and_a_text_of_its_own() -> None:
    template = Template(plan(80, 1))
    head, _, body = template.request(919_876_543_210).partition(b"\r\n\r\n")
    assert content_length(head) == len(body)
    message = orjson.loads(body)
    assert message["to"] == "919876543210"
    assert message["variables"]["order_id"] == "JBJIHGFEDCBA"


async def test_flat_out_sends_every_number_once() -> None:
    seen: list[str] = []

    def answer(body: dict[str, Any]) -> bytes:
        seen.append(body["to"])
        return ANSWER

    async with server(answer) as port:
        result = await Load(plan(port, 50)).run()
    assert sorted(seen) == [str(FIRST_NUMBER + index) for index in range(50)]
    assert result.accepted == list(range(50))
    assert set(result.message_ids) == {"TN1"}
    assert all(answered > begun > 0 for begun, answered in zip(result.begun, result.answered, strict=True))


async def test_a_lost_connection_leaves_one_message_unanswered_and_the_rest_goes_on() -> None:
    def answer(body: dict[str, Any]) -> bytes | None:
        return None if body["to"] == str(FIRST_NUMBER + 7) else ANSWER

    async with server(answer) as port:
        result = await Load(plan(port, 30)).run()
    assert [index for index, status in enumerate(result.status) if status == 0] == [7]
    assert len(result.accepted) == 29
    assert result.connections_lost == 1


async def test_refusals_are_counted_and_the_first_is_kept() -> None:
    refusal = b"HTTP/1.1 422 Unprocessable\r\nContent-Length: 3\r\n\r\nbad"
    async with server(lambda _: refusal) as port:
        result = await Load(plan(port, 5)).run()
    assert list(result.status) == [422] * 5
    assert result.refusal == "bad"


async def test_a_client_that_repeats_sends_what_has_no_answer_or_a_5xx_again_until_it_is_accepted() -> None:
    unwilling: dict[int, list[bytes | None]] = {
        FIRST_NUMBER + 3: [b"HTTP/1.1 503 Away\r\nContent-Length: 0\r\n\r\n"] * 2,
        FIRST_NUMBER + 7: [None],
    }

    def answer(body: dict[str, Any]) -> bytes | None:
        left = unwilling.get(int(body["to"]))
        return left.pop() if left else ANSWER

    async with server(answer) as port:
        result = await Load(plan(port, 30, repeat=True)).run()
    assert result.accepted == list(range(30))
    assert result.repeats == 3
    assert result.refusal == ""


def test_a_client_that_repeats_gives_each_message_a_key_of_its_own() -> None:
    head, _, _ = Template(plan(80, 1, repeat=True)).request(919_876_543_210).partition(b"\r\n\r\n")
    assert b"Idempotency-Key: 919876543210" in head.split(b"\r\n")
    assert b"Idempotency-Key" not in Template(plan(80, 1)).request(919_876_543_210)


async def test_contents_are_sent_in_turn() -> None:
    login = Content(sender="LOGINX", template_id="L", variables={"otp": "4829"})
    sale = Content(sender="612345", template_id="S", variables={"offer": ORDER})
    seen: dict[int, dict[str, Any]] = {}

    def answer(body: dict[str, Any]) -> bytes:
        seen[int(body["to"]) - FIRST_NUMBER] = body
        return ANSWER

    async with server(answer) as port:
        await Load(plan(port, 5, contents=(login, sale))).run()
    assert [seen[index]["template_id"] for index in range(5)] == ["L", "S", "L", "S", "L"]
    assert [seen[index]["variables"] for index in range(2)] == [{"otp": "4829"}, {"offer": "JBGAAAAAAAAB"}]


async def test_at_a_set_rate_waiting_for_a_connection_counts_as_latency() -> None:
    async with server(_slow()) as port:
        result = await Load(plan(port, 10, connections=1, rate=1000.0)).run()
    # Ten fall due within 9 ms, one connection serves one in 20 ms: the last has waited for all before it.
    assert result.answered[9] - result.begun[9] > 0.15


def _slow() -> Answer:
    def answer(_: dict[str, Any]) -> bytes:
        time.sleep(0.02)
        return ANSWER

    return answer


def signed(body: bytes, secret: str = SECRET) -> bytes:
    by_text = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    key = base64.b64decode(secret.removeprefix("whsec_"))
    standard = base64.b64encode(hmac.digest(key, b"id.1700000000." + body, "sha256")).decode()
    return (
        f"POST /webhooks HTTP/1.1\r\nX-TechTo-Signature: sha256={by_text}\r\nwebhook-id: id\r\n"
        f"webhook-timestamp: 1700000000\r\nwebhook-signature: v1,{standard}\r\nContent-Length: {len(body)}"
    ).encode()


def test_a_signature_is_right_only_for_its_body_and_secret() -> None:
    head = signed(b"{}")
    assert is_signed(head, b"{}", SECRET)
    assert not is_signed(head, b"{ }", SECRET)
    assert not is_signed(signed(b"{}", "whsec_" + base64.b64encode(b"x" * 32).decode()), b"{}", SECRET)
    assert not is_signed(b"POST / HTTP/1.1\r\nContent-Length: 2", b"{}", SECRET)


async def test_the_sink_takes_requests_in_any_pieces_and_counts_each_webhook_once() -> None:
    sink = Sink()
    listening = await sink.start()
    body = orjson.dumps({"event": "message.delivered", "message_id": "TN1", "to": "919876543210"})
    request = signed(body) + b"\r\n\r\n" + body
    reader, writer = await asyncio.open_connection("127.0.0.1", sink.port)
    octets = request + request
    for start in range(0, len(octets), 100):
        writer.write(octets[start : start + 100])
        await writer.drain()
    for _ in range(2):
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK")
    assert sink.progress() == 1
    collected = sink.collect(SECRET)
    assert [(one.event, one.message_id, one.to) for one in collected.arrivals] == [
        ("message.delivered", "TN1", "919876543210")
    ] * 2
    assert (collected.bad_signatures, collected.malformed) == (0, 0)
    assert sink.collect(SECRET).arrivals == []
    writer.close()
    listening.close()


def test_the_watch_sees_the_cpu_of_this_process() -> None:
    watch = Watch({"me": os.getpid()})
    end = time.process_time() + 0.1
    while time.process_time() < end:
        pass
    usage = watch.finish()["me"]
    assert 0.05 < usage.cpu_s < 1.0
    assert usage.rss_mib >= usage.pss_mib > 0
