"""Events that nobody can handle among those that everybody handles, and the next major version of one beside the present.

They are put onto the streams by a connection of their own, as a faulty or a newer producer would.
"""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import ClassVar
from unittest.mock import patch

from tests.chaos.fault import Fault, Policy
from tests.chaos.scene import Scene
from tests.e2e.waiting import eventually

from harkara_chassis import envelope, provisioner
from harkara_chassis.connection import connect
from harkara_chassis.consumer import LaneLoop
from harkara_chassis.publisher import Outgoing, Publisher, headers
from harkara_chassis.tracing import Tracing
from harkara_cli.status import stack_of
from harkara_contracts import consumers, streams
from harkara_contracts.consumers import ConsumerSpec
from harkara_contracts.events import Content, Event, MessageAccepted, MessageCleared, SmsContent
from harkara_contracts.ids import new_message_id
from harkara_contracts.subjects import Category, Channel, Lane

_DOSES = 3
_BURIED_WITHIN_S = 60.0
"""What fails in a handler is tried six times, with pauses that double: about a quarter of a minute."""
_NEXT_MAJOR = 60
_READ_WITHIN_S = 30.0
_ACCOUNT = "ACCPOISON"


@dataclass(frozen=True)
class Poison:
    """One bad message; `reason` is what DEAD says of it, and so many services read it."""

    subject: str
    payload: bytes
    reason: str
    readers: int


def _accepted(**changes: object) -> MessageAccepted:
    now = datetime.now(UTC)
    fields: dict[str, object] = {
        "message_id": new_message_id(),
        "account_id": _ACCOUNT,
        "lane": Lane.TRANSACTIONAL,
        "to": "919876543210",
        "category": Category.TRANSACTIONAL,
        "channels": [Channel.SMS],
        "content": Content(sender="HRKARA"),
        "accepted_at": now,
        "expires_at": now + timedelta(hours=1),
    }
    return MessageAccepted.model_validate(fields | changes)


