"""Attempts to bill, and the service's own database."""

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from harkara_billing.store import Store
from harkara_chassis.clock import now_utc
from harkara_chassis.database import Database
from harkara_contracts.events import (
    AttemptDelivered,
    AttemptEvent,
    AttemptFailed,
    AttemptPlanned,
    AttemptRead,
    AttemptSent,
    AttemptUnknown,
)
from harkara_contracts.ids import attempt_id, new_message_id
from harkara_contracts.subjects import Category, Channel, lane_of

NewPlan = Callable[..., AttemptPlanned]
NewEnd = Callable[[AttemptPlanned, str], AttemptEvent]
OpenStore = Callable[[], Store]


def _new_plan(
    account_id: str,
    *,
    units: int = 1,
    category: Category = Category.TRANSACTIONAL,
    message_id: str | None = None,
    planned_at: datetime | None = None,
    number: int = 1,
    channel: Channel = Channel.SMS,
    test_mode: bool = False,
) -> AttemptPlanned:
    message_id = message_id or new_message_id()
    planned_at = planned_at or now_utc()
    return AttemptPlanned(
        attempt_id=attempt_id(message_id, number),
        message_id=message_id,
        account_id=account_id,
        lane=lane_of(category),
        channel=channel,
        carrier="sim",
        to="919812345678",
        category=category,
        test_mode=test_mode,
        units=units,
        expires_at=planned_at + timedelta(hours=1),
        planned_at=planned_at,
    )


def _new_end(plan: AttemptPlanned, name: str) -> AttemptEvent:
    at = datetime(2026, 7, 1, tzinfo=UTC)
    trail: dict[str, Any] = plan.trail()

    def failed(code: str, *, left: bool) -> AttemptFailed:
        return AttemptFailed(**trail, error_code=code, error_description="", left=left, failed_at=at)

    ends: dict[str, Callable[[], AttemptEvent]] = {
        "planned": lambda: plan,
        "sent": lambda: AttemptSent(**trail, carrier_message_ids=["1"], sent_at=at),
        "delivered": lambda: AttemptDelivered(**trail, delivered_at=at),
        "read": lambda: AttemptRead(**trail, read_at=at),
        "unknown": lambda: AttemptUnknown(**trail, reason="the carrier did not answer", occurred_at=at),
        "never left": lambda: failed("ERR_CARRIER_UNAVAILABLE", left=False),
        "failed, billed": lambda: failed("ERR_HANDSET_UNREACHABLE", left=True),
        "failed, not billed": lambda: failed("ERR_DND_SUBSCRIBER", left=True),
    }
    return ends[name]()


# Of the session, since property tests share one fixture between their examples.
@pytest.fixture(scope="session")
def new_plan() -> NewPlan:
    return _new_plan


@pytest.fixture(scope="session")
def new_end() -> NewEnd:
    return _new_end


@pytest.fixture
async def database(servers: Any) -> AsyncIterator[Database]:
    opened = await Database.open(servers.database_url("billing"), "billing")
    await opened.ensure_partitions(("hold",))
    yield opened
    await opened.close()
