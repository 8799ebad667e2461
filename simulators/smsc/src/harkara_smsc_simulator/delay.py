"""Delays without a timer for each: what waits equally long leaves in the order it came, so each delay is a queue."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

ItemT = TypeVar("ItemT")


class DelayLine(Generic[ItemT]):
    """Hands items over after their delay, in seconds; one timer serves all of them."""

    def __init__(self, hand_over: Callable[[ItemT], None]) -> None:
        self._hand_over = hand_over
        self._queues: dict[float, deque[tuple[float, ItemT]]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._wakes_at = 0.0

    def __len__(self) -> int:
        return sum(map(len, self._queues.values()))

    def put(self, delay_s: float, item: ItemT) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time() + delay_s
        self._queues.setdefault(delay_s, deque()).append((due, item))
        if self._timer is None or due < self._wakes_at:
            if self._timer is not None:
                self._timer.cancel()
            self._wake(due)

    def _due(self) -> None:
        now = asyncio.get_running_loop().time()
        self._timer = None
        for delay_s, queue in list(self._queues.items()):
            while queue and queue[0][0] <= now:
                self._hand_over(queue.popleft()[1])
            if not queue:
                del self._queues[delay_s]
        if self._queues and self._timer is None:
            self._wake(min(queue[0][0] for queue in self._queues.values()))

    def _wake(self, at: float) -> None:
        # Kept beside the handle: for a time that is past already, uvloop's handle does not tell it.
        self._wakes_at = at
        self._timer = asyncio.get_running_loop().call_at(at, self._due)
