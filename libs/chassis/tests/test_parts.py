"""The small parts of the chassis that need no server, and the database."""

from __future__ import annotations

import json
import logging
from datetime import date
from typing import TYPE_CHECKING

import asyncpg
import pytest
from libs.chassis.tests.helpers import MakeAccepted
from pydantic import SecretStr

from harkara_chassis import faults
from harkara_chassis.database import Database
from harkara_chassis.envelope import MAX_BATCH_EVENTS, batch_id, cut, decode, encode
from harkara_chassis.logs import JsonFormatter
from harkara_chassis.sealing import Sealer, SealingError
from harkara_contracts.errors import ConfigurationError
from harkara_contracts.events import MessageAccepted
from harkara_contracts.subjects import Lane

if TYPE_CHECKING:
    from conftest import Servers


def test_a_batch_comes_back_as_it_was(accepted: MakeAccepted) -> None:
    events = [accepted(correlation_id='"quoted" ₹') for _ in range(3)]
    payload = encode(events, "/harkara/test", {events[1].message_id: "00-1-2-01"})
    received, bad = decode(payload, MessageAccepted)
    assert bad == []
    assert [one.event for one in received] == events
    assert [one.traceparent for one in received] == [None, "00-1-2-01", None]
    record = json.loads(payload)[0]
    assert record["specversion"] == "1.0"
    assert record["id"] == f"{events[0].message_id}.accepted"


def test_unknown_fields_of_a_newer_writer_are_ignored(accepted: MakeAccepted) -> None:
    record = json.loads(encode([accepted()], "/x"))[0]
    record["data"]["invented_later"] = 1
    received, bad = decode(json.dumps([record]).encode(), MessageAccepted)
    assert (len(received), bad) == (1, [])


def test_events_are_cut_by_subject_and_size_in_order(accepted: MakeAccepted) -> None:
    events = [accepted(lane) for _ in range(300) for lane in (Lane.OTP, Lane.PROMOTIONAL)]
    batches = cut(events)
    assert sorted(len(batch) for batch in batches) == [44, 44, MAX_BATCH_EVENTS, MAX_BATCH_EVENTS]
    assert [event for batch in batches for event in batch if event.subject().endswith(".otp")] == events[::2]


def test_the_same_batch_has_the_same_id_and_another_another(accepted: MakeAccepted) -> None:
    events = [accepted(), accepted()]
    assert batch_id(events) == batch_id([event.model_copy() for event in events])
    assert batch_id(events) != batch_id(events[::-1])
    assert batch_id(events[:1]) == events[0].event_id()


@pytest.mark.parametrize(
    ("error", "passing"),
    [
        (ConnectionRefusedError(), True),
        (TimeoutError(), True),
        (asyncpg.DeadlockDetectedError(), True),
        (asyncpg.InterfaceError("connection is closed"), True),
        (asyncpg.InterfaceError("the server expects 2 arguments"), False),
        (asyncpg.CheckViolationError(), False),
        (ValueError(), False),
    ],
)
def test_the_moments_faults_are_told_from_the_events(error: BaseException, passing: bool) -> None:
    assert faults.is_passing(error) is passing


def test_retries_grow_and_are_bounded() -> None:
    assert [faults.retry_delay_s(number) for number in (1, 2, 3, 20)] == [0.5, 1.0, 2.0, 30.0]


KEY = SecretStr("QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE=")


def test_sealed_is_opened_only_unchanged_and_by_the_same_key() -> None:
    sealer = Sealer(KEY)
    sealed = sealer.seal(b"whsec")
    assert sealer.open(sealed) == b"whsec"
    assert sealer.seal(b"whsec") != sealed
    with pytest.raises(SealingError):
        sealer.open(sealed[:-1] + bytes([sealed[-1] ^ 1]))
    with pytest.raises(SealingError):
        Sealer(SecretStr("QkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkI=")).open(sealed)


@pytest.mark.parametrize("key", [None, SecretStr("short"), SecretStr("QUFB")])
def test_a_wrong_key_is_told(key: SecretStr | None) -> None:
    with pytest.raises(ConfigurationError, match="HARKARA_SECRET_KEY"):
        Sealer(key)


def test_a_log_line_tells_where_it_broke_but_no_values() -> None:
    try:
        raise ValueError("919876543210")  # noqa: TRY301
    except ValueError:
        record = logging.getLogger("x").makeRecord(
            "x", 40, "f", 1, "failed", (), __import__("sys").exc_info(), extra={"n": 1}
        )
    line = json.loads(JsonFormatter("routing", "i").format(record))
    assert line["n"] == 1
    assert "ValueError at" in line["exception"]
    assert "919876543210" not in json.dumps(line)


async def test_partitions_are_made_around_the_day_and_once_and_any_other_day_has_a_place(servers: Servers) -> None:
    database = await Database.open(servers.database_url("routing"), "routing", 2)
    await database.execute("CREATE TABLE thing (day date, id text, PRIMARY KEY (day, id)) PARTITION BY RANGE (day)")
    try:
        for _ in range(2):
            await database.ensure_partitions(("thing",), date(2026, 3, 1))
        await database.execute("INSERT INTO thing VALUES ('2026-02-27', 'a'), ('2026-03-08', 'b')")
        await database.execute("INSERT INTO thing VALUES ('2025-12-01', 'scheduled'), ('2026-03-12', 'ahead')")
        places = await database.fetch("SELECT id FROM thing_default ORDER BY id")
        assert [row["id"] for row in places] == ["ahead", "scheduled"]
        await database.ensure_partitions(("thing",), date(2026, 3, 6))
        assert await database.fetchrow("SELECT 1 WHERE to_regclass('thing_20260311') IS NOT NULL")
    finally:
        await database.execute("DROP TABLE thing")
        await database.close()


async def test_a_role_sees_its_own_schema_only(servers: Servers) -> None:
    servers.database_url("billing")
    database = await Database.open(servers.database_url("routing"), "routing", 1)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await database.fetch("SELECT * FROM billing.alembic_version")
    await database.close()
