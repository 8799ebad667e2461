"""The stack as data: which processes there are, what each is told, how its readiness is asked.

To add a service or simulator, add its row to SERVICES or SIMULATORS and its ports to `ports.OFFSETS`.
"""

import hashlib
import hmac
import os
import signal
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from importlib.util import find_spec
from urllib.parse import urlsplit, urlunsplit

from harkara_cli.errors import HarkaraError
from harkara_cli.home import Home
from harkara_cli.launchers import Function, Program
from harkara_cli.ports import LOOPBACK, MAX_PROCESSES, Ports, numbered
from harkara_cli.postgres import ADMIN_ROLE, DATABASE, postgres_program
from harkara_cli.probes import Probe, broken_store_probe, http_probe, postgres_probe, valkey_probe
from harkara_cli.servers import NATS_USER, nats_program, valkey_program

# A server of one's own, given by these, is used instead of starting one. DATABASE_URL's role may create roles and schemas.
OVERRIDES = ("NATS_URL", "REDIS_URL", "DATABASE_URL")
# On how many nodes of a cluster of one's own each stream is kept; without it streams stay as they are.
REPLICAS = "HARKARA_BUS_REPLICAS"
MAX_REPLICAS = 5


class Kind(StrEnum):
    SERVER = "server"
    SIMULATOR = "simulator"
    SERVICE = "service"


@dataclass(frozen=True)
class Stack:
    """One stack: a home, its ports, the servers given from outside, and how many processes services have if not one."""

    home: Home
    ports: Ports
    overrides: Mapping[str, str]
    scale: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def from_environment(cls, home: Home, ports: Ports, scale: Mapping[str, int] | None = None) -> "Stack":
        return cls(home, ports, {name: os.environ[name] for name in OVERRIDES if os.environ.get(name)}, scale or {})

    @property
    def nats_url(self) -> str:
        own = f"nats://{NATS_USER}:{self.home.secrets.nats_password}@{LOOPBACK}:{self.ports['nats']}"
        return self.overrides.get("NATS_URL", own)

    @property
    def redis_url(self) -> str:
        own = f"redis://:{self.home.secrets.valkey_password}@{LOOPBACK}:{self.ports['valkey']}/0"
        return self.overrides.get("REDIS_URL", own)

    @property
    def database_url(self) -> str:
        """The administrator's; services get `service_database_url`."""
        credentials = f"{ADMIN_ROLE}:{self.home.secrets.postgres_password}"
        own = f"postgresql://{credentials}@{LOOPBACK}:{self.ports['postgres']}/{DATABASE}"
        return self.overrides.get("DATABASE_URL", own)

    def service_database_url(self, service: str) -> str:
        parts = urlsplit(self.database_url)
        server = parts.netloc.rpartition("@")[2]
        return urlunsplit(parts._replace(netloc=f"{role_of(service)}:{self.role_password(service)}@{server}"))

    def role_password(self, service: str) -> str:
        return hmac.new(self.home.secrets.role_key.encode(), service.encode(), hashlib.sha256).hexdigest()

    @property
    def base_url(self) -> str:
        return f"http://{LOOPBACK}:{self.ports['ingress.http']}"

    def job_environment(self) -> dict[str, str]:
        """What `from_job_environment` needs to know the same stack again in another process."""
        return {**self.overrides, "HARKARA_HOME": str(self.home.path), "HARKARA_PORT_BASE": str(self.ports.base)}

    @classmethod
    def from_job_environment(cls) -> "Stack":
        ports = Ports(int(os.environ["HARKARA_PORT_BASE"]))
        return cls.from_environment(Home(os.environ["HARKARA_HOME"]), ports)


@dataclass(frozen=True)
class ProcessSpec:
    """One process of the stack, ready to be supervised."""

    name: str
    kind: Kind
    prepare: Callable[[], Program | Function]
    probe: Probe
    start_probe: Probe  # says when the start may go on
    ports: tuple[str, ...]
    service: str | None = None
    admin_port: int = 0
    is_broken: Probe | None = None  # true where nothing but a new start mends it
    stop_signal: signal.Signals = signal.SIGTERM
    grace_s: float = 15.0
    ready_timeout_s: float = 30.0
    start_attempts: int = 3  # deaths before it was ever ready that end the start of the stack


