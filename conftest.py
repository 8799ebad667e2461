"""Fixtures for every member's tests: the real servers, a service running in the test's loop, and a view of the bus."""

import asyncio
import os
import socket
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from pydantic import SecretStr

from harkara_chassis import migrations, provisioner
from harkara_chassis.connection import connect
from harkara_chassis.envelope import decode
from harkara_chassis.publisher import Publisher
from harkara_chassis.service import Service, running
from harkara_chassis.settings import ServiceSettings
from harkara_cli.death import die_with_parent
from harkara_cli.home import Home
from harkara_cli.jobs import create_roles_and_schemas
from harkara_cli.launchers import Program
from harkara_cli.ports import OFFSETS, Ports
from harkara_cli.postgres import postgres_program
from harkara_cli.servers import nats_program, valkey_program
from harkara_cli.stack import Stack
from harkara_contracts.catalogue import BY_TYPE
from harkara_contracts.events import Event
from harkara_contracts.streams import STREAMS

# Examples are derandomised so that a red build is red again on the next run; nightly runs may raise the count.
settings.register_profile("default", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("default")

E = TypeVar("E", bound=Event)
S = TypeVar("S", bound=ServiceSettings)


@dataclass(frozen=True)
class Servers:
    """Addresses of the servers that this test run started for itself."""

    stack: Stack

    @property
    def nats_url(self) -> str:
        return self.stack.nats_url

    @property
    def redis_url(self) -> str:
        return self.stack.redis_url

    @property
    def admin_database_url(self) -> str:
        return self.stack.database_url

    @property
    def secret_key(self) -> str:
        return self.stack.home.secrets.secret_key

    def database_url(self, service: str) -> str:
        """The address for a service's own role; its schema is migrated."""
        url = self.stack.service_database_url(service)
        if service not in _migrated:
            migrations.migrate(service, url)
            _migrated.add(service)
        return url


_migrated: set[str] = set()


def free_port_base() -> int:
    """Return a base whose ports are all free, below the range that the kernel gives to clients."""
    for base in range(10_000 + os.getpid() % 100 * 200, 32_000, 100):
        if all(_is_free(base + offset) for offset in OFFSETS.values()):
            return base
    raise AssertionError("no free block of ports")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def _start(program: Program, log: Path) -> "subprocess.Popen[bytes]":
    user = {"user": program.user.uid, "group": program.user.gid, "extra_groups": []} if program.user else {}
    parent_pid = os.getpid()

    def die_with_the_tests() -> None:
        die_with_parent(program.death_signal, parent_pid)

    with log.open("wb") as output:
        return subprocess.Popen(  # type: ignore[call-overload, no-any-return]
            program.argv,
            cwd=program.directory,
            stdout=output,
            stderr=output,
            preexec_fn=die_with_the_tests,  # noqa: PLW1509  # one prepared system call, before any thread is made
            **user,
        )


def _stop(process: "subprocess.Popen[bytes]", program: Program) -> None:
    process.send_signal(program.death_signal)
    process.wait(timeout=20)


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Start NATS, Valkey and Postgres of this run's own, with the streams provisioned and a schema for each service."""
    home = Home(tmp_path_factory.mktemp("servers") / "home")
    home.open()
    ports = Ports(free_port_base())
    stack = Stack(home, ports, {})
    programs = [nats_program(home, ports), valkey_program(home, ports), postgres_program(home, ports)]
    processes = [_start(program, home.logs / f"{number}.log") for number, program in enumerate(programs)]
    try:
        asyncio.run(_prepare(stack))
        yield Servers(stack)
    finally:
        for process, program in zip(processes, programs, strict=True):
            _stop(process, program)


async def _prepare(stack: Stack) -> None:
    await provisioner.provision(stack.nats_url)
    async with asyncio.timeout(30):
        while True:
            try:
                await create_roles_and_schemas(stack)
            except OSError:
                await asyncio.sleep(0.05)
            else:
                return


class BusProbe:
    """Speaks and listens on the bus as another service would."""

    def __init__(self, publisher: Publisher, client: Any) -> None:
        self._publisher = publisher
        self._client = client
        self.seen: list[Event] = []
        self._arrived = asyncio.Condition()

    async def publish(self, events: Sequence[Event]) -> int:
        return await self._publisher.publish(events)

    async def follow(self) -> None:
        stream = self._client.jetstream()
        for spec in STREAMS:
            if spec.name in {"MESSAGES", "ATTEMPTS", "BATCHES", "INBOUND", "CLIENT", "FACTS", "TIMERS"}:
                await stream.subscribe(
                    spec.subjects[0], cb=self._on_message, ordered_consumer=True, deliver_policy="new"
                )

    async def _on_message(self, message: Any) -> None:
        domain, major, event = message.subject.split(".", 3)[:3]
        kind = BY_TYPE.get(f"{domain}.{event}.{major}")
        if kind is None:
            return
        received, _ = decode(message.data, kind)
        async with self._arrived:
            self.seen.extend(one.event for one in received)
            self._arrived.notify_all()

    async def next(self, kind: type[E], where: Callable[[E], bool] = lambda _: True, timeout_s: float = 5.0) -> E:
        """Wait for an event of a class (also one seen before) that fits."""
        found: list[E] = await self.all(kind, 1, where, timeout_s)
        return found[0]

    async def all(
        self, kind: type[E], count: int, where: Callable[[E], bool] = lambda _: True, timeout_s: float = 5.0
    ) -> list[E]:
        """Wait until `count` fitting events of a class were seen."""

        def fitting() -> list[E]:
            return [event for event in self.seen if isinstance(event, kind) and type(event) is kind and where(event)]

        async with asyncio.timeout(timeout_s), self._arrived:
            await self._arrived.wait_for(lambda: len(fitting()) >= count)
        return fitting()


@pytest.fixture
async def bus(servers: Servers) -> AsyncIterator[BusProbe]:
    """Give a connection of the test's own to the bus."""
    connection = await connect(servers.nats_url, "test", closing_is_loss=lambda: False)
    publisher = Publisher(connection.client, "test")
    await publisher.start()
    probe = BusProbe(publisher, connection.client)
    await probe.follow()
    yield probe
    await connection.close()


RunService = Callable[..., AbstractAsyncContextManager[Service[Any]]]


@pytest.fixture
def run_service(servers: Servers) -> RunService:
    """Run a service in the test's loop: `async with run_service("billing", build, Settings, http_port=0) as service:`."""

    @asynccontextmanager
    async def start(name: str, build: Any, settings_class: type[S], **values: Any) -> AsyncIterator[Service[Any]]:
        package = migrations.package_of(name)
        spec = find_spec(package)
        has_schema = bool(spec and spec.origin and (Path(spec.origin).parent / "migrations").is_dir())
        database_url = servers.database_url(name) if has_schema else ""
        made = settings_class(
            nats_url=SecretStr(servers.nats_url),
            redis_url=SecretStr(servers.redis_url),
            database_url=SecretStr(database_url),
            secret_key=SecretStr(servers.secret_key),
            **values,
        )
        async with running(name, made, build) as service:
            yield service

    return start
