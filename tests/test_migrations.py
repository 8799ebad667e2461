"""A service's tables are as its code declares them, also after all was taken away and made again."""

from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, MetaData
from sqlalchemy.ext.asyncio import create_async_engine

from harkara_billing import tables as billing
from harkara_chassis.migrations import migrate
from harkara_ingress import tables as ingress
from harkara_webhook_dispatcher import tables as webhooks


def _differences(connection: Connection, declared: MetaData) -> list[Any]:
    def is_ours(_item: Any, name: str | None, kind: str, _reflected: Any, _compare_to: Any) -> bool:
        return kind != "table" or name in declared.tables

    context = MigrationContext.configure(connection, opts={"include_object": is_ours, "compare_type": True})
    found: list[Any] = compare_metadata(context, declared)
    return found


@pytest.mark.parametrize(
    ("service", "declared", "names"),
    [
        ("billing", billing.Table.metadata, set(billing.Table.metadata.tables)),
        ("ingress", ingress.Table.metadata, set(ingress.Table.metadata.tables)),
        ("webhook-dispatcher", webhooks.Table.metadata, {"endpoint", "delivery"}),
    ],
)
async def test_tables_are_as_declared_after_down_and_up(
    servers: Any, service: str, declared: MetaData, names: set[str]
) -> None:
    url = servers.database_url(service)
    migrate(service, url, "base")
    engine = create_async_engine(url.replace("postgresql://", "postgresql+asyncpg://", 1))
    async with engine.connect() as connection:
        emptied = await connection.run_sync(_differences, declared)
    migrate(service, url)
    async with engine.connect() as connection:
        differences = await connection.run_sync(_differences, declared)
    await engine.dispose()
    assert {change[1].name for change in emptied if change[0] == "add_table"} == names
    assert differences == []
