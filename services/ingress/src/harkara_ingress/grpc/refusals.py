"""What the edge refuses, said in gRPC's way: a status code, words, and google.rpc details.

`ErrorInfo.reason` is the code of the HTTP API (ERR_…), which says more than the status; `BadRequest` names the fields that
are wrong, and `RetryInfo` says when another try is worth while.
"""

from collections.abc import Sequence

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import (  # type: ignore[import-untyped]  # they have no stubs
    BadRequest,
    ErrorInfo,
    RequestInfo,
    RetryInfo,
)
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]  # likewise

from harkara_ingress.http.errors import Refusal

DOMAIN = "harkara"
DETAILS_KEY = "grpc-status-details-bin"

_BY_HTTP = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    402: grpc.StatusCode.FAILED_PRECONDITION,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    408: grpc.StatusCode.DEADLINE_EXCEEDED,
    409: grpc.StatusCode.FAILED_PRECONDITION,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    422: grpc.StatusCode.FAILED_PRECONDITION,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    503: grpc.StatusCode.UNAVAILABLE,
}


def status_code(refusal: Refusal) -> grpc.StatusCode:
    return _BY_HTTP.get(refusal.status, grpc.StatusCode.INTERNAL)


def details_of(refusal: Refusal, request_id: str) -> bytes:
    """Return the `google.rpc.Status` of a refusal, as it travels in the trailing metadata."""
    details: list[Message] = [
        ErrorInfo(reason=refusal.code.value, domain=DOMAIN),
        RequestInfo(request_id=request_id),
    ]
    if refusal.fields:
        details.append(BadRequest(field_violations=_violations(refusal)))
    if (seconds := refusal.headers.get("Retry-After")) is not None:
        details.append(RetryInfo(retry_delay=Duration(seconds=int(seconds))))
    number, _ = status_code(refusal).value
    status = Status(code=number, message=refusal.message)
    for detail in details:
        status.details.add().Pack(detail)
    return bytes(status.SerializeToString())


def _violations(refusal: Refusal) -> Sequence[BadRequest.FieldViolation]:
    return [BadRequest.FieldViolation(field=each["field"], description=each["message"]) for each in refusal.fields]
