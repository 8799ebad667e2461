"""Sending, and asking what a send would do."""

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel

from harkara_ingress.access.accounts import Scope
from harkara_ingress.http.common import ErrorBody
from harkara_ingress.http.context import MAX_KEY_LENGTH, RequestContext, Sender, caller_with, idempotency_key_of
from harkara_ingress.http.direct import DirectRoute, Endpoint, body_of
from harkara_ingress.sending.acceptance import Acceptance
from harkara_ingress.sending.request import AnySend, MessageSend, SmsSend
from harkara_ingress.sending.validation import Verdict, verdict_on

REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorBody, "description": words}
    for status, words in {
        400: "The request cannot be read, or a value is wrong.",
        401: "The key is missing or unknown.",
        402: "The balance does not cover it.",
        403: "The key lacks the scope.",
        413: "The body is too large.",
        422: "A rule of the field is broken.",
        429: "Too many requests or messages; wait as `Retry-After` says.",
        503: "It could not be made durable in time.",
    }.items()
}
KEY_HEADER = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "maxLength": MAX_KEY_LENGTH},
    "description": "The same key with the same body within 24 hours sends once and is answered alike.",
}


class Accepted(BaseModel):
    """The message is durable and will be tried. `credits_debited` counts SMS parts."""

    status: str
    message_id: str
    to: str
    channel: str
    credits_debited: int
    estimated_delivery_seconds: int
    timestamp: str
    correlation_id: str | None = None
    scheduled_at: str | None = None
    test_mode: bool | None = None


def sending_routes(acceptance: Acceptance) -> list[DirectRoute]:
    """Return the roads most travelled; see `DirectRoute`."""

    async def send(context: RequestContext, model: type[SmsSend]) -> bytes:
        caller = caller_with(context, Scope.SEND)
        wanted = model.model_validate_json(context.body)
        key = idempotency_key_of(context)
        # The same body to another path is another request.
        raw = context.path.encode() + b"\n" + context.body if key else b""
        return await acceptance.send(caller, wanted, raw, key)

    async def send_sms(context: RequestContext) -> bytes:
        """Send one SMS."""
        return await send(context, SmsSend)

    async def send_message(context: RequestContext) -> bytes:
        """Send one message by a channel, or by several in order."""
        return await send(context, MessageSend)

    def route(path: str, endpoint: Endpoint, model: type[SmsSend]) -> DirectRoute:
        return DirectRoute(
            path,
            endpoint,
            "POST",
            202,
            response_model=Accepted,
            responses=REFUSALS,
            tags=["sending"],
            openapi_extra=body_of(model) | {"parameters": [KEY_HEADER]},
        )

    return [
        route("/v1/sms/send", send_sms, SmsSend),
        route("/v1/messages/send", send_message, MessageSend),
    ]


def validation_routes(acceptance: Acceptance) -> APIRouter:
    router = APIRouter(tags=["sending"])

    @router.post("/v1/messages/validate")
    async def validate(caller: Sender, wanted: AnySend) -> Verdict:
        """Tell parts, encoding, price and verdict of a send; nothing is sent."""
        return verdict_on(acceptance, caller, wanted)

    return router
