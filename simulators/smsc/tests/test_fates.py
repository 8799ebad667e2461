"""What happens to messages: magic numbers and settable behaviour, seen by a real ESME."""

import asyncio
import re
from typing import Any

import pytest

from harkara_smpp import (
    Accepted,
    CommandStatus,
    IdRule,
    MessageState,
    QueryFailedError,
    QuerySm,
    Rejected,
    Throttled,
    Unknown,
    receipt_key,
    response_key,
)
from harkara_smsc_simulator.behaviour import Behaviour, BehaviourError, behaviour_from_environment
from harkara_smsc_simulator.magic import MAGIC_NUMBERS


def test_magic_numbers_are_indian_mobile_numbers() -> None:
    assert len(set(MAGIC_NUMBERS.values())) == len(MAGIC_NUMBERS)
    assert all(re.fullmatch(r"91[6-9]\d{9}", number) for number in MAGIC_NUMBERS.values())


@pytest.mark.parametrize(
    ("name", "state", "error_code"),
    [
        ("delivered", MessageState.DELIVRD, "000"),
        ("failed_absent", MessageState.UNDELIV, "027"),
        ("failed_inactive", MessageState.UNDELIV, "001"),
        ("failed_dnd", MessageState.UNDELIV, "650"),
        ("failed_template", MessageState.REJECTD, "633"),
        ("failed_sender", MessageState.REJECTD, "600"),
        ("failed_sender_suspended", MessageState.REJECTD, "603"),
        ("failed_template_unknown", MessageState.REJECTD, "630"),
        ("failed_template_suspended", MessageState.REJECTD, "632"),
        ("failed_category", MessageState.REJECTD, "683"),
        ("failed_chain", MessageState.REJECTD, "610"),
        ("failed_consent", MessageState.UNDELIV, "660"),
        ("failed_window", MessageState.UNDELIV, "651"),
        ("failed_barred", MessageState.UNDELIV, "010"),
        ("failed_network", MessageState.UNDELIV, "034"),
        ("expired", MessageState.EXPIRED, "027"),
        ("throttled_once", MessageState.DELIVRD, "000"),
    ],
)
async def test_a_magic_number_has_its_receipt(carrier: Any, name: str, state: MessageState, error_code: str) -> None:
    outcome = await carrier.send(name, MAGIC_NUMBERS[name])
    await carrier.until(lambda: carrier.receipts)
    (receipt,) = carrier.receipts
    assert receipt.message_id == outcome.message_id
    assert (receipt.state, receipt.error_code) == (state, error_code)


async def test_magic_numbers_without_receipt(carrier: Any, simulator: Any) -> None:
    assert await carrier.send("rejected", MAGIC_NUMBERS["failed_rejected"]) == Rejected(CommandStatus.ESME_RINVDSTADR)
    assert await carrier.send("too long", MAGIC_NUMBERS["failed_too_long"]) == Rejected(CommandStatus.ESME_RINVMSGLEN)
    assert isinstance(await carrier.send("silent", MAGIC_NUMBERS["silent"]), Accepted)
    assert len(simulator.engine.receipts_to_come) == 0
    assert isinstance(await carrier.send("slow", MAGIC_NUMBERS["slow"]), Accepted)
    assert len(simulator.engine.receipts_to_come) == 1
    await carrier.send("other")
    await carrier.until(lambda: carrier.receipts)
    assert len(carrier.receipts) == 1


async def test_the_unanswered_is_taken_without_a_word(new_carrier: Any, simulator: Any) -> None:
    carrier = await new_carrier(response_timeout_s=0.1)
    assert isinstance(await carrier.send("it", MAGIC_NUMBERS["unanswered"]), Unknown)
    assert simulator.engine.of("carrier").accepted == 1
    assert len(simulator.engine.receipts_to_come) == 0
    assert isinstance(await carrier.send("next"), Accepted)


async def test_throttled_once_throttles_each_message_once(new_carrier: Any) -> None:
    carrier = await new_carrier(max_throttles=0)
    outcomes = [await carrier.send(number, MAGIC_NUMBERS["throttled_once"]) for number in range(4)]
    assert [type(outcome) for outcome in outcomes] == [Throttled, Accepted, Throttled, Accepted]


