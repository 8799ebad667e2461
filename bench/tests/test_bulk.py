from dataclasses import replace
from typing import Any

import orjson
import pytest
from bench.account import TOPUP_PAISE, Money
from bench.bulk import ACCEPTING, ALONE, FLOWING, Plan, Report, problems_of, report_text
from bench.bulk_call import Post, Posted, body_of
from bench.figures import spread_of
from bench.load import FIRST_NUMBER
from bench.stack import Choice

PLAN = Plan(stack=Choice(), recipients=100, bad=2)
GOOD = 98


def report(**changes: Any) -> Report:
    answer = {
        "total_recipients": GOOD,
        "estimated_credits": GOOD,
        "rejected": [{"index": place} for place in sorted(PLAN.bad_places)],
    }
    quick = spread_of([0.02] * 10)
    good = Report(
        posted=Posted(1.0, 2.0, 1_000, 202, answer),
        first_after_s=0.3,
        flow_s=1.0,
        otps={ALONE: quick, ACCEPTING: quick, FLOWING: quick},
        otp_answers={ALONE: quick, ACCEPTING: quick, FLOWING: quick},
        peak_mib={"ingress": 120.0, "ingress-2": 130.0, "nats": 900.0},
        cpu_s={"ingress": 0.1, "bench": 9.0},
        others_share=0.1,
        accepted=GOOD,
        submitted=GOOD,
        submitted_twice=0,
        not_submitted=0,
        not_reported=0,
        batch={"state": "completed", "counts": {"delivered": GOOD}},
        complete_after_s=0.1,
        money=Money(GOOD, 22.0 * GOOD, 0, TOPUP_PAISE - 22.0 * GOOD),
        dead=[],
        problems=[],
    )
    return replace(good, **changes)


def test_a_call_has_every_number_once_and_the_bad_ones_at_their_places() -> None:
    post = Post("host", 1, "key", "BENCHX", "T", FIRST_NUMBER, 100, PLAN.bad_places)
    body = orjson.loads(body_of(post))
    numbers = [recipient["to"] for recipient in body["recipients"]]
    assert len(PLAN.bad_places) == 2
    assert [number == "98" for number in numbers] == [place in PLAN.bad_places for place in range(100)]
    assert len({recipient["variables"]["order_id"] for recipient in body["recipients"]}) == 100


def test_a_run_in_which_all_holds_has_no_problem() -> None:
    assert problems_of(PLAN, report()) == []
    assert "1,020 µs" in report_text(report())
    assert "all holds" in report_text(report())


@pytest.mark.parametrize(
    "changes",
    [
        {"first_after_s": 1.0},
        {"otps": {ALONE: spread_of([0.02]), ACCEPTING: spread_of([0.1]), FLOWING: spread_of([0.02])}},
        {"otps": {ALONE: spread_of([0.02]), ACCEPTING: spread_of([0.02]), FLOWING: spread_of([])}},
        {"peak_mib": {"ingress": 120.0, "ingress-2": 300.0}},
        {"not_submitted": 1},
        {"not_reported": 1},
        {"submitted_twice": 1},
        {"dead": ["one"]},
        {"batch": {"state": "sending", "counts": {"delivered": GOOD}}},
        {"batch": {"state": "completed", "counts": {"delivered": GOOD - 1, "failed": 1}}},
        {"posted": Posted(1.0, 2.0, 1, 202, {"total_recipients": 100, "estimated_credits": 100, "rejected": []})},
        {"money": Money(GOOD + 1, 22.0 * GOOD, 0, TOPUP_PAISE - 22.0 * GOOD)},
    ],
)
def test_what_does_not_hold_is_told(changes: dict[str, Any]) -> None:
    assert len(problems_of(PLAN, report(**changes))) == 1


def test_otps_alone_may_be_slow() -> None:
    otps = {ALONE: spread_of([9.0]), ACCEPTING: spread_of([0.02]), FLOWING: spread_of([0.02])}
    assert problems_of(PLAN, report(otps=otps)) == []