def _poisons() -> Iterator[Poison]:
    accepted = _accepted()
    subject, written = accepted.subject(), envelope.encode([accepted], "chaos")
    yield Poison(subject, written[: len(written) // 2], "not JSON", 2)
    yield Poison(subject, written.replace(b"message.accepted.v1", b"message.sung.v1"), "the type is", 2)
    yield Poison(subject, written.replace(b"message.accepted.v1", b"message.accepted.v9"), "the type is", 2)
    # Ingress makes no number of it, and takes it as it is.
    yield Poison(subject, written.replace(b'"919876543210"', b"[]"), "data.to", 1)
    # Well formed, and no timer can be set for the quarter of a minute after the last one there is.
    cleared = MessageCleared(
        **accepted.model_dump(include={"message_id", "account_id", "lane", "category", "channels", "accepted_at"}),
        expires_at=datetime.max.replace(tzinfo=UTC),
        to=accepted.to,
        sms=SmsContent(sender="HRKARA", text="poison", encoding="gsm7", parts=1),
    )
    yield Poison(cleared.subject(), envelope.encode([cleared], "chaos"), "the handler failed", 1)


def poison(scene: Scene) -> None:
    """It goes to DEAD alone, and says why; everything else flows."""
    began = datetime.now(UTC)
    expected: list[str] = []
    for dose in range(_DOSES):
        scene.wait_until(0.2 + 0.25 * dose)
        scene.begun()
        poisons = list(_poisons())
        asyncio.run(_put(_nats_url(scene), [(one.subject, one.payload, f"{new_message_id()}") for one in poisons]))
        expected += [one.reason for one in poisons for _ in range(one.readers)]
    scene.healed()

    def buried() -> bool:
        letters = [letter.split(": ", 2)[2] for letter in scene.stack.dead_letters(began) or ()]
        return len(letters) == len(expected) and all(
            sum(letter.startswith(reason) for letter in letters) >= expected.count(reason) for reason in set(expected)
        )

    eventually(buried, timeout_s=_BURIED_WITHIN_S, what=f"{len(expected)} letters in DEAD, each with its reason")


class MessageAcceptedV2(MessageAccepted):
    """The next major version of a contract, which no service of the stack knows."""

    major: ClassVar[int] = 2

    tone: str


_STREAM = replace(streams.MESSAGES, subjects=(*streams.MESSAGES.subjects, "message.v2.>"))
_NEXT = ConsumerSpec("compliance", _STREAM, (MessageAcceptedV2,), major=2)


@contextmanager
def _next_release(*more: ConsumerSpec) -> Iterator[None]:
    """Within, the contracts are those of the next release."""
    with (
        patch.object(provisioner, "STREAMS", [_STREAM, *(one for one in streams.STREAMS if one.name != _STREAM.name)]),
        patch.object(provisioner, "CONSUMERS", [*consumers.CONSUMERS, *more]),
    ):
        yield


def two_majors(scene: Scene) -> None:
    """Roll an upgrade out in the worst order: producers of version 2 first, and their consumer last."""
    url = _nats_url(scene)
    events = [
        MessageAcceptedV2(**_accepted(lane=lane).model_dump(), tone="formal")
        for lane in Lane
        for _ in range(_NEXT_MAJOR)
    ]
    scene.wait_until(0.2)
    scene.begun()
    with _next_release():
        asyncio.run(provisioner.provision(url))
        asyncio.run(_publish(url, events))
    scene.wait_until(0.6)
    assert scene.is_ready(), "the processes of the present release go on"
    with _next_release(_NEXT):
        asyncio.run(provisioner.provision(url))
        assert scene.is_ready()
        seen = asyncio.run(_read(url, len(events)))
    scene.healed()
    assert sorted(seen) == sorted(event.event_id() for event in events)
    asyncio.run(_forget_the_next_release(url))


async def _read(url: str, count: int) -> list[str]:
    """Be the next release's consumer, until it has read so many events; return their ids."""
    bus = await connect(url, "next", closing_is_loss=lambda: False)
    publisher = Publisher(bus.client, "next")
    await publisher.start()
    seen: list[str] = []

    async def handle(events: Sequence[Event]) -> Sequence[Event]:
        seen.extend(event.event_id() for event in events)
        return []

    loops = [LaneLoop(bus.client, _NEXT, lane, handle, publisher, Tracing("next", "chaos", None, 0.0)) for lane in Lane]
    running = [asyncio.create_task(loop.run()) for loop in loops]
    try:
        async with asyncio.timeout(_READ_WITHIN_S):
            while len(seen) < count:
                await asyncio.sleep(0.1)
    finally:
        for loop in loops:
            await loop.stop(1.0)
        await asyncio.gather(*running)
        for loop in loops:
            await loop.pull.close()
        await bus.close()
    return seen


async def _publish(url: str, events: Sequence[Event]) -> None:
    await _put(url, [(event.subject(), envelope.encode([event], "chaos"), event.event_id()) for event in events])


async def _put(url: str, messages: Sequence[tuple[str, bytes, str]]) -> None:
    """Put (subject, payload, de-duplication id) onto the streams."""
    bus = await connect(url, "chaos", closing_is_loss=lambda: False)
    try:
        publisher = Publisher(bus.client, "chaos")
        await publisher.start()
        await publisher.send([Outgoing(name, payload, headers(name, number)) for name, payload, number in messages])
    finally:
        await bus.close()


async def _forget_the_next_release(url: str) -> None:
    bus = await connect(url, "chaos", closing_is_loss=lambda: False)
    try:
        for lane in Lane:
            await bus.client.jetstream().delete_consumer(_STREAM.name, _NEXT.durable(lane))
    finally:
        await bus.close()
    await provisioner.provision(url)


def _nats_url(scene: Scene) -> str:
    assert scene.stack.home
    return stack_of(scene.stack.home, scene.stack.home.require_running()).nats_url


FAULTS = (
    Fault(
        name="two-majors",
        what="the next major version of an event is published beside the present one during an upgrade",
        scenario=two_majors,
        is_short=True,
        is_random=False,
    ),
    Fault(
        name="poison-events",
        what="events that cannot be read or handled are put onto the streams",
        scenario=poison,
        policy=Policy(dead=_DOSES * sum(one.readers for one in _poisons())),
        is_short=True,
        is_random=False,
    ),
)
