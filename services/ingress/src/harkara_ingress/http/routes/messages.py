"""What became of messages."""

import asyncio
import base64
import binascii
import time
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel

from harkara_chassis.clock import now_utc
from harkara_contracts.errors import ErrorCode, HarkaraError
from harkara_contracts.ids import day_of, is_message_id
from harkara_contracts.subjects import Channel
from harkara_ingress.acceptance import RecentMessages
from harkara_ingress.http.common import Cursor, Instant, Paise, paise
from harkara_ingress.http.context import Reader
from harkara_ingress.message_store import MessageStore
from harkara_ingress.message_store import Query as MessageQuery
from harkara_ingress.read_model import (
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
_LOOK_AGAIN_S = 0.05
StateName = Annotated[str, Query(pattern=f"^({'|'.join(state.name.lower() for state in MessageState)})$")]


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
    """A message as far as it has come. `channel` is the one that delivered, or that failed last."""

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
    error_code: str | None
    error_description: str | None


class MessageStatus(MessageSummary):
    attempts: list[AttemptStatus]


class MessagePage(BaseModel):
    """Newest first; `next_cursor` leads on, null at the end."""

    messages: list[MessageSummary]
    next_cursor: str | None


def message_routes(store: MessageStore, recent: RecentMessages, accepted_elsewhere_s: float) -> APIRouter:
    router = APIRouter(tags=["messages"])

    async def find(day: date, message_id: str) -> MessageRow | None:
        """Find a message; one that another process has just accepted may still be on its way to the table."""
        deadline = time.monotonic() + accepted_elsewhere_s
        while (row := await store.message(day, message_id) or recent.get(message_id)) is None:
            if time.monotonic() >= deadline:
                return None
            await asyncio.sleep(_LOOK_AGAIN_S)
        return row

    @router.get("/v1/messages/{message_id}")
    async def message(caller: Reader, message_id: str) -> MessageStatus:
        """Tell the state of a message and every attempt at it."""
        day = _day(message_id)
        row = await find(day, message_id)
        if row is None or row.account_id != caller.account_id:
            raise HarkaraError(ErrorCode.NOT_FOUND, "The account has no message with this id.")
        attempts = await store.attempts(day, message_id)
        state = message_state(row.rank, [attempt.rank for attempt in attempts])
        parts = attempts[-1].units if attempts else None
        return MessageStatus(
            **_summary(row, state, total_cost_mp(attempts), parts), attempts=[_attempt(row) for row in attempts]
        )

    @router.get("/v1/messages")
    async def messages(
        caller: Reader,
        start: Instant | None = None,
        end: Instant | None = None,
        correlation_id: Annotated[str | None, Query(max_length=128, pattern=r"^[^\x00-\x1f\x7f]*$")] = None,
        state: StateName | None = None,
        channel: Channel | None = None,
        cursor: Cursor | None = None,
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
    ) -> MessagePage:
        """List messages accepted in [start, end), newest first; the last seven days unless told otherwise.

        `channel` is any of those a message may go by.
        """
        last = end or now_utc()
        first = start or last - _DEFAULT_RANGE
        if not timedelta() < last - first <= _MAX_RANGE:
            raise HarkaraError(
                ErrorCode.INVALID_REQUEST, f"`end` must come after `start`, at most {_MAX_RANGE.days} days after."
            )
        query = MessageQuery(
            account_id=caller.account_id,
            start=first,
            end=last,
            correlation_id=correlation_id,
            state=MessageState[state.upper()] if state else None,
            channel=channel,
            before=_read_cursor(cursor) if cursor else None,
            limit=limit,
        )
        listed = await store.page(query)
        following = _cursor(listed[-1].row) if len(listed) == limit else None
        found = [MessageSummary(**_summary(one.row, one.state, one.cost_mp, one.units)) for one in listed]
        return MessagePage(messages=found, next_cursor=following)

    return router


def _day(message_id: str) -> Any:
    try:
        if is_message_id(message_id):
            return day_of(message_id)
    except ValueError:
        pass  # eight digits that are no day
    raise HarkaraError(ErrorCode.NOT_FOUND, "This is no message id: they start with TN and the day they were made.")


def _summary(row: MessageRow, state: MessageState, total_mp: int, parts: int | None) -> dict[str, Any]:
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
        "deferred_until": row.deferred_until if state is MessageState.DEFERRED else None,
        "deferred_reason": row.deferred_reason if state is MessageState.DEFERRED else None,
        "expires_at": row.expires_at,
        "delivered_at": row.delivered_at,
        "read_at": row.read_at,
        "failed_at": row.failed_at,
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


def _cursor(row: MessageRow) -> str:
    text = f"{row.accepted_at.isoformat() if row.accepted_at else ''}|{row.message_id}"
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _read_cursor(cursor: str) -> tuple[datetime, str]:
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
        instant, _, message_id = text.partition("|")
        at = datetime.fromisoformat(instant).astimezone(UTC)
    except (binascii.Error, ValueError, OverflowError):
        at, message_id = None, ""
    if at is None or not is_message_id(message_id):
        raise HarkaraError(ErrorCode.INVALID_REQUEST, "Field `cursor` must be the next_cursor of an earlier answer.")
    return at, message_id
