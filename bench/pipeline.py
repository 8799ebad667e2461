"""The whole way of a message: HTTP call, accepted, submitted by SMPP, receipt, signed webhook; in three phases.

A warm-up, a quiet phase at a low set rate for latencies, and the main phase, flat out or at a set rate. Each phase waits
until every accepted message has its final webhook (or the patience ends), then its figures are joined.
"""

import os
import random
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from bench import load as load_generator
from bench import sink as webhook_sink
from bench.account import TOPUP_PAISE, Account, Money, close_webhook, money_of, open_account, statuses_of
from bench.figures import Figures, Spread, figures_of, hops_of
from bench.load import FIRST_NUMBER, NUMBERS, LoadPlan, LoadResult
from bench.processes import Usage, Watch
from bench.sink import Collected
from bench.stack import Choice, Stack, stack_of
from bench.verdict import Outcome, problems_of
from bench.worker import BenchError, Worker

MAX_MESSAGES = 150_000
"""Below what the simulator keeps (200,000), so that nothing it has seen is forgotten before it is asked."""

_WARM_UP = 300
_POLL_S = 0.1
_STATS_EVERY_S = 0.25
_KILL_AT = 0.4
_SETTLE_S = 1.0
_SETTLE_AFTER_KILL_S = 6.0
"""The first retry of a webhook comes after five seconds: a double would show by then."""
_LEDGER_PATIENCE_S = 20.0
_SAMPLE = 300
_LOAD_GIVE_UP_S = 900.0


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to measure. `rate` None is flat out; `quiet_s` 0 leaves the quiet phase out; `kill` names a process."""

    stack: Choice
    messages: int = 10_000
    rate: float | None = None
    connections: int = 50
    quiet_rate: float = 50.0
    quiet_s: float = 10.0
    patience_s: float = 120.0
    kill: str | None = None


@dataclass(frozen=True)
class Phase:
    """`usage` by process name, of the phase from its first request to its last webhook."""

    name: str
    figures: Figures
    usage: dict[str, Usage]
    others_share: float
    hops: dict[str, Spread]
    refusal: str
    connections_lost: int
    last_error: str

    def cpu_s_per_1000(self, *, of_bench: bool) -> float:
        used = sum(usage.cpu_s for name, usage in self.usage.items() if name.startswith("bench") is of_bench)
        return used / max(1, self.figures.counts.submitted) * 1000


@dataclass(frozen=True)
class Report:
    phases: list[Phase]
    money: Money
    dead: list[str] | None
    killed: str | None
    restarts: dict[str, int]
    problems: list[str]

    def as_json(self) -> dict[str, Any]:
        document = asdict(self)
        for phase in document["phases"]:
            del phase["figures"]["submitted_numbers"]
        return document


@dataclass
class Bench:
    """The parts at work together."""

    options: Options
    stack: Stack
    account: Account
    load: Worker
    sink: Worker
    own_pid: int

    def pids(self) -> dict[str, int]:
        tools = {"bench": self.own_pid, "bench-load": self.load.pid, "bench-sink": self.sink.pid}
        return {**self.stack.pids(), **tools}

    def phase(self, name: str, first_number: int, count: int, rate: float | None, kill: str | None = None) -> Phase:
        host, port = self.stack.address
        plan = LoadPlan(
            host=host, port=port, api_key=self.account.api_key, sender=self.account.sender,
            template_id=self.account.template_id, first_number=first_number, count=count,
            connections=self.options.connections, rate=rate, give_up_s=_LOAD_GIVE_UP_S,
        )  # fmt: skip
        began_at = time.monotonic()
        run = _Run(self, Watch(self.pids()), self.stack.smsc_stats(), count, kill)
        self.load.begin("run", plan)
        while not self.load.has_answered(_POLL_S):
            run.look()
        load = self.load.answer(1.0)
        if not isinstance(load, LoadResult):
            raise BenchError(str(load))
        run.await_webhooks(len(load.accepted), self.options.patience_s)
        usage = run.watch.finish()
        time.sleep(_SETTLE_AFTER_KILL_S if kill else _SETTLE_S)
        collected: Collected = self.sink.ask("collect", self.account.webhook_secret)
        figures = figures_of(load, self.stack.smsc_arrivals(began_at), collected, run.acknowledged)
        ids = [load.message_ids[index] for index in load.accepted]
        sample = random.sample(ids, min(_SAMPLE, len(ids)))
        return Phase(
            name, figures, usage, run.watch.others_share(), hops_of(statuses_of(self.stack, self.account, sample)),
            load.refusal,
            load.connections_lost, load.last_error,
        )  # fmt: skip


class _Run:
    """What is looked at while messages are under way."""

    def __init__(self, bench: Bench, watch: Watch, stats: dict[str, Any], count: int, kill: str | None) -> None:
        self.watch = watch
        self.acknowledged = [(float(stats["monotonic"]), int(stats["acknowledged"]))]
        self._bench = bench
        self._kill = kill
        self._kill_at = int(stats["accepted"]) + int(count * _KILL_AT)
        self._looked_at = 0.0

    def look(self) -> None:
        self.watch.sample()
        if time.monotonic() - self._looked_at < _STATS_EVERY_S:
            return
        self._looked_at = time.monotonic()
        stats = self._bench.stack.smsc_stats()
        self.acknowledged.append((float(stats["monotonic"]), int(stats["acknowledged"])))
        if self._kill and stats["accepted"] >= self._kill_at:
            pid = self._bench.stack.kill(self._kill)
            if pid is not None:
                print(f"Killed {self._kill} (pid {pid}) at {stats['accepted']} submits.", flush=True)
                self._kill = None
        self.watch.follow(self._bench.pids())

    def await_webhooks(self, wanted: int, patience_s: float) -> None:
        """Returns when so many different final webhooks have come, or when they will not."""
        deadline = time.monotonic() + patience_s
        while self._bench.sink.ask("progress") < wanted and time.monotonic() < deadline:
            self.look()
            time.sleep(_POLL_S)
        self._looked_at = 0.0
        self.look()
        if self._kill:
            raise BenchError(f"{self._kill} was not killed: too few messages came through to the carrier")


def run_pipeline(options: Options, say: Callable[[str], None]) -> Report:
    """Measures and cleans up. Raises BenchError or HarkaraError where that cannot be done."""
    if not 0 < options.messages <= MAX_MESSAGES:
        raise BenchError(f"--messages must be between 1 and {MAX_MESSAGES:,}")
    with (
        Worker("sink", webhook_sink.serve) as sink,
        Worker("load", load_generator.serve) as load,
        stack_of(options.stack) as stack,
    ):
        if options.kill and options.kill not in stack.killable():
            raise BenchError(
                f"{options.kill} cannot be killed: there are {', '.join(stack.killable()) or 'no processes'}"
            )
        began = datetime.now(UTC)
        account = open_account(stack, f"http://127.0.0.1:{sink.first_answer}/webhooks")
        bench = Bench(options, stack, account, load, sink, os.getpid())
        phases = _phases(bench, say)
        submitted = sum(phase.figures.counts.submitted for phase in phases)
        money = settled_money(stack, account, submitted)
        dead = stack.dead_letters(began)
        outcome = Outcome([phase.figures for phase in phases], money, TOPUP_PAISE, dead, options.kill)
        report = Report(phases, money, dead, options.kill, stack.restarts(), problems_of(outcome))
        close_webhook(stack, account)
        return report


def _phases(bench: Bench, say: Callable[[str], None]) -> list[Phase]:
    options = bench.options
    quiet = int(options.quiet_rate * options.quiet_s)
    warm_up = min(_WARM_UP, options.messages)
    first = FIRST_NUMBER + random.randrange(NUMBERS - warm_up - quiet - options.messages)  # noqa: S311  # not a secret
    say(f"Warm-up: {warm_up} messages …")
    phases = [bench.phase("warm-up", first, warm_up, None)]
    if quiet:
        say(f"Unloaded: {options.quiet_rate:g}/s for {options.quiet_s:g} s …")
        phases.append(bench.phase("unloaded", first + warm_up, quiet, options.quiet_rate))
    pace = f"{options.rate:g}/s" if options.rate else f"flat out on {options.connections} connections"
    say(f"Main: {options.messages:,} messages, {pace} …")
    phases.append(bench.phase("main", first + warm_up + quiet, options.messages, options.rate, options.kill))
    return phases


def settled_money(stack: Stack, account: Account, submitted: int) -> Money:
    """The account's money when it agrees with what was submitted, or what it is when the patience ends."""
    deadline = time.monotonic() + _LEDGER_PATIENCE_S
    while True:
        money = money_of(stack, account)
        if (money.units == submitted and not money.held_paise) or time.monotonic() > deadline:
            return money
        time.sleep(_POLL_S)
