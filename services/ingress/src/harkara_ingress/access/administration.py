"""Accounts and keys are changed here: first the row, then its fact, told while the row is locked.

The lock makes facts leave in the order of the changes. A crash between the row and its fact leaves the fact behind; that
is mended when a process starts: it tells every row whose version its view does not show.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Protocol

from harkara_chassis.clock import now_utc
from harkara_chassis.database import Database
from harkara_chassis.publisher import Publisher
from harkara_chassis.sealing import Sealer
from harkara_contracts.errors import ErrorCode, HarkaraError
from harkara_contracts.ids import new_account_id, new_id
from harkara_ingress.access.accounts import (
    AccountStatus,
    Directory,
    Plan,
    Scope,
    hash_key,
    new_api_key,
    new_signing_secret,
)
from harkara_ingress.access.store import AccountRecord, AccountStore, KeyRecord

_FIRST_SCOPES = [Scope.SEND.value, Scope.READ.value, Scope.MANAGE.value]
MAX_KEYS = 100
"""Keys an account may have at once, those included that have expired; when it has so many, these go first."""
_TOLD_TOGETHER = 100


class FactsReached(Protocol):
    async def __call__(self, sequence: int, timeout_s: float = 2.0) -> bool: ...


@dataclass(frozen=True, slots=True)
class NewAccount:
    """A new account with what is told only once."""

    account: AccountRecord
    key_id: str
    api_key: str
    signing_secret: str


@dataclass(frozen=True, slots=True)
class NewKey:
    """A new key with its text, which is told only once."""

    key: KeyRecord
    api_key: str


class Administration:
    def __init__(
        self,
        database: Database,
        store: AccountStore,
        publisher: Publisher,
        facts_reached: FactsReached,
        sealer: Sealer,
        timeout_s: float,
    ) -> None:
        self._database = database
        self._store = store
        self._publisher = publisher
        self._facts_reached = facts_reached
        self._sealer = sealer
        self._timeout_s = timeout_s

    async def open_account(self, name: str, plan: Plan, *, auto_approve: bool) -> NewAccount:
        """Create an account with its first key (send, read, manage) and its signing secret."""
        now = now_utc()
        account = AccountRecord(
            account_id=new_account_id(),
            name=name,
            plan=plan.value,
            status=AccountStatus.ACTIVE.value,
            auto_approve=auto_approve,
            requests_per_minute=None,
            messages_per_second=None,
            burst=None,
            ip_allow_list=[],
            require_signature=False,
            former_secret_until=None,
            version=time.time_ns(),
            created_at=now,
        )
        new = _new_key(account.account_id, "first key", _FIRST_SCOPES, test_only=False, expires_at=None)
        secret = new_signing_secret()
        await self._store.add_account(account, self._sealer.seal(secret.encode()), new.key)
        await self._announce([account.account_id], [new.key.key_id])
        return NewAccount(account, new.key.key_id, new.api_key, secret)

    async def change_account(self, account_id: str, change: Callable[[AccountRecord], AccountRecord]) -> AccountRecord:
        """Change an account.

        Raises:
            HarkaraError: ERR_NOT_FOUND.
        """

        def changed(former: AccountRecord) -> AccountRecord:
            return replace(change(former), version=_next_version(former.version))

        account = await self._store.change_account(account_id, changed)
        if account is None:
            raise HarkaraError(ErrorCode.NOT_FOUND, "There is no such account.")
        await self._announce([account_id], [])
        return account

    async def rotate_signing_secret(self, account_id: str, overlap: timedelta) -> tuple[str, datetime]:
        """Replace an account's signing secret; return the new one, which is told only once, and when the old one ends."""
        now, secret = now_utc(), new_signing_secret()
        until = now + overlap if overlap else None
        sealed = self._sealer.seal(secret.encode())
        await self._store.rotate_signing_secret(account_id, sealed, now, until, time.time_ns())
        await self._announce([account_id], [])
        return secret, until or now

    async def add_key(
        self, account_id: str, name: str, scopes: list[Scope], *, test_only: bool, expires_at: datetime | None
    ) -> NewKey:
        """Create one more key of an account.

        Raises:
            HarkaraError: ERR_CONFLICT, the account has as many as it may.
        """
        new = _new_key(account_id, name, [str(scope) for scope in scopes], test_only=test_only, expires_at=expires_at)
        await self._announce_added(new.key, await self._store.add_key(new.key, MAX_KEYS))
        return new

    async def rotate_key(self, account_id: str, key_id: str, overlap: timedelta) -> tuple[NewKey, datetime]:
        """Create a successor of a key; return it and when the old one ends.

        Raises:
            HarkaraError: ERR_NOT_FOUND; ERR_CONFLICT, the key has expired and its successor would be born so, or the account
                has as many as it may.
        """
        former = await self._store.key(account_id, key_id)
        if former is None or former.revoked_at is not None:
            raise HarkaraError(ErrorCode.NOT_FOUND, "The account has no such key.")
        now = now_utc()
        if former.expires_at is not None and former.expires_at <= now:
            raise HarkaraError(ErrorCode.CONFLICT, "The key has expired. Create a new one with POST /v1/keys.")
        old_until = min(now + overlap, former.expires_at or now + overlap)
        new = _new_key(account_id, former.name, former.scopes, test_only=former.test_only, expires_at=former.expires_at)
        await self._announce_added(new.key, await self._store.replace_key(key_id, old_until, new.key, MAX_KEYS), key_id)
        return new, old_until

    async def revoke_key(self, account_id: str, key_id: str) -> None:
        """End a key at once; a repeat is the same.

        Raises:
            HarkaraError: ERR_NOT_FOUND.
        """
        if not await self._store.revoke_key(account_id, key_id, now_utc(), time.time_ns()):
            raise HarkaraError(ErrorCode.NOT_FOUND, "The account has no such key.")
        await self._announce([], [key_id])

    async def tell_what_is_missing(self, directory: Directory) -> None:
        """Tell the facts of all rows that the views do not show as they are."""
        accounts, keys = await self._store.versions()
        untold = sorted(each for each, version in accounts.items() if directory.account_version(each) != version)
        shown = directory.key_versions()
        differing = sorted(each for each in keys.keys() | shown.keys() if keys.get(each) != shown.get(each))
        for start in range(0, len(untold), _TOLD_TOGETHER):
            await self._tell(untold[start : start + _TOLD_TOGETHER], [])
        for start in range(0, len(differing), _TOLD_TOGETHER):
            await self._tell([], differing[start : start + _TOLD_TOGETHER])

    async def _announce_added(self, key: KeyRecord, forgotten: list[str] | None, *changed: str) -> None:
        if forgotten is None:
            raise HarkaraError(ErrorCode.CONFLICT, f"An account has at most {MAX_KEYS} keys. Delete one first.")
        await self._announce([], [*forgotten, *changed, key.key_id])

    async def _announce(self, account_ids: list[str], key_ids: list[str]) -> None:
        """Tell facts and wait until this process itself shows them."""
        try:
            async with asyncio.timeout(self._timeout_s):
                sequence = await self._tell(account_ids, key_ids)
        except TimeoutError as error:
            raise HarkaraError(
                ErrorCode.UNAVAILABLE, "The change is stored but could not be made known everywhere yet. Repeat it."
            ) from error
        await self._facts_reached(sequence)

    async def _tell(self, account_ids: list[str], key_ids: list[str]) -> int:
        async with self._database.transaction() as connection:
            accounts = await self._store.locked_accounts(connection, account_ids) if account_ids else []
            keys = await self._store.locked_keys(connection, key_ids) if key_ids else []
            facts = [*(account.fact() for account in accounts), *(key.fact() for key in keys)]
            return await self._publisher.publish(facts)


def _new_key(account_id: str, name: str, scopes: list[str], *, test_only: bool, expires_at: datetime | None) -> NewKey:
    text = new_api_key(test_only=test_only)
    key = KeyRecord(
        key_id=new_id("KEY"),
        account_id=account_id,
        key_hash=hash_key(text),
        name=name,
        scopes=scopes,
        test_only=test_only,
        expires_at=expires_at,
        revoked_at=None,
        last_used_at=None,
        version=time.time_ns(),
        created_at=now_utc(),
    )
    return NewKey(key, text)


def _next_version(former: int) -> int:
    # A clock that was set back must not make a change look older than what it changes.
    return max(time.time_ns(), former + 1)
