"""A report as text."""

from collections.abc import Iterator
from dataclasses import asdict

from bench.figures import Spread
from bench.pipeline import Phase, Report

_COUNT_LABELS = {
    "submitted_twice": "submitted twice",
    "accepted_not_submitted": "accepted, not submitted",
    "webhooks_twice": "webhooks twice",
    "accepted_not_reported": "accepted, no webhook",
    "bad_signatures": "bad signatures",
}


def report_text(report: Report) -> str:
    return "\n".join(_lines(report))


def _lines(report: Report) -> Iterator[str]:
    for phase in report.phases:
        yield from _phase(phase)
    money = report.money
    yield ""
    yield f"ledger: {money.units:,} units charged ({money.charged_paise / 100:,.2f} rupees), {money.held_paise} paise held"
    yield f"dead events: {'not known' if report.dead is None else len(report.dead)}"
    yield from (f"  {line}" for line in (report.dead or [])[:10])
    if report.killed:
        yield f"killed: {report.killed}; started again: {_restarts(report)}"
    elif report.restarts:
        yield f"started again though nobody killed them: {_restarts(report)}"
    yield "all holds" if not report.problems else "PROBLEMS"
    yield from (f"  {problem}" for problem in report.problems)


def _restarts(report: Report) -> str:
    return ", ".join(f"{name} {count} times" for name, count in report.restarts.items()) or "none"


def _phase(phase: Phase) -> Iterator[str]:
    figures, rates = phase.figures, phase.figures.rates
    yield ""
    yield f"── {phase.name}: {figures.counts.sent:,} messages in {figures.duration_s:.2f} s ──"
    receipts = "?" if rates.receipts is None else f"{rates.receipts:,.0f}"
    yield (
        f"accepted {rates.accepted:,.0f}/s   submitted {rates.submitted:,.0f}/s   receipts {receipts}/s   "
        f"webhooks {rates.webhooks:,.0f}/s   END TO END {rates.end_to_end:,.0f}/s"
    )
    yield from _table(phase.figures.latencies)
    yield from _table(phase.hops)
    counts = {_COUNT_LABELS.get(name, name): count for name, count in asdict(figures.counts).items()}
    yield "  " + ", ".join(f"{name} {count:,}" for name, count in counts.items())
    if figures.refusals:
        yield f"  answers other than 202: {figures.refusals}; the first: {phase.refusal}"
    if phase.connections_lost:
        yield f"  {phase.connections_lost} connections lost, the last: {phase.last_error}"
    if figures.timer_late.count:
        yield f"  generator behind its schedule: p99 {figures.timer_late.p99_ms:.1f} ms"
    yield f"  longest silence: submits {figures.submit_silence_s:.2f} s, webhooks {figures.webhook_silence_s:.2f} s"
    yield f"  other programs used {phase.others_share:.0%} of the machine"
    yield from _usage(phase)


def _table(spreads: dict[str, Spread]) -> Iterator[str]:
    if not any(spread.count for spread in spreads.values()):
        return
    yield f"  {'':<20}{'p50':>9}{'p90':>9}{'p99':>9}{'max':>10} ms"
    for name, spread in spreads.items():
        if spread.count:
            yield (
                f"  {name:<20}{spread.p50_ms:>9.1f}{spread.p90_ms:>9.1f}{spread.p99_ms:>9.1f}{spread.max_ms:>10.1f}"
                f"    of {spread.count:,}"
            )


def _usage(phase: Phase) -> Iterator[str]:
    submitted = max(1, phase.figures.counts.submitted)
    yield f"  {'':<20}{'CPU ms/message':>15}{'RSS MiB':>9}{'PSS MiB':>9}"
    for name, usage in phase.usage.items():
        yield f"  {name:<20}{usage.cpu_s / submitted * 1000:>15.3f}{usage.rss_mib:>9.0f}{usage.pss_mib:>9.0f}"
    yield (
        f"  CPU s per 1,000 messages: stack {phase.cpu_s_per_1000(of_bench=False):.3f}, "
        f"bench {phase.cpu_s_per_1000(of_bench=True):.3f}"
    )
