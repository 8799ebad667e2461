"""Asking the owners: commands over the bus, and the wait until the edge itself shows what was changed."""

from typing import Any, Protocol, TypeVar

from harkara_chassis.commands import CommandCaller
from harkara_contracts.commands import Command, Reply
from harkara_contracts.ids import new_id
from harkara_ingress.access.accounts import Caller
from harkara_ingress.access.administration import FactsReached

R = TypeVar("R", bound=Reply)


class Owners(Protocol):
    """Who answers commands."""

    async def ask(self, command: Command[R]) -> R:
        """Return the owner's reply.

        Raises:
            HarkaraError: the owner refused, or does not answer in time (ERR_UNAVAILABLE).
        """
        ...


class OwnersOnTheBus:
    def __init__(self, commands: CommandCaller, facts_reached: FactsReached, timeout_s: float) -> None:
        self._commands = commands
        self._facts_reached = facts_reached
        self._timeout_s = timeout_s

    async def ask(self, command: Command[R]) -> R:
        reply = await self._commands.call(command, timeout_s=self._timeout_s)
        if reply.facts_sequence:
            # A client may use at once what it was told. A view that lags is no reason to deny what was done.
            await self._facts_reached(reply.facts_sequence)
        return reply


def asked_by(caller: Caller, account_id: str | None = None) -> dict[str, Any]:
    """Return what every command says: its id, whose account it is about, and the key that asked."""
    return {
        "command_id": new_id("CMD"),
        "account_id": account_id or caller.account_id,
        "actor": caller.key_id,
    }
