"""Error codes that clients see, each with the HTTP status it has when it can be told at once."""

from enum import StrEnum


class ErrorCode(StrEnum):
    INVALID_REQUEST = "ERR_INVALID_REQUEST"
    INVALID_MOBILE = "ERR_INVALID_MOBILE"
    INVALID_UNICODE = "ERR_INVALID_UNICODE"
    UNAUTHORIZED = "ERR_UNAUTHORIZED"
    IP_NOT_ALLOWED = "ERR_IP_NOT_ALLOWED"
    SIGNATURE_INVALID = "ERR_SIGNATURE_INVALID"
    INSUFFICIENT_CREDITS = "ERR_INSUFFICIENT_CREDITS"
    FORBIDDEN = "ERR_FORBIDDEN"
    NOT_FOUND = "ERR_NOT_FOUND"
    CONFLICT = "ERR_CONFLICT"
    PAYLOAD_TOO_LARGE = "ERR_PAYLOAD_TOO_LARGE"
    SENDER_NOT_REGISTERED = "ERR_SENDER_NOT_REGISTERED"
    SENDER_SUSPENDED = "ERR_SENDER_SUSPENDED"
    TEMPLATE_NOT_FOUND = "ERR_TEMPLATE_NOT_FOUND"
    DLT_TEMPLATE_MISMATCH = "ERR_DLT_TEMPLATE_MISMATCH"
    DLT_TEMPLATE_SUSPENDED = "ERR_DLT_TEMPLATE_SUSPENDED"
    TEMPLATE_CATEGORY_MISMATCH = "ERR_TEMPLATE_CATEGORY_MISMATCH"
    DLT_CHAIN_INVALID = "ERR_DLT_CHAIN_INVALID"
    DND_SUBSCRIBER = "ERR_DND_SUBSCRIBER"
    CONSENT_REQUIRED = "ERR_CONSENT_REQUIRED"
    OUTSIDE_PROMO_WINDOW = "ERR_OUTSIDE_PROMO_WINDOW"
    URL_NOT_WHITELISTED = "ERR_URL_NOT_WHITELISTED"
    MESSAGE_TOO_LONG = "ERR_MESSAGE_TOO_LONG"
    IDEMPOTENCY_CONFLICT = "ERR_IDEMPOTENCY_CONFLICT"
    RATE_LIMIT_EXCEEDED = "ERR_RATE_LIMIT_EXCEEDED"
    INTERNAL = "ERR_INTERNAL"
    UNAVAILABLE = "ERR_UNAVAILABLE"
    # Found later: by webhook and status only.
    CARRIER_UNAVAILABLE = "ERR_CARRIER_UNAVAILABLE"
    CARRIER_REJECTED = "ERR_CARRIER_REJECTED"
    HANDSET_UNREACHABLE = "ERR_HANDSET_UNREACHABLE"
    NUMBER_INACTIVE = "ERR_NUMBER_INACTIVE"
    EXPIRED = "ERR_EXPIRED"
    OUTCOME_UNKNOWN = "ERR_OUTCOME_UNKNOWN"
    CANCELLED = "ERR_CANCELLED"


_STATUS_BY_CODE = {
    ErrorCode.INVALID_REQUEST: 400,
    ErrorCode.INVALID_MOBILE: 400,
    ErrorCode.INVALID_UNICODE: 400,
    ErrorCode.UNAUTHORIZED: 401,
    ErrorCode.IP_NOT_ALLOWED: 401,
    ErrorCode.SIGNATURE_INVALID: 401,
    ErrorCode.INSUFFICIENT_CREDITS: 402,
    ErrorCode.FORBIDDEN: 403,
    ErrorCode.NOT_FOUND: 404,
    ErrorCode.CONFLICT: 409,
    ErrorCode.PAYLOAD_TOO_LARGE: 413,
    ErrorCode.RATE_LIMIT_EXCEEDED: 429,
    ErrorCode.INTERNAL: 500,
    ErrorCode.UNAVAILABLE: 503,
}


def http_status(code: ErrorCode) -> int:
    """Return the HTTP status of a code; a rule of the field that was broken is 422."""
    return _STATUS_BY_CODE.get(code, 422)


class ConfigurationError(ValueError):
    """Something outside the program is set wrongly: a file, a variable.

    The text tells the operator where and how to mend it, and is shown; it quotes no secret.
    """


class HarkaraError(Exception):
    """A refusal with a code and plain words that say what is wrong and how to mend it.

    The words go to the client: no phone number, message text or secret belongs in them.
    """

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message
