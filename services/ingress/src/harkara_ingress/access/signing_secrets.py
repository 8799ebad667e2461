"""Signing secrets in the clear, as long as this process needs them: read from the table once for each state of an account.

The facts about accounts go to every service and hold no secret, only a version that changes with it.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from harkara_chassis.clock import now_utc
from harkara_chassis.faults import is_passing
from harkara_chassis.sealing import Sealer
from harkara_contracts.errors import ErrorCode, HarkaraError
from harkara_ingress.access.store import AccountStore

_READ_TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True)
class _Known:
    version: int
    current: Sequence[bytes]
    former: Sequence[bytes]
    former_until: datetime | None


class SigningSecrets:
    """The secrets of the accounts that sign; of more than `max_accounts` the ones read first are forgotten first."""

    def __init__(
        self,
        store: AccountStore,
        sealer: Sealer,
        now: Callable[[], datetime] = now_utc,
        max_accounts: int = 10_000,
    ) -> None:
        self._store = store
        self._sealer = sealer
        self._now = now
        self._max_accounts = max_accounts
        self._known: dict[str, _Known] = {}

    async def of(self, account_id: str, version: int) -> Sequence[bytes]:
        """Return the secrets that are valid now.

        Args:
            account_id: whose.
            version: of the account as the caller knows it; an older state is not taken for it.

        Raises:
            HarkaraError: ERR_UNAVAILABLE, the table cannot be read at the moment.
        """
        known = self._known.get(account_id)
        if known is None or known.version != version:
            known = await self._read(account_id, version)
        if known.former_until is None or self._now() >= known.former_until:
            return known.current
        return [*known.current, *known.former]

    async def _read(self, account_id: str, version: int) -> _Known:
        try:
            async with asyncio.timeout(_READ_TIMEOUT_S):
                stored = await self._store.signing_secrets(account_id)
        except Exception as error:
            if not is_passing(error):
                raise
            raise HarkaraError(
                ErrorCode.UNAVAILABLE, "The signature cannot be checked at the moment. Send the request again shortly."
            ) from error
        if stored is None:
            known = _Known(version, [], [], None)
        else:
            former = [self._sealer.open(stored.former)] if stored.former is not None else []
            known = _Known(version, [self._sealer.open(stored.current)], former, stored.former_until)
        self._known.pop(account_id, None)
        self._known[account_id] = known
        if len(self._known) > self._max_accounts:
            del self._known[next(iter(self._known))]
        return known
