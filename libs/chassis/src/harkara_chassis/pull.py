"""The eager subscriber: keeps pull requests open at a consumer and hands over whatever has arrived, at once.

A fetch that waits for a full batch or a time-out costs seconds when it is quiet. Here requests stay open, messages land
in a bounded buffer, and `take()` returns all that is there as soon as there is one. The buffer and what is in hand
together never exceed the batch, so nothing waits unseen until its ack_wait runs out; a keeper tells the server about
long work. A consumer that was deleted is told from an idle one by its missing heartbeats.
"""

import asyncio
import contextlib
import logging
from collections import deque

import orjson
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

logger = logging.getLogger(__name__)

_NANOSECONDS = 1_000_000_000
EXPIRES_S = 30.0
HEARTBEAT_S = 3.0
_SILENCE_S = 2.5 * HEARTBEAT_S


class Pull:
    """Messages of one durable consumer.

    Args:
        client: the bus connection.
        stream: the stream's name.
        consumer: the durable's name.
        batch: how many messages may be buffered or in hand.
        ack_wait_s: the consumer's; None where nothing is acknowledged.
    """

    def __init__(
        self, client: Client, stream: str, consumer: str, *, batch: int = 64, ack_wait_s: float | None = None
    ) -> None:
        self._client = client
        self._consumer = consumer
        self._next = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}"
        self._batch = batch
        self._ack_wait_s = ack_wait_s
        self._arrived: deque[Msg] = deque()
        self._held: dict[int, Msg] = {}
        self._outstanding = 0
        self._wake = asyncio.Event()
        self._stopping = False
        self._heard_at = 0.0
        self._subscription: Subscription | None = None
        self._keeper: asyncio.Task[None] | None = None
        self.problem: str | None = None
        """Why nothing can be expected from this consumer now; None while it is alive."""

    async def start(self) -> None:
        self._inbox = self._client.new_inbox()
        self._subscription = await self._client.subscribe(self._inbox, cb=self._on_message)
        self._heard_at = asyncio.get_running_loop().time()
        await self._request()
        self._keeper = asyncio.create_task(self._keep(), name=f"keep {self._consumer}")

    async def take(self) -> list[Msg]:
        """Wait for at least one message and return all that are there; an empty list means the pull was stopped."""
        while not self._arrived:
            if self._stopping:
                return []
            self._wake.clear()
            await self._wake.wait()
        messages = list(self._arrived)
        self._arrived.clear()
        await self._request()
        return messages

    async def ack(self, messages: list[Msg]) -> None:
        """Tell the server that these are done. Unconfirmed: a lost ack means a repeat, which handlers take as a no-op."""
        for message in messages:
            self._held.pop(id(message), None)
            await self._client.publish(message.reply, b"+ACK")
        await self._request()

    async def nak(self, messages: list[Msg], delay_s: float) -> None:
        """Give messages back for later. The delay is always told: a bare NAK comes again at once, in a hot loop."""
        body = b"-NAK " + orjson.dumps({"delay": int(delay_s * _NANOSECONDS)})
        for message in messages:
            self._held.pop(id(message), None)
            await self._client.publish(message.reply, body)
        await self._request()

    async def restart(self) -> None:
        """Ask anew after the connection came back: the server has forgotten the open requests."""
        self._outstanding = 0
        self._heard_at = asyncio.get_running_loop().time()
        await self._request()

    async def stop(self) -> None:
        """Ask for no more, and give back what no one has taken so that another instance gets it at once."""
        self._stopping = True
        self._wake.set()
        if self._keeper is not None:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper
        if self._subscription is not None:
            with contextlib.suppress(Exception):  # the connection may be gone already
                await self._subscription.unsubscribe()
        if self._ack_wait_s is not None and self._client.is_connected:
            await self.nak(list(self._arrived), delay_s=0.01)
        self._arrived.clear()

    async def _request(self) -> None:
        room = self._batch - len(self._held) - self._outstanding
        if self._stopping or room < max(1, self._batch // 2):
            return
        self._outstanding += room
        body = {
            "batch": room,
            "expires": int(EXPIRES_S * _NANOSECONDS),
            "idle_heartbeat": int(HEARTBEAT_S * _NANOSECONDS),
        }
        await self._client.publish(self._next, orjson.dumps(body), reply=self._inbox)

    async def _on_message(self, message: Msg) -> None:
        self._heard_at = asyncio.get_running_loop().time()
        if message.headers and "Status" in message.headers:
            await self._on_status(message.headers)
            return
        self.problem = None
        self._outstanding -= 1
        if self._ack_wait_s is not None:
            self._held[id(message)] = message
        self._arrived.append(message)
        self._wake.set()

    async def _on_status(self, headers: dict[str, str]) -> None:
        status = headers["Status"]
        if status == "100":
            self.problem = None
            return
        # 404 nothing there, 408 the request ran out, 409 the request was dropped; what it had left comes no more.
        self._outstanding = max(0, self._outstanding - int(headers.get("Nats-Pending-Messages", self._outstanding)))
        description = headers.get("Description", "")
        if status == "503" or "Deleted" in description:
            self.problem = f"consumer {self._consumer} is missing: run `harkara provision`"
            return  # the keeper asks again, slowly
        await self._request()

    async def _keep(self) -> None:
        """Notice a dead consumer, ask again, and keep what is in hand from being delivered to somebody else."""
        interval_s = min(HEARTBEAT_S, (self._ack_wait_s or EXPIRES_S) / 3)
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(interval_s)
            if not self._client.is_connected:
                continue
            if self._ack_wait_s is not None:
                for message in list(self._held.values()):
                    await self._client.publish(message.reply, b"+WPI")
            starved = self._outstanding > 0 and loop.time() - self._heard_at > _SILENCE_S
            if starved:
                self.problem = f"consumer {self._consumer} gives no sign of life"
            if starved or (self.problem and self._outstanding == 0):
                await self.restart()
