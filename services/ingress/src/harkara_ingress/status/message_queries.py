"""What became of messages, as clients are told: one answer for every way of asking.

A page is found by where the last one ended (time of acceptance and id), never by counting rows: what comes in between two
pages moves nothing.
"""

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from harkara_chassis.clock import now_utc
from harkara_contracts.errors import ErrorCode, HarkaraError
from harkara_contracts.ids import day_of, day_of_batch, is_batch_id, is_message_id
from harkara_contracts.subjects import Category, Channel
from harkara_ingress.http.common import Cursor, Instant, Paise, paise
from harkara_ingress.sending.acceptance import RecentMessages
from harkara_ingress.status.cursor import cursor_after, read_cursor
from harkara_ingress.status.message_search import Query
from harkara_ingress.status.message_store import MessageStore
from harkara_ingress.status.read_model import (
    AttemptRow,
    MessageRow,
    MessageState,
    attempt_state_name,
    cost_mp,
    message_state,
    total_cost_mp,
)

_MAX_RANGE = timedelta(days=31)
_DEFAULT_RANGE = timedelta(days=7)
_FIRST_DAY = date(2000, 1, 1)
_LOOK_AGAIN_S = 0.05
_MILLISECOND = timedelta(milliseconds=1)
_SCHEDULED = "scheduled"
StateName = Annotated[
    str, Field(pattern=f"^({'|'.join([*(state.name.lower() for state in MessageState), _SCHEDULED])})$")
]


def _known_form(batch_id: str) -> str:
    # At the beginning of the calendar there is no day before.
    if not is_batch_id(batch_id) or day_of_batch(batch_id) < _FIRST_DAY:
        raise ValueError("a batch id starts with BATCH and the day it was made")
    return batch_id


BatchId = Annotated[str, Field(max_length=64), AfterValidator(_known_form)]
CorrelationId = Annotated[str, Field(max_length=128, pattern=r"^[^\x00-\x1f\x7f]*$")]


_EXAMPLE_ATTEMPT: dict[str, Any] = {
    "attempt": 1,
    "channel": "sms",
    "carrier": "jio",
    "state": "delivered",
    "parts": 1,
    "cost_paise": 22,
    "planned_at": "2026-11-22T10:44:56.208Z",
    "sent_at": "2026-11-22T10:44:56.231Z",
    "delivered_at": "2026-11-22T10:44:59.322Z",
    "read_at": None,
    "failed_at": None,
    "carrier_code": "000",
    "error_code": None,
    "error_description": None,
}
_EXAMPLE: dict[str, Any] = {
    "message_id": "TN20261122B8Q0JY7RSTKBRZ7B4",
    "state": "delivered",
    "category": "transactional",
    "channels": ["sms"],
    "channel": "sms",
    "carrier": "jio",
    "correlation_id": "order-12345",
    "batch_id": None,
    "test_mode": False,
    "parts": 1,
    "cost_paise": 22,
    "accepted_at": "2026-11-22T10:44:56.202Z",
    "scheduled_at": None,
    "deferred_until": None,
    "deferred_reason": None,
    "expires_at": "2026-11-23T10:44:56.202Z",
    "delivered_at": "2026-11-22T10:44:59.322Z",
    "read_at": None,
    "failed_at": None,
    "cancelled_at": None,
    "error_code": None,
    "error_description": None,
}


class AttemptStatus(BaseModel):
    """One hand-over to one carrier. `cost_paise` is its price once a carrier took it; the ledger has the last word."""

    attempt: int
    channel: str
    carrier: str
    state: str
    parts: int | None
    cost_paise: Paise
    planned_at: datetime | None
    sent_at: datetime | None
    delivered_at: datetime | None
    read_at: datetime | None
    failed_at: datetime | None
    carrier_code: str | None
    error_code: str | None
    error_description: str | None


