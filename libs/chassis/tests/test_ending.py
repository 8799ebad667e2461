"""A service that is asked to end ends, even where a cancellation gets lost."""

import asyncio

from harkara_chassis.ending import ended, to_the_end
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


async def test_a_drain_comes_to_its_end_though_it_is_asked_to_end_again() -> None:
    drained = asyncio.Event()

    async def drain() -> None:
        await asyncio.sleep(1.2)  # `ended` asks again after a second
        drained.set()

    async def serve() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await to_the_end(drain())

    serving = asyncio.create_task(serve())
    await asyncio.sleep(0)
    await ended(serving)
    assert drained.is_set()
