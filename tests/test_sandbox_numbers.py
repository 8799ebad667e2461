"""The numbers with a known fate: what the API promises of them is what the simulator does and the sender makes of it."""

from harkara_contracts.errors import ErrorCode
from harkara_registry import SANDBOX_NUMBERS
from harkara_smpp import MessageState
from harkara_sms_sender.carrier_codes import NETWORK_TABLE, OPERATOR_TABLE, STATUS_TABLE, of_receipt, of_status
from harkara_smsc_simulator.magic import FATES, MAGIC_NUMBERS, Fate, Special


def error_of(fate: Fate) -> ErrorCode | None:
    if fate.command_status:
        return of_status("sandbox", fate.command_status).meaning.error_code
    if fate.special in {Special.SILENT, Special.UNANSWERED}:
        return ErrorCode.EXPIRED
    if fate.state is MessageState.DELIVRD:
        return None
    return of_receipt("sandbox", fate.state, fate.error_code).meaning.error_code


def test_they_are_the_simulators() -> None:
    assert {one.name: one.number for one in SANDBOX_NUMBERS} == MAGIC_NUMBERS


def test_each_ends_as_it_says() -> None:
    for one in SANDBOX_NUMBERS:
        fate = FATES[one.number.encode()]
        assert one.error_code == error_of(fate), one.name
        ends_by_itself = fate.special not in {Special.SILENT, Special.UNANSWERED}
        expected = "delivered" if one.error_code is None else "failed" if ends_by_itself else "expired"
        assert one.state == expected, one.name


def test_every_error_of_a_carrier_can_be_tried() -> None:
    tables = (STATUS_TABLE, OPERATOR_TABLE, NETWORK_TABLE)
    of_carriers = {meaning.error_code for table in tables for meaning in table.values()}
    assert of_carriers <= {one.error_code for one in SANDBOX_NUMBERS}
