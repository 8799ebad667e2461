"""`harkara status` of a real stack under faults: each is told, within seconds, and forgotten when it is over."""

import asyncio
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import asyncpg
import nats
import pytest
from cli.tests.conftest import Machine

from harkara_cli import status
from harkara_cli.home import Home
from harkara_cli.status import ProcessStatus, Report, look, stack_of
from harkara_contracts.consumers import COMPLIANCE_MESSAGES
from harkara_contracts.subjects import Lane

LONGEST_S = 8.0
"""An answer takes half of it; the machine may be busy."""


class Live:
    """A real stack, with two processes of some services."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.home = Home(machine.home)
        self.record = self.home.require_running()
        self.stack = stack_of(self.home, self.record)
        self.demo: dict[str, Any] = json.loads((machine.home / "demo.json").read_text())

    def look(self) -> Report:
        began = time.monotonic()
        report = asyncio.run(look(self.home, self.home.require_running()))
        assert time.monotonic() - began < LONGEST_S
        return report

    def process(self, name: str) -> ProcessStatus:
        return next(process for process in self.look().processes if process.name == name)

    def eventually(self, is_true: Callable[[Report], Any]) -> Report:
        """Look until something is true, and return what was seen then."""

        def seen() -> Report | None:
            report = self.look()
            return report if is_true(report) else None

        report: Report = self.machine.eventually(seen, timeout_s=40)
        return report

    def pids(self, name: str) -> list[int]:
        """The process, and what it has started: a database is many."""
        pid = next(one.pid for one in self.home.require_running().processes if one.name == name)
        assert pid is not None
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [pid, *map(int, children)]

    @contextmanager
    def frozen(self, *names: str) -> Iterator[None]:
        pids = [pid for name in names for pid in self.pids(name)]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)

    def send(self) -> None:
        body = {
            "to": self.demo["magic_numbers"]["delivered"],
            "sender": "HRKARA",
            "template_id": "TN_SHIP_001",
            "category": "transactional",
            "variables": {"name": "Asha", "order_id": "ORD12345", "date": "12 May"},
        }
        self.post(f"{self.demo['base_url']}/v1/sms/send", body, Authorization=f"Bearer {self.demo['api_key']}")

    def carriers_hang(self, hang: bool) -> None:
        simulator = self.demo["simulators"]["smsc"]
        self.post(f"{simulator}/behaviour", {"hangs": hang}, "PUT")
        self.post(f"{simulator}/drop", {})

    @staticmethod
    def post(url: str, body: Any, method: str = "POST", **headers: str) -> None:
        content = {"Content-Type": "application/json", **headers}
        request = Request(url, json.dumps(body).encode(), content, method=method)  # noqa: S310  # our own stack
        with urlopen(request, timeout=10):  # noqa: S310  # our own stack
            pass


@pytest.fixture(scope="module")
def started() -> Iterator[Live]:
    directory = Path(tempfile.mkdtemp(prefix="harkara-test-"))
    directory.chmod(0o755)
    machine = Machine(directory, None, sys.executable)  # without stand-ins: the services themselves
    try:
        code, output = machine.up("--scale", "routing=2", HARKARA_SCALE="")
        assert code == 0, output
        yield Live(machine)
        machine.run("down")
    finally:
        machine.clean_up()


@pytest.fixture
def live(started: Live) -> Iterator[Live]:
    started.eventually(lambda report: report.is_well)
    yield started
    started.eventually(lambda report: report.is_well)


def problems(report: Report, name: str) -> list[str]:
    return next(process.problems for process in report.processes if process.name == name)


def test_all_is_well(live: Live) -> None:
    code, output = live.machine.run("status")
    assert code == 0, output
    assert "All is well." in output
    assert "jio up (1/1 binds)" in output
    told = live.machine.status()
    assert (told["ready"], told["well"], told["dead"], told["warnings"]) == (True, True, 0, [])
    assert {lane["lane"] for lane in told["lanes"]} == {"otp", "transactional", "promotional", ""}


def test_a_frozen_bus(live: Live) -> None:
    with live.frozen("nats"):

        def is_told(report: Report) -> bool:
            unready = {process.name for process in report.processes if not process.ready}
            return {
                "nats",
                "ingress",
                "routing",
                "routing-2",
                "billing",
                "sms-sender",
            } <= unready and not report.is_well

        report = live.eventually(is_told)
        assert problems(report, "billing")[0].startswith("the bus has stored nothing for ")
        assert report.dead is None
        code, output = live.machine.run("status")
        assert code == 1
        assert "the bus cannot be asked how far behind" in output


def test_a_frozen_database_leaves_the_edge_open(live: Live) -> None:
    with live.frozen("postgres"):
        report = live.eventually(lambda report: "the database has not answered" in str(problems(report, "routing")))
        ingress = next(process for process in report.processes if process.name == "ingress")
        assert ingress.ready
        assert "the database has not answered" in str(ingress.warnings)
        live.send()


async def _limit_connections(live: Live, limit: int) -> None:
    connection = await asyncpg.connect(live.stack.database_url)
    try:
        await connection.execute(f"ALTER ROLE billing CONNECTION LIMIT {limit}")
        await connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'billing'")
    finally:
        await connection.close()


def test_a_database_that_refuses_connections(live: Live) -> None:
    asyncio.run(_limit_connections(live, 0))
    try:
        live.eventually(lambda report: "TooManyConnectionsError" in str(problems(report, "billing")))
        assert live.process("compliance").ready
    finally:
        asyncio.run(_limit_connections(live, -1))


def test_a_frozen_cache_is_a_warning(live: Live) -> None:
    with live.frozen("valkey"):
        live.eventually(lambda report: "valkey has not answered" in str(report.processes))
        assert live.process("ingress").ready
        assert not live.process("valkey").ready


def test_a_frozen_process_of_two(live: Live) -> None:
    with live.frozen("routing-2"):
        report = live.look()
        assert problems(report, "routing-2") == ["it does not answer"]
        assert problems(report, "routing") == []
        assert not report.is_well


def test_a_lane_that_stands_still_though_all_was_up(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    with live.frozen("compliance"):
        live.send()
        compliance = live.process("compliance")
        assert compliance.lag == 1
        oldest_s = compliance.oldest_s
        assert oldest_s is not None
        monkeypatch.setattr(status, "STANDSTILL_S", 1.0)
        live.eventually(lambda report: "stands still: 1 stream messages wait" in str(report.processes))
        assert (live.process("compliance").oldest_s or 0.0) > oldest_s
        monkeypatch.setattr(status, "STANDSTILL_S", 1e9)
        monkeypatch.setitem(status.PATIENCE_S, "transactional", 1.0)
        assert "compliance__MESSAGES__transactional is behind" in str(live.process("compliance").warnings)
    monkeypatch.undo()
    live.eventually(lambda report: all(process.lag in {0, None} for process in report.processes))


async def _on_the_bus(live: Live, what: Callable[[Any], Any]) -> None:
    client = await nats.connect(live.stack.nats_url)
    try:
        await what(client.jetstream())
    finally:
        await client.close()


def test_a_deleted_consumer(live: Live) -> None:
    durable = COMPLIANCE_MESSAGES.durable(Lane.OTP)
    asyncio.run(_on_the_bus(live, lambda stream: stream.delete_consumer("MESSAGES", durable)))
    missing = f"consumer {durable} is missing"
    report = live.eventually(lambda report: missing in str(problems(report, "compliance")))
    assert f"{missing}: run `harkara provision`" in report.warnings
    code, output = live.machine.run("provision")
    assert code == 0, output


def test_a_stream_that_drifted(live: Live) -> None:
    async def drift(stream: Any) -> None:
        config = (await stream.stream_info("ATTEMPTS")).config
        await stream.update_stream(config.evolve(max_age=3600))

    asyncio.run(_on_the_bus(live, drift))
    report = live.eventually(lambda report: problems(report, "billing") == ["stream ATTEMPTS differs in max_age"])
    assert not report.is_ready
    code, output = live.machine.run("provision")
    assert code == 0, output


def test_carriers_that_hang_and_come_back(live: Live) -> None:
    live.carriers_hang(True)
    try:
        live.eventually(lambda report: "none takes messages (jio is down" in str(problems(report, "sms-sender")))
        code, output = live.machine.run("status")
        assert (code, "jio down (0/1 binds)" in output) == (1, True), output
        # And yet the platform starts: carriers come back by themselves.
        os.kill(live.pids("sms-sender")[0], signal.SIGKILL)

        def has_started(report: Report) -> bool:
            sender = next(process for process in report.processes if process.name == "sms-sender")
            return (sender.state, sender.restarts, sender.ready) == ("ready", 1, False)

        live.eventually(has_started)
    finally:
        live.carriers_hang(False)


def test_an_event_that_died(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    async def poison(stream: Any) -> None:
        await stream.publish("message.v1.accepted.otp", b"no JSON")

    asyncio.run(_on_the_bus(live, poison))
    report = live.eventually(lambda report: report.dead == 2)  # both that read it, compliance and ingress
    assert report.is_ready
    assert not report.is_well
    assert "look with `harkara dead list`" in report.warnings[0]
    monkeypatch.setattr(status, "RECENT_S", 0.0)
    assert live.look().is_well
    monkeypatch.undo()

    async def forget(stream: Any) -> None:
        await stream.purge_stream("DEAD")

    asyncio.run(_on_the_bus(live, forget))


def test_a_full_store(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "FULL_SHARE", 0.0)
    assert live.look().warnings[0].startswith("the store of the bus is full: ")
    monkeypatch.undo()
