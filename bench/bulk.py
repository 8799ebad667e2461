"""A bulk of 100,000 beside OTPs: what it costs those who send meanwhile, how soon it begins, how fast it flows.

One call with all recipients, some of them bad, is posted by a process of its own. The OTPs come by the clock from another,
before, while the call is accepted and while its messages flow. In the end everything that was accepted must have reached
the carrier once and called back, and the batch must be complete with the same counts.
"""

import os
import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any

from bench import load as load_generator
from bench import tally as counting_sink
from bench.account import TOPUP_PAISE, Account, Money, close_webhook, dlt_id, open_account
from bench.bulk_call import Post, Posted, serve
from bench.figures import Spread, spread_of
from bench.load import FIRST_NUMBER, NUMBERS, Content, LoadPlan, LoadResult
from bench.pipeline import settled_money
from bench.processes import Watch
from bench.stack import Choice, Stack, stack_of
from bench.tally import Callbacks, Tally, Wanted
from bench.verdict import money_problems
from bench.worker import BenchError, Worker
from harkara_cli.api import Api

P99_LIMIT_MS = 100.0
FIRST_LIMIT_S = 1.0
MEMORY_LIMIT_MIB = 300.0

_OTP_TEMPLATE = "BENCH_OTP"
_OTP_BODY = (
    "{#num:otp#} is your Bench login code. It is valid for {#num:minutes#} minutes. Do not share it with anyone."
)
_OTP_CONNECTIONS = 8
_PIECE_S = 2.0
_LONGEST_S = 1_800.0
"""Numbers for the OTPs are kept for so long."""

