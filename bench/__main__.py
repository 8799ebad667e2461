"""The command: `python -m bench [pipeline|floor] …`."""

import argparse
import json
import os
import signal
import sys
from pathlib import Path
from typing import NoReturn

from bench.commands import add_commands
from bench.floor import measure_floor
from bench.pipeline import Options, run_pipeline
from bench.report import report_text
from bench.stack import Choice
from bench.worker import BenchError
from harkara_cli.errors import HarkaraError

_INTERRUPTED = 130


def main() -> int:
    """0: measured. 1: not measured, or `--check` found something lost, doubled or not charged."""
    words = sys.argv[1:]
    # The pipeline is what one means.
    if not words or words[0].startswith("--"):
        words = ["pipeline", *words] if words != ["--help"] else words
    arguments = _parser().parse_args(words)
    # A plain kill cleans up like Ctrl-C.
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        if "run" in arguments:
            return int(arguments.run(arguments))
        return _floor(arguments) if arguments.command == "floor" else _pipeline(arguments)
    except (BenchError, HarkaraError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return _INTERRUPTED


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def _floor(arguments: argparse.Namespace) -> int:
    for floor in measure_floor(arguments.messages, arguments.connections):
        cpu = ", ".join(f"{name} {microseconds:.0f} µs" for name, microseconds in floor.cpu_us.items())
        print(f"{floor.name:<42} {floor.rate:>9,.0f}/s   CPU a message: {cpu}")
    return 0


def _pipeline(arguments: argparse.Namespace) -> int:
    choice = Choice(
        url=arguments.url,
        smsc_url=arguments.smsc,
        operator_key=os.environ.get("HARKARA_OPERATOR_KEY"),
        home=arguments.home,
        port_base=arguments.port_base,
        keep=arguments.keep,
    )
    options = Options(
        stack=choice,
        messages=arguments.messages,
        rate=arguments.rate,
        connections=arguments.connections,
        quiet_s=arguments.quiet,
        patience_s=arguments.patience,
        kill=arguments.kill,
    )
    report = run_pipeline(options, say=lambda line: print(line, flush=True))
    print(report_text(report))
    if arguments.json:
        arguments.json.write_text(json.dumps(report.as_json(), indent=2, ensure_ascii=False))
    return 1 if arguments.check and report.problems else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bench", description="Measures Harkara from outside.")
    commands = parser.add_subparsers(dest="command", required=True)
    pipeline = commands.add_parser("pipeline", help="HTTP call to signed webhook, over the whole stack (the default)")
    pipeline.add_argument("--messages", type=_positive, default=10_000, help="of the main phase (default: 10000)")
    pipeline.add_argument("--rate", type=float, help="requests a second in the main phase; flat out when left out")
    pipeline.add_argument("--connections", type=_positive, default=50)
    pipeline.add_argument(
        "--quiet", type=float, default=10.0, metavar="SECONDS", help="length of the phase at 50/s; 0: none"
    )
    pipeline.add_argument(
        "--patience", type=float, default=120.0, metavar="SECONDS", help="wait so long for the last webhook"
    )
    pipeline.add_argument("--home", type=Path, help="measure the stack that runs there, or start one there")
    pipeline.add_argument("--port-base", type=_positive, help="of a stack that is started; a free one when left out")
    pipeline.add_argument("--url", help="measure the stack at this URL; needs --smsc, and HARKARA_OPERATOR_KEY set")
    pipeline.add_argument("--smsc", metavar="URL", help="the HTTP view of that stack's SMSC simulator")
    pipeline.add_argument("--kill", metavar="PROCESS", help="kill -9 this one when 40 %% of the messages are submitted")
    pipeline.add_argument(
        "--check", action="store_true", help="exit with 1 if anything was lost, doubled or not charged"
    )
    pipeline.add_argument(
        "--keep", action="store_true", help="do not remove the temporary home: its logs may be wanted"
    )
    pipeline.add_argument("--json", type=Path, metavar="FILE", help="write all figures there, too")
    add_commands(commands)
    floor = commands.add_parser("floor", help="what the tools alone can do")
    floor.add_argument("--messages", type=_positive, default=50_000)
    floor.add_argument("--connections", type=_positive, default=50)
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


if __name__ == "__main__":
    sys.exit(main())