@dataclass(frozen=True)
class Server:
    name: str
    override: str
    program: Callable[[Home, Ports], Program]
    probe: Callable[[Stack], Probe]
    ports: tuple[str, ...]
    stop_signal: signal.Signals = signal.SIGTERM
    is_broken: Callable[[Stack], Probe] | None = None


@dataclass(frozen=True)
class Simulator:
    name: str
    package: str
    ports: tuple[str, ...]
    http_port: str
    environment: Callable[[Stack], dict[str, str]]


@dataclass(frozen=True)
class Service:
    """A service `some-name` is the function `harkara_some_name.app:main`."""

    name: str
    environment: Callable[[Stack], dict[str, str]] = lambda _: {}
    extra_ports: tuple[str, ...] = ()

    @cached_property
    def package(self) -> str:
        return "harkara_" + self.name.replace("-", "_")


SERVERS = (
    Server(
        "nats", "NATS_URL", nats_program, ports=("nats", "nats.monitoring"),
        probe=lambda stack: http_probe(stack.ports["nats.monitoring"], "/healthz"),
        is_broken=lambda stack: broken_store_probe(stack.ports["nats.monitoring"]),
    ),
    Server(
        "valkey", "REDIS_URL", valkey_program, ports=("valkey",),
        probe=lambda stack: valkey_probe(stack.ports["valkey"], stack.home.secrets.valkey_password),
    ),
    Server(
        "postgres", "DATABASE_URL", postgres_program, ports=("postgres",),
        probe=lambda stack: postgres_probe(stack.ports["postgres"], ADMIN_ROLE, "postgres"),
        stop_signal=signal.SIGINT,  # "fast" shutdown: it does not wait for clients to leave
    ),
)  # fmt: skip

SIMULATORS = (
    Simulator(
        "smsc", "harkara_smsc_simulator", ports=("smsc", "smsc.http"), http_port="smsc.http",
        environment=lambda stack: {
            "HARKARA_SMSC_PORT": str(stack.ports["smsc"]),
            "HARKARA_SMSC_HTTP_PORT": str(stack.ports["smsc.http"]),
        },
    ),
)  # fmt: skip


def _carriers(stack: Stack) -> dict[str, str]:
    return {"HARKARA_CARRIERS_FILE": str(stack.home.carriers_file)}


def _edge(stack: Stack) -> dict[str, str]:
    has_siblings = stack.scale.get("ingress", 1) > 1
    return {
        "HARKARA_HTTP_SHARED": str(has_siblings),
        "HARKARA_ACCEPTED_ELSEWHERE_S": "1" if has_siblings else "0",
        "HARKARA_HTTP_HOST": LOOPBACK,
        "HARKARA_HTTP_PORT": str(stack.ports["ingress.http"]),
        "HARKARA_GRPC_HOST": LOOPBACK,
        "HARKARA_GRPC_PORT": str(stack.ports["ingress.grpc"]),
        "HARKARA_OPERATOR_KEY": stack.home.secrets.operator_key,
    }


SERVICES = (
    Service("compliance"),
    Service("billing"),
    Service("routing", _carriers),
    Service("sms-sender", _carriers),
    Service("webhook-dispatcher", lambda _: {"HARKARA_WEBHOOK_SANDBOX": "true"}),  # a laptop's endpoints are http
    Service("ingress", _edge, extra_ports=("ingress.http", "ingress.grpc")),
)


def replicas_wanted() -> int | None:
    """What the environment says of replicas, None for nothing; HarkaraError for what is no such number."""
    said = os.environ.get(REPLICAS)
    if not said:
        return None
    if said.isascii() and said.isdigit() and 1 <= int(said) <= MAX_REPLICAS:
        return int(said)
    raise HarkaraError(f"{REPLICAS} must be a number from 1 to {MAX_REPLICAS}.")


def role_of(service: str) -> str:
    """The Postgres role of a service; its schema has the same name, and so is its search path."""
    return service.replace("-", "_")


