"""One long run: what a message costs after a thousand, after a million, and what the stack holds by then.

The load goes on flat out from mark to mark; at a mark the run waits until every accepted message has its webhook, so that the
CPU since the last mark belongs to the messages since the last mark. The bench's own cost and memory do not grow either:
a byte a message is all that it remembers.
"""

import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus

from bench import load as load_generator
from bench import tally as counting_sink
from bench.account import TOPUP_PAISE, Account, Money, close_webhook, open_account
from bench.disk import disk_mib
from bench.load import FIRST_NUMBER, NUMBERS, LoadPlan, LoadResult
from bench.pipeline import settled_money
from bench.processes import Usage, Watch
from bench.stack import Choice, Stack, stack_of
from bench.tally import Callbacks, Tally, Wanted
from bench.verdict import money_problems
from bench.worker import BenchError, Worker

MARKS = (1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000)
_PIECE = 5_000
"""So many messages are asked of the generator at a time: what it has to remember is bounded by them."""
_POLL_S = 0.1
_ARRIVALS_EVERY_S = 1.0
_SETTLE_S = 1.0
_GIVE_UP_S = 600.0


@dataclass(frozen=True, kw_only=True)
class Plan:
    stack: Choice
    messages: int = MARKS[-1]
    warm_up: int = 1_000
    connections: int = 50
    patience_s: float = 120.0


@dataclass(frozen=True)
class Slice:
    """What was between two marks. `reached` counts from the start, warm-up left out; disk is in MiB at its end."""

    reached: int
    messages: int
    duration_s: float
    usage: dict[str, Usage]
    disk: dict[str, float]
    others_share: float

    @property
    def rate(self) -> float:
        return self.messages / self.duration_s

    def cpu_ms(self, *, of_bench: bool = False) -> float:
        used = sum(usage.cpu_s for name, usage in self.usage.items() if name.startswith("bench") is of_bench)
        return used / self.messages * 1000

    def cpu_ms_of(self, name: str) -> float:
        return self.usage[name].cpu_s / self.messages * 1000 if name in self.usage else 0.0

    def memory_of(self, name: str) -> str:
        """RSS, and PSS in brackets: what processes share (Postgres its buffers, services their imports) is in every RSS."""
        usage = self.usage.get(name)
        return f"{usage.rss_mib:,.0f} ({usage.pss_mib:,.0f})" if usage else "-"


@dataclass(frozen=True)
class Counts:
    """Of the whole run, warm-up and all."""

    sent: int
    accepted: int
    submitted: int
    submitted_twice: int
    accepted_not_submitted: int
    webhooks: int
    webhooks_twice: int
    accepted_not_reported: int
    failed: int
    signatures_verified: int
    bad_signatures: int
    strangers: int


@dataclass(frozen=True)
class Report:
    slices: list[Slice]
    counts: Counts
    money: Money
    dead: list[str] | None
    restarts: dict[str, int]
    problems: list[str]


def marks_up_to(messages: int) -> list[int]:
    """The usual marks below, and the end itself."""
    return [mark for mark in MARKS if mark < messages] + [messages]


