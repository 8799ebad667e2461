"""Commands and replies over the bus: no service calls another directly.

The caller publishes the command with its reply subject and its deadline, and waits on one ephemeral
consumer of its own replies. The owner answers each; a command whose caller has stopped waiting is not begun.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import orjson
from nats.aio.client import Client
from nats.aio.msg import Msg
from pydantic import ValidationError

from harkara_chassis import envelope
from harkara_chassis.ending import ended
from harkara_chassis.faults import is_passing
from harkara_chassis.publisher import Outgoing, Publisher, headers
from harkara_chassis.pull import Pull
from harkara_contracts.commands import Command, Failure, Reply, ReplyEnvelope
from harkara_contracts.consumers import CommandConsumerSpec
from harkara_contracts.errors import ErrorCode, HarkaraError
from harkara_contracts.events import Event
from harkara_contracts.ids import random_tail
from harkara_contracts.streams import REPLIES
from harkara_contracts.subjects import subject

logger = logging.getLogger(__name__)

R = TypeVar("R", bound=Reply)
C = TypeVar("C", bound=Command[Any])

_REPLY_TO = "Harkara-Reply-To"
_DEADLINE = "Harkara-Deadline"
_NANOSECONDS = 1_000_000_000
_MAX_AT_ONCE = 64
_PASSING_PAUSE_S = 0.1
_ASK_AGAIN_S = 0.5


class CommandCaller:
    """Calls commands and waits for their replies."""

    def __init__(self, client: Client, instance: str, publisher: Publisher) -> None:
        self._client = client
        self._instance = f"{instance}-{random_tail(8)}"
        self._publisher = publisher
        self._waiting: dict[str, asyncio.Future[ReplyEnvelope]] = {}
        self._listener: asyncio.Task[None] | None = None
        self._listening = asyncio.Event()
        self._pull: Pull | None = None

    async def call(self, command: Command[R], timeout_s: float = 5.0) -> R:
        """Send a command and return its owner's reply.

        Raises:
            HarkaraError: the owner refused, with its code and words; ERR_UNAVAILABLE if it did not answer in time.
        """
        if self._listener is None:
            self._listener = asyncio.create_task(self._listen(), name="replies")
        token = random_tail(16)
        answer: asyncio.Future[ReplyEnvelope] = asyncio.get_running_loop().create_future()
        self._waiting[token] = answer
        try:
            async with asyncio.timeout(timeout_s):
                await self._listening.wait()
                await self._publisher.send([self._message(command, token, timeout_s)])
                reply = await answer
        except TimeoutError as error:
            raise HarkaraError(
                ErrorCode.UNAVAILABLE, f"The {command.service} service did not answer in time. Try again shortly."
            ) from error
        finally:
            self._waiting.pop(token, None)
        if reply.failure is not None:
            raise HarkaraError(ErrorCode(reply.failure.error_code), reply.failure.error_message)
        model: type[R] = command.reply_model  # type: ignore[assignment]  # declared beside the type argument
        return model.model_validate(reply.result)

    def _message(self, command: Command[R], token: str, timeout_s: float) -> Outgoing:
        name = command.subject()
        extra = headers(name, f"{command.command_id}.{token}") | {
            _REPLY_TO: subject("reply", self._instance, token),
            _DEADLINE: f"{time.time() + timeout_s:.3f}",
        }
        return Outgoing(name, envelope.encode([command], self._instance), extra)

    async def _listen(self) -> None:
        """Receive replies for ever: a consumer that cannot be made, or that is gone, is made again."""
        while True:
            try:
                await self._listen_by_one()
            except Exception as error:  # noqa: BLE001  # whatever the bus says, replies are needed: ask until they come
                logger.warning("replies cannot be received yet", extra={"kind": type(error).__name__})
            self._listening.clear()
            await asyncio.sleep(_ASK_AGAIN_S)

    async def _listen_by_one(self) -> None:
        name = f"replies_{self._instance}"
        config = {
            "name": name,
            "deliver_policy": "new",
            "ack_policy": "none",
            "mem_storage": True,
            "inactive_threshold": 30 * _NANOSECONDS,
            "filter_subject": f"reply.v1.{self._instance}.>",
        }
        body = orjson.dumps({"stream_name": REPLIES.name, "config": config})
        answer = orjson.loads(
            (await self._client.request(f"$JS.API.CONSUMER.CREATE.{REPLIES.name}.{name}", body, timeout=5)).data
        )
        if "error" in answer:
            raise ConnectionError(f"replies cannot be received: {answer['error']['description']}")
        self._pull = Pull(self._client, REPLIES.name, name, batch=256)
        await self._pull.start()
        self._listening.set()
        while messages := await self._pull.take():
            for message in messages:
                self._settle(message)
        await self._pull.close()

    def _settle(self, message: Msg) -> None:
        answer = self._waiting.get(message.subject.rpartition(".")[2])
        if answer is not None and not answer.done():
            answer.set_result(ReplyEnvelope.model_validate_json(message.data))

    async def restart(self) -> None:
        """Listen anew after the connection came back: the ephemeral consumer may be gone."""
        if self._listener is not None:
            await self.stop()
            self._listening.clear()
            self._listener = asyncio.create_task(self._listen(), name="replies")

    async def stop(self) -> None:
        await ended(self._listener)
        self._listener = None
        if self._pull is not None:
            await self._pull.close()
            self._pull = None


Answerer = Callable[[Any], Awaitable[Reply]]


class CommandServer:
    """Answers the commands of one service, several at once."""

    def __init__(self, client: Client, spec: CommandConsumerSpec, publisher: Publisher) -> None:
        self._publisher = publisher
        self._answers: dict[str, tuple[type[Command[Any]], Answerer]] = {}
        self._room = asyncio.Semaphore(_MAX_AT_ONCE)
        self._calls: set[asyncio.Task[None]] = set()
        self.pull = Pull(client, spec.stream.name, spec.durable, batch=_MAX_AT_ONCE, ack_wait_s=30.0)

    def add(self, command: type[C], answerer: Callable[[C], Awaitable[Reply]]) -> None:
        self._answers[f"command.v{command.major}.{command.service}.{command.event}"] = (command, answerer)

    @property
    def answered(self) -> list[type[Command[Any]]]:
        return [command for command, _ in self._answers.values()]

    async def run(self) -> None:
        await self.pull.start()
        while messages := await self.pull.take():
            for message in messages:
                await self._room.acquire()
                call = asyncio.create_task(self._serve(message))
                self._calls.add(call)
                call.add_done_callback(self._done)

    async def stop(self, timeout_s: float) -> None:
        """Take no more and finish what is in hand within the time; what is left is answered by another instance."""
        await self.pull.stop()
        if self._calls:
            _, late = await asyncio.wait(self._calls, timeout=timeout_s)
            for call in late:
                call.cancel()

    def _done(self, call: asyncio.Task[None]) -> None:
        self._calls.discard(call)
        self._room.release()

    async def _serve(self, message: Msg) -> None:
        told = message.headers or {}
        deadline = float(told.get(_DEADLINE, "0"))
        if time.time() < deadline:
            reply = await self._answer(message, deadline)
            name = told[_REPLY_TO]
            body = reply.model_dump_json(exclude_none=True).encode()
            await self._publisher.send(
                [Outgoing(name, body, headers(name, f"{name}.{message.metadata.sequence.stream}"))]
            )
        await self.pull.ack([message])

    async def _answer(self, message: Msg, deadline: float) -> ReplyEnvelope:
        known = self._answers.get(message.subject)
        if known is None:
            return _failure(ErrorCode.INTERNAL, "This version of the platform does not know the command.")
        command_class, answerer = known
        received, bad = envelope.decode(message.data, command_class)
        if bad:
            logger.error("an unreadable command", extra={"command": message.subject, "reason": bad[0].reason})
            return _failure(ErrorCode.INTERNAL, "The platform could not read its own command.")
        return await self._carry_out(answerer, received[0].event, message.subject, deadline)

    async def _carry_out(self, answerer: Answerer, command: Event, name: str, deadline: float) -> ReplyEnvelope:
        while True:
            try:
                reply = await answerer(command)
            except HarkaraError as error:
                return _failure(error.code, error.message)
            except ValidationError as error:
                return _failure(ErrorCode.INVALID_REQUEST, envelope.describe(error))
            except Exception as error:
                if not is_passing(error):
                    logger.exception("a command failed", extra={"command": name})
                    return _failure(ErrorCode.INTERNAL, "The platform failed at this. It has been recorded.")
                if time.time() + _PASSING_PAUSE_S > deadline:
                    return _failure(ErrorCode.UNAVAILABLE, "A part of the platform is away. Try again shortly.")
                await asyncio.sleep(_PASSING_PAUSE_S)
            else:
                return ReplyEnvelope(reply_to=command.event_id(), result=reply.model_dump(mode="json"))


def _failure(code: ErrorCode, message: str) -> ReplyEnvelope:
    return ReplyEnvelope(reply_to="", failure=Failure(error_code=code.value, error_message=message))
