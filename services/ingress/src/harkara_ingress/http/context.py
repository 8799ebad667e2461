"""What the edge knows of a request before any route sees it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends
from starlette.requests import Request

from harkara_contracts.errors import ErrorCode, HarkaraError
from harkara_contracts.ids import new_id
from harkara_ingress.access.accounts import Caller, Scope
from harkara_ingress.access.limits import UNLIMITED, Decision

SCOPE_KEY = "harkara"
ANSWER_KEY = "harkara.answer"
"""Where a request's scope has the short way out: status, header lines and body in one call."""

MAX_KEY_LENGTH = 255
_OF_TESTS = "\n"
"""Begins the name of a test key's Idempotency-Key; no header has a line feed."""

_SANE_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")


@dataclass(slots=True)
class RequestContext:
    """One request. `decision` is that of the limit on requests, told in the headers of every answer.

    `host` is the client's address, behind the proxies that are trusted.
    """

    request_id: str
    path: str
    headers: dict[bytes, bytes]
    host: str = ""
    caller: Caller | None = None
    decision: Decision = UNLIMITED
    body: bytes = b""
    holds_large_body: bool = False


def request_id_of(headers: Mapping[bytes, bytes]) -> str:
    """Return the id a request is known by: its client's own where that is sane, else a new one."""
    given = headers.get(b"x-request-id")
    if given is not None and _SANE_ID.fullmatch(given):
        return given.decode()
    return new_id("REQ")


def idempotency_key_of(context: RequestContext) -> str | None:
    """Return the Idempotency-Key, if there is one.

    Test keys have theirs for themselves: a live message is never answered by the test before it.

    Raises:
        HarkaraError: ERR_INVALID_REQUEST.
    """
    given = context.headers.get(b"idempotency-key")
    if given is None:
        return None
    key = given.decode("latin-1")
    if not 0 < len(key) <= MAX_KEY_LENGTH or not key.isprintable():
        raise HarkaraError(
            ErrorCode.INVALID_REQUEST, f"The header Idempotency-Key takes 1 to {MAX_KEY_LENGTH} printable characters."
        )
    return _OF_TESTS + key if context.caller is not None and context.caller.test_only else key


def context_of(request: Request) -> RequestContext:
    context: RequestContext = request.scope[SCOPE_KEY]
    return context


def caller_with(context: RequestContext, scope: Scope) -> Caller:
    """Return the caller.

    Raises:
        HarkaraError: ERR_UNAUTHORIZED without a key, ERR_FORBIDDEN where its key lacks the scope.
    """
    caller = context.caller
    if caller is None:
        raise HarkaraError(ErrorCode.UNAUTHORIZED, "Give a valid API key: Authorization: Bearer <key>.")
    if scope not in caller.scopes:
        raise HarkaraError(
            ErrorCode.FORBIDDEN,
            f"This needs a key with the scope {scope}; yours has {', '.join(sorted(caller.scopes)) or 'none'}.",
        )
    return caller


class _Needs:
    """A dependency that admits callers with one scope."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope

    async def __call__(self, request: Request) -> Caller:
        return caller_with(context_of(request), self._scope)


Sender = Annotated[Caller, Depends(_Needs(Scope.SEND))]
Reader = Annotated[Caller, Depends(_Needs(Scope.READ))]
Manager = Annotated[Caller, Depends(_Needs(Scope.MANAGE))]
Operator = Annotated[Caller, Depends(_Needs(Scope.OPERATOR))]
