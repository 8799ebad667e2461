"""Reading a request's body: whole, bounded in size, time and number, of a type we read, and JSON without riddles.

A key that comes twice is refused, since readers differ on which of the two counts: what was signed or shown to somebody
might not be what is sent. Bodies beyond the usual size are for the routes that name their own bound. Few of them are in
memory at once, and nothing is done to one in a single long stretch, as other requests wait on the same loop.
"""

import asyncio
import codecs
import io
import re

import jiter
from starlette.exceptions import HTTPException
from starlette.types import Receive

from harkara_contracts.errors import ErrorCode, HarkaraError
from harkara_ingress.http.context import RequestContext
from harkara_ingress.refusals import BusyError, WrongFieldsError
from harkara_ingress.settings import Settings

_NUL = rb"\u0000"
_DOUBLED = re.compile(r'Detected duplicate key "(.*)" at (line \d+ column \d+)', re.DOTALL)
_SLICE_BYTES = 1024 * 1024
_MAX_KEY_CHARACTERS = 64
_RETRY_BULK_AFTER_S = 5.0


class Bodies:
    """Reads the bodies of one process's requests."""

    def __init__(self, settings: Settings) -> None:
        self._max_bytes = settings.max_body_bytes
        self._timeout_s = settings.body_timeout_s
        self._min_bytes_per_s = settings.min_body_bytes_per_s
        self._large = asyncio.Semaphore(settings.max_bulk_in_flight)
        self._wait_s = settings.bulk_wait_s

    async def read(self, context: RequestContext, receive: Receive, max_bytes: int | None) -> None:
        """Read the body into the context; then it may be one that `holds_large_body`, until `done` is called.

        Args:
            context: the request.
            receive: of ASGI.
            max_bytes: the route's own bound, where it has one.

        Raises:
            HTTPException: 408 too slow, 413 too large, 415 not JSON, or encoded.
            HarkaraError: ERR_INVALID_UNICODE, ERR_INVALID_REQUEST; ERR_UNAVAILABLE, too many large ones.
        """
        usual, most = self._max_bytes, max_bytes or self._max_bytes
        headers = context.headers
        declared = headers.get(b"content-length")
        if declared is not None and int(declared) > usual:
            if int(declared) > most:
                raise HTTPException(413)
            await self._enter(context)
        message = await receive()
        body: bytes = message.get("body", b"")
        if message["type"] == "http.disconnect":
            raise HTTPException(408)
        if message.get("more_body"):
            body = await self._rest(context, body, receive, most)
        elif len(body) > most:
            raise HTTPException(413)
        if not body:
            return
        if headers.get(b"content-type") != b"application/json" and not _is_json(headers.get(b"content-type", b"")):
            raise HTTPException(415)
        if (b"content-encoding" in headers or b"transfer-encoding" in headers) and not _is_plain(headers):
            raise HTTPException(415)
        if context.holds_large_body:
            await _check_nul_in_slices(body)
        else:
            _check(body)
        context.body = body

    def done(self, context: RequestContext) -> None:
        """Give the place of a large body back, where the request `holds_large_body`."""
        context.holds_large_body = False
        self._large.release()

    async def _enter(self, context: RequestContext) -> None:
        try:
            async with asyncio.timeout(self._wait_s):
                await self._large.acquire()
        except TimeoutError:
            raise BusyError("Too many large requests are under way.", _RETRY_BULK_AFTER_S) from None
        context.holds_large_body = True

    async def _rest(self, context: RequestContext, head: bytes, receive: Receive, most: int) -> bytes:
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        # What it hands out at the end is its own memory, no copy.
        collected = io.BytesIO()
        size, part, is_last = 0, head, False
        check = _UnicodeCheck()
        try:
            async with asyncio.timeout(self._timeout_s) as deadline:
                while True:
                    size += len(part)
                    if size > most:
                        raise HTTPException(413)
                    if size > self._max_bytes and not context.holds_large_body:
                        waits_from_s = loop.time()
                        deadline.reschedule(None)
                        await self._enter(context)
                        began_s += loop.time() - waits_from_s
                    check.feed(part, is_last=is_last)
                    collected.write(part)
                    if is_last:
                        return collected.getvalue()
                    deadline.reschedule(began_s + self._timeout_s + size / self._min_bytes_per_s)
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise HTTPException(408)
                    part, is_last = message.get("body", b""), not message.get("more_body")
        except TimeoutError:
            raise HTTPException(408) from None


