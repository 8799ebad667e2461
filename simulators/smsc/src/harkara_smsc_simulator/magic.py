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
}

MAGIC_NUMBERS: dict[str, str] = {name: number for name, (number, _) in _FATES.items()}

FATES: dict[bytes, Fate] = {number.encode(): fate for number, fate in _FATES.values()}
