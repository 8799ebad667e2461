"""Examples for the API's description: of requests as a client would write them, of answers made from their schemas.

A route has nothing to do for it. A new request model gets its required fields filled in; give it a line in `REQUESTS` where
that is not what a client would write. A field of answers whose name says nothing here gets an example by its type.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

Json = Any

_SMS = {
    "to": "919876543210",
    "sender": "HRKARA",
    "template_id": "TN_OTP_001",
    "variables": {"otp": "482913", "minutes": "5"},
    "category": "otp",
    "correlation_id": "login-8841",
}
_SCHEDULED = {"schedule_at": "2026-12-01T10:30:00+05:30"}
_SHIPPED = {
    "recipients": [
        {"to": "919876543210", "variables": {"name": "Asha", "order_id": "ORD12345", "date": "12 May"}},
        {"to": "919876543211", "variables": {"name": "Ravi", "order_id": "ORD12346", "date": "13 May"}},
    ],
    "sender": "HRKARA",
    "template_id": "TN_SHIP_001",
    "category": "transactional",
}

REQUESTS: Mapping[str, dict[str, Json]] = {
    "SmsSend": _SMS,
    "MessageSend": {"channel": "sms"} | _SMS,
    "AnySend": {"channel": "sms"} | _SMS,
    "SmsBulk": _SHIPPED,
    "MessageBulk": {"channel": "sms"} | _SHIPPED | _SCHEDULED,
    "WhatsAppSend": {
        "to": "919876543210",
        "template": {
            "name": "order_shipped",
            "language": {"code": "en"},
            "components": [{"type": "body", "parameters": [{"type": "text", "text": "ORD12345"}]}],
        },
        "category": "utility",
    },
    "RcsSend": {
        "to": "919876543210",
        "text": "Your parcel is on its way.",
        "suggestions": [{"reply": {"text": "Thanks", "postback_data": "thanks"}}],
    },
    "VoiceSend": {"to": "919876543210", "voice_type": "otp", "otp_code": "482913", "language": "en-IN"},
    "EmailSend": {
        "to": "asha@example.com",
        "from": "orders@harkara.example",
        "from_name": "Harkara Stores",
        "subject": "Your order has shipped",
        "text": "Your order ORD12345 is on its way.",
    },
    "OpenAccount": {"name": "Harkara Stores", "plan": "business"},
    "ChangeAccount": {"plan": "enterprise", "messages_per_second": 500},
    "AddMoney": {"amount_paise": 500_000, "reference": "INV-2026-0042"},
    "CreateKey": {"name": "checkout", "scopes": ["send", "read"], "test_only": False},
    "RotateKey": {"overlap_seconds": 86_400},
    "RotateSecret": {"overlap_seconds": 86_400},
    "RotateWebhookSecret": {"overlap_seconds": 86_400},
    "ChangeSecurity": {"ip_allow_list": ["203.0.113.0/24", "2001:db8:40::/48"], "require_signature": True},
    "NewEntity": {
        "entity_id": "1101172974420810001",
        "name": "Harkara Stores",
        "state": "delivered",
        "status": "active",
        "telemarketer_chain": ["1101172974420830004"],
    },
    "NewSender": {"sender": "HRKARA", "entity_id": "1101172974420810001", "kind": "transactional"},
    "ChangeSender": {"kind": "transactional"},
    "NewTemplate": {
        "template_id": "TN_OTP_001",
        "dlt_template_id": "1007172974420840002",
        "category": "otp",
        "senders": ["HRKARA"],
        "body": "{#num:otp#} is your Harkara login code. It is valid for {#num:minutes#} minutes.",
    },
    "ChangeTemplate": {"senders": ["HRKARA"]},
    "SetStatus": {"status": "approved", "reason": "Checked against the DLT portal", "account_id": "ACC7K3M9P2QX4"},
    "NewUrl": {"domain": "harkara.example"},
    "NewWebhook": {
        "url": "https://harkara.example/hooks",
        "events": ["message.delivered", "message.failed"],
        "description": "orders",
    },
    "ChangeWebhook": {"events": ["message.delivered", "message.failed", "message.replied"]},
}

_AT = "2026-11-22T10:30:00Z"
_MESSAGE_ID = "TN202611227K3M9P2QX4WZA"
_BY_NAME: Mapping[str, Json] = {
    "account_id": "ACC7K3M9P2QX4",
    "amount_paise": 28,
    "api_key": "hk_live_7k3m9p2qx4wza6b5c8d7e2f3g4h5j6k7",
    "available_paise": 482_913.5,
    "batch_id": "BATCH202611227K3M9P2QX4",
    "body": "{#num:otp#} is your Harkara login code. It is valid for {#num:minutes#} minutes.",
    "carrier": "smsc1",
    "category": "otp",
    "channel": "sms",
    "channels": ["sms"],
    "code": "en",
    "correlation_id": "login-8841",
    "currency": "INR",
    "day": "2026-11-22",
    "delivery_id": "WHD7K3M9P2QX4",
    "delivery_rate": 0.987,
    "description": "orders",
    "dlt_template_id": "1007172974420840002",
    "email": "asha@example.com",
    "encoding": "gsm7",
    "entity_id": "1101172974420810001",
    "entry_id": "LED7K3M9P2QX4",
    "event": "message.delivered",
    "events": ["message.delivered", "message.failed"],
    "expires_at": _AT,
    "former_key_id": "KEY7K3M9P2QX4",
    "ip_allow_list": ["203.0.113.0/24"],
    "key_id": "KEY8L4N2R3SY5",
    "kind": "transactional",
    "language": "en",
    "message_id": _MESSAGE_ID,
    "name": "Harkara Stores",
    "number": "919876543210",
    "plan": "business",
    "reference": "INV-2026-0042",
    "request_id": "REQ7K3M9P2QX4",
    "scheduled_at": _AT,
    "scopes": ["send", "read"],
    "secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    "sender": "HRKARA",
    "senders": ["HRKARA"],
    "signing_secret": "hs_6f1d2c7e8b9a0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796",
    "telemarketer_chain": ["1101172974420830004"],
    "template_id": "TN_OTP_001",
    "text": "482913 is your Harkara login code. It is valid for 5 minutes.",
    "timestamp": _AT,
    "to": "919876543210",
    "url": "https://harkara.example/hooks",
    "url_id": "URL7K3M9P2QX4",
    "value": "harkara.example",
    "webhook_id": "WH7K3M9P2QX4",
}
_STATUS = {"Accepted": "accepted", "Deleted": "deleted"}
_ERROR = {
    "status": "error",
    "error_code": "ERR_INVALID_MOBILE",
    "error_message": "The number must be 91 and ten digits that start with 6 to 9.",
    "request_id": "REQ7K3M9P2QX4",
    "errors": [{"field": "to", "message": "No Indian mobile number"}],
}
_TYPES: Mapping[str, type | tuple[type, ...]] = {
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "array": list,
    "object": dict,
}
_BY_TYPE: Mapping[str, Json] = {"string": "text", "integer": 1, "number": 1, "boolean": True, "null": None}


def request_example(schema: Json, schemas: Mapping[str, Json]) -> Json:
    """Return what a client might send."""
    for name in _names(schema):
        if name in REQUESTS:
            return REQUESTS[name]
    return _Answers(schemas, is_request=True).of(schema)


def answer_example(schema: Json, schemas: Mapping[str, Json]) -> Json:
    """Return what the client might be told."""
    if "ErrorBody" in _names(schema):
        return _ERROR
    return with_nulls(_Answers(schemas).of(schema), schema, schemas)


def with_nulls(value: Json, schema: Json, schemas: Mapping[str, Json]) -> Json:
    """Say null where a field has to be there: FastAPI takes all nulls out of the examples it is given."""
    if "$ref" in schema:
        return with_nulls(value, schemas[schema["$ref"].rpartition("/")[2]], schemas)
    for choice in schema.get("anyOf", ()):
        if _fits(value, schemas.get(choice.get("$ref", "").rpartition("/")[2], choice)):
            return with_nulls(value, choice, schemas)
    if isinstance(value, list) and "items" in schema:
        return [with_nulls(each, schema["items"], schemas) for each in value]
    if isinstance(value, dict) and "properties" in schema:
        said = {name: with_nulls(each, schema["properties"].get(name, {}), schemas) for name, each in value.items()}
        return said | {name: None for name in schema.get("required", ()) if name not in said}
    return value


def _names(schema: Json) -> Iterator[str]:
    for one in (schema, *schema.get("anyOf", ())):
        if "$ref" in one:
            yield one["$ref"].rpartition("/")[2]


class _Answers:
    """Makes examples from schemas: of all that may be there, or for a request of what must be."""

    def __init__(self, schemas: Mapping[str, Json], *, is_request: bool = False) -> None:
        self._schemas = schemas
        self._is_request = is_request

    def of(self, schema: Json, name: str = "") -> Json:
        if "$ref" in schema:
            return self._of_model(schema["$ref"].rpartition("/")[2], name)
        for said in (schema.get("example"), *schema.get("examples", ())[:1], schema.get("const")):
            if said is not None:
                return said
        if "enum" in schema:
            return schema["enum"][0]
        if "anyOf" in schema:
            return self._of_any(schema["anyOf"], name)
        known = _BY_NAME.get(name)
        if known is not None and _fits(known, schema):
            return known
        return self._of_type(schema, name)

    def _of_model(self, model: str, name: str) -> Json:
        schema = self._schemas[model]
        made = self.of({key: value for key, value in schema.items() if key != "example"}, name)
        if isinstance(made, dict):
            made |= schema.get("example", {})
            if model in _STATUS:
                made["status"] = _STATUS[model]
        return made

    def _of_any(self, choices: list[Json], name: str) -> Json:
        known = _BY_NAME.get(name)
        for choice in choices:
            if known is not None and _fits(known, choice):
                return known
        # What may be null mostly is, but for what has a shape worth showing.
        shaped = [choice for choice in choices if "$ref" in choice or choice.get("type") in {"array", "object"}]
        optional = [choice for choice in choices if choice.get("type") == "null"]
        return self.of((shaped or optional or choices)[0], name)

    def _of_type(self, schema: Json, name: str) -> Json:
        kind = schema.get("type", "object")
        if kind == "array":
            return [self.of(schema["items"], name.removesuffix("s"))] if "items" in schema else []
        if kind == "object":
            wanted = schema.get("required", ()) if self._is_request else schema.get("properties", ())
            return {each: self.of(schema["properties"][each], each) for each in wanted}
        if schema.get("format") == "date-time":
            return _AT
        return max(schema["minimum"], 1) if "minimum" in schema else _BY_TYPE[kind]


def _fits(value: Json, schema: Json) -> bool:
    kind = _TYPES.get(schema.get("type", ""))
    if kind is None or not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        return False
    if isinstance(value, list):
        items = schema.get("items", {})
        return all(_fits(each, items) for each in value)
    return not (isinstance(value, str) and "pattern" in schema and not re.search(schema["pattern"], value))
