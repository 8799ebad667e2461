"""The ledger's rules: what a reservation, a capture, a release and a refund do to an account's money. Pure.

Four ledger accounts: `wallet` and `held` of each client, `topups` and `revenue` of the platform. Every movement is one
transfer with a debit and a credit side, so the sum over all ledger accounts is zero by construction.

An attempt's money goes one way only:

    planned ──> held ──> captured ──> refunded
        │         └────> released
        └─> unfunded

What ends an attempt is either a charge (the carrier took it) or free (it never left, or the price book does not bill
that failure), and free outweighs charge. So every order of the same events, however often each comes, leaves the same
sums. Even an end that comes before its plan is kept, and applied when the plan arrives.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import Enum, StrEnum

from harkara_billing.price_book import NoPriceError, PriceBook, first_of_month, ist_day
from harkara_contracts.events import (
    AttemptDelivered,
    AttemptEvent,
    AttemptFailed,
    AttemptPlanned,
    AttemptRead,
    AttemptSent,
)
from harkara_contracts.ids import day_of


class State(StrEnum):
    HELD = "held"
    CAPTURED = "captured"
    RELEASED = "released"
    REFUNDED = "refunded"
    UNFUNDED = "unfunded"
    CHARGE_EARLY = "charge_early"
    FREE_EARLY = "free_early"


class End(Enum):
    CHARGE = "charge"
    FREE = "free"


class Kind(StrEnum):
    TOPUP = "topup"
    HOLD = "hold"
    CAPTURE = "capture"
    RELEASE = "release"
    REFUND = "refund"


@dataclass(frozen=True, slots=True)
class Posting:
    """The ledger accounts a kind of transfer debits (takes from) and credits (gives to)."""

    debit: str
    credit: str


POSTINGS = {
    Kind.TOPUP: Posting("topups", "wallet"),
    Kind.HOLD: Posting("wallet", "held"),
    Kind.CAPTURE: Posting("held", "revenue"),
    Kind.RELEASE: Posting("held", "wallet"),
    Kind.REFUND: Posting("revenue", "wallet"),
}

# Everything that is not here changes nothing: that is what makes repeats and late receipts harmless.
_MOVES: dict[tuple[State, End], tuple[State, Kind | None]] = {
    (State.HELD, End.CHARGE): (State.CAPTURED, Kind.CAPTURE),
    (State.HELD, End.FREE): (State.RELEASED, Kind.RELEASE),
    (State.CAPTURED, End.FREE): (State.REFUNDED, Kind.REFUND),
    (State.CHARGE_EARLY, End.FREE): (State.FREE_EARLY, None),
}
_EARLY = {State.CHARGE_EARLY: End.CHARGE, State.FREE_EARLY: End.FREE}
_STATE_WHEN_EARLY = {end: state for state, end in _EARLY.items()}


@dataclass(slots=True)
class Wallet:
    available_mp: int
    held_mp: int


@dataclass(slots=True)
class Hold:
    """An attempt as billing knows it. `day` is its message's, `planned_on` the day in IST that its volume counts for."""

    attempt_id: str
    day: date
    account_id: str
    channel: str
    category: str
    units: int
    price_mp: int
    planned_on: date
    state: State
    decided_at: datetime


@dataclass(frozen=True, slots=True)
class Transfer:
    account_id: str
    reference: str
    kind: Kind
    day: date
    amount_mp: int
    units: int


@dataclass(slots=True)
class Usage:
    units: int = 0
    amount_mp: int = 0


VolumeKey = tuple[str, date, str]
"""Account, first day of the month (IST), channel."""
UsageKey = tuple[str, date, str, str]
"""Account, day (IST), channel, category."""


def end_of(event: AttemptEvent, book: PriceBook) -> End | None:
    """Return how an event ends its attempt, None where it leaves that open (planned, unknown).

    Delivered and read imply that it was sent, whether or not that was ever seen.
    """
    if isinstance(event, AttemptSent | AttemptDelivered | AttemptRead):
        return End.CHARGE
    if isinstance(event, AttemptFailed):
        return End.CHARGE if event.left and book.bills_failure(event.error_code) else End.FREE
    return None


