"""A bus of three nodes whose leaders die and whose nodes are cut off, and one that has no room left.

What is accepted lies on two nodes at least, so nothing is lost while two of three speak to each other. In the seconds
of an election requests wait or are answered 503; publishers repeat with the same id, so nothing is doubled either. The
same holds while there is no room.

As root the nodes are in network namespaces and a small volume can be mounted; for others the faults that need it are not
in the list.
"""

import asyncio
import errno
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
from bench.stack import Choice, Stack, stack_of
from tests.chaos.cluster import REPLICAS, Cluster, Node, running_cluster, running_node
from tests.chaos.fault import Fault, Scenario
from tests.chaos.network import can_make_networks
from tests.chaos.scene import Scene
from tests.e2e.client import Client, furnish, open_account
from tests.e2e.waiting import eventually

from harkara_chassis.connection import connect
from harkara_cli.home import Home

_KILLS = 3
_DOWN_S = 2.0
_CUT_OFF_S = 15.0
_ELECTED_WITHIN_S = 30.0
_REJOINED_WITHIN_S = 120.0
"""The peers' connections stand still for as long again as the cable was out, by TCP's growing pauses."""
_SHORT_LOAD_S = 5.0
_STREAM = "MESSAGES"
_ROOM_BYTES = 256 * 2**20
"""More than the streams that have room set aside for them, 128 MiB, and what a few thousand messages need."""
_FILLER = "FILLER"
_FULL_S = 5.0
_TOLD_WITHIN_S = 30.0


@dataclass(frozen=True, kw_only=True)
class ClusterStack(Stack):
    """A stack on a bus of three nodes."""

    cluster: Cluster


@contextmanager
def cluster_stack() -> Iterator[Stack]:
    with (
        tempfile.TemporaryDirectory(prefix="harkara-cluster-") as directory,
        running_cluster(Path(directory)) as cluster,
        stack_of(Choice(environment={"NATS_URL": cluster.url, "HARKARA_BUS_REPLICAS": str(REPLICAS)})) as stack,
    ):
        yield ClusterStack(stack.base_url, stack.smsc_url, stack.operator_key, stack.home, cluster=cluster)


def kill_leaders(scene: Scene) -> None:
    """One after the other, each started again before the next dies: two are always there."""
    cluster = _cluster(scene)
    kills = _KILLS if scene.load_s > _SHORT_LOAD_S else 1
    scene.begun()
    for number in range(kills):
        scene.wait_until((number + 0.5) / kills)
        leader = _leader(cluster)
        cluster.kill(leader)
        scene.wait(_DOWN_S)
        cluster.start_node(leader)
        cluster.wait_until_whole()
    scene.healed()


def cut_off(*, the_leader: bool, from_clients: bool = True) -> Scenario:
    def scenario(scene: Scene) -> None:
        cluster = _cluster(scene)
        scene.wait_until(0.3)
        leader = _leader(cluster)
        node = leader if the_leader else next(node for node in cluster.nodes if node is not leader)
        scene.begun()
        cluster.cut_off(node, from_clients=from_clients)
        try:
            scene.wait(_CUT_OFF_S)
        finally:
            cluster.join(node)
        scene.healed()
        cluster.wait_until_whole(_REJOINED_WITHIN_S)

    return scenario


@dataclass(frozen=True, kw_only=True)
class SmallStack(Stack):
    """A stack whose bus has little room. `fill` takes all that is left, `make_room` gives it back."""

    fill: Callable[[], None]
    make_room: Callable[[], None]


@contextmanager
def limited_stack() -> Iterator[Stack]:
    """The bus stores so many octets and no more; something else that is stored there takes them all."""
    with (
        tempfile.TemporaryDirectory(prefix="harkara-limited-") as directory,
        running_node(Path(directory), _ROOM_BYTES) as bus,
        stack_of(Choice(environment={"NATS_URL": bus.url})) as stack,
    ):
        yield SmallStack(
            stack.base_url,
            stack.smsc_url,
            stack.operator_key,
            stack.home,
            fill=lambda: asyncio.run(_fill_streams(bus.url)),
            make_room=lambda: asyncio.run(_delete_filler(bus.url)),
        )


