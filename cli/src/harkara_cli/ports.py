"""Every port of a stack, counted from one base, so that two stacks with different bases never meet.

A port is an offset in this table; nothing else in the command line knows a number.
"""

import errno
import socket
import time
from collections.abc import Iterable
from dataclasses import dataclass

from harkara_cli.errors import HarkaraError

LOOPBACK = "127.0.0.1"
DEFAULT_BASE = 8000

# Names with a dot are one process's second and third port.
OFFSETS = {
    "ingress.http": 80,
    "ingress.grpc": 90,
    "ingress.smpp": 75,
    # Servers
    "nats": 1,
    "nats.monitoring": 2,
    "valkey": 3,
    "postgres": 4,
    # Admin ports of the services: /healthz, /readyz, /metrics
    "ingress": 10,
    "compliance": 11,
    "routing": 12,
    "billing": 13,
    "sms-sender": 14,
    "whatsapp-sender": 15,
    "rcs-sender": 16,
    "voice-sender": 17,
    "email-sender": 18,
    "otp": 19,
    "webhook-dispatcher": 20,
    # Simulators: the carrier's wire and its HTTP view
    "smsc": 30,
    "smsc.http": 31,
    "whatsapp.http": 32,
    "rcs.http": 33,
    "voice": 34,
    "voice.http": 35,
    "mail": 36,
    "mail.http": 37,
}
SERVICE_NAMES = (
    "ingress", "compliance", "routing", "billing", "sms-sender", "whatsapp-sender", "rcs-sender", "voice-sender",
    "email-sender", "otp", "webhook-dispatcher",
)  # fmt: skip
MAX_PROCESSES = 4
_FIRST_FURTHER = 40


def numbered(service: str, number: int) -> str:
    """The name of a service's process: the first is called like the service, the others `<service>-2` and so on."""
    return service if number == 1 else f"{service}-{number}"


def service_of(process: str) -> str:
    """The service that a process belongs to."""
    name, _, number = process.rpartition("-")
    return name if number.isdigit() else process


# Admin ports of the second to fourth process of each service.
OFFSETS |= {
    numbered(service, number): _FIRST_FURTHER + (number - 2) * len(SERVICE_NAMES) + place
    for number in range(2, MAX_PROCESSES + 1)
    for place, service in enumerate(SERVICE_NAMES)
}
_HIGHEST_OFFSET = max(OFFSETS.values())
_LOWEST_BASE = 1024
_HIGHEST_PORT = 65535


@dataclass(frozen=True)
class Ports:
    base: int = DEFAULT_BASE

    def __post_init__(self) -> None:
        if not _LOWEST_BASE <= self.base <= _HIGHEST_PORT - _HIGHEST_OFFSET:
            limits = f"{_LOWEST_BASE} and {_HIGHEST_PORT - _HIGHEST_OFFSET}"
            raise HarkaraError(f"The port base {self.base} is out of range: choose one between {limits}.")

    def __getitem__(self, name: str) -> int:
        return self.base + OFFSETS[name]


def require_free(ports: Ports, names: Iterable[str], *, patience_s: float = 0.0) -> None:
    """Raises HarkaraError for the first port that another program holds after `patience_s` seconds."""
    deadline = time.monotonic() + patience_s
    for name in names:
        while not _is_free(ports[name]):
            if time.monotonic() >= deadline:
                raise HarkaraError(
                    f"Port {ports[name]} ({name}) is taken by another program: "
                    f"stop that program, or choose other ports with --port-base (now {ports.base})."
                )
            time.sleep(0.05)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As the servers do: a port whose old connections are in TIME_WAIT is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise HarkaraError(f"Port {port} cannot be used ({error.strerror}): choose another --port-base.") from error
        return True