class MessageSummary(BaseModel):
    """A message as far as it has come. `channel` is the one that delivered, or that failed last.

    `failed_at` is when it failed, was refused or ran out; one that was cancelled has `cancelled_at` in its place.
    """

    message_id: str
    state: str
    category: str | None
    channels: list[str]
    channel: str | None
    carrier: str | None
    correlation_id: str | None
    batch_id: str | None
    test_mode: bool
    parts: int | None
    cost_paise: Paise
    accepted_at: datetime | None
    scheduled_at: datetime | None
    deferred_until: datetime | None
    deferred_reason: str | None
    expires_at: datetime | None
    delivered_at: datetime | None
    read_at: datetime | None
    failed_at: datetime | None
    cancelled_at: datetime | None
    error_code: str | None
    error_description: str | None


class MessageStatus(MessageSummary):
    """A message with every attempt at it. `latency_ms` is from the 202 to the handset."""

    model_config = ConfigDict(
        json_schema_extra={"example": {**_EXAMPLE, "latency_ms": 3_120, "attempts": [_EXAMPLE_ATTEMPT]}}
    )

    latency_ms: int | None
    attempts: list[AttemptStatus]


class MessagePage(BaseModel):
    """Newest first; `next_cursor` leads on, null at the end."""

    model_config = ConfigDict(json_schema_extra={"example": {"messages": [_EXAMPLE], "next_cursor": None}})

    messages: list[MessageSummary]
    next_cursor: str | None


class MessageFilter(BaseModel):
    """Which messages: those accepted in [start, end), the last seven days unless told otherwise, at most 31.

    With `batch_id` and no times it is the whole batch. `state` is one of a message's, or `scheduled`: deferred until the
    time that its sender asked for. `channel` is any of those a message may go by.
    """

    start: Instant | None = None
    end: Instant | None = None
    state: StateName | None = None
    channel: Channel | None = None
    category: Category | None = None
    correlation_id: CorrelationId | None = None
    batch_id: BatchId | None = None
    error_code: Annotated[str, Field(pattern=r"^ERR_[A-Z_]{1,60}$")] | None = None
    test_mode: bool | None = None
    cursor: Cursor | None = None
    limit: Annotated[int, Field(ge=1, le=200)] = 50


class MessageQueries:
    def __init__(self, store: MessageStore, recent: RecentMessages, accepted_elsewhere_s: float) -> None:
        self._store = store
        self._recent = recent
        self._accepted_elsewhere_s = accepted_elsewhere_s

    async def status(self, account_id: str, message_id: str) -> MessageStatus:
        """Tell the state of a message and every attempt at it.

        Raises:
            HarkaraError: ERR_NOT_FOUND, no id, or no message of this account.
        """
        day = _day(message_id)
        row = await self._find(day, message_id)
        if row is None or row.account_id != account_id:
            raise HarkaraError(ErrorCode.NOT_FOUND, "The account has no message with this id.")
        return status_of(row, await self._store.attempts(day, message_id))

    async def page(self, account_id: str, wanted: MessageFilter) -> MessagePage:
        """List an account's messages, newest first.

        Raises:
            HarkaraError: ERR_INVALID_REQUEST, a range that is empty or too long, or a cursor that is none of ours.
        """
        listed = await self._store.page(_query(account_id, wanted))
        following = None
        if len(listed) == wanted.limit:
            last = listed[-1].row
            following = cursor_after(last.accepted_at, last.message_id)
        found = [MessageSummary(**_summary(one.row, one.state, one.cost_mp, one.units)) for one in listed]
        return MessagePage(messages=found, next_cursor=following)

    async def _find(self, day: date, message_id: str) -> MessageRow | None:
        """Find a message; one that another process has just accepted may still be on its way to the table."""
        deadline = time.monotonic() + self._accepted_elsewhere_s
        while (row := await self._store.message(day, message_id) or self._recent.get(message_id)) is None:
            if time.monotonic() >= deadline:
                return None
            await asyncio.sleep(_LOOK_AGAIN_S)
        return row


