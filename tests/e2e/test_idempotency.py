"""The same Idempotency-Key sends once, however often and however much at once it is used."""

import json
from typing import Any

from tests.e2e.client import Account, Answer, Phones, at_once, new_number, shipping
from tests.e2e.fates import PAISE_A_PART


def body_to(to: str, **changes: Any) -> bytes:
    return json.dumps(shipping(to, **changes)).encode()


def send(account: Account, key: str, body: bytes) -> Answer:
    return account.client.call("POST", "/v1/sms/send", body, headers={"Idempotency-Key": key})


def test_a_repeat_gets_the_first_answer_again(account: Account, phones: Phones) -> None:
    to = new_number()
    first, second = send(account, "k1", body_to(to)), send(account, "k1", body_to(to))
    assert (first.status, second.status) == (202, 202)
    assert first.body == second.body
    phones.the_message(to)
    account.client.reached(first.body["message_id"], "delivered")
    assert len(phones.got(to)) == 1
    account.paid(first.body["message_id"], PAISE_A_PART)


def test_twenty_at_once_send_one_message(account: Account, phones: Phones) -> None:
    to = new_number()
    answers = at_once(20, lambda _: send(account, "k2", body_to(to)))
    assert {answer.status for answer in answers} == {202}
    (message_id,) = {answer.body["message_id"] for answer in answers}
    account.client.reached(message_id, "delivered")
    assert len(phones.got(to)) == 1
    account.paid(message_id, PAISE_A_PART)
    assert account.client.get("/v1/account/usage")["usage"][0]["units"] == 1


def test_another_body_is_a_conflict(account: Account) -> None:
    to = new_number()
    assert send(account, "k3", body_to(to)).status == 202
    answer = send(account, "k3", body_to(to, correlation_id="other"))
    assert (answer.status, answer.body["error_code"]) == (422, "ERR_IDEMPOTENCY_CONFLICT")


def test_a_refused_request_leaves_its_key_free(account: Account) -> None:
    to = new_number()
    assert send(account, "k4", body_to(to, template_id="NOT_YET")).status == 422
    assert send(account, "k4", body_to(to)).status == 202


def test_accounts_have_keys_of_their_own(account: Account, sent_to_each_fate: Any) -> None:
    to = new_number()
    mine = send(account, "k5", body_to(to))
    theirs = send(sent_to_each_fate.account, "k5", body_to(to))
    assert (mine.status, theirs.status) == (202, 202)
    assert mine.body["message_id"] != theirs.body["message_id"]
