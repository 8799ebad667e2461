"""What happens around every call: the door that HTTP has too, the answer's metadata, and refusals in gRPC's words.

Calls come as bytes, since a signature is over the bytes that were sent. A call that changes something is finished even if
its client has gone or its deadline has passed meanwhile: half of it may be done, and a repeat finds its answer.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any, NamedTuple, TypeAlias, TypeVar
from urllib.parse import unquote

import grpc
import grpc.aio
from google.protobuf.message import Message
from starlette.exceptions import HTTPException

from harkara_chassis.metrics import counter, histogram
from harkara_contracts.errors import ErrorCode, HarkaraError
from harkara_ingress.access.accounts import Scope
from harkara_ingress.access.admission import Admission
from harkara_ingress.grpc.conversion import decoded
from harkara_ingress.grpc.refusals import DETAILS_KEY, details_of, status_code
from harkara_ingress.http.context import RequestContext, caller_with, request_id_of
from harkara_ingress.http.errors import refusal_of
from harkara_ingress.http.proxies import TrustedProxies
from harkara_ingress.refusals import BusyError, RateLimitedError
from harkara_ingress.settings import Settings

_CALLS = counter("harkara_grpc_calls", "Calls answered, by method and status.", ("method", "status"))
_SECONDS = histogram("harkara_grpc_seconds", "From a call's begin to its answer's end, by method.", ("method",))

_READS, _CHANGES = "GET", "POST"
_RETRY_BULK_AFTER_S = 5.0
_FRAME_BYTES = 5
"""What a message costs on the wire beside its bytes, of which it may have none."""

_SAID_ONCE = ("authorization", "idempotency-key")
"""Of two values one would have to be believed."""

RequestT = TypeVar("RequestT", bound=Message)
Rpc: TypeAlias = "grpc.aio.ServicerContext[bytes, bytes]"
Handler: TypeAlias = "grpc.RpcMethodHandler[bytes, bytes]"
Metadata: TypeAlias = "tuple[tuple[str, str | bytes], ...]"


class GrpcService(NamedTuple):
    """A service's full name, and its methods' handlers by name."""

    name: str
    methods: Mapping[str, Handler]


class Teller:
    """Gives answer after answer to a client."""

    def __init__(self, rpc: Rpc, timeout_s: float) -> None:
        self._rpc = rpc
        self._timeout_s = timeout_s

    async def begin(self) -> None:
        """Tell the client, by its initial metadata, that answers may come from now on."""
        await self._rpc.send_initial_metadata(())

    async def tell(self, answer: Message) -> None:
        """Give one answer.

        Raises:
            BusyError: the client did not read what it was given before, for too long.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._rpc.write(answer.SerializeToString())
        except TimeoutError:
            raise BusyError("The answers were not read in time.") from None


