"""Bodies: their bounds, and what is refused in them before any route looks."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive

from harkara_contracts.errors import ErrorCode, HarkaraError
from harkara_ingress.http.body import Bodies
from harkara_ingress.http.context import RequestContext
from harkara_ingress.refusals import BusyError, WrongFieldsError
from harkara_ingress.settings import Settings

USUAL = 1_024
LARGE = 64 * 1_024


def bodies(**values: Any) -> Bodies:
    return Bodies(Settings(max_body_bytes=USUAL, max_bulk_bytes=LARGE, **values))


def request(**headers: str) -> RequestContext:
    told = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
    return RequestContext("REQ1", "/v1/x", {b"content-type": b"application/json"} | told)


def receiving(parts: Iterable[bytes]) -> Receive:
    waiting = list(parts)

    async def receive() -> Message:
        part = waiting.pop(0)
        return {"type": "http.request", "body": part, "more_body": bool(waiting)}

    return receive


async def read(body: bytes, *, of: Bodies | None = None, piece: int = LARGE, most: int | None = None) -> bytes:
    context = request(content_length=str(len(body)))
    pieces = [body[start : start + piece] for start in range(0, len(body), piece)] or [b""]
    await (of or bodies()).read(context, receiving(pieces), most)
    return context.body


UNREADABLE = [
    b"{",
    b"}",
    b"{'a':1}",
    b'{"a":1}x',
    b'{"a":NaN}',
    b'{"a":Infinity}',
    b'{"a":-Infinity}',
    b'{"a":01}',
    b'{"a":' + b"1" * 900 + b"e" + b"}",
    b"[" * 1_000,
    b'{"a":' * 199 + b"{",
    b"\xef\xbb\xbf{}",
    b"null null",
    b" ",
]


@pytest.mark.parametrize("body", UNREADABLE)
async def test_what_is_no_json_is_refused(body: bytes) -> None:
    with pytest.raises(WrongFieldsError) as refused:
        await read(body)
    assert refused.value.code is ErrorCode.INVALID_REQUEST
    assert refused.value.fields[0]["field"] == "body"


@pytest.mark.parametrize(
    ("body", "key", "place"),
    [
        (b'{"to":"1","to":"2"}', "to", "line 1 column 16"),
        (b'{"a":[{"b":{"c":1,\n"c":1}}]}', "c", "line 2 column 5"),
        (b'{"\\u0074o":1,"to":1}', "to", "line 1 column 19"),
    ],
)
async def test_a_key_that_comes_twice_is_named_with_its_place(body: bytes, key: str, place: str) -> None:
    with pytest.raises(WrongFieldsError) as refused:
        await read(body)
    assert refused.value.fields == ({"field": key, "message": f"Comes twice, at {place}"},)


NO_TEXT = [b'{"a":"\xff"}', b'{"a":"\xed\xa0\x80"}', b'{"a":"\xc0\x80"}', b'{"a":"\\ud800"}', b'{"a":"\\u0000"}']


@pytest.mark.parametrize("body", [*NO_TEXT, b'{"\\u0000":1}', b'{"a":"\\\\\\u0000"}'])
async def test_what_is_no_text_is_refused(body: bytes) -> None:
    with pytest.raises(HarkaraError) as refused:
        await read(body)
    assert refused.value.code is ErrorCode.INVALID_UNICODE


@pytest.mark.parametrize("body", [b'{"a":"\\\\u0000"}', b'{"a":"\\ud83d\\ude00"}', '{"a":"नमस्ते"}'.encode(), b"", b"[]"])
async def test_what_only_looks_bad_is_taken(body: bytes) -> None:
    assert await read(body) == body


@given(st.text(st.sampled_from('\\u0"a'), max_size=40), st.integers(1, 7))
def test_large_bodies_are_checked_as_small_ones_are(text: str, piece: int) -> None:
    body = ('"' + text + '"').encode()

    async def outcome(most: int | None, filler: bytes) -> str:
        try:
            await read(filler + body, piece=piece if most is None else USUAL, most=most)
        except WrongFieldsError:
            return "taken"  # the JSON of large bodies is the route's to read
        except HarkaraError as error:
            return error.message
        return "taken"

    async def both() -> tuple[str, str]:
        return await outcome(None, b""), await outcome(LARGE, b" " * USUAL)

    small, large = asyncio.run(both())
    if small == "taken" or "NUL" in small:
        assert large == small


@pytest.mark.parametrize("piece", [1, 3, 1_000])
@pytest.mark.parametrize("octets", [b"\xff", b"\xe0\xa4", b"\xed\xa0\x80", b"\xc3("])
async def test_bad_unicode_is_found_at_its_place_however_it_comes(octets: bytes, piece: int) -> None:
    body = '"नमस्ते'.encode() + octets + b'"'
    with pytest.raises(HarkaraError) as refused:
        await read(body, piece=piece)
    with pytest.raises(UnicodeDecodeError) as expected:
        body.decode()
    assert refused.value.message == f"The body is not UTF-8 at byte {expected.value.start}."


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"content_type": "text/xml"}, 415),
        ({"content_type": "application/x-www-form-urlencoded"}, 415),
        ({"content_encoding": "gzip"}, 415),
        ({"content_encoding": "identity, gzip"}, 415),
        ({"transfer_encoding": "gzip, chunked"}, 415),
        ({"content_length": str(USUAL + 1)}, 413),
    ],
)
async def test_what_is_not_read_here(headers: dict[str, str], status: int) -> None:
    with pytest.raises(HTTPException) as refused:
        await bodies().read(request(**headers), receiving([b"{}"]), None)
    assert refused.value.status_code == status


@pytest.mark.parametrize(
    "headers",
    [
        {"content_type": "application/json; charset=utf-8"},
        {"content_type": "application/vnd.api+json"},
        {"content_type": ""},
        {"content_encoding": "identity"},
        {"transfer_encoding": "chunked"},
    ],
)
async def test_what_is_json_by_any_of_its_names(headers: dict[str, str]) -> None:
    context = request(**headers)
    await bodies().read(context, receiving([b"{}"]), None)
    assert context.body == b"{}"


async def test_a_route_may_take_more_than_the_others() -> None:
    body = orjson.dumps(["x" * 100] * 300)
    assert await read(body, piece=1_000, most=LARGE) == body
    for piece in (1_000, LARGE):
        with pytest.raises(HTTPException) as refused:
            await read(body, piece=piece)
        assert refused.value.status_code == 413
    with pytest.raises(HTTPException):
        await read(b" " * (LARGE + 1), most=LARGE)


async def test_few_large_bodies_are_in_memory_at_once() -> None:
    reader = bodies(max_bulk_in_flight=1, bulk_wait_s=0.05)
    body = b" " * (USUAL + 1)
    first, second = request(content_length=str(len(body))), request()
    await reader.read(first, receiving([body]), LARGE)
    assert first.holds_large_body
    with pytest.raises(BusyError):
        await reader.read(second, receiving([body[:1_000], body[1_000:]]), LARGE)
    assert not second.holds_large_body
    assert await read(b"{}", of=reader, most=LARGE) == b"{}"
    reader.done(first)
    await reader.read(second, receiving([body[:1_000], body[1_000:]]), LARGE)
    assert second.holds_large_body


async def test_what_arrives_earns_a_body_its_time() -> None:
    async def dribble(size: int) -> AsyncIterator[bytes]:
        for _ in range(40):
            await asyncio.sleep(0.01)
            yield b" " * size

    async def told(size: int, per_second: int) -> int:
        parts = dribble(size)

        async def receive() -> Message:
            try:
                return {"type": "http.request", "body": await anext(parts), "more_body": True}
            except StopAsyncIteration:
                return {"type": "http.request", "body": b"{}", "more_body": False}

        context = request()
        await bodies(body_timeout_s=0.1, min_body_bytes_per_s=per_second).read(context, receive, LARGE)
        return len(context.body)

    assert await told(size=20, per_second=200) == 802
    with pytest.raises(HTTPException) as refused:
        await told(size=20, per_second=100_000)
    assert refused.value.status_code == 408


async def test_a_body_that_breaks_off_is_not_taken() -> None:
    async def receive() -> Message:
        return {"type": "http.disconnect"}

    with pytest.raises(HTTPException):
        await bodies().read(request(), receive, None)
