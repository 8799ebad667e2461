"""Which process is meant: a pid alone may name another process by now, a pid with its start time may not."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

_START_TIME_FIELD = 22  # of /proc/<pid>/stat, counted from one: proc(5)
_FIELDS_BEFORE_STATE = 3  # what rpartition(")") leaves starts with field 3


@dataclass(frozen=True)
class ProcessIdentity:
    pid: int
    started: str

    @classmethod
    def of(cls, pid: int) -> "ProcessIdentity | None":
        """None when there is no such process, or only its zombie."""
        started = _start_time(pid)
        return cls(pid, started) if started else None

    @classmethod
    def own(cls) -> "ProcessIdentity":
        return cls(os.getpid(), _start_time(os.getpid()))

    def is_alive(self) -> bool:
        return _start_time(self.pid) == self.started

    def signal(self, number: int) -> None:
        """Sends a signal; a process that is gone, or whose pid is another's now, is left alone."""
        if self.is_alive():
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                return


def _start_time(pid: int) -> str:
    if sys.platform != "linux":
        command = ["ps", "-o", "lstart=", "-p", str(pid)]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()  # noqa: S603 - fixed words
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    # The second field, the name in brackets, may itself hold spaces and brackets.
    fields = stat.rpartition(")")[2].split()
    return "" if fields[0] == "Z" else fields[_START_TIME_FIELD - _FIELDS_BEFORE_STATE]
