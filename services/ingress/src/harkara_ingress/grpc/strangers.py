"""What is open to anybody, health and reflection: counted by address as over HTTP, and streams few and not for ever.

The services themselves come from gRPC's own packages, so this stands between them and whoever calls.
"""

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import grpc
import grpc.aio

from harkara_ingress.grpc.calls import Calls
from harkara_ingress.refusals import BusyError

_MAX_STREAMS = 128
_LONGEST_S = 300.0
"""Whoever watches for longer watches again."""

_LAST_WORDS_S = 0.2
_ENDED = "The stream ends here. Ask again."

AnyHandler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"


class Strangers(grpc.aio.ServerInterceptor):
    """Bounds every method that is not of `own` services, which know their callers."""

    def __init__(self, calls: Calls, own: Iterable[str]) -> None:
        self._calls = calls
        self._own = frozenset(own)
        self._streams: set[asyncio.Task[Any]] = set()
        self._is_ending = False

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable["AnyHandler | None"]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "AnyHandler | None":
        path = handler_call_details.method
        handler = await continuation(handler_call_details)
        if handler is None or path.split("/")[1] in self._own:
            return handler
        return self._bounded(path, handler)

    async def end(self) -> None:
        """End the streams, for a server that is to end; what was just said to them is heard."""
        self._is_ending = True
        if self._streams:
            await asyncio.wait(self._streams, timeout=_LAST_WORDS_S)
        for task in self._streams:
            task.cancel()

    def _bounded(self, path: str, handler: Any) -> AnyHandler:
        is_stream = handler.request_streaming or handler.response_streaming
        kind = f"{_kind(handler.request_streaming)}_{_kind(handler.response_streaming)}"
        behaviour = getattr(handler, kind)

        async def answer(request: Any, rpc: Any) -> Any:
            async with self._calls.of_stranger(path, rpc), self._place(is_stream=is_stream):
                return await behaviour(request, rpc)

        async def answers(request: Any, rpc: Any) -> AsyncIterator[Any]:
            async with self._calls.of_stranger(path, rpc), self._place(is_stream=is_stream):
                async for each in behaviour(request, rpc):
                    yield each

        bounded = answers if inspect.isasyncgenfunction(behaviour) else answer
        make: Any = getattr(grpc, f"{kind}_rpc_method_handler")
        made: AnyHandler = make(bounded, handler.request_deserializer, handler.response_serializer)
        return made

    @asynccontextmanager
    async def _place(self, *, is_stream: bool) -> AsyncIterator[None]:
        task = asyncio.current_task()
        if not is_stream or task is None:
            yield
            return
        if len(self._streams) >= _MAX_STREAMS:
            raise BusyError("Too many streams are open. Try again shortly.")
        self._streams.add(task)
        try:
            async with asyncio.timeout(_LONGEST_S):
                yield
        except TimeoutError:
            raise BusyError(_ENDED) from None
        except asyncio.CancelledError:
            if not self._is_ending:
                raise
            # Nobody would tell the client, if it was not refused in so many words.
            raise BusyError(_ENDED) from None
        finally:
            self._streams.discard(task)


def _kind(is_streaming: bool) -> str:
    return "stream" if is_streaming else "unary"