class _UnicodeCheck:
    """Tells whether bytes are UTF-8 while they come in."""

    def __init__(self) -> None:
        self._decode = codecs.getincrementaldecoder("utf-8")().decode
        self._seen = 0

    def feed(self, part: bytes, *, is_last: bool) -> None:
        try:
            self._decode(part, is_last)
        except UnicodeDecodeError as error:
            # The decoder counts from the first byte it has kept of a character that was not whole.
            place = max(0, self._seen + error.start - (len(error.object) - len(part)))
            raise _no_unicode(place) from None
        self._seen += len(part)


def _no_unicode(place: int) -> HarkaraError:
    return HarkaraError(ErrorCode.INVALID_UNICODE, f"The body is not UTF-8 at byte {place}.")


async def _check_nul_in_slices(body: bytes) -> None:
    for start in range(0, len(body), _SLICE_BYTES):
        # One that lies across two slices begins in the first.
        _check_nul(body, start, start + _SLICE_BYTES + len(_NUL) - 1)
        await asyncio.sleep(0)


def _check_nul(body: bytes, start: int, end: int) -> None:
    found = body.find(_NUL, start, end)
    while found >= 0:
        before = found
        while before and body[before - 1] == ord("\\"):
            before -= 1
        if (found - before) % 2 == 0:  # else the backslash is itself escaped, and the text speaks of \u0000
            # No database and no carrier takes a NUL in a text.
            raise HarkaraError(ErrorCode.INVALID_UNICODE, "The body has a NUL character (\\u0000). Leave it out.")
        found = body.find(_NUL, found + len(_NUL), end)


def _check(body: bytes) -> None:
    try:
        jiter.from_json(body, catch_duplicate_keys=True, allow_inf_nan=False)
    except ValueError as error:
        _check_unicode(body)  # which is then the better thing to tell
        raise _unreadable(str(error)) from None
    if _NUL in body:
        _check_nul(body, 0, len(body))


def _check_unicode(body: bytes) -> None:
    try:
        body.decode()
    except UnicodeDecodeError as error:
        raise _no_unicode(error.start) from None


def _unreadable(words: str) -> HarkaraError:
    if "hex escape" in words or "surrogate" in words:
        return HarkaraError(
            ErrorCode.INVALID_UNICODE,
            "The body has half a surrogate pair (\\uD800 to \\uDFFF alone), which is no character. Leave it out.",
        )
    doubled = _DOUBLED.fullmatch(words)
    if doubled is not None:
        key, place = doubled[1][:_MAX_KEY_CHARACTERS], doubled[2]
        return _wrong(
            f"A key comes twice in one object of the body (at {place}). Say it once.", key, f"Comes twice, at {place}"
        )
    return _wrong("The body is not valid JSON.", "body", f"Invalid JSON: {words}")


def _wrong(message: str, field: str, detail: str) -> HarkaraError:
    return WrongFieldsError(ErrorCode.INVALID_REQUEST, message, [{"field": field, "message": detail}])


def _is_plain(headers: dict[bytes, bytes]) -> bool:
    # What unfolds to a thousand times its size is not unfolded here.
    return headers.get(b"content-encoding", b"identity").lower() == b"identity" and (
        headers.get(b"transfer-encoding", b"chunked").lower() == b"chunked"
    )


def _is_json(content_type: bytes) -> bool:
    # Many a client leaves it out, and means JSON.
    kind = content_type.partition(b";")[0].strip().lower()
    return not kind or kind == b"application/json" or (kind.startswith(b"application/") and kind.endswith(b"+json"))