@contextmanager
def small_disk_stack() -> Iterator[Stack]:
    """The bus of the stack itself is on a small volume; a file takes what is left of it."""
    path = Path(tempfile.mkdtemp(prefix="harkara-small-disk-"))
    home = Home(path / "home")
    volume = home.path / "nats"
    filler = volume / "filler"
    try:
        path.chmod(0o711)
        home.open()
        home.close()
        volume.mkdir(mode=0o700)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_ROOM_BYTES},mode=0700", "harkara", volume], check=True)  # noqa: S603, S607
        with stack_of(Choice(home=home.path)) as stack:
            yield SmallStack(
                stack.base_url,
                stack.smsc_url,
                stack.operator_key,
                stack.home,
                fill=lambda: _fill_volume(filler),
                make_room=filler.unlink,
            )
    finally:
        if volume.is_mount():
            subprocess.run(["umount", volume], check=True)  # noqa: S603, S607
        shutil.rmtree(path, ignore_errors=True)


def fill_up(scene: Scene) -> None:
    """No room for a while: nothing is accepted, and the stack says so."""
    assert isinstance(scene.stack, SmallStack)
    another = open_account(Client(scene.stack.base_url, scene.stack.operator_key))
    furnish(another)
    scene.wait_until(0.3)
    scene.begun()
    scene.stack.fill()
    try:
        eventually(lambda: not scene.status()["ingress"].ready, timeout_s=_TOLD_WITHIN_S, what="an edge that says so")
        # Of a message for tomorrow nobody hears today, whatever becomes of it.
        answer = another.send(send_at=(datetime.now(UTC) + timedelta(days=1)).isoformat())
        assert (answer.status, answer.body["error_code"]) == (503, "ERR_UNAVAILABLE"), answer
        scene.wait(_FULL_S)
    finally:
        scene.stack.make_room()
        scene.healed()
    scene.await_ready()


async def _fill_streams(url: str) -> None:
    bus = await connect(url, "filler", closing_is_loss=lambda: False)
    try:
        await bus.client.jetstream().add_stream(name=_FILLER, subjects=["filler"])
        for size in (2**22, 2**16, 2**10):
            while "error" not in orjson.loads((await bus.client.request("filler", bytes(size), timeout=10)).data):
                pass
    finally:
        await bus.close()


async def _delete_filler(url: str) -> None:
    bus = await connect(url, "filler", closing_is_loss=lambda: False)
    try:
        await bus.client.jetstream().delete_stream(_FILLER)
    finally:
        await bus.close()


def _fill_volume(filler: Path) -> None:
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(2**16))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise


def _cluster(scene: Scene) -> Cluster:
    assert isinstance(scene.stack, ClusterStack)
    return scene.stack.cluster


def _leader(cluster: Cluster) -> Node:
    return eventually(lambda: cluster.leader(_STREAM), timeout_s=_ELECTED_WITHIN_S, what=f"a leader of {_STREAM}")


_ANYWHERE = (
    Fault(
        name="cluster-leader-killed",
        what=f"bus of three nodes: kill -9 of the stream's leader, {_KILLS} times",
        scenario=kill_leaders,
        stack=cluster_stack,
        is_short=True,
        is_random=False,
    ),
    Fault(
        name="bus-store-full",
        what="the bus reaches the limit of what it may store",
        scenario=fill_up,
        stack=limited_stack,
        is_random=False,
    ),
)
_AS_ROOT = (
    Fault(
        name="cluster-follower-cut-off",
        what=f"bus of three nodes: one that does not lead is cut off for {_CUT_OFF_S:g} s",
        scenario=cut_off(the_leader=False),
        stack=cluster_stack,
        is_random=False,
    ),
    Fault(
        name="cluster-leader-cut-off",
        what=f"bus of three nodes: the leader is cut off for {_CUT_OFF_S:g} s",
        scenario=cut_off(the_leader=True),
        stack=cluster_stack,
        is_random=False,
    ),
    Fault(
        name="cluster-leader-alone",
        what=f"bus of three nodes: the leader loses the others, but not its clients, for {_CUT_OFF_S:g} s",
        scenario=cut_off(the_leader=True, from_clients=False),
        stack=cluster_stack,
        is_random=False,
    ),
    Fault(
        name="bus-disk-full",
        what="the disk of the bus is full",
        scenario=fill_up,
        stack=small_disk_stack,
        is_random=False,
    ),
)
FAULTS = _ANYWHERE + (_AS_ROOT if can_make_networks() else ())