@pytest.mark.parametrize(
    ("registered_delivery", "to", "expected"),
    [
        (0, "delivered", 0),
        (1, "delivered", 1),
        (2, "delivered", 0),
        (2, "failed_absent", 1),
    ],
)
async def test_receipts_come_as_they_were_asked_for(
    carrier: Any, simulator: Any, registered_delivery: int, to: str, expected: int
) -> None:
    await carrier.send("it", MAGIC_NUMBERS[to], registered_delivery=registered_delivery)
    assert simulator.engine.of("carrier").receipts == expected


async def test_refusals_by_fraction(new_carrier: Any, simulator: Any) -> None:
    carrier = await new_carrier(max_throttles=0)
    behaviours = simulator.engine.behaviours
    behaviours.change({"error_fraction": 1.0, "error_status": 0x401})
    assert await carrier.send("vendor") == Rejected(0x401)
    behaviours.change({"error_fraction": 0.0, "throttle_fraction": 1.0})
    assert await carrier.send("throttled") == Throttled(CommandStatus.ESME_RTHROTTLED)
    behaviours.restore()
    assert isinstance(await carrier.send("now"), Accepted)
    assert simulator.engine.refusals == {0x401: 1, 0x58: 1}


async def test_a_lost_response_and_a_dropped_connection_are_unknown(new_carrier: Any, simulator: Any) -> None:
    carrier = await new_carrier(response_timeout_s=0.1)
    behaviours = simulator.engine.behaviours
    behaviours.change({"response_loss": 1.0})
    assert isinstance(await carrier.send("lost"), Unknown)
    behaviours.restore()
    behaviours.change({"drop_fraction": 1.0})
    assert isinstance(await carrier.send("dropped"), Unknown)
    behaviours.restore()
    assert isinstance(await carrier.send("again"), Accepted)
    assert len(simulator.engine.store) == 3


async def test_delays(carrier: Any, simulator: Any) -> None:
    simulator.engine.behaviours.change({"response_delay_s": 0.1, "receipt_delay_s": 0.2})
    loop = asyncio.get_running_loop()
    began = loop.time()
    await carrier.send("later")
    responded = loop.time() - began
    await carrier.until(lambda: carrier.receipts)
    assert responded >= 0.1
    assert loop.time() - began >= 0.2


async def test_a_receipt_may_come_first(carrier: Any, simulator: Any) -> None:
    simulator.engine.behaviours.change({"receipt_first": True})
    await carrier.send("first")
    assert carrier.events == ["receipt", "outcome"]


@pytest.mark.parametrize(
    ("id_form", "tlvs", "rule"),
    [
        ("decimal", True, IdRule.NONE),
        ("hex", False, IdRule.NONE),
        ("hex_then_decimal", True, IdRule.HEX_TO_DEC),
        ("hex_then_decimal", False, IdRule.HEX_TO_DEC),
    ],
)
async def test_forms_of_ids(carrier: Any, simulator: Any, id_form: str, tlvs: bool, rule: IdRule) -> None:
    simulator.engine.behaviours.change({"id_form": id_form, "receipt_tlvs": tlvs})
    outcome = await carrier.send("it")
    await carrier.until(lambda: carrier.receipts)
    assert receipt_key(carrier.receipts[0], rule) == response_key(outcome.message_id, rule)
    assert (await carrier.esme.query(QuerySm(outcome.message_id))).message_state == MessageState.DELIVRD


async def test_receipts_can_be_lost_mixed_or_off(carrier: Any, simulator: Any) -> None:
    behaviours = simulator.engine.behaviours
    counts = simulator.engine.of("carrier")
    behaviours.change({"receipt_loss": 1.0})
    await carrier.send("lost")
    behaviours.change({"receipt_loss": 0.0, "receipts": False})
    await carrier.send("off")
    assert counts.receipts == 0
    behaviours.change({"receipts": True, "receipt_states": {"DELIVRD": 1, "UNDELIV": 1}, "receipt_error": "045"})
    for number in range(100):
        carrier.submit(number)
    await carrier.until(lambda: len(carrier.receipts) == 100)
    seen = {(receipt.state, receipt.error_code) for receipt in carrier.receipts}
    assert seen == {(MessageState.DELIVRD, "000"), (MessageState.UNDELIV, "045")}


async def test_a_receipt_may_come_twice(carrier: Any, simulator: Any) -> None:
    simulator.engine.behaviours.change({"receipt_twice": 1.0})
    outcome = await carrier.send("it")
    await carrier.until(lambda: len(carrier.receipts) == 2)
    assert {receipt.message_id for receipt in carrier.receipts} == {outcome.message_id}
    assert simulator.engine.of("carrier").receipts == 1


