"""Two ways to start a process: execute a program, or have the zygote become a Python function."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from harkara_cli.death import die_with_parent
from harkara_cli.errors import HarkaraError

# 256 KiB: an answer is a short line.
_LINE_LIMIT = 1 << 18


@dataclass(frozen=True)
class Started:
    """A process under way. `exit_code` is negative for a signal."""

    pid: int
    exit_code: asyncio.Future[int]


@dataclass(frozen=True)
class OtherUser:
    """Who a program runs as when root starts it."""

    name: str
    uid: int
    gid: int


@dataclass(frozen=True)
class Program:
    """An executable. `death_signal` is what it gets when the supervisor is killed."""

    argv: tuple[str, ...]
    directory: Path
    death_signal: signal.Signals = signal.SIGTERM
    user: OtherUser | None = None


@dataclass(frozen=True)
class Function:
    """`package.module:function` in a fork of the zygote; it returns or exits when its work is done."""

    target: str
    environment: Mapping[str, str] = field(repr=False, default_factory=dict)


class Launcher(Protocol):
    async def warm_up(self) -> None: ...
    async def close(self) -> None: ...
    async def start(self, name: str, what: Program | Function, log_fd: int) -> Started: ...


class SystemLauncher:
    """Starts both kinds. Everything it starts leads a process group of its own and ends when this process ends."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = dict(environment)
        self._zygote = Zygote(self._environment)

    async def warm_up(self) -> None:
        await self._zygote.ensure_started()

    async def start(self, name: str, what: Program | Function, log_fd: int) -> Started:
        if isinstance(what, Function):
            return await self._zygote.fork(name, what.target, {**self._environment, **what.environment}, log_fd)
        return await self._execute(what, log_fd)

    async def close(self) -> None:
        await self._zygote.close()

    async def _execute(self, program: Program, log_fd: int) -> Started:
        user = program.user
        try:
            process = await asyncio.create_subprocess_exec(
                *program.argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log_fd,
                stderr=log_fd,
                cwd=program.directory,
                env=self._environment,
                process_group=0,
                # After the change of user, and only one prepared system call: safe between fork and exec.
                preexec_fn=_death_wish(program.death_signal),
                user=user.uid if user else None,
                group=user.gid if user else None,
                extra_groups=[] if user else None,
            )
        except OSError as error:
            as_user = f" as the user {program.user.name}" if program.user else ""
            raise HarkaraError(
                f"The program {program.argv[0]} cannot be started{as_user} ({error.strerror}): "
                "remove .venv and run `make setup`, or give a server of your own by NATS_URL, REDIS_URL or DATABASE_URL."
            ) from error
        return Started(process.pid, asyncio.ensure_future(process.wait()))


def _death_wish(number: signal.Signals) -> Callable[[], None]:
    parent_pid = os.getpid()
    return lambda: die_with_parent(number, parent_pid)


async def _line_or_end(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readline()
    except ConnectionError:
        return b""


class Zygote:
    """The supervisor's side of `harkara_cli.zygote`. Begun at the first need, and anew after it died."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = dict(environment)
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None
        self._one_request = asyncio.Lock()
        self._answer: asyncio.Future[Started] | None = None
        self._exit_codes: dict[int, asyncio.Future[int]] = {}

    async def ensure_started(self) -> None:
        async with self._one_request:
            await self._ensure_started()

    async def _ensure_started(self) -> None:
        if self._reading and not self._reading.done():
            return
        ours, theirs = socket.socketpair()
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "harkara_cli.zygote", str(theirs.fileno()),
            stdin=asyncio.subprocess.DEVNULL, pass_fds=(theirs.fileno(),), env=self._environment, process_group=0,
        )  # fmt: skip
        theirs.close()
        self._control = ours
        reader, self._writer = await asyncio.open_connection(sock=ours, limit=_LINE_LIMIT)
        self._reading = asyncio.create_task(self._read(reader, self._writer))

    async def fork(self, name: str, target: str, environment: Mapping[str, str], log_fd: int) -> Started:
        """Forks a process that runs `target`, its output going to `log_fd`."""
        request = {"name": name, "target": target, "environment": dict(environment)}
        # Whoever asked may be cancelled; the answer still has to meet its request.
        return await asyncio.shield(self._ask(json.dumps(request).encode() + b"\n", os.dup(log_fd)))

    async def _ask(self, line: bytes, log_fd: int) -> Started:
        try:
            async with self._one_request:
                await self._ensure_started()
                self._answer = asyncio.get_running_loop().create_future()
                # The descriptor travels with the first bytes; while the zygote imports, the socket's buffer holds them.
                sent = socket.send_fds(self._control, [line], [log_fd])
                self._writer.write(line[sent:])
                return await self._answer
        except OSError as error:
            raise HarkaraError(f"The process that forks the services is gone ({error.strerror}).") from error
        finally:
            os.close(log_fd)

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        while line := await _line_or_end(reader):
            message = json.loads(line)
            if "exited" in message:
                self._exit_codes.pop(message["exited"]).set_result(message["code"])
            elif self._answer and not self._answer.done():
                started = Started(message["forked"], loop.create_future())
                self._exit_codes[started.pid] = started.exit_code
                self._answer.set_result(started)
        writer.close()
        # The kernel kills what it forked when the zygote dies.
        for exit_code in self._exit_codes.values():
            exit_code.set_result(-signal.SIGKILL)
        self._exit_codes.clear()
        if self._answer and not self._answer.done():
            self._answer.set_exception(HarkaraError("The process that forks the services died: see its last words."))

    async def close(self) -> None:
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
        if self._reading:
            await self._reading
