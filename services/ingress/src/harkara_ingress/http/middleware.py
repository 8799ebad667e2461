"""The edge in front of the application, plain ASGI: every request passes here first, every answer last.

In this order: a request id; who is calling, how often and from where (`Admission`; all of /v1 needs a key); the body,
bounded in size and time and of a type we read (`Bodies`); its signature. What is refused here or further inside gets the
same form of body, and every answer carries the request's id and the state of the limit.

Answers that go on (Server-Sent Events): a route returns a `StreamingResponse` of `text/event-stream`, and it passes with
the headers of every answer. From its first byte on it does not count for `max_requests_in_flight` any more; how many there
may be, of an account and of all (`max_event_streams`), is the route's to check before it returns. Who ends a stream:
- the client: the iterator is cancelled, as `aclose` would;
- a client that does not read: once the buffers are full (about 64 KiB beyond the system's) for `write_timeout_s` the
  connection is cut, and the iterator cancelled;
- the drain: the iterator ends by itself as soon as the service is stopping (`Service.stopping`), after a last comment;
  `Connection: close` is on answers that begin then, and what still runs after `drain_timeout_s` is cancelled.
Nothing is buffered here: each chunk is one write, and the iterator is asked for the next one when that is taken.
"""

import time
from collections.abc import Callable, Sequence

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from harkara_contracts.errors import ErrorCode, HarkaraError
from harkara_ingress.access.admission import Admission
from harkara_ingress.http.body import Bodies
from harkara_ingress.http.context import ANSWER_KEY, SCOPE_KEY, RequestContext, request_id_of
from harkara_ingress.http.direct import DirectRoute
from harkara_ingress.http.errors import refusal_of
from harkara_ingress.http.proxies import TrustedProxies
from harkara_ingress.http.tally import TALLY
from harkara_ingress.refusals import BusyError, RateLimitedError
from harkara_ingress.settings import Settings

_JSON = b"content-type: application/json\r\n"
_HEADER_LINES = b"x-request-id: %b\r\nx-ratelimit-limit: %d\r\nx-ratelimit-remaining: %d\r\nx-ratelimit-reset: %d\r\n"
_BODY_METHODS = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_EVENT_STREAM = b"text/event-stream"
_SAID_ONCE = frozenset({b"host", b"authorization", b"content-type", b"content-encoding", b"idempotency-key"})
"""Headers that two of our readers might take differently if they came twice."""


class _CutShortError(Exception):
    """An answer ended in the middle."""


class Edge:
    def __init__(
        self,
        app: ASGIApp,
        *,
        direct: Sequence[DirectRoute],
        settings: Settings,
        admission: Admission,
        is_draining: Callable[[], bool],
        unix_time: Callable[[], float] = time.time,
    ) -> None:
        self._app = app
        self._direct = {route.key: route for route in direct}
        self._admission = admission
        self._is_draining = is_draining
        self._unix_time = unix_time
        self._bodies = Bodies(settings)
        self._proxies = TrustedProxies(settings.forwarded_allow_ips) if settings.forwarded_allow_ips else None
        self._max_in_flight = settings.max_requests_in_flight
        self._in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started_s = time.perf_counter()
        context = scope[SCOPE_KEY] = self._context(scope)
        status = 0
        self._in_flight += 1
        try:
            route = self._direct.get((scope["method"], context.path))
            await self._admit(context, scope, receive, route)
            if route is None:
                status = await self._by_framework(context, scope, receive, send)
            else:
                scope["route"] = route
                body = await route.direct(context)
                status = route.status
                await scope[ANSWER_KEY](status, _JSON + self._lines(context), body, is_last=self._is_draining())
        except _CutShortError:
            raise  # half an answer is out: nothing better can be said over this connection
        except Exception as error:  # noqa: BLE001  # whatever failed, the client gets an answer
            status = await self._refuse(error, context, scope)
        finally:
            if context.holds_large_body:
                self._bodies.done(context)
            self._in_flight -= 1
            # It holds what holds the scope: left there, each request would wait for the garbage collector.
            scope.pop(ANSWER_KEY, None)
            TALLY.add(getattr(scope.get("route"), "path", "unmatched"), status, time.perf_counter() - started_s)

    def _context(self, scope: Scope) -> RequestContext:
        headers: dict[bytes, bytes] = dict(scope["headers"])
        client = scope.get("client")
        host: str = client[0] if client else ""
        if self._proxies is not None:
            host = self._proxies.client_of(host, scope["headers"])
        return RequestContext(request_id_of(headers), scope["path"], headers, host)

    async def _by_framework(self, context: RequestContext, scope: Scope, receive: Receive, send: Send) -> int:
        """Let the framework find the route and answer; return the status.

        Raises:
            _CutShortError: it failed with half an answer out.
            Exception: it failed, and has not answered yet.
        """
        status = 0
        is_whole = is_stream = False

        async def answer(message: Message) -> None:
            nonlocal status, is_whole, is_stream
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *self._headers(context)]
                if _is_event_stream(message):
                    is_stream = True
                    self._in_flight -= 1
            else:
                is_whole = not message.get("more_body")
            await send(message)

        try:
            await self._app(scope, _replay(context.body, receive), answer)
        except Exception:
            if status and not is_whole:
                # By its kind only: its words may quote what the client sent, and the server logs what it is given.
                raise _CutShortError from None
            if not status:
                raise
            # Else the application has answered for its fault, and only tells of it.
        finally:
            if is_stream:
                self._in_flight += 1
        return status

    async def _admit(self, context: RequestContext, scope: Scope, receive: Receive, route: DirectRoute | None) -> None:
        if len(context.headers) != len(scope["headers"]) or b"host" not in context.headers:
            _check_headers(scope)
        await self._admission.admit(context, context.host, needs_key=context.path.startswith("/v1/"))
        if self._in_flight > self._max_in_flight:
            raise BusyError("Too many requests are under way. Try again shortly.")
        if scope["method"] in _BODY_METHODS:
            await self._bodies.read(context, receive, route.max_body_bytes if route else None)
        await self._admission.check_signature(context, scope["method"])

    async def _refuse(self, error: Exception, context: RequestContext, scope: Scope) -> int:
        if isinstance(error, RateLimitedError):
            context.decision = error.decision  # the headers tell of the limit that refused
        refusal = refusal_of(error, context.request_id)
        more = b"".join([b"%b: %b\r\n" % (k.lower().encode(), v.encode()) for k, v in refusal.headers.items()])
        lines = _JSON + more + self._lines(context)
        await scope[ANSWER_KEY](refusal.status, lines, refusal.body(context.request_id), is_last=self._is_draining())
        return refusal.status

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


def _check_headers(scope: Scope) -> None:
    """Refuse what proxies and servers are known to read differently (RFC 9112 §3.2, RFC 9110 §5.3)."""
    names = [name for name, _ in scope["headers"]]
    doubled = [name for name in _SAID_ONCE if names.count(name) > 1]
    if doubled:
        said = ", ".join(sorted(name.decode().title() for name in doubled))
        raise HarkaraError(ErrorCode.INVALID_REQUEST, f"A header comes twice: {said}. Send it once.")
    if b"host" not in names and scope["http_version"] == "1.1":
        raise HarkaraError(ErrorCode.INVALID_REQUEST, "The header Host is missing.")


def _is_event_stream(start: Message) -> bool:
    return any(name == b"content-type" and value.startswith(_EVENT_STREAM) for name, value in start["headers"])


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
