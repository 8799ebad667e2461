"""The service `Messages`: what the HTTP API does with messages, asked in protocol buffers."""

import asyncio
import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec
import orjson
from msgspec import Raw

from harkara_contracts.errors import ErrorCode, HarkaraError
from harkara_ingress.access.accounts import Scope
from harkara_ingress.bulk.acceptance import BulkAcceptance
from harkara_ingress.bulk.batches import Batches
from harkara_ingress.bulk.request import MAX_RECIPIENTS
from harkara_ingress.bulk.view import status_of
from harkara_ingress.grpc.calls import Calls, GrpcService
from harkara_ingress.grpc.conversion import check_text, decoded, fields_of, made
from harkara_ingress.grpc.gen.harkara.v1 import messages_pb2 as pb
from harkara_ingress.http.context import RequestContext, caller_with, idempotency_key_of
from harkara_ingress.sending.acceptance import Acceptance
from harkara_ingress.sending.cancelling import Cancelling
from harkara_ingress.sending.request import AnySend
from harkara_ingress.sending.validation import verdict_on
from harkara_ingress.status.message_queries import MessageFilter, MessageQueries

_NAME = pb.DESCRIPTOR.services_by_name["Messages"].full_name
_READ_AT_ONCE = 256
"""Recipients of a bulk, until others have their turn: about a millisecond."""


class Messages:
    def __init__(
        self,
        acceptance: Acceptance,
        bulks: BulkAcceptance,
        queries: MessageQueries,
        cancelling: Cancelling,
        batches: Batches,
    ) -> None:
        self._acceptance = acceptance
        self._bulks = bulks
        self._queries = queries
        self._cancelling = cancelling
        self._batches = batches

    def service(self, calls: Calls) -> GrpcService:
        def path(name: str) -> str:
            return f"/{_NAME}/{name}"

        methods = {
            "Send": calls.changing(path("Send"), pb.SendRequest, self._send),
            "SendBulk": calls.collecting(path("SendBulk"), Scope.SEND, self._send_bulk),
            "Validate": calls.reading(path("Validate"), pb.ValidateRequest, self._validate),
            "Get": calls.reading(path("Get"), pb.GetRequest, self._get),
            "List": calls.reading(path("List"), pb.ListRequest, self._list),
            "Cancel": calls.changing(path("Cancel"), pb.CancelRequest, self._cancel),
            "GetBatch": calls.reading(path("GetBatch"), pb.GetBatchRequest, self._get_batch),
            "CancelBatch": calls.changing(path("CancelBatch"), pb.CancelBatchRequest, self._cancel_batch),
        }
        return GrpcService(_NAME, methods)

    async def _send(self, context: RequestContext, request: pb.SendRequest) -> pb.SendResponse:
        caller = caller_with(context, Scope.SEND)
        wanted = AnySend.model_validate(fields_of(request))
        # A map has no order on the wire; the same request has the same fingerprint in any.
        fingerprint = _Fingerprint(context.path)
        fingerprint.add(request.SerializeToString(deterministic=True))
        answer = await self._acceptance.send(caller, wanted, fingerprint.digest(), idempotency_key_of(context))
        return made(pb.SendResponse, orjson.loads(answer))

    async def _send_bulk(self, context: RequestContext, parts: Sequence[bytes]) -> pb.SendBulkResponse:
        caller = caller_with(context, Scope.SEND)
        header, recipients, fingerprint = await _read_bulk(context.path, parts)
        shared = AnySend.model_validate({**header, "to": ""})
        answer = await self._bulks.accept(
            caller, shared, recipients, idempotency_key=idempotency_key_of(context), fingerprint=fingerprint
        )
        return made(pb.SendBulkResponse, orjson.loads(answer))

    async def _validate(self, context: RequestContext, request: pb.ValidateRequest) -> pb.ValidateResponse:
        caller = caller_with(context, Scope.SEND)
        wanted = AnySend.model_validate(fields_of(request.send))
        verdict = verdict_on(self._acceptance, caller, wanted)
        return made(pb.ValidateResponse, verdict.model_dump(mode="json"))

    async def _get(self, context: RequestContext, request: pb.GetRequest) -> pb.GetResponse:
        caller = caller_with(context, Scope.READ)
        status = await self._queries.status(caller.account_id, request.message_id)
        return pb.GetResponse(message=made(pb.Message, status.model_dump(mode="json")))

    async def _list(self, context: RequestContext, request: pb.ListRequest) -> pb.ListResponse:
        caller = caller_with(context, Scope.READ)
        wanted = MessageFilter.model_validate(fields_of(request))
        page = await self._queries.page(caller.account_id, wanted)
        return made(pb.ListResponse, page.model_dump(mode="json"))

    async def _cancel(self, context: RequestContext, request: pb.CancelRequest) -> pb.CancelResponse:
        await self._cancelling.cancel(caller_with(context, Scope.SEND), request.message_id)
        return pb.CancelResponse(status="cancelled", message_id=request.message_id)

    async def _get_batch(self, context: RequestContext, request: pb.GetBatchRequest) -> pb.GetBatchResponse:
        caller = caller_with(context, Scope.READ)
        row = await self._batches.batch(caller.account_id, request.batch_id)
        status = status_of(row, await self._batches.counts(row))
        return pb.GetBatchResponse(batch=made(pb.Batch, status.model_dump(mode="json")))

    async def _cancel_batch(self, context: RequestContext, request: pb.CancelBatchRequest) -> pb.CancelBatchResponse:
        caller = caller_with(context, Scope.SEND)
        await self._batches.cancel(caller, request.batch_id)
        return pb.CancelBatchResponse(status="cancelled", batch_id=request.batch_id)