async def test_what_hangs_takes_and_answers_nothing_until_the_esme_comes_anew(new_carrier: Any, simulator: Any) -> None:
    carrier = await new_carrier(response_timeout_s=0.3, enquire_link_s=0.2)
    simulator.engine.behaviours.change({"hangs": True})
    assert isinstance(await carrier.send("swallowed"), Unknown)
    await carrier.until(lambda: not carrier.bound)
    simulator.engine.behaviours.restore()
    assert isinstance(await carrier.send("again"), Accepted)
    await carrier.until(lambda: carrier.receipts)
    assert len(simulator.engine.store) == 1


@pytest.mark.parametrize(("per_part", "expected"), [(True, 2), (False, 1)])
async def test_receipts_of_parts(carrier: Any, simulator: Any, per_part: bool, expected: int) -> None:
    simulator.engine.behaviours.change({"receipt_per_part": per_part})
    for part in (1, 2):
        await carrier.send(part, text=bytes((5, 0, 3, 7, 2, part)) + b"x", esm_class=0x40)
    assert simulator.engine.of("carrier").receipts == expected


async def test_two_carriers_behave_each_their_own_way(new_carrier: Any, simulator: Any) -> None:
    simulator.engine.behaviours.change({"error_fraction": 1.0}, "bad")
    good, bad = await new_carrier("good"), await new_carrier("bad")
    assert isinstance(await good.send("it"), Accepted)
    assert isinstance(await bad.send("it"), Rejected)
    await good.until(lambda: good.receipts)
    assert bad.receipts == []
    with pytest.raises(QueryFailedError):  # another carrier's message
        await bad.esme.query(QuerySm(await good.accepted_id("it")))


async def test_receipts_wait_for_the_next_bind(new_carrier: Any, simulator: Any) -> None:
    transmitter = await new_carrier(bind_type="transmitter")
    outcome = await transmitter.send("it")
    assert simulator.engine.backlog == 1
    receiver = await new_carrier(bind_type="receiver")
    await receiver.until(lambda: receiver.receipts)
    assert receiver.receipts[0].message_id == outcome.message_id
    assert simulator.engine.backlog == 0


async def test_a_receipt_not_taken_comes_again(carrier: Any, simulator: Any) -> None:
    carrier.rejects_with = int(CommandStatus.ESME_RX_T_APPN)
    await carrier.send("it")
    await carrier.until(lambda: carrier.receipts)
    counts = simulator.engine.of("carrier")
    assert (counts.receipts, counts.resent) == (1, 1)


async def test_a_password_may_be_asked_for(new_carrier: Any, simulator: Any) -> None:
    simulator.engine.behaviours.change({"password": "open"}, "guarded")
    await new_carrier("guarded", password="open")
    await new_carrier("free", password="whatever")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await new_carrier("guarded", password="shut")


@pytest.mark.parametrize(
    "settings",
    [
        {"nonsense": 1},
        {"throttle_fraction": 1.1},
        {"throttle_fraction": "1"},
        {"throttle_fraction": True},
        {"receipt_delay_s": -1},
        {"receipt_states": {"GONE": 1}},
        {"receipt_states": {}},
        {"receipt_states": {"DELIVRD": 0}},
        {"receipt_states": {"DELIVRD": "1"}},
        {"id_form": "roman"},
        {"error_status": 0},
        {"receipts": 1},
        {"password": 5},
    ],
)
def test_a_setting_that_makes_no_sense_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(BehaviourError):
        Behaviour().changed(settings)


def test_settings_come_from_the_environment() -> None:
    environment = {
        "HARKARA_SMSC_RECEIPT_DELAY_S": "0.5",
        "HARKARA_SMSC_ID_FORM": "hex",
        "HARKARA_SMSC_RECEIPTS": "false",
        "HARKARA_SMSC_RECEIPT_STATES": '{"UNDELIV": 1}',
        "OTHER": "ignored",
    }
    expected = Behaviour(receipt_delay_s=0.5, id_form="hex", receipts=False, receipt_states={"UNDELIV": 1})
    assert behaviour_from_environment(environment) == expected
    with pytest.raises(BehaviourError):
        behaviour_from_environment({"HARKARA_SMSC_RECEIPTS": "perhaps"})
