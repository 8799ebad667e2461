"""The endpoints in memory, so that an event of an account without any costs nothing.

The table is the truth. A fact about an endpoint, told by whichever instance changed it, only marks it stale; its row (and
its secret, which no fact carries) is read again before the next use.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from harkara_webhook_dispatcher.endpoint import Endpoint

Read = Callable[[Sequence[str] | None], Awaitable[list[Endpoint]]]


class Directory:
    """All endpoints by account. `read` gives those of some ids, or all for None."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self._by_id: dict[str, Endpoint] = {}
        self._by_account: dict[str, dict[str, Endpoint]] = {}
        self._stale: set[str] = set()
        self._is_loaded = False
        self._lock = asyncio.Lock()

    def mark_stale(self, webhook_id: str) -> None:
        self._stale.add(webhook_id)

    def get(self, webhook_id: str) -> Endpoint | None:
        return self._by_id.get(webhook_id)

    def wanting(self, account_id: str, event: str) -> list[Endpoint]:
        """Return the account's active endpoints that chose this event."""
        known = self._by_account.get(account_id)
        if not known:
            return []
        return [endpoint for endpoint in known.values() if endpoint.is_active and endpoint.wants(event)]

    async def refresh(self) -> list[str]:
        """Read what is stale; returns the ids that were read again."""
        # While another call is reading, what it reads is neither marked nor there yet: wait for it.
        if self._is_loaded and not self._stale and not self._lock.locked():
            return []
        async with self._lock:
            if not self._is_loaded:
                self._put(await self._read(None))
                self._is_loaded = True
            # Taken out only when read: a failed read leaves them stale, and a change meanwhile marks them anew.
            stale, self._stale = self._stale, set()
            if not stale:
                return []
            try:
                found = await self._read(sorted(stale))
            except BaseException:
                self._stale |= stale
                raise
            for webhook_id in stale - {endpoint.webhook_id for endpoint in found}:
                self._remove(webhook_id)
            self._put(found)
            return sorted(stale)

    def _put(self, endpoints: Sequence[Endpoint]) -> None:
        for endpoint in endpoints:
            self._by_id[endpoint.webhook_id] = endpoint
            self._by_account.setdefault(endpoint.account_id, {})[endpoint.webhook_id] = endpoint

    def _remove(self, webhook_id: str) -> None:
        gone = self._by_id.pop(webhook_id, None)
        if gone is not None:
            of_account = self._by_account[gone.account_id]
            del of_account[webhook_id]
            if not of_account:
                del self._by_account[gone.account_id]
