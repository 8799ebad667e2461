"""The registry and what waits, on a real database."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from pydantic import SecretStr

from harkara_chassis.database import Database
from harkara_chassis.sealing import Sealer
from harkara_compliance.cancelling import Canceller
from harkara_compliance.store import Store
from harkara_compliance.waiting import Waiting
from harkara_contracts.events import Event


class Told:
    """Stands for the bus where a test needs to lose what is published."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.broken = False

    async def publish(self, events: Sequence[Event]) -> int:
        if self.broken:
            raise TimeoutError
        self.events.extend(events)
        return len(self.events)


@pytest.fixture
async def database(servers: Any) -> AsyncIterator[Database]:
    opened = await Database.open(servers.database_url("compliance"), "compliance")
    yield opened
    await opened.close()


@pytest.fixture
def store(database: Database) -> Store:
    return Store(database)


@pytest.fixture
async def waiting(database: Database, servers: Any) -> Waiting:
    await database.execute("DELETE FROM waiting")  # what another test left untold
    return Waiting(database, Sealer(SecretStr(servers.secret_key)))


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def canceller(waiting: Waiting, told: Told) -> Canceller:
    return Canceller(waiting, told.publish)
