"""From raw times to figures: what was sent, submitted and reported is joined by destination number. Pure."""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any

from bench.load import UNANSWERED, LoadResult
from bench.sink import Arrival, Collected

_DELIVERED = "message.delivered"


@dataclass(frozen=True)
class Spread:
    """Percentiles in milliseconds, of `count` values."""

    count: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    max_ms: float


@dataclass(frozen=True)
class Counts:
    """`unanswered` requests may or may not have been accepted. Doubles are what came beyond the first of each."""

    sent: int
    accepted: int
    refused: int
    unanswered: int
    submitted: int
    submitted_twice: int
    accepted_not_submitted: int
    webhooks: int
    webhooks_twice: int
    delivered: int
    accepted_not_reported: int
    bad_signatures: int
    strangers: int


@dataclass(frozen=True)
class Rates:
    """Each a second, over its own span; `end_to_end` from the first request to the last webhook."""

    accepted: float
    submitted: float
    receipts: float | None
    webhooks: float
    end_to_end: float


@dataclass(frozen=True)
class Figures:
    """One phase. Latencies are in the order of a message's life.

    The silences are the longest gaps between two submits and between two webhooks.
    """

    counts: Counts
    rates: Rates
    latencies: dict[str, Spread]
    duration_s: float
    submit_silence_s: float
    webhook_silence_s: float
    timer_late: Spread
    refusals: dict[str, int]
    submitted_numbers: frozenset[int]


def spread_of(seconds: Iterable[float]) -> Spread:
    """Percentiles by nearest rank; zeros of nothing."""
    ordered = sorted(seconds)
    if not ordered:
        return Spread(0, 0.0, 0.0, 0.0, 0.0)

    def at(percent: int) -> float:
        return ordered[max(0, -(-len(ordered) * percent // 100) - 1)] * 1000

    return Spread(len(ordered), at(50), at(90), at(99), ordered[-1] * 1000)


def rate_of(times: Sequence[float]) -> float:
    """Events a second between the first and the last of them; 0 of fewer than two."""
    return (len(times) - 1) / (max(times) - min(times)) if len(times) > 1 and max(times) > min(times) else 0.0


def longest_gap(ordered: Sequence[float]) -> float:
    return max((later - earlier for earlier, later in pairwise(ordered)), default=0.0)


def receipts_rate(samples: Sequence[tuple[float, int]], began_at: float) -> float | None:
    """Receipts a second, of samples (time, acknowledged so far); None where they do not tell."""
    if not samples:
        return None
    final = samples[-1][1]
    reached = samples[bisect_left([count for _, count in samples], final)][0]
    first = samples[0][1]
    return (final - first) / (reached - began_at) if reached > began_at and final > first else None


def figures_of(
    load: LoadResult,
    submits: Iterable[tuple[int, float]],
    collected: Collected,
    acknowledged: Sequence[tuple[float, int]],
) -> Figures:
    """Join one phase. `submits` and `collected` may hold what belongs to no message of it: those are strangers."""
    last_number = load.first_number + load.count - 1
    submitted: dict[int, float] = {}
    submitted_twice = strangers = 0
    for number, at in submits:
        if not load.first_number <= number <= last_number:
            continue  # another client's, on a stack that is not ours alone
        if number in submitted:
            submitted_twice += 1
        submitted.setdefault(number, at)
    reported: dict[int, Arrival] = {}
    webhooks_twice = 0
    for arrival in collected.arrivals:
        number = int(arrival.to) if arrival.to.isdigit() else 0
        if not load.first_number <= number <= last_number:
            strangers += 1
        elif number in reported:
            webhooks_twice += 1
        else:
            reported[number] = arrival
    accepted = load.accepted
    numbers = [load.first_number + index for index in accepted]
    webhook_times = [arrival.at for arrival in reported.values()]
    began_at = min(begun for begun in load.begun if begun) if any(load.begun) else 0.0
    ended_at = max(webhook_times, default=began_at)
    submit_times = sorted(submitted.values())
    return Figures(
        counts=Counts(
            sent=load.count,
            accepted=len(accepted),
            refused=sum(status not in {UNANSWERED, 202} for status in load.status),
            unanswered=sum(status == UNANSWERED for status in load.status),
            submitted=len(submitted),
            submitted_twice=submitted_twice,
            accepted_not_submitted=sum(number not in submitted for number in numbers),
            webhooks=len(reported),
            webhooks_twice=webhooks_twice,
            delivered=sum(arrival.event == _DELIVERED for arrival in reported.values()),
            accepted_not_reported=sum(number not in reported for number in numbers),
            bad_signatures=collected.bad_signatures,
            strangers=strangers + collected.malformed,
        ),
        rates=Rates(
            accepted=rate_of([load.answered[index] for index in accepted]),
            submitted=rate_of(submit_times),
            receipts=receipts_rate(acknowledged, submit_times[0]) if submit_times else None,
            webhooks=rate_of(webhook_times),
            end_to_end=len(reported) / (ended_at - began_at) if ended_at > began_at else 0.0,
        ),
        latencies=_latencies(load, accepted, submitted, reported),
        duration_s=ended_at - began_at,
        submit_silence_s=longest_gap(submit_times),
        webhook_silence_s=longest_gap(sorted(webhook_times)),
        timer_late=spread_of(load.late_s),
        refusals={
            str(status): list(load.status).count(status) for status in sorted(set(load.status) - {UNANSWERED, 202})
        },
        submitted_numbers=frozenset(submitted),
    )


def _latencies(
    load: LoadResult, accepted: Sequence[int], submitted: dict[int, float], reported: dict[int, Arrival]
) -> dict[str, Spread]:
    answers, to_submit, after_answer, to_webhook, whole = [], [], [], [], []
    for index in accepted:
        number, begun, answered = load.first_number + index, load.begun[index], load.answered[index]
        answers.append(answered - begun)
        submit, webhook = submitted.get(number), reported.get(number)
        if submit is not None:
            to_submit.append(submit - begun)
            after_answer.append(submit - answered)
        if submit is not None and webhook is not None:
            to_webhook.append(webhook.at - submit)
        if webhook is not None:
            whole.append(webhook.at - begun)
    return {
        "request → 202": spread_of(answers),
        "request → submit": spread_of(to_submit),
        "202 → submit": spread_of(after_answer),
        "submit → webhook": spread_of(to_webhook),
        "request → webhook": spread_of(whole),
    }


def hops_of(statuses: Iterable[dict[str, Any]]) -> dict[str, Spread]:
    """Spreads between the times that GET /v1/messages/{id} tells of a message and its last attempt."""
    hops: dict[str, list[float]] = {"accepted → planned": [], "planned → sent": [], "sent → delivered": []}
    for status in statuses:
        attempt = status["attempts"][-1] if status["attempts"] else {}
        times = [
            status["accepted_at"], attempt.get("planned_at"), attempt.get("sent_at"), attempt.get("delivered_at")
        ]  # fmt: skip
        moments = [datetime.fromisoformat(text) if text else None for text in times]
        for spans, earlier, later in zip(hops.values(), moments, moments[1:], strict=False):
            if earlier and later:
                spans.append((later - earlier).total_seconds())
    return {name: spread_of(spans) for name, spans in hops.items()}