def status_of(row: MessageRow, attempts: Sequence[AttemptRow]) -> MessageStatus:
    """Tell a message from its row and those of its attempts, in the order of their numbers."""
    state = message_state(row.rank, [attempt.rank for attempt in attempts])
    parts = attempts[-1].units if attempts else None
    latency = row.delivered_at - row.accepted_at if row.delivered_at and row.accepted_at else None
    return MessageStatus(
        **_summary(row, state, total_cost_mp(attempts), parts),
        latency_ms=None if latency is None else max(0, (latency + _MILLISECOND / 2) // _MILLISECOND),
        attempts=[_attempt(attempt) for attempt in attempts],
    )


def checked_range(start: datetime | None, end: datetime | None) -> tuple[datetime, datetime]:
    """Return the range that is meant: the last seven days, or all that may be asked for after a `start` alone.

    Raises:
        HarkaraError: ERR_INVALID_REQUEST, it is none or too long.
    """
    last = end or (min(now_utc(), start + _MAX_RANGE) if start else now_utc())
    first = start or last - _DEFAULT_RANGE
    if not timedelta() < last - first <= _MAX_RANGE:
        raise HarkaraError(
            ErrorCode.INVALID_REQUEST, f"`end` must come after `start`, at most {_MAX_RANGE.days} days after."
        )
    return first, last


def _query(account_id: str, wanted: MessageFilter) -> Query:
    start: datetime
    end: datetime | None
    if wanted.batch_id is None or wanted.start or wanted.end:
        start, end = checked_range(wanted.start, wanted.end)
    else:
        start, end = _day_of_batch(wanted.batch_id), None
    is_scheduled = wanted.state == _SCHEDULED
    return Query(
        account_id=account_id,
        start=start,
        end=end,
        state=_state(wanted.state),
        deferred_reason=_SCHEDULED if is_scheduled else None,
        channel=wanted.channel,
        category=wanted.category,
        correlation_id=wanted.correlation_id,
        batch_id=wanted.batch_id,
        error_code=wanted.error_code,
        test_mode=wanted.test_mode,
        before=read_cursor(wanted.cursor, is_message_id) if wanted.cursor else None,
        limit=wanted.limit,
    )


def _day_of_batch(batch_id: str) -> datetime:
    """Return the start of the day that a batch was made on: none of its messages is older."""
    return datetime.combine(day_of_batch(batch_id), datetime.min.time(), UTC)


def _state(name: str | None) -> MessageState | None:
    if name is None:
        return None
    return MessageState.DEFERRED if name == _SCHEDULED else MessageState[name.upper()]


def _day(message_id: str) -> date:
    if is_message_id(message_id):
        return day_of(message_id)
    raise HarkaraError(ErrorCode.NOT_FOUND, "This is no message id: they start with TN and the day they were made.")


def _summary(row: MessageRow, state: MessageState, total_mp: int, parts: int | None) -> dict[str, Any]:
    is_deferred, is_cancelled = state is MessageState.DEFERRED, state is MessageState.CANCELLED
    return {
        "message_id": row.message_id,
        "state": state.name.lower(),
        "category": row.category,
        "channels": row.channels.split(",") if row.channels else [],
        "channel": row.channel,
        "carrier": row.carrier,
        "correlation_id": row.correlation_id,
        "batch_id": row.batch_id,
        "test_mode": row.test_mode,
        "parts": parts,
        "cost_paise": paise(total_mp),
        "accepted_at": row.accepted_at,
        "scheduled_at": row.send_at,
        "deferred_until": row.deferred_until if is_deferred else None,
        "deferred_reason": row.deferred_reason if is_deferred else None,
        "expires_at": row.expires_at,
        "delivered_at": row.delivered_at,
        "read_at": row.read_at,
        "failed_at": None if is_cancelled else row.failed_at,
        "cancelled_at": row.failed_at if is_cancelled else None,
        "error_code": row.error_code,
        "error_description": row.error_description,
    }


def _attempt(row: AttemptRow) -> AttemptStatus:
    return AttemptStatus(
        attempt=row.number,
        channel=row.channel,
        carrier=row.carrier,
        state=attempt_state_name(row.rank),
        parts=row.units,
        cost_paise=paise(cost_mp(row.rank, row.price_mp)),
        planned_at=row.planned_at,
        sent_at=row.sent_at,
        delivered_at=row.delivered_at,
        read_at=row.read_at,
        failed_at=row.ended_at,
        carrier_code=row.carrier_code,
        error_code=row.error_code,
        error_description=row.error_description,
    )
