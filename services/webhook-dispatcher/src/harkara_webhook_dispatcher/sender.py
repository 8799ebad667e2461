"""One POST to a client's endpoint. Whatever happens comes back as an `Answer`, in words the client may read."""

import asyncio
import email.utils
import time
from datetime import datetime
from functools import lru_cache
from types import TracebackType
from typing import Self

from yarl import URL

from harkara_chassis.clock import now_utc
from harkara_webhook_dispatcher.connection import Connections, NoAnswerError, Place, Reply
from harkara_webhook_dispatcher.delivery import Answer, Delivery
from harkara_webhook_dispatcher.endpoint import Endpoint
from harkara_webhook_dispatcher.guard import Guard
from harkara_webhook_dispatcher.settings import Settings
from harkara_webhook_dispatcher.signature import signature_headers

_HEAD_LENGTH = 512


class Sender:
    """Posts signed bodies over kept connections; an async context manager.

    There is no bound on connections here: each endpoint's courier has its own, and a shared one would let slow endpoints
    take what others need.
    """

    def __init__(self, settings: Settings) -> None:
        self._prefix = settings.webhook_header_prefix
        self._timeout_s = settings.webhook_timeout_s
        self._user_agent = settings.webhook_user_agent
        self._guard = Guard(sandbox=settings.webhook_sandbox)
        self._connections: Connections | None = None

    async def __aenter__(self) -> Self:
        self._connections = Connections(self._guard)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._connections is not None:
            self._connections.close()
            await asyncio.sleep(0)  # connections end in the loop's next turn
        self._guard.close()

    async def post(self, endpoint: Endpoint, delivery: Delivery) -> Answer:
        at = now_utc()
        begun = time.perf_counter()
        reply, error = None, None
        try:
            reply = await self._exchange(endpoint, delivery, at)
            error = _refusal(reply.status)
        except TimeoutError:
            error = f"no answer within {self._timeout_s:g} s"
        except NoAnswerError as failure:
            error = str(failure)
        latency_ms = round((time.perf_counter() - begun) * 1000)
        if reply is None:
            return Answer(at, latency_ms, error=error)
        retry_after_s = retry_after_seconds(reply.retry_after, at) if reply.retry_after and error else None
        return Answer(at, latency_ms, reply.status, error, _shown(reply.body), retry_after_s)

    async def _exchange(self, endpoint: Endpoint, delivery: Delivery, at: datetime) -> Reply:
        if self._connections is None:
            raise RuntimeError("the sender is not open")
        place, head = _target(endpoint.url, self._user_agent)
        body = delivery.body
        headers = signature_headers(
            self._prefix, delivery.delivery_id, int(at.timestamp()), body, endpoint.living_keys(at)
        )
        lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
        octets = b"%b%bContent-Length: %d\r\n\r\n%b" % (head, lines.encode("ascii"), len(body), body)
        return await self._connections.post(place, octets, self._timeout_s)


@lru_cache(maxsize=4096)
def _target(url: URL, user_agent: str) -> tuple[Place, bytes]:
    """Return where a URL's requests go, and the lines that all of them begin with.

    Nothing of the URL can end a line early: yarl has percent-encoded what is not allowed in a path.
    """
    host, port = url.raw_host, url.port
    if host is None or port is None:
        raise ValueError("the endpoint's URL has no host or port")
    head = (
        f"POST {url.raw_path_qs} HTTP/1.1\r\nHost: {url.host_port_subcomponent}\r\nUser-Agent: {user_agent}\r\n"
        "Accept: */*\r\nAccept-Encoding: identity\r\nContent-Type: application/json\r\n"
    )
    return Place(host, port, is_tls=url.scheme == "https"), head.encode("ascii")


def _shown(body: bytes) -> str:
    """Return the beginning of an answer's body as text that is fit for a log."""
    text = body[:_HEAD_LENGTH].decode("utf-8", "replace")
    if text.isprintable():
        return text
    return "".join([character if character.isprintable() or character == "\n" else " " for character in text])


def _refusal(status: int) -> str | None:
    if 200 <= status < 300:  # noqa: PLR2004  # the class of success
        return None
    if 300 <= status < 400:  # noqa: PLR2004  # the class of redirection
        return f"answered {status}: redirects are not followed, give the final URL"
    return f"answered {status}"


def retry_after_seconds(value: str, now: datetime) -> float | None:
    """Read a Retry-After header (RFC 9110 §10.2.3: seconds or a date); None if it is neither or lies behind."""
    text = value.strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        seconds = (email.utils.parsedate_to_datetime(text) - now).total_seconds()
    except (ValueError, TypeError):
        return None
    return seconds if seconds > 0 else None
