import pytest

from harkara_contracts.errors import ErrorCode
from harkara_smpp import CommandStatus, MessageState
from harkara_sms_sender import carrier_codes
from harkara_sms_sender.carrier_codes import DEFAULT, of_receipt, of_status
from harkara_smsc_simulator.magic import FATES, MAGIC_NUMBERS

UNDELIV, REJECTD, EXPIRED = MessageState.UNDELIV, MessageState.REJECTD, MessageState.EXPIRED


@pytest.mark.parametrize(
    ("status", "error_code", "retriable"),
    [
        (0x01, ErrorCode.MESSAGE_TOO_LONG, False),
        (0x04, ErrorCode.CARRIER_UNAVAILABLE, True),
        (0x08, ErrorCode.CARRIER_UNAVAILABLE, True),
        (0x0A, ErrorCode.SENDER_NOT_REGISTERED, False),
        (0x0B, ErrorCode.INVALID_MOBILE, False),
        (0x14, ErrorCode.CARRIER_UNAVAILABLE, True),
        (0x45, ErrorCode.CARRIER_UNAVAILABLE, True),
        (0x48, ErrorCode.CARRIER_REJECTED, False),
        (0x58, ErrorCode.CARRIER_UNAVAILABLE, True),
        (0x62, ErrorCode.CARRIER_REJECTED, False),
        (0x64, ErrorCode.CARRIER_UNAVAILABLE, True),
        (0x65, ErrorCode.CARRIER_REJECTED, False),
        (0xC3, ErrorCode.CARRIER_REJECTED, False),
        (0xFE, ErrorCode.CARRIER_UNAVAILABLE, True),
        (633, ErrorCode.DLT_TEMPLATE_MISMATCH, False),
        (5501, ErrorCode.CONSENT_REQUIRED, False),
    ],
)
def test_a_submit_status_has_a_meaning(status: int, error_code: ErrorCode, retriable: bool) -> None:
    verdict = of_status("jio", status)
    assert (verdict.meaning.error_code, verdict.meaning.retriable) == (error_code, retriable)
    assert verdict.known
    assert verdict.meaning.description.endswith(".")


@pytest.mark.parametrize(
    ("state", "code", "text", "error_code", "retriable"),
    [
        (UNDELIV, "600", "", ErrorCode.SENDER_NOT_REGISTERED, False),
        (UNDELIV, "603", "", ErrorCode.SENDER_SUSPENDED, False),
        (UNDELIV, "630", "", ErrorCode.TEMPLATE_NOT_FOUND, False),
        (REJECTD, "633", "", ErrorCode.DLT_TEMPLATE_MISMATCH, False),
        (UNDELIV, "632", "", ErrorCode.DLT_TEMPLATE_SUSPENDED, False),
        (UNDELIV, "683", "", ErrorCode.TEMPLATE_CATEGORY_MISMATCH, False),
        (UNDELIV, "650", "", ErrorCode.DND_SUBSCRIBER, False),
        (UNDELIV, "651", "", ErrorCode.OUTSIDE_PROMO_WINDOW, False),
        (UNDELIV, "5508", "", ErrorCode.CONSENT_REQUIRED, False),
        (UNDELIV, "617", "", ErrorCode.DLT_CHAIN_INVALID, False),
        (UNDELIV, "5310", "", ErrorCode.CARRIER_UNAVAILABLE, True),
        (UNDELIV, "9016", "", ErrorCode.CARRIER_UNAVAILABLE, True),
        (UNDELIV, "0650", "", ErrorCode.DND_SUBSCRIBER, False),
        (UNDELIV, "001", "", ErrorCode.NUMBER_INACTIVE, False),
        (UNDELIV, "027", "", ErrorCode.HANDSET_UNREACHABLE, False),
        (UNDELIV, "034", "", ErrorCode.CARRIER_UNAVAILABLE, True),
        (EXPIRED, "027", "", ErrorCode.EXPIRED, False),
        (EXPIRED, "650", "", ErrorCode.DND_SUBSCRIBER, False),
        (UNDELIV, "", "ABSENT-SUB", ErrorCode.HANDSET_UNREACHABLE, False),
        (UNDELIV, "000", "Invalid-Sub", ErrorCode.NUMBER_INACTIVE, False),
        (REJECTD, "", "NDNC REJECTED", ErrorCode.DND_SUBSCRIBER, False),
        (REJECTD, "000", "", ErrorCode.CARRIER_REJECTED, False),
        (UNDELIV, "000", "", ErrorCode.HANDSET_UNREACHABLE, False),
        (MessageState.DELETED, "", "", ErrorCode.CARRIER_REJECTED, False),
    ],
)
def test_a_receipt_has_a_meaning(
    state: MessageState, code: str, text: str, error_code: ErrorCode, retriable: bool
) -> None:
    verdict = of_receipt("jio", state, code, text)
    assert (verdict.meaning.error_code, verdict.meaning.retriable) == (error_code, retriable)
    assert verdict.known


def test_an_unknown_code_means_what_it_came_with_and_says_that_it_is_unknown() -> None:
    status = of_status("jio", 0x4FF)
    assert (status.meaning.error_code, status.carrier_code, status.known) == (
        ErrorCode.CARRIER_REJECTED,
        str(0x4FF),
        False,
    )
    receipt = of_receipt("jio", UNDELIV, "Z99")
    assert (receipt.meaning.error_code, receipt.carrier_code, receipt.known) == (
        ErrorCode.HANDSET_UNREACHABLE,
        "Z99",
        False,
    )


def test_a_carriers_own_entry_goes_before_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    own = carrier_codes.Meaning(ErrorCode.NUMBER_INACTIVE, retriable=False, description="Ported out.")
    table = {**carrier_codes.OPERATOR_TABLE, ("vi", "611"): own}
    monkeypatch.setattr(carrier_codes, "OPERATOR_TABLE", table)
    assert of_receipt("vi", UNDELIV, "611").meaning is own
    assert of_receipt("jio", UNDELIV, "611").meaning.error_code is ErrorCode.DLT_CHAIN_INVALID


def test_the_tables_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        carrier_codes.STATUS_TABLE[DEFAULT, "1"] = carrier_codes.UNAVAILABLE  # type: ignore[index]


def test_no_operator_code_is_listed_twice() -> None:
    listed = [code for codes, _ in carrier_codes._OPERATOR_CODES for code in carrier_codes._numbers(codes)]
    assert len(listed) == len(set(listed))


def test_every_refusal_of_the_specification_is_listed() -> None:
    # What answers another kind of request, or a broken session, never answers a submit_sm.
    others = {"ROK", "INVMSGID", "BINDFAIL", "INVPASWD", "INVSYSID", "CANCELFAIL", "REPLACEFAIL", "QUERYFAIL"}
    broken = {"INVCMDLEN", "INVCMDID"}
    for status in CommandStatus:
        name = status.name.removeprefix("ESME_").removeprefix("R")
        if name not in others | broken and status.name != "ESME_ROK":
            assert of_status("jio", status).known, status.name


def test_every_magic_number_of_the_simulator_has_a_listed_code() -> None:
    for name, number in MAGIC_NUMBERS.items():
        fate = FATES[number.encode()]
        if fate.command_status:
            assert of_status("jio", fate.command_status).known, name
        elif fate.state is not MessageState.DELIVRD:
            assert of_receipt("jio", fate.state, fate.error_code).known, name
