"""Reading along a stream: one subject's messages from any place on, in order, each once.

No durable remembers where a reader is; the reader does. An ephemeral consumer brings what lies behind that place, and is
made anew there whenever it is gone: with a restarted server, with a lost connection, or because the reader's own client
was so slow that nothing was asked for. Nothing is acknowledged, and a reader that does not take makes nobody fetch.
"""

import asyncio
import logging
from typing import NamedTuple

import nats.errors
import orjson
from nats.aio.client import Client
from nats.aio.msg import Msg

from harkara_chassis.pull import Pull
from harkara_contracts.ids import random_tail
from harkara_contracts.streams import StreamSpec

logger = logging.getLogger(__name__)

_NANOSECONDS = 1_000_000_000
_INACTIVE_S = 10
_ASK_TIMEOUT_S = 5.0
_ASK_AGAIN_S = 0.25
_BATCH = 8
"""Stream messages in memory for one reader; each has up to 256 events."""


class Span(NamedTuple):
    """The places of the first and the last message that a stream keeps; an empty one has `first` behind `last`."""

    first: int
    last: int


class Message(NamedTuple):
    """One message of a stream, and its place there."""

    place: int
    payload: bytes


async def span_of(client: Client, stream: StreamSpec) -> Span:
    """Ask what a stream keeps now.

    Raises:
        ConnectionError: the bus cannot say.
    """
    try:
        message = await client.request(f"$JS.API.STREAM.INFO.{stream.name}", b"", timeout=_ASK_TIMEOUT_S)
    except (OSError, nats.errors.Error) as error:
        raise ConnectionError(f"the bus does not answer ({type(error).__name__})") from error
    answer = orjson.loads(message.data)
    if "error" in answer:
        raise ConnectionError(f"the bus cannot tell of {stream.name}: {answer['error'].get('description')}")
    state = answer["state"]
    return Span(max(1, state["first_seq"]), state["last_seq"])


class OrderedReader:
    """Messages of one subject.

    Args:
        client: the bus connection.
        stream: what is read.
        subject: a filter that the server applies.
        after: the place in the stream behind which reading begins.
        name: whose reader it is, in consumers' names.
    """

    def __init__(self, client: Client, stream: StreamSpec, subject: str, after: int, name: str) -> None:
        self._client = client
        self._stream = stream.name
        self._subject = subject
        self._name = name
        self._after = after
        self._taken = 0
        self._pull: Pull | None = None
        self._is_over = False

    async def take(self) -> list[Message]:
        """Wait for at least one message and return all that are there; an empty list is the end, after `end()`."""
        while not self._is_over:
            if self._pull is None:
                self._pull = await self._open()
                continue
            fresh = self._in_order(await self._pull.take())
            if fresh:
                return fresh
            if not self._is_over:
                # Gone with its server, or something is missing in what it brought.
                await self._drop()
        return []

    def restart(self) -> None:
        """Make the consumer anew: what was on its way went with the connection that was lost."""
        if self._pull is not None:
            self._pull.end()

    def end(self) -> None:
        """Take no more; who waits in `take` gets the end."""
        self._is_over = True
        self.restart()

    async def close(self) -> None:
        """End, and let go of the consumer; the server removes it soon."""
        self.end()
        await self._drop()

    async def _drop(self) -> None:
        pull, self._pull = self._pull, None
        if pull is not None:
            await pull.close()

    def _in_order(self, messages: list[Msg]) -> list[Message]:
        """Return these messages up to the first gap in the consumer's own count."""
        fresh: list[Message] = []
        for message in messages:
            place, count = (int(token) for token in message.reply.rsplit(".", 4)[1:3])
            if count != self._taken + 1:
                logger.warning("a message is missing on the way: asked for again", extra={"stream": self._stream})
                self.restart()
                break
            self._taken = count
            self._after = place
            fresh.append(Message(place, message.data))
        return fresh

    async def _open(self) -> Pull | None:
        """Make a consumer behind what was taken; None if that did not come about yet."""
        name = f"{self._name}_{random_tail(12)}"
        config = {
            "name": name,
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": self._after + 1,
            "ack_policy": "none",
            "mem_storage": True,
            "num_replicas": 1,
            "inactive_threshold": _INACTIVE_S * _NANOSECONDS,
            "filter_subject": self._subject,
        }
        body = orjson.dumps({"stream_name": self._stream, "config": config})
        try:
            message = await self._client.request(
                f"$JS.API.CONSUMER.CREATE.{self._stream}.{name}.{self._subject}", body, timeout=_ASK_TIMEOUT_S
            )
        except (OSError, nats.errors.Error) as error:
            reason = type(error).__name__
        else:
            answer = orjson.loads(message.data)
            if "error" not in answer:
                self._taken = 0
                pull = Pull(self._client, self._stream, name, batch=_BATCH)
                await pull.start()
                return pull
            reason = answer["error"].get("description")
        # No warning: there may be a thousand readers, and that the bus is away has been said.
        logger.debug("a stream cannot be read along yet", extra={"stream": self._stream, "reason": reason})
        await asyncio.sleep(_ASK_AGAIN_S)
        return None
