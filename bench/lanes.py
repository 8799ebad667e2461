"""Whether an OTP overtakes a campaign: the same stream of OTPs without and with a flood of messages before it.

The carriers' agreed rate is set low, so that what the flood sends over HTTP queues up inside the stack. The OTPs come from a
generator of their own, by the clock, whatever becomes of the answers. In the end the rate is let go, and everything that was
accepted must have reached the carrier and called back.
"""

import os
import random
import signal
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from bench import load as load_generator
from bench import tally as counting_sink
from bench.account import TOPUP_PAISE, Account, Money, close_webhook, dlt_id, open_account, statuses_of
from bench.figures import Spread, hops_of, spread_of
from bench.load import FIRST_NUMBER, NUMBERS, ORDER, Content, LoadPlan, LoadResult
from bench.pipeline import settled_money
from bench.stack import Choice, Stack, stack_of, starts_one
from bench.tally import Callbacks, Tally, Wanted
from bench.verdict import money_problems
from bench.worker import BenchError, Worker
from harkara_cli.api import Api
from harkara_cli.ports import Ports
from harkara_dlt import is_open, next_open

P99_LIMIT_MS = 250.0
_OTP_TEMPLATE = "BENCH_OTP"
_FLOOD_TEMPLATE = "BENCH_FLOOD"
_BODIES = {
    "promotional": "Festive sale at Bench Stores: {#num:percent#} percent off on {#str:product#} until {#str:date#}.",
    "transactional": "Your order {#str:product#} at Bench Stores has {#num:percent#} items and arrives by {#str:date#}.",
}
_OTP_BODY = (
    "{#num:otp#} is your Bench login code. It is valid for {#num:minutes#} minutes. Do not share it with anyone."
)
_API_PATIENCE_S = 15.0
_FLOOD_PIECE = 5_000
_OTP_PIECE_S = 5.0
_OTP_CONNECTIONS = 8
_POLL_S = 0.05
_LOOK_EVERY_S = 0.5
_TELL_EVERY_S = 5.0
_SETTLE_S = 1.0
_SAMPLE = 200
_HOPS = ("call → 202", "accepted → planned", "planned → sent")
_READY_PATIENCE_S = 60.0
_GIVE_UP_S = 600.0
_LONGEST_S = 3600.0
"""Of the flood's acceptance; numbers for the OTPs are kept for so long."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """`depth` messages are to be queued; then the OTPs go on for `seconds`. `tps` is each carrier's rate meanwhile."""

    stack: Choice
    depth: int = 200_000
    flood: str = "promotional"
    otp_rate: float = 20.0
    quiet_s: float = 15.0
    seconds: float = 30.0
    tps: float = 100.0
    connections: int = 50
    patience_s: float = 600.0

    @property
    def flood_room(self) -> int:
        """Numbers kept for the flood: what leaves the queue while it fills comes on top of its depth."""
        return 3 * self.depth + 10 * _FLOOD_PIECE


@dataclass
class Stream:
    """The OTPs of one phase that were accepted: when each HTTP call was due, by number."""

    name: str
    begun: dict[int, float] = field(default_factory=dict)
    answered: dict[int, float] = field(default_factory=dict)
    message_ids: list[str] = field(default_factory=list)

    def take(self, result: LoadResult) -> None:
        for index in result.accepted:
            number = result.first_number + index
            self.begun[number], self.answered[number] = result.begun[index], result.answered[index]
            self.message_ids.append(result.message_ids[index])

    def latencies(self, submitted: dict[int, float]) -> Spread:
        """From the call to the SMSC. Those that never came are left out here, and counted as lost elsewhere."""
        return spread_of(submitted[number] - begun for number, begun in self.begun.items() if number in submitted)

    def hops(self, stack: Stack, account: Account) -> dict[str, Spread]:
        """The parts of the way: to the answer as the client saw it, the others as a sample of messages tells."""
        sample = random.sample(self.message_ids, min(_SAMPLE, len(self.message_ids)))
        hops = hops_of(statuses_of(stack, account, sample))
        answers = spread_of(at - self.begun[number] for number, at in self.answered.items())
        return {"call → 202": answers, **hops}


@dataclass(frozen=True)
class Report:
    flood: str
    streams: dict[str, Spread]
    hops: dict[str, dict[str, Spread]]
    sent: int
    accepted: int
    submitted: int
    submitted_twice: int
    accepted_not_submitted: int
    accepted_not_reported: int
    webhooks_twice: int
    failed: int
    deepest: int
    flood_accepted_per_s: float
    drained_per_s: float
    money: Money
    dead: list[str] | None
    problems: list[str]


