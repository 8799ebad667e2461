"""Single processes under real conditions: the zygote's forks, the supervised child."""

import asyncio
import dataclasses
import errno
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from harkara_cli.child import Child, State
from harkara_cli.errors import HarkaraError
from harkara_cli.identity import ProcessIdentity
from harkara_cli.launchers import Function, Program, Started, SystemLauncher
from harkara_cli.logs import ProcessLog
from harkara_cli.stack import Kind, ProcessSpec

FUNCTIONS = """
import os, signal, sys, time
def say(): print(os.environ["WORD"], "said"); print("and this", file=sys.stderr)
def leave(): sys.exit(7)
def explain(): sys.exit("because")
def fail(): raise ValueError("broken")
def wait(): time.sleep(60)
"""


@pytest.fixture
async def launcher(tmp_path: Path) -> AsyncIterator[SystemLauncher]:
    (tmp_path / "some_functions.py").write_text(FUNCTIONS)
    path = os.pathsep.join([str(tmp_path), *sys.path])
    launcher = SystemLauncher({"PATH": os.environ["PATH"], "PYTHONPATH": path})
    yield launcher
    await launcher.close()


@pytest.fixture
async def log(tmp_path: Path) -> AsyncIterator[ProcessLog]:
    log = ProcessLog("some", tmp_path, sink=None)
    yield log
    await log.close()


async def start(launcher: SystemLauncher, log: ProcessLog, what: Function | Program) -> Started:
    log_fd = await log.attach()
    try:
        return await launcher.start("some", what, log_fd)
    finally:
        os.close(log_fd)


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


async def ended(pid: int) -> None:
    async with asyncio.timeout(10):
        while ProcessIdentity.of(pid):
            await asyncio.sleep(0.01)


async def test_a_fork_runs_a_function_in_its_own_environment(launcher: SystemLauncher, log: ProcessLog) -> None:
    for word in ("hello", "good day"):
        started = await start(launcher, log, Function("some_functions:say", {"WORD": word}))
        assert await started.exit_code == 0
    await log.close()
    lines = log.path.read_text().splitlines()
    assert [line for line in lines if "said" in line] == ["hello said", "good day said"]
    assert lines.count("and this") == 2


@pytest.mark.parametrize(
    ("function", "code", "words"),
    [("leave", 7, ""), ("explain", 1, "because"), ("fail", 1, "ValueError: broken"), ("absent", 1, "AttributeError")],
)
async def test_a_fork_ends_as_a_program_would(
    launcher: SystemLauncher, log: ProcessLog, function: str, code: int, words: str
) -> None:
    started = await start(launcher, log, Function(f"some_functions:{function}"))
    assert await started.exit_code == code
    await log.close()
    assert words in log.path.read_text()


async def test_a_killed_fork_tells_its_signal(launcher: SystemLauncher, log: ProcessLog) -> None:
    started = await start(launcher, log, Function("some_functions:wait"))
    assert os.getpgid(started.pid) == started.pid
    os.kill(started.pid, signal.SIGTERM)
    assert await started.exit_code == -signal.SIGTERM


async def test_forks_end_with_their_zygote_and_the_next_gets_a_new_one(
    launcher: SystemLauncher, log: ProcessLog
) -> None:
    started = await start(launcher, log, Function("some_functions:wait"))
    os.kill(parent_of(started.pid), signal.SIGKILL)
    assert await started.exit_code == -signal.SIGKILL
    await ended(started.pid)
    again = await start(launcher, log, Function("some_functions:leave"))
    assert await again.exit_code == 7


async def test_many_forks_asked_for_at_once_keep_their_own_output(launcher: SystemLauncher, tmp_path: Path) -> None:
    logs = [ProcessLog(f"log-{number}", tmp_path, sink=None) for number in range(20)]
    started = await asyncio.gather(
        *(
            start(launcher, log, Function("some_functions:say", {"WORD": f"{number}"}))
            for number, log in enumerate(logs)
        )
    )
    assert [await one.exit_code for one in started] == [0] * 20
    for number, log in enumerate(logs):
        await log.close()
        assert f"{number} said" in log.path.read_text().splitlines()


async def test_a_program_that_is_not_there_is_one_sentence(launcher: SystemLauncher, log: ProcessLog) -> None:
    with pytest.raises(HarkaraError, match="cannot be started"):
        await start(launcher, log, Program(("/nonexistent/program",), Path("/")))


