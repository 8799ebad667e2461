"""Views of facts: a local copy of what other services own, so that nobody has to be asked.

One ephemeral consumer follows the last value of each subject and then every change. It is made anew whenever the
connection comes back (a plain watch would go on only seconds later), and when the server has dropped it, as it does with
one that a process standing still has not asked for a while. What is already known is not applied twice.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, ValuesView
from typing import Generic, TypeVar

import orjson
from nats.aio.client import Client

from harkara_chassis import envelope
from harkara_chassis.ending import ended
from harkara_chassis.pull import Pull
from harkara_contracts.facts import Fact
from harkara_contracts.ids import random_tail
from harkara_contracts.streams import FACTS

logger = logging.getLogger(__name__)

F = TypeVar("F", bound=Fact)

_NANOSECONDS = 1_000_000_000
_INACTIVE_S = 30
_LOAD_TIMEOUT_S = 60.0
_ASK_AGAIN_S = 0.05
_NONE = 404


class FactView(Generic[F]):
    """All facts of one kind by their key."""

    def __init__(self, kind: type[F], on_change: Callable[[F], None] | None = None) -> None:
        self.kind = kind
        self._facts: dict[str, F] = {}
        self._gone: dict[str, int] = {}
        self._on_change = on_change

    def get(self, key: str) -> F | None:
        return self._facts.get(key)

    def values(self) -> ValuesView[F]:
        return self._facts.values()

    def __len__(self) -> int:
        return len(self._facts)

    def apply(self, fact: F) -> None:
        """Take a newer value; an older or known one changes nothing."""
        key = fact.key()
        known = self._facts.get(key)
        if fact.version <= max(known.version if known else 0, self._gone.get(key, 0)):
            return
        if fact.deleted:
            self._facts.pop(key, None)
            self._gone[key] = fact.version
        else:
            self._facts[key] = fact
            self._gone.pop(key, None)
        if self._on_change is not None:
            self._on_change(fact)


class FactFollower:
    """Feeds a service's views from the FACTS stream.

    Args:
        client: the bus connection.
        service: whose views.
        on_end: told when following ends, and by what: old facts must not be taken for new ones for ever.
    """

    def __init__(
        self, client: Client, service: str, on_end: Callable[[asyncio.Task[None]], None] = lambda _: None
    ) -> None:
        self._client = client
        self._service = service
        self._on_end = on_end
        self._views: dict[str, FactView[Fact]] = {}
        self._sequence = 0
        self._name = ""
        self._moved = asyncio.Condition()
        self._loaded = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.pull: Pull | None = None

    def add(self, view: FactView[F]) -> FactView[F]:
        """Follow one more kind; before `start()`. A kind has one view."""
        if view.kind.event in self._views:
            raise ValueError(f"there is a view of {view.kind.event} facts already")
        self._views[view.kind.event] = view  # type: ignore[assignment]  # a view of F gets facts of F only
        return view

    async def start(self) -> None:
        """Load the last values; returns when the views show all that was there.

        Raises:
            TimeoutError: the bus did not give them in time.
        """
        if not self._views:
            return
        self._begin()
        async with asyncio.timeout(_LOAD_TIMEOUT_S):
            await self._loaded.wait()

    async def restart(self) -> None:
        """Read everything again: the consumer may have died with the connection."""
        if self._task is not None:
            await self.stop()
            self._begin()

    def _begin(self) -> None:
        self._task = asyncio.create_task(self._follow(), name="facts")
        self._task.add_done_callback(self._on_end)

    async def stop(self) -> None:
        await ended(self._task)
        if self.pull is not None:
            await self.pull.close()
            self.pull = None

    async def reached(self, sequence: int, timeout_s: float = 2.0) -> bool:
        """Wait until the views show this place of the FACTS stream; False if they do not in time.

        The place may be of a kind that is not followed here. Then nothing arrives, and the stream is asked whether
        there is anything left for us up to it.
        """
        try:
            async with asyncio.timeout(timeout_s):
                while self._sequence < sequence:
                    if await self._nothing_left(sequence):
                        return True
                    await self._wait_for_more()
        except TimeoutError:
            return False
        return True

    async def _nothing_left(self, sequence: int) -> bool:
        # The stream knows what it has acknowledged; a consumer's own counts of it follow a moment later.
        return all(await asyncio.gather(*(self._none_up_to(sequence, kind) for kind in self._views)))

    async def _none_up_to(self, sequence: int, kind: str) -> bool:
        body = orjson.dumps({"seq": self._sequence + 1, "next_by_subj": f"fact.v1.{kind}.>"})
        message = await self._client.request(f"$JS.API.STREAM.MSG.GET.{FACTS.name}", body, timeout=2)
        answer = orjson.loads(message.data)
        if "error" in answer:
            return bool(answer["error"]["code"] == _NONE)
        return bool(answer["message"]["seq"] > sequence)

    async def _wait_for_more(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_ASK_AGAIN_S), self._moved:
                await self._moved.wait()

    async def _follow(self) -> None:
        while True:
            await self._follow_one()
            logger.warning("the facts are followed anew: their consumer was gone")

    async def _follow_one(self) -> None:
        """Follow by one consumer for as long as there is it."""
        self._name = name = f"{self._service}__facts_{random_tail(12)}"
        pending = await self._create(name)
        if pending == 0:
            self._loaded.set()
        self.pull = Pull(self._client, FACTS.name, name, batch=256)
        await self.pull.start()
        while messages := await self.pull.take():
            for message in messages:
                self._apply(message.subject, message.data)
            position = messages[-1].metadata
            async with self._moved:
                self._sequence = max(self._sequence, position.sequence.stream)
                self._moved.notify_all()
            if position.num_pending == 0:
                self._loaded.set()
        await self.pull.close()

    def _apply(self, subject: str, payload: bytes) -> None:
        view = self._views[subject.split(".", 3)[2]]
        received, bad = envelope.decode(payload, view.kind)
        if bad:
            logger.error("an unreadable fact", extra={"kind": view.kind.event, "reason": bad[0].reason})
        for one in received:
            view.apply(one.event)

    async def _create(self, name: str) -> int:
        """Make the consumer; returns how many last values it will bring."""
        config = {
            "name": name,
            "deliver_policy": "last_per_subject",
            "ack_policy": "none",
            "mem_storage": True,
            "num_replicas": 1,
            "inactive_threshold": _INACTIVE_S * _NANOSECONDS,
            "filter_subjects": [f"fact.v1.{kind}.>" for kind in self._views],
        }
        body = orjson.dumps({"stream_name": FACTS.name, "config": config})
        while True:
            try:
                message = await self._client.request(f"$JS.API.CONSUMER.CREATE.{FACTS.name}.{name}", body, timeout=5)
            except Exception as error:  # noqa: BLE001  # whatever the bus says, views are needed: ask until they come
                logger.warning("the facts cannot be followed yet", extra={"kind": type(error).__name__})
            else:
                answer = orjson.loads(message.data)
                if "error" not in answer:
                    return int(answer.get("num_pending", 0))
                logger.warning("the facts cannot be followed yet", extra={"reason": answer["error"]["description"]})
            await asyncio.sleep(0.5)