class _Run:
    """The generators at work, and what was seen of all messages."""

    def __init__(self, plan: Plan, stack: Stack, account: Account, workers: dict[str, Worker], say: Any) -> None:
        self.plan, self._stack, self._account, self._workers, self._say = plan, stack, account, workers, say
        otps = int(plan.otp_rate * (_LONGEST_S + plan.quiet_s + plan.seconds))
        self.total = otps + plan.flood_room
        self.first = FIRST_NUMBER + random.randrange(NUMBERS - self.total)  # noqa: S311  # not a secret
        self._flood_first = self.first + otps
        self._next = {"otp": self.first, "flood": self._flood_first}
        self.accepted, self.submitted = Tally(self.first, self.total), Tally(self.first, self.total)
        self.otp_submitted: dict[int, float] = {}
        self.sent = self.deepest = self._flood_accepted = self._flood_submitted = 0
        self._heard_at = time.monotonic()
        self._looked_at = self._told_at = 0.0
        workers["sink"].ask("expect", Wanted(self.first, self.total, account.webhook_secret))

    @property
    def depth(self) -> int:
        """Messages of the flood that were accepted and have not reached the carrier."""
        # What has arrived is known a little sooner than what was accepted.
        return max(0, self._flood_accepted - self._flood_submitted)

    @property
    def flood_accepted(self) -> int:
        return self._flood_accepted

    def stream(self, name: str, *, seconds: float, flooding: bool) -> Stream:
        """OTPs for so long, or with `flooding` until the queue is as deep as planned."""
        stream = Stream(name)
        began = time.monotonic()
        under_way: dict[str, bool] = {"otp": False, "flood": False}

        def goes_on() -> bool:
            return self.depth < self.plan.depth if flooding else time.monotonic() - began < seconds

        while goes_on() or any(under_way.values()):
            for kind in ("otp", "flood") if flooding else ("otp",):
                if not under_way[kind] and goes_on():
                    self._workers[kind].begin("run", self._piece(kind))
                    under_way[kind] = True
                if under_way[kind] and self._workers[kind].has_answered(_POLL_S):
                    self._take(self._workers[kind].answer(1.0), stream if kind == "otp" else None)
                    under_way[kind] = False
            self.look()
        return stream

    def _piece(self, kind: str) -> LoadPlan:
        host, port = self._stack.address
        plan, is_otp = self.plan, kind == "otp"
        count = max(1, int(plan.otp_rate * _OTP_PIECE_S)) if is_otp else min(_FLOOD_PIECE, plan.depth)
        first = self._next[kind]
        self._next[kind] += count
        if self._next[kind] > (self._flood_first if is_otp else self.first + self.total):
            raise BenchError(f"the queue does not get {plan.depth:,} deep in an hour: lower --depth, or --tps")
        self.sent += count
        return LoadPlan(
            host=host, port=port, api_key=self._account.api_key, first_number=first, count=count,
            connections=_OTP_CONNECTIONS if is_otp else plan.connections, rate=plan.otp_rate if is_otp else None,
            contents=(_otp(self._account) if is_otp else _flood(self._account),), give_up_s=_GIVE_UP_S,
        )  # fmt: skip

    def _take(self, result: LoadResult | str, stream: Stream | None) -> None:
        if not isinstance(result, LoadResult):
            raise BenchError(result)
        if result.refusal:
            raise BenchError(f"a message was refused: {result.refusal}")
        accepted = result.accepted
        for index in accepted:
            self.accepted.add(result.first_number + index)
        if stream is None:
            self._flood_accepted += len(accepted)
        else:
            stream.take(result)

    def look(self) -> None:
        """Asks the simulator for what came since the last time, and tells of the queue now and then."""
        now = time.monotonic()
        if now - self._looked_at < _LOOK_EVERY_S:
            return
        self._looked_at = now
        for number, at in self._stack.smsc_arrivals(self._heard_at):
            self.submitted.add(number)
            self._heard_at = max(self._heard_at, at)
            if number >= self._flood_first:
                self._flood_submitted += 1
            else:
                self.otp_submitted.setdefault(number, at)
        self.deepest = max(self.deepest, self.depth)
        if now - self._told_at >= _TELL_EVERY_S:
            self._told_at = now
            self._say(
                f"  queued {self.depth:>8,}   accepted {self._flood_accepted:>8,}   at the carrier {self._flood_submitted:>8,}"
            )

    def drain(self) -> float:
        """Waits until everything that was accepted has called back; gives the messages a second that it took."""
        left, began = self.depth, time.monotonic()
        while self._workers["sink"].ask("progress") < self.accepted.unique:
            if time.monotonic() - began > self.plan.patience_s:
                break
            self.look()
            time.sleep(_POLL_S)
        elapsed_s = time.monotonic() - began
        time.sleep(_SETTLE_S)
        self._looked_at = 0.0
        self.look()
        return left / elapsed_s if elapsed_s else 0.0


