"""`Idempotency-Key`: the same key with the same request sends once and is answered alike, across processes and crashes.

A claim writes a record first: a digest of the request, and the id and time its message will have. Whoever comes later
with the same key finds it. If the first process died before it answered, the next one takes over with the recorded id and
time, so what it publishes is the same event again and nothing is sent twice. The lease only decides who waits for whom;
nothing breaks when two hold it. It is short, so that a crash keeps nobody waiting, and renewed while a request is under way,
so that one that takes long (a bulk) is not done twice. Only accepted requests are remembered: after a refusal the key is
free again.

Answers hold a phone number, so they are sealed.

Redis away means that a repeat could not be told from a new request, so requests with the header are refused (503).
"""

import asyncio
import hashlib
import logging
import secrets
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import redis.exceptions
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from harkara_chassis.clock import now_utc
from harkara_chassis.sealing import Sealer
from harkara_contracts.errors import ErrorCode, HarkaraError
from harkara_contracts.ids import new_message_id
from harkara_ingress.sending.scripts import Scripts

logger = logging.getLogger(__name__)

KEPT_S = 86_400
LEASE_MS = 5_000
_FIRST_PAUSE_S = 0.02
_MAX_PAUSE_S = 0.25
_RENEW_EVERY_S = 1.5
_LONGEST_UNDER_WAY_S = 120.0
_LONGEST_WAIT_S = 65.0
_TIMEOUT_S = 2.0
_ALIVE_S = 60

# KEYS[1] the record; ARGV: digest, message id, time, owner, lease in ms, seconds to keep.
# Returns: digest, message id, time, answer or '', 1 if the caller is to go on, 1 if the record is new.
_CLAIM = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local record = redis.call('HMGET', KEYS[1], 'digest', 'id', 'at', 'answer', 'leased_until', 'owner')
if not record[1] then
  redis.call('HSET', KEYS[1], 'digest', ARGV[1], 'id', ARGV[2], 'at', ARGV[3], 'owner', ARGV[4],
             'leased_until', string.format('%d', now + ARGV[5]))
  redis.call('EXPIRE', KEYS[1], ARGV[6])
  return {ARGV[1], ARGV[2], ARGV[3], '', 1, 1}
end
local mine = 0
-- The owner asks again when the reply to its claim was lost on the way.
if record[1] == ARGV[1] and not record[4] and (tonumber(record[5]) <= now or record[6] == ARGV[4]) then
  redis.call('HSET', KEYS[1], 'owner', ARGV[4], 'leased_until', string.format('%d', now + ARGV[5]))
  mine = 1
end
return {record[1], record[2], record[3], record[4] or '', mine, 0}
"""

# KEYS[1] the record; ARGV: digest, answer, seconds to keep.
_COMPLETE = """
if redis.call('HGET', KEYS[1], 'digest') == ARGV[1] then
  redis.call('HSET', KEYS[1], 'answer', ARGV[2])
  redis.call('EXPIRE', KEYS[1], ARGV[3])
end
"""

# KEYS[1] the record; ARGV: owner, 1 to forget the record (nothing was ever published under it), 0 to end the lease only.
_RELEASE = """
if redis.call('HGET', KEYS[1], 'owner') == ARGV[1] then
  if ARGV[2] == '1' then redis.call('DEL', KEYS[1]) else redis.call('HSET', KEYS[1], 'leased_until', '0') end
end
"""

# KEYS[1] the record; ARGV: owner, lease in ms.
_RENEW = """
if redis.call('HGET', KEYS[1], 'owner') == ARGV[1] then
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  redis.call('HSET', KEYS[1], 'leased_until', string.format('%d', now + ARGV[2]))
end
"""


def connect(url: str) -> "Redis":
    """Return a client that tells soon when Redis is away: one more try (an idle connection may be dead), no pauses."""
    retry = Retry(NoBackoff(), 1)
    return Redis.from_url(url, socket_timeout=_TIMEOUT_S, socket_connect_timeout=_TIMEOUT_S, retry=retry)


async def ask_to_write(redis: "Redis") -> list[str]:
    """Write something that nobody reads: a server whose memory is full still answers questions."""
    await redis.set("alive", 1, ex=_ALIVE_S)
    return []


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to go on with a request, under this message id and time."""

    key: str
    digest: str
    owner: str
    message_id: str
    at: datetime
    is_new: bool


@dataclass(frozen=True, slots=True)
class Answered:
    """The request was accepted before; this is what was answered."""

    body: bytes


