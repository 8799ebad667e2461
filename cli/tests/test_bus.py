"""What the command line says to and asks of the bus."""

import asyncio

import pytest

from harkara_cli.errors import HarkaraError
from harkara_cli.probes import broken_store_probe
from harkara_cli.stack import REPLICAS, replicas_wanted

_HEALTHY = b'HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n{"status":"ok"}'
_BROKEN = (
    b"HTTP/1.1 503 Service Unavailable\r\n\r\n"
    b'{"status":"unavailable","error":"JetStream stream \'MESSAGES\' write error: no space left on device"}'
)
_NOT_CURRENT = b'HTTP/1.1 503 Service Unavailable\r\n\r\n{"status":"unavailable","error":"stream is not current"}'


@pytest.mark.parametrize(("answer", "is_broken"), [(_HEALTHY, False), (_BROKEN, True), (_NOT_CURRENT, False)])
async def test_a_store_is_broken_when_a_write_failed_and_not_for_anything_else(answer: bytes, is_broken: bool) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    assert await broken_store_probe(port)() is is_broken
    server.close()
    assert not await broken_store_probe(port)()


def test_replicas_are_a_small_number_or_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(REPLICAS, raising=False)
    assert replicas_wanted() is None
    monkeypatch.setenv(REPLICAS, "3")
    assert replicas_wanted() == 3
    for wrong in ("0", "6", "three", "-1"):
        monkeypatch.setenv(REPLICAS, wrong)
        with pytest.raises(HarkaraError, match="from 1 to 5"):
            replicas_wanted()
