"""The edge in front of the application, plain ASGI: every request passes here first, every answer last.

In this order: a request id; who is calling; the limit on requests; the key is required (all of /v1); the body, bounded in
size and time and of a type we read. What is refused here or further inside gets the same form of body, and every answer
carries the request's id and the state of the limit.
"""

import asyncio
import re
import time
from collections.abc import Callable, Sequence

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from harkara_chassis.metrics import counter, histogram
from harkara_contracts.errors import ErrorCode, HarkaraError
from harkara_contracts.ids import new_id
from harkara_ingress.acceptance import RateLimitedError
from harkara_ingress.accounts import Caller, Directory
from harkara_ingress.http.context import ANSWER_KEY, SCOPE_KEY, RequestContext
from harkara_ingress.http.direct import DirectRoute
from harkara_ingress.http.errors import refusal_of
from harkara_ingress.limits import Limiter, Rate
from harkara_ingress.settings import Settings

_REQUESTS = counter("harkara_http_requests", "Requests answered, by route and status.", ("route", "status"))
_SECONDS = histogram("harkara_http_seconds", "From a request's head to its answer's end, by route.", ("route",))

_SANE_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
_JSON = b"content-type: application/json\r\n"
_HEADER_LINES = b"x-request-id: %b\r\nx-ratelimit-limit: %d\r\nx-ratelimit-remaining: %d\r\nx-ratelimit-reset: %d\r\n"
_BODY_METHODS = frozenset({"POST", "PUT", "PATCH", "DELETE"})


