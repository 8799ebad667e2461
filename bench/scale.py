"""What several processes of a service cost, and whether they bring anything.

Each service in turn has two processes, then three, all others one; and last every service has two. Each run is the whole
pipeline on a stack of its own: nothing may be lost, doubled or charged wrong. All processes share the machine's cores, so
more of them cannot make it faster than its cores allow; what shows is what a further process costs, and whether two of one
service get into each other's way.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from bench.pipeline import Options, Phase, Report, run_pipeline
from bench.stack import Choice
from harkara_cli.ports import service_of
from harkara_cli.stack import SERVICES

MOST = 3
_EVERY = "every service"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """`services` are scaled in turn; none means all of them. `most` is the highest number of processes of one."""

    messages: int = 5_000
    connections: int = 50
    quiet_s: float = 10.0
    services: Sequence[str] = ()
    most: int = MOST
    keep: bool = False


@dataclass(frozen=True)
class Row:
    """One run. `cpu_ms` is CPU a message flat out: of the whole stack, and by service, all its processes together."""

    scaled: str
    processes: int
    end_to_end: float
    cpu_ms: float
    cpu_ms_of: Mapping[str, float]
    p50_ms: float
    p99_ms: float
    lost: int
    doubled: int
    problems: Sequence[str]


def measure(plan: Plan, say: Callable[[str], None], run: Callable[..., Report] = run_pipeline) -> Iterator[Row]:
    """Run after run, one row each."""
    for scaled, number, scale in runs(plan):
        words = " ".join(f"{service}={count}" for service, count in scale.items())
        say(f"── {words or 'one process each'} ──")
        options = Options(
            # Also where it is empty: what the caller's own environment says of it must not count.
            stack=Choice(keep=plan.keep, environment={"HARKARA_SCALE": words}),
            messages=plan.messages,
            connections=plan.connections,
            quiet_s=plan.quiet_s,
        )
        yield row_of(scaled, number, run(options, say=say))


def runs(plan: Plan) -> list[tuple[str, int, dict[str, int]]]:
    """What is scaled, to how many, and the whole scale."""
    services = plan.services or [service.name for service in SERVICES]
    found: list[tuple[str, int, dict[str, int]]] = [("", 1, {})]
    found += [(service, number, {service: number}) for service in services for number in range(2, plan.most + 1)]
    if not plan.services:
        found.append((_EVERY, 2, dict.fromkeys(services, 2)))
    return found


def row_of(scaled: str, processes: int, report: Report) -> Row:
    main = next(phase for phase in report.phases if phase.name == "main")
    quiet = next((phase for phase in report.phases if phase.name == "unloaded"), main)
    submit = quiet.figures.latencies["request → submit"]
    counts = [phase.figures.counts for phase in report.phases]
    return Row(
        scaled=scaled,
        processes=processes,
        end_to_end=main.figures.rates.end_to_end,
        cpu_ms=main.cpu_s_per_1000(of_bench=False),
        cpu_ms_of=cpu_ms_of(main),
        p50_ms=submit.p50_ms,
        p99_ms=submit.p99_ms,
        lost=sum(count.accepted_not_submitted + count.accepted_not_reported for count in counts),
        doubled=sum(count.submitted_twice for count in counts),
        problems=report.problems,
    )


def cpu_ms_of(phase: Phase) -> dict[str, float]:
    """CPU a message by service and server."""
    spent: defaultdict[str, float] = defaultdict(float)
    for name, usage in phase.usage.items():
        spent[service_of(name)] += usage.cpu_s
    return {name: cpu_s / max(1, phase.figures.counts.submitted) * 1000 for name, cpu_s in spent.items()}


def table(rows: Sequence[Row]) -> str:
    """Markdown; the first row is that of one process each, to which the others are compared."""
    lines = [
        "| processes | end to end/s | CPU ms a message | the service's own, before | p50 / p99 ms at 50/s | lost | doubled |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        name = f"{row.processes} of {row.scaled}" if row.scaled else "one each"
        own, before = row.cpu_ms_of.get(row.scaled), rows[0].cpu_ms_of.get(row.scaled)
        compared = "" if own is None or before is None else f"{own:.3f}, {before:.3f}"
        lines.append(
            f"| {name} | {row.end_to_end:,.0f} | {row.cpu_ms:.3f} | {compared} "
            f"| {row.p50_ms:.1f} / {row.p99_ms:.1f} | {row.lost} | {row.doubled} |"
        )
    return "\n".join(lines)
