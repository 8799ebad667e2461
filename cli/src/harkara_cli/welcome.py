"""What `harkara up` says at its end: where the stack is and one line to try it with."""

import json
import shlex
from typing import Any

from rich.console import Console
from rich.markup import escape

from harkara_cli.home import Home
from harkara_cli.options import DEFAULT_HOME

# For the shipping template of the demo account.
_VARIABLES = {"name": "Asha", "order_id": "ORD12345", "date": "12 May"}


def say_welcome(home: Home, console: Console, *, detached: bool) -> None:
    demo = json.loads(home.demo_file.read_text())
    option = "" if home.path == DEFAULT_HOME.absolute() else f" --home {shlex.quote(str(home.path))}"
    console.print()
    console.print("[bold green]Harkara is ready.[/]")
    for name, value in (
        ("API", demo["base_url"]),
        ("API reference", f"{demo['base_url']}/docs"),
        ("demo key", demo["api_key"]),
        ("phone view", demo["simulators"]["smsc"]),
        ("for scripts", home.demo_file),
    ):
        console.print(f"  {name:<14}{value}", soft_wrap=True, highlight=False)
    console.print("\nSend a message, and watch it arrive in the phone view:\n")
    # Not by rich: its markup would read the brackets, and a wrapped line could not be copied.
    print(curl_to_try(demo), flush=True)
    console.print(f"\nStop it with [bold]harkara down{escape(option)}[/]." if detached else "\nCtrl-C stops all of it.")


def curl_to_try(demo: dict[str, Any]) -> str:
    """One line that sends a message through everything."""
    body = {
        "to": demo["magic_numbers"].get("delivered", "919876543210"),
        "sender": demo["sender"],
        "template_id": demo["template_id"],
        "category": "transactional",
        "variables": _VARIABLES,
    }
    return (
        f"curl -s {demo['base_url']}/v1/sms/send -H 'Authorization: Bearer {demo['api_key']}' "
        f"-H 'Content-Type: application/json' -d '{json.dumps(body)}'"
    )
