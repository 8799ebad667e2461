import asyncio
import socket
from typing import Any

from harkara_smsc_simulator.app import settings_from_environment


async def test_tcp_acknowledges_at_once_where_that_is_set(carrier: Any, simulator: Any) -> None:
    simulator.engine.quick_acks = True
    (session,) = simulator.engine.smsc.sessions
    connection = session._transport.get_extra_info("socket")
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 0)
    await carrier.send("it")
    # The last thing on the wire is the response to the receipt, which is answered by nothing but a TCP ACK.
    while not simulator.engine.of("carrier").acknowledged:
        await asyncio.sleep(0.01)
    assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK) == 1


def test_acks_and_window_are_set_by_the_environment() -> None:
    settings = settings_from_environment({"HARKARA_SMSC_QUICK_ACKS": "true", "HARKARA_SMSC_WINDOW": "100"})
    assert (settings.quick_acks, settings.window) == (True, 100)
    assert not settings_from_environment({}).quick_acks
