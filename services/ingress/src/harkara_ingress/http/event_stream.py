"""Events as Server-Sent Events (HTML Living Standard §9.2): an answer that goes on for as long as its client listens.

The client's library resumes by itself: it remembers the last `id:`, waits as `retry:` says, and comes back with
`Last-Event-ID`. Comments keep proxies and clients from taking quiet for death. A client that does not read stops this
answer only: nothing more is fetched for it, and the server cuts it off after its `write_timeout_s`.
"""

import asyncio
from collections.abc import Sequence

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from harkara_chassis.ending import ended
from harkara_ingress.status.event_log import Following, LoggedEvent

_HELLO = b"retry: 2000\n: following\n\n"
_ALIVE = b": alive\n\n"
_BYE = b": the stream ends here, come again\n\n"
_EVENTS_AT_ONCE = 64
"""How many are written before it is seen whether the client reads: about 32 KB."""


class EventStream(Response):
    """Hands on what a reader of the log brings, until either side ends it."""

    media_type = "text/event-stream"

    def __init__(self, following: Following, heartbeat_s: float) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._following = following
        self._heartbeat_s = heartbeat_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002  # ASGI's
        # Entered first: what is wrong is answered as such, before a 200 is out.
        async with self._following:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            gone = asyncio.create_task(_gone(receive))
            try:
                await self._hand_on(send, gone)
            finally:
                await ended(gone)

    async def _hand_on(self, send: Send, gone: "asyncio.Task[None]") -> None:
        await send(_chunk(_HELLO))
        coming = asyncio.create_task(self._following.take())
        try:
            while not gone.done():
                await asyncio.wait({coming, gone}, timeout=self._heartbeat_s, return_when=asyncio.FIRST_COMPLETED)
                if not coming.done():
                    if not gone.done():
                        await send(_chunk(_ALIVE))
                    continue
                events = coming.result()
                if not events:
                    await send(_chunk(_BYE, is_last=True))
                    return
                for start in range(0, len(events), _EVENTS_AT_ONCE):
                    await send(_chunk(_text(events[start : start + _EVENTS_AT_ONCE])))
                coming = asyncio.create_task(self._following.take())
        finally:
            await ended(coming)


async def _gone(receive: Receive) -> None:
    """Return when the client has left; what it may still send is of no interest."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _text(events: Sequence[LoggedEvent]) -> bytes:
    # A body is JSON on one line, so it is one `data:` line.
    return "".join([f"id: {one.id}\nevent: {one.event}\ndata: {one.body}\n\n" for one in events]).encode()


def _chunk(body: bytes, *, is_last: bool = False) -> dict[str, object]:
    return {"type": "http.response.body", "body": body, "more_body": not is_last}
