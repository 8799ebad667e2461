"""What the peers need and this machine lacks, from Debian and PyPI by name.

Debian's own services are not wanted: while packages are installed a policy (policy-rc.d, which Debian's maintainer scripts
ask) keeps them from being started. Jasmin gets an environment of its own in the cache folder.
"""

import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench.worker import BenchError

_POLICY = Path("/usr/sbin/policy-rc.d")
_FORBIDDEN = 101
_APT_TIMEOUT_S = 600.0
_PIP_TIMEOUT_S = 900.0


def install_packages(programs: Mapping[str, Path]) -> None:
    """Installs the Debian packages whose program is not there. Raises BenchError where that cannot be done."""
    missing = sorted(package for package, program in programs.items() if not program.exists())
    if not missing:
        return
    names = " ".join(missing)
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise BenchError(
            f"not installed: {names}. On Debian and Ubuntu, as root: apt-get install --no-install-recommends {names}"
        )
    print(f"Installing {names} …", flush=True)
    with _no_service_starts():
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        run(["apt-get", "update", "-qq"], _APT_TIMEOUT_S, environment)
        run(["apt-get", "install", "--yes", "-qq", "--no-install-recommends", *missing], _APT_TIMEOUT_S, environment)


@contextmanager
def _no_service_starts() -> Iterator[None]:
    """A policy that is there already, as in many containers, stays; it has to forbid the same."""
    if _POLICY.exists():
        forbids = subprocess.run([_POLICY, "kannel", "start"], capture_output=True, check=False).returncode  # noqa: S603
        if forbids != _FORBIDDEN:
            raise BenchError(f"{_POLICY} lets services start: install the packages by hand, and stop their services")
        yield
        return
    _POLICY.write_text(f"#!/bin/sh\nexit {_FORBIDDEN}\n")
    _POLICY.chmod(0o755)
    try:
        yield
    finally:
        _POLICY.unlink(missing_ok=True)


def python_environment(folder: Path, requirements: Sequence[str]) -> Path:
    """The Python of an environment with these packages; made once."""
    python = folder / "bin" / "python"
    done = folder / "installed.txt"
    wanted = "\n".join(requirements)
    if done.exists() and done.read_text() == wanted:
        return python
    print(f"Installing {requirements[-1]} into {folder} …", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    run([sys.executable, "-m", "venv", str(folder)], _PIP_TIMEOUT_S)
    # One after the other: an old package's setup.py may need what stands before it.
    for requirement in requirements:
        pip(python, "install", requirement)
    done.write_text(wanted)
    return python


def pip(python: Path, *words: str) -> None:
    run([str(python), "-m", "pip", "--quiet", "--disable-pip-version-check", *words], _PIP_TIMEOUT_S)


def sdist_folder(python: Path, requirement: str, part: str, folder: Path) -> Path:
    """What a source distribution has below `part` and does not install, unpacked into `folder`; fetched once."""
    if folder.exists():
        return folder
    download = folder.with_name(folder.name + "-download")
    pip(python, "download", "--no-deps", "--no-binary", ":all:", "--no-build-isolation",
        "--dest", str(download), requirement)  # fmt: skip
    (archive,) = download.glob("*.tar.gz")
    unpacked = download / "unpacked"
    with tarfile.open(archive) as tar:
        tar.extractall(unpacked, filter="data")
    (found,) = unpacked.glob(f"*/{part}")
    found.rename(folder)
    shutil.rmtree(download)
    return folder


def run(command: Sequence[str], timeout_s: float, environment: Mapping[str, str] | None = None) -> str:
    """What the command printed; BenchError with its last lines when it fails."""
    try:
        done = subprocess.run(  # noqa: S603  # our own command lines
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            timeout=timeout_s, env=environment, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BenchError(f"`{' '.join(command)}` failed: {error}") from error
    if done.returncode:
        raise BenchError(f"`{' '.join(command)}` failed:\n{done.stdout[-2000:]}")
    return done.stdout
