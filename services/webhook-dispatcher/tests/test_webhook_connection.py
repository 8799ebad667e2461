"""The client's end of HTTP/1.1, against servers that answer byte for byte what a test says."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from harkara_webhook_dispatcher import connection as under_test
from harkara_webhook_dispatcher.connection import BODY_KEPT, Connections, NoAnswerError, Place, Reply
from harkara_webhook_dispatcher.guard import Guard

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
REQUEST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n."
Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Server:
    """Gives the n-th request the n-th answer, and the last one to all that follow; counts connections."""

    answers: list[Answer]
    port: int = 0
    requests: int = 0
    connections: int = 0
    open: dict["asyncio.Task[None] | None", asyncio.StreamWriter] = field(default_factory=dict)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open[asyncio.current_task()] = writer
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                await reader.readuntil(b"\r\n\r\n.")
                answer = self.answers[min(self.requests, len(self.answers) - 1)]
                self.requests += 1
                await answer(writer)
        writer.close()
        del self.open[asyncio.current_task()]

    async def end(self) -> None:
        for writer in self.open.values():
            writer.close()
        await asyncio.gather(*(task for task in self.open if task))


def says(*pieces: bytes, ends: bool = False) -> Answer:
    async def answer(writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        if ends:
            writer.close()

    return answer


@asynccontextmanager
async def listening(*answers: Answer, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    made = Server(list(answers))
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0, ssl=tls)
    made.port = server.sockets[0].getsockname()[1]
    async with server:
        yield made
        server.close()
        await made.end()


@pytest.fixture
async def connections() -> AsyncIterator[Connections]:
    guard = Guard(sandbox=True)
    made = Connections(guard)
    yield made
    made.close()
    guard.close()
    await asyncio.sleep(0)


async def post(connections: Connections, server: Server, timeout_s: float = 5.0) -> Reply:
    return await connections.post(Place("127.0.0.1", server.port, is_tls=False), REQUEST, timeout_s)


ANSWERS: dict[str, tuple[tuple[bytes, ...], Reply]] = {
    "a length": ((OK,), Reply(200, None, b"ok")),
    "octet by octet": (tuple(OK[place : place + 1] for place in range(len(OK))), Reply(200, None, b"ok")),
    "chunks": (
        (b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1;x=y\r\nc\r\n0\r\n\r\n",),
        Reply(201, None, b"abc"),
    ),
    "no body": ((b"HTTP/1.1 204 No Content\r\n\r\n",), Reply(204)),
    "an interim answer before": ((b"HTTP/1.1 103 Early Hints\r\nRetry-After: 9\r\n\r\n", OK), Reply(200, None, b"ok")),
    "a head to remember": (
        (b"HTTP/1.1 503 Busy\r\nretry-AFTER: 42\r\nContent-Length: 0\r\n\r\n",),
        Reply(503, "42"),
    ),
    "bare line ends": ((b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",), Reply(200, None, b"ok")),
}


@pytest.mark.parametrize("name", ANSWERS)
async def test_an_answer_is_read_and_its_connection_kept(connections: Connections, name: str) -> None:
    pieces, expected = ANSWERS[name]
    async with listening(says(*pieces)) as server:
        assert [await post(connections, server) for _ in range(3)] == [expected] * 3
        assert server.connections == 1


ENDED: dict[str, tuple[tuple[bytes, ...], bytes]] = {
    "the server says so": ((b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",), b"ok"),
    "HTTP/1.0": ((b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",), b"ok"),
    "a second answer": ((OK + b"HTTP/1.1 500 Odd\r\nContent-Length: 3\r\n\r\nodd",), b"ok"),
    "rubbish behind the answer": ((OK + b"\x00rubbish",), b"ok"),
    "too long a body": ((b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100_000,), b"x" * BODY_KEPT),
    "a body without end": (
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1000\r\n" + b"x" * 4096 + b"\r\n"),
        b"x" * BODY_KEPT,
    ),
    "more framing than body": (
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", *([b"1;" + b"e" * 30_000 + b"\r\nx\r\n"] * 3)),
        b"xx",
    ),
}


@pytest.mark.parametrize("name", ENDED)
async def test_after_some_answers_the_connection_is_not_used_again(connections: Connections, name: str) -> None:
    pieces, body = ENDED[name]
    async with listening(says(*pieces)) as server:
        for _ in range(2):
            reply = await post(connections, server)
            assert (reply.status, reply.retry_after, reply.body[: len(body)]) == (200, None, body)
            assert len(reply.body) <= BODY_KEPT
        assert server.connections == 2


async def test_the_end_of_the_connection_may_be_the_end_of_the_body(connections: Connections) -> None:
    async with listening(says(b"HTTP/1.1 200 OK\r\n\r\n", b"all ", b"of it", ends=True)) as server:
        assert await post(connections, server) == Reply(200, None, b"all of it")


BROKEN: dict[str, tuple[tuple[bytes, ...], str]] = {
    "nothing": ((), "the connection broke before the answer"),
    "half a head": ((b"HTTP/1.1 200 OK\r\nContent-",), "the connection broke in the middle of the answer"),
    "half a body": ((OK[:-1],), "the connection broke in the middle of the answer"),
    "half the chunks": (
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n",),
        "the connection broke in the middle of the answer",
    ),
    "another protocol": ((b"220 mail.example.test ESMTP\r\n",), "the answer is not valid HTTP"),
    "two lengths": (
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",),
        "the answer is not valid HTTP",
    ),
    "another protocol from here on": (
        (b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n",),
        "the answer is not valid HTTP",
    ),
    "one endless header": ((b"HTTP/1.1 200 OK\r\nX: ", *([b"a" * 20_000] * 5)), "the answer is not valid HTTP"),
    "endless headers": ((b"HTTP/1.1 200 OK\r\n", *([b"X: abcdefgh\r\n"] * 9_000)), "the answer is not valid HTTP"),
    "endless interim answers": ((b"HTTP/1.1 100 Continue\r\n\r\n" * 4_000,), "the answer is not valid HTTP"),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_no_whole_answer_is_told_in_plain_words(connections: Connections, name: str) -> None:
    pieces, words = BROKEN[name]
    async with listening(says(*pieces, ends=True), says(OK)) as server:
        with pytest.raises(NoAnswerError) as caught:
            await post(connections, server)
        assert str(caught.value) == words
        assert (await post(connections, server)).status == 200
        assert server.connections == 2


async def test_what_comes_unasked_ends_a_kept_connection(connections: Connections) -> None:
    writers: list[asyncio.StreamWriter] = []

    async def answer(writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        writer.write(OK)

    async with listening(answer) as server:
        await post(connections, server)
        writers[0].write(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            await writers[0].wait_closed()
        assert (await post(connections, server)).status == 200
        assert server.connections == 2


async def test_a_connection_that_the_server_ended_is_not_used_again(connections: Connections) -> None:
    async with listening(says(OK, ends=True)) as server:
        for _ in range(2):
            assert (await post(connections, server)).status == 200
            await asyncio.sleep(0.05)
        assert server.connections == 2


async def test_an_answer_that_takes_too_long_costs_the_connection(connections: Connections) -> None:
    silent = asyncio.Event()

    async def never(_: asyncio.StreamWriter) -> None:
        await silent.wait()

    async with listening(says(OK), never) as server:
        await post(connections, server)
        with pytest.raises(TimeoutError):
            await post(connections, server, timeout_s=0.05)
        server.answers[-1] = says(OK)
        assert (await post(connections, server)).status == 200
        assert server.connections == 2
        silent.set()


async def test_a_request_given_up_costs_the_connection(connections: Connections) -> None:
    begun, silent = asyncio.Event(), asyncio.Event()

    async def never(_: asyncio.StreamWriter) -> None:
        begun.set()
        await silent.wait()

    async with listening(never) as server:
        task = asyncio.create_task(post(connections, server))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        silent.set()
        server.answers[-1] = says(OK)
        assert (await post(connections, server)).status == 200
        assert server.connections == 2


async def test_requests_at_once_have_connections_of_their_own(connections: Connections) -> None:
    async with listening(says(OK)) as server:
        assert {reply.status for reply in await asyncio.gather(*(post(connections, server) for _ in range(5)))} == {200}
        assert server.connections == 5
        await asyncio.gather(*(post(connections, server) for _ in range(5)))
        assert server.connections == 5


async def test_what_lies_unused_is_let_go(connections: Connections, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(under_test, "_KEPT_S", -1.0)
    async with listening(says(OK)) as server:
        await post(connections, server)
        connections._sweep()  # the clock's part, at once
        await post(connections, server)
        assert server.connections == 2
