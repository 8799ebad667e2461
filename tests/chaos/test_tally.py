"""Each thing that can go wrong is seen by the counting, and a policy allows what it names and no more."""

from dataclasses import replace
from typing import Any

import pytest
from bench.sink import Arrival
from tests.chaos.fault import Policy
from tests.chaos.record import list_prices
from tests.chaos.tally import Evidence, Sent, count, problems_of

from harkara_contracts.subjects import Lane

RATES = {Lane.OTP: frozenset({28.0}), Lane.TRANSACTIONAL: frozenset({22.0}), Lane.PROMOTIONAL: frozenset({18.0})}
SENT = [Sent(917_000_000_001, "TN1", Lane.TRANSACTIONAL, 10.0), Sent(917_000_000_002, "TN2", Lane.OTP, 10.1)]
TOPUP: dict[str, Any] = {"message_id": None, "kind": "topup", "available_change_paise": 1_000.0, "reference": "t"}


def entries(message_id: str, paise: float, *kinds: str) -> list[dict[str, Any]]:
    changes = {"hold": -paise, "capture": 0.0, "release": paise, "refund": paise}
    return [
        {
            "message_id": message_id,
            "kind": kind,
            "available_change_paise": changes[kind],
            "reference": f"{message_id}-1",
        }
        for kind in kinds
    ]


def status(message_id: str, state: str = "delivered", error_code: str | None = None) -> dict[str, Any]:
    return {"message_id": message_id, "state": state, "error_code": error_code}


def arrival(message_id: str, event: str = "message.delivered", at: float = 10.5) -> Arrival:
    return Arrival(event, message_id, "", at)


FINE = Evidence(
    sent=SENT,
    unanswered=0,
    refused=0,
    repeats=0,
    submits=[(917_000_000_001, 10.2), (917_000_000_002, 10.3)],
    arrivals=[arrival("TN1"), arrival("TN2")],
    bad_signatures=0,
    statuses=[status("TN1"), status("TN2")],
    ledger=[TOPUP, *entries("TN1", 22.0, "hold", "capture"), *entries("TN2", 28.0, "hold", "capture")],
    topup_paise=1_000.0,
    available_paise=950.0,
    held_paise=0.0,
    rates=RATES,
    dead=(),
    healed_at=None,
)


def problems(policy: Policy | None = None, **changes: Any) -> list[str]:
    return problems_of(count(replace(FINE, **changes)), policy or Policy())


def test_a_fine_run_has_no_problem() -> None:
    assert problems() == []


def test_a_message_that_never_reached_the_carrier_is_lost_and_wrongly_paid() -> None:
    assert problems(submits=FINE.submits[:1]) == [
        "1 accepted messages never reached the carrier",
        "1 messages were billed wrongly",
    ]


def test_a_message_whose_end_was_told_and_that_is_not_paid_is_not_lost_where_it_may_fail() -> None:
    changes: dict[str, Any] = {
        "submits": FINE.submits[:1],
        "arrivals": [arrival("TN1"), arrival("TN2", "message.failed")],
        "statuses": [status("TN1"), status("TN2", "expired")],
        "ledger": [TOPUP, *entries("TN1", 22.0, "hold", "capture"), *entries("TN2", 28.0, "hold", "release")],
        "available_paise": 978.0,
    }
    assert problems(Policy(may_fail=True), **changes) == []
    assert problems(**changes) == ["1 accepted messages never reached the carrier"]


@pytest.mark.parametrize(
    ("number", "policy", "expected"),
    [
        (917_000_000_001, Policy(), ["1 messages reached the carrier twice"]),
        (917_000_000_001, Policy(otp_may_double=True), ["1 messages reached the carrier twice"]),
        (917_000_000_001, Policy(doubled=1), []),
        (917_000_000_002, Policy(), ["1 OTPs reached the carrier twice"]),
        (917_000_000_002, Policy(otp_may_double=True), []),
    ],
)
def test_doubles_are_bound_by_the_policy(number: int, policy: Policy, expected: list[str]) -> None:
    assert problems(policy, submits=[*FINE.submits, (number, 11.0)]) == expected