def processes(stack: Stack) -> list[ProcessSpec]:
    """Every process in the order of starting; stopping goes the other way."""
    return [
        *(_server(server, stack) for server in SERVERS if server.override not in stack.overrides),
        *(_simulator(simulator, stack) for simulator in SIMULATORS),
        *(_service(service, stack, number) for service in SERVICES for number in _numbers(service, stack)),
    ]


def parse_scale(words: Iterable[str]) -> dict[str, int]:
    """Read `service=number` words; HarkaraError for what is none."""
    names = [service.name for service in SERVICES]
    scale = {}
    for word in words:
        name, _, number = word.partition("=")
        if name not in names:
            raise HarkaraError(f"There is no service {name!r} to run several times: choose one of {', '.join(names)}.")
        if not (number.isascii() and number.isdigit() and 1 <= int(number) <= MAX_PROCESSES):
            raise HarkaraError(f"How often {name} runs must be a number from 1 to {MAX_PROCESSES}, as in {name}=2.")
        scale[name] = int(number)
    return {name: number for name, number in scale.items() if number > 1}


def _numbers(service: Service, stack: Stack) -> range:
    return range(1, stack.scale.get(service.name, 1) + 1)


def require_installed() -> None:
    """Raises HarkaraError when a service or simulator is not in this environment."""
    for package in (row.package for row in (*SIMULATORS, *SERVICES)):
        if find_spec(package) is None or find_spec(f"{package}.app") is None:
            raise HarkaraError(
                f"The program {package} is missing in this environment: remove .venv and run `make setup`."
            )


def _server(server: Server, stack: Stack) -> ProcessSpec:
    probe = server.probe(stack)
    return ProcessSpec(
        name=server.name,
        kind=Kind.SERVER,
        prepare=lambda: server.program(stack.home, stack.ports),
        probe=probe,
        start_probe=probe,
        ports=server.ports,
        is_broken=server.is_broken(stack) if server.is_broken else None,
        stop_signal=server.stop_signal,
        start_attempts=1,  # what keeps a server from starting, its data or configuration, a second try does not mend
    )


def _simulator(simulator: Simulator, stack: Stack) -> ProcessSpec:
    environment = {**_logging(), **simulator.environment(stack)}
    probe = http_probe(stack.ports[simulator.http_port], "/stats")
    return ProcessSpec(
        name=simulator.name,
        kind=Kind.SIMULATOR,
        prepare=lambda: Function(f"{simulator.package}.app:main", environment),
        probe=probe,
        start_probe=probe,
        ports=simulator.ports,
        grace_s=5.0,
    )


def _service(service: Service, stack: Stack, number: int) -> ProcessSpec:
    name = numbered(service.name, number)
    admin_port = stack.ports[name]
    environment = {
        **_logging(),
        "HARKARA_NATS_URL": stack.nats_url,
        "HARKARA_REDIS_URL": stack.redis_url,
        "HARKARA_DATABASE_URL": stack.service_database_url(service.name),
        "HARKARA_ADMIN_HOST": LOOPBACK,
        "HARKARA_ADMIN_PORT": str(admin_port),
        "HARKARA_HOME": str(stack.home.path),
        "HARKARA_SECRET_KEY": stack.home.secrets.secret_key,
        **service.environment(stack),
    }
    return ProcessSpec(
        name=name,
        kind=Kind.SERVICE,
        prepare=lambda: Function(f"{service.package}.app:main", environment),
        probe=http_probe(admin_port, "/readyz"),
        # A carrier that is down is no reason to start nothing.
        start_probe=http_probe(admin_port, "/startz"),
        # The processes of a service share its other ports.
        ports=(name, *(service.extra_ports if number == 1 else ())),
        service=service.name,
        admin_port=admin_port,
    )


def _logging() -> dict[str, str]:
    return {
        "HARKARA_LOG_LEVEL": os.environ.get("HARKARA_LOG_LEVEL", "INFO"),
        "HARKARA_LOG_FORMAT": os.environ.get("HARKARA_LOG_FORMAT", "json"),
    }
