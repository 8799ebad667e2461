"""What strangers do to a connection: it is answered in its turn, bounded in time and size, and the server goes on."""

import asyncio
import json
import socket
from typing import Any

import pytest
from services.ingress.tests.serving import Echo, Raw, connected, served
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from harkara_ingress.http.context import ANSWER_KEY

HEAD = b"POST /v1/x HTTP/1.1\r\nHost: edge\r\n"
GET = b"GET /%b HTTP/1.1\r\nHost: edge\r\n\r\n"


def is_refusal(answer: bytes, status: int) -> bool:
    head, _, body = answer.rpartition(b"\r\n\r\n")
    told = json.loads(body)
    return (
        head.rpartition(b"HTTP/1.1 ")[2].startswith(str(status).encode())
        and b"\r\nconnection: close" in head
        and f"x-request-id: {told['request_id']}".encode() in head
        and b"x-ratelimit-remaining: " in head
        and told["status"] == "error"
        and told["error_code"] in {"ERR_INVALID_REQUEST", "ERR_UNAVAILABLE"}
    )


READ_DIFFERENTLY = [
    b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
    b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
    b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
    b"Content-Length: 3, 3\r\n\r\nabc",
    b"Content-Length: +3\r\n\r\nabc",
    b"Content-Length: 0x3\r\n\r\nabc",
    b"Content-Length: -1\r\n\r\n",
    b"Content-Length: 99999999999999999999999\r\n\r\n",
    b"Content-Length : 3\r\n\r\nabc",
    b"Content-Length:\r\n\r\n",
    b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    b"Transfer-Encoding: identity\r\n\r\n",
    b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    b"Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
    b"X: a\r\n folded\r\n\r\n",
    b"X: a\nY: b\r\n\r\n",
    b"X: a\rY: b\r\n\r\n",
    b"X: \x00\r\n\r\n",
    b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\nabc",
    b"Transfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n",
    b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"Transfer-Encoding: chunked\r\n\r\n-1\r\n",
    b"Connection: Upgrade\r\nUpgrade: h2c\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
]


@pytest.mark.parametrize("rest", READ_DIFFERENTLY)
async def test_what_others_may_read_differently_is_refused(rest: bytes) -> None:
    app = Echo()
    async with served(app) as server, connected(server.port) as raw:
        await raw.say(HEAD + rest + GET % b"smuggled")
        assert is_refusal(await raw.rest(), 400)
    assert app.asked == []


@pytest.mark.parametrize(
    ("octets", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505),
        (b"GET /\r\n\r\n", 505),
        (b"get / HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"FLY / HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET /\x00 HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 40_000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\n" + b"".join(b"X-%d: a\r\n" % n for n in range(101)) + b"\r\n", 431),
    ],
)
async def test_what_is_no_request_is_refused(octets: bytes, status: int) -> None:
    app = Echo()
    async with served(app) as server, connected(server.port) as raw:
        await raw.say(octets)
        assert is_refusal(await raw.rest(), status)
    assert app.asked == []


async def test_a_head_without_end_is_not_kept() -> None:
    async with served(Echo()) as server, connected(server.port) as raw:
        await raw.say(b"GET / HTTP/1.1\r\nHost: x\r\nX: ")

        async def pour() -> None:
            while True:
                await raw.say(b"a" * 8_192)
                await asyncio.sleep(0)

        pouring = asyncio.create_task(pour())
        assert is_refusal(await raw.rest(), 431)
        pouring.cancel()
        await asyncio.wait([pouring])


async def test_a_head_that_dribbles_is_given_up() -> None:
    async with served(Echo(), head_timeout_s=0.5) as server, connected(server.port) as raw:

        async def dribble() -> None:
            for octet in b"GET / HTTP/1.1\r\nHost: edge\r\nX: " + b"a" * 1_000:
                await raw.say(bytes((octet,)))
                await asyncio.sleep(0.05)

        dribbling = asyncio.create_task(dribble())
        assert is_refusal(await raw.rest(), 408)
        dribbling.cancel()
        await asyncio.wait([dribbling])


async def test_the_next_head_has_a_deadline_too() -> None:
    app = Echo()
    async with served(app, head_timeout_s=0.5) as server, connected(server.port) as raw:
        await raw.say(GET % b"first" + b"GET /second HTTP/1.1\r\n")
        assert await raw.answer() == (200, b"GET /first 0")
        assert is_refusal(await raw.rest(), 408)


async def test_a_connection_that_says_nothing_is_shut() -> None:
    async with served(Echo(), head_timeout_s=0.5) as server, connected(server.port) as raw:
        assert await raw.rest() == b""


