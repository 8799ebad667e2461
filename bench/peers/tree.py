"""Processes with all that they have started, from /proc (Linux)."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

_PAGE_MIB = os.sysconf("SC_PAGE_SIZE") / 2**20


class Entry(NamedTuple):
    """`started` tells a process from a later one of the same pid; `rss_mib` counts shared pages in full."""

    pid: int
    parent: int
    name: str
    started: int
    rss_mib: float


def tree_of(roots: Iterable[int]) -> list[Entry]:
    """The processes and all their descendants that are alive."""
    entries = {entry.pid: entry for entry in _entries()}
    children: dict[int, list[int]] = {}
    for entry in entries.values():
        children.setdefault(entry.parent, []).append(entry.pid)
    found: dict[int, Entry] = {}
    waiting = [pid for pid in roots if pid in entries]
    while waiting:
        pid = waiting.pop()
        if pid not in found:
            found[pid] = entries[pid]
            waiting += children.get(pid, [])
    return list(found.values())


def is_alive(entry: Entry) -> bool:
    """Whether this very process runs, and not another one with its pid."""
    now = _entry(entry.pid)
    return now is not None and now.started == entry.started


def _entries() -> Iterable[Entry]:
    for item in os.scandir("/proc"):
        if item.name.isdigit() and (entry := _entry(int(item.name))):
            yield entry


def _entry(pid: int) -> Entry | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # proc(5): the name stands in brackets and may hold any; the fields behind it begin with the third.
    before, _, after = text.rpartition(")")
    fields = after.split()
    if fields[0] == "Z":
        return None
    return Entry(pid, int(fields[1]), before.partition("(")[2], int(fields[19]), int(fields[21]) * _PAGE_MIB)
