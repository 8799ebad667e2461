"""Taking back what waits: one message by a command, or all of a batch. And looking after what waits.

The row is cancelled first and told of afterwards. Whoever ends between the two leaves a cancellation that nobody was told
of; it is found at start and now and then, and told by the same event.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta

from harkara_chassis.clock import now_utc
from harkara_chassis.faults import is_passing
from harkara_chassis.metrics import gauge
from harkara_compliance.verdict import State
from harkara_compliance.waiting import Waiting
from harkara_contracts.commands import CancelMessage, Done
from harkara_contracts.errors import ErrorCode, HarkaraError
from harkara_contracts.events import BatchCancelled, Event

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 30.0
FORGET_EVERY_S = 3_600.0
BEING_TOLD = timedelta(seconds=30)
"""Who cancelled so short a time ago is still at telling it."""

OVERDUE = timedelta(minutes=10)
"""A timer that is so late is lost, or this service is behind by as much: somebody should look."""

_OVERDUE = gauge("harkara_messages_overdue", "Messages that still wait ten minutes after their time.")

Publish = Callable[[Sequence[Event]], Awaitable[int]]


class Canceller:
    def __init__(self, waiting: Waiting, publish: Publish, clock: Callable[[], datetime] = now_utc) -> None:
        self._waiting = waiting
        self._publish = publish
        self._clock = clock

    async def cancel_message(self, command: CancelMessage) -> Done:
        """Cancel one message; a repeat of the command is done, too.

        Raises:
            HarkaraError: ERR_NOT_FOUND, no such message of the account waits; ERR_CONFLICT, it has left.
        """
        by = command.actor or command.account_id
        found = await self._waiting.cancel(command.account_id, command.message_id, by, self._clock())
        if found is None:
            raise HarkaraError(ErrorCode.NOT_FOUND, "No message of the account waits under this id.")
        state, untold = found
        if state is State.LEFT:
            raise HarkaraError(
                ErrorCode.CONFLICT, "The message has left. Only what still waits for its time can be cancelled."
            )
        if untold is not None:
            await self._publish([untold])
            await self._waiting.told([untold])
        return Done()

    async def on_batches(self, batches: Sequence[BatchCancelled]) -> Sequence[Event]:
        for batch in batches:
            await self._waiting.cancel_batch(batch)
            await self.tell(batch.batch_id)
        return []

    async def cancel_late(self, batch_ids: set[str]) -> set[str]:
        """Cancel what has come to wait of batches that were cancelled before; return which of these were."""
        cancelled = await self._waiting.cancelled_among(batch_ids)
        for batch_id in cancelled:
            await self._waiting.cancel_rest_of(batch_id)
            await self.tell(batch_id)
        return cancelled

    async def tell(self, batch_id: str | None = None, before: datetime | None = None) -> int:
        """Publish the cancellations that may not have been; return how many."""
        count = 0
        while events := await self._waiting.untold(batch_id, before):
            await self._publish(events)
            await self._waiting.told(events)
            count += len(events)
        return count

    async def run(self) -> None:
        """Tell what somebody left untold, count what is overdue, delete what is of no use any more; for ever."""
        forget_at = 0.0
        clock = asyncio.get_running_loop().time
        while True:
            try:
                count = await self.tell(before=self._clock() - BEING_TOLD)
                if count:
                    logger.warning("cancellations had not been told and are now", extra={"count": count})
                _OVERDUE.set(await self._waiting.overdue(self._clock() - OVERDUE))
                if clock() >= forget_at:
                    await self._waiting.forget(self._clock())
                    forget_at = clock() + FORGET_EVERY_S
            except Exception as error:
                if not is_passing(error):
                    raise
                logger.warning("waiting", extra={"work": "cancellations", "kind": type(error).__name__})
            await asyncio.sleep(LOOK_EVERY_S)
