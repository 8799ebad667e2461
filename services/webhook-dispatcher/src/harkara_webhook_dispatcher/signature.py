"""Two signatures beside each other, so that a client verifies with whichever recipe it has.

`<prefix>-Signature: sha256=<hex>` is HMAC-SHA256 of the raw body; its key is the displayed secret as it stands, `whsec_`
included. `webhook-signature` is Standard Webhooks 1.0: HMAC-SHA256 of `<id>.<timestamp>.<body>`; its key is the part of
the secret after `whsec_`, decoded from base64.

While two secrets live together, `webhook-signature` lists one signature for each. The prefixed header can hold only one:
it stays with the older secret until the overlap ends, so a client that has not taken the new secret yet keeps working,
and one that has verifies by the list, or waits for the end of the overlap to switch.
"""

import base64
import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

_PREFIX = "whsec_"
_SECRET_BYTES = 32  # Standard Webhooks asks for 24 to 64


@dataclass(frozen=True, slots=True, repr=False)
class SigningKey:
    """One secret in the two forms it signs with."""

    displayed: bytes
    decoded: bytes

    @classmethod
    def of(cls, secret: str) -> "SigningKey":
        """Take a displayed secret.

        Raises:
            ValueError: the text is not `whsec_` and base64.
        """
        if not secret.startswith(_PREFIX):
            raise ValueError(f"a webhook secret starts with {_PREFIX}")
        return cls(secret.encode(), base64.b64decode(secret.removeprefix(_PREFIX), validate=True))


def new_secret() -> str:
    return _PREFIX + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()


def signature_headers(
    prefix: str, delivery_id: str, timestamp_s: int, body: bytes, keys: Sequence[SigningKey]
) -> dict[str, str]:
    """Return the headers that prove a body ours.

    `keys` are the living ones, newest first. `delivery_id` is the same on every retry and holds no full stop;
    `timestamp_s` is the Unix time of this attempt.
    """
    signed = b"%s.%d.%s" % (delivery_id.encode(), timestamp_s, body)
    return {
        f"{prefix}-Signature": "sha256=" + hmac.digest(keys[-1].displayed, body, "sha256").hex(),
        "webhook-id": delivery_id,
        "webhook-timestamp": str(timestamp_s),
        "webhook-signature": " ".join(
            ["v1," + base64.b64encode(hmac.digest(key.decoded, signed, "sha256")).decode() for key in keys]
        ),
    }