class Idempotency:
    """Claims in Redis, shared by all processes of the edge. `keep_leases` has to run beside it."""

    def __init__(self, client: "Redis", sealer: Sealer) -> None:
        self._sealer = sealer
        self._scripts = Scripts(client, (_CLAIM, _COMPLETE, _RELEASE, _RENEW), _TIMEOUT_S)
        self._under_way: dict[str, tuple[Claim, float]] = {}

    async def once(
        self,
        account_id: str,
        idempotency_key: str,
        request: bytes,
        accept: Callable[[str, datetime], Awaitable[bytes]],
    ) -> bytes:
        """Accept a request, or return what was answered when it was accepted before.

        Args:
            account_id: whose keys are meant.
            idempotency_key: as the client gave it.
            request: everything that makes the request what it is.
            accept: called with a message id and a time, the same for every repeat that has to finish the work; returns the
                answer. It raises ERR_UNAVAILABLE where it may have published, another HarkaraError where nothing was.

        Raises:
            HarkaraError: what `accept` raised; and as `claim` does.
        """
        claim = await self.claim(account_id, idempotency_key, request)
        if isinstance(claim, Answered):
            return claim.body
        try:
            body = await accept(claim.message_id, claim.at)
        except BaseException as error:
            # Nothing was published, unless the bus was given the event and did not say that it has it.
            refused = isinstance(error, HarkaraError) and error.code is not ErrorCode.UNAVAILABLE
            with suppress(HarkaraError):
                await self.release(claim, refused=refused)
            raise
        try:
            await self.complete(claim, body)
        except HarkaraError:
            logger.warning("an idempotent answer could not be kept; a repeat would publish the same event again")
        return body

    async def claim(self, account_id: str, idempotency_key: str, request: bytes) -> Claim | Answered:
        """Claim a request, waiting while another one of the same key is under way.

        Args:
            account_id: whose keys are meant.
            idempotency_key: as the client gave it.
            request: everything that makes the request what it is.

        Raises:
            HarkaraError: ERR_IDEMPOTENCY_CONFLICT, the key was used for another request; ERR_UNAVAILABLE, Redis is away
                or the first request is not answered in time.
        """
        digest = hashlib.sha256(request).hexdigest()
        name = f"idempotency:{account_id}:{hashlib.sha256(idempotency_key.encode()).hexdigest()}"
        owner = secrets.token_hex(8)
        pause_s = _FIRST_PAUSE_S
        try:
            async with asyncio.timeout(_LONGEST_WAIT_S):
                while True:
                    found = await self._try_claim(name, digest, owner)
                    if isinstance(found, Claim):
                        self._under_way[owner] = (found, time.monotonic())
                    if found is not None:
                        return found
                    await asyncio.sleep(pause_s)
                    pause_s = min(2 * pause_s, _MAX_PAUSE_S)
        except TimeoutError as error:
            raise HarkaraError(
                ErrorCode.UNAVAILABLE,
                "The first request with this Idempotency-Key is still under way. Send it again shortly.",
            ) from error

    async def complete(self, claim: Claim, body: bytes) -> None:
        """Remember the answer. Without it (Redis away) a repeat publishes the same event again, which sends nothing."""
        self._under_way.pop(claim.owner, None)
        await self._call(_COMPLETE, claim.key, claim.digest, self._sealer.seal(body), KEPT_S)

    async def release(self, claim: Claim, *, refused: bool) -> None:
        """Let the next one in: after a refusal as if nothing had been, else to finish what may have been published."""
        self._under_way.pop(claim.owner, None)
        forget = refused and claim.is_new
        await self._call(_RELEASE, claim.key, claim.owner, int(forget))

    async def keep_leases(self) -> None:
        """Renew, for ever, the leases of claims that are neither completed nor released yet."""
        while True:
            await asyncio.sleep(_RENEW_EVERY_S)
            now_s = time.monotonic()
            ages_s = [(claim, now_s - since_s) for claim, since_s in self._under_way.values()]
            await asyncio.gather(*(self._renew(claim, age_s) for claim, age_s in ages_s if age_s >= _RENEW_EVERY_S))

    async def _renew(self, claim: Claim, age_s: float) -> None:
        if age_s > _LONGEST_UNDER_WAY_S:
            # Whoever had it is not coming back to it: the next one may take over.
            self._under_way.pop(claim.owner, None)
            return
        with suppress(HarkaraError):
            await self._call(_RENEW, claim.key, claim.owner, LEASE_MS)

    async def _try_claim(self, name: str, digest: str, owner: str) -> Claim | Answered | None:
        proposed_id, proposed_at = new_message_id(), now_utc().isoformat()
        result = await self._call(_CLAIM, name, digest, proposed_id, proposed_at, owner, LEASE_MS, KEPT_S)
        known, message_id, at, answer, mine, is_new = result
        if known.decode() != digest:
            raise HarkaraError(
                ErrorCode.IDEMPOTENCY_CONFLICT,
                "This Idempotency-Key was used for another request in the last 24 hours. Use a new key for a new request.",
            )
        if answer:
            return Answered(self._sealer.open(answer))
        if not mine:
            return None
        instant = datetime.fromisoformat(at.decode()).astimezone(UTC)
        return Claim(name, digest, owner, message_id.decode(), instant, bool(is_new))

    async def _call(self, script: str, key: str, *args: str | int | bytes) -> Any:
        try:
            return await self._scripts.call(script, [key], args)
        except (redis.exceptions.RedisError, OSError) as error:
            raise HarkaraError(
                ErrorCode.UNAVAILABLE,
                "Requests with an Idempotency-Key cannot be taken at the moment. "
                "Send it again shortly, with the same key.",
            ) from error
