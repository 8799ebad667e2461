import hashlib
import hmac

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from harkara_chassis.clock import now_utc
from harkara_webhook_dispatcher.signature import SigningKey, new_secret, signature_headers

BODY = '{"event":"message.delivered","to":"+91","text":"₹5"}'.encode()


def signed(*secrets: str) -> dict[str, str]:
    """Secrets newest first."""
    keys = [SigningKey.of(secret) for secret in secrets]
    return signature_headers("X-TechTo", "DL1", int(now_utc().timestamp()), BODY, keys)


def plain(secret: str) -> str:
    return "sha256=" + hmac.new(secret.encode("utf-8"), BODY, hashlib.sha256).hexdigest()


def test_both_recipes_verify_with_the_one_displayed_secret() -> None:
    secret = new_secret()
    headers = signed(secret)
    assert headers["X-TechTo-Signature"] == plain(secret)
    assert Webhook(secret).verify(BODY, headers) == {"event": "message.delivered", "to": "+91", "text": "₹5"}


def test_another_secret_or_body_does_not_verify() -> None:
    headers = signed(new_secret())
    with pytest.raises(WebhookVerificationError):
        Webhook(new_secret()).verify(BODY, headers)
    secret = new_secret()
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(BODY + b" ", signed(secret))


def test_during_rotation_both_secrets_verify_and_the_single_header_stays_with_the_older() -> None:
    older, newer = new_secret(), new_secret()
    headers = signed(newer, older)
    assert len(headers["webhook-signature"].split(" ")) == 2
    assert Webhook(older).verify(BODY, headers)
    assert Webhook(newer).verify(BODY, headers)
    assert headers["X-TechTo-Signature"] == plain(older)


def test_a_secret_is_32_random_bytes() -> None:
    assert len(SigningKey.of(new_secret()).decoded) == 32
    assert new_secret() != new_secret()


@pytest.mark.parametrize("text", ["", "secret", "whsec_not base64!"])
def test_a_malformed_secret_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # base64's and ours are both meant
        SigningKey.of(text)


def test_a_key_is_not_shown_by_its_repr() -> None:
    secret = new_secret()
    assert secret not in repr(SigningKey.of(secret))
