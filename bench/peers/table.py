"""The comparison as one Markdown table, with the ratios that it is made for. Pure."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from bench.peers.figures import Median, Phase, median_of
from bench.peers.measure import NOISY_SHARE, QUIET, QUIET_RATE, Options, Result

_OURS = "harkara"
_NONE = "-"


class Row(NamedTuple):
    """A figure of one phase."""

    label: str
    phase: str
    figure: Callable[[Phase], float]
    digits: int = 0


_QUIET = f"at {QUIET_RATE:g}/s"
ROWS = (
    Row("accepted/s", "main", lambda phase: phase.accepted_rate),
    Row("submitted/s", "main", lambda phase: phase.submitted_rate),
    Row("final receipts called back/s", "main", lambda phase: phase.callback_rate),
    Row("**end to end/s**", "main", lambda phase: phase.end_to_end),
    Row(f"request → submit {_QUIET}, p50 ms", QUIET, lambda phase: phase.to_submit.p50_ms, 1),
    Row(f"request → submit {_QUIET}, p99 ms", QUIET, lambda phase: phase.to_submit.p99_ms, 1),
    Row(f"request → callback {_QUIET} (200 are the SMSC's), p50 ms", QUIET, lambda phase: phase.to_callback.p50_ms, 1),
    Row("request → submit flat out, p50 ms", "main", lambda phase: phase.to_submit.p50_ms),
    Row("request → submit flat out, p99 ms", "main", lambda phase: phase.to_submit.p99_ms),
    Row("CPU s per 1,000", "main", lambda phase: phase.cpu_s_per_1000, 2),
    Row("peak RSS, MiB", "main", lambda phase: phase.spending.peak_rss_mib),
    Row("PSS at the end, MiB", "main", lambda phase: phase.spending.pss_mib),
    Row("ordinary ACKs: submitted/s", "acks", lambda phase: phase.submitted_rate),
    Row("ordinary ACKs: end to end/s", "acks", lambda phase: phase.end_to_end),
    Row("SMSC answers after 20 ms: submitted/s", "slow", lambda phase: phase.submitted_rate),
    Row("SMSC answers after 20 ms: end to end/s", "slow", lambda phase: phase.end_to_end),
)


def median_for(result: Result, peer: str, row: Row) -> Median | None:
    return median_of([row.figure(phase) for phase in result.phases.get(peer, {}).get(row.phase, [])])


def markdown(result: Result, options: Options) -> str:
    return "\n".join((*_table(result, options), "", *_notes(result, options)))


def _table(result: Result, options: Options) -> Iterator[str]:
    names = [peer.name for peer in options.peers]
    others = [peer for peer in options.peers if peer.name != _OURS] if _OURS in names else []
    titles = [peer.title for peer in options.peers] + [f"Harkara ÷ {peer.title}" for peer in others]
    yield f"| median of {options.rounds} (min-max) | {' | '.join(titles)} |"
    yield "|---|" + "---|" * len(titles)
    for row in ROWS:
        medians = {name: median_for(result, name, row) for name in names}
        if any(medians.values()):
            cells = [_cell(medians[name], row.digits) for name in names]
            cells += [_ratio(medians[_OURS], medians[peer.name]) for peer in others]
            yield f"| {row.label} | {' | '.join(cells)} |"


def _cell(value: Median | None, digits: int) -> str:
    if value is None:
        return _NONE
    middle, least, most = (f"{number:,.{digits}f}" for number in (value.middle, value.least, value.most))
    return middle if value.count == 1 else f"{middle} ({least}-{most})"


def _ratio(ours: Median | None, theirs: Median | None) -> str:
    return f"{ours.middle / theirs.middle:.2f}" if ours and theirs and theirs.middle else _NONE


def _notes(result: Result, options: Options) -> Iterator[str]:
    if goals := list(_goals(result)):
        yield f"Harkara ÷ peer: {'; '.join(goals)}."
    windows = ", ".join(f"{peer.title} {peer.window}" for peer in options.peers)
    callbacks = "for the SMSC's acceptance and for delivery" if options.each_step else "for delivery only"
    yield f"SMPP windows, everyone's default: {windows}. Callbacks {callbacks}."
    yield from _other_programs(result, options)
    for peer in options.peers:
        for name, phases in result.phases.get(peer.name, {}).items():
            yield from _flaws(f"{peer.title}, {name}", phases)
    yield from (f"FAILED {failure}" for failure in result.failures)


def _goals(result: Result) -> Iterator[str]:
    end_to_end, slow = _row("main", "**end to end/s**"), _row("slow", "SMSC answers after 20 ms: submitted/s")
    for what, peer, row in (
        ("end to end, Kannel memory", "kannel", end_to_end),
        ("end to end, Kannel file", "kannel-file", end_to_end),
        ("end to end, Jasmin", "jasmin", end_to_end),
        ("20 ms SMSC, Kannel", "kannel", slow),
    ):
        ratio = _ratio(median_for(result, _OURS, row), median_for(result, peer, row))
        if ratio != _NONE:
            yield f"{what} {ratio}"


def _row(phase: str, label: str) -> Row:
    return next(row for row in ROWS if (row.phase, row.label) == (phase, label))


def _other_programs(result: Result, options: Options) -> Iterator[str]:
    yield "Other programs used of the machine, worst round:"
    noisy = 0
    for peer in options.peers:
        by_phase = result.phases.get(peer.name, {})
        shares = {name: [phase.spending.others_share for phase in phases] for name, phases in by_phase.items()}
        yield f"  {peer.title}: " + ", ".join(f"{name} {max(each):.1%}" for name, each in shares.items())
        noisy += sum(share > NOISY_SHARE for each in shares.values() for share in each)
    if noisy:
        yield f"NOISY: in {noisy} phases it was more than {NOISY_SHARE:.0%}. Measure again when the machine is quiet."


def _flaws(where: str, phases: Sequence[Phase]) -> Iterator[str]:
    for count, what in (
        (sum(phase.missing for phase in phases), "accepted messages were never called back as delivered"),
        (sum(phase.sent - phase.accepted for phase in phases), "requests were not accepted"),
        (sum(phase.submitted_twice for phase in phases), "messages reached the SMSC twice"),
    ):
        if count:
            yield f"{where}: {count:,} {what}"
