"""Rate limits that all processes of the edge share, exact to one unit: the buckets are in Redis, by its one clock.

A script decides and writes in one step, so nobody can come between. Takes that arrive while a call is under way wait for
the next one and go together: a quiet edge waits for nothing, and on a busy one a call is shared by many.

Redis away, out of memory or slow is no reason to refuse anybody: then each process counts alone, at the full rate, from
where the shared buckets were when it last saw them. A probe looks for Redis meanwhile; no request waits for that.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import NamedTuple, cast

import redis.exceptions
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from harkara_chassis.ending import ended
from harkara_chassis.metrics import counter
from harkara_ingress.access.limits import UNLIMITED, Decision, LocalLimiter, Rate, decide

logger = logging.getLogger(__name__)

PATIENCE_S = 0.25
RETRY_S = 1.0
_TOGETHER = 256
_PROBE = Rate(count=1_000_000, period_s=1.0, burst=1)
_AWAY = (redis.exceptions.RedisError, OSError)

_LOCAL = counter("harkara_limits_local", "Takes of a limit decided by one process alone, since Redis did not answer.")

# KEYS the buckets, each once, as `level:microseconds`. ARGV[1] four numbers for each take, in order: which bucket, how many
# ticks run out in a microsecond, the ticks wanted, the ticks that may be in the bucket then.
# Returns the level each take found, in words: one long answer costs its reader less than many short ones. All numbers are
# whole and below 2^53, where the script's are exact.
_TAKE = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local stored = redis.call('MGET', unpack(KEYS))
local levels, rates, found = {}, {}, {}
for bucket, rate, wanted, room in string.gmatch(ARGV[1], '(%d+) (%d+) (%d+) (%d+)') do
  bucket, rate = tonumber(bucket), tonumber(rate)
  local level = levels[bucket]
  if not level then
    level = 0
    if stored[bucket] then
      local before, at = string.match(stored[bucket], '(%d+):(%d+)')
      level = math.max(0, before - math.max(0, now - at) * rate)
      -- The clock was set back: see `gcra`.
      if now < tonumber(at) then rates[bucket] = rate end
    end
    levels[bucket] = level
  end
  found[#found + 1] = string.format('%.0f', level)
  if level + wanted <= tonumber(room) then
    levels[bucket] = level + wanted
    rates[bucket] = rate
  end
end
for bucket, rate in pairs(rates) do
  -- Kept a second longer than it says anything.
  local kept_ms = math.floor(levels[bucket] / rate / 1000) + 1000
  redis.call('SET', KEYS[bucket], string.format('%.0f:%.0f', levels[bucket], now), 'PX', string.format('%.0f', kept_ms))
end
return table.concat(found, ' ')
"""


@asynccontextmanager
async def open_limiter(url: str, local: LocalLimiter) -> AsyncIterator["SharedLimiter"]:
    """Open a limiter on the Redis at this address, with a connection of its own."""
    # Nothing is tried twice: a take must not count double.
    retry = Retry(NoBackoff(), 0)
    async with Redis.from_url(url, socket_connect_timeout=PATIENCE_S, retry=retry) as client:
        limiter = SharedLimiter(client, local)
        try:
            yield limiter
        finally:
            await limiter.close()


class _Take(NamedTuple):
    key: str
    rate: Rate
    cost: int
    reserve: float
    decision: asyncio.Future[Decision]


def _written(takes: Sequence[_Take]) -> tuple[list[str], str]:
    """Write takes as the script reads them: its keys and its one argument."""
    places: dict[str, int] = {}
    words = []
    for key, rate, cost, reserve, _ in takes:
        place = places.setdefault(f"limit:{key}", len(places) + 1)
        words.append(f"{place} {rate.count} {rate.ticks(cost)} {rate.room(reserve)}")
    return list(places), " ".join(words)


@asynccontextmanager
async def _patience(loop: asyncio.AbstractEventLoop) -> AsyncIterator[None]:
    """Raise TimeoutError after `PATIENCE_S`.

    In two halves: a loop that stood still finds the time over before it reads an answer that has long been there.
    """
    half_s = PATIENCE_S / 2
    async with asyncio.timeout(None) as timeout:
        second = loop.call_later(half_s, lambda: timeout.reschedule(loop.time() + half_s))
        try:
            yield
        finally:
            second.cancel()


class SharedLimiter:
    """Buckets in Redis; `local` decides while Redis is away."""

    def __init__(self, client: "Redis", local: LocalLimiter) -> None:
        self._script = client.register_script(_TAKE)
        self._local = local
        self._loop = asyncio.get_running_loop()
        self._waiting: list[_Take] = []
        self._sending: asyncio.Task[None] | None = None
        self._probing: asyncio.Task[None] | None = None

    async def close(self) -> None:
        await ended(self._sending, self._probing)

    async def take(self, key: str, rate: Rate | None, cost: int = 1, reserve: float = 0.0) -> Decision:
        if rate is None:
            return UNLIMITED
        if self._probing is not None:
            _LOCAL.inc()
            return self._local.decide(key, rate, cost, reserve)
        decision: asyncio.Future[Decision] = self._loop.create_future()
        self._waiting.append(_Take(key, rate, cost, reserve, decision))
        if self._sending is None:
            self._sending = self._loop.create_task(self._send())
        return await decision

    def problem(self) -> str | None:
        """Say that limits are not shared at the moment, or None."""
        return None if self._probing is None else "counted by each process alone, Valkey does not answer"

    async def _send(self) -> None:
        """Ask for all that wait, until nobody does."""
        takes: list[_Take] = []
        try:
            while self._waiting:
                takes, self._waiting = self._waiting[:_TOGETHER], self._waiting[_TOGETHER:]
                self._tell(takes, await self._ask(takes))
        except _AWAY as error:
            self._probing = self._loop.create_task(self._probe())
            logger.warning("limits are counted by this process alone", extra={"kind": type(error).__name__})
        finally:
            # However it ended, nobody is left waiting.
            self._decide_alone([*takes, *self._waiting])
            self._waiting = []
            self._sending = None

    async def _ask(self, takes: Sequence[_Take]) -> list[int]:
        """Return the level that each take found."""
        keys, words = _written(takes)
        async with _patience(self._loop):
            found = cast("bytes", await self._script(keys=keys, args=[words]))
        return [int(level) for level in found.split()]

    def _tell(self, takes: Sequence[_Take], found: Sequence[int]) -> None:
        for (key, rate, cost, reserve, waiting), level in zip(takes, found, strict=True):
            decision, filled = decide(rate, level, cost, reserve)
            self._local.remember(key, filled)
            if not waiting.done():
                waiting.set_result(decision)

    def _decide_alone(self, takes: Sequence[_Take]) -> None:
        for key, rate, cost, reserve, waiting in takes:
            if not waiting.done():
                _LOCAL.inc()
                waiting.set_result(self._local.decide(key, rate, cost, reserve))

    async def _probe(self) -> None:
        """Wait until Redis takes again; a server whose memory is full still answers questions, so it has to write."""
        is_away = True
        while is_away:
            await asyncio.sleep(RETRY_S)
            with suppress(*_AWAY):
                await self._ask([_Take("probe", _PROBE, 1, 0.0, self._loop.create_future())])
                is_away = False
        self._probing = None
        logger.warning("limits are shared again")
