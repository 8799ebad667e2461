"""`python -m bench peers …`: options, and what is printed and written."""

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.peers.harkara import HARKARA
from bench.peers.jasmin import JASMIN
from bench.peers.kannel import KANNEL, KANNEL_FILE
from bench.peers.measure import MAX_MESSAGES, VARIANTS, Options, Result, measure
from bench.peers.peer import Peer
from bench.peers.table import ROWS, markdown, median_for
from bench.worker import BenchError

PEERS: dict[str, Peer] = {peer.name: peer for peer in (JASMIN, KANNEL, KANNEL_FILE, HARKARA)}
_MAX_ROUNDS = 50
_CACHE = Path("~/.cache/harkara-bench")


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, default=3, help="of every peer, interleaved (default: 3)")
    parser.add_argument("--peers", default=",".join(PEERS), help=f"in this order (default: {','.join(PEERS)})")
    parser.add_argument(
        "--variants",
        default=",".join(VARIANTS),
        help="main: the SMSC sends TCP ACKs at once; acks: as usual; slow: it answers after 20 ms (default: all)",
    )
    parser.add_argument(
        "--messages",
        type=int,
        default=20_000,
        help="of Kannel's and Harkara's main phase; all else in proportion (default: 20000)",
    )
    parser.add_argument(
        "--quiet", type=float, default=10.0, metavar="SECONDS", help="length of the phase at 50/s; 0: none"
    )
    parser.add_argument("--each-step", action="store_true", help="peers call back for the SMSC's acceptance, too")
    parser.add_argument("--cache", type=Path, default=_CACHE, help=f"what is installed by pip (default: {_CACHE})")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure of every round there, too")


def run(arguments: argparse.Namespace) -> int:
    """0: measured. 1: a run failed. Raises BenchError."""
    options = options_of(arguments)

    def after_run(result: Result) -> None:
        if arguments.json:
            arguments.json.write_text(json.dumps(as_json(result, options), indent=2, ensure_ascii=False))

    result = measure(options, lambda line: print(line, flush=True), after_run)
    print(f"\n{markdown(result, options)}")
    return 1 if result.failures else 0


def options_of(arguments: argparse.Namespace) -> Options:
    if not 0 < arguments.messages <= MAX_MESSAGES:
        raise BenchError(f"--messages must be between 1 and {MAX_MESSAGES:,}")
    if not 0 < arguments.rounds <= _MAX_ROUNDS:
        raise BenchError(f"--rounds must be between 1 and {_MAX_ROUNDS}")
    return Options(
        peers=[PEERS[name] for name in _chosen("--peers", arguments.peers, list(PEERS))],
        variants=_chosen("--variants", arguments.variants, list(VARIANTS)),
        cache=arguments.cache.expanduser().resolve(),
        rounds=arguments.rounds,
        messages=arguments.messages,
        quiet_s=arguments.quiet,
        each_step=arguments.each_step,
    )


def _chosen(option: str, text: str, known: list[str]) -> list[str]:
    names = text.split(",")
    if unknown := [name for name in names if name not in known]:
        raise BenchError(f"{option}: there is no {', '.join(unknown)}; choose of {', '.join(known)}")
    return list(dict.fromkeys(names))


def as_json(result: Result, options: Options) -> dict[str, Any]:
    medians = {
        peer.name: {
            f"{row.phase}: {row.label.strip('*')}": asdict(median)
            for row in ROWS
            if (median := median_for(result, peer.name, row))
        }
        for peer in options.peers
    }
    phases = {
        peer: {name: [asdict(phase) for phase in listed] for name, listed in by_name.items()}
        for peer, by_name in result.phases.items()
    }
    return {"rounds": options.rounds, "medians": medians, "phases": phases, "failures": result.failures}
