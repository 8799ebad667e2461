"""A bus server of a test's own, to be killed and started again, and the events tests send."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nats
import nats.errors
import pytest
from libs.chassis.tests.helpers import DURABLE, ConsumerInfo, Defer, MakeAccepted, eventually, reading
from nats.aio.client import Client

from harkara_chassis import ServiceSettings, health, provisioner
from harkara_cli.home import Home
from harkara_cli.launchers import Program
from harkara_cli.ports import Ports
from harkara_cli.servers import nats_program
from harkara_cli.stack import Stack
from harkara_contracts import consumers
from harkara_contracts.events import Content, Event, MessageAccepted, MessageDeferred
from harkara_contracts.ids import new_message_id
from harkara_contracts.subjects import Category, Channel, Lane

if TYPE_CHECKING:
    from conftest import RunService, Servers

NOW = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
def accepted() -> MakeAccepted:
    def make(lane: Lane = Lane.OTP, **more: object) -> MessageAccepted:
        fields: dict[str, object] = {
            "message_id": new_message_id(),
            "account_id": "ACC1",
            "lane": lane,
            "to": "919876543210",
            "category": Category.OTP,
            "channels": [Channel.SMS],
            "content": Content(sender="HRKARA"),
            "accepted_at": NOW,
            "expires_at": NOW,
        }
        return MessageAccepted.model_validate(fields | more)

    return make


@pytest.fixture
def deferred() -> Defer:
    """Make what test handlers answer an accepted message with."""

    def make(event: MessageAccepted) -> MessageDeferred:
        return MessageDeferred(
            message_id=event.message_id,
            account_id=event.account_id,
            lane=event.lane,
            until=NOW,
            reason="test",
            deferred_at=NOW,
        )

    return make


class OwnNats:
    """A NATS server that a test may kill."""

    def __init__(self, program: Program, url: str, log: Path) -> None:
        self.url = url
        self._program = program
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._program.argv, stdout=log, stderr=log)  # noqa: ASYNC220
        async with asyncio.timeout(10):
            while True:
                try:
                    client = await nats.connect(self.url, max_reconnect_attempts=0, allow_reconnect=False)
                    await client.jetstream().account_info()
                    await client.close()
                except (OSError, nats.errors.Error):
                    await asyncio.sleep(0.05)
                else:
                    return

    def freeze(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    async def give_store(self, octets: int) -> None:
        """Start anew with room for so much in all streams."""
        self._limit_store(octets)
        self.kill()
        await self.start()

    def _limit_store(self, octets: int) -> None:
        file = Path(self._program.argv[-1])
        configuration = json.loads(file.read_text())
        configuration["jetstream"]["max_file_store"] = octets
        file.write_text(json.dumps(configuration))

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()


@pytest.fixture
async def own_nats(tmp_path: Path, servers: Servers) -> AsyncIterator[OwnNats]:
    home = Home(tmp_path / "home")
    home.open()
    ports = Ports(servers.stack.ports.base + 50)
    server = OwnNats(nats_program(home, ports), Stack(home, ports, {}).nats_url, tmp_path / "nats.log")
    await server.start()
    await provisioner.provision(server.url)
    yield server
    server.kill()


@pytest.fixture
async def raw(servers: Servers) -> AsyncIterator[Client]:
    """Give a plain client, to do on the bus what the chassis never would."""
    client = await nats.connect(servers.nats_url)
    yield client
    await client.close()


@pytest.fixture
async def long_ack_wait(
    servers: Servers, run_service: RunService, consumer_info: ConsumerInfo, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[None]:
    """Let what comes again within seconds be known to have been given back; nothing of other tests is left."""

    async def leave(_: Sequence[MessageAccepted]) -> Sequence[Event]:
        return []

    async def is_empty() -> bool:
        info = await consumer_info("MESSAGES", DURABLE)
        return bool(info["num_pending"] == info["num_ack_pending"] == 0)

    async with run_service("compliance", reading(leave), ServiceSettings):
        await eventually(is_empty)
    with monkeypatch.context() as patch:
        patch.setitem(consumers._ACK_WAIT_S, Lane.OTP, 60.0)
        await provisioner.provision(servers.nats_url)
        yield
    await provisioner.provision(servers.nats_url)


@pytest.fixture
def consumer_info(raw: Client) -> ConsumerInfo:
    async def ask(stream: str, durable: str) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads((await raw.request(f"$JS.API.CONSUMER.INFO.{stream}.{durable}", b"")).data)
        return answer

    return ask


@pytest.fixture(autouse=True)
def quick_pulses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let services notice within a moment what is wrong, and what is right again."""
    monkeypatch.setattr(health, "INTERVAL_S", 0.1)
    monkeypatch.setattr(health, "PATIENCE_S", 0.5)
