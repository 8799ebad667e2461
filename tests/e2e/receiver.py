"""A client's webhook server, with an inbox for each endpoint that a test registers."""

import asyncio
import hashlib
import hmac
import itertools
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from standardwebhooks.webhooks import Webhook
from tests.e2e.waiting import eventually

_START_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Hook:
    """One request as it came, and what it was answered."""

    headers: dict[str, str]
    raw: bytes
    answered: int

    @property
    def body(self) -> dict[str, Any]:
        body: dict[str, Any] = json.loads(self.raw)
        return body

    def is_signed_with(self, secret: str) -> bool:
        """The recipe with a plain HMAC over the raw body."""
        signature = hmac.new(secret.encode(), self.raw, hashlib.sha256).hexdigest()
        return hmac.compare_digest(self.headers["X-TechTo-Signature"], f"sha256={signature}")

    def verify_standard(self, secret: str) -> dict[str, Any]:
        """The recipe of Standard Webhooks; raises WebhookVerificationError."""
        verified: dict[str, Any] = Webhook(secret).verify(self.raw, self.headers)
        return verified


@dataclass
class Inbox:
    """Everything one endpoint was sent."""

    url: str
    hooks: list[Hook] = field(default_factory=list)
    _refusals: list[int] = field(default_factory=list)

    def refuse_next(self, count: int, status: int = 500) -> None:
        """Answer the next requests with an error."""
        self._refusals += [status] * count

    def accept_again(self) -> None:
        self._refusals.clear()

    def take(self, headers: dict[str, str], raw: bytes) -> int:
        status = self._refusals.pop(0) if self._refusals else 200
        self.hooks.append(Hook(headers, raw, status))
        return status

    def confirmed(self) -> list[Hook]:
        return [hook for hook in self.hooks if hook.answered == 200]

    def of(self, message_id: str) -> list[Hook]:
        return [hook for hook in self.hooks if hook.body["message_id"] == message_id]

    def the_hook(self, message_id: str, *, timeout_s: float = 15.0) -> Hook:
        """Wait for the webhook of a message; it must be the only one so far."""
        (hook,) = eventually(lambda: self.of(message_id), timeout_s=timeout_s, what=f"a webhook of {message_id}")
        return hook


class Receiver:
    """The server, in a thread of its own: tests wait for it like for the rest of the world."""

    def __init__(self) -> None:
        self._inboxes: dict[str, Inbox] = {}
        self._names = itertools.count(1)
        self._port = 0

    def inbox(self) -> Inbox:
        name = f"inbox-{next(self._names)}"
        self._inboxes[name] = Inbox(f"http://127.0.0.1:{self._port}/{name}")
        return self._inboxes[name]

    async def _receive(self, request: web.Request) -> web.Response:
        inbox = self._inboxes[request.match_info["name"]]
        return web.Response(status=inbox.take(dict(request.headers), await request.read()))

    async def serve(self, is_up: threading.Event, stop: asyncio.Event) -> None:
        application = web.Application()
        application.router.add_post("/{name}", self._receive)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self._port = runner.addresses[0][1]
        is_up.set()
        await stop.wait()
        await runner.cleanup()


@contextmanager
def running_receiver() -> Iterator[Receiver]:
    receiver, is_up = Receiver(), threading.Event()
    loop, stop = asyncio.new_event_loop(), asyncio.Event()

    def run() -> None:
        try:
            loop.run_until_complete(receiver.serve(is_up, stop))
        finally:
            loop.close()

    thread = threading.Thread(target=run, name="webhook receiver", daemon=True)
    thread.start()
    assert is_up.wait(_START_TIMEOUT_S), "the receiver did not start"
    try:
        yield receiver
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
