"""One connection to the bus for each process, opened with a policy that never gives up quietly.

The client library's defaults stop reconnecting after two minutes and notice a half-open link after four. Here it
reconnects for ever, pings every three seconds, and a connection that is closed for good ends the process, so that a
supervisor starts a fresh one.

In a cluster a node that was cut off from its peers goes on greeting its clients, and can store nothing for them. So
JetStream itself is asked now and then, and a node behind which there is none is left for the one that was tried longest
ago.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import nats
import orjson
from nats.aio.client import Client, Server

logger = logging.getLogger(__name__)

PING_INTERVAL_S = 3
MAX_OUTSTANDING_PINGS = 2
RECONNECT_WAIT_S = 0.25
CONNECT_TIMEOUT_S = 5
FIRST_CONNECT_TIMEOUT_S = 15.0
ASK_INTERVAL_S = 2.0
ALONE_S = 12.0
"""How long a node may be without JetStream before it is left; an election takes less."""
_MAX_PENDING_BYTES = 32 * 2**20


class Bus:
    """The connection and those who want to know when it came back or was lost for good."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.lost = asyncio.Event()
        """Set when the connection is closed and will not come back."""
        self._on_reconnect: list[Callable[[], Awaitable[None]]] = []
        self._tried_at: dict[str, float] = {}
        self._watcher: asyncio.Task[None] | None = None

    @property
    def connected(self) -> bool:
        return self.client.is_connected

    def on_reconnect(self, callback: Callable[[], Awaitable[None]]) -> None:
        self._on_reconnect.append(callback)

    async def reconnected(self) -> None:
        logger.warning("the bus is back")
        for callback in self._on_reconnect:
            await callback()

    def next_server(self, servers: Sequence[Server], _: dict[str, Any]) -> tuple[Server, float]:
        """Choose where to connect next, and after how many seconds: the node that was tried longest ago."""
        now = asyncio.get_running_loop().time()
        chosen = min(servers, key=lambda server: self._tried_at.get(server.uri.netloc, -1.0))
        is_fresh = now - self._tried_at.get(chosen.uri.netloc, -1.0) > RECONNECT_WAIT_S
        self._tried_at[chosen.uri.netloc] = now
        return chosen, 0.0 if is_fresh else RECONNECT_WAIT_S

    def watch(self) -> None:
        """Leave a node that has lost its cluster, from now on."""
        self._watcher = asyncio.create_task(self._watch(), name="watch the bus")

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        well_at = loop.time()
        while True:
            await asyncio.sleep(ASK_INTERVAL_S)
            has_choice = self.connected and len(self.client.servers) > 1
            if not has_choice or await self._has_jetstream():
                well_at = loop.time()
            elif loop.time() - well_at > ALONE_S and self.client.connected_url is not None:
                logger.warning("the node of the bus has lost its cluster: trying another")
                self._tried_at[self.client.connected_url.netloc] = well_at = loop.time()
                await self.client.force_reconnect()

    async def _has_jetstream(self) -> bool:
        try:
            answer = await self.client.request("$JS.API.INFO", b"", timeout=ASK_INTERVAL_S)
            return "error" not in orjson.loads(answer.data)
        except (OSError, ValueError, nats.errors.Error):
            return False

    async def close(self) -> None:
        if self._watcher is not None:
            self._watcher.cancel()
        with contextlib.suppress(OSError):  # what was left to say finds no server
            await self.client.close()


async def connect(url: str, name: str, *, closing_is_loss: Callable[[], bool] = lambda: True) -> Bus:
    """Open the connection.

    Args:
        url: `nats://user:password@host:port`, several nodes of one cluster separated by commas. The first one's user
            and password are those of all, also of nodes that the cluster tells of later.
        name: shown in the server's connection list.
        closing_is_loss: asked when the connection closes; false while the process itself is ending.

    Raises:
        ConnectionError: no server answered.
    """
    client = Client()
    bus = Bus(client)
    servers, user, password = _apart(url)

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
                servers=servers,
                user=user,
                password=password,
                name=name,
                inbox_prefix=f"_INBOX.{name}".encode(),
                connect_timeout=CONNECT_TIMEOUT_S,
                allow_reconnect=True,
                max_reconnect_attempts=-1,
                reconnect_time_wait=RECONNECT_WAIT_S,  # type: ignore[arg-type]  # any number of seconds works
                reconnect_to_server_handler=bus.next_server,
                ping_interval=PING_INTERVAL_S,
                max_outstanding_pings=MAX_OUTSTANDING_PINGS,
                pending_size=_MAX_PENDING_BYTES,
                error_cb=on_error,
                closed_cb=on_closed,
                disconnected_cb=on_disconnected,
                reconnected_cb=bus.reconnected,
            )
    except (OSError, nats.errors.Error) as error:
        await _abandon(client)
        raise ConnectionError(f"no NATS server can be reached ({type(error).__name__})") from error
    except asyncio.CancelledError:
        await _abandon(client)
        raise
    bus.watch()
    return bus


async def _abandon(client: Client) -> None:
    """Close what the library leaves half open when it is interrupted: a server took the connection and said nothing."""
    with contextlib.suppress(Exception):
        await client.close()


def _apart(url: str) -> tuple[list[str], str | None, str | None]:
    """Take user and password out of the addresses: the client library gives nodes it was told of by others none."""
    parts = [urlsplit(one) for one in url.split(",")]
    user, password = parts[0].username, parts[0].password
    if user is None or password is None:
        return url.split(","), None, None
    return [urlunsplit(one._replace(netloc=one.netloc.rpartition("@")[2])) for one in parts], user, password
