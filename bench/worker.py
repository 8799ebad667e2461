"""Processes of the bench: each is asked things over a pipe and runs a loop of its own.

The generator and the sink are processes of their own so that neither delays the other's clock readings. All times are
CLOCK_MONOTONIC, which the processes of one machine share.
"""

import asyncio
import contextlib
import multiprocessing
import os
import signal
from collections.abc import Awaitable, Callable
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Self

import uvloop

from harkara_cli.death import die_with_parent, set_name

_START_TIMEOUT_S = 20.0
_END_TIMEOUT_S = 5.0


class BenchError(Exception):
    """The measurement cannot be made or has come to nothing; the text says why."""


class Requests:
    """The worker's end: `(name, argument)` in, one answer out for each."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def next(self) -> tuple[str, Any]:
        """Raises EOFError when the parent has ended the talk."""
        # In a thread, which costs nothing while it waits: watched by the loop, the pipe would become a non-blocking one.
        name, argument = await asyncio.to_thread(self._connection.recv)
        return name, argument

    def answer(self, value: Any) -> None:
        self._connection.send(value)


Serve = Callable[[Requests], Awaitable[None]]


class Worker:
    """The parent's end. A worker ends with its parent, whatever way that goes."""

    def __init__(self, name: str, serve: Serve) -> None:
        self._name = name
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_main, args=(name, serve, theirs, os.getpid()), daemon=True)
        self._process.start()
        theirs.close()
        self.first_answer = self.answer(_START_TIMEOUT_S)

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def ask(self, name: str, argument: Any = None, *, timeout_s: float = 30.0) -> Any:
        self.begin(name, argument)
        return self.answer(timeout_s)

    def begin(self, name: str, argument: Any = None) -> None:
        """Asks without waiting; `answer` follows."""
        self._connection.send((name, argument))

    def has_answered(self, timeout_s: float) -> bool:
        return self._connection.poll(timeout_s)

    def answer(self, timeout_s: float) -> Any:
        try:
            if not self._connection.poll(timeout_s):
                raise BenchError(f"the {self._name} has not answered for {timeout_s:g} s")
            return self._connection.recv()
        except (EOFError, ConnectionError) as error:
            raise BenchError(f"the {self._name} has died: its last words are above") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._connection.close()
        self._process.join(_END_TIMEOUT_S)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def _main(name: str, serve: Serve, connection: Connection, parent_pid: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    die_with_parent(signal.SIGKILL, parent_pid)
    set_name(f"bench-{name}")

    async def talk() -> None:
        with contextlib.suppress(EOFError, ConnectionError):
            await serve(Requests(connection))

    uvloop.run(talk())