def test_a_third_copy_of_an_otp_is_one_too_many() -> None:
    submits = [*FINE.submits, *[(917_000_000_002, 11.0)] * 2]
    assert problems(Policy(otp_may_double=True), submits=submits) == ["a message reached the carrier 3 times"]


@pytest.mark.parametrize(
    ("lines", "available_paise"),
    [
        ([], 972.0),
        (entries("TN1", 22.0, "hold"), 950.0),
        (entries("TN1", 22.0, "hold", "capture", "refund"), 972.0),
        (entries("TN1", 22.0, "hold", "hold", "capture", "capture"), 928.0),
        (entries("TN1", 21.0, "hold", "capture"), 951.0),
        (entries("TN1", 22.0, "hold", "capture") + entries("TN9", 22.0, "hold", "capture"), 928.0),
        (entries("TN1", 22.0, "hold", "capture"), 949.0),
    ],
    ids=["unpaid", "held", "given back", "paid twice", "wrong price", "a stranger's", "balance"],
)
def test_each_way_to_bill_wrongly_is_seen(lines: list[dict[str, Any]], available_paise: float) -> None:
    ledger = [TOPUP, *lines, *entries("TN2", 28.0, "hold", "capture")]
    assert problems(ledger=ledger, available_paise=available_paise) == ["1 messages were billed wrongly"]


def test_what_the_client_is_told_is_checked() -> None:
    assert problems(arrivals=FINE.arrivals[:1]) == ["1 messages have no final webhook"]
    assert problems(arrivals=[*FINE.arrivals, arrival("TN2")]) == []
    contradicted = ["1 messages have a status that is not what their webhook told"]
    assert problems(statuses=[status("TN1"), status("TN2", "sent")]) == contradicted
    assert problems(arrivals=[arrival("TN1"), arrival("TN2", "message.failed")]) == contradicted
    # A late receipt: delivered beats the failure that was told before.
    assert problems(arrivals=[*FINE.arrivals, arrival("TN2", "message.failed")]) == []
    assert problems(statuses=[*FINE.statuses, status("TN3")]) == ["1 messages were seen that nobody sent"]
    assert problems(bad_signatures=1) == ["1 webhooks have a wrong signature"]


def test_what_ended_with_its_validity_paid_and_unseen_is_of_unknown_fate() -> None:
    changes: dict[str, Any] = {
        "submits": FINE.submits[:1],
        "arrivals": [arrival("TN1"), arrival("TN2", "message.failed")],
        "statuses": [status("TN1"), status("TN2", "expired")],
    }
    assert problems(Policy(may_fail=True), **changes) == ["1 messages ended as unknown"]
    assert problems(Policy(may_fail=True, unknown=1), **changes) == []


def test_what_ended_as_unknown_may_be_paid_or_not_and_is_bound_by_the_policy() -> None:
    statuses = [status("TN1"), status("TN2", "delivered", "ERR_OUTCOME_UNKNOWN")]
    assert problems(statuses=statuses) == ["1 messages ended as unknown"]
    assert problems(Policy(unknown=1), statuses=statuses) == []


def test_dead_events_and_open_ends_of_the_client_are_problems() -> None:
    assert problems(dead=["billing: …"], unanswered=1, refused=2) == [
        "1 messages never got an answer, however often they were sent",
        "2 messages were refused",
        "1 events are dead",
    ]


def test_recovery_ends_with_the_last_late_webhook() -> None:
    late = [arrival("TN1", at=13.0), arrival("TN2", at=10.9)]
    recovery = count(replace(FINE, arrivals=late, healed_at=10.25)).recovery
    assert recovery.late == 1
    assert recovery.seconds == pytest.approx(2.75)
    assert recovery.flow_s == pytest.approx(0.05)
    assert count(replace(FINE, healed_at=10.25)).recovery.seconds == 0


def test_the_prices_of_every_lane_are_known() -> None:
    assert {lane: max(prices) for lane, prices in list_prices().items()} == {
        Lane.OTP: 28.0,
        Lane.TRANSACTIONAL: 22.0,
        Lane.PROMOTIONAL: 18.0,
    }
