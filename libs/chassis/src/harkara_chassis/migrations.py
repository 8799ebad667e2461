"""Migrations by Alembic, at deploy and never at import. Each service brings its versions; the environment is shared."""

import asyncio
import threading
from importlib.resources import files
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from harkara_chassis.database import schema_of

_ENVIRONMENT = Path(__file__).parent / "alembic_env"


def package_of(service: str) -> str:
    return f"harkara_{service.replace('-', '_')}"


def migrate(service: str, database_url: str, revision: str = "head") -> None:
    """Bring a service's schema to a revision (`head`, or `base` to take all away).

    Args:
        service: such as `sms-sender`.
        database_url: of the service's own role, which owns the schema.
        revision: an Alembic revision.

    Raises:
        Exception: what the database or the migration said; the transaction is rolled back.
    """
    failure: list[BaseException] = []

    def work() -> None:
        try:
            asyncio.run(_migrate(service, database_url, revision))
        except BaseException as error:  # noqa: BLE001  # carried over to the calling thread below
            failure.append(error)

    # A thread of its own, so that a caller with a running loop may use it as well.
    thread = threading.Thread(target=work, name=f"migrate {service}")
    thread.start()
    thread.join()
    if failure:
        raise failure[0]


async def _migrate(service: str, database_url: str, revision: str) -> None:
    url = database_url.replace("postgresql://", "postgresql+asyncpg://", 1)
    schema = schema_of(service)
    engine = create_async_engine(url, poolclass=NullPool, connect_args={"server_settings": {"search_path": schema}})
    try:
        async with engine.begin() as connection:
            await connection.run_sync(_run, service, schema, revision)
    finally:
        await engine.dispose()


def _run(connection: Connection, service: str, schema: str, revision: str) -> None:
    # One migration at a time: several instances may be told to migrate at once.
    connection.execute(text("SELECT pg_advisory_xact_lock(hashtext(:name))"), {"name": f"migrate {schema}"})
    config = Config()
    config.set_main_option("script_location", str(_ENVIRONMENT))
    config.set_main_option("path_separator", "newline")
    config.set_main_option("version_locations", str(files(package_of(service)) / "migrations" / "versions"))
    config.attributes["connection"] = connection
    config.attributes["schema"] = schema
    if revision == "base":
        command.downgrade(config, revision)
    else:
        command.upgrade(config, revision)
