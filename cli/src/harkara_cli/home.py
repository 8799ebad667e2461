"""The home of one stack: its data, secrets, logs and what is running, in one folder.

home.json      format of the home and its id: written last, so a home without it is empty or not ours
secrets.json   every password and key of this stack, made once, 0600
lock           held (flock) by the supervisor for as long as it lives
run.json       what runs now: 0600, since it may name servers by URLs with passwords
demo.json      the demo account, for scripts
carriers.yaml  whom messages are handed to
logs/  nats/  valkey/  postgres/
"""

import base64
import fcntl
import json
import os
import secrets
import signal
import time
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from harkara_cli.errors import HarkaraError
from harkara_cli.identity import ProcessIdentity

FORMAT = 1
_PASSWORD_BYTES = 24


@dataclass(frozen=True)
class Secrets:
    nats_password: str
    valkey_password: str
    postgres_password: str
    operator_key: str
    secret_key: str  # 32 bytes, base64: seals secrets at rest
    role_key: str  # role passwords are derived from it, so that a new service needs no new secret

    @classmethod
    def make(cls) -> "Secrets":
        return cls(
            nats_password=secrets.token_urlsafe(_PASSWORD_BYTES),
            valkey_password=secrets.token_urlsafe(_PASSWORD_BYTES),
            postgres_password=secrets.token_urlsafe(_PASSWORD_BYTES),
            operator_key="hk_op_" + secrets.token_urlsafe(_PASSWORD_BYTES),
            secret_key=base64.b64encode(secrets.token_bytes(32)).decode(),
            role_key=secrets.token_hex(32),
        )


@dataclass(frozen=True)
class ProcessRecord:
    """One process as run.json tells of it."""

    name: str
    kind: str
    pid: int | None
    started: str
    restarts: int
    state: str

    @property
    def identity(self) -> ProcessIdentity | None:
        return None if self.pid is None else ProcessIdentity(self.pid, self.started)


@dataclass(frozen=True)
class RunRecord:
    """run.json: the supervisor and what it runs."""

    supervisor: ProcessIdentity
    state: Literal["starting", "ready", "stopping"]
    port_base: int
    overrides: dict[str, str] = field(default_factory=dict)  # servers given from outside, URLs by variable name
    scale: dict[str, int] = field(default_factory=dict)  # processes of a service, where there is more than one
    processes: list[ProcessRecord] = field(default_factory=list)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "RunRecord":
        data = dict(data)
        supervisor = ProcessIdentity(**data.pop("supervisor"))
        processes = [ProcessRecord(**record) for record in data.pop("processes")]
        return cls(supervisor=supervisor, processes=processes, **data)


