"""The processes of a stack by name: signals to them, and what they hold of the machine (Linux, /proc)."""

import contextlib
import os
import signal
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.stack import Stack

from harkara_cli.identity import ProcessIdentity

_STARTS_WITHIN_S = 30.0
_LOOK_EVERY_S = 0.02


def identity_of(stack: Stack, name: str) -> ProcessIdentity:
    """The process of this name, waiting for it where it is just being started again."""
    deadline = time.monotonic() + _STARTS_WITHIN_S
    while not (identity := _running(stack, name)):
        if time.monotonic() > deadline:
            raise AssertionError(f"{name} does not run")
        time.sleep(_LOOK_EVERY_S)
    return identity


def _running(stack: Stack, name: str) -> ProcessIdentity | None:
    pid = stack.pids().get(name)
    return ProcessIdentity.of(pid) if pid else None


class Freezer:
    """Stops processes with all their descendants (a database is many), and lets them go on."""

    def __init__(self) -> None:
        self._frozen: dict[str, list[ProcessIdentity]] = {}

    def freeze(self, name: str, process: ProcessIdentity) -> None:
        frozen = self._frozen.setdefault(name, [])
        # The parent first: what it started before it stood still is found after that.
        for pid in (process.pid, *descendants_of(process.pid)):
            if identity := ProcessIdentity.of(pid):
                identity.signal(signal.SIGSTOP)
                frozen.append(identity)

    def thaw(self, name: str) -> None:
        for identity in reversed(self._frozen.pop(name, [])):
            identity.signal(signal.SIGCONT)

    def thaw_all(self) -> None:
        for name in list(self._frozen):
            self.thaw(name)


def descendants_of(pid: int) -> list[int]:
    """Children before their children."""
    children: dict[int, list[int]] = {}
    for child, parent in _parents():
        children.setdefault(parent, []).append(child)
    found = list(children.get(pid, ()))
    for one in found:
        found.extend(children.get(one, ()))
    return found


def _parents() -> Iterator[tuple[int, int]]:
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                # proc(5): the parent is the second field after the name, which may itself hold brackets.
                yield int(entry.name), int(Path(entry.path, "stat").read_text().rpartition(")")[2].split()[1])


@dataclass(frozen=True)
class Vitals:
    """What a process and its descendants hold: RSS and PSS (shared pages divided) in MiB, open descriptors."""

    rss_mib: float
    pss_mib: float
    descriptors: int


def vitals_of(pids: Mapping[str, int]) -> dict[str, Vitals]:
    """Of each by name. Only Postgres is counted with its descendants: services descend from the supervisor's zygote."""
    return {name: _vitals([pid, *descendants_of(pid)] if name == "postgres" else [pid]) for name, pid in pids.items()}


def _vitals(pids: Iterable[int]) -> Vitals:
    rss_kib = pss_kib = descriptors = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
            values = {name: value for name, _, value in (line.partition(":") for line in lines)}
            rss_kib += int(values["Rss"].split()[0])
            pss_kib += int(values["Pss"].split()[0])
            descriptors += sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
    return Vitals(rss_kib / 1024, pss_kib / 1024, descriptors)