@dataclass(slots=True)
class Ledger:
    """The part of the ledger that one batch touches, as it stands in the hands of who has locked it.

    Events are applied in their order; `changed`, `transfers`, `volume_changes`, `usage_changes` and the wallets then say
    what to write. `wallets` has every account of the batch.
    """

    book: PriceBook
    now: datetime
    wallets: dict[str, Wallet]
    holds: dict[str, Hold]
    volumes: dict[VolumeKey, int]
    changed: dict[str, Hold] = field(default_factory=dict)
    transfers: list[Transfer] = field(default_factory=list)
    volume_changes: defaultdict[VolumeKey, int] = field(default_factory=lambda: defaultdict(int))
    usage_changes: defaultdict[UsageKey, Usage] = field(default_factory=lambda: defaultdict(Usage))

    def plan(self, event: AttemptPlanned) -> Hold:
        """Reserve an attempt's price, or find what was decided when the same plan came before."""
        known = self.holds.get(event.attempt_id)
        if known is None:
            return self._reserve(event)
        if known.state in _EARLY:
            hold = self._reserve(event)
            self._end(hold, _EARLY[known.state])
            return hold
        return known

    def settle(self, event: AttemptEvent, end: End) -> None:
        """Apply the end of an attempt."""
        hold = self.holds.get(event.attempt_id)
        if hold is not None:
            self._end(hold, end)
            return
        self._keep(
            Hold(
                attempt_id=event.attempt_id,
                day=day_of(event.attempt_id),
                account_id=event.account_id,
                channel=event.channel.value,
                category=event.category.value,
                units=0,
                price_mp=0,
                planned_on=ist_day(self.now),
                state=_STATE_WHEN_EARLY[end],
                decided_at=self.now,
            )
        )

    def _reserve(self, event: AttemptPlanned) -> Hold:
        planned_on = ist_day(event.planned_at)
        volume = (event.account_id, first_of_month(planned_on), event.channel.value)
        hold = Hold(
            attempt_id=event.attempt_id,
            day=day_of(event.attempt_id),
            account_id=event.account_id,
            channel=event.channel.value,
            category=event.category.value,
            units=event.units,
            price_mp=0,
            planned_on=planned_on,
            state=State.UNFUNDED,
            decided_at=self.now,
        )
        self._keep(hold)
        try:
            column = self.book.column(event.channel, event.category, event.account_id)
        except NoPriceError:
            return hold
        hold.price_mp = column.price_mp(self.volumes.get(volume, 0), event.units)
        if hold.price_mp <= self.wallets[event.account_id].available_mp:
            hold.state = State.HELD
            self._transfer(hold, Kind.HOLD)
            self._count(hold, event.units)
        return hold

    def _end(self, hold: Hold, end: End) -> None:
        move = _MOVES.get((hold.state, end))
        if move is None:
            return
        hold.state, kind = move
        self._keep(hold)
        if kind is None:
            return
        self._transfer(hold, kind)
        if kind is not Kind.CAPTURE:
            self._count(hold, -hold.units)
        if kind is not Kind.RELEASE:
            sign = 1 if kind is Kind.CAPTURE else -1
            usage = self.usage_changes[hold.account_id, hold.planned_on, hold.channel, hold.category]
            usage.units += sign * hold.units
            usage.amount_mp += sign * hold.price_mp

    def _keep(self, hold: Hold) -> None:
        self.holds[hold.attempt_id] = self.changed[hold.attempt_id] = hold

    def _count(self, hold: Hold, units: int) -> None:
        key = (hold.account_id, first_of_month(hold.planned_on), hold.channel)
        self.volumes[key] = self.volumes.get(key, 0) + units
        self.volume_changes[key] += units

    def _transfer(self, hold: Hold, kind: Kind) -> None:
        if hold.price_mp == 0:
            return
        posting = POSTINGS[kind]
        wallet = self.wallets[hold.account_id]
        change = {posting.debit: -hold.price_mp, posting.credit: hold.price_mp}
        wallet.available_mp += change.get("wallet", 0)
        wallet.held_mp += change.get("held", 0)
        self.transfers.append(Transfer(hold.account_id, hold.attempt_id, kind, hold.day, hold.price_mp, hold.units))


def post(ledger: Ledger, events: Iterable[AttemptEvent]) -> list[tuple[AttemptPlanned, Hold]]:
    """Apply a batch in its order and return every plan with what was decided about it."""
    decided = []
    for event in events:
        if isinstance(event, AttemptPlanned):
            decided.append((event, ledger.plan(event)))
        elif (end := end_of(event, ledger.book)) is not None:
            ledger.settle(event, end)
    return decided
