"""From what was seen outside to counts, and from counts to what is wrong. Pure.

Four witnesses are heard: the client (what it sent and what was accepted), the carrier (which number got how many copies),
the webhook sink, and the account's own API (status, ledger, balance). They are joined by number and message id.
"""

from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from bench.sink import Arrival
from tests.chaos.fault import Policy

from harkara_contracts.subjects import Lane

LATE_S = 2.0
"""A message whose final webhook comes later than this after its first request was due is late."""

DELIVERED, FAILED = "message.delivered", "message.failed"
_STATE_OF_EVENT = {DELIVERED: {"delivered"}, FAILED: {"failed", "expired", "rejected"}}
_UNKNOWN = "ERR_OUTCOME_UNKNOWN"
_MOST_COPIES_OF_AN_OTP = 2
_LEAST_PAISE = 0.001


@dataclass(frozen=True)
class Sent:
    """A message that was accepted; `due_at` is when its first request was due, monotonic seconds."""

    number: int
    message_id: str
    lane: Lane
    due_at: float


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """All that was seen of one run.

    `submits`: (number, monotonic seconds) of each submit the carrier took. `statuses`: what GET /v1/messages lists, and
    `ledger` what GET /v1/account/ledger does. `rates`: the prices in paise that each lane may have. `healed_at`: when the
    fault was healed or, where nothing heals it, began.
    """

    sent: Sequence[Sent]
    unanswered: int
    refused: int
    repeats: int
    submits: Sequence[tuple[int, float]]
    arrivals: Sequence[Arrival]
    bad_signatures: int
    statuses: Sequence[Mapping[str, Any]]
    ledger: Sequence[Mapping[str, Any]]
    topup_paise: float
    available_paise: float
    held_paise: float
    rates: Mapping[Lane, frozenset[float]]
    dead: Sequence[str]
    healed_at: float | None


