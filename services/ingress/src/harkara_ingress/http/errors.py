"""One form for everything that is refused, whoever noticed it: our rules, the framework, or a fault of ours.

What goes out never quotes what came in, so that no number, text or secret travels in an error or a log.
"""

import logging
import math
import traceback
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from harkara_contracts.errors import ErrorCode, HarkaraError, http_status
from harkara_ingress.refusals import RETRY_SHORTLY_S, BusyError, RateLimitedError, WrongFieldsError

logger = logging.getLogger(__name__)

_MAX_FIELDS = 20
_MAX_PLACE = 64

_BY_STATUS = {
    404: (ErrorCode.NOT_FOUND, "There is nothing at this path. The API is described at /docs."),
    405: (ErrorCode.INVALID_REQUEST, "This path does not take this method. The API is described at /docs."),
    408: (ErrorCode.INVALID_REQUEST, "The body did not arrive in time. Send it again."),
    413: (ErrorCode.PAYLOAD_TOO_LARGE, "The body is too large. Split the request."),
    415: (ErrorCode.INVALID_REQUEST, "The body must be JSON, not compressed: Content-Type: application/json."),
}


@dataclass(frozen=True, slots=True)
class Refusal:
    """What an error becomes over HTTP."""

    status: int
    code: ErrorCode
    message: str
    fields: Sequence[dict[str, str]] = ()
    headers: Mapping[str, str] = field(default_factory=dict)

    def body(self, request_id: str) -> bytes:
        body: dict[str, Any] = {
            "status": "error",
            "error_code": self.code.value,
            "error_message": self.message,
            "request_id": request_id,
        }
        if self.fields:
            body["errors"] = list(self.fields)
        return orjson.dumps(body)

    def response(self, request_id: str) -> Response:
        return Response(self.body(request_id), self.status, dict(self.headers), "application/json")


def refusal_of(error: Exception, request_id: str) -> Refusal:
    """Say what an exception means to the client."""
    match error:
        case HarkaraError():
            fields = error.fields if isinstance(error, WrongFieldsError) else ()
            return Refusal(http_status(error.code), error.code, error.message, fields, _headers(error))
        case ValidationError():
            return _invalid(error.errors(include_url=False, include_input=False), prefix=0)
        case RequestValidationError():
            return _invalid(error.errors(), prefix=1)
        case HTTPException():
            return _of_framework(error)
        case _:
            return _our_fault(error, request_id)


def _headers(error: HarkaraError) -> dict[str, str]:
    if error.code in {ErrorCode.RATE_LIMIT_EXCEEDED, ErrorCode.UNAVAILABLE}:
        # Clients read it as an integer; rounded up, so that a retry at that second is let in.
        return {"Retry-After": str(max(1, math.ceil(round(_retry_after_s(error), 3))))}
    return {"WWW-Authenticate": "Bearer"} if error.code is ErrorCode.UNAUTHORIZED else {}


def _retry_after_s(error: HarkaraError) -> float:
    match error:
        case RateLimitedError():
            return error.decision.retry_after_s
        case BusyError():
            return error.retry_after_s
        case _:
            return RETRY_SHORTLY_S


def _our_fault(error: Exception, request_id: str) -> Refusal:
    # Logged by type and place, never by its words: they may quote what the client sent.
    where = "".join(traceback.format_tb(error.__traceback__)[-6:])
    logger.error("a request failed", extra={"request_id": request_id, "kind": type(error).__name__, "where": where})
    return Refusal(500, ErrorCode.INTERNAL, "Something failed on our side. Try again; quote the request_id to us.")


def _of_framework(error: HTTPException) -> Refusal:
    code, message = _BY_STATUS.get(
        error.status_code, (ErrorCode.INVALID_REQUEST, "The request cannot be read. The API is described at /docs.")
    )
    return Refusal(error.status_code, code, message, headers=error.headers or {})


def _invalid(errors: Iterable[Any], prefix: int) -> Refusal:
    """Turn validation errors into fields; `prefix` places of each location say only body, query or path."""
    found = list(errors)
    if any(_is_bad_unicode(error) for error in found):
        return Refusal(
            400,
            ErrorCode.INVALID_UNICODE,
            "The body has half a surrogate pair (\\uD800 to \\uDFFF alone), which is no character. Leave it out.",
        )
    fields = [{"field": _field(error["loc"][prefix:]), "message": _words(error)} for error in found[:_MAX_FIELDS]]
    if any(error["type"] == "json_invalid" for error in found):
        return Refusal(400, ErrorCode.INVALID_REQUEST, "The body is not valid JSON.", fields)
    named = ", ".join(dict.fromkeys(each["field"] for each in fields))
    return Refusal(400, ErrorCode.INVALID_REQUEST, f"The request is not valid: see errors ({named}).", fields)


def _field(places: Sequence[object]) -> str:
    # A place may be a key of the client's own making: none is quoted at length.
    return ".".join([str(place)[:_MAX_PLACE] for place in places]) or "body"


def _words(error: Mapping[str, Any]) -> str:
    words = str(error["msg"]).removeprefix("Value error, ")
    return words[:1].upper() + words[1:]


def _is_bad_unicode(error: Mapping[str, Any]) -> bool:
    if error["type"] == "string_unicode":
        return True
    detail = str(error.get("ctx", {}).get("error", ""))
    return error["type"] == "json_invalid" and "hex escape" in detail
