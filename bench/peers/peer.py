"""What a peer is to the bench, and what its file needs to start one.

A peer is started from nothing in a folder of the run, is pointed at the bench's SMSC and sink, takes one HTTP request a
message and calls back when the message is delivered. Everything else (the load, the carrier, the clock) is the same for all.
"""

import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

from bench.load import ORDER, TO, LoadPlan
from bench.peers.tree import is_alive, tree_of
from bench.worker import BenchError
from harkara_cli.death import die_with_parent

HOST = "127.0.0.1"
USER = PASSWORD = "bench"  # noqa: S105  # opens a server on loopback that lives for a minute
SENDER = "BENCHX"
CONNECTIONS = 50
TEXT = f"Dear Asha, your order {ORDER} has been shipped and reaches you by 12 December. Thank you for shopping with us."
"""To the octet what our own template makes of its variables."""

_PORTS = range(20_000, 32_000)
"""Below the range from which the kernel gives ports to clients."""
_READY_S = 60.0
_STOP_S = 8.0
_POLL_S = 0.05
_LOG_TAIL = 2_000

FinalReceipt = Callable[[bytes, bytes], int]
"""From a callback's head and body to the number whose message it calls delivered; 0 for any other callback."""


@dataclass(frozen=True)
class Wiring:
    """Where the bench listens, and a folder for everything that the peer writes.

    With `each_step` the peer also calls back when the SMSC has taken the message, not only when it is delivered.
    """

    carrier_port: int
    sink_port: int
    folder: Path
    cache: Path
    each_step: bool = False

    def callback_url(self, path: str) -> str:
        return f"http://{HOST}:{self.sink_port}{path}"


@dataclass(frozen=True)
class Running:
    """A peer at work. `plan` is how one request is sent to it; `pids` are its processes by name, servers and all.

    `check` raises BenchError when one of them has died.
    """

    plan: LoadPlan
    pids: Callable[[], dict[str, int]]
    check: Callable[[], None]


@dataclass(frozen=True)
class Peer:
    """One file each.

    `messages` is how many are sent in each variant, `window` how many submits may be unanswered. `final_receipt` is a
    function of a module, for it is handed to the sink's process. `install` fetches what is missing, into the cache
    folder where it is no package of the system's. `running` gives a peer that is bound to the SMSC, and ends all its
    processes when the context is left.
    """

    name: str
    title: str
    messages: Mapping[str, int]
    window: int
    final_receipt: FinalReceipt
    install: Callable[[Path], None]
    running: Callable[[Wiring], AbstractContextManager[Running]]


def get_request(port: int, path: str, parameters: Mapping[str, str]) -> bytes:
    """A GET in which TO and ORDER stand as they are, for the generator to fill in."""
    query = "&".join(f"{name}={quote(value, safe=TO[0] + ORDER[0])}" for name, value in parameters.items())
    return f"GET {path}?{query} HTTP/1.1\r\nHost: {HOST}:{port}\r\n\r\n".encode()


class Processes:
    """A peer's processes: started one by one, each with its log in the folder, stopped in reverse with all their children."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._started: list[tuple[str, subprocess.Popen[bytes]]] = []

    def start(self, name: str, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        """In a process group of its own; it sees nothing of our environment but PATH, and ends when the bench does."""
        parent_pid = os.getpid()
        fixed = {
            "PATH": os.environ.get("PATH", os.defpath) + ":/usr/sbin",
            "HOME": str(self._folder),
            "LANG": "C.UTF-8",
        }
        with self._log(name).open("ab") as output:
            process = subprocess.Popen(  # noqa: S603  # our own command line
                command,
                cwd=self._folder,
                env={**fixed, "TMPDIR": str(self._folder), **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=lambda: die_with_parent(signal.SIGKILL, parent_pid),  # noqa: PLW1509  # one system call
            )
        self._started.append((name, process))

    def wait_for_port(self, port: int, what: str, timeout_s: float = _READY_S) -> None:
        """Returns when something listens there. Raises BenchError when nothing does, or a process has ended."""
        self._wait(lambda: _listens(port), f"{what} does not listen", timeout_s)

    def wait_for_text(self, log: Path, text: str, timeout_s: float = _READY_S) -> None:
        """Returns when the log has the text. Raises BenchError."""
        self._wait(
            lambda: log.exists() and text in log.read_text(errors="replace"),
            f"{log.name} does not say `{text}`",
            timeout_s,
        )

    def _wait(self, holds: Callable[[], bool], otherwise: str, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while not holds():
            self.check()
            if time.monotonic() > deadline:
                raise BenchError(f"{otherwise} after {timeout_s:g} s")
            time.sleep(_POLL_S)

    def check(self) -> None:
        for name, process in self._started:
            if process.poll() is not None:
                tail = self._log(name).read_text(errors="replace")[-_LOG_TAIL:]
                raise BenchError(f"{name} has ended with {process.returncode}: {tail.strip()}")

    def pids(self) -> dict[str, int]:
        """Of these processes and all their descendants."""
        entries = tree_of(process.pid for _, process in self._started)
        return {f"{entry.name} {entry.pid}": entry.pid for entry in entries}

    def _log(self, name: str) -> Path:
        return self._folder / f"{name}.out"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # A second Ctrl-C does not keep it from ending.
        former = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            self._stop()
        finally:
            signal.signal(signal.SIGINT, former)

    def _stop(self) -> None:
        everything = tree_of(process.pid for _, process in self._started)
        for _, process in reversed(self._started):
            process.terminate()
        deadline = time.monotonic() + _STOP_S
        while any(process.poll() is None for _, process in self._started) and time.monotonic() < deadline:
            time.sleep(_POLL_S)
        left = [entry for entry in everything if is_alive(entry)]
        for entry in left:
            os.kill(entry.pid, signal.SIGKILL)
        # Not all of them are our children, to be waited for.
        while any(is_alive(entry) for entry in left) and time.monotonic() < deadline + _STOP_S:
            time.sleep(_POLL_S)
        for _, process in self._started:
            process.wait()
        self._started.clear()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


def free_ports(count: int) -> list[int]:
    """Ports on which nobody listens at this moment."""
    ports: list[int] = []
    for port in random.sample(_PORTS, k=len(_PORTS)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
        ports.append(port)
        if len(ports) == count:
            return ports
    raise BenchError("no port is free")
