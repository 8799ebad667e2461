"""What Postgres and NATS tell of themselves, as differences between two moments."""

import asyncio
import json
import os
import re
import urllib.request
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg

from bench.worker import BenchError

_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
_TIMEOUT_S = 10.0
_BACKEND = re.compile(r"postgres: (?:\d+: )?(.*)")
_STATEMENT = """
    select role.rolname as role, statement.query, statement.calls, statement.total_exec_time as exec_ms, statement.rows,
           statement.wal_records, statement.wal_bytes::bigint as wal_bytes
    from pg_stat_statements as statement join pg_roles as role on role.oid = statement.userid
"""
_TABLE = """
    select schemaname || '.' || relname as name, n_tup_ins as inserts, n_tup_upd as updates, n_tup_hot_upd as hot,
           n_tup_del as deletes
    from pg_stat_user_tables
"""
_TOTALS = """
    select (select sum(xact_commit) from pg_stat_database)::bigint as commits,
           wal.wal_records::bigint, wal.wal_fpi::bigint, wal.wal_bytes::bigint,
           (select sum(fsyncs) from pg_stat_io where object = 'wal')::bigint as wal_fsyncs
    from pg_stat_wal as wal
"""


@dataclass(frozen=True)
class Statement:
    role: str
    text: str
    calls: float
    exec_ms: float
    rows: float
    wal_records: float


@dataclass(frozen=True)
class Counters:
    """Everything at one moment, or a difference. `backends` is CPU seconds by role, `tables` by partitioned parent."""

    backends: dict[str, float] = field(default_factory=dict)
    totals: dict[str, float] = field(default_factory=dict)
    tables: dict[str, dict[str, float]] = field(default_factory=dict)
    statements: dict[tuple[str, str], Statement] = field(default_factory=dict)
    nats: dict[str, float] = field(default_factory=dict)
    streams: dict[str, dict[str, float]] = field(default_factory=dict)
    events: dict[str, dict[str, float]] = field(default_factory=dict)

    def since(self, earlier: "Counters") -> "Counters":
        """What came to it since then."""
        return Counters(
            backends=_minus(self.backends, earlier.backends),
            totals=_minus(self.totals, earlier.totals),
            tables={name: _minus(row, earlier.tables.get(name, {})) for name, row in self.tables.items()},
            statements={
                key: _statement_since(now, earlier.statements.get(key)) for key, now in self.statements.items()
            },
            nats=_minus(self.nats, earlier.nats),
            streams={name: _minus(row, earlier.streams.get(name, {})) for name, row in self.streams.items()},
            events={name: _minus(row, earlier.events.get(name, {})) for name, row in self.events.items()},
        )


def _minus(now: Mapping[str, float], earlier: Mapping[str, float]) -> dict[str, float]:
    return {name: value - earlier.get(name, 0) for name, value in now.items()}


def _statement_since(now: Statement, earlier: Statement | None) -> Statement:
    if earlier is None:
        return now
    return Statement(
        now.role, now.text, now.calls - earlier.calls, now.exec_ms - earlier.exec_ms, now.rows - earlier.rows,
        now.wal_records - earlier.wal_records,
    )  # fmt: skip


@dataclass(frozen=True)
class Sources:
    """Where to ask: the database's administrator, NATS' monitoring, and each service's metrics."""

    database_url: str
    postgres_pid: int
    nats_monitoring_port: int
    metrics_ports: Mapping[str, int]

    def read(self) -> Counters:
        totals, tables, statements = asyncio.run(_database(self.database_url))
        nats, streams = _nats(self.nats_monitoring_port)
        return Counters(
            _backends(self.postgres_pid), totals, tables, statements, nats, streams, _events(self.metrics_ports)
        )


async def _database(
    url: str,
) -> tuple[dict[str, float], dict[str, dict[str, float]], dict[tuple[str, str], Statement]]:
    connection = await asyncpg.connect(url, timeout=_TIMEOUT_S)
    try:
        totals = await connection.fetchrow(_TOTALS)
        tables: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
        for row in await connection.fetch(_TABLE):
            # Daily partitions are told together: `saga_20260301` and `saga_default` are `saga`.
            name = re.sub(r"_(?:\w*\d{6,}|default)$", "", row["name"])
            for column in ("inserts", "updates", "hot", "deletes"):
                tables[name][column] += row[column]
        statements: dict[tuple[str, str], Statement] = {}
        if await connection.fetchval("select count(*) from pg_extension where extname = 'pg_stat_statements'"):
            for row in await connection.fetch(_STATEMENT):
                text = " ".join(row["query"].split())
                old = statements.get((row["role"], text))
                new = Statement(
                    row["role"], text, row["calls"], row["exec_ms"], row["rows"], row["wal_records"]
                )  # fmt: skip
                statements[row["role"], text] = new if old is None else _sum(old, new)
        return {name: float(value) for name, value in dict(totals or {}).items()}, tables, statements
    finally:
        await connection.close()


def _sum(one: Statement, other: Statement) -> Statement:
    return Statement(
        one.role, one.text, one.calls + other.calls, one.exec_ms + other.exec_ms, one.rows + other.rows,
        one.wal_records + other.wal_records,
    )  # fmt: skip


def _backends(postgres_pid: int) -> dict[str, float]:
    """CPU seconds of the server's processes by what their titles say: a role, or `walwriter` and such."""
    used: defaultdict[str, float] = defaultdict(float)
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        try:
            stat = Path(entry.path, "stat").read_bytes().rpartition(b")")[2].split()
            if int(stat[1]) != postgres_pid:
                continue
            title = Path(entry.path, "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        found = _BACKEND.match(title)
        words = found[1].split() if found else ["other"]
        used[" ".join(words[:2]) if words[-1].startswith("process") else words[0]] += (
            int(stat[11]) + int(stat[12])
        ) / _TICKS_A_SECOND
    return dict(used)


def _get(port: int, path: str) -> bytes:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=_TIMEOUT_S) as response:
            text: bytes = response.read()
            return text
    except OSError as error:
        raise BenchError(f"port {port} does not answer {path}: {error}") from error


def _nats(port: int) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    server = json.loads(_get(port, "/varz"))
    streams: dict[str, dict[str, float]] = {}
    for account in json.loads(_get(port, "/jsz?streams=true")).get("account_details", ()):
        for stream in account.get("stream_detail", ()):
            state: dict[str, Any] = stream["state"]
            # The last sequence counts what was ever stored, the bytes what is still there.
            streams[stream["name"]] = {"messages": state["last_seq"], "bytes": state["bytes"]}
    names = ("in_msgs", "out_msgs", "in_bytes", "out_bytes")
    return {name: float(server[name]) for name in names}, streams


_SERIES = re.compile(
    r"^(harkara_events_published_total|harkara_batch_events_(?:sum|count))\{[^}]*\} (\S+)$", re.MULTILINE
)


def _events(ports: Mapping[str, int]) -> dict[str, dict[str, float]]:
    """By service: events published, and the sum and count of the events in its handler calls."""
    events = {}
    for service, port in ports.items():
        sums: defaultdict[str, float] = defaultdict(float)
        for name, value in _SERIES.findall(_get(port, "/metrics").decode()):
            sums[name] += float(value)
        events[service] = {
            "published": sums["harkara_events_published_total"],
            "handled": sums["harkara_batch_events_sum"],
            "calls": sums["harkara_batch_events_count"],
        }
    return events
