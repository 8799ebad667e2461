"""How a running stack is: every process with its readiness asked now, its restarts, and how far behind it is."""

import asyncio
import http.client
import json
from collections import Counter
from dataclasses import asdict, dataclass

from rich.table import Table

from harkara_cli.home import Home, ProcessRecord, RunRecord
from harkara_cli.ports import LOOPBACK, Ports
from harkara_cli.probes import Probe
from harkara_cli.stack import SERVICES, Stack, processes

_TIMEOUT_S = 2.0
_DURABLE_SEPARATOR = "__"  # durables are named <service>__<stream>__<lane>


@dataclass(frozen=True)
class ProcessStatus:
    """`lag` is the number of bus messages not yet delivered to a service; None where there is no such thing."""

    name: str
    kind: str
    pid: int | None
    ready: bool
    state: str
    restarts: int
    lag: int | None


def stack_of(home: Home, record: RunRecord) -> Stack:
    return Stack(home, Ports(record.port_base), record.overrides)


async def status_of(home: Home, record: RunRecord) -> list[ProcessStatus]:
    stack = stack_of(home, record)
    probes = {spec.name: spec.probe for spec in processes(stack)}
    lags = {} if "NATS_URL" in stack.overrides else lag_by_service(stack.ports)
    return list(await asyncio.gather(*(_status(process, probes[process.name], lags) for process in record.processes)))


async def _status(process: ProcessRecord, probe: Probe, lags: dict[str, int]) -> ProcessStatus:
    is_alive = process.identity is not None and process.identity.is_alive()
    return ProcessStatus(
        name=process.name,
        kind=process.kind,
        pid=process.pid if is_alive else None,
        ready=is_alive and await probe(),
        state=process.state,
        restarts=process.restarts,
        lag=lags.get(process.name),
    )


def lag_by_service(ports: Ports) -> dict[str, int]:
    """Asks the monitoring port of the bus; empty when it does not answer."""
    connection = http.client.HTTPConnection(LOOPBACK, ports["nats.monitoring"], timeout=_TIMEOUT_S)
    try:
        connection.request("GET", "/jsz?consumers=true")
        answer = json.loads(connection.getresponse().read())
    except (OSError, http.client.HTTPException, ValueError):
        return {}
    finally:
        connection.close()
    lags = Counter({service.name: 0 for service in SERVICES})
    for account in answer.get("account_details", ()):
        for stream in account.get("stream_detail", ()):
            for consumer in stream.get("consumer_detail") or ():
                lags[consumer["name"].split(_DURABLE_SEPARATOR)[0]] += consumer["num_pending"]
    return dict(lags)


def as_json(record: RunRecord, statuses: list[ProcessStatus]) -> str:
    return json.dumps(
        {
            "state": record.state,
            "pid": record.supervisor.pid,
            "port_base": record.port_base,
            "ready": record.state == "ready" and all(status.ready for status in statuses),
            "processes": [asdict(status) for status in statuses],
        },
        indent=2,
    )


def as_table(record: RunRecord, statuses: list[ProcessStatus]) -> Table:
    table = Table(title=f"{record.state}, port base {record.port_base}, supervisor {record.supervisor.pid}", box=None)
    for heading in ("process", "kind", "pid", "ready", "restarts", "lag"):
        table.add_column(heading, justify="right" if heading in {"pid", "restarts", "lag"} else "left")
    for status in statuses:
        ready = "[green]yes[/]" if status.ready else f"[red]no[/] ({status.state})"
        pid, lag = ("" if value is None else str(value) for value in (status.pid, status.lag))
        table.add_row(status.name, status.kind, pid, ready, str(status.restarts), lag)
    return table
