"""The detached start: a fork in a session of its own runs the supervisor and tells its parent how the start goes."""

import contextlib
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, TextIO

from harkara_cli.errors import HarkaraError
from harkara_cli.identity import ProcessIdentity

_STDIN, _STDOUT, _STDERR = 0, 1, 2
_INTERRUPTED = 130


@dataclass(frozen=True)
class Reporter:
    """The daemon's end. Its reader may have left already: then nobody wants to know."""

    pipe: TextIO

    def tell(self, kind: str, text: str = "") -> None:
        with contextlib.suppress(BrokenPipeError):
            self.pipe.write(json.dumps([kind, text]) + "\n")
            self.pipe.flush()


def start_daemon(work: Callable[[Reporter], None], log_file: Path) -> Iterator[tuple[str, str]]:
    """Forks; the child runs `work` and ends. Yields what the child reports, up to its end.

    Closing the iterator early leaves the daemon running; Ctrl-C while it is read stops the daemon.
    """
    read_fd, write_fd = os.pipe()
    # Single-threaded and before any event loop: a plain fork is safe here.
    pid = os.fork()
    if pid == 0:
        os.close(read_fd)
        _be_daemon(work, write_fd, log_file)
    os.close(write_fd)
    identity = ProcessIdentity.of(pid)
    try:
        with os.fdopen(read_fd) as reports:
            for line in reports:
                kind, text = json.loads(line)
                yield kind, text
    except KeyboardInterrupt:
        if identity:
            identity.signal(signal.SIGTERM)
            os.waitpid(pid, 0)
        raise


def _be_daemon(work: Callable[[Reporter], None], write_fd: int, log_file: Path) -> NoReturn:
    code = 1
    try:
        os.setsid()
        null_fd = os.open(os.devnull, os.O_RDONLY)
        log_fd = os.open(log_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(null_fd, _STDIN)
        os.dup2(log_fd, _STDOUT)
        os.dup2(log_fd, _STDERR)
        reporter = Reporter(os.fdopen(write_fd, "w"))
        try:
            work(reporter)
            code = 0
        except HarkaraError as error:
            print(error, flush=True)
            reporter.tell("failed", str(error))
        except BaseException as error:  # noqa: BLE001 - nobody is above to catch it; the waiting parent must learn of it
            traceback.print_exc()
            reporter.tell("failed", f"The supervisor failed ({error!r}): see {log_file}.")
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)
