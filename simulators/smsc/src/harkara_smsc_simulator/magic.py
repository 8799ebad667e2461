"""Numbers with a fixed fate, so that every outcome can be tried by hand. Every other number is delivered.

The error codes are the ones an Indian operator's receipts carry: GSM MAP causes as three digits, DLT refusals by their
own.
"""

from dataclasses import dataclass
from enum import Enum

from harkara_smpp import CommandStatus, MessageState


class Special(Enum):
    """Fates that are more than a receipt's state."""

    SILENT = "silent"
    UNANSWERED = "unanswered"
    """Taken, but neither response nor receipt ever says so."""
    THROTTLED_ONCE = "throttled_once"


@dataclass(frozen=True, slots=True)
class Fate:
    """What happens to a message: refused with `command_status`, or taken and reported after `delay_s` more."""

    state: MessageState = MessageState.DELIVRD
    error_code: str = "000"
    delay_s: float = 0.0
    command_status: int = 0
    special: Special | None = None


_FATES: dict[str, tuple[str, Fate]] = {
    "delivered": ("919999900001", Fate()),
    "failed_absent": ("919999900002", Fate(MessageState.UNDELIV, "027")),
    "failed_inactive": ("919999900003", Fate(MessageState.UNDELIV, "001")),
    "failed_dnd": ("919999900004", Fate(MessageState.UNDELIV, "650")),
    "failed_rejected": ("919999900005", Fate(command_status=CommandStatus.ESME_RINVDSTADR)),
    "failed_template": ("919999900006", Fate(MessageState.REJECTD, "633")),
    "expired": ("919999900007", Fate(MessageState.EXPIRED, "027")),
    "silent": ("919999900008", Fate(special=Special.SILENT)),
    "slow": ("919999900009", Fate(delay_s=20.0)),
    "throttled_once": ("919999900010", Fate(special=Special.THROTTLED_ONCE)),
    "failed_sender": ("919999900011", Fate(MessageState.REJECTD, "600")),
    "failed_sender_suspended": ("919999900012", Fate(MessageState.REJECTD, "603")),
    "failed_template_unknown": ("919999900013", Fate(MessageState.REJECTD, "630")),
    "failed_template_suspended": ("919999900014", Fate(MessageState.REJECTD, "632")),
    "failed_category": ("919999900015", Fate(MessageState.REJECTD, "683")),
    "failed_chain": ("919999900016", Fate(MessageState.REJECTD, "610")),
    "failed_consent": ("919999900017", Fate(MessageState.UNDELIV, "660")),
    "failed_window": ("919999900018", Fate(MessageState.UNDELIV, "651")),
    "failed_barred": ("919999900019", Fate(MessageState.UNDELIV, "010")),
    "failed_network": ("919999900020", Fate(MessageState.UNDELIV, "034")),
    "failed_too_long": ("919999900021", Fate(command_status=CommandStatus.ESME_RINVMSGLEN)),
    "unanswered": ("919999900022", Fate(special=Special.UNANSWERED)),
}

MAGIC_NUMBERS: dict[str, str] = {name: number for name, (number, _) in _FATES.items()}

FATES: dict[bytes, Fate] = {number.encode(): fate for number, fate in _FATES.values()}
