"""Figures of one phase of one peer, joined by number, and medians over rounds. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from bench.figures import Spread, rate_of, spread_of
from bench.load import LoadResult
from bench.peers.callbacks import Callbacks


@dataclass(frozen=True)
class Spending:
    """What the peer's processes, all together, and other programs used while a phase lasted."""

    cpu_s: float
    peak_rss_mib: float
    pss_mib: float
    bench_cpu_s: float
    others_share: float


@dataclass(frozen=True)
class Phase:
    """Rates are a second, each over its own span; `end_to_end` from the first request to the last final callback."""

    sent: int
    accepted: int
    submitted: int
    submitted_twice: int
    called_back: int
    called_back_twice: int
    other_callbacks: int
    accepted_rate: float
    submitted_rate: float
    callback_rate: float
    end_to_end: float
    to_answer: Spread
    to_submit: Spread
    to_callback: Spread
    cpu_s_per_1000: float
    spending: Spending
    refusal: str

    @property
    def missing(self) -> int:
        """Accepted, and never called back."""
        return max(0, self.accepted - self.called_back)


def phase_of(load: LoadResult, submits: Sequence[tuple[int, float]], callbacks: Callbacks, spending: Spending) -> Phase:
    """`submits` are (number, monotonic seconds) in the order they came."""
    numbers = range(load.first_number, load.first_number + load.count)
    submitted: dict[int, float] = {}
    ours = [(number, at) for number, at in submits if number in numbers]
    for number, at in ours:
        submitted.setdefault(number, at)
    called = {number: at for number, at in callbacks.first.items() if number in numbers}
    begun = {number: load.begun[number - load.first_number] for number in numbers}
    began_at = min((at for at in load.begun if at), default=0.0)
    ended_at = max(called.values(), default=began_at)
    return Phase(
        sent=load.count,
        accepted=len(load.accepted),
        submitted=len(submitted),
        submitted_twice=len(ours) - len(submitted),
        called_back=len(called),
        called_back_twice=callbacks.repeated,
        other_callbacks=callbacks.others,
        accepted_rate=rate_of([load.answered[index] for index in load.accepted]),
        submitted_rate=rate_of(list(submitted.values())),
        callback_rate=rate_of(list(called.values())),
        end_to_end=len(called) / (ended_at - began_at) if ended_at > began_at else 0.0,
        to_answer=spread_of(load.answered[index] - load.begun[index] for index in load.accepted),
        to_submit=spread_of(at - begun[number] for number, at in submitted.items()),
        to_callback=spread_of(at - begun[number] for number, at in called.items()),
        cpu_s_per_1000=spending.cpu_s / max(1, len(submitted)) * 1000,
        spending=spending,
        refusal=load.refusal,
    )


@dataclass(frozen=True)
class Median:
    """Of the rounds that came to a figure."""

    middle: float
    least: float
    most: float
    count: int


def median_of(values: Sequence[float]) -> Median | None:
    return Median(median(values), min(values), max(values), len(values)) if values else None
