"""Lanes, channels and the one grammar of subjects.

`<domain>.v<major>.<event>.<lane>[.<channel>[.<carrier>]]`, for example `attempt.v1.funded.otp.sms.jio`.
"""

import base64
import re
from enum import StrEnum
from functools import lru_cache

_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,400}")


class Lane(StrEnum):
    """Three roads that never wait for each other; the order is the order of precedence."""

    OTP = "otp"
    TRANSACTIONAL = "transactional"
    PROMOTIONAL = "promotional"


class Channel(StrEnum):
    SMS = "sms"
    WHATSAPP = "whatsapp"
    RCS = "rcs"
    VOICE = "voice"
    EMAIL = "email"


class Category(StrEnum):
    PROMOTIONAL = "promotional"
    TRANSACTIONAL = "transactional"
    OTP = "otp"
    SERVICE_IMPLICIT = "service_implicit"
    SERVICE_EXPLICIT = "service_explicit"


_LANE_BY_CATEGORY = {
    Category.OTP: Lane.OTP,
    Category.TRANSACTIONAL: Lane.TRANSACTIONAL,
    Category.SERVICE_IMPLICIT: Lane.TRANSACTIONAL,
    Category.SERVICE_EXPLICIT: Lane.PROMOTIONAL,
    Category.PROMOTIONAL: Lane.PROMOTIONAL,
}


def lane_of(category: Category) -> Lane:
    return _LANE_BY_CATEGORY[category]


@lru_cache(maxsize=4_096)
def subject(domain: str, event: str, *tokens: str, major: int = 1) -> str:
    """Join a subject. There are few, and every event has one: lanes, channels and carriers, not messages.

    Raises:
        ValueError: a token could be read as more than one, or as a wildcard.
    """
    for token in tokens:
        if not _TOKEN.fullmatch(token):
            raise ValueError(f"a subject's token has letters, digits, - and _ only, at most 400: {token[:64]!r}")
    return ".".join((domain, f"v{major}", event, *tokens))


@lru_cache(maxsize=4_096)
def key_token(key: str) -> str:
    """Turn any key into one subject token; readable keys stay readable, others become base 32 after `=`-less `x_`."""
    if _TOKEN.fullmatch(key) and not key.startswith("x_"):
        return key
    return "x_" + base64.b32encode(key.encode()).decode().rstrip("=")
