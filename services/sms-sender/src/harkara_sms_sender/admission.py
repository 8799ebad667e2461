"""Who may hand messages to a carrier now.

A message is marked as "about to be submitted" in the database before it is written to the carrier. What is marked and not
yet written when the process dies has an unknown fate, so nothing is marked before a bind has room for it: a place in its
window and a token of its rate. Room is given in slices, so that one statement serves many messages. The lanes stand in
line by precedence; a tenth of each window is kept for OTP.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from harkara_contracts.subjects import Lane

_SLICE_SHARE = 4
_RESERVED_SHARE = 10
_BURST_S = 0.1


class CarrierDownError(Exception):
    """The carrier has had no bind for too long: another one should be tried."""


class ClosedError(Exception):
    """The sender is stopping: what was not handed over is given back."""


class Grant(NamedTuple):
    """Leave to submit the first `messages` of those asked for on bind number `bind`."""

    bind: int
    messages: int


@dataclass(slots=True)
class _Bind:
    window: int
    is_up: bool = False
    in_use: int = 0
    next_at: float = 0.0
    """When the next part may be written at the agreed rate; may lie in the past by the burst, or ahead."""


@dataclass(slots=True)
class _Waiter:
    sizes: Sequence[int]
    granted: asyncio.Future[Grant] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Admission:
    """Room on one carrier's binds.

    Args:
        binds: how many there are.
        window: unanswered parts on each.
        tps: parts a second on each, None for no limit.
        wait_s: how long messages wait while no bind is up.
    """

    def __init__(self, *, binds: int, window: int, tps: float | None, wait_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._binds = [_Bind(window) for _ in range(binds)]
        self._reserved = window // _RESERVED_SHARE
        self._slice = max(1, window // _SLICE_SHARE)
        self._tps = tps
        self._wait_s = wait_s
        self._waiting: dict[Lane, deque[_Waiter]] = {lane: deque() for lane in Lane}
        self._token_timer: asyncio.TimerHandle | None = None
        self._is_down = False
        self._is_closed = False
        self._down_timer: asyncio.TimerHandle | None = self._loop.call_later(wait_s, self._gone)

    def in_use(self, bind: int) -> int:
        """Return how many parts were granted on a bind and not released yet."""
        return self._binds[bind].in_use

    async def acquire(self, lane: Lane, sizes: Sequence[int]) -> Grant:
        """Wait for room for one or more messages of `sizes` parts each, from the first on.

        The parts of a granted message count as in use until they are released.

        Raises:
            CarrierDownError: no bind is up, and that for longer than messages may wait.
            ClosedError: the sender is stopping.
        """
        if self._is_closed:
            raise ClosedError
        if self._is_down:
            raise CarrierDownError
        waiter = _Waiter(sizes)
        self._waiting[lane].append(waiter)
        self._serve()
        try:
            return await waiter.granted
        except asyncio.CancelledError:
            if waiter.granted.done() and not waiter.granted.cancelled() and not waiter.granted.exception():
                bind, messages = waiter.granted.result()
                self.release(bind, sum(sizes[:messages]))
            raise

    def release(self, bind: int, parts: int) -> None:
        """Give room back: parts were answered, or not submitted after all."""
        self._binds[bind].in_use -= parts
        self._serve()

    def set_up(self, bind: int, is_up: bool) -> None:
        """A bind can take messages now, or cannot any more."""
        self._binds[bind].is_up = is_up
        if any(one.is_up for one in self._binds):
            if self._down_timer is not None:
                self._down_timer.cancel()
                self._down_timer = None
            self._is_down = False
            self._serve()
        elif self._down_timer is None and not self._is_down:
            self._down_timer = self._loop.call_later(self._wait_s, self._gone)

    def close(self) -> None:
        """Send everybody away; room that was granted stays."""
        self._is_closed = True
        self._send_away(ClosedError())
        for timer in (self._down_timer, self._token_timer):
            if timer is not None:
                timer.cancel()

    def _gone(self) -> None:
        self._down_timer = None
        self._is_down = True
        self._send_away(CarrierDownError())

    def _send_away(self, error: Exception) -> None:
        for queue in self._waiting.values():
            while queue:
                waiter = queue.popleft()
                if not waiter.granted.done():
                    waiter.granted.set_exception(error)

    def _serve(self) -> None:
        for lane, queue in self._waiting.items():
            while queue:
                waiter = queue[0]
                if not waiter.granted.done():
                    grant = self._grant(lane, waiter.sizes)
                    if grant is None:
                        return  # nobody overtakes the head of a higher lane
                    waiter.granted.set_result(grant)
                queue.popleft()

    def _grant(self, lane: Lane, sizes: Sequence[int]) -> Grant | None:
        up = [number for number, bind in enumerate(self._binds) if bind.is_up]
        if not up:
            return None
        number = min(up, key=lambda one: self._binds[one].in_use)
        bind = self._binds[number]
        is_otp = lane is Lane.OTP
        room = bind.window - bind.in_use - (0 if is_otp else self._reserved)
        # Bulk waits until a slice is worth its statement; an OTP waits for nobody.
        worth = sizes[0] if is_otp else max(sizes[0], min(self._slice, sum(sizes)))
        if room < worth and bind.in_use:
            return None
        messages = _fitting(sizes, room)
        if self._tps is not None:
            messages = self._paced(bind, sizes[:messages], self._tps, at_once=is_otp)
            if not messages:
                return None
        bind.in_use += sum(sizes[:messages])
        return Grant(number, messages)

    def _paced(self, bind: _Bind, sizes: Sequence[int], tps: float, *, at_once: bool) -> int:
        """How many of the messages the agreed rate allows now (their tokens are taken); sets a timer where none."""
        now = self._loop.time()
        burst = max(1, int(_BURST_S * tps))
        bind.next_at = max(bind.next_at, now - burst / tps)
        tokens = int((now - bind.next_at) * tps + 1e-6)
        worth = 1 if at_once else min(sum(sizes), max(1, burst // 2))
        if tokens < worth:
            if self._token_timer is None:
                self._token_timer = self._loop.call_later(bind.next_at + worth / tps - now, self._tokens_due)
            return 0
        messages = _fitting(sizes, tokens)
        bind.next_at += sum(sizes[:messages]) / tps
        return messages

    def _tokens_due(self) -> None:
        self._token_timer = None
        self._serve()


def _fitting(sizes: Sequence[int], room: int) -> int:
    """How many of the first messages fit; always one, so that a message larger than a whole window can go as well."""
    messages = 0
    for size in sizes:
        room -= size
        if room < 0:
            break
        messages += 1
    return max(1, messages)
