"""Bulk sends."""

import asyncio
import hashlib
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from harkara_ingress.access.accounts import Scope
from harkara_ingress.bulk.acceptance import BulkAcceptance
from harkara_ingress.bulk.request import MAX_RECIPIENTS, read_bulk
from harkara_ingress.http.context import RequestContext, caller_with, idempotency_key_of
from harkara_ingress.http.direct import DEFINITIONS, DirectRoute, Endpoint, body_of
from harkara_ingress.http.routes.sending import KEY_HEADER, REFUSALS
from harkara_ingress.sending.request import MessageSend, SmsSend, VariableName, VariableValue

_VARIABLES = {"name": "Asha", "order_id": "ORD12345", "date": "12 May"}
_EXAMPLE = {
    "sender": "HRKARA",
    "template_id": "TN_SHIP_001",
    "category": "transactional",
    "correlation_id": "campaign-7",
    "recipients": [
        {"to": "919876543210", "variables": _VARIABLES, "correlation_id": "order-12345"},
        {"to": "919876543211", "variables": _VARIABLES | {"name": "Ravi"}},
    ],
}


class BulkRecipient(BaseModel):
    """One recipient. A number may be given more than once: it gets as many messages."""

    to: str = Field(max_length=32, examples=["919876543210"])
    variables: dict[VariableName, VariableValue] = Field(default={}, max_length=100, examples=[_VARIABLES])
    correlation_id: str | None = Field(default=None, max_length=128)


class BulkRejected(BaseModel):
    """A recipient that will not be tried: its place in `recipients` from 0, and why."""

    index: int
    to: str | None
    error_code: str
    error_message: str


class BulkAccepted(BaseModel):
    """The bulk is durable; `total_recipients` will be tried. `estimated_credits` counts SMS parts of all of them."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "status": "accepted",
                "batch_id": "BATCH20261122B8Q0JY7RSTKBRZ7B4",
                "total_recipients": 2,
                "estimated_credits": 2,
                "rejected": [
                    {
                        "index": 1,
                        "to": "12345",
                        "error_code": "ERR_INVALID_MOBILE",
                        "error_message": "Field `to` must be 91 and ten digits, the first of them 6 to 9.",
                    }
                ],
                "correlation_id": "campaign-7",
            }
        }
    )

    status: str
    batch_id: str
    total_recipients: int
    estimated_credits: int
    rejected: list[BulkRejected]
    correlation_id: str | None = None
    scheduled_at: str | None = None
    test_mode: bool | None = None


def bulk_routes(acceptance: BulkAcceptance, max_body_bytes: int) -> list[DirectRoute]:
    async def send(context: RequestContext, model: type[SmsSend]) -> bytes:
        caller = caller_with(context, Scope.SEND)
        bulk = read_bulk(context.body, model)
        key = idempotency_key_of(context)
        # Beside the loop: a digest of so many octets takes longer than others should wait.
        fingerprint = await asyncio.to_thread(_fingerprint, context) if key else b""
        return await acceptance.accept(
            caller, bulk.message, bulk.recipients, idempotency_key=key, fingerprint=fingerprint
        )

    async def send_sms_bulk(context: RequestContext) -> bytes:
        """Send one SMS to each of up to 100,000 recipients.

        What is wrong with a recipient rejects that one; what is wrong with all, or a balance that does not cover all,
        refuses the call.
        """
        return await send(context, SmsSend)

    async def send_bulk(context: RequestContext) -> bytes:
        """Send one message by a channel, or by several in order, to each of up to 100,000 recipients."""
        return await send(context, MessageSend)

    def route(path: str, endpoint: Endpoint, model: type[SmsSend], name: str, **shared: str) -> DirectRoute:
        return DirectRoute(
            path,
            endpoint,
            "POST",
            202,
            max_body_bytes=max_body_bytes,
            response_model=BulkAccepted,
            responses=REFUSALS,
            tags=["bulk"],
            openapi_extra=_bulk_body_of(model, name, shared) | {"parameters": [KEY_HEADER]},
        )

    return [
        route("/v1/sms/bulk", send_sms_bulk, SmsSend, "SmsBulk"),
        route("/v1/messages/bulk", send_bulk, MessageSend, "MessageBulk", channel="sms"),
    ]


def _fingerprint(context: RequestContext) -> bytes:
    # The same body to another path is another request.
    return hashlib.sha256(context.path.encode() + b"\n" + context.body).digest()


def _bulk_body_of(model: type[SmsSend], name: str, shared: dict[str, str]) -> dict[str, Any]:
    """Describe a bulk's body: a send's, with recipients where the send has its one. `shared` is more of its example."""
    described = body_of(model)
    definitions = described[DEFINITIONS]
    schema = definitions.pop(model.__name__)
    properties = {field: of for field, of in schema["properties"].items() if field != "to"}
    properties["variables"] = properties["variables"] | {"description": "What a recipient does not give itself."}
    recipient = BulkRecipient.model_json_schema()
    reference = {"$ref": f"#/components/schemas/{BulkRecipient.__name__}"}
    listed = {"type": "array", "minItems": 1, "maxItems": MAX_RECIPIENTS, "items": reference, "title": "Recipients"}
    required = ["recipients", *(field for field in schema.get("required", []) if field != "to")]
    schema = schema | {
        "title": name,
        "description": f"A send without its recipient, and 1 to {MAX_RECIPIENTS:,} recipients.",
        "properties": {"recipients": listed} | properties,
        "required": required,
    }
    schema.pop("examples", None)
    content = {"schema": {"$ref": f"#/components/schemas/{name}"}, "example": shared | _EXAMPLE}
    return {
        "requestBody": {"required": True, "content": {"application/json": content}},
        DEFINITIONS: definitions | {name: schema, BulkRecipient.__name__: recipient},
    }
