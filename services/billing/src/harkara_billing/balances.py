"""Tells the other services what an account can spend: the last value of its balance, as a fact.

A busy account changes thousands of times a second, and only its last value matters: changed accounts are gathered and
told together every 200 ms. Whatever a crash, a new month or a new price book left untold shows as a difference between
the tables and our own facts, so those are compared at start and at the turn of the month.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from datetime import date, datetime

from harkara_billing.price_book import PriceBook, first_of_month, ist_day
from harkara_billing.store import Balance, Store
from harkara_chassis.clock import now_utc
from harkara_chassis.faults import is_passing
from harkara_contracts.facts import BalanceFact

logger = logging.getLogger(__name__)

TELL_EVERY_S = 0.2
_LOOK_AT_CALENDAR_S = 60.0
_RETRY_S = 1.0
_PUBLISH_TIMEOUT_S = 5.0
_PAGE = 500

Publish = Callable[[Sequence[BalanceFact]], Awaitable[int]]
Told = Callable[[str], BalanceFact | None]


class BalanceTeller:
    """Publishes balance facts. `publish` returns the highest sequence in the stream, `told` an account's last fact."""

    def __init__(
        self,
        store: Store,
        book: PriceBook,
        publish: Publish,
        told: Told,
        clock: Callable[[], datetime] = now_utc,
    ) -> None:
        self._store = store
        self._book = book
        self._publish = publish
        self._told = told
        self._clock = clock
        self._changed: set[str] = set()
        self._wake = asyncio.Event()

    def mark(self, accounts: Iterable[str]) -> None:
        """Have these accounts told soon."""
        self._changed.update(accounts)
        if self._changed:
            self._wake.set()

    async def tell(self, accounts: Collection[str]) -> int:
        """Publish these accounts' balances now, and return the place in the stream that shows them.

        Raises:
            TimeoutError: the bus did not take them in time. As after any failure, they are told later.
        """
        try:
            async with self._store.telling(accounts, self._month()) as balances:
                # Bounded, since other instances wait meanwhile.
                async with asyncio.timeout(_PUBLISH_TIMEOUT_S):
                    return await self._publish([self._fact(balance) for balance in balances])
        except BaseException:
            self.mark(accounts)
            raise

    async def run(self) -> None:
        """Tell what was left untold, then what changes, for ever."""
        month: date | None = None
        while True:
            try:
                if month != self._month():
                    await self._mark_untold()
                    month = self._month()
                await self._tell_changed()
            except Exception as error:
                if not is_passing(error):
                    raise
                logger.warning("balances cannot be told yet", extra={"kind": type(error).__name__})
                await asyncio.sleep(_RETRY_S)
                continue
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), _LOOK_AT_CALENDAR_S)
            await asyncio.sleep(TELL_EVERY_S)

    async def _tell_changed(self) -> None:
        self._wake.clear()
        changed = sorted(self._changed)
        for start in range(0, len(changed), _PAGE):
            page = changed[start : start + _PAGE]
            # Before they are read: what changes from here on is told next time.
            self._changed.difference_update(page)
            await self.tell(page)

    async def _mark_untold(self) -> None:
        last = ""
        while page := await self._store.accounts_after(last, _PAGE):
            for balance in await self._store.balances(page, self._month()):
                told = self._told(balance.account_id)
                fact = self._fact(balance)
                if told is None or (told.available_mp, told.unit_price_mp) != (fact.available_mp, fact.unit_price_mp):
                    self.mark([balance.account_id])
            last = page[-1]

    def _fact(self, balance: Balance) -> BalanceFact:
        told = self._told(balance.account_id)
        return BalanceFact(
            # Above the last one whatever the clock says: one that was set back would have all that follows passed over.
            version=max(time.time_ns(), told.version + 1 if told else 0),
            account_id=balance.account_id,
            available_mp=balance.available_mp,
            unit_price_mp=self._book.unit_prices_mp(balance.account_id, balance.volumes),
        )

    def _month(self) -> date:
        return first_of_month(ist_day(self._clock()))
