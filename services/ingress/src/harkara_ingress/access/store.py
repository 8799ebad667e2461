"""Accounts and keys in Postgres: the truth that their facts tell the others."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

import asyncpg

from harkara_chassis.database import Connection, Database
from harkara_contracts.facts import AccountFact, ApiKeyFact

_ACCOUNT = (
    "account_id, name, plan, status, auto_approve, requests_per_minute, messages_per_second, burst, ip_allow_list,"
    " require_signature, former_secret_until, version, created_at"
)
_KEY = (
    "key_id, account_id, key_hash, name, scopes, test_only, expires_at, revoked_at, last_used_at, version, created_at"
)


@dataclass(frozen=True, slots=True)
class AccountRecord:
    """An account as its row has it."""

    account_id: str
    name: str
    plan: str
    status: str
    auto_approve: bool
    requests_per_minute: int | None
    messages_per_second: int | None
    burst: int | None
    ip_allow_list: list[str]
    require_signature: bool
    former_secret_until: datetime | None
    version: int
    created_at: datetime

    def fact(self) -> AccountFact:
        return AccountFact(
            version=self.version,
            account_id=self.account_id,
            name=self.name,
            plan=self.plan,
            status=self.status,
            auto_approve=self.auto_approve,
            requests_per_minute=self.requests_per_minute,
            messages_per_second=self.messages_per_second,
            burst=self.burst,
            ip_allow_list=self.ip_allow_list,
            require_signature=self.require_signature,
        )


@dataclass(frozen=True, slots=True)
class StoredSecrets:
    """An account's signing secrets, sealed: the one of now, and the one before it until its time is over."""

    current: bytes
    former: bytes | None
    former_until: datetime | None


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """A key as its row has it."""

    key_id: str
    account_id: str
    key_hash: str
    name: str
    scopes: list[str]
    test_only: bool
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None
    version: int
    created_at: datetime

    def fact(self) -> ApiKeyFact:
        return ApiKeyFact(
            version=self.version,
            deleted=self.revoked_at is not None,
            key_id=self.key_id,
            account_id=self.account_id,
            key_hash=self.key_hash,
            name=self.name,
            scopes=self.scopes,
            test_only=self.test_only,
            expires_at=self.expires_at,
        )


