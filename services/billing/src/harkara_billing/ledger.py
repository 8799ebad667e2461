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
from typing import Protocol, cast

from harkara_billing.price_book import NoPriceError, PriceBook, first_of_month, ist_day
from harkara_contracts.events import AttemptDelivered, AttemptFailed, AttemptPlanned, AttemptRead, AttemptSent
from harkara_contracts.ids import day_of
from harkara_contracts.subjects import Category, Channel


class Attempt(Protocol):
    """What the ledger needs of any event of an attempt; a plan is an AttemptPlanned, a failure has what `Failed` has."""

    @property
    def event(self) -> str: ...
    @property
    def attempt_id(self) -> str: ...
    @property
    def account_id(self) -> str: ...
    @property
    def channel(self) -> Channel: ...
    @property
    def category(self) -> Category: ...
    @property
    def test_mode(self) -> bool: ...


class Failed(Attempt, Protocol):
    @property
    def error_code(self) -> str: ...
    @property
    def left(self) -> bool: ...


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


def share(account: str, kind: Kind) -> int:
    """Return what a kind of transfer does to a ledger account: 1 gives to it, -1 takes from it, 0 leaves it alone."""
    return (POSTINGS[kind].credit == account) - (POSTINGS[kind].debit == account)


_IN_WALLET = {kind: share("wallet", kind) for kind in Kind}
_IN_HELD = {kind: share("held", kind) for kind in Kind}
_LINE_OF = {
    Kind.HOLD: "held_line",
    Kind.CAPTURE: "ended_line",
    Kind.RELEASE: "ended_line",
    Kind.REFUND: "refunded_line",
}

# Everything that is not here changes nothing: that is what makes repeats and late receipts harmless.
_MOVES: dict[tuple[State, End], tuple[State, Kind | None]] = {
    (State.HELD, End.CHARGE): (State.CAPTURED, Kind.CAPTURE),
    (State.HELD, End.FREE): (State.RELEASED, Kind.RELEASE),
    (State.CAPTURED, End.FREE): (State.REFUNDED, Kind.REFUND),
    (State.CHARGE_EARLY, End.FREE): (State.FREE_EARLY, None),
}
_CHARGED = frozenset({AttemptSent.event, AttemptDelivered.event, AttemptRead.event})
_EARLY = {State.CHARGE_EARLY: End.CHARGE, State.FREE_EARLY: End.FREE}
_STATE_WHEN_EARLY = {end: state for state, end in _EARLY.items()}


@dataclass(slots=True)
class Wallet:
    """What an account has. `lines` counts its ledger lines, `version` the writes that changed anything of the account."""

    available_mp: int
    held_mp: int
    lines: int = field(default=0, compare=False)
    version: int = field(default=0, compare=False)


@dataclass(slots=True)
class Hold:
    """An attempt as billing knows it. `day` is its message's, `planned_on` the day in IST that its volume counts for.

    The three lines are the numbers, within the account's ledger, of the transfers that moved its money.
    """

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
    held_line: int | None = None
    ended_line: int | None = None
    refunded_line: int | None = None


@dataclass(slots=True)
class Transfer:
    """One line of an account's ledger."""

    account_id: str
    reference: str
    kind: Kind
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


def end_of(event: Attempt, book: PriceBook) -> End | None:
    """Return how an event ends its attempt, None where it leaves that open (planned, unknown).

    Delivered and read imply that it was sent, whether or not that was ever seen.
    """
    if event.event in _CHARGED:
        return End.CHARGE
    if event.event == AttemptFailed.event:
        failed = cast("Failed", event)
        return End.CHARGE if failed.left and book.bills_failure(failed.error_code) else End.FREE
    return None