class Home:
    def __init__(self, path: Path | str) -> None:
        self.path = Path(path).absolute()
        self.logs = self.path / "logs"
        self.demo_file = self.path / "demo.json"
        self.carriers_file = self.path / "carriers.yaml"
        self._home_file = self.path / "home.json"
        self._secrets_file = self.path / "secrets.json"
        self._run_file = self.path / "run.json"
        self._lock_file = self.path / "lock"
        self._lock_fd: int | None = None

    # -- making and checking ------------------------------------------------------------------------------------

    def open(self) -> None:
        """Takes the home for this process, made if need be and checked; HarkaraError says what is wrong with it."""
        try:
            # As root, Postgres runs as another user and has to pass through; the files themselves stay closed.
            self.path.mkdir(mode=0o711 if os.geteuid() == 0 else 0o700, parents=True, exist_ok=True)
            if not self._home_file.exists():
                self._refuse_strangers()
            self._acquire()
            if not self._home_file.exists():
                self._create()
            self.logs.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise HarkaraError(
                f"The home {self.path} cannot be used ({error.strerror}): "
                "make it a folder that you may write to, or choose another with --home."
            ) from error
        self.check()

    def check(self) -> None:
        """Raises HarkaraError where there is no home, or one that this version cannot use."""
        if not os.path.lexists(self._home_file):  # unlike Path.exists, no error where the folder is closed to us
            raise HarkaraError(f"There is no Harkara home in {self.path}: start a stack there with `harkara up`.")
        found = _read_json(self._home_file).get("format")
        if found != FORMAT:
            raise HarkaraError(
                f"The home {self.path} is from another version of Harkara (format {found}, this one has {FORMAT}): "
                "choose another --home, or remove it to begin anew without its data."
            )
        _ = self.secrets

    def _refuse_strangers(self) -> None:
        if {entry.name for entry in self.path.iterdir()} - {"lock", "secrets.json"}:
            raise HarkaraError(f"{self.path} is not empty and not a Harkara home: choose another folder with --home.")

    def _create(self) -> None:
        if not self._secrets_file.exists():
            write_private(self._secrets_file, json.dumps(asdict(Secrets.make()), indent=2))
        write_private(self._home_file, json.dumps({"format": FORMAT, "id": secrets.token_hex(8)}))

    @property
    def id(self) -> str:
        return str(_read_json(self._home_file)["id"])

    @cached_property
    def secrets(self) -> Secrets:
        try:
            return Secrets(**_read_json(self._secrets_file))
        except (OSError, TypeError) as error:
            raise HarkaraError(
                f"{self._secrets_file} is missing or incomplete, so the data of this home cannot be opened: "
                "put it back from a copy, or remove the home to begin anew without its data."
            ) from error

    def read_demo(self) -> dict[str, Any] | None:
        """The demo account as the last start wrote it, None before the first."""
        if not self.demo_file.exists():
            return None
        return _read_json(self.demo_file, remedy="remove it, and the next start makes another demo account")

    # -- what runs ----------------------------------------------------------------------------------------------

    def _acquire(self) -> None:
        # The lock belongs to the open file: a daemon that is forked from here keeps it, programs that are started do not.
        lock_fd = os.open(self._lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock_fd)
            raise HarkaraError(
                f"A stack is already running in {self.path}: "
                "stop it with `harkara down`, or start another with other --home and --port-base."
            ) from None
        self._lock_fd = lock_fd

    def close(self) -> None:
        """Gives the home free for another holder."""
        if self._lock_fd is not None:
            os.close(self._lock_fd)
            self._lock_fd = None

    def write_run(self, record: RunRecord) -> None:
        write_private(self._run_file, json.dumps(asdict(record), indent=2))

    def forget_run(self) -> None:
        self._run_file.unlink(missing_ok=True)

    def read_run(self) -> RunRecord | None:
        """What run.json says, whether or not it still lives."""
        remedy = "remove it if no stack runs there"
        try:
            return RunRecord.from_json(_read_json(self._run_file, remedy))
        except FileNotFoundError:
            return None
        except (TypeError, KeyError) as error:
            raise HarkaraError(f"{self._run_file} is damaged: {remedy}.") from error

    def running(self) -> RunRecord | None:
        """The stack that runs in this home now, None when there is none (a stale run.json counts as none)."""
        record = self.read_run()
        return record if record and record.supervisor.is_alive() else None

    def require_running(self) -> RunRecord:
        self.check()
        record = self.running()
        if record is None:
            raise HarkaraError(f"No stack is running in {self.path}: start one with `harkara up`.")
        return record

    def clear_remains(self, patience_s: float = 8.0) -> None:
        """Waits for what a killed supervisor left dying behind, and ends what takes longer. Only for the home's holder."""
        record = self.read_run()
        remains = [process.identity for process in record.processes if process.identity] if record else []
        deadline = time.monotonic() + patience_s
        while living := [identity for identity in remains if identity.is_alive()]:
            if time.monotonic() > deadline + patience_s:
                pids = ", ".join(str(identity.pid) for identity in living)
                raise HarkaraError(f"Processes of an earlier stack do not end (pid {pids}): end them, and start again.")
            if time.monotonic() > deadline:
                for identity in living:
                    identity.signal(signal.SIGKILL)
            time.sleep(0.02)
        self.forget_run()


def write_private(path: Path, text: str) -> None:
    """Replaces a file as a whole, readable by its owner alone: a reader sees the old text or the new one."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    draft.replace(path)


def _read_json(
    path: Path, remedy: str = "put it back from a copy, or remove the home to begin anew without its data"
) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text())
    except PermissionError as error:
        raise HarkaraError(f"{path} cannot be read: run as the user who made this home.") from error
    except ValueError as error:
        raise HarkaraError(f"{path} is damaged: {remedy}.") from error
    if not isinstance(data, dict):
        raise HarkaraError(f"{path} is damaged: {remedy}.")
    return data
