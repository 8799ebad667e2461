"""What became of bulk sends."""

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict

from harkara_contracts.ids import is_batch_id
from harkara_ingress.bulk.batches import Batches
from harkara_ingress.bulk.view import SUMMARY_EXAMPLE, BatchStatus, BatchSummary, status_of, summary_of
from harkara_ingress.http.common import Cursor
from harkara_ingress.http.context import Reader, Sender
from harkara_ingress.status.cursor import cursor_after, read_cursor

_AFTER_ALL = (datetime(9999, 1, 1, tzinfo=UTC), "")


class BatchPage(BaseModel):
    """Newest first; `next_cursor` leads on, null at the end."""

    model_config = ConfigDict(json_schema_extra={"example": {"batches": [SUMMARY_EXAMPLE], "next_cursor": None}})

    batches: list[BatchSummary]
    next_cursor: str | None


class BatchStopped(BaseModel):
    """What has not left will not leave."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"status": "cancelled", "batch_id": SUMMARY_EXAMPLE["batch_id"]}}
    )

    status: str = "cancelled"
    batch_id: str


def batch_routes(batches: Batches) -> APIRouter:
    router = APIRouter(tags=["bulk"])

    @router.get("/v1/batches/{batch_id}")
    async def batch(caller: Reader, batch_id: str) -> BatchStatus:
        """Tell how far a bulk is: its recipients by state."""
        row = await batches.batch(caller.account_id, batch_id)
        return status_of(row, await batches.counts(row))

    @router.get("/v1/batches")
    async def list_batches(
        caller: Reader, cursor: Cursor | None = None, limit: Annotated[int, Query(ge=1, le=200)] = 50
    ) -> BatchPage:
        """List bulks, newest first."""
        before = read_cursor(cursor, is_batch_id) if cursor else _AFTER_ALL
        rows = await batches.page(caller.account_id, before, limit)
        following = cursor_after(rows[-1].accepted_at, rows[-1].batch_id) if len(rows) == limit else None
        return BatchPage(batches=[summary_of(row) for row in rows], next_cursor=following)

    @router.delete("/v1/batches/{batch_id}")
    async def cancel_batch(caller: Sender, batch_id: str) -> BatchStopped:
        """Cancel what of a bulk has not left: messages still queued, scheduled or deferred.

        A second time changes nothing; a bulk that is complete cannot be cancelled (409).
        """
        await batches.cancel(caller, batch_id)
        return BatchStopped(batch_id=batch_id)

    return router
