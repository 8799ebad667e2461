"""A signature opens the door once: its first use is remembered for as long as its timestamp can be taken.

Redis tells all processes of the edge. Each also remembers by itself what it let in, so that while Redis is away (or slow:
no request waits long for it) only a copy shown to another process could come in. An account whose every change must be
safe from that gives an Idempotency-Key, which is refused while Redis is away.

What a signature was used for is kept beside it: the same request with the same Idempotency-Key is a repeat that a client
is told to make, and idempotency sees to it.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Callable
from typing import cast

import redis.exceptions
from redis.asyncio import Redis

from harkara_ingress.access.signing import TOLERANCE_S

logger = logging.getLogger(__name__)

KEPT_S = 2 * TOLERANCE_S
"""From a timestamp that lies ahead as far as it may, until it lies back as far as it may."""

_PATIENCE_S = 0.25
_ASK_AGAIN_S = 1.0
_ANY_USE_BYTES = 16


class FirstUses:
    """First uses of signatures; of more than `max_here` in this process's own memory the oldest are forgotten."""

    def __init__(self, client: "Redis", clock: Callable[[], float] = time.monotonic, max_here: int = 50_000) -> None:
        self._redis = client
        self._clock = clock
        self._max_here = max_here
        self._here: dict[bytes, tuple[bytes, float]] = {}
        self._ask_at_s = 0.0
        self._is_away = False

    async def admit(self, account_id: str, signature: bytes, use: bytes | None) -> bool:
        """Say whether a signature is used for the first time, or for the same again.

        Args:
            account_id: whose signature it is.
            signature: what identifies it among those of the account.
            use: what it is used for; None is like nothing else.
        """
        use = use or secrets.token_bytes(_ANY_USE_BYTES)
        name = b"signature:%b:%b" % (account_id.encode(), signature)
        if self._used_here_for(name, use) != use:
            return False
        known = await self._used_anywhere_for(name, use)
        if known is None or known == use:
            return True
        self._here[name] = (known, self._clock() + KEPT_S)
        return False

    def _used_here_for(self, name: bytes, use: bytes) -> bytes:
        """Return what a signature was first used for; where it is new, `use` is that from now on."""
        now_s = self._clock()
        while self._here and (len(self._here) >= self._max_here or self._oldest_until_s() <= now_s):
            del self._here[next(iter(self._here))]
        return self._here.setdefault(name, (use, now_s + KEPT_S))[0]

    def _oldest_until_s(self) -> float:
        return next(iter(self._here.values()))[1]

    async def _used_anywhere_for(self, name: bytes, use: bytes) -> bytes | None:
        """Do the same in Redis; None where it is new there, or Redis is away."""
        if self._clock() < self._ask_at_s:
            return None
        try:
            async with asyncio.timeout(_PATIENCE_S):
                known = await self._redis.set(name, use, nx=True, get=True, px=KEPT_S * 1_000)
        except (redis.exceptions.RedisError, OSError, TimeoutError) as error:
            self._ask_at_s = self._clock() + _ASK_AGAIN_S
            if not self._is_away:
                logger.warning("used signatures are known to this process only", extra={"kind": type(error).__name__})
            self._is_away = True
            return None
        if self._is_away:
            logger.warning("used signatures are known to all processes again")
        self._is_away = False
        return cast("bytes | None", known)
