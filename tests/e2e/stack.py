"""One real stack in a temporary home, started and asked through the command line like an operator's."""

import json
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tests.e2e.waiting import eventually

from harkara_cli.death import die_with_parent
from harkara_cli.errors import HarkaraError
from harkara_cli.home import Home
from harkara_cli.ports import OFFSETS, Ports, require_free
from harkara_cli.stack import OVERRIDES
from harkara_cli.status import stack_of

_START_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 60.0
_COMMAND_TIMEOUT_S = 60.0
_PORT_BASES = range(10_000, 20_000, 100)  # below what the kernel gives to clients

TRIES = 4  # of a webhook: the first, and one after each of the delays below
# Nobody waits here for the minutes and hours that clients are given: the same rules, in less time.
_QUICKER = {
    "HARKARA_RETRY_AFTER_S": "0.2",
    "HARKARA_WEBHOOK_RETRY_DELAYS_S": "[0.2, 0.4, 0.8]",
    "HARKARA_WEBHOOK_LEASE_S": "7",
    "HARKARA_WEBHOOK_SWEEP_INTERVAL_S": "1",
}


@dataclass(frozen=True)
class Stack:
    """A running stack. `said` is where its command line writes to."""

    home: Path
    said: Path

    @cached_property
    def demo(self) -> dict[str, Any]:
        described: dict[str, Any] = json.loads((self.home / "demo.json").read_text())
        return described

    @property
    def base_url(self) -> str:
        return str(self.demo["base_url"])

    @property
    def nats_url(self) -> str:
        home = Home(self.home)
        return stack_of(home, home.require_running()).nats_url

    def harkara(self, *words: str) -> tuple[int, str]:
        """Run a command on this home: its exit code, and what it said."""
        done = subprocess.run(  # noqa: S603  # our own command line
            [sys.executable, "-m", "harkara_cli", *words, "--home", str(self.home)],
            env=_environment(),
            capture_output=True,
            text=True,
            timeout=_COMMAND_TIMEOUT_S,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    def processes(self) -> dict[str, dict[str, Any]]:
        _, said = self.harkara("status", "--json")
        return {process["name"]: process for process in _first_json(said)["processes"]}

    def is_ready(self) -> bool:
        _, said = self.harkara("status", "--json")
        return bool(_first_json(said)["ready"])

    def dead_letters(self) -> list[dict[str, Any]]:
        code, said = self.harkara("dead", "list", "--json")
        assert code == 0, said
        return [json.loads(line) for line in said.splitlines() if line.startswith("{")]

    def curl_line(self) -> list[str]:
        """The words of the line that `harkara up` gives to try it with."""
        return next(shlex.split(line) for line in self.said.read_text().splitlines() if line.startswith("curl "))


def _environment() -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if name not in OVERRIDES}
    return {**inherited, **_QUICKER, "PYTHONUNBUFFERED": "1", "COLUMNS": "200"}


def _first_json(said: str) -> Any:
    """Read what a command wrote; after it may come what it says of servers that are just away."""
    return json.JSONDecoder().raw_decode(said)[0]


def _free_port_base() -> int:
    for base in random.sample(_PORT_BASES, k=len(_PORT_BASES)):
        with suppress(HarkaraError):
            require_free(Ports(base), OFFSETS)
            return base
    raise AssertionError("no block of ports is free")


@contextmanager
def started_stack(*words: str) -> Iterator[Stack]:
    """Start a stack, and end it whatever happens: should the tests themselves be killed, it ends by itself.

    Args:
        words: what else `harkara up` is told.
    """
    # Not under pytest's own folder: that is closed to the user that the database runs as.
    directory = Path(tempfile.mkdtemp(prefix="harkara-e2e-"))
    directory.chmod(0o711)
    stack = Stack(directory / "home", directory / "said")
    me = os.getpid()
    with stack.said.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603  # our own command line
            [
                sys.executable,
                "-m",
                "harkara_cli",
                "up",
                "--home",
                str(stack.home),
                "--port-base",
                str(_free_port_base()),
                *words,
            ],
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=lambda: die_with_parent(signal.SIGTERM, me),  # noqa: PLW1509  # one prepared system call
        )
    try:
        eventually(lambda: _is_up(stack, process), timeout_s=_START_TIMEOUT_S, what="a stack that is ready")
        yield stack
    finally:
        process.terminate()
        try:
            process.wait(timeout=_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()  # what it started ends with it
            process.wait()
        shutil.rmtree(directory, ignore_errors=True)


def _is_up(stack: Stack, process: "subprocess.Popen[bytes]") -> bool:
    said = stack.said.read_text()
    assert process.poll() is None, f"the stack did not start: {said[-2000:]}"
    return "Ctrl-C stops" in said
