"""Routing on the real bus and database."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from services.routing.tests.stories import cleared

from harkara_contracts.events import (
    AttemptDelivered,
    AttemptFailed,
    AttemptPlanned,
    MessageCleared,
    MessageDelivered,
    MessageExpired,
)
from harkara_contracts.subjects import Lane
from harkara_routing.app import build
from harkara_routing.settings import Settings

if TYPE_CHECKING:
    from conftest import BusProbe, RunService, Servers


@pytest.fixture
def carriers_file(tmp_path: Path) -> Path:
    smpp = {"type": "smpp", "channel": "sms", "host": "127.0.0.1", "port": 2775, "system_id": "x"}
    file = tmp_path / "carriers.yaml"
    file.write_text(yaml.safe_dump({"carriers": [{"name": "jio", **smpp}, {"name": "airtel", **smpp}]}))
    return file


def cleared_now(validity_s: float = 3600) -> MessageCleared:
    return cleared(at=datetime.now(UTC), validity_s=validity_s, correlation_id="mine")


async def test_from_cleared_to_delivered_by_the_second_carrier(
    bus: BusProbe, run_service: RunService, carriers_file: Path
) -> None:
    async with run_service("routing", build, Settings, carriers_file=carriers_file):
        message = cleared_now()
        await bus.publish([message])
        first = await bus.next(AttemptPlanned, lambda event: event.message_id == message.message_id)
        refused = AttemptFailed(
            **first.trail(),
            error_code="ERR_X",
            error_description="x",
            left=False,
            retriable=True,
            failed_at=datetime.now(UTC),
        )
        await bus.publish([refused])
        second = await bus.next(AttemptPlanned, lambda event: event.attempt_id == f"{message.message_id}-2")
        assert {first.carrier, second.carrier} == {"jio", "airtel"}
        await bus.publish([AttemptDelivered(**second.trail(), delivered_at=datetime.now(UTC))])
        told = await bus.next(MessageDelivered, lambda event: event.message_id == message.message_id)
        assert (told.carrier, told.correlation_id, told.to) == (second.carrier, "mine", message.to)


async def test_a_message_without_a_receipt_expires(
    bus: BusProbe, run_service: RunService, carriers_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harkara_routing.expiry.BUCKET_S", 1)
    async with run_service("routing", build, Settings, carriers_file=carriers_file):
        message = cleared_now(validity_s=0.5)
        await bus.publish([message])
        told = await bus.next(MessageExpired, lambda event: event.message_id == message.message_id, timeout_s=10)
        assert told.error_code == "ERR_EXPIRED"


async def test_a_repeat_of_what_was_planned_is_planned_the_same(
    bus: BusProbe, run_service: RunService, carriers_file: Path, servers: Servers
) -> None:
    async with run_service("routing", build, Settings, carriers_file=carriers_file) as service:
        message = cleared_now()
        await bus.publish([message])
        await bus.next(AttemptPlanned, lambda event: event.message_id == message.message_id)
        handler = service.loops[0]._handler
        again = await handler([message])
        assert [event.attempt_id for event in again if isinstance(event, AttemptPlanned)] == [f"{message.message_id}-1"]


async def test_a_message_that_comes_when_its_validitys_timer_has_fired_expires_all_the_same(
    bus: BusProbe, run_service: RunService, carriers_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harkara_routing.expiry.BUCKET_S", 1)
    async with run_service("routing", build, Settings, carriers_file=carriers_file):
        first = cleared_now(validity_s=0.2)
        await bus.publish([first])
        await bus.next(MessageExpired, lambda event: event.message_id == first.message_id, timeout_s=10)
        late = cleared_now().model_copy(update={"expires_at": first.expires_at})
        await bus.publish([late])
        await bus.next(MessageExpired, lambda event: event.message_id == late.message_id, timeout_s=10)


async def test_a_timer_expires_the_messages_of_its_own_lane_only(
    bus: BusProbe, run_service: RunService, carriers_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harkara_routing.expiry.BUCKET_S", 1)
    async with run_service("routing", build, Settings, carriers_file=carriers_file) as service:
        bound: Any = service.loops[0]._handler
        handlers = bound.__self__
        message = cleared_now(validity_s=600)
        (*_, timer) = await handlers.on_cleared([message])
        other = timer.model_copy(update={"lane": Lane.PROMOTIONAL})
        assert await handlers.on_timers([other]) == []
        assert [event.message_id for event in await handlers.on_timers([timer])] == [message.message_id]
