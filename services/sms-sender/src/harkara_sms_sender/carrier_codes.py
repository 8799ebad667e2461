"""What a carrier's codes mean: one frozen table, keyed by (carrier, code), `DEFAULT` standing for every carrier.

The same number can mean different things at different operators, so a carrier's own entry goes before the default one.
A code nobody has listed is no error: what it came with (a refusal, a receipt's state) still has a meaning, and the caller
counts it so that somebody lists it.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from harkara_contracts.errors import ErrorCode
from harkara_smpp import CommandStatus, MessageState

DEFAULT: Final = "*"


class Meaning(NamedTuple):
    """What a code says in our words. `retriable`: the fault is the carrier's, so another one may be tried."""

    error_code: ErrorCode
    retriable: bool
    description: str


class Verdict(NamedTuple):
    """A meaning, the code as the carrier wrote it, and whether the table knew it."""

    meaning: Meaning
    carrier_code: str
    known: bool


_Key = tuple[str, str]


def _permanent(error_code: ErrorCode, description: str) -> Meaning:
    return Meaning(error_code, retriable=False, description=description)


def _passing(description: str) -> Meaning:
    return Meaning(ErrorCode.CARRIER_UNAVAILABLE, retriable=True, description=description)


_REFUSED = _permanent(ErrorCode.CARRIER_REJECTED, "The carrier refused the message.")
_BUSY = _passing("The carrier could not take the message now.")
_CONFIGURATION = _permanent(ErrorCode.CARRIER_REJECTED, "The carrier does not accept the message's settings.")
_DLT_PARAMETER = _permanent(
    ErrorCode.CARRIER_REJECTED, "The carrier found a DLT parameter missing or wrong in the message."
)
UNAVAILABLE: Final = _passing("The carrier's connection was not available.")
NOT_ENCODABLE: Final = _permanent(ErrorCode.CARRIER_REJECTED, "The message does not fit the carrier's protocol.")
EXPIRED_HERE: Final = _permanent(ErrorCode.EXPIRED, "The message's validity ended before the carrier could take it.")

_STATUSES: dict[int, Meaning] = {
    CommandStatus.ESME_RINVMSGLEN: _permanent(ErrorCode.MESSAGE_TOO_LONG, "The carrier finds the message too long."),
    CommandStatus.ESME_RINVBNDSTS: _BUSY,
    CommandStatus.ESME_RALYBND: _BUSY,
    CommandStatus.ESME_RSYSERR: _BUSY,
    CommandStatus.ESME_RINVSRCADR: _permanent(
        ErrorCode.SENDER_NOT_REGISTERED, "The sender is not registered with the carrier."
    ),
    CommandStatus.ESME_RINVDSTADR: _permanent(ErrorCode.INVALID_MOBILE, "The carrier does not know the number."),
    CommandStatus.ESME_RMSGQFUL: _BUSY,
    CommandStatus.ESME_RSUBMITFAIL: _BUSY,
    CommandStatus.ESME_RTHROTTLED: _BUSY,
    CommandStatus.ESME_RX_T_APPN: _BUSY,
    CommandStatus.ESME_RX_P_APPN: _REFUSED,
    CommandStatus.ESME_RX_R_APPN: _REFUSED,
    CommandStatus.ESME_RDELIVERYFAILURE: _BUSY,
    CommandStatus.ESME_RUNKNOWNERR: _BUSY,
    **dict.fromkeys(
        (
            CommandStatus.ESME_RINVPRTFLG,
            CommandStatus.ESME_RINVREGDLVFLG,
            CommandStatus.ESME_RINVSERTYP,
            CommandStatus.ESME_RINVNUMDESTS,
            CommandStatus.ESME_RINVDLNAME,
            CommandStatus.ESME_RINVDESTFLAG,
            CommandStatus.ESME_RINVSUBREP,
            CommandStatus.ESME_RINVESMCLASS,
            CommandStatus.ESME_RCNTSUBDL,
            CommandStatus.ESME_RINVSRCTON,
            CommandStatus.ESME_RINVSRCNPI,
            CommandStatus.ESME_RINVDSTTON,
            CommandStatus.ESME_RINVDSTNPI,
            CommandStatus.ESME_RINVSYSTYP,
            CommandStatus.ESME_RINVREPFLAG,
            CommandStatus.ESME_RINVNUMMSGS,
            CommandStatus.ESME_RINVSCHED,
            CommandStatus.ESME_RINVEXPIRY,
            CommandStatus.ESME_RINVDFTMSGID,
        ),
        _CONFIGURATION,
    ),
    **dict.fromkeys(
        (
            CommandStatus.ESME_RINVOPTPARSTREAM,
            CommandStatus.ESME_ROPTPARNOTALLWD,
            CommandStatus.ESME_RINVPARLEN,
            CommandStatus.ESME_RMISSINGOPTPARAM,
            CommandStatus.ESME_RINVOPTPARAMVAL,
        ),
        _DLT_PARAMETER,
    ),
}


