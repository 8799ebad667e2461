"""Real stacks in temporary homes: real servers, the real supervisor, stand-in services."""

import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from harkara_cli.ports import OFFSETS
from harkara_cli.stack import SERVICES

STAND_IN = Path(__file__).with_name("stand_ins") / "harkara_stand_in.py"
ORDINARY_USER = "nobody"
MIGRATION = """
import alembic.op, sqlalchemy
revision, down_revision, branch_labels, depends_on = "0001", None, None, None
def upgrade(): alembic.op.create_table("things", sqlalchemy.Column("number", sqlalchemy.Integer))
def downgrade(): alembic.op.drop_table("things")
"""


def write_stand_ins(directory: Path) -> None:
    """Packages with the names that a stack starts, all of them made of one file."""
    directory.mkdir()
    shutil.copy(STAND_IN, directory)
    for service in SERVICES:
        app = f"import harkara_stand_in\ndef main(): harkara_stand_in.main({service.name!r})\n"
        write_package(directory, service.package, app=app)
        versions = directory / service.package / "migrations" / "versions"
        versions.mkdir(parents=True)
        (versions / "0001_first.py").write_text(MIGRATION)
    # A system's Python before 3.11.3 needs this of a dependency's; the environment of a newer one does not have it.
    (directory / "async_timeout.py").write_text("from asyncio import timeout, Timeout\n")
    app = "import harkara_stand_in\ndef main(): harkara_stand_in.main('smsc')\n"
    write_package(directory, "harkara_smsc_simulator", app=app, magic="MAGIC_NUMBERS = {'delivered': '919000000001'}\n")


def write_package(directory: Path, name: str, **modules: str) -> None:
    (directory / name).mkdir()
    (directory / name / "__init__.py").touch()
    for module, text in modules.items():
        (directory / name / f"{module}.py").write_text(text)


def free_port_base() -> int:
    """A base below the range that the kernel gives to clients, all of whose ports are free now."""
    for base in range(10_000 + os.getpid() % 50 * 100, 32_000, 100):
        if all(is_free(base + offset) for offset in OFFSETS.values()):
            return base
    raise AssertionError("no free block of ports")


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


@dataclass
class Machine:
    """Runs `harkara` as one user, and knows every process that came of it by a mark in their environment."""

    directory: Path
    user: str | None
    python: str
    base: int = field(default_factory=free_port_base)
    mark: str = field(default_factory=lambda: f"HARKARA_TEST_MARK={uuid.uuid4().hex}")

    @property
    def home(self) -> Path:
        return self.directory / "home"

    @property
    def environment(self) -> dict[str, str]:
        packages = [path for path in sys.path if path.endswith(("site-packages", "/src"))]
        name, _, value = self.mark.partition("=")
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.directory),
            "PYTHONPATH": os.pathsep.join([str(self.directory / "stand-ins"), *packages]),
            "PYTHONDONTWRITEBYTECODE": "1",
            "COLUMNS": "200",
            name: value,
        }

    def popen(self, *words: str, **environment: str) -> subprocess.Popen[str]:
        entry = pwd.getpwnam(self.user) if self.user else None
        return subprocess.Popen(
            [self.python, "-m", "harkara_cli", *words, "--home", str(self.home)],
            env={**self.environment, **environment},
            cwd=self.directory,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            user=entry.pw_uid if entry else None,
            group=entry.pw_gid if entry else None,
            extra_groups=[] if entry else None,
        )

    def run(self, *words: str, **environment: str) -> tuple[int, str]:
        process = self.popen(*words, **environment)
        try:
            output, _ = process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        return process.returncode, output

    def up(self, *words: str, **environment: str) -> tuple[int, str]:
        return self.run("up", "--wait", "--port-base", str(self.base), *words, **environment)

    def status(self) -> dict[str, Any]:
        _, output = self.run("status", "--json")
        status: dict[str, Any] = json.loads(output)
        return status

    @staticmethod
    def eventually(is_true: Callable[[], Any], timeout_s: float = 15.0) -> Any:
        """Waits for something true, and returns it."""
        deadline = time.monotonic() + timeout_s
        while not (value := is_true()):
            assert time.monotonic() < deadline, "it did not come true in time"
            time.sleep(0.02)
        return value

    def pids(self) -> list[int]:
        """Every living process that came of this machine."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    is_ours = self.mark.encode() in (entry / "environ").read_bytes().split(b"\0")
                    is_zombie = (entry / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
                except (OSError, IndexError):
                    continue
                if is_ours and not is_zombie:
                    found.append(int(entry.name))
        return found

    def assert_nothing_runs(self) -> None:
        # Both are awaited: a killed process loses its environment, and so its mark, before it lets go of its ports.
        self.eventually(lambda: not self.pids() and all(is_free(self.base + offset) for offset in OFFSETS.values()))

    def clean_up(self) -> None:
        for pid in self.pids():
            os.kill(pid, signal.SIGKILL)
        place = self.home / "postgres"
        if place.is_symlink():
            shutil.rmtree(place.resolve())
        shutil.rmtree(self.directory)


def new_machine(user: str | None = None, python: str = sys.executable, directory: Path | None = None) -> Machine:
    if directory is None:
        # Not under pytest's own folder: that is closed to other users.
        directory = Path(tempfile.mkdtemp(prefix="harkara-test-"))
        directory.chmod(0o755)
        if user:
            shutil.chown(directory, user, pwd.getpwnam(user).pw_gid)
    write_stand_ins(directory / "stand-ins")
    return Machine(directory, user, python)


def python_for_others() -> str | None:
    """A Python of our version that an ordinary user can start and that finds our packages; None where there is none."""
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    entry = pwd.getpwnam(ORDINARY_USER)
    packages = os.pathsep.join(path for path in sys.path if path.endswith(("site-packages", "/src")))
    for python in (sys.executable, f"/usr/bin/{name}", f"/usr/local/bin/{name}"):
        try:
            result = subprocess.run(
                [python, "-c", "import harkara_cli.main"], env={"PYTHONPATH": packages}, cwd="/", capture_output=True,
                check=False, user=entry.pw_uid, group=entry.pw_gid, extra_groups=[],
            )  # fmt: skip
        except OSError:
            continue
        if result.returncode == 0:
            return python
    return None


# Ourselves; and where we are root, which an everyday user is not, an ordinary user too.
USERS: list[tuple[str | None, str]] = [(None, sys.executable)]
if os.geteuid() == 0 and (_python := python_for_others()):
    USERS.append((ORDINARY_USER, _python))


@pytest.fixture(params=USERS, ids=lambda user: user[0] or "ourselves")
def machine_of_each_user(request: pytest.FixtureRequest) -> Iterator[Machine]:
    machine = new_machine(*request.param)
    yield machine
    machine.clean_up()


@pytest.fixture
def machine() -> Iterator[Machine]:
    machine = new_machine()
    yield machine
    machine.clean_up()


@pytest.fixture
def machine_in() -> Iterator[Callable[[Path], Machine]]:
    """Makes a machine whose home is in a given folder."""
    machines: list[Machine] = []

    def make(directory: Path) -> Machine:
        machines.append(new_machine(directory=directory))
        return machines[-1]

    yield make
    for machine in machines:
        machine.clean_up()


@pytest.fixture(scope="session")
def running() -> Iterator[Machine]:
    """A stack that runs, for tests that only look at it."""
    machine = new_machine()
    code, output = machine.up()
    assert code == 0, output
    yield machine
    machine.clean_up()
