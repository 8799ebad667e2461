"""Runs a stack: starts its parts in order, keeps them running, stops them in reverse.

servers → bus provisioned, database migrated → simulators → services → demo account. Each step waits until the one
before is ready. One-time work runs in forks of the zygote like the services, so this process stays small and quick.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from harkara_cli.child import Child
from harkara_cli.errors import HarkaraError
from harkara_cli.home import RunRecord
from harkara_cli.identity import ProcessIdentity
from harkara_cli.launchers import Function, Launcher
from harkara_cli.logs import LineSink, ProcessLog
from harkara_cli.stack import OVERRIDES, SERVICES, Kind, ProcessSpec, Stack, processes

JOB_TIMEOUT_S = 60.0
_EDGE = "ingress"


@dataclass(frozen=True)
class Job:
    """One-time work of a start: a function that exits with 0."""

    name: str
    function: Function


def jobs_before_services(stack: Stack) -> tuple[tuple[Job, ...], ...]:
    """Groups, one after the other; what is in one group runs at the same time."""
    environment = stack.job_environment()
    migrations = (
        Job(
            f"migrate-{service.name}",
            Function("harkara_cli.jobs:migrate_service", {**environment, "HARKARA_SERVICE": service.name}),
        )
        for service in SERVICES
    )
    return (
        (
            Job("provision", Function("harkara_cli.jobs:provision", environment)),
            Job("schemas", Function("harkara_cli.jobs:prepare_schemas", environment)),
        ),
        tuple(migrations),
    )


def demo_job(stack: Stack) -> Job:
    return Job("demo", Function("harkara_cli.jobs:make_demo", stack.job_environment()))


@dataclass
class Supervisor:
    """`progress` is told each step; `sink` gets every log line (the foreground), or None."""

    stack: Stack
    launcher: Launcher
    progress: Callable[[str], None]
    sink: LineSink | None = None
    _children: list[Child] = field(default_factory=list)
    _logs: list[ProcessLog] = field(default_factory=list)
    _state: Literal["starting", "ready", "stopping"] = "starting"

    async def run(self, on_ready: Callable[[], None]) -> None:
        """Runs the stack until SIGINT, SIGTERM or SIGHUP; raises HarkaraError, with all stopped, when it cannot start."""
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()

        def interrupted() -> None:
            if stop.is_set():
                self._kill_all()
            stop.set()

        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, interrupted)
        stopping = asyncio.create_task(stop.wait())
        starting = asyncio.create_task(self._start())
        try:
            await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not starting.done():
                return
            starting.result()
            self._set_state("ready")
            on_ready()
            await stopping
        finally:
            stop.set()  # from here a Ctrl-C is the second one
            starting.cancel()
            await asyncio.wait({starting})
            await self._stop()

    async def _start(self) -> None:
        specs = processes(self.stack)
        self._write_record()
        # The imports of the zygote take longer than the start of the servers: both at the same time.
        await self.launcher.warm_up()
        await self._start_kind(Kind.SERVER, specs)
        self.progress("provisioning the bus, migrating the database")
        for group in jobs_before_services(self.stack):
            await self._run_jobs(group)
        await self._start_kind(Kind.SIMULATOR, specs)
        await self._start_kind(Kind.SERVICE, specs)
        self.progress("demo account")
        await self._run_jobs([demo_job(self.stack)])

    async def _start_kind(self, kind: Kind, specs: Iterable[ProcessSpec]) -> None:
        children = [
            Child(spec, self.launcher, self._log(spec.name), self._write_record) for spec in specs if spec.kind is kind
        ]
        if not children:
            return
        self.progress(f"{kind}s: {', '.join(child.spec.name for child in children)}")
        self._children += children
        await _all_or_first_failure(child.start() for child in children)

    async def _run_jobs(self, jobs: Iterable[Job]) -> None:
        await _all_or_first_failure(self._run_job(job) for job in jobs)

    async def _run_job(self, job: Job) -> None:
        log = self._log(job.name)
        log_fd = await log.attach()
        try:
            started = await self.launcher.start(job.name, job.function, log_fd)
        finally:
            os.close(log_fd)
        try:
            code = await asyncio.wait_for(asyncio.shield(started.exit_code), JOB_TIMEOUT_S)
        except (TimeoutError, asyncio.CancelledError) as error:
            with contextlib.suppress(ProcessLookupError):
                os.kill(started.pid, signal.SIGKILL)
            if isinstance(error, asyncio.CancelledError):
                raise
            raise HarkaraError(f"{job.name} did not end within {JOB_TIMEOUT_S:g} s: see {log.path}.") from error
        await log.close()
        if code:
            words = next((line for line in reversed(log.last_lines) if line.strip()), "it said nothing").strip()
            raise HarkaraError(f"{job.name} failed: {words[:300]} (see {log.path})")

    async def _stop(self) -> None:
        """Stops in reverse: the edge first, so that nothing new comes in, then the services, and the servers last."""
        self._set_state("stopping")
        edge = [child for child in self._children if child.spec.service == _EDGE]
        groups = [edge] + [
            [child for child in self._children if child.spec.kind is kind and child not in edge]
            for kind in (Kind.SERVICE, Kind.SIMULATOR, Kind.SERVER)
        ]
        for group in groups:
            await asyncio.gather(*(child.stop() for child in group))
        await self.launcher.close()
        for log in self._logs:
            await log.close()
        self.stack.home.forget_run()

    def _kill_all(self) -> None:
        for child in self._children:
            child.kill()

    def _log(self, name: str) -> ProcessLog:
        log = ProcessLog(name, self.stack.home.logs, self.sink)
        self._logs.append(log)
        return log

    def _set_state(self, state: Literal["starting", "ready", "stopping"]) -> None:
        self._state = state
        self._write_record()

    def _write_record(self) -> None:
        record = RunRecord(
            supervisor=ProcessIdentity.own(),
            state=self._state,
            port_base=self.stack.ports.base,
            overrides=dict(self.stack.overrides),
            scale=dict(self.stack.scale),
            processes=[child.record for child in self._children],
        )
        # On a full disk the file stays as it was; the processes have to be looked after all the same.
        with contextlib.suppress(OSError):
            self.stack.home.write_run(record)


def service_environment() -> dict[str, str]:
    """The environment that processes inherit: without the administrator's access to servers."""
    return {name: value for name, value in os.environ.items() if name not in OVERRIDES}


async def _all_or_first_failure(steps: Iterable[Coroutine[Any, Any, None]]) -> None:
    try:
        async with asyncio.TaskGroup() as group:
            for step in steps:
                group.create_task(step)
    except ExceptionGroup as failures:
        expected, unexpected = failures.split(HarkaraError)
        if expected is None or unexpected is not None:
            raise
        raise expected.exceptions[0] from None
