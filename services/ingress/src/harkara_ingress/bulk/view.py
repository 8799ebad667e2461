"""Batches as their senders see them, over HTTP and gRPC alike."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict

from harkara_chassis.clock import now_utc
from harkara_ingress.bulk.store import BatchRow

SUMMARY_EXAMPLE: dict[str, Any] = {
    "batch_id": "BATCH20261122B8Q0JY7RSTKBRZ7B4",
    "state": "sending",
    "category": "transactional",
    "channels": ["sms"],
    "sender": "HRKARA",
    "template_id": "TN_SHIP_001",
    "correlation_id": "campaign-7",
    "test_mode": False,
    "total_recipients": 99_950,
    "rejected_recipients": 50,
    "estimated_credits": 99_950,
    "accepted_at": "2026-11-22T10:44:56.202000Z",
    "scheduled_at": None,
    "cancelled_at": None,
    "completed_at": None,
}


class BatchSummary(BaseModel):
    """A bulk. `total_recipients` were accepted, `rejected_recipients` told to be wrong.

    `state`: `scheduled` until its time, `sending`, `cancelled`, `completed` (each message has come to its end).
    """

    model_config = ConfigDict(json_schema_extra={"example": SUMMARY_EXAMPLE})

    batch_id: str
    state: str
    category: str
    channels: list[str]
    sender: str | None
    template_id: str | None
    correlation_id: str | None
    test_mode: bool
    total_recipients: int
    rejected_recipients: int
    estimated_credits: int
    accepted_at: datetime
    scheduled_at: datetime | None
    cancelled_at: datetime | None
    completed_at: datetime | None


class BatchStatus(BatchSummary):
    """A bulk with its recipients counted by the state of their messages; `queued` are those not begun."""

    model_config = ConfigDict(
        json_schema_extra={"example": SUMMARY_EXAMPLE | {"counts": {"queued": 91_022, "sent": 104, "delivered": 8_824}}}
    )

    counts: dict[str, int]


def status_of(row: BatchRow, counts: Mapping[str, int]) -> BatchStatus:
    """Tell how far a batch is, with its recipients counted by state."""
    return BatchStatus(**dict(summary_of(row)), counts=dict(counts))


def summary_of(row: BatchRow) -> BatchSummary:
    return BatchSummary(
        batch_id=row.batch_id,
        state=_state(row),
        category=row.category,
        channels=row.channels.split(","),
        sender=row.sender,
        template_id=row.template_id,
        correlation_id=row.correlation_id,
        test_mode=row.test_mode,
        total_recipients=row.total,
        rejected_recipients=row.rejected,
        estimated_credits=row.estimated_credits,
        accepted_at=row.accepted_at,
        scheduled_at=row.send_at,
        cancelled_at=row.cancelled_at,
        completed_at=row.completed_at,
    )


def _state(row: BatchRow) -> str:
    if row.cancelled_at is not None:
        return "cancelled"
    if row.completed_at is not None:
        return "completed"
    return "scheduled" if row.send_at is not None and row.send_at > now_utc() else "sending"
