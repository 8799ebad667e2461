"""Load for many minutes, one random fault in each: the counts of a single fault for all of it, and memory that stays flat.

The load goes on without a pause between the minutes; a fault is over, and the stack whole, before the next one begins.
"""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from bench.account import close_webhook
from bench.stack import Stack
from tests.chaos.fault import Fault, Policy
from tests.chaos.processes import Vitals, vitals_of
from tests.chaos.record import Record
from tests.chaos.report import details, table
from tests.chaos.runner import Row, Size, Tools, random_first_number, run_beside
from tests.chaos.scene import Scene
from tests.chaos.tally import Recovery, count, problems_of, recovery_of
from tests.chaos.traffic import open_traffic

MINUTE_S = 60.0
_PATIENCE_S = 180.0
_RUNS_OVER_BY = 2.0
_VITALS_HEAD = (
    "| process | restarts | RSS MiB first / last / max | PSS MiB first / last / max | descriptors first / last / max |\n"
    "|---|--:|--:|--:|--:|"
)


@dataclass(frozen=True)
class Minute:
    """What was done in one minute, and how long what it delayed took to settle."""

    fault: str
    recovery: Recovery
    vitals: dict[str, Vitals]


@dataclass(frozen=True)
class Soak:
    """All minutes together in `row`, whose recovery is the slowest of them."""

    seed: int
    row: Row
    minutes: list[Minute]
    restarts: dict[str, int]

    @property
    def problems(self) -> list[str]:
        return self.row.problems

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def text(self) -> str:
        return "\n".join(
            [
                "",
                "| minute | fault | submits again after s | recovered after s |",
                "|--:|---|--:|--:|",
                *(
                    f"| {number} | {minute.fault} | {minute.recovery.flow_s:.1f} | {minute.recovery.seconds:.1f} |"
                    for number, minute in enumerate(self.minutes, start=1)
                ),
                "",
                _VITALS_HEAD,
                *map(self._vitals, self.minutes[0].vitals),
                "",
                *details(self.row),
                "",
                table([self.row]),
            ]
        )

    def _vitals(self, name: str) -> str:
        samples = [minute.vitals[name] for minute in self.minutes if name in minute.vitals]
        columns = [
            [sample.rss_mib for sample in samples],
            [sample.pss_mib for sample in samples],
            [float(sample.descriptors) for sample in samples],
        ]
        figures = " | ".join(f"{column[0]:.0f} / {column[-1]:.0f} / {max(column):.0f}" for column in columns)
        return f"| {name} | {self.restarts.get(name, 0)} | {figures} |"


def run_soak(
    minutes: int, faults: Sequence[Fault], stack: Stack, tools: Tools, size: Size, say: Callable[[str], None]
) -> Soak:
    """`size.messages` has no meaning here: each minute has as many as the rate gives."""
    say(f"Seed {size.seed}: {minutes} minutes at {size.rate:g}/s, one of {len(faults)} faults a minute.")
    chance = random.Random(size.seed)  # noqa: S311  # to be repeated, nothing secret
    messages = int(size.rate * MINUTE_S)
    traffic = open_traffic(stack, tools.webhook_url, minutes * MINUTE_S * _RUNS_OVER_BY)
    record = Record(stack, traffic, tools.sink)
    number = random_first_number(chance, messages * minutes)
    done: list[tuple[Fault, Scene, dict[str, Vitals]]] = []
    problems: list[str] = []
    for minute in range(minutes):
        fault = chance.choice(faults)
        scene = Scene(stack, traffic.account, tools.sink, chance, messages, size.rate)
        scene.restore()
        scene.started_at = time.monotonic()
        problems += run_beside(fault, scene, record, tools, number + minute * messages)
        record.look()
        done.append((fault, scene, vitals_of(stack.pids())))
        say(f"minute {minute + 1}: {fault.name}; accepted {len(record.sent):,}")
    policy = Policy(otp_may_double=any(fault.policy.otp_may_double for fault, *_ in done), patience_s=_PATIENCE_S)
    if not record.await_quiet(policy.patience_s):
        problems.append(f"not quiet {policy.patience_s:g} s after the load ended")
    evidence = record.evidence()
    close_webhook(stack, traffic.account)
    told = []
    for minute, (fault, scene, vitals) in enumerate(done):
        numbers = range(number + minute * messages, number + (minute + 1) * messages)
        of_minute = [sent for sent in evidence.sent if sent.number in numbers]
        told.append(Minute(fault.name, recovery_of(evidence, of_minute, scene.recovers_from), vitals))
    slowest = Recovery(
        late=sum(minute.recovery.late for minute in told),
        seconds=max(minute.recovery.seconds for minute in told),
        flow_s=max(minute.recovery.flow_s for minute in told),
    )
    counts = replace(count(evidence), recovery=slowest)
    row = Row(
        "soak", f"{minutes} minutes, a random fault in each", counts, policy, problems_of(counts, policy) + problems
    )
    return Soak(size.seed, row, told, stack.restarts())