class _Run:
    """The parts at work, and what was seen of all messages so far."""

    def __init__(self, plan: Plan, stack: Stack, account: Account, load: Worker, sink: Worker) -> None:
        self._plan, self._stack, self._account, self._load, self._sink = plan, stack, account, load, sink
        self.total = plan.warm_up + plan.messages
        self.first = FIRST_NUMBER + random.randrange(NUMBERS - self.total)  # noqa: S311  # not a secret
        self.accepted, self.submitted = Tally(self.first, self.total), Tally(self.first, self.total)
        self.sent = 0
        self._heard_at = time.monotonic()
        self._asked_at = 0.0
        self._sink.ask("expect", Wanted(self.first, self.total, account.webhook_secret))

    def slice(self, reached: int, messages: int) -> Slice:
        began = time.monotonic()
        watch = Watch(self._pids())
        self._send(messages, watch)
        ended = self._await_webhooks(watch)
        usage = watch.finish()
        home = self._stack.home
        return Slice(
            reached, messages, ended - began, usage, disk_mib(home.path) if home else {}, watch.others_share()
        )  # fmt: skip

    def _pids(self) -> dict[str, int]:
        tools = {"bench": os.getpid(), "bench-load": self._load.pid, "bench-sink": self._sink.pid}
        return {**self._stack.pids(), **tools}

    def _send(self, messages: int, watch: Watch) -> None:
        pieces = [min(_PIECE, messages - start) for start in range(0, messages, _PIECE)]
        self._load.begin("run", self._piece(pieces[0]))
        for following in [*pieces[1:], 0]:
            while not self._load.has_answered(_POLL_S):
                self._look(watch)
            result = self._load.answer(1.0)
            if following:
                # The next piece is on its way before this one is looked at: the stack sees one long load.
                self._load.begin("run", self._piece(following))
            self._take(result)

    def _piece(self, count: int) -> LoadPlan:
        host, port = self._stack.address
        first = self.first + self.sent
        self.sent += count
        return LoadPlan(
            host=host, port=port, api_key=self._account.api_key, sender=self._account.sender,
            template_id=self._account.template_id, first_number=first, count=count,
            connections=self._plan.connections, give_up_s=_GIVE_UP_S,
        )  # fmt: skip

    def _take(self, result: LoadResult | str) -> None:
        if not isinstance(result, LoadResult):
            raise BenchError(result)
        for index, status in enumerate(result.status):
            if status == HTTPStatus.ACCEPTED:
                self.accepted.add(result.first_number + index)

    def _look(self, watch: Watch) -> None:
        watch.sample()
        if time.monotonic() - self._asked_at >= _ARRIVALS_EVERY_S:
            self.hear_arrivals()

    def hear_arrivals(self) -> None:
        """Asks the simulator for what came since the last time, long before it forgets."""
        self._asked_at = time.monotonic()
        for number, at in self._stack.smsc_arrivals(self._heard_at):
            self.submitted.add(number)
            self._heard_at = max(self._heard_at, at)

    def _await_webhooks(self, watch: Watch) -> float:
        """When so many different webhooks had come as messages were accepted, or they will not."""
        deadline = time.monotonic() + self._plan.patience_s
        while self._sink.ask("progress") < self.accepted.unique and time.monotonic() < deadline:
            self._look(watch)
            time.sleep(_POLL_S / 2)
        return time.monotonic()


def measure(plan: Plan, say: Callable[[str], None]) -> Report:
    """Raises BenchError or HarkaraError where it cannot be done."""
    with (
        Worker("sink", counting_sink.serve) as sink,
        Worker("load", load_generator.serve) as load,
        stack_of(plan.stack) as stack,
    ):
        began = datetime.now(UTC)
        account = open_account(stack, f"http://127.0.0.1:{sink.first_answer}/webhooks")
        run = _Run(plan, stack, account, load, sink)
        say(f"Warm-up: {plan.warm_up:,} messages …")
        run.slice(0, plan.warm_up)
        say(f"Flat out on {plan.connections} connections, {plan.messages:,} messages:")
        slices: list[Slice] = []
        for mark in marks_up_to(plan.messages):
            reached = slices[-1].reached if slices else 0
            slices.append(run.slice(mark, mark - reached))
            say(progress_line(slices[-1]))
        time.sleep(_SETTLE_S)
        run.hear_arrivals()
        callbacks: Callbacks = sink.ask("callbacks")
        counts = _counts(run, callbacks)
        money = settled_money(stack, account, counts.submitted)
        dead = stack.dead_letters(began)
        problems = problems_of(counts, money, dead)
        report = Report(slices, counts, money, dead, stack.restarts(), problems)
        close_webhook(stack, account)
        return report


