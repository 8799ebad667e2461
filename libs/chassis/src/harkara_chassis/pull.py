"""The eager subscriber: keeps pull requests open at a consumer and hands over whatever has arrived, at once.

A fetch that waits for a full batch or a time-out costs seconds when it is quiet. Here requests stay open, messages land
in a bounded buffer, and `take()` returns all that is there as soon as there is one. The buffer and what is in hand
together never exceed the batch, so nothing waits unseen until its ack_wait runs out; a keeper tells the server about
long work. A consumer that was deleted is told from an idle one by its missing heartbeats.

While a process or the server stands still for a moment, the server gives out again what is in this process's hands. Such
a copy is no news here: its original is being handled, or was a moment ago.
"""

import asyncio
import contextlib
import logging
from collections import OrderedDict, deque

import nats.errors
import orjson
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from harkara_chassis.ending import ended

logger = logging.getLogger(__name__)

_NANOSECONDS = 1_000_000_000
EXPIRES_S = 30.0
HEARTBEAT_S = 3.0
_SILENCE_S = 2.5 * HEARTBEAT_S
STANDSTILL_S = 30.0
"""So long something may be in hand with nothing getting done: longer than any wait for a database, carrier or endpoint."""

_GOODBYE_S = 2.0
_REMEMBERED = 4_096
_ONCE = "1"
_REPLY_TOKENS = 6

Delivery = tuple[str, str, str]
"""How often a message was delivered; its place in the stream and the time it came there, which tell it from all others."""


def delivery_of(message: Msg) -> Delivery:
    """Read what the reply subject tells: `$JS.ACK.<stream>.<consumer>.<deliveries>.<place>.<consumer's>.<time>.<pending>`."""
    tokens = message.reply.rsplit(".", 5)
    return (tokens[-5], tokens[-4], tokens[-2]) if len(tokens) == _REPLY_TOKENS else (_ONCE, message.reply, "")


