"""Carriers that refuse, drop the line, or answer in the wrong order: the message arrives all the same, and once."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from tests.e2e.client import Account, Phones, at_once, new_number
from tests.e2e.fates import PAISE_A_PART
from tests.e2e.waiting import eventually

COUNT = 200
SYSTEM_ERROR = 8  # ESME_RSYSERR: the carrier's own fault, so another may try


@pytest.fixture(autouse=True)
def carriers_as_they_were(phones: Phones) -> Iterator[None]:
    yield
    phones.restore()


def delivered(account: Account, message_id: str) -> dict[str, Any]:
    return account.client.reached(message_id, "delivered", timeout_s=30)


def test_what_one_carrier_refuses_goes_by_another(account: Account, phones: Phones) -> None:
    phones.behave({"error_fraction": 1.0, "error_status": SYSTEM_ERROR}, system_id="hk-jio")
    ids = [account.accepted()["message_id"] for _ in range(12)]
    told = [delivered(account, message_id) for message_id in ids]
    assert {one["carrier"] for one in told} == {"airtel"}
    # Half of them tried the other one first, give or take chance: that none did is one in four thousand.
    detours = [one["attempts"] for one in told if len(one["attempts"]) > 1]
    assert detours
    for first, second in detours:
        assert (first["carrier"], first["state"], first["error_code"]) == ("jio", "failed", "ERR_CARRIER_UNAVAILABLE")
        assert (first["cost_paise"], second["state"], second["cost_paise"]) == (0, "delivered", PAISE_A_PART)
    assert account.settled_balance() == 1_000_000 - 12 * PAISE_A_PART


def test_when_all_carriers_refuse_the_message_waits(account: Account, phones: Phones) -> None:
    before = phones.rejected()
    phones.behave({"error_fraction": 1.0, "error_status": SYSTEM_ERROR})
    to = new_number()
    message_id = account.accepted(to)["message_id"]
    eventually(lambda: phones.rejected() >= before + 2, what="a refusal by each carrier")
    assert account.client.message(message_id)["state"] in {"accepted", "sending"}
    phones.restore()
    assert delivered(account, message_id)["attempts"][-1]["state"] == "delivered"
    assert len(phones.got(to)) == 1
    account.paid(message_id, PAISE_A_PART)


def test_a_receipt_may_come_before_the_response(account: Account, phones: Phones) -> None:
    phones.behave({"receipt_first": True})
    for _ in range(10):
        told = delivered(account, account.accepted()["message_id"])
        assert len(told["attempts"]) == 1


def test_a_late_response_is_still_one(account: Account, phones: Phones) -> None:
    phones.behave({"response_delay_s": 0.5})
    to = new_number()
    delivered(account, account.accepted(to)["message_id"])
    assert len(phones.got(to)) == 1


def test_a_dropped_line_doubles_nothing(account: Account, phones: Phones) -> None:
    """A message that was cut off without an answer is not sent again.

    Its receipt proves that the carrier has it; of one that was lost on the line, the status says that nobody can know.
    """
    began = phones.now()
    numbers = [new_number() for _ in range(COUNT)]

    def send(place: int) -> str:
        if place == COUNT // 2:
            phones.drop()
        return str(account.accepted(numbers[place])["message_id"])

    fates = {to: fate(account, message_id) for to, message_id in zip(numbers, at_once(COUNT, send), strict=True)}
    submitted = Counter(to for to in phones.arrivals(began) if to in fates)
    assert set(submitted.values()) == {1}
    assert {to for to, state in fates.items() if state == "delivered"} == set(submitted)
    assert len(submitted) > COUNT // 2


def fate(account: Account, message_id: str) -> str:
    """Wait for what became of a message: delivered, or known to be unknown."""

    def look() -> str | None:
        attempts = account.client.message(message_id)["attempts"]
        state = str(attempts[-1]["state"]) if attempts else ""
        return state if state in {"delivered", "unknown"} else None

    return eventually(look, timeout_s=40, what="an honest fate")