class Edge:
    def __init__(
        self,
        app: ASGIApp,
        *,
        direct: Sequence[DirectRoute],
        settings: Settings,
        directory: Directory,
        limiter: Limiter,
        is_draining: Callable[[], bool],
        unix_time: Callable[[], float] = time.time,
    ) -> None:
        self._app = app
        self._direct = {route.key: route for route in direct}
        self._directory = directory
        self._limiter = limiter
        self._is_draining = is_draining
        self._unix_time = unix_time
        self._max_body_bytes = settings.max_body_bytes
        self._body_timeout_s = settings.body_timeout_s
        self._max_in_flight = settings.max_requests_in_flight
        per_minute = settings.anonymous_requests_per_minute
        self._anonymous = Rate(per_minute, 60.0, per_minute)
        self._in_flight = 0
        self._observers: dict[tuple[str, int], tuple[counter, histogram]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started_s = time.perf_counter()
        headers: dict[bytes, bytes] = dict(scope["headers"])
        context = RequestContext(_request_id(headers), scope["path"], headers)
        scope[SCOPE_KEY] = context
        status = 0
        is_whole = False

        async def answer(message: Message) -> None:
            nonlocal status, is_whole
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *self._headers(context)]
            else:
                is_whole = not message.get("more_body")
            await send(message)

        self._in_flight += 1
        try:
            await self._admit(context, scope, receive)
            route = self._direct.get((scope["method"], context.path))
            if route is None:
                await self._app(scope, _replay(context.body, receive), answer)
            else:
                scope["route"] = route
                body = await route.direct(context)
                status, is_whole = route.status, True
                await scope[ANSWER_KEY](status, _JSON + self._lines(context), body, is_last=self._is_draining())
        except Exception as error:
            if isinstance(error, RateLimitedError):
                context.decision = error.decision  # the headers tell of the limit that refused
            if not status:
                await refusal_of(error, context.request_id).response(context.request_id)(scope, receive, answer)
            elif not is_whole:
                raise  # half an answer is out: nothing better can be said over this connection
            # Else the application has answered for its fault, and only tells of it.
        finally:
            self._in_flight -= 1
            self._observe(scope, status, time.perf_counter() - started_s)

    async def _admit(self, context: RequestContext, scope: Scope, receive: Receive) -> None:
        now_s = self._unix_time()
        caller = self._caller(context.headers, now_s)
        context.caller = caller
        if caller is None:
            host = scope["client"][0] if scope.get("client") else ""
            context.decision = await self._limiter.take(f"anonymous:{host}", self._anonymous)
        else:
            context.decision = await self._limiter.take(f"requests:{caller.account_id}", caller.requests)
        if not context.decision.allowed:
            raise RateLimitedError(
                f"Only {context.decision.limit} requests a minute are allowed here. Wait as Retry-After says.",
                context.decision,
            )
        if self._in_flight > self._max_in_flight:
            raise HarkaraError(ErrorCode.UNAVAILABLE, "Too many requests are under way. Try again shortly.")
        if caller is None and scope["path"].startswith("/v1/"):
            raise HarkaraError(
                ErrorCode.UNAUTHORIZED,
                "The API key is missing, unknown, expired or revoked: Authorization: Bearer <key>.",
            )
        if caller is not None and caller.suspended:
            raise HarkaraError(ErrorCode.FORBIDDEN, "This account is suspended. Ask us to open it again.")
        if scope["method"] in _BODY_METHODS:
            context.body = await self._body(context.headers, receive)

    def _caller(self, headers: dict[bytes, bytes], now_s: float) -> Caller | None:
        scheme, _, key = headers.get(b"authorization", b"").partition(b" ")
        if scheme.lower() != b"bearer" or not key:
            return None
        return self._directory.caller(key.strip().decode("latin-1"), now_s)

    async def _body(self, headers: dict[bytes, bytes], receive: Receive) -> bytes:
        """Read the whole body.

        Raises:
            HTTPException: 413 too large, 415 not JSON, 408 too slow.
            HarkaraError: ERR_INVALID_UNICODE.
        """
        declared = headers.get(b"content-length")
        if declared is not None and int(declared) > self._max_body_bytes:
            raise HTTPException(413)
        message = await receive()
        body: bytes = message.get("body", b"")
        if message.get("more_body"):
            try:
                async with asyncio.timeout(self._body_timeout_s):
                    body = await self._rest(body, receive)
            except TimeoutError:
                raise HTTPException(408) from None
        if len(body) > self._max_body_bytes:
            raise HTTPException(413)
        if body and not _is_json(headers.get(b"content-type", b"")):
            raise HTTPException(415)
        _check_unicode(body)
        return body

    async def _rest(self, head: bytes, receive: Receive) -> bytes:
        parts, size = [head], len(head)
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise HTTPException(408)
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > self._max_body_bytes:
                raise HTTPException(413)
            if not message.get("more_body"):
                return b"".join(parts)

    def _headers(self, context: RequestContext) -> list[tuple[bytes, bytes]]:
        names_and_values = (line.partition(b": ") for line in self._lines(context).splitlines())
        headers = [(name, value) for name, _, value in names_and_values]
        if self._is_draining():
            # Else a client would write its next request just when the connection is shut.
            headers.append((b"connection", b"close"))
        return headers

    def _lines(self, context: RequestContext) -> bytes:
        decision = context.decision
        return _HEADER_LINES % (
            context.request_id.encode(),
            decision.limit,
            decision.remaining,
            self._unix_time() + decision.reset_s + 0.999,
        )

    def _observe(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "unmatched")
        # Looking labels up costs more than counting.
        observers = self._observers.get((route, status))
        if observers is None:
            observers = (_REQUESTS.labels(route, str(status)), _SECONDS.labels(route))
            self._observers[route, status] = observers
        observers[0].inc()
        observers[1].observe(seconds)


def _request_id(headers: dict[bytes, bytes]) -> str:
    given = headers.get(b"x-request-id")
    if given is not None and _SANE_ID.fullmatch(given):
        return given.decode()
    return new_id("REQ")


def _check_unicode(body: bytes) -> None:
    try:
        body.decode()
    except UnicodeDecodeError as error:
        raise HarkaraError(ErrorCode.INVALID_UNICODE, f"The body is not UTF-8 at byte {error.start}.") from None
    # No database and no carrier takes a NUL in a text.
    if b"\\u0000" in body and _NUL.search(body):
        raise HarkaraError(ErrorCode.INVALID_UNICODE, "The body has a NUL character (\\u0000). Leave it out.")


def _is_json(content_type: bytes) -> bool:
    if content_type == b"application/json":
        return True
    # Many a client leaves it out, and means JSON.
    kind = content_type.partition(b";")[0].strip().lower()
    return not kind or kind == b"application/json" or (kind.startswith(b"application/") and kind.endswith(b"+json"))


def _replay(body: bytes, receive: Receive) -> Receive:
    """Hand on the body that was read already, then whatever the connection still tells."""
    told = False

    async def replay() -> Message:
        nonlocal told
        if told:
            return await receive()
        told = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