class AccountStore:
    """Queries on `account` and `api_key`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add_account(self, account: AccountRecord, sealed_secret: bytes, key: KeyRecord) -> None:
        """Store an account with its first key."""
        async with self._database.transaction() as connection:
            await connection.execute(
                f"INSERT INTO account ({_ACCOUNT}, signing_secret) VALUES ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,$13,$14)",  # noqa: S608  # constants
                account.account_id,
                account.name,
                account.plan,
                account.status,
                account.auto_approve,
                account.requests_per_minute,
                account.messages_per_second,
                account.burst,
                account.ip_allow_list,
                account.require_signature,
                account.former_secret_until,
                account.version,
                account.created_at,
                sealed_secret,
            )
            await _insert_key(connection, key)

    async def change_account(
        self, account_id: str, change: Callable[[AccountRecord], AccountRecord]
    ) -> AccountRecord | None:
        """Change an account's row while nobody else can; None if there is no such account."""
        async with self._database.transaction() as connection:
            former = await self.locked_accounts(connection, [account_id])
            if not former:
                return None
            account = change(former[0])
            await connection.execute(
                """
                UPDATE account SET name = $2, plan = $3, status = $4, auto_approve = $5, requests_per_minute = $6,
                    messages_per_second = $7, burst = $8, ip_allow_list = $9, require_signature = $10, version = $11
                WHERE account_id = $1
                """,
                account.account_id,
                account.name,
                account.plan,
                account.status,
                account.auto_approve,
                account.requests_per_minute,
                account.messages_per_second,
                account.burst,
                account.ip_allow_list,
                account.require_signature,
                account.version,
            )
            return account

    async def account(self, account_id: str) -> AccountRecord | None:
        row = await self._database.fetchrow(f"SELECT {_ACCOUNT} FROM account WHERE account_id = $1", account_id)  # noqa: S608  # constants
        return _account(row) if row else None

    async def signing_secrets(self, account_id: str) -> StoredSecrets | None:
        row = await self._database.fetchrow(
            "SELECT signing_secret, former_signing_secret, former_secret_until FROM account WHERE account_id = $1",
            account_id,
        )
        return StoredSecrets(*row.values()) if row else None

    async def rotate_signing_secret(
        self, account_id: str, sealed_secret: bytes, now: datetime, former_until: datetime | None, version: int
    ) -> None:
        """Give an account a new secret; the one before it lives until `former_until`, or ends at once.

        While two are valid the newer one is replaced: its answer may have been lost, and the older one is in use.
        """
        await self._database.execute(
            """
            UPDATE account SET signing_secret = $2, former_secret_until = $4, version = greatest(version + 1, $5),
                former_signing_secret = CASE
                    WHEN $4::timestamptz IS NULL THEN NULL
                    WHEN former_secret_until > $3 THEN former_signing_secret
                    ELSE signing_secret
                END
            WHERE account_id = $1
            """,
            account_id,
            sealed_secret,
            now,
            former_until,
            version,
        )

    async def add_key(self, key: KeyRecord, most: int) -> list[str] | None:
        """Add a key to those of its account; return which ones that had expired made room, or None: there is none."""
        async with self._database.transaction() as connection:
            forgotten = await _make_room(connection, key, most)
            if forgotten is not None:
                await _insert_key(connection, key)
            return forgotten

    async def replace_key(self, old_key_id: str, old_until: datetime, new: KeyRecord, most: int) -> list[str] | None:
        """Add a key as `add_key` does, and let an older one end, no later than it would have."""
        async with self._database.transaction() as connection:
            forgotten = await _make_room(connection, new, most)
            if forgotten is None:
                return None
            await connection.execute(
                "UPDATE api_key SET expires_at = least(expires_at, $2), version = greatest(version + 1, $3) WHERE key_id = $1",
                old_key_id,
                old_until,
                new.version,
            )
            await _insert_key(connection, new)
            return forgotten

    async def revoke_key(self, account_id: str, key_id: str, now: datetime, version: int) -> bool:
        """Revoke a key, once; False if the account has none of that name. A repeat changes nothing."""
        row = await self._database.fetchrow(
            """
            WITH found AS (SELECT key_id, revoked_at FROM api_key WHERE account_id = $1 AND key_id = $2),
            revoked AS (
                UPDATE api_key SET revoked_at = $3, version = greatest(version + 1, $4)
                WHERE key_id = (SELECT key_id FROM found WHERE revoked_at IS NULL)
            )
            SELECT 1 FROM found
            """,
            account_id,
            key_id,
            now,
            version,
        )
        return row is not None

    async def key(self, account_id: str, key_id: str) -> KeyRecord | None:
        row = await self._database.fetchrow(
            f"SELECT {_KEY} FROM api_key WHERE account_id = $1 AND key_id = $2",  # noqa: S608  # constants
            account_id,
            key_id,
        )
        return _key(row) if row else None

    async def keys(self, account_id: str) -> list[KeyRecord]:
        """Return the keys of an account that are not revoked, oldest first."""
        rows = await self._database.fetch(
            f"SELECT {_KEY} FROM api_key WHERE account_id = $1 AND revoked_at IS NULL ORDER BY created_at, key_id",  # noqa: S608  # constants
            account_id,
        )
        return [_key(row) for row in rows]

    async def note_use(self, last_used: Mapping[str, datetime]) -> None:
        """Write when keys were last used; whatever is known to be later stays."""
        # Rows are locked in one order, or two processes that write of the same keys might wait for each other.
        await self._database.execute(
            """
            WITH told AS (SELECT * FROM unnest($1::text[], $2::timestamptz[]) AS told (key_id, used_at)),
            locked AS (SELECT key_id FROM api_key WHERE key_id = ANY($1::text[]) ORDER BY key_id FOR UPDATE)
            UPDATE api_key SET last_used_at = greatest(last_used_at, used_at)
            FROM told JOIN locked USING (key_id) WHERE api_key.key_id = told.key_id
            """,
            list(last_used),
            list(last_used.values()),
        )

    async def versions(self) -> tuple[dict[str, int], dict[str, int]]:
        """Return the version of every account, and of every key that is not revoked."""
        accounts = await self._database.fetch("SELECT account_id, version FROM account")
        keys = await self._database.fetch("SELECT key_id, version FROM api_key WHERE revoked_at IS NULL")
        return {row[0]: row[1] for row in accounts}, {row[0]: row[1] for row in keys}

    async def locked_accounts(self, connection: Connection, account_ids: list[str]) -> list[AccountRecord]:
        """Read accounts and keep others from changing them until the transaction ends."""
        rows = await connection.fetch(
            f"SELECT {_ACCOUNT} FROM account WHERE account_id = ANY($1::text[]) ORDER BY account_id FOR UPDATE",  # noqa: S608  # constants
            account_ids,
        )
        return [_account(row) for row in rows]

    async def locked_keys(self, connection: Connection, key_ids: list[str]) -> list[KeyRecord]:
        """Read keys and keep others from changing them until the transaction ends."""
        rows = await connection.fetch(
            f"SELECT {_KEY} FROM api_key WHERE key_id = ANY($1::text[]) ORDER BY key_id FOR UPDATE",  # noqa: S608  # constants
            key_ids,
        )
        return [_key(row) for row in rows]


async def _make_room(connection: Connection, key: KeyRecord, most: int) -> list[str] | None:
    """Make room for a key, as `AccountStore.add_key` says; nobody else adds one to the account until the transaction ends."""
    await connection.execute("SELECT 1 FROM account WHERE account_id = $1 FOR UPDATE", key.account_id)
    count = "SELECT count(*) FROM api_key WHERE account_id = $1 AND revoked_at IS NULL"
    if (await connection.fetchval(count, key.account_id)) < most:
        return []
    expired = await connection.fetch(
        """
        UPDATE api_key SET revoked_at = $2, version = greatest(version + 1, $3)
        WHERE account_id = $1 AND revoked_at IS NULL AND expires_at <= $2 RETURNING key_id
        """,
        key.account_id,
        key.created_at,
        key.version,
    )
    return [row["key_id"] for row in expired] or None


async def _insert_key(connection: Connection, key: KeyRecord) -> None:
    await connection.execute(
        f"INSERT INTO api_key ({_KEY}) VALUES ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11)",  # noqa: S608  # constants
        key.key_id,
        key.account_id,
        key.key_hash,
        key.name,
        key.scopes,
        key.test_only,
        key.expires_at,
        key.revoked_at,
        key.last_used_at,
        key.version,
        key.created_at,
    )


def _account(row: asyncpg.Record) -> AccountRecord:
    return AccountRecord(*row.values())


def _key(row: asyncpg.Record) -> KeyRecord:
    return KeyRecord(*row.values())
