"""One connection to the bus for each process, opened with a policy that never gives up quietly.

The client library's defaults stop reconnecting after two minutes and notice a half-open link after four. Here it
reconnects for ever, pings every ten seconds, and a connection that is closed for good ends the process, so that a
supervisor starts a fresh one.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

import nats
from nats.aio.client import Client

logger = logging.getLogger(__name__)

PING_INTERVAL_S = 10
MAX_OUTSTANDING_PINGS = 2
RECONNECT_WAIT_S = 0.25
CONNECT_TIMEOUT_S = 5
FIRST_CONNECT_TIMEOUT_S = 15.0
_MAX_PENDING_BYTES = 32 * 2**20


class Bus:
    """The connection and those who want to know when it came back or was lost for good."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.lost = asyncio.Event()
        """Set when the connection is closed and will not come back."""
        self._on_reconnect: list[Callable[[], Awaitable[None]]] = []

    @property
    def connected(self) -> bool:
        return self.client.is_connected

    def on_reconnect(self, callback: Callable[[], Awaitable[None]]) -> None:
        self._on_reconnect.append(callback)

    async def reconnected(self) -> None:
        logger.warning("the bus is back")
        for callback in self._on_reconnect:
            await callback()

    async def close(self) -> None:
        with contextlib.suppress(OSError):  # what was left to say finds no server
            await self.client.close()


async def connect(url: str, name: str, *, closing_is_loss: Callable[[], bool] = lambda: True) -> Bus:
    """Open the connection.

    Args:
        url: `nats://user:password@host:port`, several separated by commas.
        name: shown in the server's connection list.
        closing_is_loss: asked when the connection closes; false while the process itself is ending.

    Raises:
        ConnectionError: no server answered.
    """
    client = Client()
    bus = Bus(client)

    async def on_closed() -> None:
        if closing_is_loss():
            bus.lost.set()

    async def on_disconnected() -> None:
        if closing_is_loss():
            logger.warning("the bus is away")

    async def on_error(error: Exception) -> None:
        logger.warning("the bus reports an error", extra={"kind": type(error).__name__})

    try:
        # With endless reconnecting the library's first connect would never fail either.
        async with asyncio.timeout(FIRST_CONNECT_TIMEOUT_S):
            await client.connect(
                servers=url.split(","),
                name=name,
                inbox_prefix=f"_INBOX.{name}".encode(),
                connect_timeout=CONNECT_TIMEOUT_S,
                allow_reconnect=True,
                max_reconnect_attempts=-1,
                reconnect_time_wait=RECONNECT_WAIT_S,  # type: ignore[arg-type]  # any number of seconds works
                ping_interval=PING_INTERVAL_S,
                max_outstanding_pings=MAX_OUTSTANDING_PINGS,
                pending_size=_MAX_PENDING_BYTES,
                error_cb=on_error,
                closed_cb=on_closed,
                disconnected_cb=on_disconnected,
                reconnected_cb=bus.reconnected,
            )
    except (OSError, nats.errors.Error) as error:
        raise ConnectionError(f"no NATS server can be reached ({type(error).__name__})") from error
    return bus
