"""CPU and memory of processes, from /proc (Linux)."""

import os
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
_SAMPLE_EVERY_S = 0.5
_WITH_DESCENDANTS = frozenset({"postgres"})
"""A server of many processes; what the supervisor and the zygote start has names of its own."""


class _Stat(NamedTuple):
    parent: int
    own_s: float
    system_s: float
    reaped_s: float
    started: str


@dataclass(frozen=True)
class Usage:
    """CPU seconds of the time watched; RSS and PSS (RSS with shared pages divided) in MiB at its end.

    `system_s` is the part of `cpu_s` that the kernel spent on its behalf.
    """

    cpu_s: float
    rss_mib: float
    pss_mib: float
    system_s: float = 0.0


class Watch:
    """CPU of named processes between two moments. `sample` now and then keeps what a killed process had used."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        self._names: dict[int, str] = {}
        self._first: dict[tuple[int, str], float] = {}
        self._last: dict[tuple[int, str], float] = {}
        self._system: dict[tuple[int, str], tuple[float, float]] = {}
        self._of: dict[tuple[int, str], str] = {}
        self._sampled_at = 0.0
        self._everything_first = self._everything_last = 0.0
        self.follow(pids)
        self._started_at = time.monotonic()
        self._sample(is_first=True)

    def follow(self, pids: Mapping[str, int]) -> None:
        """These are the processes now; one that is new has used nothing before."""
        self._names.update({pid: name for name, pid in pids.items()})

    def sample(self) -> None:
        """Cheap enough to be called in every turn of a waiting loop."""
        if time.monotonic() - self._sampled_at >= _SAMPLE_EVERY_S:
            self._sample(is_first=False)

    def _sample(self, *, is_first: bool) -> None:
        self._sampled_at = time.monotonic()
        stats = _all_stats()
        for pid, name in self._members(stats).items():
            key = (pid, stats[pid].started)
            # What was reaped is left out: a backend that has ended is remembered as itself.
            self._first.setdefault(key, stats[pid].own_s if is_first else 0.0)
            self._last[key] = stats[pid].own_s
            system_s = stats[pid].system_s
            first_system_s, _ = self._system.get(key, (system_s if is_first else 0.0, system_s))
            self._system[key] = (first_system_s, system_s)
            self._of[key] = name
        # With what the host gave to other machines meanwhile: to us it is one more program.
        self._everything_last = sum(stat.own_s + stat.reaped_s for stat in stats.values()) + _stolen_s()
        if is_first:
            self._everything_first = self._everything_last

    def _members(self, stats: Mapping[int, _Stat]) -> dict[int, str]:
        members = {pid: name for pid, name in self._names.items() if pid in stats}
        for pid, stat in stats.items():
            if self._names.get(stat.parent) in _WITH_DESCENDANTS:
                members[pid] = self._names[stat.parent]
        return members

    def finish(self) -> dict[str, Usage]:
        """What each used since the start."""
        self._sample(is_first=False)
        cpu: defaultdict[str, float] = defaultdict(float)
        for key, last in self._last.items():
            cpu[self._of[key]] += max(0.0, last - self._first[key])
        system: defaultdict[str, float] = defaultdict(float)
        for key, (first_s, last_s) in self._system.items():
            system[self._of[key]] += max(0.0, last_s - first_s)
        rss: defaultdict[str, float] = defaultdict(float)
        pss: defaultdict[str, float] = defaultdict(float)
        for pid, name in self._members(_all_stats()).items():
            resident, proportional = _memory_mib(pid)
            rss[name] += resident
            pss[name] += proportional
        return {
            name: Usage(cpu[name], rss[name], pss[name], system[name])
            for name in sorted(cpu, key=lambda one: -cpu[one])
        }

    def others_share(self) -> float:
        """The part of the machine that others have used, 0 to 1.

        They are processes not watched (short-lived ones may be missed), and other virtual machines of the same host.
        """
        elapsed_s = (self._sampled_at - self._started_at) * (os.cpu_count() or 1)
        watched = sum(last - self._first[key] for key, last in self._last.items())
        return max(0.0, self._everything_last - self._everything_first - watched) / elapsed_s if elapsed_s else 0.0


def _all_stats() -> dict[int, _Stat]:
    stats = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit() and (stat := _stat(int(entry.name))):
            stats[int(entry.name)] = stat
    return stats


def _stolen_s() -> float:
    """CPU seconds that a virtual machine wanted and its host gave to others: `steal` of /proc/stat, proc(5)."""
    return int(Path("/proc/stat").read_text().split(None, 9)[8]) / _TICKS_A_SECOND


def _stat(pid: int) -> _Stat | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    # Fields of proc(5) from the third on: the second, the name in brackets, may hold spaces and brackets.
    fields = text.rpartition(b")")[2].split()
    return _Stat(
        parent=int(fields[1]),
        own_s=(int(fields[11]) + int(fields[12])) / _TICKS_A_SECOND,
        system_s=int(fields[12]) / _TICKS_A_SECOND,
        reaped_s=(int(fields[13]) + int(fields[14])) / _TICKS_A_SECOND,
        started=fields[19].decode(),
    )


def _memory_mib(pid: int) -> tuple[float, float]:
    """RSS and PSS; zeros for a process that is gone."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0, 0.0
    values = {name: value for name, _, value in (line.partition(":") for line in lines[1:])}
    return tuple(int(values[name].split()[0]) / 1024 for name in ("Rss", "Pss"))  # type: ignore[return-value]  # two names
