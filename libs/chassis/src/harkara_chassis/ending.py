"""How tasks are ended, so that a service that was asked to end does end.

One `cancel()` is not always enough: `asyncio.wait_for` of Python 3.11, which the bus client's requests use, forgets it
when the answer arrives in the same turn of the loop. A task that asks for ever would then go on for ever.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any

_AGAIN_S = 1.0


async def ended(*tasks: "asyncio.Task[Any] | None") -> None:
    """Cancel these tasks, again and again, until all have ended. What they ended by is nobody's concern any more."""
    known = [task for task in tasks if task is not None]
    left = {task for task in known if not task.done()}
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=_AGAIN_S)
    for task in known:
        if not task.cancelled():
            task.exception()


async def to_the_end(work: Coroutine[Any, Any, None] | asyncio.Task[None]) -> None:
    """Do what has a bound of its own, such as a drain, to its end, however often the caller is cancelled meanwhile."""
    task = asyncio.ensure_future(work)
    while not task.done():
        try:  # noqa: SIM105  # where `suppress` stands here, CPython 3.11 crashes if gRPC's own tasks are cancelled meanwhile
            await asyncio.shield(task)
        except asyncio.CancelledError:
            pass
    task.result()
