from typing import Any

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import create_async_engine

from harkara_chassis.migrations import migrate
from harkara_ingress.tables import Table


def _differences(connection: Connection) -> list[Any]:
    def is_ours(_item: Any, name: str | None, kind: str, _reflected: Any, _compare_to: Any) -> bool:
        return kind != "table" or name in Table.metadata.tables

    context = MigrationContext.configure(connection, opts={"include_object": is_ours, "compare_type": True})
    found: list[Any] = compare_metadata(context, Table.metadata)
    return found


async def test_tables_are_as_declared_after_down_and_up(servers: Any) -> None:
    url = servers.database_url("ingress")
    migrate("ingress", url, "base")
    engine = create_async_engine(url.replace("postgresql://", "postgresql+asyncpg://", 1))
    async with engine.connect() as connection:
        emptied = await connection.run_sync(_differences)
    migrate("ingress", url)
    async with engine.connect() as connection:
        differences = await connection.run_sync(_differences)
    await engine.dispose()
    assert len([change for change in emptied if change[0] == "add_table"]) == len(Table.metadata.tables)
    assert differences == []
