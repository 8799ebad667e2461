"""What a bus of three nodes asks of its clients and of the provisioner."""

import asyncio
from collections.abc import Iterator

import orjson
import pytest
from tests.chaos.cluster import REPLICAS, Cluster, running_cluster

from harkara_chassis import connection, provisioner
from harkara_chassis.connection import connect
from harkara_chassis.publisher import Outgoing, Publisher, headers
from harkara_contracts.streams import STREAMS

_SUBJECT = "message.v1.accepted.otp"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running_cluster(tmp_path_factory.mktemp("cluster")) as running:
        asyncio.run(provisioner.provision(running.url, REPLICAS))
        yield running


async def test_streams_are_on_as_many_nodes_as_were_asked_for_and_stay_so(cluster: Cluster) -> None:
    assert await provisioner.provision(cluster.url) == []
    bus = await connect(cluster.url, "test", closing_is_loss=lambda: False)
    for spec in STREAMS:
        answer = orjson.loads((await bus.client.request(f"$JS.API.STREAM.INFO.{spec.name}", b"")).data)
        assert answer["config"]["num_replicas"] == REPLICAS
    assert await provisioner.differences(bus.client) == []
    await bus.close()


async def test_a_repeat_that_overtakes_its_first_try_is_not_taken_for_a_refusal(cluster: Cluster) -> None:
    bus = await connect(cluster.url, "test", closing_is_loss=lambda: False)
    publisher = Publisher(bus.client, "test")
    await publisher.start()
    twice = [Outgoing(_SUBJECT, b"[]", headers(_SUBJECT, f"overtaken-{number}")) for number in range(200) for _ in "12"]
    await publisher.send(twice)
    places = [message.sequence for message in twice]
    assert places[::2] == places[1::2]
    assert len(set(places)) == 200
    await bus.close()


async def test_nodes_that_were_told_of_by_others_are_entered_with_the_same_password(cluster: Cluster) -> None:
    first = cluster.nodes[0]
    bus = await connect(first.url, "test", closing_is_loss=lambda: False)
    assert len(bus.client.servers) == REPLICAS
    back = asyncio.Event()

    async def is_back() -> None:
        back.set()

    bus.on_reconnect(is_back)
    cluster.kill(first)
    async with asyncio.timeout(20):
        await back.wait()
    assert bus.client.connected_url is not None
    assert bus.client.connected_url.port != first.client[1] or bus.client.connected_url.hostname != first.client[0]
    await bus.close()
    cluster.start_node(first)
    cluster.wait_until_whole()


async def test_a_node_without_its_cluster_is_left(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "ASK_INTERVAL_S", 0.2)
    monkeypatch.setattr(connection, "ALONE_S", 1.0)
    here, *others = cluster.nodes
    bus = await connect(here.url, "test", closing_is_loss=lambda: False)
    left = asyncio.Event()

    async def has_left() -> None:
        left.set()

    # Frozen, they are away for the one that is left, and not gone.
    bus.on_reconnect(has_left)
    for other in others:
        cluster.freeze(other)
    try:
        async with asyncio.timeout(60):
            while not bus._tried_at.get(f"{here.client[0]}:{here.client[1]}"):
                await asyncio.sleep(0.1)
    finally:
        for other in others:
            cluster.thaw(other)
    async with asyncio.timeout(30):
        await left.wait()
    await bus.close()
    cluster.wait_until_whole()
