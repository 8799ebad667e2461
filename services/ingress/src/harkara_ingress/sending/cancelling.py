"""Taking a message back. Compliance keeps what waits and decides; here is told why it could not be done.

A message may be taken back in the same breath it was accepted in, when compliance has not yet seen it. So where this edge
knows of a message that has to wait, it asks again for a short while.
"""

import asyncio
import time
from collections.abc import Callable
from datetime import date, datetime

from harkara_chassis.clock import now_utc
from harkara_contracts.commands import CancelMessage
from harkara_contracts.errors import ErrorCode, HarkaraError
from harkara_contracts.ids import day_of, is_message_id
from harkara_contracts.subjects import Category
from harkara_ingress.access.accounts import Caller
from harkara_ingress.http.owners import Owners, asked_by
from harkara_ingress.sending.acceptance import RecentMessages
from harkara_ingress.status.message_store import MessageStore
from harkara_ingress.status.read_model import MessageRow, MessageState, message_state
from harkara_registry import earliest_departure

PATIENCE_S = 3.0
_ASK_AGAIN_S = 0.05


class Cancelling:
    def __init__(
        self,
        owners: Owners,
        store: MessageStore,
        recent: RecentMessages,
        accepted_elsewhere_s: float,
        clock: Callable[[], datetime] = now_utc,
    ) -> None:
        self._owners = owners
        self._store = store
        self._recent = recent
        self._accepted_elsewhere_s = accepted_elsewhere_s
        self._clock = clock

    async def cancel(self, caller: Caller, message_id: str) -> None:
        """Cancel a message that has not left; that it was cancelled before is no error.

        Raises:
            HarkaraError: ERR_NOT_FOUND; ERR_CONFLICT, it has left or ended; ERR_FORBIDDEN, a test key asks for a live
                message; ERR_UNAVAILABLE, it is not known yet whether it waits.
        """
        day = _day(message_id)
        asked_at = time.monotonic()
        while True:
            # Looked up before it is asked for: what the status shows as deferred, compliance has written down by then.
            row = await self._find(caller, day, message_id)
            if row is not None and not may_be_here(row):
                raise _has_left()
            if self._may_ask(caller, row) and await self._is_cancelled(caller, message_id):
                return
            waited_s = time.monotonic() - asked_at
            if row is None:
                if waited_s >= self._accepted_elsewhere_s:
                    raise _not_found()
            elif row.rank == MessageState.CANCELLED:
                return  # so long ago that its owner has forgotten it
            elif not is_expected_to_wait(row, self._clock()):
                raise _has_left()
            elif waited_s >= PATIENCE_S:
                raise HarkaraError(
                    ErrorCode.UNAVAILABLE,
                    "The message is still being taken in and was not cancelled. Try again shortly.",
                )
            await asyncio.sleep(_ASK_AGAIN_S)

    def _may_ask(self, caller: Caller, row: MessageRow | None) -> bool:
        """Tell whether a caller may cancel a message, as far as that is known; a test key needs to see it."""
        if not caller.test_only:
            return True
        if row is not None and not row.test_mode:
            raise HarkaraError(
                ErrorCode.FORBIDDEN, "A test key cancels test messages only. Use a live key for this message."
            )
        return row is not None

    async def _is_cancelled(self, caller: Caller, message_id: str) -> bool:
        try:
            await self._owners.ask(CancelMessage(**asked_by(caller), message_id=message_id))
        except HarkaraError as error:
            if error.code is not ErrorCode.NOT_FOUND:
                raise
            return False
        return True

    async def _find(self, caller: Caller, day: date, message_id: str) -> MessageRow | None:
        """Find a message of the caller's; its rank tells of its attempts, too."""
        row = await self._store.message(day, message_id) or self._recent.get(message_id)
        if row is None or row.account_id != caller.account_id:
            return None
        attempts = await self._store.attempts(day, message_id)
        return row._replace(rank=message_state(row.rank, [attempt.rank for attempt in attempts]))


def may_be_here(row: MessageRow) -> bool:
    """Tell whether nobody is known to have tried to send a message, or to have refused to."""
    return row.rank <= MessageState.DEFERRED or row.rank == MessageState.CANCELLED


def is_expected_to_wait(row: MessageRow, now: datetime) -> bool:
    """Tell whether a message was accepted for later, and nothing is known yet of what became of it.

    One that is known to be deferred is not: its owner has it, or has had it.
    """
    if row.rank != MessageState.ACCEPTED or row.category is None or row.accepted_at is None:
        return False
    return earliest_departure(Category(row.category), row.send_at, row.accepted_at) > now


def _day(message_id: str) -> date:
    try:
        if is_message_id(message_id):
            return day_of(message_id)
    except ValueError:
        pass  # eight digits that are no day
    raise _not_found()


def _has_left() -> HarkaraError:
    return HarkaraError(
        ErrorCode.CONFLICT,
        "The message has left, or has come to its end. Only what still waits for its time can be cancelled.",
    )


def _not_found() -> HarkaraError:
    return HarkaraError(ErrorCode.NOT_FOUND, "The account has no message with this id.")