def measure(plan: Plan, say: Callable[[str], None]) -> Report:
    """Raises BenchError or HarkaraError where it cannot be done."""
    if plan.flood == "promotional":
        _require_window()
    if not starts_one(plan.stack):
        raise BenchError("the carriers' rates are changed for this: it measures a stack of its own only")
    with (
        Worker("sink", counting_sink.serve) as sink,
        Worker("flood", load_generator.serve) as flood,
        Worker("otp", load_generator.serve) as otp,
        stack_of(plan.stack) as stack,
    ):
        began = datetime.now(UTC)
        account = _account(stack, f"http://127.0.0.1:{sink.first_answer}/webhooks", plan.flood)
        run = _Run(plan, stack, account, {"sink": sink, "flood": flood, "otp": otp}, say)
        with _slow_carriers(stack, plan.tps):
            run.stream("warm-up", seconds=_OTP_PIECE_S, flooding=False)
            say(f"OTPs alone, {plan.otp_rate:g}/s for {plan.quiet_s:g} s …")
            alone = run.stream("alone", seconds=plan.quiet_s, flooding=False)
            say(
                f"The flood: {plan.flood}, flat out on {plan.connections} connections, until {plan.depth:,} are queued …"
            )
            flood_began = time.monotonic()
            filling = run.stream("while the flood is accepted", seconds=0.0, flooding=True)
            flood_s = time.monotonic() - flood_began
            say(f"{run.depth:,} are queued and flow at {plan.tps:g}/s by carrier: OTPs for {plan.seconds:g} s …")
            queued = run.stream("while it is queued and flows", seconds=plan.seconds, flooding=False)
        say("The carriers' rate is let go: the queue drains …")
        drained_per_s = run.drain()
        streams = (alone, filling, queued)
        callbacks: Callbacks = sink.ask("callbacks")
        money = settled_money(stack, account, run.submitted.unique)
        dead = stack.dead_letters(began)
        report = Report(
            flood=plan.flood,
            streams={one.name: one.latencies(run.otp_submitted) for one in streams},
            hops={one.name: one.hops(stack, account) for one in streams},
            sent=run.sent,
            accepted=run.accepted.unique,
            submitted=run.submitted.unique,
            submitted_twice=run.submitted.again,
            accepted_not_submitted=run.submitted.lacks(run.accepted),
            accepted_not_reported=callbacks.tally.lacks(run.accepted),
            webhooks_twice=callbacks.tally.again,
            failed=callbacks.others,
            deepest=run.deepest,
            flood_accepted_per_s=run.flood_accepted / flood_s,
            drained_per_s=drained_per_s,
            money=money,
            dead=dead,
            problems=[],
        )
        report.problems.extend(problems_of(report))
        close_webhook(stack, account)
        return report


def problems_of(report: Report) -> list[str]:
    """What does not hold, in sentences; empty when all is well.

    A webhook that came twice is no fault here: to change the rate sms-sender is started anew, and what it had in hand is
    told once more.
    """
    wrong = {
        "requests were not accepted": report.sent - report.accepted,
        "accepted messages never reached the carrier": report.accepted_not_submitted,
        "accepted messages never got their final webhook": report.accepted_not_reported,
        "messages reached the carrier twice": report.submitted_twice,
        "final webhooks tell of a failure": report.failed,
        "events are dead": len(report.dead or ()),
    }
    slow = [
        f"OTPs {name}: p99 is {spread.p99_ms:.0f} ms, which is not under {P99_LIMIT_MS:g}"
        for name, spread in report.streams.items()
        if spread.p99_ms >= P99_LIMIT_MS or not spread.count
    ]
    return [
        *slow,
        *(f"{count:,} {what}" for what, count in wrong.items() if count),
        *money_problems(report.money, TOPUP_PAISE, report.submitted),
    ]