async def test_an_idle_connection_is_shut_and_a_busy_one_is_not() -> None:
    app = Echo()
    async with served(app, keep_alive_s=1, head_timeout_s=0.5) as server, connected(server.port) as raw:
        app.go_on.clear()
        await raw.say(GET % b"slow")
        while not app.asked:
            await asyncio.sleep(0.01)
        asyncio.get_running_loop().call_later(2.5, app.go_on.set)
        assert await raw.answer() == (200, b"GET /slow 0")
        assert await raw.rest() == b""


async def test_a_body_that_nobody_waits_for_is_not_waited_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harkara_ingress.http.connection._REST_S", 1.0)

    async def answers_at_once(scope: Scope, receive: Receive, send: Send) -> None:
        await scope[ANSWER_KEY](413, b"", b"", is_last=False)

    async with served(answers_at_once) as server, connected(server.port) as raw:
        await raw.say(HEAD + b"Content-Length: 1000000000\r\n\r\n")
        assert (await raw.answer())[0] == 413

        async def dribble() -> None:
            while True:
                await raw.say(b"a")
                await asyncio.sleep(0.1)

        dribbling = asyncio.create_task(dribble())
        await raw.ended()
        dribbling.cancel()
        await asyncio.wait([dribbling])


async def test_a_client_that_waits_for_its_100_is_told_that_the_connection_ends() -> None:
    async def answers_at_once(scope: Scope, receive: Receive, send: Send) -> None:
        await scope[ANSWER_KEY](413, b"", b"", is_last=False)

    async with served(answers_at_once) as server, connected(server.port) as raw:
        await raw.say(HEAD + b"Content-Length: 10\r\nExpect: 100-continue\r\n\r\n")
        assert b"\r\nconnection: close\r\n" in await raw.rest()
    app = Echo()
    async with served(app) as server, connected(server.port) as raw:
        await raw.say(HEAD + b"Content-Length: 3\r\nExpect: 100-continue\r\n\r\n")
        assert await raw.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await raw.say(b"abc" + GET % b"next")
        assert await raw.answer() == (200, b"POST /v1/x 3")
        assert await raw.answer() == (200, b"GET /next 0")


async def test_pipelined_requests_are_answered_in_their_order() -> None:
    async with served(Echo()) as server, connected(server.port) as raw:
        await raw.say(b"".join(GET % str(n).encode() for n in range(40)))
        for n in range(40):
            assert await raw.answer() == (200, f"GET /{n} 0".encode())
        await raw.say(
            HEAD + b"Transfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n0\r\nTrailer: x\r\n\r\n" + GET % b"last"
        )
        assert await raw.answer() == (200, b"POST /v1/x 3")
        assert await raw.answer() == (200, b"GET /last 0")


async def test_a_trailer_is_no_header() -> None:
    seen: list[bytes] = []

    async def notes(scope: Scope, receive: Receive, _: Send) -> None:
        await receive()
        seen.extend(name for name, _ in scope["headers"])
        await scope[ANSWER_KEY](200, b"", b"", is_last=True)

    chunks = b"Transfer-Encoding: chunked\r\n\r\n0\r\nAuthorization: Bearer x\r\nX-Forwarded-For: 1.1.1.1\r\n\r\n"
    async with served(notes) as server, connected(server.port) as raw:
        await raw.say(HEAD + chunks)
        assert (await raw.answer())[0] == 200
    assert seen == [b"host", b"transfer-encoding"]


@pytest.mark.parametrize("filler", [b"a", b"a: b\r\n"])
@pytest.mark.parametrize("begin", [b"0\r\nTrailer: ", b"3;ext="])
async def test_trailers_and_extensions_without_end_are_not_kept(begin: bytes, filler: bytes) -> None:
    async with served(Echo()) as server, connected(server.port) as raw:
        await raw.say(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + begin)

        async def pour() -> None:
            while True:
                await raw.say(filler * 4_096)
                await asyncio.sleep(0)

        pouring = asyncio.create_task(pour())
        assert is_refusal(await raw.rest(), 400)
        pouring.cancel()
        await asyncio.wait([pouring])


