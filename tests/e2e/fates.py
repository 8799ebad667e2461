"""The numbers with a fixed fate: what becomes of a message to each, and one message to each of them."""

from dataclasses import dataclass
from typing import Any

from tests.e2e.client import Account
from tests.e2e.receiver import Inbox

PAISE_A_PART = 22


@dataclass(frozen=True)
class Fate:
    """How it ends: the final state, the error in webhook and status, the carrier's own code, and what it cost."""

    state: str
    error_code: str | None
    carrier_code: str | None
    paise: int = PAISE_A_PART
    timeout_s: float = 15.0


FATES = {
    "delivered": Fate("delivered", None, "000"),
    "throttled_once": Fate("delivered", None, "000"),
    "slow": Fate("delivered", None, "000", timeout_s=40.0),
    # The carrier did its work, and is paid.
    "failed_absent": Fate("failed", "ERR_HANDSET_UNREACHABLE", "027"),
    "failed_inactive": Fate("failed", "ERR_NUMBER_INACTIVE", "001"),
    "expired": Fate("failed", "ERR_EXPIRED", "027"),
    # Filtered on the way, or never taken.
    "failed_dnd": Fate("failed", "ERR_DND_SUBSCRIBER", "650", paise=0),
    "failed_template": Fate("failed", "ERR_DLT_TEMPLATE_MISMATCH", "633", paise=0),
    "failed_rejected": Fate("failed", "ERR_INVALID_MOBILE", "ESME_RINVDSTADR", paise=0),
    "failed_too_long": Fate("failed", "ERR_MESSAGE_TOO_LONG", "ESME_RINVMSGLEN", paise=0),
    "failed_sender": Fate("failed", "ERR_SENDER_NOT_REGISTERED", "600", paise=0),
    "failed_sender_suspended": Fate("failed", "ERR_SENDER_SUSPENDED", "603", paise=0),
    "failed_template_unknown": Fate("failed", "ERR_TEMPLATE_NOT_FOUND", "630", paise=0),
    "failed_template_suspended": Fate("failed", "ERR_DLT_TEMPLATE_SUSPENDED", "632", paise=0),
    "failed_category": Fate("failed", "ERR_TEMPLATE_CATEGORY_MISMATCH", "683", paise=0),
    "failed_chain": Fate("failed", "ERR_DLT_CHAIN_INVALID", "610", paise=0),
    "failed_consent": Fate("failed", "ERR_CONSENT_REQUIRED", "660", paise=0),
    "failed_window": Fate("failed", "ERR_OUTSIDE_PROMO_WINDOW", "651", paise=0),
    "failed_barred": Fate("failed", "ERR_CARRIER_REJECTED", "010", paise=0),
    "failed_network": Fate("failed", "ERR_CARRIER_UNAVAILABLE", "034", paise=0),
    # No receipt ever comes: the message ends with its validity, and the carrier did its work, or may have.
    "silent": Fate("expired", "ERR_EXPIRED", None, timeout_s=75.0),
    "unanswered": Fate("expired", "ERR_EXPIRED", None, timeout_s=75.0),
}
SHORTEST_VALIDITY_S = 30


@dataclass(frozen=True)
class Sent:
    """One message to each number. `message_ids` and `numbers` by the fate's name."""

    account: Account
    inbox: Inbox
    message_ids: dict[str, str]
    numbers: dict[str, str]


def send_to_each_fate(account: Account, inbox: Inbox, numbers: dict[str, str], **changes: Any) -> Sent:
    """Send the shipping message, changed as `changes` say, to every number with a fixed fate."""
    account.webhook(inbox)
    message_ids = {}
    for name, number in numbers.items():
        validity = SHORTEST_VALIDITY_S if FATES[name].state == "expired" else None
        accepted = account.accepted(number, correlation_id=f"fate-{name}", validity_seconds=validity, **changes)
        message_ids[name] = accepted["message_id"]
    return Sent(account, inbox, message_ids, numbers)
