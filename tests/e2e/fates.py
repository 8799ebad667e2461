"""The numbers with a fixed fate: what becomes of a message to each, and one message to each of them."""

from dataclasses import dataclass

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
    # No receipt ever comes: the message ends with its validity, and the carrier did its work.
    "silent": Fate("expired", "ERR_EXPIRED", None, timeout_s=75.0),
}
SHORTEST_VALIDITY_S = 30


@dataclass(frozen=True)
class Sent:
    """One message to each number. `message_ids` and `numbers` by the fate's name."""

    account: Account
    inbox: Inbox
    message_ids: dict[str, str]
    numbers: dict[str, str]


def send_to_each_fate(account: Account, inbox: Inbox, numbers: dict[str, str]) -> Sent:
    account.webhook(inbox)
    message_ids = {}
    for name, number in numbers.items():
        validity = SHORTEST_VALIDITY_S if name == "silent" else None
        accepted = account.accepted(number, correlation_id=f"fate-{name}", validity_seconds=validity)
        message_ids[name] = accepted["message_id"]
    return Sent(account, inbox, message_ids, numbers)
