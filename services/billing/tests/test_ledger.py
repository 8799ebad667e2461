"""The rules alone: whatever order an attempt's events come in, the sums are the same."""

from collections import Counter, defaultdict
from collections.abc import Callable
from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harkara_billing.ledger import POSTINGS, Kind, Ledger, State, Wallet, post
from harkara_billing.price_book import load_price_book
from harkara_contracts.events import AttemptEvent, AttemptPlanned
from harkara_contracts.subjects import Channel

BOOK = load_price_book()
NOW = datetime(2026, 7, 1, tzinfo=UTC)
JULY = date(2026, 7, 1)
ENDS = ["sent", "delivered", "read", "unknown", "never left", "failed, billed", "failed, not billed"]

NewPlan = Callable[..., AttemptPlanned]
NewEnd = Callable[[AttemptPlanned, str], AttemptEvent]


def a_ledger(available_mp: int = 1_000_000, volume: int = 0) -> Ledger:
    volumes = {("ACC1", JULY, "sms"): volume}
    return Ledger(book=BOOK, now=NOW, wallets={"ACC1": Wallet(available_mp, 0)}, holds={}, volumes=volumes)


def sums(ledger: Ledger) -> dict[str, int]:
    totals: defaultdict[str, int] = defaultdict(int)
    for transfer in ledger.transfers:
        totals[POSTINGS[transfer.kind].debit] -= transfer.amount_mp
        totals[POSTINGS[transfer.kind].credit] += transfer.amount_mp
    return dict(totals)


def outcome(ledger: Ledger) -> tuple[int, int, int, int, list[tuple[int, int]]]:
    usage = [(usage.units, usage.amount_mp) for usage in ledger.usage_changes.values() if usage.units]
    wallet = ledger.wallets["ACC1"]
    return wallet.available_mp, wallet.held_mp, sums(ledger).get("revenue", 0), sum(ledger.volumes.values()), usage


@given(ends=st.lists(st.sampled_from(ENDS), max_size=5), data=st.data())
def test_any_order_and_any_repeat_comes_out_the_same(
    ends: list[str], data: st.DataObject, new_plan: NewPlan, new_end: NewEnd
) -> None:
    plan = new_plan("ACC1", units=2, planned_at=NOW)
    straight = a_ledger()
    post(straight, [new_end(plan, name) for name in ["planned", *ends]])
    again = data.draw(st.permutations(["planned", *ends, *data.draw(st.lists(st.sampled_from(["planned", *ends])))]))
    mixed = a_ledger()
    decided = post(mixed, [new_end(plan, name) for name in again])

    assert outcome(mixed) == outcome(straight)
    assert {hold.price_mp for _, hold in decided} == {44_000}
    assert sum(sums(mixed).values()) == 0
    kinds = Counter(transfer.kind for transfer in mixed.transfers)
    assert max(kinds.values()) == 1
    assert not (kinds[Kind.CAPTURE] and kinds[Kind.RELEASE])


@pytest.mark.parametrize(
    ("names", "state", "available_mp", "held_mp", "revenue_mp"),
    [
        ([], State.HELD, 78_000, 22_000, 0),
        (["unknown"], State.HELD, 78_000, 22_000, 0),
        (["sent"], State.CAPTURED, 78_000, 0, 22_000),
        (["delivered"], State.CAPTURED, 78_000, 0, 22_000),
        (["unknown", "delivered", "sent"], State.CAPTURED, 78_000, 0, 22_000),
        (["unknown", "read"], State.CAPTURED, 78_000, 0, 22_000),
        (["never left"], State.RELEASED, 100_000, 0, 0),
        (["sent", "failed, billed"], State.CAPTURED, 78_000, 0, 22_000),
        (["failed, billed"], State.CAPTURED, 78_000, 0, 22_000),
        (["sent", "failed, not billed"], State.REFUNDED, 100_000, 0, 0),
        (["failed, not billed", "sent"], State.RELEASED, 100_000, 0, 0),
    ],
)
def test_where_the_money_is(
    names: list[str],
    state: State,
    available_mp: int,
    held_mp: int,
    revenue_mp: int,
    new_plan: NewPlan,
    new_end: NewEnd,
) -> None:
    ledger = a_ledger(100_000)
    plan = new_plan("ACC1", planned_at=NOW)
    post(ledger, [new_end(plan, name) for name in ["planned", *names]])
    assert ledger.holds[plan.attempt_id].state is state
    assert ledger.wallets["ACC1"] == Wallet(available_mp, held_mp)
    assert sums(ledger).get("revenue", 0) == revenue_mp


def test_what_fits_is_funded_in_order(new_plan: NewPlan) -> None:
    ledger = a_ledger(50_000)
    plans = [new_plan("ACC1", units=units, planned_at=NOW) for units in (1, 2, 1, 1)]
    decided = post(ledger, plans)
    assert [hold.state for _, hold in decided] == [State.HELD, State.UNFUNDED, State.HELD, State.UNFUNDED]
    assert ledger.wallets["ACC1"] == Wallet(6_000, 44_000)


def test_money_released_in_a_batch_pays_for_what_comes_after(new_plan: NewPlan, new_end: NewEnd) -> None:
    ledger = a_ledger(22_000)
    first, second = new_plan("ACC1", planned_at=NOW), new_plan("ACC1", planned_at=NOW)
    decided = post(ledger, [first, new_end(first, "never left"), second])
    assert decided[1][1].state is State.HELD


def test_an_unfunded_attempt_stays_so(new_plan: NewPlan, new_end: NewEnd) -> None:
    ledger = a_ledger(0)
    plan = new_plan("ACC1", planned_at=NOW)
    post(ledger, [plan])
    ledger.wallets["ACC1"].available_mp = 1_000_000
    [(_, hold)] = post(ledger, [plan, new_end(plan, "sent")])
    assert hold.state is State.UNFUNDED
    assert ledger.transfers == []


def test_a_message_over_an_edge_is_priced_part_by_part(new_plan: NewPlan) -> None:
    ledger = a_ledger(volume=9_999)
    [(_, hold)] = post(ledger, [new_plan("ACC1", units=3, planned_at=NOW)])
    assert hold.price_mp == 22_000 + 2 * 20_000
    assert ledger.volumes["ACC1", JULY, "sms"] == 10_002


def test_the_month_turns_in_india(new_plan: NewPlan) -> None:
    ledger = a_ledger(volume=10_000)
    june = new_plan("ACC1", planned_at=datetime(2026, 6, 30, 18, 29, tzinfo=UTC))
    july = new_plan("ACC1", planned_at=datetime(2026, 6, 30, 18, 30, tzinfo=UTC))
    assert [hold.price_mp for _, hold in post(ledger, [june, july])] == [22_000, 20_000]


def test_a_channel_without_a_price_is_not_funded(new_plan: NewPlan) -> None:
    [(_, hold)] = post(a_ledger(), [new_plan("ACC1", channel=Channel.EMAIL, planned_at=NOW)])
    assert (hold.state, hold.price_mp) == (State.UNFUNDED, 0)
