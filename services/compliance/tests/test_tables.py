"""The declared tables are those the migrations make."""

from typing import Any

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from harkara_chassis.migrations import migrate
from harkara_compliance.tables import Table


async def test_the_tables_are_what_the_migrations_make(servers: Any) -> None:
    url = servers.database_url("compliance")
    engine = create_async_engine(
        url.replace("postgresql://", "postgresql+asyncpg://", 1),
        poolclass=NullPool,
        connect_args={"server_settings": {"search_path": "compliance"}},
    )
    async with engine.connect() as connection:
        differences = await connection.run_sync(
            lambda plain: compare_metadata(
                MigrationContext.configure(plain, opts={"compare_type": True, "compare_server_default": True}),
                Table.metadata,
            )
        )
    await engine.dispose()
    assert [difference for difference in differences if "alembic_version" not in str(difference)] == []


def test_the_migrations_can_be_taken_back(servers: Any) -> None:
    url = servers.database_url("compliance")
    migrate("compliance", url, "base")
    migrate("compliance", url)
