"""One bulk call, made by a process of its own: neither its ten megabytes nor its answer delay anybody's clock."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.client import HTTPConnection
from typing import Any

import orjson

from bench.worker import Requests

_POST_TIMEOUT_S = 120.0
_LETTERS = str.maketrans("0123456789", "ABCDEFGHIJ")


@dataclass(frozen=True)
class Post:
    """A call to be made: to the numbers from `first_number` on."""

    host: str
    port: int
    api_key: str = field(repr=False)
    sender: str
    template_id: str
    first_number: int
    count: int
    bad: frozenset[int]


@dataclass(frozen=True)
class Posted:
    """When the first octet of the call went out, and when its answer was whole, in monotonic seconds."""

    begun_at: float
    answered_at: float
    octets: int
    status: int
    answer: Mapping[str, Any]


def body_of(post: Post) -> bytes:
    """The call's body; every text differs."""
    recipients = []
    for place in range(post.count):
        number = str(post.first_number + place)
        variables = {"name": "Asha", "order_id": number.translate(_LETTERS), "date": "12 December"}
        recipients.append({"to": "98" if place in post.bad else number, "variables": variables})
    shared = {"sender": post.sender, "template_id": post.template_id, "category": "transactional"}
    return orjson.dumps(shared | {"recipients": recipients})


async def serve(requests: Requests) -> None:
    """The poster's process: `post` with a Post is its word, a Posted its answer."""
    requests.answer(None)
    while True:
        _, post = await requests.next()
        requests.answer(await asyncio.to_thread(_post, post))


def _post(post: Post) -> Posted:
    body = body_of(post)
    connection = HTTPConnection(post.host, post.port, timeout=_POST_TIMEOUT_S)
    headers = {"Authorization": f"Bearer {post.api_key}", "Content-Type": "application/json"}
    try:
        connection.connect()
        begun_at = time.monotonic()
        connection.request("POST", "/v1/sms/bulk", body, headers)
        response = connection.getresponse()
        answer = orjson.loads(response.read())
        return Posted(begun_at, time.monotonic(), len(body), response.status, answer)
    finally:
        connection.close()
