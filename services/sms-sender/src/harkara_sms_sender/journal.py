"""What was written to carriers' connections, kept where a killed process leaves it behind.

Between the commit of an intent and the write to the socket a process may be killed; the database alone cannot tell such
an attempt from one that was written and not answered, and would have to give up both. So every attempt's id is appended
to a file right before its octets go out. After a kill, an attempt whose intent is younger than the file and that is not
in it was certainly never written: it may be submitted, with no danger of a double.

The file is believed only if its process is dead (it holds a lock for life) and the machine has not been started anew
since (an append survives a kill, not a power cut). Where it cannot be read, the attempt's fate is unknown, as without it.
"""

import errno
import fcntl
import json
import logging
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from harkara_chassis.clock import now_utc

logger = logging.getLogger(__name__)

_SEGMENT_BYTES: Final = 8 * 2**20
_SEGMENTS_KEPT: Final = 2
_FORGOTTEN_AFTER = timedelta(days=3)
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def boot_id() -> str:
    """Return what changes with each start of the machine; empty where the system does not tell."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""


class Journal:
    """This process's own file, and those that others left in the same folder."""

    def __init__(
        self, directory: Path, owner: str, clock: Callable[[], datetime] = now_utc, segment_bytes: int = _SEGMENT_BYTES
    ) -> None:
        self._directory = directory
        self._owner = owner
        self._clock = clock
        self._segment_bytes = segment_bytes
        self._boot_id = boot_id()
        self._lock_fd = -1
        self._fd = -1
        self._size = 0
        self._number = 0
        self._left: dict[str, _Left] = {}

    def open(self) -> None:
        """Begin this process's file; without one (a read-only disk) unknown attempts stay unknown."""
        if not self._boot_id:
            return
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._sweep()
            self._lock_fd = os.open(self._path("lock"), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._begin_segment()
        except OSError as error:
            self._give_up(error)

    def close(self) -> None:
        """Let go of the file; what it says stays true for those that come after."""
        self._close_files()

    def written(self, attempt_ids: Iterable[str]) -> None:
        """Note attempts whose octets go out next."""
        if self._fd < 0:
            return
        line = "".join([f"{attempt_id}\n" for attempt_id in attempt_ids]).encode()
        try:
            octets = os.write(self._fd, line)
            self._size += octets
            if octets < len(line):
                self._give_up(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
            elif self._size > self._segment_bytes:
                self._begin_segment()
        except OSError as error:
            self._give_up(error)

    def never_written(self, owner: str, attempt_id: str, intended_at: datetime) -> bool:
        """Tell whether an attempt that a process recorded was certainly not written to a carrier."""
        left = self._left.get(owner)
        if left is None:
            left = self._read(owner)
            # What a dead process left is final; a living one may die yet.
            if left is not None:
                self._left[owner] = left
        return left is not None and intended_at > left.since and attempt_id not in left.attempt_ids

    def _read(self, owner: str) -> "_Left | None":
        """Read what a dead process left; None where it lives, or its file cannot be believed."""
        try:
            lock_fd = os.open(self._directory / f"{owner}.lock", os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            fcntl.flock(lock_fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
            segments = [_segment(path, self._boot_id) for path in self._segments(owner)]
        except (OSError, ValueError):
            return None
        finally:
            os.close(lock_fd)
        if not segments:
            return None
        return _Left(min(one.since for one in segments), frozenset().union(*(one.attempt_ids for one in segments)))

    def _begin_segment(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        self._number += 1
        path = self._path(f"{self._number}.log")
        self._fd = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, 0o600)
        head = {"boot_id": self._boot_id, "since": self._clock().isoformat()}
        self._size = os.write(self._fd, json.dumps(head).encode() + b"\n")
        self._path(f"{self._number - _SEGMENTS_KEPT}.log").unlink(missing_ok=True)

    def _give_up(self, error: OSError) -> None:
        """Leave no file at all: one with gaps would say "never written" of what was."""
        logger.warning("no journal is kept; after a kill some messages stay unknown", extra={"errno": error.errno})
        self._close_files()
        self._remove()

    def _close_files(self) -> None:
        for fd in (self._fd, self._lock_fd):
            if fd >= 0:
                os.close(fd)
        self._fd = self._lock_fd = -1

    def _remove(self) -> None:
        try:
            for path in [*self._segments(self._owner), self._path("lock")]:
                path.unlink(missing_ok=True)
        except OSError:
            logger.warning("the journal could not be removed")

    def _sweep(self) -> None:
        """Remove what processes of long ago left: what was in their hands has ended since."""
        forgotten = (self._clock() - _FORGOTTEN_AFTER).timestamp()
        for path in self._directory.iterdir():
            if path.suffix in {".log", ".lock"} and path.stat().st_mtime < forgotten and not self._lives(path):
                path.unlink(missing_ok=True)

    def _lives(self, path: Path) -> bool:
        """Tell whether the process that a file belongs to holds its lock."""
        owner = path.stem if path.suffix == ".lock" else path.stem.rpartition(".")[0]
        try:
            lock_fd = os.open(self._directory / f"{owner}.lock", os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(lock_fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(lock_fd)
        return False

    def _segments(self, owner: str) -> list[Path]:
        return sorted(self._directory.glob(f"{owner}.*.log"))

    def _path(self, ending: str) -> Path:
        return self._directory / f"{self._owner}.{ending}"


@dataclass(frozen=True, slots=True)
class _Left:
    since: datetime
    attempt_ids: frozenset[str]


def _segment(path: Path, this_boot: str) -> _Left:
    """Read one file.

    Raises:
        ValueError: it is from before the machine's last start, or its head is broken.
    """
    head, _, rest = path.read_text().partition("\n")
    told = json.loads(head)
    if told["boot_id"] != this_boot:
        raise ValueError("from before the machine's last start")
    # A line that was cut off by the kill was not followed by a write.
    lines: Sequence[str] = rest.split("\n")
    return _Left(datetime.fromisoformat(told["since"]), frozenset(lines))
