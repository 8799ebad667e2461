"""Two major versions of one event at once, as while an upgrade rolls out: one release's processes beside the next one's."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

import pytest
from libs.chassis.tests.helpers import Build, MakeAccepted, eventually, reading, until
from nats.aio.client import Client

from harkara_chassis import ServiceSettings, provisioner
from harkara_chassis.dead import list_dead
from harkara_chassis.service import Service
from harkara_contracts import consumers, streams
from harkara_contracts.consumers import ConsumerSpec
from harkara_contracts.events import Event, MessageAccepted
from harkara_contracts.subjects import Lane

if TYPE_CHECKING:
    from conftest import BusProbe, RunService, Servers


class MessageAcceptedV2(MessageAccepted):
    major: ClassVar[int] = 2

    tone: str


STREAM = replace(streams.MESSAGES, subjects=(*streams.MESSAGES.subjects, "message.v2.>"))
NEXT = ConsumerSpec("compliance", STREAM, (MessageAcceptedV2,), major=2)


def v2(event: MessageAccepted) -> MessageAcceptedV2:
    return MessageAcceptedV2(**event.model_dump(), tone="formal")


@pytest.fixture
async def next_release(servers: Servers, raw: Client, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """Provision the next release beside what runs; its contracts are the live ones, and this one's the imported ones."""
    others = [stream for stream in streams.STREAMS if stream.name != STREAM.name]
    with monkeypatch.context() as patch:
        patch.setattr(provisioner, "STREAMS", [STREAM, *others])
        patch.setattr(provisioner, "CONSUMERS", [*consumers.CONSUMERS, NEXT])
        await provisioner.provision(servers.nats_url)
    yield
    for lane in Lane:
        await raw.jetstream().delete_consumer(STREAM.name, NEXT.durable(lane))
    await provisioner.provision(servers.nats_url)


def reading_both(seen: list[Event]) -> Build:
    async def handle(events: Sequence[Event]) -> Sequence[Event]:
        seen.extend(events)
        return []

    async def build(service: Service[ServiceSettings]) -> None:
        service.consume(consumers.COMPLIANCE_MESSAGES, handle)
        service.consume(NEXT, handle)

    return build


async def test_processes_of_this_release_are_ready_while_the_next_is_provisioned(
    next_release: None, raw: Client
) -> None:
    assert await provisioner.differences(raw) == []


async def test_one_service_reads_both_majors_at_once(
    next_release: None, run_service: RunService, bus: BusProbe, accepted: MakeAccepted
) -> None:
    old, new, seen = accepted(), v2(accepted()), list[Event]()
    # Published before anybody reads it: it waits in the stream.
    await bus.publish([new])
    async with run_service("compliance", reading_both(seen), ServiceSettings):
        await bus.publish([old])
        await until(lambda: {old.event_id(), new.event_id()} <= {event.event_id() for event in seen})
    (read,) = [event for event in seen if event.event_id() == new.event_id()]
    assert isinstance(read, MessageAcceptedV2)
    assert read.tone == "formal"


async def test_a_major_that_a_process_does_not_know_goes_to_dead_alone_with_its_reason(
    next_release: None, servers: Servers, run_service: RunService, raw: Client, bus: BusProbe, accepted: MakeAccepted
) -> None:
    """As if the next version's events were given to this version's durable."""
    old, new, handled = accepted(), v2(accepted()), list[str]()
    durable = consumers.COMPLIANCE_MESSAGES.durable(Lane.OTP)
    filters = (*consumers.COMPLIANCE_MESSAGES.filters(Lane.OTP), *NEXT.filters(Lane.OTP))
    wide = provisioner._durable(durable, filters, 3.0, 512)
    await provisioner._call(
        raw, f"CONSUMER.CREATE.{STREAM.name}.{durable}", {"stream_name": STREAM.name, "config": wide}
    )

    async def handle(events: Sequence[MessageAccepted]) -> Sequence[Event]:
        handled.extend(event.event_id() for event in events)
        return []

    async def letters() -> list[str]:
        return [one.reason for one in await list_dead(servers.nats_url) if one.original_subject == new.subject()]

    before = len(await letters())
    async with run_service("compliance", reading(handle), ServiceSettings):
        await bus.publish([new, old])
        await until(lambda: old.event_id() in handled)
        reasons = await eventually(lambda: _more_than(before, letters))
    assert reasons[before:] == ["unknown event or major version message.v2.accepted"]
    assert new.event_id() not in handled


async def _more_than(count: int, letters: Callable[[], Awaitable[list[str]]]) -> list[str] | None:
    found = await letters()
    return found if len(found) > count else None
