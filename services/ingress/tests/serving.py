"""An HTTP server on a real socket in front of a small application, and raw connections to it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from harkara_ingress.http.context import ANSWER_KEY
from harkara_ingress.http.server import HttpServer
from harkara_ingress.settings import Settings


@asynccontextmanager
async def served(app: ASGIApp, **values: Any) -> AsyncIterator[HttpServer]:
    server = HttpServer(app, Settings(**({"http_port": 0} | values)))
    serving = asyncio.create_task(server.serve())
    try:
        async with asyncio.timeout(10):
            while server.problem():
                await asyncio.sleep(0.01)
        yield server
    finally:
        serving.cancel()
        await asyncio.wait([serving])


@dataclass
class Raw:
    """A connection that says exactly what it is told to."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def say(self, octets: bytes) -> None:
        self.writer.write(octets)
        await self.writer.drain()

    async def rest(self) -> bytes:
        """Return everything until the server ends it."""
        async with asyncio.timeout(15):
            return await self.reader.read()

    async def ended(self) -> None:
        """Wait for the end of the connection, one way or the other."""
        with suppress(ConnectionResetError):
            await self.rest()

    async def answer(self) -> tuple[int, bytes]:
        """Return the next answer's status and body."""
        async with asyncio.timeout(15):
            head = await self.reader.readuntil(b"\r\n\r\n")
            lines = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:-2])
            body = await self.reader.readexactly(int(lines[b"content-length"]))
        return int(head.split(b" ", 2)[1]), body


@asynccontextmanager
async def connected(port: int, **options: Any) -> AsyncIterator[Raw]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, **options)
    try:
        yield Raw(reader, writer)
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


class Echo:
    """Answers with what it was asked, one after the other; each waits for `go_on`."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def __call__(self, scope: Scope, receive: Receive, _: Send) -> None:
        body = b""
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message["body"]
            if not message["more_body"]:
                break
        self.asked.append(f"{scope['method']} {scope['path']} {len(body)}")
        await self.go_on.wait()
        lines = b"content-type: text/plain\r\n"
        await scope[ANSWER_KEY](200, lines, self.asked[-1].encode(), is_last=False)
