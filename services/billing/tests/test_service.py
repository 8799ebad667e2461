"""Billing from outside: over the bus, on real servers."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from harkara_billing.app import build
from harkara_billing.settings import Settings
from harkara_chassis.clock import now_utc
from harkara_contracts.commands import BalanceReply, GetBalance, GetUsage, LedgerReply, ListLedger, TopUp, UsageReply
from harkara_contracts.errors import ErrorCode, HarkaraError
from harkara_contracts.events import AttemptEvent, AttemptFunded, AttemptPlanned, AttemptUnfunded
from harkara_contracts.facts import BalanceFact
from harkara_contracts.ids import new_account_id, new_id
from harkara_contracts.subjects import Category

NewPlan = Callable[..., AttemptPlanned]
NewEnd = Callable[[AttemptPlanned, str], AttemptEvent]


def top_up(account_id: str, amount_mp: int, reference: str = "r1") -> TopUp:
    return TopUp(command_id=new_id("CMD"), account_id=account_id, amount_mp=amount_mp, reference=reference)


def balance(account_id: str) -> GetBalance:
    return GetBalance(command_id=new_id("CMD"), account_id=account_id)


async def test_the_way_of_the_money(run_service: Any, bus: Any, new_plan: NewPlan, new_end: NewEnd) -> None:
    account_id = new_account_id()
    async with run_service("billing", build, Settings) as service:
        ask = service.commands.call
        reply: BalanceReply = await ask(top_up(account_id, 60_000))
        assert (reply.available_mp, reply.held_mp, reply.currency) == (60_000, 0, "INR")
        assert await service.facts_reached(reply.facts_sequence)
        fact = await bus.next(BalanceFact, where=lambda fact: fact.account_id == account_id)
        assert fact.available_mp == 60_000

        first, second, third = (new_plan(account_id) for _ in range(3))
        await bus.publish([first, second, third])
        funded = await bus.all(AttemptFunded, 2, where=lambda event: event.account_id == account_id)
        assert {event.attempt_id: event.price_mp for event in funded} == {
            first.attempt_id: 22_000,
            second.attempt_id: 22_000,
        }
        assert funded[0].to == first.to
        unfunded = await bus.next(AttemptUnfunded, where=lambda event: event.attempt_id == third.attempt_id)
        assert unfunded.error_code == ErrorCode.INSUFFICIENT_CREDITS
        assert "₹0.22" in unfunded.error_description
        assert "top up" in unfunded.error_description

        await bus.publish([new_end(first, "sent"), new_end(second, "never left")])
        await bus.next(
            BalanceFact, where=lambda fact: fact.account_id == account_id and fact.available_mp == 60_000 - 22_000
        )
        after: BalanceReply = await ask(balance(account_id))
        assert after.available_mp == 38_000

        ledger: LedgerReply = await ask(ListLedger(command_id=new_id("CMD"), account_id=account_id, limit=3))
        older: LedgerReply = await ask(
            ListLedger(command_id=new_id("CMD"), account_id=account_id, limit=3, cursor=ledger.next_cursor)
        )
        assert sorted(entry.kind for entry in ledger.entries + older.entries) == [
            "capture",
            "hold",
            "hold",
            "release",
            "topup",
        ]
        assert older.next_cursor is None
        of_one: LedgerReply = await ask(
            ListLedger(command_id=new_id("CMD"), account_id=account_id, message_id=second.message_id)
        )
        assert [entry.kind for entry in of_one.entries] == ["release", "hold"]

        usage: UsageReply = await ask(GetUsage(command_id=new_id("CMD"), account_id=account_id))
        assert [(row.channel, row.category, row.units, row.amount_mp) for row in usage.rows] == [
            ("sms", "transactional", 1, 22_000)
        ]
        now = now_utc()
        with pytest.raises(HarkaraError, match="must come after"):
            await ask(GetUsage(command_id=new_id("CMD"), account_id=account_id, start=now, end=now))


async def test_a_repeat_is_answered_again(run_service: Any, bus: Any, new_plan: NewPlan) -> None:
    account_id = new_account_id()
    async with run_service("billing", build, Settings) as service:
        await service.commands.call(top_up(account_id, 44_000))
        plan = new_plan(account_id)
        await bus.publish([plan])
        funded = await bus.next(AttemptFunded, where=lambda event: event.attempt_id == plan.attempt_id)
        # Cut otherwise, as after a crash: the server's own net against doubles does not catch it.
        await bus.publish([plan, new_plan(account_id)])
        again = await bus.all(AttemptFunded, 2, where=lambda event: event.attempt_id == plan.attempt_id)
        assert again == [funded, funded]
        assert (await service.commands.call(balance(account_id))).held_mp == 44_000


async def test_test_mode_moves_no_money(run_service: Any, bus: Any, new_plan: NewPlan, new_end: NewEnd) -> None:
    account_id = new_account_id()
    async with run_service("billing", build, Settings) as service:
        plan = new_plan(account_id, category=Category.OTP, test_mode=True)
        await bus.publish([plan])
        funded = await bus.next(AttemptFunded, where=lambda event: event.attempt_id == plan.attempt_id)
        assert (funded.price_mp, funded.test_mode) == (0, True)
        paid = new_plan(account_id, category=Category.OTP)
        await bus.publish([new_end(plan, "sent"), paid])
        await bus.next(AttemptUnfunded, where=lambda event: event.attempt_id == paid.attempt_id)
        ledger = await service.commands.call(ListLedger(command_id=new_id("CMD"), account_id=account_id))
        assert ledger.entries == []
        assert await service.database.fetch("SELECT FROM hold WHERE attempt_id = $1", plan.attempt_id) == []


async def test_commands_are_refused_in_plain_words(run_service: Any) -> None:
    account_id = new_account_id()
    async with run_service("billing", build, Settings) as service:
        ask = service.commands.call
        await ask(top_up(account_id, 5_000))
        assert (await ask(top_up(account_id, 5_000))).available_mp == 5_000
        with pytest.raises(HarkaraError, match="already topped up") as conflict:
            await ask(top_up(account_id, 6_000))
        assert conflict.value.code is ErrorCode.CONFLICT
        wrong = [
            (ListLedger(command_id=new_id("CMD"), account_id=account_id, cursor="x"), "cursor"),
            (ListLedger(command_id=new_id("CMD"), account_id=account_id, cursor="9" * 30), "cursor"),
            (ListLedger(command_id=new_id("CMD"), account_id=account_id, message_id="TN1"), "message_id"),
            (
                GetUsage(command_id=new_id("CMD"), account_id=account_id, start=now_utc() - timedelta(days=400)),
                "366 days",
            ),
        ]
        for command, complaint in wrong:
            with pytest.raises(HarkaraError, match=complaint) as refused:
                await ask(command)
            assert refused.value.code is ErrorCode.INVALID_REQUEST


async def test_what_a_crash_left_untold_is_told_at_the_next_start(run_service: Any, bus: Any) -> None:
    account_id = new_account_id()
    async with run_service("billing", build, Settings) as service:
        await service.commands.call(top_up(account_id, 5_000))
        await service.database.execute("UPDATE wallet SET available_mp = 4_000 WHERE account_id = $1", account_id)
    async with run_service("billing", build, Settings):
        await bus.next(BalanceFact, where=lambda fact: fact.account_id == account_id and fact.available_mp == 4_000)
