"""Calls of Lua scripts over one connection: those that are made while others are under way go together.

A call alone waits for nothing. A hundred at once share a round trip and two system calls, and no flood of requests opens
connections to Redis.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, NamedTuple

import redis.exceptions
from redis.asyncio import Redis

_TOGETHER = 256


class _Call(NamedTuple):
    script: str
    keys: Sequence[str]
    args: Sequence[str | int | bytes]
    answer: asyncio.Future[Any]


class Scripts:
    """The scripts of one Redis; a call ends, well or not, within twice the time-out."""

    def __init__(self, client: "Redis", sources: Sequence[str], timeout_s: float) -> None:
        self._client = client
        self._digests = {source: client.register_script(source).sha for source in sources}
        self._timeout_s = timeout_s
        self._waiting: list[_Call] = []
        self._sending: asyncio.Task[None] | None = None

    async def call(self, script: str, keys: Sequence[str], args: Sequence[str | int | bytes]) -> Any:
        """Run one of the sources; return what it returns.

        Raises:
            redis.exceptions.RedisError, OSError: it was refused, or no answer came; then it may have run or not.
        """
        loop = asyncio.get_running_loop()
        answer = loop.create_future()
        self._waiting.append(_Call(self._digests[script], keys, args, answer))
        if self._sending is None:
            self._sending = loop.create_task(self._send())
        return await answer

    async def _send(self) -> None:
        """Send what waits until nothing does."""
        calls: list[_Call] = []
        failure: BaseException = ConnectionError("closed")
        try:
            while self._waiting:
                calls, self._waiting = self._waiting[:_TOGETHER], self._waiting[_TOGETHER:]
                async with asyncio.timeout(self._timeout_s):
                    answers = await self._together(calls)
                for call, answer in zip(calls, answers, strict=True):
                    _tell(call, answer)
        except (redis.exceptions.RedisError, OSError) as error:
            failure = error
        finally:
            # Those that were not sent yet would only wait for the same failure.
            for call in [*calls, *self._waiting]:
                _tell(call, failure)
            self._waiting = []
            self._sending = None

    async def _together(self, calls: Sequence[_Call]) -> list[Any]:
        """Return the answers, some of which may be exceptions."""
        answers = await self._pipelined(calls)
        unknown = [place for place, answer in enumerate(answers) if isinstance(answer, redis.exceptions.NoScriptError)]
        if unknown:
            # A new server knows no scripts; what it did not know did not run.
            for source in self._digests:
                await self._client.script_load(source)
            again = await self._pipelined([calls[place] for place in unknown])
            for place, answer in zip(unknown, again, strict=True):
                answers[place] = answer
        return answers

    async def _pipelined(self, calls: Sequence[_Call]) -> list[Any]:
        async with self._client.pipeline(transaction=False) as pipeline:
            for script, keys, args, _ in calls:
                pipeline.evalsha(script, len(keys), *keys, *args)
            answers: list[Any] = await pipeline.execute(raise_on_error=False)
            return answers


def _tell(call: _Call, answer: Any) -> None:
    if call.answer.done():
        return
    if isinstance(answer, BaseException):
        call.answer.set_exception(answer)
    else:
        call.answer.set_result(answer)
