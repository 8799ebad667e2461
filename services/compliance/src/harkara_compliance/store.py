"""The registry's tables. A row is the last value of its fact; one generic statement for each kind, made of its columns.

Changes of one account are made one at a time, over all instances, by a lock that is held until the change is published:
so the last fact in the stream is the last row in the table, whoever wrote it.
"""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

import asyncpg
from sqlalchemy import Table as SqlTable
from sqlalchemy.dialects.postgresql import JSONB

from harkara_chassis.database import Connection, Database
from harkara_compliance.tables import EntityRow, SenderRow, Table, TemplateRow, UrlRow
from harkara_contracts.commands import Command
from harkara_contracts.facts import EntityFact, SenderFact, TemplateFact, UrlFact
from harkara_registry import RegistryFact

F = TypeVar("F", EntityFact, SenderFact, TemplateFact, UrlFact)

_LOCK = "SELECT pg_advisory_lock(hashtextextended('harkara compliance ' || $1, 0))"
_UNLOCK = "SELECT pg_advisory_unlock(hashtextextended('harkara compliance ' || $1, 0))"

_AUDIT = """
WITH history AS (
    INSERT INTO status_history (account_id, kind, name, status, reason, actor)
    SELECT $1, $5, $6, $8, $9, $2 WHERE $8::text IS NOT NULL
)
INSERT INTO audit (account_id, actor, command_id, command, kind, name, change)
VALUES ($1, $2, $3, $4, $5, $6, $7::text::jsonb)
"""


@dataclass(frozen=True)
class _Kind(Generic[F]):
    """How one kind of fact is kept. `name` is the field by which people know it."""

    fact: type[F]
    row: type[Table]
    name: str

    @property
    def table(self) -> SqlTable:
        return cast("SqlTable", self.row.__table__)  # type: ignore[attr-defined]  # SQLModel adds it to table classes

    def select(self, condition: str) -> str:
        columns = ", ".join(f"{c.name}::text" if isinstance(c.type, JSONB) else c.name for c in self.table.columns)
        return f"SELECT {columns} FROM {self.table.name} {condition}"  # noqa: S608  # names are this module's own

    def upsert(self) -> str:
        columns = list(self.table.columns)
        values = ", ".join(
            f"${number}::text::jsonb" if isinstance(c.type, JSONB) else f"${number}"
            for number, c in enumerate(columns, start=1)
        )
        changes = ", ".join(f"{c.name} = EXCLUDED.{c.name}" for c in columns if not c.primary_key)
        key = ", ".join(c.name for c in columns if c.primary_key)
        return (
            f"INSERT INTO {self.table.name} ({', '.join(c.name for c in columns)}) VALUES ({values}) "  # noqa: S608
            f"ON CONFLICT ({key}) DO UPDATE SET {changes}"
        )

    def values(self, fact: F) -> list[Any]:
        plain = fact.model_dump()
        return [json.dumps(plain[c.name]) if isinstance(c.type, JSONB) else plain[c.name] for c in self.table.columns]

    def read(self, record: asyncpg.Record) -> F:
        json_columns = {c.name for c in self.table.columns if isinstance(c.type, JSONB)}
        return self.fact.model_validate(
            {name: json.loads(value) if name in json_columns else value for name, value in record.items()}
        )


_ENTITY = _Kind(EntityFact, EntityRow, "entity_id")
_SENDER = _Kind(SenderFact, SenderRow, "sender")
_TEMPLATE = _Kind(TemplateFact, TemplateRow, "template_id")
_URL = _Kind(UrlFact, UrlRow, "url_id")
_KINDS: tuple[_Kind[Any], ...] = (_ENTITY, _SENDER, _TEMPLATE, _URL)


class AccountRegistry:
    """One account's part of the registry, locked against others."""

    def __init__(self, connection: Connection, account_id: str) -> None:
        self._connection = connection
        self._account_id = account_id

    async def entity(self, entity_id: str) -> EntityFact | None:
        return await self._one(_ENTITY, "entity_id = $2", entity_id)

    async def sender(self, sender: str) -> SenderFact | None:
        return await self._one(_SENDER, "sender = $2", sender)

    async def template(self, template_id: str) -> TemplateFact | None:
        return await self._one(_TEMPLATE, "template_id = $2", template_id)

    async def template_by_dlt_id(self, dlt_template_id: str) -> TemplateFact | None:
        return await self._one(_TEMPLATE, "dlt_template_id = $2", dlt_template_id)

    async def url(self, url_id: str) -> UrlFact | None:
        return await self._one(_URL, "url_id = $2", url_id)

    async def url_by_value(self, kind: str, value: str) -> UrlFact | None:
        return await self._one(_URL, "kind = $2 AND value = $3 AND NOT deleted", kind, value)

    async def facts(self) -> list[RegistryFact]:
        """Return all of the account, tombstones included."""
        return await _read_all(self._connection, "WHERE account_id = $1", self._account_id)

    async def save(self, before: RegistryFact | None, after: RegistryFact, command: Command[Any]) -> None:
        """Write a changed fact, with who changed what, in one transaction."""
        kind: _Kind[Any] = next(kind for kind in _KINDS if kind.fact is type(after))
        change = _difference(before, after)
        status = getattr(after, "status", None) if "status" in change else None
        async with self._connection.transaction():
            await self._connection.execute(kind.upsert(), *kind.values(after))
            await self._connection.execute(
                _AUDIT,
                self._account_id,
                command.actor,
                command.command_id,
                command.event,
                after.event,
                getattr(after, kind.name),
                json.dumps(change),
                status,
                getattr(after, "reason", None),
            )

    async def _one(self, kind: _Kind[F], condition: str, *args: str) -> F | None:
        query = kind.select(f"WHERE account_id = $1 AND {condition}")
        record = await self._connection.fetchrow(query, self._account_id, *args)
        return None if record is None else kind.read(record)


class Store:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def facts(self, account_id: str | None = None) -> list[RegistryFact]:
        """Return the whole registry, or one account's part of it, tombstones included."""
        async with self._database.connection() as connection:
            if account_id is None:
                return await _read_all(connection, "")
            return await _read_all(connection, "WHERE account_id = $1", account_id)

    @asynccontextmanager
    async def account(self, account_id: str) -> AsyncIterator[AccountRegistry]:
        """Lend an account's part, locked until the body ends."""
        async with self._database.connection() as connection:
            try:
                await connection.execute(_LOCK, account_id)
                yield AccountRegistry(connection, account_id)
            finally:
                await _unlock(connection, account_id)


async def _unlock(connection: Connection, account_id: str) -> None:
    try:
        await connection.execute(_UNLOCK, account_id)
    except BaseException:
        # The lock belongs to the session: whatever happened, it ends here with it.
        connection.terminate()
        raise


async def _read_all(connection: Connection, condition: str, *args: str) -> list[RegistryFact]:
    facts: list[RegistryFact] = []
    for kind in _KINDS:
        facts.extend(kind.read(record) for record in await connection.fetch(kind.select(condition), *args))
    return facts


def _difference(before: RegistryFact | None, after: RegistryFact) -> dict[str, list[Any]]:
    """Return the fields that changed, each as [before, after]."""
    old = before.model_dump(mode="json") if before is not None else {}
    new = after.model_dump(mode="json")
    return {name: [old.get(name), value] for name, value in new.items() if name != "version" and old.get(name) != value}