class Pull:
    """Messages of one durable consumer.

    Args:
        client: the bus connection.
        stream: the stream's name.
        consumer: the durable's name.
        batch: how many messages may be buffered or in hand.
        ack_wait_s: the consumer's; None for an ephemeral one, where nothing is acknowledged.
    """

    def __init__(
        self,
        client: Client,
        stream: str,
        consumer: str,
        *,
        batch: int = 64,
        ack_wait_s: float | None = None,
    ) -> None:
        self._client = client
        self._consumer = consumer
        self._next = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}"
        self._batch = batch
        self._ack_wait_s = ack_wait_s
        self._arrived: deque[Msg] = deque()
        self._held: dict[tuple[str, str], Msg] = {}
        self._done: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._outstanding = 0
        self._wake = asyncio.Event()
        self._stopping = False
        self._heard_at = 0.0
        self._moved_at = 0.0
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

    @property
    def standstill(self) -> str | None:
        """Say for how long nothing of what is in hand got done, when that is too long."""
        still_s = asyncio.get_running_loop().time() - self._moved_at
        if not self._held or still_s < STANDSTILL_S:
            return None
        return f"consumer {self._consumer} has got nothing done for {still_s:.0f} s"

    async def take(self) -> list[Msg]:
        """Wait for at least one message and return all that are there.

        An empty list is the end: the pull was stopped, or its ephemeral consumer is gone and must be made anew.
        """
        while not self._arrived:
            if self._stopping:
                return []
            self._wake.clear()
            await self._wake.wait()
        return await self.take_more()

    async def take_more(self) -> list[Msg]:
        """Return what is there now, which may be nothing."""
        messages = list(self._arrived)
        self._arrived.clear()
        await self._request()
        return messages

    async def ack(self, messages: list[Msg]) -> None:
        """Tell the server that these are done. Unconfirmed: a lost ack means a repeat, which handlers take as a no-op."""
        for message in messages:
            self._release(message, is_done=True)
            await self._tell(message.reply, b"+ACK")
        await self._request()

    async def nak(self, messages: list[Msg], delay_s: float) -> None:
        """Give messages back for later. The delay is always told: a bare NAK comes again at once, in a hot loop."""
        body = b"-NAK " + orjson.dumps({"delay": int(delay_s * _NANOSECONDS)})
        for message in messages:
            self._release(message, is_done=False)
            await self._tell(message.reply, body)
        await self._request()

    async def restart(self) -> None:
        """Ask anew after the connection came back: the server has forgotten the open requests."""
        self._outstanding = 0
        self._heard_at = asyncio.get_running_loop().time()
        await self._request()

    def end(self) -> None:
        """Ask for no more; `take` returns what is there, and then nothing."""
        self._stopping = True
        self._wake.set()

    async def stop(self) -> None:
        """Ask for no more, and give back what no one has taken so that another instance gets it at once.

        What was taken stays ours until it is acknowledged, or until `close()`.
        """
        self.end()
        if self._subscription is not None:
            with contextlib.suppress(Exception):  # the connection may be gone already
                async with asyncio.timeout(_GOODBYE_S):
                    # What the server has sent already arrives first, else it would be nobody's until its ack_wait.
                    await self._subscription.drain()  # type: ignore[no-untyped-call]  # of the client library
            self._subscription = None
        left = list(self._arrived)
        self._arrived.clear()
        await self._give_back(left)

    async def close(self) -> None:
        """Stop, and give back also what was taken and not finished."""
        await self.stop()
        await ended(self._keeper)
        self._keeper = None
        await self._give_back(list(self._held.values()))

    async def _give_back(self, messages: list[Msg]) -> None:
        if self._ack_wait_s is not None and self._client.is_connected:
            await self.nak(messages, delay_s=0.01)

    async def _request(self) -> None:
        in_hand = len(self._arrived) if self._ack_wait_s is None else len(self._held)
        room = self._batch - in_hand - self._outstanding
        if self._stopping or room < max(1, self._batch // 2):
            return
        self._outstanding += room
        body = {
            "batch": room,
            "expires": int(EXPIRES_S * _NANOSECONDS),
            "idle_heartbeat": int(HEARTBEAT_S * _NANOSECONDS),
        }
        await self._tell(self._next, orjson.dumps(body), reply=self._inbox)

    async def _tell(self, subject: str, payload: bytes, reply: str = "") -> None:
        # With the server away and the client's buffer full, the server will learn it by a repeat or `restart`.
        with contextlib.suppress(nats.errors.OutboundBufferLimitError):
            await self._client.publish(subject, payload, reply=reply)

    def _release(self, message: Msg, *, is_done: bool) -> None:
        if self._ack_wait_s is None:
            return
        _, *place = delivery_of(message)
        key = (place[0], place[1])
        self._held.pop(key, None)
        self._moved_at = asyncio.get_running_loop().time()
        if is_done:
            self._done[key] = None
            if len(self._done) > _REMEMBERED:
                self._done.popitem(last=False)

    async def _is_copy(self, message: Msg) -> bool:
        """Tell whether a delivery only repeats what is in hand (whose ack will do for both) or was done a moment ago."""
        deliveries, place, at = delivery_of(message)
        key = (place, at)
        if deliveries != _ONCE:
            if key in self._held:
                return True
            if key in self._done:
                await self._tell(message.reply, b"+ACK")
                return True
        if not self._held:
            self._moved_at = self._heard_at
        self._held[key] = message
        return False

    async def _on_message(self, message: Msg) -> None:
        self._heard_at = asyncio.get_running_loop().time()
        if message.headers and "Status" in message.headers:
            await self._on_status(message.headers)
            return
        self.problem = None
        self._outstanding -= 1
        if self._ack_wait_s is not None and await self._is_copy(message):
            await self._request()
            return
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
            if self._ack_wait_s is None:
                self.end()  # nobody but its reader makes it anew
            return  # of a durable the keeper asks again, slowly
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
                    await self._tell(message.reply, b"+WPI")
            starved = self._outstanding > 0 and loop.time() - self._heard_at > _SILENCE_S
            if starved:
                self.problem = f"consumer {self._consumer} gives no sign of life"
            if starved or (self.problem and self._outstanding == 0):
                await self.restart()
