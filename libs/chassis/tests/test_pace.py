"""Quiet turns begin at once; busy ones gather, up to a bound."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from libs.chassis.tests.helpers import MakeAccepted, reading

from harkara_chassis import ServiceSettings
from harkara_chassis.pace import LONGEST_S, PAUSE_AN_EVENT_S, Pace
from harkara_contracts.events import Event, MessageAccepted
from harkara_contracts.subjects import Lane

if TYPE_CHECKING:
    from conftest import BusProbe, RunService

LANE_LONGEST_S = 0.04


def run(arrivals: Sequence[float], longest_s: float = LANE_LONGEST_S) -> list[tuple[float, int]]:
    """Turns (begin, events) of a loop whose work takes no time, for events that arrive at these times."""
    pace = Pace(longest_s)
    turns: list[tuple[float, int]] = []
    left = list(arrivals)
    while left:
        begin = left[0] + max(0.0, pace.wait_s(left[0]))
        taken = sum(at <= begin for at in left)
        left = left[taken:]
        pace.began(begin, taken)
        turns.append((begin, taken))
    return turns


def test_what_comes_seldom_never_waits() -> None:
    arrivals = [n / 50 for n in range(200)]
    assert [begin for begin, _ in run(arrivals)] == arrivals


def test_a_flood_is_worked_in_turns_as_far_apart_as_the_lane_allows() -> None:
    turns = run([n / 5_000 for n in range(20_000)])
    assert 150 < max(events for _, events in turns) <= 5_000 * LANE_LONGEST_S + 1
    assert len(turns) < 20_000 / (0.9 * 5_000 * LANE_LONGEST_S)


@given(st.lists(st.floats(0, 10, allow_subnormal=False), min_size=1, max_size=200).map(sorted))
def test_nothing_waits_longer_than_the_lanes_longest_pause(arrivals: list[float]) -> None:
    turns = iter(run(arrivals))
    begin, room = next(turns)
    for at in arrivals:
        if not room:
            begin, room = next(turns)
        room -= 1
        assert at <= begin <= at + LANE_LONGEST_S + 1e-9


def test_an_otp_waits_least() -> None:
    assert LONGEST_S[Lane.OTP] <= 2 * PAUSE_AN_EVENT_S
    assert LONGEST_S[Lane.OTP] < LONGEST_S[Lane.TRANSACTIONAL] < LONGEST_S[Lane.PROMOTIONAL]


async def test_the_loop_gathers_what_comes_while_it_pauses(
    bus: BusProbe, run_service: RunService, accepted: MakeAccepted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(LONGEST_S, Lane.TRANSACTIONAL, 0.5)
    crowd = [accepted(Lane.TRANSACTIONAL) for _ in range(250)]
    singles = [accepted(Lane.TRANSACTIONAL) for _ in range(10)]
    ours = {event.message_id for event in (*crowd, *singles)}
    turns: list[int] = []
    crowd_came, done = asyncio.Event(), asyncio.Event()

    async def handler(events: Sequence[MessageAccepted]) -> Sequence[Event]:
        turns.append(sum(event.message_id in ours for event in events))
        if sum(turns) >= len(crowd):
            crowd_came.set()
        if sum(turns) == len(ours):
            done.set()
        return []

    async with run_service("compliance", reading(handler), ServiceSettings):
        async with asyncio.timeout(10):
            await bus.publish(crowd)
            await crowd_came.wait()
            for event in singles:
                await bus.publish([event])
            await done.wait()
    assert [events for events in turns if events][-1] == len(singles)