@dataclass(frozen=True)
class Recovery:
    """`late` messages had their final webhook more than LATE_S after their first request was due.

    `seconds`: from the moment the fault was healed (or, where nothing heals it, began) until the last late message had
    its webhook; `flow_s`: from that moment to the next submit.
    """

    late: int
    seconds: float
    flow_s: float


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Messages, unless the name says otherwise.

    - `lost`: accepted, and never at the carrier; `told`: those among them whose end (failed, expired) was told
    - `doubled`, `otp_doubled`: at the carrier more than once; `most_copies`: of any message
    - `contradicted`: webhooks and status do not tell the same end
    - `strangers`: seen by the carrier, the sink or the status, and never sent
    """

    messages: int
    accepted: int
    unanswered: int
    refused: int
    repeats: int
    submitted: int
    lost: int
    told: int
    doubled: int
    otp_doubled: int
    most_copies: int
    failed: int
    unknown: int
    billed_wrong: int
    webhooks_missing: int
    webhooks_twice: int
    contradicted: int
    strangers: int
    bad_signatures: int
    dead: int
    submit_silence_s: float
    recovery: Recovery


def count(evidence: Evidence) -> Counts:
    copies = Counter(number for number, _ in evidence.submits)
    lanes = {sent.number: sent.lane for sent in evidence.sent}
    known = {sent.message_id for sent in evidence.sent}
    finals: dict[str, list[Arrival]] = {}
    for arrival in evidence.arrivals:
        finals.setdefault(arrival.message_id, []).append(arrival)
    statuses = {status["message_id"]: status for status in evidence.statuses}
    missing = [sent for sent in evidence.sent if sent.message_id not in finals]
    lost = [sent for sent in evidence.sent if not copies[sent.number]]
    doubled = [number for number, many in copies.items() if many > 1]
    otp_doubled = sum(lanes.get(number) is Lane.OTP for number in doubled)
    unknown = _of_unknown_fate(evidence, copies, statuses)
    times = sorted(at for _, at in evidence.submits)
    return Counts(
        messages=len(evidence.sent) + evidence.unanswered + evidence.refused,
        accepted=len(evidence.sent),
        unanswered=evidence.unanswered,
        refused=evidence.refused,
        repeats=evidence.repeats,
        submitted=len(copies),
        lost=len(lost),
        told=sum(_is_told_as_failed(finals.get(sent.message_id, ())) for sent in lost),
        doubled=len(doubled) - otp_doubled,
        otp_doubled=otp_doubled,
        most_copies=max(copies.values(), default=0),
        failed=sum(arrivals[0].event == FAILED for arrivals in finals.values()),
        unknown=len(unknown),
        billed_wrong=_billed_wrong(evidence, copies, unknown),
        webhooks_missing=len(missing),
        webhooks_twice=len(evidence.arrivals) - len(finals),
        contradicted=sum(
            not _agree(finals.get(sent.message_id, ()), statuses.get(sent.message_id)) for sent in evidence.sent
        ),
        strangers=len(finals.keys() - known) + len(statuses.keys() - known) + len(copies.keys() - lanes.keys()),
        bad_signatures=evidence.bad_signatures,
        dead=len(evidence.dead),
        submit_silence_s=max((later - earlier for earlier, later in pairwise(times)), default=0.0),
        recovery=recovery_of(evidence, evidence.sent, evidence.healed_at),
    )


def recovery_of(evidence: Evidence, sent: Iterable[Sent], healed_at: float | None) -> Recovery:
    """Of these messages, which may be some of all."""
    told: dict[str, float] = {}
    for arrival in evidence.arrivals:
        told.setdefault(arrival.message_id, arrival.at)
    late = [
        told[one.message_id] for one in sent if one.message_id in told and told[one.message_id] - one.due_at > LATE_S
    ]
    if healed_at is None:
        return Recovery(len(late), 0.0, 0.0)
    next_submit = min((at for _, at in evidence.submits if at >= healed_at), default=healed_at)
    return Recovery(len(late), max(0.0, max(late, default=0.0) - healed_at), next_submit - healed_at)


def _is_told_as_failed(arrivals: Sequence[Arrival]) -> bool:
    return bool(arrivals) and all(arrival.event == FAILED for arrival in arrivals)


def _agree(arrivals: Sequence[Arrival], status: Mapping[str, Any] | None) -> bool:
    """Whether the last word of the webhooks is what the status says. A missing webhook is counted elsewhere.

    The higher rank wins in the status as it does at clients: delivered beats a failure that was told before.
    """
    if status is None or not arrivals:
        return status is not None
    told = DELIVERED if any(arrival.event == DELIVERED for arrival in arrivals) else FAILED
    return status["state"] in _STATE_OF_EVENT[told]


def _of_unknown_fate(
    evidence: Evidence, copies: Mapping[int, int], statuses: Mapping[str, Mapping[str, Any]]
) -> set[str]:
    """Messages of which nobody learnt whether the carrier took them: told so; or paid, unseen, and over with their validity."""
    paid: Counter[str] = Counter()
    for line in evidence.ledger:
        paid[line["message_id"] or ""] += (line["kind"] == "capture") - (line["kind"] == "refund")
    told = {message_id for message_id, status in statuses.items() if status["error_code"] == _UNKNOWN}
    return told | {
        sent.message_id
        for sent in evidence.sent
        if paid[sent.message_id]
        and not copies.get(sent.number)
        and statuses.get(sent.message_id, {}).get("state") == "expired"
    }


def _billed_wrong(evidence: Evidence, copies: Mapping[int, int], unknown: Container[str]) -> int:
    """Messages that the ledger charges otherwise than what the carrier saw; and one for a balance that does not add up."""
    entries: dict[str, list[Mapping[str, Any]]] = {}
    for entry in evidence.ledger:
        if entry["message_id"]:
            entries.setdefault(entry["message_id"], []).append(entry)
    wrong = 0
    for sent in evidence.sent:
        lines = entries.pop(sent.message_id, [])
        times = {0, 1} if sent.message_id in unknown else {1} if copies.get(sent.number) else {0}
        wrong += not _is_billed(lines, times, evidence.rates[sent.lane])
    balance = evidence.topup_paise + sum(
        line["available_change_paise"] for line in evidence.ledger if line["kind"] != "topup"
    )
    is_even = abs(balance - evidence.available_paise) < _LEAST_PAISE and abs(evidence.held_paise) < _LEAST_PAISE
    return wrong + len(entries) + (not is_even)


def _is_billed(lines: Sequence[Mapping[str, Any]], times: set[int], rates: frozenset[float]) -> bool:
    """Held, and charged so many times at a price of the list; what was held is all charged or given back."""
    kinds = Counter(line["kind"] for line in lines)
    paid = -sum(line["available_change_paise"] for line in lines)
    charged = kinds["capture"] - kinds["refund"]
    price_is_right = paid in rates if charged == 1 else abs(paid) < _LEAST_PAISE
    once = len({(line["reference"], line["kind"]) for line in lines}) == len(lines)
    return charged in times and kinds["hold"] == kinds["capture"] + kinds["release"] and price_is_right and once


def problems_of(counts: Counts, policy: Policy) -> list[str]:
    """What breaks the policy, in sentences; empty when all holds."""
    lost = counts.lost - counts.told if policy.may_fail else counts.lost
    bounds = [
        (counts.unanswered, 0, "messages never got an answer, however often they were sent"),
        (counts.refused, 0, "messages were refused"),
        (lost, policy.lost, "accepted messages never reached the carrier"),
        (counts.doubled, policy.doubled, "messages reached the carrier twice"),
        (0 if policy.otp_may_double else counts.otp_doubled, 0, "OTPs reached the carrier twice"),
        (counts.unknown, policy.unknown, "messages ended as unknown"),
        (counts.billed_wrong, policy.billed_wrong, "messages were billed wrongly"),
        (counts.webhooks_missing, policy.webhooks_missing, "messages have no final webhook"),
        (counts.contradicted, policy.webhooks_missing, "messages have a status that is not what their webhook told"),
        (counts.strangers, 0, "messages were seen that nobody sent"),
        (counts.bad_signatures, 0, "webhooks have a wrong signature"),
        (counts.dead, policy.dead, "events are dead"),
    ]
    problems = [
        f"{seen} {what}" + (f" (at most {bound})" if bound else "") for seen, bound, what in bounds if seen > bound
    ]
    if counts.most_copies > max(_MOST_COPIES_OF_AN_OTP, 1 + (policy.doubled > 0)):
        problems.append(f"a message reached the carrier {counts.most_copies} times")
    return problems