@dataclass(slots=True)
class Ledger:
    """The part of the ledger that one batch touches, as it stands in the hands of who has locked it.

    Events are applied in their order; `added`, `moved`, `transfers`, `volume_changes`, `usage_changes` and the wallets then
    say what to write. `wallets` has every account of the batch, `volumes` all that its plans count for.

    What changes nothing here changes nothing later either: states only ever go on. So a batch that leaves `changed` empty
    was decided rightly even if `holds` was out of date.
    """

    book: PriceBook
    now: datetime
    wallets: dict[str, Wallet]
    holds: dict[str, Hold]
    volumes: dict[VolumeKey, int]
    added: dict[str, Hold] = field(default_factory=dict)
    moved: dict[str, State] = field(default_factory=dict)
    """Attempts that were known, with the state they were in."""
    replaced: set[str] = field(default_factory=set)
    """Of those added the ones whose end had come, and was kept, before their plan."""
    transfers: list[Transfer] = field(default_factory=list)
    volume_changes: defaultdict[VolumeKey, int] = field(default_factory=lambda: defaultdict(int))
    usage_changes: defaultdict[UsageKey, Usage] = field(default_factory=lambda: defaultdict(Usage))

    @property
    def changed(self) -> set[str]:
        """The accounts of which anything is to be written."""
        accounts = {hold.account_id for hold in self.added.values()}
        accounts.update([self.holds[attempt_id].account_id for attempt_id in self.moved])
        return accounts

    def plan(self, event: AttemptPlanned) -> Hold:
        """Reserve an attempt's price, or find what was decided when the same plan came before."""
        known = self.holds.get(event.attempt_id)
        if known is None:
            return self._reserve(event)
        if known.state in _EARLY:
            if self.added.pop(event.attempt_id, None) is None:
                self.moved.pop(event.attempt_id, None)
                self.replaced.add(event.attempt_id)
            hold = self._reserve(event)
            self._end(hold, _EARLY[known.state])
            return hold
        return known

    def settle(self, event: Attempt, end: End) -> None:
        """Apply the end of an attempt."""
        hold = self.holds.get(event.attempt_id)
        if hold is not None:
            self._end(hold, end)
            return
        self._add(
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
        self._add(hold)
        try:
            column = self.book.column(event.channel, event.category, event.account_id)
        except NoPriceError:
            return hold
        hold.price_mp = column.price_mp(self.volumes.setdefault(volume, 0), event.units)
        if hold.price_mp <= self.wallets[event.account_id].available_mp:
            hold.state = State.HELD
            self._transfer(hold, Kind.HOLD)
            self._count(hold, event.units)
        return hold

    def _end(self, hold: Hold, end: End) -> None:
        move = _MOVES.get((hold.state, end))
        if move is None:
            return
        if hold.attempt_id not in self.added:
            self.moved.setdefault(hold.attempt_id, hold.state)
        hold.state, kind = move
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

    def _add(self, hold: Hold) -> None:
        self.holds[hold.attempt_id] = self.added[hold.attempt_id] = hold

    def _count(self, hold: Hold, units: int) -> None:
        key = (hold.account_id, first_of_month(hold.planned_on), hold.channel)
        self.volume_changes[key] += units
        if key in self.volumes:  # else nothing of this batch is priced by it, and it is not known
            self.volumes[key] += units

    def _transfer(self, hold: Hold, kind: Kind) -> None:
        if hold.price_mp == 0:
            return
        wallet = self.wallets[hold.account_id]
        wallet.available_mp += hold.price_mp * _IN_WALLET[kind]
        wallet.held_mp += hold.price_mp * _IN_HELD[kind]
        wallet.lines += 1
        setattr(hold, _LINE_OF[kind], wallet.lines)
        self.transfers.append(Transfer(hold.account_id, hold.attempt_id, kind, hold.price_mp, hold.units))


def post(ledger: Ledger, events: Iterable[Attempt]) -> list[tuple[AttemptPlanned, Hold]]:
    """Apply a batch in its order and return every plan with what was decided about it."""
    decided = []
    for event in events:
        if isinstance(event, AttemptPlanned):
            decided.append((event, ledger.plan(event)))
        elif (end := end_of(event, ledger.book)) is not None:
            ledger.settle(event, end)
    return decided