class Calls:
    """Makes handlers of functions that take a context, whose caller is known, and a request."""

    def __init__(
        self,
        admission: Admission,
        proxies: TrustedProxies,
        settings: Settings,
        unix_time: Callable[[], float] = time.time,
    ) -> None:
        self._admission = admission
        self._proxies = proxies
        self._settings = settings
        self._places = asyncio.Semaphore(settings.max_bulk_in_flight)
        self._unix_time = unix_time
        self._unfinished: set[asyncio.Task[bytes]] = set()

    def reading(
        self, path: str, kind: type[RequestT], run: Callable[[RequestContext, RequestT], Awaitable[Message]]
    ) -> Handler:
        """Handle a call that changes nothing."""

        async def call(raw: bytes, rpc: Rpc) -> bytes:
            async with self._call(path, rpc) as context:
                await self._check_signature(context, raw, _READS)
                return (await run(context, decoded(kind, raw))).SerializeToString()

        return grpc.unary_unary_rpc_method_handler(call)

    def changing(
        self, path: str, kind: type[RequestT], run: Callable[[RequestContext, RequestT], Awaitable[Message]]
    ) -> Handler:
        """Handle a call that changes something."""

        async def finish(context: RequestContext, raw: bytes) -> bytes:
            await self._check_signature(context, raw, _CHANGES)
            return (await run(context, decoded(kind, raw))).SerializeToString()

        async def call(raw: bytes, rpc: Rpc) -> bytes:
            async with self._call(path, rpc) as context:
                return await self._finished(finish(context, raw))

        return grpc.unary_unary_rpc_method_handler(call)

    def collecting(
        self, path: str, scope: Scope, run: Callable[[RequestContext, Sequence[bytes]], Awaitable[Message]]
    ) -> Handler:
        """Handle a call whose request comes in parts: it begins when the client has said the last one.

        Nothing is collected for a caller without the scope. The signature is over the parts one behind the other.
        """

        async def finish(context: RequestContext, parts: Sequence[bytes]) -> bytes:
            await self._check_signature(context, b"".join(parts), _CHANGES)
            context.body = b""
            return (await run(context, parts)).SerializeToString()

        async def call(requests: AsyncIterator[bytes], rpc: Rpc) -> bytes:
            async with self._call(path, rpc) as context, AsyncExitStack() as place:
                caller_with(context, scope)
                parts = await self._collected(requests, place)
                return await self._finished(finish(context, parts))

        return grpc.stream_unary_rpc_method_handler(call)

    def telling(
        self, path: str, kind: type[RequestT], run: Callable[[RequestContext, RequestT, Teller], Awaitable[None]]
    ) -> Handler:
        """Handle a call that is answered again and again, for as long as its client reads the answers."""

        async def call(raw: bytes, rpc: Rpc) -> None:
            async with self._call(path, rpc) as context:
                await self._check_signature(context, raw, _READS)
                await run(context, decoded(kind, raw), Teller(rpc, self._settings.write_timeout_s))

        return grpc.unary_stream_rpc_method_handler(call)

    def of_stranger(self, path: str, rpc: Any) -> AbstractAsyncContextManager[RequestContext]:
        """Take in a call that needs no key, for its time."""
        return self._call(path, rpc, needs_key=False)

    async def finish(self) -> None:
        """Wait for what was begun and must come to its end."""
        while self._unfinished:
            await asyncio.wait(self._unfinished)

    async def _collected(self, requests: AsyncIterator[bytes], place: AsyncExitStack) -> Sequence[bytes]:
        """Collect a request, bounded in size and time; large ones also in number, by the place that each takes.

        Raises:
            HTTPException: 408 too slow, 413 too large.
            BusyError: too many large ones are under way.
        """
        settings = self._settings
        parts, size, is_large = list[bytes](), 0, False
        began_s = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(settings.body_timeout_s) as deadline:
                async for part in requests:
                    size += len(part) + _FRAME_BYTES
                    if size > settings.max_bulk_bytes:
                        raise HTTPException(413)
                    if size > settings.max_body_bytes and not is_large:
                        is_large = True
                        await self._take_place(place)
                    parts.append(part)
                    deadline.reschedule(began_s + settings.body_timeout_s + size / settings.min_body_bytes_per_s)
        except TimeoutError:
            raise HTTPException(408) from None
        return parts

    async def _take_place(self, place: AsyncExitStack) -> None:
        try:
            async with asyncio.timeout(self._settings.bulk_wait_s):
                await place.enter_async_context(self._places)
        except TimeoutError:
            raise BusyError("Too many large requests are under way.", _RETRY_BULK_AFTER_S) from None

    async def _check_signature(self, context: RequestContext, raw: bytes, method: str) -> None:
        context.body = raw
        await self._admission.check_signature(context, method)

    async def _finished(self, work: Coroutine[Any, Any, bytes]) -> bytes:
        task = asyncio.create_task(work)
        self._unfinished.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    def _ended(self, task: asyncio.Task[bytes]) -> None:
        self._unfinished.discard(task)
        if not task.cancelled():
            task.exception()  # whoever waited has it; where nobody waits any more, nobody is to be told

    @asynccontextmanager
    async def _call(self, path: str, rpc: Rpc, *, needs_key: bool = True) -> AsyncIterator[RequestContext]:
        started_s = time.perf_counter()
        context = self._context(path, rpc)
        status = grpc.StatusCode.CANCELLED
        try:
            _check_metadata(rpc)
            await self._admission.admit(context, context.host, needs_key=needs_key)
            yield context
            status = grpc.StatusCode.OK
            rpc.set_trailing_metadata(self._told(context))
        except grpc.aio.AbortError:
            status = grpc.StatusCode.UNKNOWN
            raise  # it was answered where it was raised
        except Exception as error:  # noqa: BLE001  # each is told to the client, and what is our fault is logged
            if isinstance(error, RateLimitedError):
                context.decision = error.decision  # the metadata tell of the limit that refused
            refusal = refusal_of(error, context.request_id)
            status = status_code(refusal)
            details = (DETAILS_KEY, details_of(refusal, context.request_id))
            await rpc.abort(status, refusal.message, (*self._told(context), details))
        finally:
            _CALLS.labels(path, status.name).inc()
            _SECONDS.labels(path).observe(time.perf_counter() - started_s)

    def _context(self, path: str, rpc: Rpc) -> RequestContext:
        lines = [
            (name.encode(), value if isinstance(value, bytes) else value.encode())
            for name, value in rpc.invocation_metadata() or ()
        ]
        headers = dict(lines)
        host = self._proxies.client_of(_host(rpc.peer()), lines)
        return RequestContext(request_id_of(headers), path, headers, host)

    def _told(self, context: RequestContext) -> Metadata:
        decision = context.decision
        return (
            ("x-request-id", context.request_id),
            ("x-ratelimit-limit", str(decision.limit)),
            ("x-ratelimit-remaining", str(decision.remaining)),
            ("x-ratelimit-reset", str(int(self._unix_time() + decision.reset_s + 0.999))),
        )


def _check_metadata(rpc: Rpc) -> None:
    names = [name for name, _ in rpc.invocation_metadata() or ()]
    for name in _SAID_ONCE:
        if names.count(name) > 1:
            raise HarkaraError(ErrorCode.INVALID_REQUEST, f"The metadata have {name} twice. Send it once.")


def _host(peer: str) -> str:
    """Read the address out of gRPC's `ipv4:192.0.2.1:1024` or `ipv6:%5B2001:db8::1%5D:1024`."""
    kind, _, address = unquote(peer).partition(":")
    return address.rpartition(":")[0].strip("[]") if kind in {"ipv4", "ipv6"} else ""