async def _read_bulk(path: str, parts: Sequence[bytes]) -> tuple[dict[str, Any], list[Raw], bytes]:
    """Read the parts of a bulk, with pauses for others.

    Returns:
        What all share; the recipients, as the JSON that they are checked as; and a fingerprint of both, which is the same
        however the recipients were cut into portions.
    """
    header: dict[str, Any] | None = None
    recipients: list[Raw] = []
    fingerprint = _Fingerprint(path)
    for number, part in enumerate(parts):
        request = decoded(pb.SendBulkRequest, part)
        is_header = request.WhichOneof("part") == "header"
        if is_header is not (number == 0):
            raise HarkaraError(
                ErrorCode.INVALID_REQUEST, "The first message is the header, and all others are recipients."
            )
        if is_header:
            header = fields_of(request.header)
            fingerprint.add(orjson.dumps(header, option=orjson.OPT_SORT_KEYS))
            continue
        listed = request.recipients.recipients
        if len(recipients) + len(listed) > MAX_RECIPIENTS:
            raise HarkaraError(ErrorCode.INVALID_REQUEST, f"A bulk takes 1 to {MAX_RECIPIENTS:,} recipients.")
        for start in range(0, len(listed), _READ_AT_ONCE):
            for recipient in listed[start : start + _READ_AT_ONCE]:
                written = _recipient(recipient)
                fingerprint.add(written)
                recipients.append(Raw(written))
            await asyncio.sleep(0)
    if header is None:
        raise HarkaraError(ErrorCode.INVALID_REQUEST, "The first message is the header; there was none.")
    return header, recipients, fingerprint.digest()


def _recipient(recipient: pb.BulkRecipient) -> bytes:
    fields: dict[str, Any] = {"to": recipient.to, "variables": dict(sorted(recipient.variables.items()))}
    if recipient.HasField("correlation_id"):
        fields["correlation_id"] = recipient.correlation_id
    check_text(fields)
    return msgspec.json.encode(fields)


class _Fingerprint:
    """Tells requests apart; the same message to another method is another request."""

    def __init__(self, path: str) -> None:
        self._hash = hashlib.sha256(path.encode())

    def add(self, part: bytes) -> None:
        self._hash.update(b"\n%d\n%b" % (len(part), part))

    def digest(self) -> bytes:
        return self._hash.digest()
