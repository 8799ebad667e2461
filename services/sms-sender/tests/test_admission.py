import asyncio
from typing import Any

import pytest

from harkara_contracts.subjects import Lane
from harkara_sms_sender.admission import Admission, CarrierDownError, ClosedError


def admission(**changes: Any) -> Admission:
    values: dict[str, Any] = {"binds": 1, "window": 20, "tps": None, "wait_s": 5.0}
    made = Admission(**(values | changes))
    for bind in range((values | changes)["binds"]):
        made.set_up(bind, is_up=True)
    return made


async def waiting(*tasks: "asyncio.Task[Any]") -> None:
    for _ in range(3):
        await asyncio.sleep(0)
    assert not any(task.done() for task in tasks)


async def test_room_is_given_up_to_the_window_less_what_is_kept_for_otp() -> None:
    room = admission()
    assert await room.acquire(Lane.TRANSACTIONAL, [1] * 50) == (0, 18)
    assert await room.acquire(Lane.OTP, [1] * 50) == (0, 2)


async def test_bulk_waits_for_a_slice_and_an_otp_for_one_place() -> None:
    room = admission()
    await room.acquire(Lane.TRANSACTIONAL, [1] * 18)
    await room.acquire(Lane.OTP, [1] * 2)
    bulk = asyncio.create_task(room.acquire(Lane.PROMOTIONAL, [1] * 50))
    otp = asyncio.create_task(room.acquire(Lane.OTP, [1]))
    await waiting(bulk, otp)
    room.release(0, 1)
    assert await otp == (0, 1)
    room.release(0, 6)
    await waiting(bulk)
    room.release(0, 1)
    assert await bulk == (0, 5)


async def test_lanes_are_served_by_precedence() -> None:
    room = admission(window=4)
    await room.acquire(Lane.OTP, [1] * 4)
    order = [Lane.PROMOTIONAL, Lane.TRANSACTIONAL, Lane.OTP]
    tasks = {lane: asyncio.create_task(room.acquire(lane, [1])) for lane in order}
    await waiting(*tasks.values())
    for lane in reversed(order):
        room.release(0, 1)
        await tasks.pop(lane)
        await waiting(*tasks.values())


async def test_a_message_is_not_torn_and_one_larger_than_the_window_goes_alone() -> None:
    room = admission()
    assert await room.acquire(Lane.OTP, [8, 8, 8]) == (0, 2)
    large = asyncio.create_task(room.acquire(Lane.OTP, [40]))
    await waiting(large)
    room.release(0, 16)
    assert await large == (0, 1)
    assert room.in_use(0) == 40


async def test_the_emptiest_bind_that_is_up_is_used() -> None:
    room = admission(binds=3)
    room.set_up(0, is_up=False)
    assert [(await room.acquire(Lane.OTP, [1])).bind for _ in range(4)] == [1, 2, 1, 2]


async def test_the_agreed_rate_is_kept() -> None:
    room = admission(window=1000, tps=200.0)
    loop = asyncio.get_running_loop()
    began = loop.time()
    sent = 0
    while sent < 100:
        sent += (await room.acquire(Lane.PROMOTIONAL, [1] * 1000)).messages
    took = loop.time() - began
    assert (sent - 21) / 200 <= took < 5.0


async def test_a_rate_below_one_in_the_burst_still_flows() -> None:
    room = admission(tps=8.0)
    for _ in range(2):
        assert (await asyncio.wait_for(room.acquire(Lane.PROMOTIONAL, [1, 1]), 5)).messages == 1


async def test_a_carrier_that_stays_down_sends_everybody_away_until_it_is_back() -> None:
    room = admission(wait_s=0.05)
    room.set_up(0, is_up=False)
    with pytest.raises(CarrierDownError):
        await room.acquire(Lane.OTP, [1])
    with pytest.raises(CarrierDownError):
        await asyncio.wait_for(room.acquire(Lane.OTP, [1]), 0.01)
    room.set_up(0, is_up=True)
    assert await room.acquire(Lane.OTP, [1]) == (0, 1)


async def test_a_short_gap_is_waited_out() -> None:
    room = admission()
    room.set_up(0, is_up=False)
    task = asyncio.create_task(room.acquire(Lane.OTP, [1]))
    await waiting(task)
    room.set_up(0, is_up=True)
    assert await task == (0, 1)


async def test_closing_sends_away_who_waits_and_who_comes() -> None:
    room = admission(window=1)
    await room.acquire(Lane.OTP, [1])
    task = asyncio.create_task(room.acquire(Lane.OTP, [1]))
    await waiting(task)
    room.close()
    for attempt in (task, room.acquire(Lane.OTP, [1])):
        with pytest.raises(ClosedError):
            await attempt


async def test_room_given_to_one_who_has_left_is_given_back() -> None:
    room = admission(window=1)
    await room.acquire(Lane.OTP, [1])
    task = asyncio.create_task(room.acquire(Lane.OTP, [1]))
    await waiting(task)
    room.release(0, 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert room.in_use(0) == 0
