"""A service that is asked to end ends, even where a cancellation gets lost."""

import asyncio

from harkara_chassis.ending import ended
from harkara_chassis.health import Pulse


async def test_a_task_whose_answer_comes_together_with_its_cancellation_ends() -> None:
    answer = asyncio.get_running_loop().create_future()
    asked = asyncio.Event()

    async def ask() -> list[str]:
        asked.set()
        await asyncio.wait_for(answer, 60)
        return []

    pulse = asyncio.create_task(Pulse("bus", ask, "the bus is silent").run())
    await asked.wait()
    # Both in one turn of the loop: `wait_for` gives the answer and forgets the cancellation.
    asyncio.get_running_loop().call_soon(answer.set_result, None)
    async with asyncio.timeout(10):
        await ended(pulse)
    assert pulse.cancelled()


async def test_what_a_task_had_died_of_before_keeps_nobody_from_ending() -> None:
    async def die() -> None:
        raise ValueError("long ago")

    dead = asyncio.create_task(die())
    await asyncio.wait([dead])
    await ended(dead, None)