def _counts(run: _Run, callbacks: Callbacks) -> Counts:
    return Counts(
        sent=run.sent,
        accepted=run.accepted.unique,
        submitted=run.submitted.unique,
        submitted_twice=run.submitted.again,
        accepted_not_submitted=run.submitted.lacks(run.accepted),
        webhooks=callbacks.tally.unique,
        webhooks_twice=callbacks.tally.again,
        accepted_not_reported=callbacks.tally.lacks(run.accepted),
        failed=callbacks.others,
        signatures_verified=callbacks.verified,
        bad_signatures=callbacks.bad_signatures,
        strangers=callbacks.tally.strangers + callbacks.malformed,
    )


def problems_of(counts: Counts, money: Money, dead: list[str] | None) -> list[str]:
    """What is wrong, in sentences; empty when all is well."""
    wrong = {
        "requests were not accepted": counts.sent - counts.accepted,
        "accepted messages never reached the carrier": counts.accepted_not_submitted,
        "accepted messages never got their final webhook": counts.accepted_not_reported,
        "messages reached the carrier twice": counts.submitted_twice,
        "webhooks came twice": counts.webhooks_twice,
        "final webhooks tell of a failure": counts.failed,
        "webhooks have a wrong signature": counts.bad_signatures,
        "webhooks tell of messages that were not sent": counts.strangers,
        "events are dead": len(dead or ()),
    }
    return [f"{count:,} {what}" for what, count in wrong.items() if count] + money_problems(
        money, TOPUP_PAISE, counts.submitted
    )


def progress_line(one: Slice) -> str:
    memory_mib = sum(usage.pss_mib for name, usage in one.usage.items() if not name.startswith("bench"))
    return (
        f"{one.reached:>9,}: {one.rate:>6,.0f}/s end to end, CPU {one.cpu_ms():.3f} ms a message "
        f"(bench {one.cpu_ms(of_bench=True):.3f}), memory {memory_mib:,.0f} MiB, disk {sum(one.disk.values()):,.0f} MiB, "
        f"others {one.others_share:.0%} of the machine"
    )


def report_text(report: Report) -> str:
    """Tables in Markdown and the counts."""
    return "\n".join(_lines(report))


def _lines(report: Report) -> Iterator[str]:
    slices, money = report.slices, report.money
    first, last = slices[0], slices[-1]
    names = [name for name, usage in last.usage.items() if usage.cpu_s or usage.rss_mib]
    yield ""
    yield _row("messages so far", [f"{one.reached:,}" for one in slices])
    yield _row("---", ["---"] * len(slices))
    yield _row("end to end/s", [f"{one.rate:,.0f}" for one in slices])
    yield _row("**CPU ms a message**", [f"**{one.cpu_ms():.3f}**" for one in slices])
    yield _row("÷ the first", [f"{one.cpu_ms() / first.cpu_ms():.2f}" for one in slices])
    for name in names:
        yield _row(f"CPU: {name}", [f"{one.cpu_ms_of(name):.3f}" for one in slices])
    for name in names:
        yield _row(f"RSS (PSS) MiB: {name}", [one.memory_of(name) for one in slices])
    for part in last.disk:
        yield _row(f"disk MiB: {part}", [f"{one.disk[part]:,.0f}" for one in slices])
    yield _row("others' share of the machine", [f"{one.others_share:.0%}" for one in slices])
    yield ""
    cheapest_ms = min(one.cpu_ms() for one in slices)
    yield f"CPU a message, last ÷ first: {last.cpu_ms() / first.cpu_ms():.2f}; ÷ cheapest: {last.cpu_ms() / cheapest_ms:.2f}"
    yield ", ".join(f"{name.replace('_', ' ')} {value:,}" for name, value in vars(report.counts).items())
    charged = f"{money.units:,} units charged ({money.charged_paise / 100:,.2f} rupees)"
    yield f"ledger: {charged}, {money.held_paise} paise held"
    yield f"dead events: {'not known' if report.dead is None else len(report.dead)}"
    if report.restarts:
        yield "started again: " + ", ".join(f"{name} {count} times" for name, count in report.restarts.items())
    yield "all holds" if not report.problems else "PROBLEMS"
    yield from (f"  {problem}" for problem in report.problems)


def _row(name: str, cells: Sequence[str]) -> str:
    return f"| {name} | {' | '.join(cells)} |"