def _numbers(text: str) -> Iterable[str]:
    """Expand `600 610-612` to 600, 610, 611, 612."""
    for word in text.split():
        first, _, last = word.partition("-")
        for number in range(int(first), int(last or first) + 1):
            yield str(number)


# Causes of the mobile network (3GPP TS 29.002 §17.6.6 as receipts number them), leading zeros dropped.
_NETWORK_CAUSES: tuple[tuple[str, Meaning], ...] = (
    ("1 5 9 12", _permanent(ErrorCode.NUMBER_INACTIVE, "The number is not in service.")),
    ("6 27 28 31 33", _permanent(ErrorCode.HANDSET_UNREACHABLE, "The handset could not be reached.")),
    (
        "32",
        _permanent(ErrorCode.HANDSET_UNREACHABLE, "The handset could not take the message, its memory may be full."),
    ),
    ("10 11 13 21", _permanent(ErrorCode.CARRIER_REJECTED, "The number does not accept this kind of message.")),
    ("34 36 255", _passing("The mobile network had a fault.")),
)

# Codes of operators and their DLT scrubbing: 4xx and 9xxx various, 5xxx and 7xxx Vi, 6xx common to all, 8xx Airtel.
_OPERATOR_CODES: tuple[tuple[str, Meaning], ...] = (
    (
        "600-602 604 605 620 621 623 634 802 804 5201 5203-5205 5210 7001 7003-7005 421 422 424 430 442 9026",
        _permanent(ErrorCode.SENDER_NOT_REGISTERED, "The sender or its entity is not registered on DLT."),
    ),
    (
        "603 622 624 625 446-448 454 803 5202 5213-5215 7002 415 423",
        _permanent(ErrorCode.SENDER_SUSPENDED, "The sender or its entity is suspended on DLT."),
    ),
    (
        "630 631 636 637 805 5301 5304 5306 5308 5311 426 427 432 433 443 9025",
        _permanent(ErrorCode.TEMPLATE_NOT_FOUND, "The template is not registered on DLT for this sender."),
    ),
    (
        "633 635 666 642 700 701 429 431 434 497-499 5303 5307 5312 5901-5903",
        _permanent(ErrorCode.DLT_TEMPLATE_MISMATCH, "The text does not match its DLT template."),
    ),
    (
        "632 428 449-451 5302 5309 5313-5315",
        _permanent(ErrorCode.DLT_TEMPLATE_SUSPENDED, "The template is suspended on DLT."),
    ),
    (
        "683 687 435 436 457 5206 5207 5305 5404-5406",
        _permanent(
            ErrorCode.TEMPLATE_CATEGORY_MISMATCH, "The template's category does not fit the sender or the message."
        ),
    ),
    (
        "650 652 437 439 5101 5103-5106 5110",
        _permanent(ErrorCode.DND_SUBSCRIBER, "The subscriber's preferences block this message."),
    ),
    (
        "651 438 5107 5108",
        _permanent(ErrorCode.OUTSIDE_PROMO_WINDOW, "Promotional messages may only be sent from 10:00 to 21:00."),
    ),
    ("660 440 5501-5508", _permanent(ErrorCode.CONSENT_REQUIRED, "The subscriber's consent is not on record.")),
    (
        "610-618 677 678 680 811-813 458-462 5601-5606 417-419 9024",
        _permanent(ErrorCode.DLT_CHAIN_INVALID, "The chain of entity and telemarketers is not registered on DLT."),
    ),
    ("444 456 5310 9027", _passing("The operator did not receive all parts of the message.")),
    ("441 455 500 502 503 9008 9016 9020", _passing("The operator's checks were not available.")),
)

