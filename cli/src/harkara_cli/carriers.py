"""The carriers' file: by default every carrier is the SMSC simulator of this stack; a changed one is checked."""

import re
from typing import Any

import yaml

from harkara_cli.errors import HarkaraError
from harkara_cli.ports import LOOPBACK, Ports
from harkara_cli.stack import Stack

_FIRST_LINE = (
    "# The simulated carriers of port base {base}. Replace them by real ones: this file is yours once changed.\n"
)
_FIRST_LINE_PATTERN = re.compile(r"# The simulated carriers of port base (\d+)\.")


def write_default_carriers(stack: Stack) -> None:
    """Writes the file where there is none, or where it still holds the defaults of another port base."""
    file = stack.home.carriers_file
    if file.exists():
        text = file.read_text()
        first_line = _FIRST_LINE_PATTERN.match(text)
        if first_line is None or text != default_carriers(Ports(int(first_line[1]))):
            return
    file.write_text(default_carriers(stack.ports))
    file.chmod(0o600)


def check_carriers(stack: Stack) -> None:
    """Raises HarkaraError with the place where the file is wrong.

    The services read it too, but their logs keep the words of an error out, and so cannot tell the place.
    """
    from harkara_contracts.carriers import load_carriers  # noqa: PLC0415 - heavy imports that other commands do without

    try:
        load_carriers(stack.home.carriers_file)
    except ValueError as error:
        raise HarkaraError(f"{str(error)[:1].upper()}{str(error)[1:]}.") from error


def default_carriers(ports: Ports) -> str:
    carriers = [
        _simulated("jio", ports),
        _simulated("airtel", ports),
        {**_simulated("sandbox", ports), "sandbox": True},
    ]
    return _FIRST_LINE.format(base=ports.base) + yaml.safe_dump({"carriers": carriers}, sort_keys=False)


def _simulated(name: str, ports: Ports) -> dict[str, Any]:
    return {
        "name": name,
        "type": "smpp",
        "channel": "sms",
        "weight": 50,
        "host": LOOPBACK,
        "port": ports["smsc"],
        # An SMSC gives a receipt to any bind of the system_id that submitted: carriers that share one would mix theirs.
        "system_id": f"hk-{name}",
        "password": "harkara",
    }
