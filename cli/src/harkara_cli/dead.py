"""`harkara dead`: events that no retry could help, kept with their reasons for a person to look at."""

import asyncio
import json
from dataclasses import asdict
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from harkara_cli.errors import HarkaraError
from harkara_cli.home import Home
from harkara_cli.options import DEFAULT_HOME, HomeOption
from harkara_cli.status import stack_of

if TYPE_CHECKING:
    from harkara_chassis.dead import DeadLetter

app = typer.Typer(help="Events that could not be handled.", no_args_is_help=True)
_NUMBER_HELP = "The number that `dead list` shows."


@app.command("list")
def list_dead(
    home: HomeOption = DEFAULT_HOME,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many, the newest.")] = 50,
    as_json_text: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Lists dead events, newest last: where they came from, and why they died."""
    nats_url, chassis_dead = _bus(home)
    letters: list[DeadLetter] = asyncio.run(chassis_dead.list_dead(nats_url, limit))
    if as_json_text:
        for letter in letters:
            print(json.dumps(_as_json(letter, with_body=False), ensure_ascii=False))
        return
    table = Table(box=None)
    for heading in ("number", "died at", "service", "subject", "tries", "reason"):
        table.add_column(heading, overflow="fold")
    for letter in letters:
        died_at = letter.died_at.isoformat(sep=" ", timespec="seconds")
        words = (str(letter.sequence), died_at, letter.service, letter.original_subject, str(letter.deliveries))
        table.add_row(*words, letter.reason)
    Console().print(table if letters else "There are no dead events.")


@app.command()
def show(sequence: Annotated[int, typer.Argument(help=_NUMBER_HELP)], home: HomeOption = DEFAULT_HOME) -> None:
    """Shows one dead event in full. It may hold personal data."""
    nats_url, chassis_dead = _bus(home)
    letter: DeadLetter | None = asyncio.run(chassis_dead.show_dead(nats_url, sequence))
    if letter is None:
        raise HarkaraError(f"There is no dead event {sequence}: `harkara dead list` shows those there are.")
    print(json.dumps(_as_json(letter, with_body=True), indent=2, ensure_ascii=False))


@app.command()
def replay(
    sequence: Annotated[int | None, typer.Argument(help=_NUMBER_HELP)] = None,
    home: HomeOption = DEFAULT_HOME,
    everything: Annotated[bool, typer.Option("--all", help="Every dead event.")] = False,
) -> None:
    """Gives dead events to their consumers once more, and takes them off the list."""
    if (sequence is None) != everything:
        raise HarkaraError("Say which event to replay: its number, or --all.")
    nats_url, chassis_dead = _bus(home)
    count: int = asyncio.run(chassis_dead.replay_dead(nats_url, sequence))
    if count == 0 and sequence is not None:
        raise HarkaraError(f"There is no dead event {sequence}: `harkara dead list` shows those there are.")
    print(f"Replayed: {count}")


def _bus(home: HomeOption) -> tuple[str, ModuleType]:
    from harkara_chassis import dead as chassis_dead  # noqa: PLC0415 - heavy imports that other commands do without

    here = Home(home)
    return stack_of(here, here.require_running()).nats_url, chassis_dead


def _as_json(letter: "DeadLetter", *, with_body: bool) -> dict[str, Any]:
    data = asdict(letter) | {"died_at": letter.died_at.isoformat()}
    body: bytes = data.pop("body")
    if with_body:
        try:
            data["body"] = json.loads(body)
        except ValueError:  # what is not JSON is a good reason to be dead
            data["body"] = body.decode(errors="backslashreplace")
    return data