_STATES: Mapping[MessageState | None, Meaning] = MappingProxyType(
    {
        MessageState.EXPIRED: _permanent(ErrorCode.EXPIRED, "The handset was not reached while the message was valid."),
        MessageState.DELETED: _permanent(ErrorCode.CARRIER_REJECTED, "The carrier deleted the message."),
        MessageState.UNDELIV: _permanent(ErrorCode.HANDSET_UNREACHABLE, "The carrier could not deliver the message."),
        MessageState.REJECTD: _REFUSED,
    }
)

# Words some carriers put in place of, or beside, a code.
_WORDS: tuple[tuple[str, Meaning], ...] = (
    ("ABSENT", _permanent(ErrorCode.HANDSET_UNREACHABLE, "The handset could not be reached.")),
    ("INVALID-SUB", _permanent(ErrorCode.NUMBER_INACTIVE, "The number is not in service.")),
    ("INVALID SUB", _permanent(ErrorCode.NUMBER_INACTIVE, "The number is not in service.")),
    ("UNKNOWN SUBSCRIBER", _permanent(ErrorCode.NUMBER_INACTIVE, "The number is not in service.")),
    ("NDNC", _permanent(ErrorCode.DND_SUBSCRIBER, "The subscriber's preferences block this message.")),
    ("DND", _permanent(ErrorCode.DND_SUBSCRIBER, "The subscriber's preferences block this message.")),
    ("INBOX FULL", _permanent(ErrorCode.HANDSET_UNREACHABLE, "The handset's memory is full.")),
    ("BLACKLIST", _permanent(ErrorCode.CARRIER_REJECTED, "The carrier has the number on its block list.")),
)

# Where one carrier's code means something else than everywhere: ("carrier", "code") -> Meaning.
_CARRIERS_OWN: dict[_Key, Meaning] = {}

STATUS_TABLE: Mapping[_Key, Meaning] = MappingProxyType(
    {(DEFAULT, str(int(status))): meaning for status, meaning in _STATUSES.items()} | _CARRIERS_OWN
)
OPERATOR_TABLE: Mapping[_Key, Meaning] = MappingProxyType(
    {(DEFAULT, code): meaning for codes, meaning in _OPERATOR_CODES for code in _numbers(codes)} | _CARRIERS_OWN
)
NETWORK_TABLE: Mapping[_Key, Meaning] = MappingProxyType(
    {(DEFAULT, code): meaning for codes, meaning in _NETWORK_CAUSES for code in _numbers(codes)}
)
_FIRST_VENDOR_STATUS = 0x100
"""Statuses above the specification's own: Indian operators put their DLT codes here, as plain numbers."""


def _look_up(table: Mapping[_Key, Meaning], carrier: str, code: str) -> Meaning | None:
    return table.get((carrier, code)) or table.get((DEFAULT, code))


def of_status(carrier: str, command_status: int) -> Verdict:
    """Return what a submit_sm_resp's status means; an unknown one is a refusal (SMPP 3.4 §5.1.3)."""
    code = str(command_status)
    meaning = _look_up(STATUS_TABLE, carrier, code)
    if meaning is None and command_status >= _FIRST_VENDOR_STATUS:
        meaning = _look_up(OPERATOR_TABLE, carrier, code)
    return Verdict(meaning or _REFUSED, code, known=meaning is not None)


def of_receipt(carrier: str, state: MessageState | None, error_code: str, text: str = "") -> Verdict:
    """Return what a failed receipt means: the operator's code if it has one, then the network's, then words, then the state.

    A network cause under EXPIRED says why the last try failed; the message's fate is still that its validity ended.
    """
    code = error_code.lstrip("0")
    meaning = _look_up(OPERATOR_TABLE, carrier, code) if code else None
    if meaning is None and code and state is not MessageState.EXPIRED:
        meaning = _look_up(NETWORK_TABLE, carrier, code)
    known = meaning is not None or not code or (DEFAULT, code) in NETWORK_TABLE
    if meaning is None:
        words = f"{error_code} {text}".upper()
        meaning = next((meaning for word, meaning in _WORDS if word in words), None)
        known = known or meaning is not None
    return Verdict(meaning or _STATES.get(state, _REFUSED), error_code or (state.name if state else ""), known)
