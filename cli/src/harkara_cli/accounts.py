"""`harkara account` and `harkara topup`: what an operator does to accounts, through the public API."""

import json
import re
import secrets
from decimal import Decimal
from typing import Annotated, Any

import typer

from harkara_cli.api import Api
from harkara_cli.errors import HarkaraError
from harkara_cli.home import Home
from harkara_cli.options import DEFAULT_HOME, HomeOption
from harkara_cli.status import stack_of

app = typer.Typer(help="Makes and shows accounts.", no_args_is_help=True)
_PAISE_A_RUPEE = 100
_RUPEES = re.compile(r"\d[\d,]{0,14}(\.\d{1,2})?", re.ASCII)


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="The client's name.")],
    home: HomeOption = DEFAULT_HOME,
    plan: Annotated[str, typer.Option(help="starter, business or enterprise")] = "starter",
    auto_approve: Annotated[bool, typer.Option(help="Senders and templates need no approval.")] = False,
) -> None:
    """Makes an account and shows its key and signing secret, this once."""
    _show(_operator(home).post("/v1/accounts", {"name": name, "plan": plan, "auto_approve": auto_approve}))


@app.command()
def show(
    account_id: Annotated[str | None, typer.Argument(help="The demo account when left out.")] = None,
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Shows an account."""
    _show(_operator(home).get(f"/v1/accounts/{account_id or _demo_account_id(home)}"))


def topup(
    rupees: Annotated[str, typer.Argument(help="How much, for example 500 or 99.50.")],
    account_id: Annotated[str | None, typer.Argument(help="The demo account when left out.")] = None,
    home: HomeOption = DEFAULT_HOME,
    reference: Annotated[str | None, typer.Option(help="A payment's name: the same one counts once.")] = None,
) -> None:
    """Adds money to an account."""
    body = {"amount_paise": paise_of(rupees), "reference": reference or f"cli-{secrets.token_hex(8)}"}
    _show(_operator(home).post(f"/v1/accounts/{account_id or _demo_account_id(home)}/topups", body))


def paise_of(rupees: str) -> int:
    """Whole paise of a sum in rupees, with or without commas; HarkaraError when it is none."""
    if not _RUPEES.fullmatch(rupees) or (paise := Decimal(rupees.replace(",", "")) * _PAISE_A_RUPEE) == 0:
        raise HarkaraError(f"{rupees!r} is not a sum in rupees: write it like 500 or 99.50.")
    return int(paise)


def _operator(home: HomeOption) -> Api:
    here = Home(home)
    stack = stack_of(here, here.require_running())
    return Api(stack.base_url, here.secrets.operator_key)


def _demo_account_id(home: HomeOption) -> str:
    demo = Home(home).read_demo()
    if demo is None:
        raise HarkaraError("There is no demo account in this home: name an account.")
    return str(demo["account_id"])


def _show(answer: dict[str, Any]) -> None:
    print(json.dumps(answer, indent=2, ensure_ascii=False))
