from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from bench import lanes, long
from bench.account import TOPUP_PAISE, Money
from bench.disk import disk_mib, size_mib
from bench.figures import Spread
from bench.processes import Usage
from bench.tally import VERIFY_EVERY, CountingSink, Tally, Wanted

FIRST = 916_000_000_000
SECRET = "whsec_a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s="
PAISE = 22.0


def money(units: int) -> Money:
    return Money(units, units * PAISE, 0.0, TOPUP_PAISE - units * PAISE)


def test_a_tally_knows_what_came_once_twice_and_from_strangers() -> None:
    tally = Tally(FIRST, 3)
    for number in (FIRST, FIRST + 2, FIRST + 2, FIRST + 3, FIRST - 1):
        tally.add(number)
    assert (tally.unique, tally.again, tally.strangers) == (2, 1, 2)
    assert list(tally.times) == [1, 0, 2]


def test_a_tally_lacks_what_only_the_other_has_seen() -> None:
    here, there = Tally(FIRST, 4), Tally(FIRST, 4)
    for number in (FIRST, FIRST + 1, FIRST + 2):
        there.add(number)
    here.add(FIRST + 1)
    here.add(FIRST + 3)
    assert here.lacks(there) == 2


def test_a_number_that_comes_without_end_is_counted_without_end() -> None:
    tally = Tally(FIRST, 1)
    for _ in range(300):
        tally.add(FIRST)
    assert (tally.unique, tally.again) == (1, 299)


def counting_sink(count: int) -> CountingSink:
    sink = CountingSink()
    sink.expect(Wanted(FIRST, count, SECRET))
    return sink


def webhook(index: int, event: str = "message.delivered") -> bytes:
    return orjson.dumps({"event": event, "message_id": f"TN{index}", "to": str(FIRST + index)})


def test_the_counting_sink_keeps_counts_and_verifies_a_sample() -> None:
    sink = counting_sink(2 * VERIFY_EVERY)
    for index in range(2 * VERIFY_EVERY):
        assert sink.received(b"POST / HTTP/1.1\r\nContent-Length: 2", webhook(index))
    callbacks = sink.callbacks()
    assert (callbacks.tally.unique, callbacks.verified, callbacks.bad_signatures) == (2 * VERIFY_EVERY, 2, 2)
    assert sink.progress() == 2 * VERIFY_EVERY


def test_failures_are_progress_but_no_delivery_and_nonsense_is_neither() -> None:
    sink = counting_sink(2)
    for body in (webhook(0, "message.failed"), webhook(1), b"no JSON", b"[]"):
        sink.received(b"POST / HTTP/1.1", body)
    callbacks = sink.callbacks()
    assert (sink.progress(), callbacks.others, callbacks.malformed, callbacks.tally.unique) == (2, 1, 2, 1)


def test_the_size_of_a_folder_is_what_it_takes_on_the_disk(tmp_path: Path) -> None:
    (tmp_path / "nats" / "store").mkdir(parents=True)
    (tmp_path / "nats" / "store" / "block").write_bytes(b"x" * 3 * 1024 * 1024)
    assert size_mib(tmp_path) == pytest.approx(3.0, abs=0.1)
    assert disk_mib(tmp_path) == {
        "NATS store": pytest.approx(3.0, abs=0.1),
        "Postgres tables": 0.0,
        "Postgres WAL": 0.0,
        "logs": 0.0,
    }


def test_marks_end_with_the_last_message() -> None:
    assert long.marks_up_to(1_000_000) == [1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000]
    assert long.marks_up_to(5_000) == [1_000, 3_000, 5_000]
    assert long.marks_up_to(1_000) == [1_000]


def usage(cpu_s: float) -> Usage:
    return Usage(cpu_s, 100.0, 50.0)


def test_the_cost_of_a_slice_is_told_apart_from_the_benchs_own() -> None:
    one = long.Slice(1_000, 1_000, 2.0, {"ingress": usage(0.2), "nats": usage(0.1), "bench-load": usage(0.05)}, {}, 0.0)
    assert one.rate == 500
    assert one.cpu_ms() == pytest.approx(0.3)
    assert one.cpu_ms(of_bench=True) == pytest.approx(0.05)


COUNTS = long.Counts(
    sent=3, accepted=3, submitted=3, submitted_twice=0, accepted_not_submitted=0, webhooks=3, webhooks_twice=0,
    accepted_not_reported=0, failed=0, signatures_verified=1, bad_signatures=0, strangers=0,
)  # fmt: skip


def test_a_long_run_that_lost_nothing_has_no_problems() -> None:
    assert long.problems_of(COUNTS, money(3), []) == []


@pytest.mark.parametrize(
    ("flaw", "words"),
    [
        ({"sent": 4}, "1 requests were not accepted"),
        ({"accepted_not_submitted": 2}, "2 accepted messages never reached the carrier"),
        ({"accepted_not_reported": 1}, "1 accepted messages never got their final webhook"),
        ({"submitted_twice": 1}, "1 messages reached the carrier twice"),
        ({"webhooks_twice": 1}, "1 webhooks came twice"),
        ({"failed": 1}, "1 final webhooks tell of a failure"),
        ({"bad_signatures": 1}, "1 webhooks have a wrong signature"),
        ({"strangers": 1}, "1 webhooks tell of messages that were not sent"),
    ],
)
def test_every_flaw_of_a_long_run_is_told(flaw: dict[str, int], words: str) -> None:
    assert long.problems_of(replace(COUNTS, **flaw), money(3), []) == [words]


def test_uncharged_and_dead_is_a_flaw_too() -> None:
    assert long.problems_of(COUNTS, money(2), ["billing: …"]) == [
        "1 events are dead",
        "2 units are charged for 3 messages that reached the carrier",
    ]


def lanes_report(p99_ms: float, **more: int) -> lanes.Report:
    counts = {
        "sent": 3, "accepted": 3, "submitted": 3, "submitted_twice": 0, "accepted_not_submitted": 0,
        "accepted_not_reported": 0, "webhooks_twice": 0, "failed": 0,
    }  # fmt: skip
    return lanes.Report(
        flood="promotional", streams={"alone": Spread(3, 5.0, 6.0, p99_ms, p99_ms)}, hops={}, deepest=1,
        flood_accepted_per_s=1.0, drained_per_s=1.0, money=money(3), dead=[], problems=[], **{**counts, **more},
    )  # fmt: skip


def test_lanes_hold_under_the_limit_and_not_at_it() -> None:
    assert lanes.problems_of(lanes_report(249.9)) == []
    assert lanes.problems_of(lanes_report(250.0)) == ["OTPs alone: p99 is 250 ms, which is not under 250"]


def test_lanes_do_not_hold_when_a_message_is_lost() -> None:
    assert lanes.problems_of(lanes_report(9.0, accepted_not_submitted=1)) == [
        "1 accepted messages never reached the carrier"
    ]


def test_the_latency_of_a_stream_is_that_of_what_arrived() -> None:
    stream = lanes.Stream("alone", begun={FIRST: 10.0, FIRST + 1: 11.0})
    assert stream.latencies({FIRST: 10.25}) == Spread(1, 250.0, 250.0, 250.0, 250.0)
