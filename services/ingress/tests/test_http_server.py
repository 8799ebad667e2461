"""One port for several processes of the edge, where they are told to share it."""

import asyncio

import aiohttp
import pytest
from services.ingress.tests.serving import served
from starlette.responses import PlainTextResponse

from harkara_ingress.http.server import HttpServer
from harkara_ingress.settings import Settings

CONNECTIONS = 64


async def who_answers(port: int) -> set[str]:
    """Ask by many connections of their own, and return who answered."""
    connector = aiohttp.TCPConnector(force_close=True)
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}", connector=connector) as session:

        async def ask() -> str:
            async with session.get("/") as response:
                return await response.text()

        return set(await asyncio.gather(*(ask() for _ in range(CONNECTIONS))))


async def test_a_shared_port_is_served_by_all_that_are_there() -> None:
    async with served(PlainTextResponse("first"), http_shared=True) as first:
        async with served(PlainTextResponse("second"), http_port=first.port, http_shared=True):
            assert await who_answers(first.port) == {"first", "second"}
        assert await who_answers(first.port) == {"first"}


async def test_a_port_is_not_shared_unasked() -> None:
    async with served(PlainTextResponse("first")) as first:
        with pytest.raises(OSError, match="Address already in use"):
            HttpServer(PlainTextResponse("second"), Settings(http_port=first.port, http_shared=True))
