"""A report of `harkara status` as text for people and as JSON for scripts."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from harkara_cli.status import ProcessStatus, Report

_RIGHT = frozenset({"pid", "restarts", "lag", "in hand", "oldest"})


def as_json(report: Report) -> str:
    record = report.record
    return json.dumps(
        {
            "state": record.state,
            "pid": record.supervisor.pid,
            "port_base": record.port_base,
            "ready": report.is_ready,
            "well": report.is_well,
            "warnings": report.warnings,
            "dead": report.dead,
            "newest_dead_s": report.newest_dead_s,
            "processes": [asdict(process) for process in report.processes],
            "lanes": [asdict(backlog) for backlog in report.backlogs],
        },
        indent=2,
    )


def show(report: Report, console: Console) -> None:
    console.print(_table(report))
    for line in _lines(report):
        console.print(line, soft_wrap=True, highlight=False)


def _table(report: Report) -> Table:
    record = report.record
    title = f"{record.state}, port base {record.port_base}, supervisor {record.supervisor.pid}"
    table = Table(title=title, box=None, min_width=len(title))
    widest = max((len(process.name) for process in report.processes), default=0)
    for heading in ("process", "kind", "pid", "ready", "restarts", "lag", "in hand", "oldest"):
        table.add_column(heading, justify="right" if heading in _RIGHT else "left", no_wrap=True)
    table.columns[0].min_width = widest
    for process in report.processes:
        oldest = "" if process.oldest_s is None else f"{process.oldest_s:.1f} s"
        numbers = ("" if value is None else str(value) for value in (process.lag, process.in_hand))
        pid = "" if process.pid is None else str(process.pid)
        table.add_row(process.name, process.kind, pid, _ready(process), str(process.restarts), *numbers, oldest)
    return table


def _ready(process: ProcessStatus) -> str:
    if not process.ready:
        return "[red]no[/]" if process.state == "ready" else f"[red]no[/] ({process.state})"
    return "[green]yes[/]" if process.is_well else "[yellow]yes, but[/]"


def _lines(report: Report) -> Iterator[str]:
    for process in report.processes:
        yield from (f"[bold]{process.name}[/] {line}" for line in _details(process.details))
    dead = "not known" if report.dead is None else str(report.dead)
    yield f"dead events: {dead}"
    for process in report.processes:
        yield from (f"[red]{process.name}: {escape(text)}[/]" for text in process.problems)
        yield from (f"[yellow]{process.name}: {escape(text)}[/]" for text in process.warnings)
    yield from (f"[yellow]{escape(text)}[/]" for text in report.warnings)
    yield "[green]All is well.[/]" if report.is_well else "[red]Not all is well.[/]"


def _details(details: dict[str, Any]) -> Iterator[str]:
    """Carriers in one line, endpoints in another; what is not known here is for scripts."""
    carriers = details.get("carriers")
    if carriers:
        words = (f"{one['name']} {one['state']} ({one['binds_up']}/{one['binds']} binds)" for one in carriers)
        yield f"carriers: {', '.join(words)}"
    webhooks = details.get("webhooks")
    if webhooks and webhooks["endpoints"]:
        yield (
            f"webhooks: {webhooks['failing']} of {webhooks['endpoints']} endpoints in use fail, "
            f"{webhooks['waiting']} deliveries wait"
        )
