"""One supervised process: started, watched, started again with back-off, stopped."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable
from enum import StrEnum

from harkara_cli.backoff import Backoff
from harkara_cli.errors import HarkaraError
from harkara_cli.home import ProcessRecord
from harkara_cli.identity import ProcessIdentity
from harkara_cli.launchers import Launcher, Started
from harkara_cli.logs import ProcessLog
from harkara_cli.stack import ProcessSpec

_PROBE_EVERY_S = 0.02
_LOOK_FOR_BROKEN_EVERY_S = 5.0


class State(StrEnum):
    DOWN = "down"
    STARTING = "starting"
    READY = "ready"
    RESTARTING = "restarting"
    STOPPING = "stopping"


class Child:
    """`on_change` is called whenever the record of this process has become another."""

    def __init__(self, spec: ProcessSpec, launcher: Launcher, log: ProcessLog, on_change: Callable[[], None]) -> None:
        self.spec = spec
        self.state = State.DOWN
        self._launcher = launcher
        self._log = log
        self._on_change = on_change
        self._running: Started | None = None
        self._identity: ProcessIdentity | None = None
        self._restarts = 0
        self._was_ready = False
        self._keeper: asyncio.Task[None] | None = None

    @property
    def record(self) -> ProcessRecord:
        pid, started = (self._identity.pid, self._identity.started) if self._identity else (None, "")
        return ProcessRecord(self.spec.name, self.spec.kind, pid, started, self._restarts, self.state)

    async def start(self) -> None:
        """Returns when the process is ready; HarkaraError when it does not get there."""
        self._keeper = asyncio.create_task(self._keep_running())
        probing = asyncio.create_task(self._until_ready())
        try:
            done, _ = await asyncio.wait(
                {self._keeper, probing}, timeout=self.spec.ready_timeout_s, return_when=asyncio.FIRST_COMPLETED
            )
            if self._keeper in done:
                self._keeper.result()
            if not done:
                raise self._failure(f"is not ready after {self.spec.ready_timeout_s:g} s")
        finally:
            probing.cancel()
        self._was_ready = True

    async def _until_ready(self) -> None:
        while self.state is not State.STARTING or not await self.spec.start_probe():  # noqa: ASYNC110 - it tells nothing unasked
            await asyncio.sleep(_PROBE_EVERY_S)
        self._change(State.READY)

    async def _keep_running(self) -> None:
        backoff = Backoff()
        while True:
            began = time.monotonic()
            try:
                how = _how(await self._run_once())
            except (HarkaraError, OSError) as error:  # it could not even be started: the disk may be full
                if not self._was_ready:
                    raise HarkaraError(str(error)) from error
                how = str(error)
            if self.state is State.STOPPING:
                return
            if not self._was_ready and self._restarts + 1 >= self.spec.start_attempts:
                self._change(State.DOWN)
                raise self._failure(f"ended while starting ({how})")
            delay_s = backoff.delay_s(time.monotonic() - began)
            self._log.say(f"{self.spec.name} ended ({how}): starting it again in {delay_s:g} s")
            self._change(State.RESTARTING)
            await asyncio.sleep(delay_s)
            self._restarts += 1

    async def _run_once(self) -> int:
        log_fd = await self._log.attach()
        try:
            self._running = await self._launcher.start(self.spec.name, self.spec.prepare(), log_fd)
        finally:
            os.close(log_fd)
        self._identity = ProcessIdentity.of(self._running.pid)
        self._change(State.STARTING)
        ready = asyncio.create_task(self._until_ready()) if self._was_ready else None
        watching = asyncio.create_task(self._end_when_broken(self._running))
        try:
            return await asyncio.shield(self._running.exit_code)
        finally:
            watching.cancel()
            if ready:
                ready.cancel()
            if self._running.exit_code.done():
                self._kill_group(self._running)  # what it started and left behind
                self._running = self._identity = None

    async def _end_when_broken(self, running: Started) -> None:
        """Ends what lives and will never work again, so that it is started anew; until that helps, with growing pauses."""
        if self.spec.is_broken is None:
            return
        while not await self.spec.is_broken():  # noqa: ASYNC110 - it tells nothing unasked
            await asyncio.sleep(_LOOK_FOR_BROKEN_EVERY_S)
        self._log.say(f"{self.spec.name} cannot go on as it is: ending it, to start it anew")
        self._signal(running, self.spec.stop_signal)
        await asyncio.sleep(self.spec.grace_s)
        self.kill()

    async def stop(self) -> None:
        """Asks it to end, and after its grace makes it."""
        self._change(State.STOPPING)
        running = self._running
        if running:
            self._signal(running, self.spec.stop_signal)
            await asyncio.wait({running.exit_code}, timeout=self.spec.grace_s)
        self.kill()
        if running:
            await running.exit_code
        if self._keeper:
            self._keeper.cancel()
            await asyncio.wait({self._keeper})
        self._change(State.DOWN)

    def kill(self) -> None:
        """Ends it and its whole group at once."""
        if self._running and not self._running.exit_code.done():
            self._kill_group(self._running)

    def _kill_group(self, running: Started) -> None:
        # PermissionError: macOS' word for a group of which only the zombie is left.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(running.pid, signal.SIGKILL)

    def _signal(self, running: Started, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            if not running.exit_code.done():
                os.kill(running.pid, number)

    def _change(self, state: State) -> None:
        if self.state is State.STOPPING and state is not State.DOWN:
            return  # on its way down it does not come up again
        self.state = state
        self._on_change()

    def _failure(self, what: str) -> HarkaraError:
        last_words = next((line for line in reversed(self._log.last_lines) if line.strip()), "")
        said = f" Its last words: {last_words.strip()[:300]}" if last_words else ""
        return HarkaraError(f"{self.spec.name} {what}: see {self._log.path}.{said}")


def _how(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
