"""Commands that measure one thing each, `profile` among them: their options, and what they print."""

import argparse
from pathlib import Path
from typing import Any

from bench.peers.command import add_options as add_peers_options
from bench.peers.command import run as run_peers
from bench.stack import Choice

_DOCUMENT = Path(__file__).parents[1] / "docs" / "performance.md"
_FLOOR_MESSAGES = 20_000


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def add_stack_options(parser: argparse.ArgumentParser) -> None:
    """Options of commands that look into a stack: one of its own, or one that runs in a home."""
    parser.add_argument("--home", type=Path, help="measure the stack that runs there, or start one there")
    parser.add_argument("--port-base", type=positive, help="of a stack that is started; a free one when left out")
    parser.add_argument("--keep", action="store_true", help="do not remove the temporary home: its logs may be wanted")


def choice_of(arguments: argparse.Namespace, **environment: str) -> Choice:
    """`environment` is that of a stack that is started."""
    return Choice(home=arguments.home, port_base=arguments.port_base, keep=arguments.keep, environment=environment)


def say(line: str) -> None:
    print(line, flush=True)


def add_commands(commands: "argparse._SubParsersAction[Any]") -> None:
    """Each parser's `run` takes the arguments and gives the exit code."""
    profile = commands.add_parser("profile", help="where each microsecond of a message goes, by service and layer")
    profile.add_argument("--messages", type=positive, default=10_000, help="of the clean load (default: 10000)")
    profile.add_argument("--connections", type=positive, default=50)
    profile.add_argument("--seconds", type=float, default=10.0, help="how long each service is sampled (default: 10)")
    profile.add_argument("--no-floors", action="store_true", help="leave out what the layers cost bare")
    profile.add_argument("--docs", action="store_true", help=f"put the tables into {_DOCUMENT.name}, too")
    profile.add_argument("--top", type=int, default=0, metavar="N", help="name the N costliest functions by service")
    add_stack_options(profile)
    profile.set_defaults(run=_profile)
    peers = commands.add_parser("peers", help="Harkara beside Jasmin and Kannel: one table")
    add_peers_options(peers)
    peers.set_defaults(run=run_peers)

    long = commands.add_parser("long", help="what a message costs after a thousand and after a million of them")
    long.add_argument("--messages", type=positive, default=1_000_000, help="in all (default: 1000000)")
    long.add_argument("--connections", type=positive, default=50)
    long.add_argument("--check", action="store_true", help="exit with 1 if anything was lost, doubled or not charged")
    add_stack_options(long)
    long.set_defaults(run=_long)

    lanes = commands.add_parser("lanes", help="whether OTPs overtake a flood that is queued before them")
    lanes.add_argument("--depth", type=positive, default=200_000, help="messages to be queued (default: 200000)")
    lanes.add_argument("--flood", choices=("promotional", "transactional"), default="promotional")
    lanes.add_argument("--seconds", type=float, default=30.0, help="of OTPs while the queue is that deep (default: 30)")
    lanes.add_argument("--tps", type=float, default=100.0, help="each carrier's rate meanwhile (default: 100)")
    lanes.add_argument("--connections", type=positive, default=50, help="of the flood")
    lanes.add_argument(
        "--check", action="store_true", help="exit with 1 if p99 is 250 ms or more, or anything was lost"
    )
    add_stack_options(lanes)
    lanes.set_defaults(run=_lanes)

    bulk = commands.add_parser("bulk", help="one call of 100,000 recipients, and what OTPs notice of it")
    bulk.add_argument("--recipients", type=positive, default=100_000, help="of the call (default: 100000)")
    bulk.add_argument("--otp-rate", type=float, default=25.0, help="OTPs a second meanwhile (default: 25)")
    bulk.add_argument(
        "--check", action="store_true",
        help="exit with 1 if an OTP's p99 is 100 ms or more, the first message takes a second, the edge takes 300 MiB, or "
        "anything was lost or doubled",
    )  # fmt: skip
    add_stack_options(bulk)
    bulk.set_defaults(run=_bulk)

    scale = commands.add_parser("scale", help="what two and three processes of each service cost")
    scale.add_argument("services", nargs="*", help="scale these only; all when left out")
    scale.add_argument("--messages", type=positive, default=5_000, help="of each run (default: 5000)")
    scale.add_argument("--connections", type=positive, default=50)
    scale.add_argument("--quiet", type=float, default=10.0, metavar="SECONDS", help="length of the phase at 50/s")
    scale.add_argument("--most", type=positive, default=3, help="the highest number of processes (default: 3)")
    scale.add_argument("--check", action="store_true", help="exit with 1 if anything was lost, doubled or not charged")
    scale.set_defaults(run=_scale)


def _scale(arguments: argparse.Namespace) -> int:
    from bench.scale import Plan, measure, table  # noqa: PLC0415  # each command pays for its own imports

    plan = Plan(
        messages=arguments.messages, connections=arguments.connections, quiet_s=arguments.quiet,
        services=arguments.services, most=arguments.most,
    )  # fmt: skip
    rows = []
    for row in measure(plan, say):
        rows.append(row)
        say(table(rows))
    problems = [problem for row in rows for problem in row.problems]
    for problem in problems:
        say(f"PROBLEM: {problem}")
    return 1 if arguments.check and problems else 0


def _lanes(arguments: argparse.Namespace) -> int:
    from bench.lanes import Plan, measure, report_text  # noqa: PLC0415  # each command pays for its own imports

    plan = Plan(
        stack=choice_of(arguments), depth=arguments.depth, flood=arguments.flood, seconds=arguments.seconds,
        tps=arguments.tps, connections=arguments.connections,
    )  # fmt: skip
    report = measure(plan, say)
    say(report_text(report))
    return 1 if arguments.check and report.problems else 0


def _bulk(arguments: argparse.Namespace) -> int:
    from bench.bulk import Plan, measure, report_text  # noqa: PLC0415  # each command pays for its own imports

    # The simulator is asked all the time for what came: it need not keep more than a few seconds' worth.
    choice = choice_of(arguments, HARKARA_SMSC_KEEP="50000")
    plan = Plan(stack=choice, recipients=arguments.recipients, otp_rate=arguments.otp_rate)
    report = measure(plan, say)
    say(report_text(report))
    return 1 if arguments.check and report.problems else 0


def _long(arguments: argparse.Namespace) -> int:
    from bench.long import Plan, measure, report_text  # noqa: PLC0415  # each command pays for its own imports

    # The simulator is asked every second for what came: it need not keep more than a few seconds' worth.
    choice = choice_of(arguments, HARKARA_SMSC_KEEP="50000")
    plan = Plan(stack=choice, messages=arguments.messages, connections=arguments.connections)
    report = measure(plan, say)
    say(report_text(report))
    return 1 if arguments.check and report.problems else 0


def _profile(arguments: argparse.Namespace) -> int:
    from bench.profile.command import Plan, measure  # noqa: PLC0415  # each command pays for its own imports
    from bench.profile.table import hot_functions, markdown, renew  # noqa: PLC0415  # as above

    plan = Plan(
        stack=choice_of(arguments), messages=arguments.messages, seconds=arguments.seconds,
        connections=arguments.connections, floors=0 if arguments.no_floors else _FLOOR_MESSAGES,
    )  # fmt: skip
    result = measure(plan, say)
    table = markdown(result)
    say(table)
    if arguments.top:
        say(hot_functions(result, arguments.top))
    if arguments.docs:
        renew(_DOCUMENT, table)
    return 0