_API_PATIENCE_S = 15.0
_POLL_S = 0.05
_LOOK_EVERY_S = 0.2
_TELL_EVERY_S = 5.0
_COMPLETE_PATIENCE_S = 40.0
ALONE, ACCEPTING, FLOWING = "alone", "while the bulk is accepted", "while it flows"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """`recipients` of which `bad` have a number that is none; OTPs at `otp_rate`, for `quiet_s` before."""

    stack: Choice
    recipients: int = 100_000
    bad: int = 50
    otp_rate: float = 25.0
    quiet_s: float = 10.0
    patience_s: float = 600.0

    @property
    def bad_places(self) -> frozenset[int]:
        return frozenset(range(0, self.recipients, max(1, self.recipients // self.bad))) if self.bad else frozenset()


@dataclass(frozen=True)
class Report:
    posted: Posted
    first_after_s: float
    flow_s: float
    otps: dict[str, Spread]
    otp_answers: dict[str, Spread]
    peak_mib: dict[str, float]
    cpu_s: dict[str, float]
    others_share: float
    accepted: int
    submitted: int
    submitted_twice: int
    not_submitted: int
    not_reported: int
    batch: Mapping[str, Any]
    complete_after_s: float
    money: Money
    dead: list[str] | None
    problems: list[str]

    @property
    def edge_peak_mib(self) -> float:
        """The most that any one process of the edge has had in memory."""
        return max((peak_mib for name, peak_mib in self.peak_mib.items() if name.startswith("ingress")), default=0.0)


class _Run:
    """The generators at work, and what was seen of all messages."""

    def __init__(self, plan: Plan, stack: Stack, account: Account, workers: dict[str, Worker]) -> None:
        self._plan, self._stack, self._account, self._workers = plan, stack, account, workers
        otps = int(plan.otp_rate * _LONGEST_S)
        self.first = FIRST_NUMBER + random.randrange(NUMBERS - otps - plan.recipients)  # noqa: S311  # not a secret
        self.total = otps + plan.recipients
        self.bulk_first = self.first + otps
        self._next_otp = self.first
        self.accepted, self.submitted = Tally(self.first, self.total), Tally(self.first, self.total)
        self.begun: dict[int, float] = {}
        self.answered: dict[int, float] = {}
        self.arrived: dict[int, float] = {}
        self.bulk_arrived = 0
        self.first_bulk_at = self.last_bulk_at = 0.0
        self.peak_mib: dict[str, float] = {}
        self._heard_at = time.monotonic()
        self._looked_at = 0.0
        self.watch: Watch | None = None
        workers["sink"].ask("expect", Wanted(self.first, self.total, account.webhook_secret))

    def post(self) -> Post:
        host, port = self._stack.address
        account, plan = self._account, self._plan
        return Post(
            host, port, account.api_key, account.sender, account.template_id, self.bulk_first, plan.recipients,
            plan.bad_places,
        )  # fmt: skip

    def otps_while(self, goes_on: Callable[[], bool]) -> None:
        """Send OTPs by the clock, a piece after the other, and look at what arrives."""
        under_way = False
        while under_way or goes_on():
            if not under_way:
                self._workers["otp"].begin("run", self._piece())
                under_way = True
            if self._workers["otp"].has_answered(_POLL_S):
                self._take(self._workers["otp"].answer(1.0))
                under_way = False
            self.look()

    def watch_cpu(self) -> None:
        """From here on, of the stack and of the bench."""
        own = {f"bench {name}": worker.pid for name, worker in self._workers.items()} | {"bench": os.getpid()}
        self.watch = Watch(self._stack.pids() | own)

    def look(self) -> None:
        """Ask the simulator for what came since the last time, and the system for memory."""
        now = time.monotonic()
        if now - self._looked_at < _LOOK_EVERY_S:
            return
        self._looked_at = now
        for number, at in self._stack.smsc_arrivals(self._heard_at):
            self.submitted.add(number)
            self._heard_at = max(self._heard_at, at)
            if number < self.bulk_first:
                self.arrived.setdefault(number, at)
                continue
            self.bulk_arrived += 1
            self.first_bulk_at = self.first_bulk_at or at
            self.last_bulk_at = max(self.last_bulk_at, at)
        if self.watch is not None:
            self.watch.sample()
        for name, pid in self._stack.pids().items():
            self.peak_mib[name] = max(self.peak_mib.get(name, 0.0), _peak_mib(pid))

    def take_bulk(self, posted: Posted) -> None:
        rejected = {one["index"] for one in posted.answer.get("rejected", ())}
        for place in range(self._plan.recipients):
            if place not in rejected:
                self.accepted.add(self.bulk_first + place)

    def spreads(self, posted: Posted, ends: Mapping[int, float]) -> dict[str, Spread]:
        """From each OTP's call to its end, by what was going on when it was due."""
        seconds: dict[str, list[float]] = {ALONE: [], ACCEPTING: [], FLOWING: []}
        for number, begun_at in self.begun.items():
            if number in ends:
                seconds[self._phase(begun_at, posted)].append(ends[number] - begun_at)
        return {phase: spread_of(values) for phase, values in seconds.items()}

    def _phase(self, at: float, posted: Posted) -> str:
        if at < posted.begun_at:
            return ALONE
        return ACCEPTING if at < posted.answered_at else FLOWING

    def _piece(self) -> LoadPlan:
        host, port = self._stack.address
        count = max(1, int(self._plan.otp_rate * _PIECE_S))
        first, self._next_otp = self._next_otp, self._next_otp + count
        if self._next_otp > self.bulk_first:
            raise BenchError("the bulk takes longer than half an hour")
        otp = Content(
            sender=self._account.sender, template_id=_OTP_TEMPLATE, variables={"otp": "482913", "minutes": "10"}
        )
        return LoadPlan(
            host=host, port=port, api_key=self._account.api_key, first_number=first, count=count,
            connections=_OTP_CONNECTIONS, rate=self._plan.otp_rate, contents=(otp,),
        )  # fmt: skip

    def _take(self, result: LoadResult | str) -> None:
        if not isinstance(result, LoadResult):
            raise BenchError(result)
        if result.refusal or len(result.accepted) < result.count:
            raise BenchError(f"an OTP was not accepted: {result.refusal or result.last_error}")
        for index in result.accepted:
            number = result.first_number + index
            self.accepted.add(number)
            self.begun[number], self.answered[number] = result.begun[index], result.answered[index]


def measure(plan: Plan, say: Callable[[str], None]) -> Report:
    """Raises BenchError or HarkaraError where it cannot be done."""
    with (
        Worker("sink", counting_sink.serve) as sink,
        Worker("otp", load_generator.serve) as otp,
        Worker("bulk", serve) as bulk,
        stack_of(plan.stack) as stack,
    ):
        began = datetime.now(UTC)
        account = _account(stack, f"http://127.0.0.1:{sink.first_answer}/webhooks")
        run = _Run(plan, stack, account, {"sink": sink, "otp": otp})
        say(f"OTPs alone, {plan.otp_rate:g}/s for {plan.quiet_s:g} s …")
        quiet_until = time.monotonic() + plan.quiet_s
        run.otps_while(lambda: time.monotonic() < quiet_until)
        say(f"The bulk: {plan.recipients:,} recipients in one call, {len(plan.bad_places)} of them bad …")
        bulk.begin("post", run.post())
        run.otps_while(lambda: not bulk.has_answered(0))
        posted: Posted = bulk.answer(1.0)
        if posted.status != HTTPStatus.ACCEPTED:
            raise BenchError(f"the bulk was answered {posted.status}: {str(posted.answer)[:300]}")
        run.take_bulk(posted)
        total = posted.answer["total_recipients"]
        run.watch_cpu()
        run.otps_while(_flowing(run, total, plan.patience_s, say))
        assert run.watch is not None
        usage = run.watch.finish()
        _drain(run, sink, plan.patience_s)
        batch, complete_after_s = _completed(stack, account, posted)
        callbacks: Callbacks = sink.ask("callbacks")
        report = Report(
            posted=posted,
            first_after_s=run.first_bulk_at - posted.answered_at,
            flow_s=run.last_bulk_at - run.first_bulk_at,
            otps=run.spreads(posted, run.arrived),
            otp_answers=run.spreads(posted, run.answered),
            peak_mib=run.peak_mib,
            cpu_s={name: one.cpu_s for name, one in usage.items()},
            others_share=run.watch.others_share(),
            accepted=run.accepted.unique,
            submitted=run.submitted.unique,
            submitted_twice=run.submitted.again,
            not_submitted=run.submitted.lacks(run.accepted),
            not_reported=callbacks.tally.lacks(run.accepted),
            batch=batch,
            complete_after_s=complete_after_s,
            money=settled_money(stack, account, run.submitted.unique),
            dead=stack.dead_letters(began),
            problems=[],
        )
        report.problems.extend(problems_of(plan, report))
        close_webhook(stack, account)
        return report


def _flowing(run: _Run, total: int, patience_s: float, say: Callable[[str], None]) -> Callable[[], bool]:
    """Whether the bulk still flows; tells now and then how far it is."""
    until = time.monotonic() + patience_s
    told_at = 0.0

    def goes_on() -> bool:
        nonlocal told_at
        now = time.monotonic()
        if now - told_at >= _TELL_EVERY_S:
            told_at = now
            say(f"  at the carrier {run.bulk_arrived:>8,} of {total:,}")
        return run.bulk_arrived < total and now < until

    return goes_on


def _drain(run: _Run, sink: Worker, patience_s: float) -> None:
    """Waits until everything that was accepted has called back."""
    until = time.monotonic() + patience_s
    while sink.ask("progress") < run.accepted.unique and time.monotonic() < until:
        run.look()
        time.sleep(_POLL_S)
    time.sleep(_LOOK_EVERY_S)
    run.look()


def _completed(stack: Stack, account: Account, posted: Posted) -> tuple[Mapping[str, Any], float]:
    """The batch when it is complete, or as it is when the patience ends; and how long that took."""
    client = Api(stack.base_url, account.api_key, _API_PATIENCE_S)
    began = time.monotonic()
    while True:
        batch = client.get(f"/v1/batches/{posted.answer['batch_id']}")
        waited_s = time.monotonic() - began
        if batch["state"] == "completed" or waited_s > _COMPLETE_PATIENCE_S:
            return batch, waited_s
        time.sleep(_POLL_S)


def problems_of(plan: Plan, report: Report) -> list[str]:
    """What does not hold, in sentences; empty when all is well."""
    total = plan.recipients - len(plan.bad_places)
    rejected = {one["index"] for one in report.posted.answer["rejected"]}
    wrong = {
        "accepted messages never reached the carrier": report.not_submitted,
        "accepted messages never got their final webhook": report.not_reported,
        "messages reached the carrier twice": report.submitted_twice,
        "events are dead": len(report.dead or ()),
        "recipients are rejected or accepted that should not be": len(rejected ^ plan.bad_places),
    }
    problems = [f"{count:,} {what}" for what, count in wrong.items() if count]
    problems += [
        f"OTPs {phase}: p99 is {spread.p99_ms:.0f} ms, which is not under {P99_LIMIT_MS:g}"
        for phase, spread in report.otps.items()
        if phase != ALONE and (spread.p99_ms >= P99_LIMIT_MS or not spread.count)
    ]
    if report.first_after_s >= FIRST_LIMIT_S:
        problems.append(f"the first message reached the carrier {report.first_after_s:.2f} s after the answer")
    if (peak_mib := report.edge_peak_mib) >= MEMORY_LIMIT_MIB:
        problems.append(f"the edge took {peak_mib:.0f} MiB, which is not under {MEMORY_LIMIT_MIB:g}")
    if report.batch["state"] != "completed" or report.batch["counts"] != {"delivered": total}:
        problems.append(f"the batch is {report.batch['state']} with {report.batch['counts']}")
    return problems + money_problems(report.money, TOPUP_PAISE, report.submitted)


def report_text(report: Report) -> str:
    return "\n".join(_lines(report))


def _lines(report: Report) -> Iterator[str]:
    posted, answer = report.posted, report.posted.answer
    took_s = posted.answered_at - posted.begun_at
    total, rejected = answer["total_recipients"], len(answer["rejected"])
    yield ""
    yield f"one call of {posted.octets / 2**20:.1f} MiB, {total + rejected:,} recipients: 202 after {took_s:.2f} s, "
    yield f"{total:,} accepted, {rejected:,} rejected, {answer['estimated_credits']:,} credits"
    yield f"the first message at the carrier {report.first_after_s * 1000:.0f} ms after the 202 was read"
    yield f"all at the carrier {report.flow_s:.1f} s later: {(total - 1) / max(report.flow_s, 1e-9):,.0f}/s"
    yield f"the batch complete {report.complete_after_s:.1f} s after the last callback: {dict(report.batch['counts'])}"
    yield f"the edge's memory, at most: {report.edge_peak_mib:.0f} MiB"
    of_stack = sum(used_s for name, used_s in report.cpu_s.items() if not name.startswith("bench"))
    yield f"CPU while it flowed: {of_stack / total * 1e6:,.0f} µs a message of the stack (OTPs are in it), with"
    yield "  " + ", ".join(f"{name} {used_s / total * 1e6:,.0f}" for name, used_s in report.cpu_s.items())
    yield f"  other programs took {report.others_share:.0%} of the machine meanwhile"
    yield ""
    yield "| OTPs | count | call → SMSC: p50 ms | p90 ms | p99 ms | max ms | call → 202: p50 ms | p99 ms |"
    yield "|---|---|---|---|---|---|---|---|"
    for phase, spread in report.otps.items():
        answers = report.otp_answers[phase]
        yield (
            f"| {phase} | {spread.count:,} | {spread.p50_ms:.1f} | {spread.p90_ms:.1f} | {spread.p99_ms:.1f} "
            f"| {spread.max_ms:.1f} | {answers.p50_ms:.1f} | {answers.p99_ms:.1f} |"
        )
    yield ""
    counts = ("accepted", "submitted", "submitted_twice", "not_submitted", "not_reported")
    yield ", ".join(f"{name.replace('_', ' ')} {getattr(report, name):,}" for name in counts)
    yield f"ledger: {report.money.units:,} units charged, {report.money.held_paise} paise held"
    yield f"dead events: {'not known' if report.dead is None else len(report.dead)}"
    yield "all holds" if not report.problems else "PROBLEMS"
    yield from (f"  {problem}" for problem in report.problems)


def _peak_mib(pid: int) -> float:
    """The most that a process has had in memory so far; 0 when it has gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    line = next((line for line in status.splitlines() if line.startswith("VmHWM:")), "VmHWM: 0 kB")
    return int(line.split()[1]) / 1024


def _account(stack: Stack, webhook_url: str) -> Account:
    """The bench's account, with an OTP template."""
    account = open_account(stack, webhook_url)
    template = {
        "template_id": _OTP_TEMPLATE,
        "channel": "sms",
        "dlt_template_id": dlt_id("1107"),
        "category": "otp",
        "senders": [account.sender],
        "body": _OTP_BODY,
        "language": "en",
    }
    Api(stack.base_url, account.api_key, _API_PATIENCE_S).post("/v1/templates", template)
    return account
