"""Sending, and asking what a send would do."""

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel

from harkara_chassis.clock import now_utc
from harkara_contracts.errors import ErrorCode, HarkaraError
from harkara_ingress.acceptance import Acceptance
from harkara_ingress.accounts import Scope
from harkara_ingress.http.common import ErrorBody, Paise, paise
from harkara_ingress.http.context import RequestContext, Sender, caller_with
from harkara_ingress.http.direct import DirectRoute, Endpoint, body_of
from harkara_ingress.sending import AnySend, MessageSend, SmsSend
from harkara_sms_text import suggest_gsm

_MAX_KEY_LENGTH = 255
_REFUSALS: dict[int | str, dict[str, Any]] = {
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
_KEY_HEADER = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "maxLength": _MAX_KEY_LENGTH},
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


class Verdict(BaseModel):
    """What a send would come to. `price_paise` is null where the price is not known here."""

    status: str = "ok"
    valid: bool
    channel: str | None = None
    encoding: str | None = None
    parts: int | None = None
    price_paise: Paise | None = None
    balance_sufficient: bool | None = None
    gsm_alternative_exists: bool | None = None
    error_code: str | None = None
    error_message: str | None = None


def sending_routes(acceptance: Acceptance) -> list[DirectRoute]:
    """Return the roads most travelled; see `DirectRoute`."""

    async def send(context: RequestContext, model: type[SmsSend]) -> bytes:
        caller = caller_with(context, Scope.SEND)
        wanted = model.model_validate_json(context.body)
        key = _idempotency_key(context)
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
            responses=_REFUSALS,
            tags=["sending"],
            openapi_extra=body_of(model) | {"parameters": [_KEY_HEADER]},
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
        try:
            checked = acceptance.check(caller, wanted, now_utc())
        except HarkaraError as error:
            return Verdict(valid=False, error_code=error.code.value, error_message=error.message)
        sms = checked.sms
        enough = acceptance.can_pay(caller, checked)
        verdict = Verdict(
            valid=enough,
            channel=wanted.wanted_channels()[0].value,
            encoding=sms.encoding if sms else None,
            parts=sms.parts if sms else None,
            price_paise=None if checked.price_mp is None else paise(checked.price_mp),
            balance_sufficient=enough,
            gsm_alternative_exists=sms is not None and suggest_gsm(sms.text) != sms.text,
        )
        if not enough:
            verdict.error_code = ErrorCode.INSUFFICIENT_CREDITS.value
            verdict.error_message = "The balance does not cover this message. Top up the account."
        return verdict

    return router


def _idempotency_key(context: RequestContext) -> str | None:
    given = context.headers.get(b"idempotency-key")
    if given is None:
        return None
    key = given.decode("latin-1")
    if not 0 < len(key) <= _MAX_KEY_LENGTH or not key.isprintable():
        raise HarkaraError(
            ErrorCode.INVALID_REQUEST, f"The header Idempotency-Key takes 1 to {_MAX_KEY_LENGTH} printable characters."
        )
    return key
