"""One POST to a client's endpoint. Whatever happens comes back as an `Answer`, in words the client may read."""

import asyncio
import email.utils
import ssl
import time
from datetime import datetime
from types import TracebackType
from typing import Self

import aiohttp

from harkara_chassis.clock import now_utc
from harkara_webhook_dispatcher.delivery import Answer, Delivery
from harkara_webhook_dispatcher.endpoint import Endpoint
from harkara_webhook_dispatcher.guard import AddressRefusedError, GuardedResolver, open_public_socket, open_socket
from harkara_webhook_dispatcher.settings import Settings
from harkara_webhook_dispatcher.signature import signature_headers

_READ_BYTES_MAX = 4_096
_HEAD_LENGTH = 512
_DNS_TTL_S = 30
_KEEPALIVE_S = 60.0

_FAILURES: tuple[tuple[tuple[type[Exception], ...], str], ...] = (
    ((aiohttp.ClientConnectorDNSError,), "the host's name has no address"),
    (
        (aiohttp.ClientConnectorCertificateError, ssl.SSLCertVerificationError),
        "the host's TLS certificate is not valid",
    ),
    ((aiohttp.ClientSSLError,), "TLS could not be agreed with the host"),
    ((aiohttp.ClientConnectorError,), "the connection could not be made"),
    ((aiohttp.ServerDisconnectedError, OSError), "the connection broke before the answer"),
    ((aiohttp.ClientPayloadError,), "the connection broke in the middle of the answer"),
)
"""The first line that fits names the failure: narrower kinds stand before wider ones."""


class Sender:
    """Posts signed bodies over one session of kept connections; an async context manager.

    There is no bound on connections here: each endpoint's courier has its own, and a shared one would let slow endpoints
    take what others need.
    """

    def __init__(self, settings: Settings) -> None:
        self._prefix = settings.webhook_header_prefix
        self._timeout_s = settings.webhook_timeout_s
        self._sandbox = settings.webhook_sandbox
        self._user_agent = settings.webhook_user_agent
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(
            resolver=GuardedResolver(sandbox=self._sandbox),
            socket_factory=open_socket if self._sandbox else open_public_socket,
            limit=0,
            ttl_dns_cache=_DNS_TTL_S,
            keepalive_timeout=_KEEPALIVE_S,
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            headers={
                "Content-Type": "application/json",
                "User-Agent": self._user_agent,
                "Accept-Encoding": "identity",
            },
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None),  # one deadline for everything is set around each request
            auto_decompress=False,  # a small answer must not become a large one
            read_bufsize=_READ_BYTES_MAX,
            trust_env=False,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def post(self, endpoint: Endpoint, delivery: Delivery) -> Answer:
        at = now_utc()
        begun = time.perf_counter()
        status, error, head, retry_after_s = None, None, None, None
        try:
            async with asyncio.timeout(self._timeout_s):
                status, head, retry_after = await self._exchange(endpoint, delivery, at)
            error = _refusal(status)
            retry_after_s = retry_after_seconds(retry_after, at) if retry_after and error else None
        except (aiohttp.ClientError, OSError, ValueError, asyncio.IncompleteReadError) as failure:
            error = self._in_words(failure)
        latency_ms = round((time.perf_counter() - begun) * 1000)
        return Answer(at, latency_ms, status, error, head, retry_after_s)

    async def _exchange(self, endpoint: Endpoint, delivery: Delivery, at: datetime) -> tuple[int, str, str | None]:
        """Return status, head of the body and Retry-After."""
        if self._session is None:
            raise RuntimeError("the sender is not open")
        keys = endpoint.living_keys(at)
        headers = signature_headers(self._prefix, delivery.delivery_id, int(at.timestamp()), delivery.body, keys)
        async with self._session.post(
            endpoint.url, data=delivery.body, headers=headers, allow_redirects=False
        ) as response:
            head = await _read_head(response)
            return response.status, head, response.headers.get("Retry-After")

    def _in_words(self, failure: Exception) -> str:
        if isinstance(failure, TimeoutError):
            return f"no answer within {self._timeout_s:g} s"
        if isinstance(refused := getattr(failure, "os_error", None), AddressRefusedError):
            return str(refused)
        return next((words for kinds, words in _FAILURES if isinstance(failure, kinds)), "the answer is not valid HTTP")


async def _read_head(response: aiohttp.ClientResponse) -> str:
    """Read a bounded part of the answer and return its head as text; what is longer costs the connection."""
    read = bytearray()
    while len(read) < _READ_BYTES_MAX and (chunk := await response.content.read(_READ_BYTES_MAX - len(read))):
        read += chunk
    if not response.content.at_eof():
        response.close()
    text = read[:_HEAD_LENGTH].decode("utf-8", "replace")
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
