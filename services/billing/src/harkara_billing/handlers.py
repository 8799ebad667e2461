"""What billing does with events and commands; the rules are in `ledger.py`, the tables in `store.py`."""

from collections.abc import Sequence
from datetime import timedelta

from harkara_billing.balances import BalanceTeller
from harkara_billing.ledger import Attempt, Hold, State, post
from harkara_billing.price_book import first_of_month, ist_day
from harkara_billing.store import Store
from harkara_chassis.clock import now_utc
from harkara_chassis.metrics import counter
from harkara_contracts.commands import (
    BalanceReply,
    GetBalance,
    GetUsage,
    LedgerReply,
    ListLedger,
    TopUp,
    UsageReply,
)
from harkara_contracts.errors import ErrorCode, HarkaraError
from harkara_contracts.events import AttemptFunded, AttemptPlanned, AttemptUnfunded, Event
from harkara_contracts.ids import is_message_id
from harkara_contracts.money import to_rupees

PLANS_DECIDED = counter("harkara_billing_plans", "Planned attempts, by what was decided.", ("decision",))

_MAX_USAGE_DAYS = 366
_NEWEST = 2**63 - 1


class Handlers:
    def __init__(self, store: Store, teller: BalanceTeller) -> None:
        self._store = store
        self._teller = teller

    async def on_attempts(self, events: Sequence[Attempt]) -> list[Event]:
        """Reserve for plans, settle for ends; a repeat is answered as it was the first time."""
        answers: list[Event] = [
            fund(event, 0) for event in events if event.test_mode and isinstance(event, AttemptPlanned)
        ]
        paid = [event for event in events if not event.test_mode]
        if not paid:
            return answers
        decided, touched = await self._store.apply(paid, now_utc(), lambda ledger: post(ledger, paid))
        self._teller.mark(touched)
        answers += [
            refuse(event, hold) if hold.state is State.UNFUNDED else fund(event, hold.price_mp)
            for event, hold in decided
        ]
        unfunded = sum(hold.state is State.UNFUNDED for _, hold in decided)
        PLANS_DECIDED.labels("unfunded").inc(unfunded)
        PLANS_DECIDED.labels("funded").inc(len(decided) - unfunded)
        return answers

    async def top_up(self, command: TopUp) -> BalanceReply:
        await self._store.top_up(command.account_id, command.reference, command.amount_mp, now_utc())
        sequence = await self._teller.tell([command.account_id])
        return await self._balance(command.account_id, sequence)

    async def get_balance(self, command: GetBalance) -> BalanceReply:
        return await self._balance(command.account_id, 0)

    async def list_ledger(self, command: ListLedger) -> LedgerReply:
        if command.message_id is not None and not is_message_id(command.message_id):
            raise HarkaraError(ErrorCode.INVALID_REQUEST, "message_id is no message id: it looks like TN20260131…")
        entries = await self._store.entries(
            command.account_id, command.limit + 1, _number(command.cursor), command.message_id
        )
        page = entries[: command.limit]
        return LedgerReply(entries=page, next_cursor=page[-1].entry_id if len(entries) > len(page) else None)

    async def get_usage(self, command: GetUsage) -> UsageReply:
        """Answer the days in IST that [start, end) touches; without a start from the first of the end's month."""
        end = command.end or now_utc()
        if command.start and command.start >= end:
            raise HarkaraError(ErrorCode.INVALID_REQUEST, "`end` must come after `start`")
        last = ist_day(end - timedelta(microseconds=1))
        first = ist_day(command.start) if command.start else first_of_month(last)
        if (last - first).days >= _MAX_USAGE_DAYS:
            raise HarkaraError(ErrorCode.INVALID_REQUEST, f"usage is told for at most {_MAX_USAGE_DAYS} days at once")
        return UsageReply(rows=await self._store.usage(command.account_id, first, last))

    async def _balance(self, account_id: str, sequence: int) -> BalanceReply:
        [balance] = await self._store.balances([account_id], first_of_month(ist_day(now_utc())))
        return BalanceReply(available_mp=balance.available_mp, held_mp=balance.held_mp, facts_sequence=sequence)


def fund(event: AttemptPlanned, price_mp: int) -> AttemptFunded:
    return AttemptFunded(**event.__dict__, price_mp=price_mp)


def refuse(event: AttemptPlanned, hold: Hold) -> AttemptUnfunded:
    """Say why there is no money for an attempt. A price of nothing always fits: it means that none is agreed."""
    if hold.price_mp:
        code = ErrorCode.INSUFFICIENT_CREDITS
        description = (
            f"the balance does not cover this message, which costs ₹{to_rupees(hold.price_mp)}: "
            "top up the account, then send it again"
        )
    else:
        code = ErrorCode.FORBIDDEN
        description = (
            f"the account has no price for {event.category.value} messages by {event.channel.value}: "
            "ask for one to be agreed, or send by another channel"
        )
    return AttemptUnfunded(
        **event.trail(),
        error_code=code.value,
        error_description=description,
        occurred_at=hold.decided_at,
    )


def _number(cursor: str | None) -> int:
    if cursor is None:
        return _NEWEST
    if not cursor.isascii() or not cursor.isdigit() or int(cursor) > _NEWEST:
        raise HarkaraError(
            ErrorCode.INVALID_REQUEST, "this cursor is none of ours: give the next_cursor of an earlier answer"
        )
    return int(cursor)
