"""What a process has in hand: given out again by the server it is handled once, and a backlog takes little room."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pytest
from libs.chassis.tests.helpers import DURABLE, ConsumerInfo, MakeAccepted, eventually, reading, until
from nats.aio.client import Client
from nats.aio.msg import Msg

from harkara_chassis import ServiceSettings
from harkara_chassis.consumer import LaneLoop
from harkara_chassis.pull import Pull, delivery_of
from harkara_contracts.events import Event, MessageAccepted

if TYPE_CHECKING:
    from conftest import BusProbe, RunService

AT_ONCE = b'-NAK {"delay": 1000000}'
"""Has the server deliver again in a millisecond, as it does by itself when the ack_wait is over."""


async def test_a_copy_of_what_is_in_hand_or_was_done_a_moment_ago_is_not_handed_over(
    bus: BusProbe, raw: Client, accepted: MakeAccepted, consumer_info: ConsumerInfo
) -> None:
    await raw.jetstream().purge_stream("MESSAGES")  # what other tests left
    pull = Pull(raw, "MESSAGES", DURABLE, ack_wait_s=3.0)
    seen: asyncio.Queue[Msg] = asyncio.Queue()
    real = pull._is_copy

    async def is_copy(message: Msg) -> bool:
        seen.put_nowait(message)
        return await real(message)

    pull._is_copy = is_copy  # type: ignore[method-assign]  # to see what arrives
    await pull.start()
    await bus.publish([accepted()])
    (original,) = await pull.take()
    assert await seen.get() is original

    await raw.publish(original.reply, AT_ONCE)
    copy = await asyncio.wait_for(seen.get(), 5)
    assert delivery_of(copy)[1:] == delivery_of(original)[1:]
    await pull.ack([original])

    async def nothing_pending() -> bool:
        return bool((await consumer_info("MESSAGES", DURABLE))["num_ack_pending"] == 0)

    assert await eventually(nothing_pending)
    await pull._on_message(copy)  # one that was still on its way
    await pull._on_message(copy)
    another = accepted()
    await bus.publish([another])
    (message,) = await asyncio.wait_for(pull.take(), 5)
    assert another.message_id.encode() in message.data
    await pull.ack([message])
    await pull.close()


async def test_what_was_given_back_is_handed_over_again(bus: BusProbe, raw: Client, accepted: MakeAccepted) -> None:
    await raw.jetstream().purge_stream("MESSAGES")  # what other tests left
    pull = Pull(raw, "MESSAGES", DURABLE, ack_wait_s=3.0)
    await pull.start()
    await bus.publish([accepted()])
    (first,) = await pull.take()
    await pull.nak([first], 0.001)
    (again,) = await asyncio.wait_for(pull.take(), 5)
    assert again.data == first.data
    await pull.ack([again])
    await pull.close()


async def test_a_backlog_waits_unopened_but_for_what_is_being_handled(
    bus: BusProbe, raw: Client, run_service: RunService, accepted: MakeAccepted, monkeypatch: pytest.MonkeyPatch
) -> None:
    await raw.jetstream().purge_stream("MESSAGES")
    opened: list[Msg] = []
    real = LaneLoop._open

    async def count(loop: LaneLoop, message: Msg) -> Any:
        opened.append(message)
        return await real(loop, message)

    monkeypatch.setattr(LaneLoop, "_open", count)
    release = asyncio.Event()

    async def handler(_: Sequence[MessageAccepted]) -> Sequence[Event]:
        await release.wait()
        return []

    for _ in range(20):
        await bus.publish([accepted() for _ in range(64)])
    build = reading(handler, concurrency=2)
    async with run_service("compliance", build, ServiceSettings, max_batch_events=64) as service:
        pull = next(loop.pull for loop in service.loops if loop.durable == DURABLE)
        await until(lambda: len(pull._held) == 20)
        await asyncio.sleep(0)
        assert 0 < len(opened) <= 4
        release.set()
        await until(lambda: not pull._held)
    assert len(opened) == 20
