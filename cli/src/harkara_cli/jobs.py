"""One-time work of a start. Each function runs in a process of its own and reads the stack from its environment."""

import asyncio
import os

import asyncpg

from harkara_chassis import migrations, provisioner
from harkara_cli import demo
from harkara_cli.postgres import DATABASE
from harkara_cli.stack import SERVICES, Stack, replicas_wanted, role_of


def provision() -> None:
    """Brings streams and consumers of the bus to what the contracts declare."""
    asyncio.run(provisioner.provision(Stack.from_job_environment().nats_url, replicas_wanted()))


def prepare_schemas() -> None:
    """Makes the database, and for every service a role that may log in and a schema of its own."""
    asyncio.run(create_roles_and_schemas(Stack.from_job_environment()))


def migrate_service() -> None:
    stack, service = Stack.from_job_environment(), os.environ["HARKARA_SERVICE"]
    migrations.migrate(service, stack.service_database_url(service))


def migrate_all(stack: Stack) -> None:
    """All of the database in this process, one service after the other."""
    asyncio.run(create_roles_and_schemas(stack))
    for service in SERVICES:
        migrations.migrate(service.name, stack.service_database_url(service.name))


def make_demo() -> None:
    demo.make_demo(Stack.from_job_environment())


async def create_roles_and_schemas(stack: Stack) -> None:
    """Safe to repeat: what is there is kept, passwords are set to those of the home."""
    connection = await _connect_to_database(stack.database_url)
    try:
        database = await connection.fetchval("SELECT quote_ident(current_database())")
        await connection.execute("REVOKE ALL ON SCHEMA public FROM PUBLIC")
        await connection.execute(f"REVOKE ALL ON DATABASE {database} FROM PUBLIC")
        existing = {row["rolname"] for row in await connection.fetch("SELECT rolname FROM pg_roles")}
        for service in SERVICES:
            # Both are ours: names from the table of services, a password of hexadecimal digits.
            role, password = role_of(service.name), stack.role_password(service.name)
            verb = "ALTER" if role in existing else "CREATE"
            await connection.execute(f"{verb} ROLE {role} LOGIN NOINHERIT PASSWORD '{password}'")
            await connection.execute(f"GRANT CONNECT ON DATABASE {database} TO {role}")
            await connection.execute(f"CREATE SCHEMA IF NOT EXISTS {role} AUTHORIZATION {role}")
            await connection.execute(f"ALTER ROLE {role} IN DATABASE {database} SET search_path = {role}")
    finally:
        await connection.close()


async def _connect_to_database(url: str) -> "asyncpg.Connection[asyncpg.Record]":
    """Connects as the administrator, and makes the database in our own server when it is not there yet."""
    try:
        return await asyncpg.connect(url)
    except asyncpg.InvalidCatalogNameError:
        maintenance = await asyncpg.connect(url, database="postgres")
        try:
            await maintenance.execute(f"CREATE DATABASE {DATABASE}")
        finally:
            await maintenance.close()
        return await asyncpg.connect(url)
