"""What clients ask of their batches: how far one is, all of them, and to stop one."""

import asyncio
import time
from collections.abc import Callable
from datetime import datetime

from harkara_chassis.clock import now_utc
from harkara_chassis.publisher import Publisher
from harkara_contracts.errors import ErrorCode, HarkaraError
from harkara_contracts.events import BatchCancelled
from harkara_contracts.ids import is_batch_id
from harkara_contracts.subjects import Lane
from harkara_ingress.access.accounts import Caller
from harkara_ingress.bulk.acceptance import RecentBatches
from harkara_ingress.bulk.progress import counts_by_name
from harkara_ingress.bulk.store import BatchRow, BatchStore, row_of

_LOOK_AGAIN_S = 0.05
_CANCELLED_BY = "client"


class Batches:
    """Batches of accounts, for whichever protocol asks.

    Args:
        store: of batches.
        recent: what this process accepted a moment ago.
        publisher: of the service.
        patience_s: how long to look for a batch nobody knows: another process may have just accepted it.
        timeout_s: how long a cancellation may wait for the bus.
        clock: the time.
    """

    def __init__(
        self,
        store: BatchStore,
        recent: RecentBatches,
        publisher: Publisher,
        *,
        patience_s: float,
        timeout_s: float,
        clock: Callable[[], datetime] = now_utc,
    ) -> None:
        self._store = store
        self._recent = recent
        self._publisher = publisher
        self._patience_s = patience_s
        self._timeout_s = timeout_s
        self._clock = clock

    async def batch(self, account_id: str, batch_id: str) -> BatchRow:
        """Find one.

        Raises:
            HarkaraError: ERR_NOT_FOUND.
        """
        if is_batch_id(batch_id):
            deadline_s = time.monotonic() + self._patience_s
            while (row := await self._known(batch_id)) is None:
                if time.monotonic() >= deadline_s:
                    break
                await asyncio.sleep(_LOOK_AGAIN_S)
            if row is not None and row.account_id == account_id:
                return row
        raise HarkaraError(ErrorCode.NOT_FOUND, "The account has no batch with this id.")

    async def counts(self, row: BatchRow) -> dict[str, int]:
        """Count a batch's recipients by state, those not begun among them."""
        return counts_by_name(row, await self._store.counts(row.batch_id))

    async def page(self, account_id: str, before: tuple[datetime, str], limit: int) -> list[BatchRow]:
        return await self._store.page(account_id, before, limit)

    async def cancel(self, caller: Caller, batch_id: str) -> None:
        """Stop what of a batch has not left. Again, it changes nothing.

        Raises:
            HarkaraError: ERR_NOT_FOUND; ERR_CONFLICT, it is complete; ERR_FORBIDDEN, a test key asks for a live batch;
                ERR_UNAVAILABLE, the bus is away.
        """
        row = await self.batch(caller.account_id, batch_id)
        if caller.test_only and not row.test_mode:
            raise HarkaraError(
                ErrorCode.FORBIDDEN, "A test key cancels test batches only. Use a live key for this batch."
            )
        if row.cancelled_at is not None:
            return
        if row.completed_at is not None:
            raise HarkaraError(
                ErrorCode.CONFLICT, "Every message of this batch has come to its end: nothing is left to cancel."
            )
        event = BatchCancelled(
            batch_id=row.batch_id,
            account_id=row.account_id,
            lane=Lane(row.lane),
            test_mode=row.test_mode,
            correlation_id=row.correlation_id,
            cancelled_by=_CANCELLED_BY,
            cancelled_at=self._clock(),
        )
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._publisher.publish([event])
        except TimeoutError as error:
            raise HarkaraError(
                ErrorCode.UNAVAILABLE, "The batch could not be cancelled in time. Try again shortly."
            ) from error
        # At once, for every process that feeds: the event alone would take its way through the bus first.
        await self._store.learn([event])

    async def _known(self, batch_id: str) -> BatchRow | None:
        row = await self._store.batch(batch_id)
        if row is None and (recent := self._recent.get(batch_id)) is not None:
            return row_of(recent)
        return row
