"""The `harkara` command. Each command here reads its options, calls one module and prints."""

import asyncio
import signal
import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from harkara_cli import accounts, dead
from harkara_cli.carriers import check_carriers, write_default_carriers
from harkara_cli.daemon import Reporter, start_daemon
from harkara_cli.errors import HarkaraError
from harkara_cli.home import Home
from harkara_cli.launchers import SystemLauncher
from harkara_cli.logs import Terminal, log_files, show_logs
from harkara_cli.options import DEFAULT_HOME, HomeOption
from harkara_cli.ports import DEFAULT_BASE, Ports, require_free
from harkara_cli.stack import (
    MAX_REPLICAS,
    REPLICAS,
    Stack,
    parse_scale,
    processes,
    replicas_wanted,
    require_installed,
)
from harkara_cli.status import look, stack_of
from harkara_cli.status_view import as_json, show
from harkara_cli.supervisor import Supervisor, service_environment
from harkara_cli.welcome import say_welcome

_DOWN_TIMEOUT_S = 60.0
_INTERRUPTED = 130

app = typer.Typer(help="Runs Harkara on one machine and looks inside.", no_args_is_help=True, add_completion=False)
app.add_typer(dead.app, name="dead")
app.add_typer(accounts.app, name="account")
app.command("topup")(accounts.topup)
console = Console()


def main() -> None:
    """The entry point: a HarkaraError is one sentence on stderr and exit code 1, never a traceback."""
    try:
        app()
    except HarkaraError as error:
        Console(stderr=True).print(f"[bold red]error:[/] {escape(str(error))}", soft_wrap=True, highlight=False)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)


@app.command()
def up(
    home: HomeOption = DEFAULT_HOME,
    port_base: Annotated[int, typer.Option(help="Ports are counted from here: HTTP is base+80.")] = DEFAULT_BASE,
    detach: Annotated[bool, typer.Option("--detach", help="Run in the background.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="In the background; return when everything is ready.")] = False,
    scale: Annotated[
        list[str] | None,
        typer.Option(
            envvar="HARKARA_SCALE",
            metavar="SERVICE=NUMBER",
            help="Run several processes of a service, such as routing=2; may be given more than once.",
        ),
    ] = None,
) -> None:
    """Starts the whole stack: servers, simulators, services, demo account. Ctrl-C stops all of it."""
    stack = _prepare(Home(home), Ports(port_base), parse_scale(scale or []))
    if not (detach or wait):
        _run_in_foreground(stack)
        return
    for kind, text in start_daemon(lambda reporter: _run_detached(stack, reporter), stack.home.logs / "supervisor.log"):
        if kind == "failed":
            raise HarkaraError(text)
        if kind == "ready":
            say_welcome(stack.home, console, detached=True)
            return
        if not wait:
            console.print(
                "Starting in the background: [bold]harkara status[/] and [bold]harkara logs[/] show how it goes."
            )
            return
        console.print(f"[dim]{text}[/]")
    raise HarkaraError(f"The stack was stopped before it was ready: see {stack.home.logs / 'supervisor.log'}.")


def _prepare(home: Home, ports: Ports, scale: dict[str, int]) -> Stack:
    """Everything that can be found wrong before anything runs."""
    home.open()
    home.clear_remains()
    stack = Stack.from_environment(home, ports, scale)
    require_installed()
    replicas_wanted()
    require_free(ports, [port for spec in processes(stack) for port in spec.ports])
    write_default_carriers(stack)
    check_carriers(stack)
    home.read_demo()
    return stack


def _run_in_foreground(stack: Stack) -> None:
    terminal = Terminal(console, width=max(len(spec.name) for spec in processes(stack)))
    asyncio.run(
        Supervisor(
            stack,
            SystemLauncher(service_environment()),
            progress=lambda step: console.print(f"[dim]{step}[/]"),
            sink=terminal.line,
        ).run(on_ready=lambda: say_welcome(stack.home, console, detached=False))
    )


def _run_detached(stack: Stack, reporter: Reporter) -> None:
    supervisor = Supervisor(
        stack, SystemLauncher(service_environment()), progress=lambda step: reporter.tell("progress", step)
    )
    asyncio.run(supervisor.run(on_ready=lambda: reporter.tell("ready")))


@app.command()
def down(home: HomeOption = DEFAULT_HOME) -> None:
    """Stops a running stack and waits until it has ended."""
    record = Home(home).require_running()
    record.supervisor.signal(signal.SIGTERM)
    deadline = time.monotonic() + _DOWN_TIMEOUT_S
    try:
        while record.supervisor.is_alive():
            if time.monotonic() > deadline:
                record.supervisor.signal(signal.SIGTERM)  # the second one kills
                deadline += _DOWN_TIMEOUT_S
            time.sleep(0.05)
    except KeyboardInterrupt:
        record.supervisor.signal(signal.SIGTERM)
        raise
    console.print("Stopped.")


@app.command()
def status(
    home: HomeOption = DEFAULT_HOME, as_json_text: Annotated[bool, typer.Option("--json", help="For scripts.")] = False
) -> None:
    """Shows every process: pid, readiness, restarts, what waits for it and for how long, and all that is not well.

    Exit code 0 only when all is well: everything is ready, every carrier takes messages, no lane stands still or falls
    far behind, and no event has died within the last hour. Answers within a few seconds, whatever is frozen.
    """
    here = Home(home)
    report = asyncio.run(look(here, here.require_running()))
    if as_json_text:
        print(as_json(report))
    else:
        show(report, console)
    if not report.is_well:
        raise typer.Exit(1)


@app.command()
def logs(
    process: Annotated[str | None, typer.Argument(help="One process; all when left out.")] = None,
    home: HomeOption = DEFAULT_HOME,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as lines are added.")] = False,
    lines: Annotated[int, typer.Option(min=0, help="How many lines of the past, for each process.")] = 50,
) -> None:
    """Shows what the processes said."""
    here = Home(home)
    here.check()
    files = log_files(here.logs, process)
    terminal = Terminal(console, width=max((len(name) for name in files), default=0))
    asyncio.run(show_logs(files, terminal, lines=lines, follow=follow))


@app.command()
def provision(
    home: HomeOption = DEFAULT_HOME,
    replicas: Annotated[
        int | None,
        typer.Option(
            envvar=REPLICAS, min=1, max=MAX_REPLICAS, help="Nodes of a cluster that keep each stream; else as they are."
        ),
    ] = None,
) -> None:
    """Brings streams and consumers of the bus to what the contracts declare."""
    from harkara_chassis import provisioner  # noqa: PLC0415 - heavy imports that the other commands do without

    asyncio.run(provisioner.provision(_reachable_stack(home).nats_url, replicas))
    console.print("The bus is provisioned.")


@app.command()
def migrate(home: HomeOption = DEFAULT_HOME) -> None:
    """Makes roles and schemas, and brings every service's tables to the newest version."""
    from harkara_cli import jobs  # noqa: PLC0415 - heavy imports that the other commands do without

    jobs.migrate_all(_reachable_stack(home))
    console.print("The database is migrated.")


def _reachable_stack(home: Path) -> Stack:
    """The running stack's servers, or those that the environment gives."""
    here = Home(home)
    here.check()
    given = Stack.from_environment(here, Ports())
    return given if given.overrides else stack_of(here, here.require_running())


if __name__ == "__main__":
    main()
