"""The stack that is measured: one of its own in a temporary home, one that runs already, or one known by its URL only."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bench.worker import BenchError
from harkara_cli.errors import HarkaraError
from harkara_cli.home import Home
from harkara_cli.ports import OFFSETS, Ports, require_free

_START_TIMEOUT_S = 150.0
_STOP_TIMEOUT_S = 90.0
_VIEW_TIMEOUT_S = 15.0
_PORT_BASES = range(20_000, 31_000, 100)
_MAX_DEAD = 10_000
_NOT_KILLED = frozenset({"supervisor", "smsc"})


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Which stack: `url` with `smsc_url` and `operator_key`, or the one in `home`, or (without both) a new one.

    `environment` is added to that of a stack that is started: settings of its services, servers of one's own.
    """

    url: str | None = None
    smsc_url: str | None = None
    operator_key: str | None = field(default=None, repr=False)
    home: Path | None = None
    port_base: int | None = None
    keep: bool = False
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Stack:
    """`home` is None where only the URL is known: then nothing is known of its processes and dead letters."""

    base_url: str
    smsc_url: str
    operator_key: str = field(repr=False)
    home: Home | None

    @property
    def address(self) -> tuple[str, int]:
        parts = urlsplit(self.base_url)
        return parts.hostname or "127.0.0.1", parts.port or 80

    def pids(self) -> dict[str, int]:
        """Process by name, the supervisor among them; empty where it is not known."""
        record = self.home.running() if self.home else None
        if record is None:
            return {}
        return {
            "supervisor": record.supervisor.pid,
            **{process.name: process.pid for process in record.processes if process.pid is not None},
        }

    def killable(self) -> list[str]:
        """Names of the processes that are started again; the simulator's memory is what we measure by, so it is none."""
        return sorted(self.pids().keys() - _NOT_KILLED)

    def kill(self, name: str) -> int | None:
        """Kills with SIGKILL; gives the pid, None if it does not run at this moment."""
        pid = self.pids().get(name)
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
        return pid

    def restarts(self) -> dict[str, int]:
        """How often each process was started again; only those that were."""
        record = self.home.running() if self.home else None
        return {process.name: process.restarts for process in record.processes if process.restarts} if record else {}

    def dead_letters(self, since: datetime) -> list[str] | None:
        """A line for each event that died since then; None where it is not known."""
        if self.home is None:
            return None
        listed = _harkara("dead", "list", "--json", "--limit", str(_MAX_DEAD), "--home", str(self.home.path))
        letters = [json.loads(line) for line in listed.splitlines() if line.startswith("{")]
        return [
            f"{letter['service']}: {letter['original_subject']}: {letter['reason']}"
            for letter in letters
            if datetime.fromisoformat(letter["died_at"]) >= since
        ]

    def smsc_stats(self) -> dict[str, Any]:
        stats = self._smsc("/stats")
        assert isinstance(stats, dict)
        return stats

    def smsc_arrivals(self, since_monotonic: float) -> list[tuple[int, float]]:
        """The numbers that submits went to, and when."""
        return [
            (int(to), at)
            for to, at in self._smsc(f"/arrivals?since={since_monotonic!r}")
            if to.isascii() and to.isdigit()
        ]

    def _smsc(self, path: str) -> Any:
        parts = urlsplit(self.smsc_url)
        connection = HTTPConnection(parts.hostname or "127.0.0.1", parts.port, timeout=_VIEW_TIMEOUT_S)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            text = response.read()
            if response.status != 200:  # noqa: PLR2004  # HTTP's OK
                raise BenchError(f"the SMSC simulator answered {response.status} to {path}")
            return json.loads(text)
        except (OSError, HTTPException) as error:
            raise BenchError(f"the SMSC simulator at {self.smsc_url} does not answer: {error}") from error
        finally:
            connection.close()


@contextmanager
def stack_of(choice: Choice) -> Iterator[Stack]:
    """The stack to measure; one that was started here is stopped at the end, and its temporary home removed."""
    if choice.url:
        if not (choice.smsc_url and choice.operator_key):
            raise BenchError("with --url, --smsc and the operator key (HARKARA_OPERATOR_KEY) are needed too")
        yield Stack(choice.url, choice.smsc_url, choice.operator_key, None)
        return
    if choice.home and _runs(choice.home):
        yield described(choice.home)
        return
    home = choice.home or Path(tempfile.mkdtemp(prefix="harkara-bench-"))
    # As root, the database runs as another user and has to pass through.
    home.mkdir(parents=True, exist_ok=True)
    home.chmod(0o711)
    is_temporary = choice.home is None
    try:
        _start(home, choice.port_base, choice.environment)
        yield described(home)
    finally:
        _stop(home)
        if is_temporary and not choice.keep:
            shutil.rmtree(home, ignore_errors=True)
        elif is_temporary:
            print(f"The home is kept: {home}")


def starts_one(choice: Choice) -> bool:
    """Whether a stack is started for this choice, and stopped again."""
    return not choice.url and not (choice.home and _runs(choice.home))


def _runs(path: Path) -> bool:
    return (path / "home.json").exists() and Home(path).running() is not None


def described(path: Path) -> Stack:
    """The stack that runs in a home."""
    demo = json.loads((path / "demo.json").read_text())
    return Stack(demo["base_url"], demo["simulators"]["smsc"], demo["operator_key"], Home(path))


def _start(home: Path, port_base: int | None, environment: Mapping[str, str]) -> None:
    base = port_base or _free_port_base()
    print(f"Starting a stack in {home}, port base {base} …", flush=True)
    began = time.monotonic()
    words = ("up", "--detach", "--wait", "--home", str(home), "--port-base", str(base))
    _harkara(*words, timeout_s=_START_TIMEOUT_S, environment=environment)
    print(f"It is ready after {time.monotonic() - began:.1f} s.", flush=True)


def _stop(home: Path) -> None:
    """Whatever was begun in the home ends here, and a second Ctrl-C does not keep it from ending."""
    former = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        if _runs(home):
            _harkara("down", "--home", str(home), timeout_s=_STOP_TIMEOUT_S)
    except (BenchError, HarkaraError) as error:
        print(f"The stack in {home} could not be stopped: {error}", file=sys.stderr)
    finally:
        signal.signal(signal.SIGINT, former)


def _free_port_base() -> int:
    for base in random.sample(_PORT_BASES, k=len(_PORT_BASES)):
        with suppress(HarkaraError):
            require_free(Ports(base), OFFSETS)
            return base
    raise BenchError("no port base is free")


def _harkara(*words: str, timeout_s: float = 60.0, environment: Mapping[str, str] | None = None) -> str:
    command: Sequence[str] = (sys.executable, "-m", "harkara_cli", *words)
    # In a session of its own: Ctrl-C is for the bench, which then stops the stack in its own way.
    with subprocess.Popen(  # noqa: S603  # our own command line
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True, env={**os.environ, **(environment or {})},
    ) as process:  # fmt: skip
        try:
            said, _ = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired as error:
            _interrupt(process)
            raise BenchError(f"`harkara {words[0]}` has not ended for {timeout_s:g} s") from error
        except BaseException:
            _interrupt(process)
            raise
    if process.returncode:
        raise BenchError(f"`harkara {' '.join(words)}` failed: {said.strip()[-2000:]}")
    return said


def _interrupt(process: subprocess.Popen[str]) -> None:
    """Ends it as Ctrl-C would: `harkara up` then stops what it has begun to start."""
    process.send_signal(signal.SIGINT)
    try:
        process.communicate(timeout=_STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
