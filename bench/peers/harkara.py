"""Harkara as `harkara up` starts it: every server, service and default; only the carriers' file names the bench's SMSC."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
import yaml

from bench.account import close_webhook, open_account
from bench.load import LoadPlan
from bench.peers.peer import CONNECTIONS, HOST, PASSWORD, USER, Peer, Running, Wiring
from bench.peers.tree import tree_of
from bench.stack import Choice, Stack, stack_of
from bench.worker import BenchError
from harkara_cli.api import Api
from harkara_cli.home import Home

_OWN_SMSC = "smsc"
_WINDOW = 100
_PATIENCE_S = 15.0


def final_receipt(_head: bytes, body: bytes) -> int:
    """A webhook `message.delivered`."""
    event = orjson.loads(body)
    return int(event["to"]) if event["event"] == "message.delivered" else 0


def _install(_cache: Path) -> None:
    """It is here."""


@contextmanager
def _running(wiring: Wiring) -> Iterator[Running]:
    carrier = {
        "name": "bench", "type": "smpp", "channel": "sms", "host": HOST, "port": wiring.carrier_port,
        "system_id": USER, "password": PASSWORD,
    }  # fmt: skip
    # The home is made beforehand: one that has a carriers' file starts with that.
    home = Home(wiring.folder)
    home.open()
    home.carriers_file.write_text(yaml.safe_dump({"carriers": [carrier]}))
    home.close()
    with stack_of(Choice(home=wiring.folder)) as stack:
        account = open_account(stack, wiring.callback_url("/webhooks"))
        if wiring.each_step:
            steps = {"url": wiring.callback_url("/webhooks"), "events": ["message.sent"], "description": "steps"}
            Api(stack.base_url, account.api_key, _PATIENCE_S).post("/v1/webhooks", steps)
        host, port = stack.address
        plan = LoadPlan(
            host=host, port=port, api_key=account.api_key, sender=account.sender, template_id=account.template_id,
            first_number=0, count=0, connections=CONNECTIONS,
        )  # fmt: skip
        yield Running(plan, lambda: _pids(stack), lambda: _check(stack))
        close_webhook(stack, account)


def _pids(stack: Stack) -> dict[str, int]:
    """All but the stack's own SMSC simulator, which has nothing to do."""
    named = stack.pids()
    idle = named.get(_OWN_SMSC)
    return {f"{entry.name} {entry.pid}": entry.pid for entry in tree_of(named.values()) if entry.pid != idle}


def _check(stack: Stack) -> None:
    if restarts := stack.restarts():
        raise BenchError(f"started again though nobody killed them: {', '.join(restarts)}")


HARKARA = Peer(
    "harkara", "Harkara", {"main": 20_000, "acks": 10_000, "slow": 10_000}, _WINDOW, final_receipt, _install, _running
)