@pytest.mark.parametrize("framing", ["length", "large chunks", "small chunks"])
async def test_a_long_body_may_come_in_any_pieces(framing: str) -> None:
    size = 3_000_000 if framing != "small chunks" else 40_000
    async with served(Echo()) as server, connected(server.port) as raw:
        if framing == "length":
            await raw.say(HEAD + b"Content-Length: %d\r\n\r\n" % size)
            await asyncio.sleep(0.05)  # so that the head is a piece of its own
            await raw.say(b"a" * size)
        else:
            await raw.say(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
            await asyncio.sleep(0.05)
            chunk = 1 if framing == "small chunks" else 1_000_000
            await raw.say(b"".join(b"%x\r\n%b\r\n" % (chunk, b"a" * chunk) for _ in range(size // chunk)))
            await raw.say(b"0\r\n\r\n")
        assert await raw.answer() == (200, b"POST /v1/x %d" % size)


async def test_what_cannot_be_read_is_answered_after_what_could() -> None:
    app = Echo()
    app.go_on.clear()
    async with served(app) as server, connected(server.port) as raw:
        await raw.say(GET % b"1" + GET % b"2" + b"nonsense\r\n\r\n" + GET % b"3")
        while not app.asked:
            await asyncio.sleep(0.01)
        app.go_on.set()
        assert await raw.answer() == (200, b"GET /1 0")
        assert await raw.answer() == (200, b"GET /2 0")
        assert is_refusal(await raw.rest(), 400)
    assert app.asked == ["GET /1 0", "GET /2 0"]


async def test_a_queued_request_with_a_broken_body_is_not_run() -> None:
    app = Echo()
    app.go_on.clear()
    async with served(app) as server, connected(server.port) as raw:
        await raw.say(GET % b"1" + HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n")
        while not app.asked:
            await asyncio.sleep(0.01)
        app.go_on.set()
        assert await raw.answer() == (200, b"GET /1 0")
        assert is_refusal(await raw.rest(), 400)
    assert app.asked == ["GET /1 0"]


async def test_no_more_than_some_requests_may_wait_on_one_connection() -> None:
    app = Echo()
    app.go_on.clear()
    async with served(app) as server, connected(server.port) as raw:
        await raw.say(b"".join(GET % str(n).encode() for n in range(1_000)))
        while not app.asked:
            await asyncio.sleep(0.01)
        app.go_on.set()
        said = await raw.rest()
        assert is_refusal(said, 503)
    assert 64 <= len(app.asked) == said.count(b"HTTP/1.1 200") <= 66


@pytest.mark.parametrize("in_pieces", [False, True])
async def test_an_offer_to_upgrade_is_not_taken_up_and_costs_nothing(*, in_pieces: bool) -> None:
    offer = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAA\r\n"
    said = HEAD + offer + b"Content-Length: 3\r\n\r\nabc" + GET % b"next" + b"GET /u HTTP/1.1\r\nHost: e\r\n" + offer
    async with served(Echo()) as server, connected(server.port) as raw:
        for piece in [said[n : n + 1] for n in range(len(said))] if in_pieces else [said]:
            await raw.say(piece)
        await raw.say(b"\r\n" + GET % b"last")
        assert [await raw.answer() for _ in range(4)] == [
            (200, b"POST /v1/x 3"),
            (200, b"GET /next 0"),
            (200, b"GET /u 0"),
            (200, b"GET /last 0"),
        ]


async def test_a_head_request_gets_no_body() -> None:
    async with served(Echo()) as server, connected(server.port) as raw:
        await raw.say(b"HEAD /v1/x HTTP/1.1\r\nHost: edge\r\nConnection: close\r\n\r\n")
        said = await raw.rest()
        assert b"\r\ncontent-length: 12\r\n" in said
        assert said.endswith(b"\r\n\r\n")


async def test_connections_of_one_address_are_bounded() -> None:
    async with served(Echo(), max_connections_per_address=2) as server:
        async with connected(server.port) as first, connected(server.port) as second:
            for raw in (first, second):
                await raw.say(GET % b"x")
                assert (await raw.answer())[0] == 200
            async with connected(server.port) as third:
                assert is_refusal(await third.rest(), 503)
        await _answers_again(server.port)


async def _answers_again(port: int) -> None:
    async with asyncio.timeout(10):
        while True:
            async with connected(port) as raw:
                await raw.say(GET % b"x")
                if (await raw.reader.read(12)) == b"HTTP/1.1 200":
                    return


async def test_a_trusted_proxy_may_have_any_number_and_all_together_are_bounded() -> None:
    limits: dict[str, Any] = {"max_connections_per_address": 1, "forwarded_allow_ips": "127.0.0.0/8"}
    async with (
        served(Echo(), max_connections=2, **limits) as server,
        connected(server.port) as first,
        connected(server.port) as second,
        connected(server.port) as third,
    ):
        for raw in (first, second):
            await raw.say(GET % b"x")
            assert (await raw.answer())[0] == 200
        assert is_refusal(await third.rest(), 503)


async def test_an_answer_that_is_not_read_is_given_up() -> None:
    ended = asyncio.Event()

    async def endless(scope: Scope, receive: Receive, send: Send) -> None:
        async def parts() -> Any:
            try:
                while True:
                    yield b"x" * 65_536
                    await asyncio.sleep(0)
            finally:
                ended.set()

        await StreamingResponse(parts())(scope, receive, send)

    async with served(endless, write_timeout_s=0.5) as server:
        with socket.socket() as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            deaf.connect(("127.0.0.1", server.port))
            deaf.sendall(GET % b"x")
            async with asyncio.timeout(10):
                await ended.wait()
        assert isinstance(await _alive(server.port), Raw)


async def _alive(port: int) -> Raw:
    async with connected(port) as raw:
        await raw.say(GET % b"x")
        assert (await raw.reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 200")
        return raw
