"""What this process wrote last about accounts and attempts, so that the next batch need not read it.

Another process may have written since. So a ledger made of this is written under the condition that each account that
changes still has the version, and each attempt the state, that it has here; else the batch is decided anew on the rows
(`store.py`). An account that others write, too, is not remembered: trying in vain costs more than reading.

What is given out is forgotten until it is kept again, so a ledger that came to nothing leaves no trace here.
"""

from collections.abc import Sequence
from datetime import date, datetime
from typing import TypeVar

from harkara_billing.ledger import Attempt, Hold, Ledger, VolumeKey, Wallet
from harkara_billing.price_book import PriceBook
from harkara_contracts.events import AttemptPlanned

_MAX_ACCOUNTS = 4_096
_MAX_HOLDS = 32_768
"""About 15 MB: what is under way for half a minute at a thousand messages a second."""

V = TypeVar("V")

Volumes = dict[tuple[date, str], int]
"""Of one account by month and channel."""


class Memory:
    """Accounts and attempts as this process wrote them last; bounded, the oldest go first."""

    def __init__(self, book: PriceBook) -> None:
        self._book = book
        self._versions: dict[str, int] = {}
        self._accounts: dict[str, tuple[Wallet, Volumes]] = {}
        self._holds: dict[str, Hold] = {}

    def take(self, attempts: Sequence[Attempt], now: datetime) -> Ledger | None:
        """Give a ledger for a batch, or None where its accounts or the attempts that end are not all remembered.

        An attempt that is planned and not remembered is taken for new; the key of its row tells if it was not. A volume
        that is not remembered is missing in `volumes`.
        """
        accounts = {attempt.account_id for attempt in attempts}
        if not accounts <= self._accounts.keys():
            return None
        planned = {attempt.attempt_id for attempt in attempts if attempt.event == AttemptPlanned.event}
        named = planned.union([attempt.attempt_id for attempt in attempts])
        if not named - planned <= self._holds.keys():
            return None
        wallets: dict[str, Wallet] = {}
        volumes: dict[VolumeKey, int] = {}
        for account_id in accounts:
            wallets[account_id], known = self._accounts.pop(account_id)
            for (month, channel), units in known.items():
                volumes[account_id, month, channel] = units
        holds = {one: self._holds.pop(one) for one in named if one in self._holds}
        return Ledger(self._book, now, wallets, holds, volumes)

    def keep(self, ledger: Ledger, *, was_read: bool) -> None:
        """Remember a ledger that was written.

        Args:
            ledger: with the wallets' versions before it was written.
            was_read: it was made of rows, so that others may have written an account since we did.
        """
        volumes: dict[str, Volumes] = {account_id: {} for account_id in ledger.wallets}
        for (account_id, month, channel), units in ledger.volumes.items():
            volumes[account_id][month, channel] = units
        changed = ledger.changed
        for account_id, wallet in ledger.wallets.items():
            before = wallet.version
            wallet.version += account_id in changed
            last = self._versions.get(account_id, before)
            if wallet.version < last:
                continue  # a batch of another lane was written later and came here first
            self._versions[account_id] = wallet.version
            if last == before or not was_read:
                self._accounts[account_id] = (wallet, volumes[account_id])
        self._holds.update(ledger.holds)
        _drop_oldest(self._versions, _MAX_ACCOUNTS)
        _drop_oldest(self._accounts, _MAX_ACCOUNTS)
        _drop_oldest(self._holds, _MAX_HOLDS)


def _drop_oldest(memory: dict[str, V], size: int) -> None:
    while len(memory) > size:
        del memory[next(iter(memory))]
