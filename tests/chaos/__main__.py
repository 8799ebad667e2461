"""The long form: `python -m tests.chaos` runs every fault and prints the table; `--soak MINUTES` a fault a minute."""

import argparse
import json
import secrets
import signal
import sys
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from bench.stack import Choice, Stack, stack_of
from bench.worker import BenchError
from tests.chaos.fault import Fault
from tests.chaos.registry import BY_NAME, FAULTS
from tests.chaos.report import details, table
from tests.chaos.runner import Row, Size, Tools, run_fault, tools
from tests.chaos.soak import run_soak

from harkara_cli.errors import HarkaraError

_INTERRUPTED = 130


def main() -> int:
    """0: every bound holds. 1: one is broken, or the run came to nothing."""
    arguments = _parser().parse_args()
    # A plain kill cleans up like Ctrl-C.
    signal.signal(signal.SIGTERM, _interrupt)
    if arguments.list:
        for fault in FAULTS:
            print(f"{fault.name:<28} {fault.what}")
        return 0
    size = Size(messages=arguments.messages, rate=arguments.rate, seed=arguments.seed)
    try:
        with tools() as running:
            if arguments.soak:
                faults = [BY_NAME[name] for name in arguments.only] or [fault for fault in FAULTS if fault.is_random]
                return _soak(arguments, faults, running, size)
            return _faults(arguments, [BY_NAME[name] for name in arguments.only] or FAULTS, running, size)
    except (BenchError, HarkaraError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return _INTERRUPTED


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def _faults(arguments: argparse.Namespace, faults: Sequence[Fault], running: Tools, size: Size) -> int:
    print(f"Seed {size.seed}, {size.messages:,} messages a fault at {size.rate:g}/s.", flush=True)
    rows: list[Row | None] = []
    common = deque(fault for fault in faults if fault.stack is None)
    while common:
        with stack_of(_choice(arguments)) as stack:
            while common:
                rows.append(row := _run(common.popleft(), stack, running, size))
                if row is None or row.problems:
                    break  # what is broken now must not spoil what follows: that gets a new stack
    for fault in faults:
        if fault.stack is not None:
            with fault.stack() as own:
                rows.append(_run(fault, own, running, size))
    counted = [row for row in rows if row]
    print(f"\n{table(counted)}")
    if arguments.json:
        arguments.json.write_text(json.dumps([row.as_json() for row in counted], indent=2))
    return 1 if len(counted) < len(rows) or any(row.problems for row in counted) else 0


def _run(fault: Fault, stack: Stack, running: Tools, size: Size) -> Row | None:
    """None where the stack was so broken that nothing could be counted."""
    try:
        row = run_fault(fault, stack, running, size)
    except (BenchError, HarkaraError) as error:
        print(f"{fault.name}: cannot be counted: {error}", flush=True)
        return None
    for words in details(row):
        print(words, flush=True)
    return row


def _soak(arguments: argparse.Namespace, faults: Sequence[Fault], running: Tools, size: Size) -> int:
    with stack_of(_choice(arguments)) as stack:
        soak = run_soak(arguments.soak, faults, stack, running, size, say=lambda words: print(words, flush=True))
    print(soak.text())
    if arguments.json:
        arguments.json.write_text(json.dumps(soak.as_json(), indent=2))
    return 1 if soak.problems else 0


def _choice(arguments: argparse.Namespace) -> Choice:
    return Choice(home=arguments.home, keep=arguments.keep)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="chaos", description="Breaks a stack under load, and counts from outside.")
    parser.add_argument("--only", nargs="+", choices=sorted(BY_NAME), default=[], metavar="NAME", help="see --list")
    parser.add_argument("--messages", type=int, default=3_000, help="beside each fault (default: 3000)")
    parser.add_argument("--rate", type=float, default=300.0, help="messages a second (default: 300)")
    parser.add_argument(
        "--soak", type=int, metavar="MINUTES", help="one load for so long, with a random fault a minute"
    )
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000), help="of what is left to chance")
    parser.add_argument("--home", type=Path, help="use the stack that runs there, or start one there")
    parser.add_argument("--keep", action="store_true", help="do not remove the temporary home: its logs may be wanted")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all counts there, too")
    parser.add_argument("--list", action="store_true", help="the names of all faults")
    return parser


if __name__ == "__main__":
    sys.exit(main())
