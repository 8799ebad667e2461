"""How a running stack is: asked of everything side by side, each question with a time-out, so that it always ends soon.

Three sources: every process is asked whether it is ready and what it has to say; the bus, how far behind each lane is and
how long its oldest message has waited; and the bus server, how full its store is. A stack is well when nothing of this
gives reason to look closer. That is more than ready: where everything is up and a lane stands still, it is not well.
"""

import asyncio
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from harkara_cli.home import Home, ProcessRecord, RunRecord
from harkara_cli.ports import Ports
from harkara_cli.probes import http_page
from harkara_cli.stack import Kind, ProcessSpec, Stack, processes

if TYPE_CHECKING:
    from harkara_chassis.backlog import Backlog, BusView

BUS_TIMEOUT_S = 3.0
STANDSTILL_S = 30.0
"""So long a lane may have something to do and finish nothing."""

PATIENCE_S = {"otp": 15.0, "transactional": 60.0, "promotional": 600.0, "": 30.0}
"""So old the oldest message of a lane may be: somebody waits for a code, nobody for a campaign. "" is commands."""

RECENT_S = 3600.0
FULL_SHARE = 0.95


@dataclass(frozen=True)
class ProcessStatus:
    """One process. What a service has to do is told at its first process, whichever of them will do it.

    `lag` is the number of bus messages (each a batch of events) that its service has not finished, `in_hand` of them those
    that were delivered to it; `oldest_s` is the age of the oldest. None where there is no such thing, or nobody can say.
    """

    name: str
    kind: str
    pid: int | None
    ready: bool
    state: str
    restarts: int
    service: str | None = None
    lag: int | None = None
    in_hand: int | None = None
    oldest_s: float | None = None
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def is_well(self) -> bool:
        return self.ready and not self.warnings


@dataclass(frozen=True)
class Report:
    """Everything. `dead` counts what is kept in DEAD, None where nobody can say; `warnings` are those of no process."""

    record: RunRecord
    processes: list[ProcessStatus]
    backlogs: list["Backlog"]
    dead: int | None
    newest_dead_s: float | None
    warnings: list[str]

    @property
    def is_ready(self) -> bool:
        return self.record.state == "ready" and all(process.ready for process in self.processes)

    @property
    def is_well(self) -> bool:
        return self.is_ready and not self.warnings and all(process.is_well for process in self.processes)


@dataclass(frozen=True)
class _Answer:
    ready: bool
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)


def stack_of(home: Home, record: RunRecord) -> Stack:
    return Stack(home, Ports(record.port_base), record.overrides, record.scale)


async def status_of(home: Home, record: RunRecord) -> list[ProcessStatus]:
    return (await look(home, record)).processes


async def look(home: Home, record: RunRecord) -> Report:
    """Ask everything; takes as long as the longest time-out at most."""
    stack = stack_of(home, record)
    specs = {spec.name: spec for spec in processes(stack)}
    answers, (bus, trouble), store = await asyncio.gather(
        asyncio.gather(*(_answer(process, specs[process.name]) for process in record.processes)),
        _ask_bus(stack.nats_url),
        _store_warnings(stack),
    )
    backlogs = bus.backlogs if bus else []
    statuses = [
        _status(process, specs[process.name], answer, backlogs)
        for process, answer in zip(record.processes, answers, strict=True)
    ]
    warnings = [*([trouble] if trouble else []), *store, *_bus_warnings(bus)]
    dead, newest_dead_s = (bus.dead, bus.newest_dead_s) if bus else (None, None)
    return Report(record, statuses, backlogs, dead, newest_dead_s, warnings)


def _status(process: ProcessRecord, spec: ProcessSpec, answer: _Answer, backlogs: Iterable["Backlog"]) -> ProcessStatus:
    told_here = spec.service == process.name
    own = [one for one in backlogs if told_here and one.service == spec.service]
    is_alive = process.identity is not None and process.identity.is_alive()
    return ProcessStatus(
        name=process.name,
        kind=process.kind,
        pid=process.pid if is_alive else None,
        ready=answer.ready,
        state=process.state,
        restarts=process.restarts,
        service=spec.service,
        lag=sum(one.waiting + one.in_hand for one in own) if own else None,
        in_hand=sum(one.in_hand for one in own) if own else None,
        oldest_s=max((one.oldest_s for one in own if one.oldest_s is not None), default=None),
        problems=answer.problems,
        warnings=[*answer.warnings, *(words for one in own if (words := slow_lane(one)))],
        details=answer.details,
    )


async def _answer(process: ProcessRecord, spec: ProcessSpec) -> _Answer:
    if process.identity is None or not process.identity.is_alive():
        return _Answer(ready=False, problems=["it does not run"])
    if spec.kind is not Kind.SERVICE:
        is_ready = await spec.probe()
        return _Answer(is_ready, [] if is_ready else ["it does not answer"])
    page = await http_page(spec.admin_port, "/readyz")
    if page is None:
        return _Answer(ready=False, problems=["it does not answer"])
    try:
        told = json.loads(page.body)
    except ValueError:
        told = {}
    is_ready = page.status == 200  # noqa: PLR2004  # HTTP's OK
    problems = told.get("problems", []) or ([] if is_ready else ["it is not ready"])
    return _Answer(is_ready, problems, told.get("warnings", []), told.get("details", {}))


async def _ask_bus(nats_url: str) -> tuple["BusView | None", str | None]:
    from harkara_chassis import backlog  # noqa: PLC0415 - heavy imports that other commands do without

    try:
        async with asyncio.timeout(BUS_TIMEOUT_S):
            return await backlog.look(nats_url), None
    except Exception as error:  # noqa: BLE001 - whatever it is, the rest can still be told
        return None, f"the bus cannot be asked how far behind the services are ({type(error).__name__})"


async def _store_warnings(stack: Stack) -> list[str]:
    """Tell of a store that is nearly full; only our own server has a monitoring port that is known."""
    if "NATS_URL" in stack.overrides:
        return []
    page = await http_page(stack.ports["nats.monitoring"], "/jsz")
    try:
        told = json.loads(page.body) if page else {}
    except ValueError:
        told = {}
    used, most = told.get("storage", 0), told.get("config", {}).get("max_storage", 0)
    if not most or used < FULL_SHARE * most:
        return []
    return [f"the store of the bus is full: {used / 2**20:,.0f} of {most / 2**20:,.0f} MiB"]


def _bus_warnings(bus: "BusView | None") -> list[str]:
    if bus is None:
        return []
    warnings = [f"{difference}: run `harkara provision`" for difference in bus.differences]
    if bus.newest_dead_s is not None and bus.newest_dead_s < RECENT_S:
        warnings.append(f"an event died {_age(bus.newest_dead_s)} ago: look with `harkara dead list`")
    return warnings


def slow_lane(one: "Backlog") -> str | None:
    """Say what is wrong with a lane that has something to do; None where it moves and is not far behind."""
    if one.oldest_s is None:
        return None
    counts = f"{one.waiting + one.in_hand} stream messages wait, the oldest for {_age(one.oldest_s)}"
    idle_s = one.oldest_s if one.idle_s is None else min(one.idle_s, one.oldest_s)
    if idle_s > STANDSTILL_S:
        return f"{one.durable} stands still: {counts}"
    if one.oldest_s > PATIENCE_S[one.lane]:
        return f"{one.durable} is behind: {counts}"
    return None


def _age(seconds: float) -> str:
    if seconds < 120:  # noqa: PLR2004  # two minutes: from here seconds say little
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min"
