"""When each API key was last used: noted in memory, written for all keys in one statement now and then.

A crash loses what was noted since; it is told to people, and nothing hangs on it.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from harkara_chassis.faults import is_passing
from harkara_ingress.access.store import AccountStore

logger = logging.getLogger(__name__)

_WRITTEN_EVERY_S = 30.0
_LAST_TIMEOUT_S = 2.0


class KeyUse:
    def __init__(self, store: AccountStore, unix_time: Callable[[], float] = time.time) -> None:
        self._store = store
        self._unix_time = unix_time
        self._last_s: dict[str, float] = {}

    def note(self, key_id: str) -> None:
        self._last_s[key_id] = self._unix_time()

    async def write(self) -> None:
        """Write what was noted since the last time; what cannot be written is kept for the next."""
        if not self._last_s:
            return
        noted, self._last_s = self._last_s, {}
        try:
            await self._store.note_use({key: datetime.fromtimestamp(at_s, UTC) for key, at_s in noted.items()})
        except BaseException:
            self._last_s = noted | self._last_s
            raise

    @asynccontextmanager
    async def written_at_the_end(self) -> AsyncIterator[None]:
        """Write once more on the way out, if the database is there."""
        yield
        try:
            async with asyncio.timeout(_LAST_TIMEOUT_S):
                await self.write()
        except Exception as error:
            if not is_passing(error):
                raise
            logger.warning("the last use of keys is not written", extra={"kind": type(error).__name__})

    async def keep_writing(self, every_s: float = _WRITTEN_EVERY_S) -> None:
        """Write now and then, for ever."""
        while True:
            await asyncio.sleep(every_s)
            try:
                await self.write()
            except Exception as error:
                if not is_passing(error):
                    raise
                logger.warning("the last use of keys is written later", extra={"kind": type(error).__name__})
