"""Samples of running services by py-spy, one service after the other while the load goes on.

A sampler sees a process that runs and one that waits for a processor alike, and the second is no cost: with more processes at
work than processors, code in long stretches, which gets interrupted, would look dearer than code in short ones. So a service
that is sampled is given precedence meanwhile and hardly waits.
"""

import contextlib
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

from bench.profile.layers import Profile, profile_of
from bench.worker import BenchError

_RATE_HZ = 100
_GRACE_S = 30.0
_PRECEDENCE = -20


class Sampler:
    """Samples in a thread of its own from `start` until every process had its `seconds`."""

    def __init__(self, pids: Mapping[str, int], seconds: float) -> None:
        self._pids = dict(pids)
        self._seconds = max(1, round(seconds))
        self._thread = threading.Thread(target=self._run, name="sampler", daemon=True)
        self._profiles: dict[str, Profile] = {}
        self._failure = ""

    @property
    def needs_s(self) -> float:
        return (self._seconds + 2.0) * len(self._pids)

    def start(self) -> None:
        self._thread.start()

    @property
    def is_done(self) -> bool:
        return not self._thread.is_alive()

    def finish(self) -> dict[str, Profile]:
        """Profile by process; BenchError where py-spy may not look."""
        self._thread.join(self.needs_s + _GRACE_S)
        if self._failure:
            raise BenchError(self._failure)
        return self._profiles

    def _run(self) -> None:
        with tempfile.TemporaryDirectory(prefix="harkara-profile-") as folder:
            for name, pid in self._pids.items():
                with _precedence(pid):
                    self._sample(name, pid, Path(folder) / f"{name}.raw")
                if self._failure:
                    return

    def _sample(self, name: str, pid: int, file: Path) -> None:
        command = [
            str(Path(sys.executable).with_name("py-spy")), "record", "--native", "--pid", str(pid),
            "--duration", str(self._seconds), "--rate", str(_RATE_HZ), "--format", "raw", "--output", str(file),
        ]  # fmt: skip
        try:
            done = subprocess.run(  # noqa: S603  # our own command line
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
                timeout=self._seconds + _GRACE_S,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            self._failure = f"py-spy cannot be run ({error}): it comes with `make setup`"
            return
        if done.returncode or not file.exists():
            words = " ".join((done.stderr.strip() or done.stdout.strip() or "no reason given").split())
            self._failure = (
                f"py-spy cannot look into {name} (pid {pid}): {words[:300]}. It needs ptrace: run as root, or set "
                "kernel.yama.ptrace_scope to 0, or give the container the capability SYS_PTRACE"
            )
            return
        self._profiles[name] = profile_of(file.read_text(errors="replace").splitlines())


@contextlib.contextmanager
def _precedence(pid: int) -> Iterator[None]:
    """As far as this user may give it."""
    with contextlib.suppress(PermissionError, ProcessLookupError):
        os.setpriority(os.PRIO_PROCESS, pid, _PRECEDENCE)
    try:
        yield
    finally:
        with contextlib.suppress(PermissionError, ProcessLookupError):
            os.setpriority(os.PRIO_PROCESS, pid, 0)
