"""Is it ready? One small question per kind of process, asked over the wire it serves, without any driver."""

import asyncio
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from harkara_cli.ports import LOOPBACK

Probe = Callable[[], Awaitable[bool]]

_TIMEOUT_S = 2.0
_ANSWER_BYTES = 64 * 1024
_PROTOCOL_3_0 = 3 << 16  # PostgreSQL documentation, "Message Formats", StartupMessage


@dataclass(frozen=True)
class Page:
    """An answer by HTTP."""

    status: int
    body: bytes


async def http_page(port: int, path: str) -> Page | None:
    """GET a page; None where no answer comes in time."""
    head, _, body = (await _ask(port, _get(path))).partition(b"\r\n\r\n")
    status = head.split(b" ", 2)[1:2]
    return Page(int(status[0]), body) if status and status[0].isdigit() else None


def http_probe(port: int, path: str) -> Probe:
    """Ready when GET `path` answers 200."""
    return lambda: _answers(port, _get(path), lambda answer: answer.split(b" ", 2)[1:2] == [b"200"])


def _get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: {LOOPBACK}\r\nConnection: close\r\n\r\n".encode()


def broken_store_probe(port: int) -> Probe:
    """True when NATS has failed to write a stream, as on a full disk: it never tries that stream again, room or not."""

    async def ask() -> bool:
        page = await http_page(port, "/healthz")
        return page is not None and b"write error" in page.body

    return ask


def valkey_probe(port: int, password: str) -> Probe:
    """Ready when it takes the password and has its data loaded."""
    request = f"AUTH {password}\r\nPING\r\nQUIT\r\n".encode()
    return lambda: _answers(port, request, lambda answer: b"+PONG" in answer)


def postgres_probe(port: int, user: str, database: str) -> Probe:
    """Ready when it asks for a password: while it starts or recovers it answers with an error instead."""
    parameters = b"".join(word.encode() + b"\0" for word in ("user", user, "database", database)) + b"\0"
    request = struct.pack("!ii", 8 + len(parameters), _PROTOCOL_3_0) + parameters
    return lambda: _answers(port, request, lambda answer: answer.startswith(b"R"), stop_after=1)


async def _answers(
    port: int, request: bytes, is_ready: Callable[[bytes], bool], *, stop_after: int = _ANSWER_BYTES
) -> bool:
    answer = await _ask(port, request, stop_after)
    return bool(answer) and is_ready(answer)


async def _ask(port: int, request: bytes, stop_after: int = _ANSWER_BYTES) -> bytes:
    """What is answered, up to its end or so many octets; nothing where it does not come in time."""
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(LOOPBACK, port)
            try:
                writer.write(request)
                answer = b""
                while len(answer) < stop_after and (chunk := await reader.read(_ANSWER_BYTES)):
                    answer += chunk
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return b""
    return answer
