"""How well messages arrive."""

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel

from harkara_contracts.subjects import Channel
from harkara_ingress.http.common import Instant
from harkara_ingress.http.context import Reader
from harkara_ingress.status.analytics import DeliveryReport, GroupBy, Range
from harkara_ingress.status.message_queries import checked_range
from harkara_ingress.status.message_store import MessageStore


class DeliveryQuery(BaseModel):
    """Messages accepted in [start, end), the last seven days unless told otherwise, at most 31; live ones, or tests."""

    start: Instant | None = None
    end: Instant | None = None
    group_by: GroupBy | None = None
    channel: Channel | None = None
    test_mode: bool = False


def analytics_routes(store: MessageStore) -> APIRouter:
    router = APIRouter(tags=["analytics"])

    @router.get("/v1/analytics/delivery")
    async def delivery(caller: Reader, wanted: Annotated[DeliveryQuery, Query()]) -> DeliveryReport:
        """Tell counts by state, the delivery rate, latencies and errors, of the whole range and of each group."""
        start, end = checked_range(wanted.start, wanted.end)
        return await store.delivery(
            Range(
                account_id=caller.account_id,
                start=start,
                end=end,
                group_by=wanted.group_by,
                channel=wanted.channel,
                test_mode=wanted.test_mode,
            )
        )

    return router
