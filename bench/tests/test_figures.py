from array import array
from dataclasses import replace
from typing import Any

import pytest
from bench.account import Money
from bench.figures import Spread, figures_of, hops_of, rate_of, receipts_rate, spread_of
from bench.load import LoadResult
from bench.sink import Arrival, Collected
from bench.verdict import Outcome, problems_of

FIRST = 916_000_000_000
PAISE = 22.0


def load(statuses: list[int]) -> LoadResult:
    """Message i begins at 100 + i and is answered 0.5 s later."""
    count = len(statuses)
    return LoadResult(
        first_number=FIRST,
        begun=array("d", [100.0 + index for index in range(count)]),
        answered=array("d", [100.5 + index if status else 0.0 for index, status in enumerate(statuses)]),
        status=array("H", statuses),
        message_ids=[f"TN{index}" for index in range(count)],
        late_s=[],
        connections_lost=0,
        refusal="",
        last_error="",
    )


def webhook(index: int, event: str = "message.delivered") -> Arrival:
    return Arrival(event, f"TN{index}", str(FIRST + index), 103.0 + index)


def submits(*indexes: int) -> list[tuple[int, float]]:
    return [(FIRST + index, 101.0 + index) for index in indexes]


def outcome(statuses: list[int], submitted: list[tuple[int, float]], webhooks: list[Arrival], **more: Any) -> Outcome:
    figures = figures_of(load(statuses), submitted, Collected(webhooks, 0, 0), [])
    units = figures.counts.submitted
    fixed = Outcome([figures], Money(units, units * PAISE, 0.0, 1000.0 - units * PAISE), 1000, [], None)
    return replace(fixed, **more)


def all_well(**more: Any) -> Outcome:
    return outcome([202] * 3, submits(0, 1, 2), [webhook(index) for index in range(3)], **more)


def test_spread_is_by_nearest_rank() -> None:
    assert spread_of(range(1, 101)) == Spread(100, 50_000, 90_000, 99_000, 100_000)
    assert spread_of([0.004]) == Spread(1, 4.0, 4.0, 4.0, 4.0)
    assert spread_of([]).count == 0


def test_rates_count_intervals() -> None:
    assert rate_of([5.0, 6.0, 7.0]) == pytest.approx(1.0)
    assert rate_of([5.0]) == 0.0


def test_receipts_end_when_the_last_has_been_acknowledged() -> None:
    assert receipts_rate([(0.0, 5), (1.0, 50), (2.0, 105), (9.0, 105)], began_at=1.0) == pytest.approx(100.0)
    assert receipts_rate([(0.0, 5), (9.0, 5)], began_at=0.0) is None


def test_what_was_sent_submitted_and_reported_is_joined_by_number() -> None:
    figures = all_well().phases[0]
    latencies = {name: spread.p50_ms for name, spread in figures.latencies.items()}
    assert latencies == pytest.approx(
        {
            "request → 202": 500,
            "request → submit": 1000,
            "202 → submit": 500,
            "submit → webhook": 2000,
            "request → webhook": 3000,
        }
    )
    assert figures.rates.end_to_end == pytest.approx(3 / 5)


def test_another_clients_submits_are_none_of_ours() -> None:
    figures = figures_of(load([202]), [*submits(0), (919_999_900_001, 1.0)], Collected([webhook(0)], 0, 0), [])
    assert (figures.counts.submitted, figures.counts.submitted_twice) == (1, 0)


def test_a_clean_run_has_no_problems() -> None:
    assert problems_of(all_well()) == []


@pytest.mark.parametrize(
    ("flawed", "words"),
    [
        (outcome([202] * 2, submits(0), [webhook(0), webhook(1)]), "1 accepted messages never reached the carrier"),
        (outcome([202] * 2, submits(0, 1), [webhook(0)]), "1 accepted messages never got their final webhook"),
        (outcome([202], submits(0, 0), [webhook(0)]), "1 messages reached the carrier twice"),
        (outcome([202], submits(0), [webhook(0), webhook(0)]), "1 webhooks came twice"),
        (outcome([202], submits(0), [webhook(0, "message.failed")]), "1 final webhooks tell of a failure"),
        (outcome([202], submits(0), [webhook(0), webhook(9)]), "1 webhooks tell of messages that were not sent"),
        (outcome([202, 503], submits(0), [webhook(0)]), "1 requests were refused"),
        (outcome([202, 0], submits(0), [webhook(0)]), "1 requests were not answered"),
        (all_well(dead=["billing: …"]), "1 events are dead"),
        (all_well(money=Money(2, 44.0, 0.0, 956.0)), "2 units are charged for 3 messages that reached the carrier"),
        (all_well(money=Money(3, 66.0, 22.0, 912.0)), "22.0 paise are still held"),
        (all_well(money=Money(3, 66.0, 0.0, 912.0)), "the balance and the usage report differ by 22.0 paise"),
    ],
)
def test_every_flaw_is_told(flawed: Outcome, words: str) -> None:
    assert problems_of(flawed) == [words]


def test_after_a_kill_repeated_webhooks_and_missing_answers_are_no_fault_but_a_second_submit_is() -> None:
    webhooks = [webhook(0), webhook(0), webhook(1)]
    assert problems_of(outcome([202, 0, 503], submits(0, 1), webhooks, killed="ingress")) == []
    twice = outcome([202, 0], submits(0, 1, 1), webhooks, killed="ingress")
    assert problems_of(twice) == ["1 messages reached the carrier twice"]


def test_hops_are_read_off_a_messages_own_times() -> None:
    status = {
        "accepted_at": "2026-11-22T10:00:00Z",
        "attempts": [
            {
                "planned_at": "2026-11-22T10:00:00.010Z",
                "sent_at": "2026-11-22T10:00:00.030Z",
                "delivered_at": None,
            }
        ],
    }
    hops = hops_of([status, {"accepted_at": None, "attempts": []}])
    assert {name: (spread.count, spread.p50_ms) for name, spread in hops.items()} == {
        "accepted → planned": (1, pytest.approx(10.0)),
        "planned → sent": (1, pytest.approx(20.0)),
        "sent → delivered": (0, 0.0),
    }
