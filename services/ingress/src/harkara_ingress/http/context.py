"""What the edge knows of a request before any route sees it."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends
from starlette.requests import Request

from harkara_contracts.errors import ErrorCode, HarkaraError
from harkara_ingress.accounts import Caller, Scope
from harkara_ingress.limits import UNLIMITED, Decision

SCOPE_KEY = "harkara"
ANSWER_KEY = "harkara.answer"
"""Where a request's scope has the short way out: status, header lines and body in one call."""


@dataclass(slots=True)
class RequestContext:
    """One request. `decision` is that of the limit on requests, told in the headers of every answer."""

    request_id: str
    path: str
    headers: dict[bytes, bytes]
    caller: Caller | None = None
    decision: Decision = UNLIMITED
    body: bytes = b""


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
