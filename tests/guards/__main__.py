"""Takes each guard out of a copy of the repository, one at a time, and tells whether a test noticed.

python -m tests.guards [--only WORD]
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from tests.guards.table import GUARDS, Guard

_REPOSITORY = Path(__file__).parents[2]
_NOT_COPIED = shutil.ignore_patterns(".*", "__pycache__", "node_modules")
_TIMEOUT_S = 180
_TESTS_FAILED = 1
"""What pytest ends with when tests ran and some failed: not what it ends with when it could not run them."""


def main() -> int:
    """0: every guard was missed by a test. 1: one was not, or nothing was tried."""
    parser = argparse.ArgumentParser(prog="guards", description=__doc__)
    parser.add_argument("--only", default="", metavar="WORD", help="only the traps, or files, that this stands in")
    word = parser.parse_args().only
    chosen = [guard for guard in GUARDS if word in f"{guard.number} {guard.trap} {guard.file}"]
    with tempfile.TemporaryDirectory(prefix="harkara-guards-") as folder:
        # The servers of the tests may run as another user, who has to pass through.
        Path(folder).chmod(0o711)
        copy = Path(folder) / "copy"
        shutil.copytree(_REPOSITORY, copy, ignore=_NOT_COPIED)
        results = [_is_missed(guard, copy) for guard in chosen]
    missed = sum(results)
    print(f"{missed} of {len(chosen)} guards are missed by a test when they are taken out.")
    return 0 if chosen and missed == len(chosen) else 1


def _is_missed(guard: Guard, copy: Path) -> bool:
    file = copy / guard.file
    whole = file.read_text()
    file.write_text(whole.replace(guard.text, guard.without))
    began = time.monotonic()
    try:
        failed = _tests_fail(guard, copy)
    finally:
        file.write_text(whole)
    said = "a test fails" if failed else "NO TEST FAILS"
    print(f"{guard.number:>2}  {guard.trap:<80} {said}  ({time.monotonic() - began:.0f} s)", flush=True)
    return failed


def _tests_fail(guard: Guard, copy: Path) -> bool:
    command = [sys.executable, "-m", "pytest", "-x", "-p", "no:cacheprovider", *guard.tests]
    try:
        done = subprocess.run(  # noqa: S603  # our own command line
            command, cwd=copy, env=_environment(copy), capture_output=True, timeout=_TIMEOUT_S, check=False, text=True
        )
    except subprocess.TimeoutExpired:
        return True  # a test that never ends is one that somebody notices
    if done.returncode not in {0, _TESTS_FAILED}:
        raise SystemExit(f"the tests could not be run:\n{done.stdout}{done.stderr}")
    return done.returncode == _TESTS_FAILED


def _environment(copy: Path) -> Mapping[str, str]:
    """The copy's packages come before those that are installed."""
    sources = [*copy.glob("libs/*/src"), *copy.glob("services/*/src"), *copy.glob("simulators/*/src"), copy / "cli/src"]
    return os.environ | {"PYTHONPATH": os.pathsep.join(map(str, sources)), "PYTHONDONTWRITEBYTECODE": "1"}


if __name__ == "__main__":
    sys.exit(main())