def report_text(report: Report) -> str:
    return "\n".join(_lines(report))


def _lines(report: Report) -> Iterator[str]:
    yield ""
    yield f"flood: {report.flood}, accepted at {report.flood_accepted_per_s:,.0f}/s, at most {report.deepest:,} queued"
    yield f"when the rate was let go, the queue drained at {report.drained_per_s:,.0f}/s"
    yield ""
    yield f"| OTPs, HTTP call → SMSC | count | p50 ms | p99 ms | max ms | {' | '.join(f'{hop}, p99' for hop in _HOPS)} |"
    yield "|---|---|---|---|---|---|---|---|"
    for name, spread in report.streams.items():
        hops = " | ".join(f"{report.hops[name][hop].p99_ms:.1f}" for hop in _HOPS)
        yield f"| {name} | {spread.count:,} | {spread.p50_ms:.1f} | {spread.p99_ms:.1f} | {spread.max_ms:.1f} | {hops} |"
    yield ""
    counts = (
        "sent", "accepted", "submitted", "submitted_twice", "accepted_not_submitted", "accepted_not_reported",
        "webhooks_twice", "failed",
    )  # fmt: skip
    yield ", ".join(f"{name.replace('_', ' ')} {getattr(report, name):,}" for name in counts)
    yield f"ledger: {report.money.units:,} units charged, {report.money.held_paise} paise held"
    yield f"dead events: {'not known' if report.dead is None else len(report.dead)}"
    yield "all holds" if not report.problems else "PROBLEMS"
    yield from (f"  {problem}" for problem in report.problems)


def _require_window() -> None:
    now = datetime.now(UTC)
    if not is_open(now):
        raise BenchError(
            f"promotional messages go out from 10:00 to 21:00 India time only: run this after {next_open(now):%H:%M} UTC, "
            "or flood with --flood transactional, which stands one lane below OTP just as well"
        )


def _account(stack: Stack, webhook_url: str, flood: str) -> Account:
    """The bench's account with an OTP template and one for the flood."""
    account = open_account(stack, webhook_url)
    client = Api(stack.base_url, account.api_key, _API_PATIENCE_S)
    for template_id, category, body in (
        (_OTP_TEMPLATE, "otp", _OTP_BODY),
        (_FLOOD_TEMPLATE, flood, _BODIES[flood]),
    ):
        client.post(
            "/v1/templates",
            {
                "template_id": template_id,
                "channel": "sms",
                "dlt_template_id": dlt_id("1107"),
                "category": category,
                "senders": [account.sender],
                "body": body,
                "language": "en",
            },
        )
    return account


def _otp(account: Account) -> Content:
    return Content(sender=account.sender, template_id=_OTP_TEMPLATE, variables={"otp": "482913", "minutes": "10"})


def _flood(account: Account) -> Content:
    variables = {"percent": "20", "product": ORDER, "date": "12 December"}
    return Content(sender=account.sender, template_id=_FLOOD_TEMPLATE, variables=variables)


@contextmanager
def _slow_carriers(stack: Stack, tps: float) -> Iterator[None]:
    """For as long as it lasts, every carrier of the stack has an agreed rate of `tps` parts a second."""
    assert stack.home is not None
    file = stack.home.carriers_file
    former = file.read_text()
    settings = yaml.safe_load(former)
    for carrier in settings["carriers"]:
        carrier["tps"] = tps
    _change(stack, file, yaml.safe_dump(settings, sort_keys=False))
    try:
        yield
    except BaseException:
        file.write_text(former)
        raise
    _change(stack, file, former)


def _change(stack: Stack, file: Path, text: str) -> None:
    """Writes the carriers' file and starts the one service anew that reads rates from it."""
    file.write_text(text)
    former = stack.pids().get("sms-sender")
    if former is None:
        raise BenchError("sms-sender does not run")
    os.kill(former, signal.SIGTERM)
    deadline = time.monotonic() + _READY_PATIENCE_S
    while stack.pids().get("sms-sender") in {former, None} or not _is_ready(stack):
        if time.monotonic() > deadline:
            raise BenchError("sms-sender has not become ready again")
        time.sleep(0.1)


def _is_ready(stack: Stack) -> bool:
    assert stack.home is not None
    port = Ports(stack.home.require_running().port_base)["sms-sender"]
    with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5):
        return True
    return False