# -- supervised ----------------------------------------------------------------------------------------------------------


def child_of(script: str, launcher: SystemLauncher, log: ProcessLog, *, ready: bool = True, attempts: int = 3) -> Child:
    async def probe() -> bool:
        return ready

    spec = ProcessSpec(
        name="some",
        kind=Kind.SERVICE,
        prepare=lambda: Program(("/bin/sh", "-c", script), Path("/")),
        probe=probe,
        start_probe=probe,
        ports=(),
        grace_s=0.3,
        ready_timeout_s=1.5,
        start_attempts=attempts,
    )
    return Child(spec, launcher, log, on_change=lambda: None)


async def test_a_child_is_asked_to_stop(launcher: SystemLauncher, log: ProcessLog) -> None:
    child = child_of("trap 'echo farewell; exit' TERM; while :; do sleep 0.02; done", launcher, log)
    await child.start()
    assert child.state is State.READY
    pid = child.record.pid
    assert pid is not None
    await child.stop()
    assert (child.state, ProcessIdentity.of(pid)) == (State.DOWN, None)
    await log.close()
    assert "farewell" in log.path.read_text()


async def test_a_child_that_does_not_stop_is_killed_with_its_children(
    launcher: SystemLauncher, log: ProcessLog
) -> None:
    child = child_of("trap '' TERM; sleep 60 & echo $!; wait; sleep 60", launcher, log)
    await child.start()
    while not log.last_lines:
        await asyncio.sleep(0.01)
    grandchild = int(log.last_lines[0])
    await child.stop()
    await ended(grandchild)


async def test_a_child_that_dies_comes_back(launcher: SystemLauncher, log: ProcessLog) -> None:
    child = child_of("sleep 60", launcher, log)
    await child.start()
    first = child.record
    assert first.pid is not None
    os.kill(first.pid, signal.SIGKILL)
    async with asyncio.timeout(5):
        while child.record.restarts == 0 or child.state is not State.READY:
            await asyncio.sleep(0.01)
    assert child.record.pid != first.pid
    await child.stop()


@pytest.mark.parametrize("script", ["sleep 60", "trap '' TERM; while :; do sleep 0.02; done"])
async def test_a_child_that_lives_and_is_broken_is_started_anew(
    script: str, launcher: SystemLauncher, log: ProcessLog
) -> None:
    child = child_of(script, launcher, log)

    async def is_broken() -> bool:
        return child.state is State.READY and child.record.restarts == 0

    child.spec = dataclasses.replace(child.spec, is_broken=is_broken)
    await child.start()
    async with asyncio.timeout(15):
        while child.record.restarts == 0 or child.state is not State.READY:
            await asyncio.sleep(0.01)
    await child.stop()


async def test_a_full_disk_keeps_no_child_from_living_or_coming_back(launcher: SystemLauncher, tmp_path: Path) -> None:
    (tmp_path / "full.log").symlink_to("/dev/full")
    log = ProcessLog("full", tmp_path, sink=None)
    child = child_of("while echo line; do sleep 0.02; done", launcher, log)
    prepare, refusals = child.spec.prepare, iter([False, True, True])

    def prepare_later() -> Program | Function:
        if next(refusals, False):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return prepare()

    child.spec = dataclasses.replace(child.spec, prepare=prepare_later)
    await child.start()
    pid = child.record.pid
    assert pid is not None
    async with asyncio.timeout(5):
        while len(log.last_lines) < 3:
            await asyncio.sleep(0.01)
    assert ProcessIdentity.of(pid)
    os.kill(pid, signal.SIGKILL)
    async with asyncio.timeout(10):
        while child.record.restarts < 3 or child.state is not State.READY:
            await asyncio.sleep(0.01)
    await child.stop()
    await log.close()


async def test_a_child_that_never_lives_fails_with_its_last_words(launcher: SystemLauncher, log: ProcessLog) -> None:
    child = child_of("echo no such setting; exit 3", launcher, log, ready=False)
    with pytest.raises(HarkaraError, match=r"exit code 3.*no such setting"):
        await child.start()
    await child.stop()


async def test_a_child_that_never_gets_ready_fails(launcher: SystemLauncher, log: ProcessLog) -> None:
    child = child_of("sleep 60", launcher, log, ready=False)
    with pytest.raises(HarkaraError, match=r"not ready after 1\.5 s"):
        await child.start()
    await child.stop()
    assert child.record.pid is None
