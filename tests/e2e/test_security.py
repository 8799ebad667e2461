"""Signed requests, address lists and secrets, as a client's code in the field does them, against a whole stack."""

import hmac
import json
import os
import signal
import time
from dataclasses import dataclass

from tests.e2e.client import Account, Answer, Client, Phones, new_number, open_account, shipping
from tests.e2e.stack import Stack
from tests.e2e.waiting import eventually

SECURITY = "/v1/security"


@dataclass(frozen=True)
class Signer:
    """Signs compact JSON and lets its HTTP library write the body as that likes: with spaces."""

    client: Client
    secret: str

    def headers(self, body: object, *, age_s: int = 0) -> dict[str, str]:
        timestamp = str(int(time.time()) - age_s)
        compact = "" if body is None else json.dumps(body, separators=(",", ":"))
        mac = hmac.new(self.secret.encode(), (timestamp + compact).encode(), "sha256").hexdigest()
        return {"X-TechTo-Timestamp": timestamp, "X-TechTo-Signature": f"sha256={mac}"}

    def call(self, method: str, path: str, body: object = None, *, age_s: int = 0) -> Answer:
        return self.client.call(method, path, body, headers=self.headers(body, age_s=age_s))


def rotated(account: Account, overlap_seconds: int = 0) -> Signer:
    """Give the account a secret that the test knows."""
    told = account.client.post(f"{SECURITY}/rotate-signing-secret", {"overlap_seconds": overlap_seconds})
    return Signer(account.client, told["signing_secret"])


def code(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.body.get("error_code", "")


def test_an_account_that_asks_for_signatures_takes_no_others(account: Account, phones: Phones) -> None:
    signer = rotated(account)
    account.client.call("PUT", SECURITY, {"require_signature": True})
    to = new_number()
    body = shipping(to, variables={"name": "Āśā ₹", "order_id": "ORD1"})
    assert code(account.client.call("POST", "/v1/sms/send", body)) == (401, "ERR_SIGNATURE_INVALID")
    assert code(signer.call("POST", "/v1/sms/send", body, age_s=400)) == (401, "ERR_SIGNATURE_INVALID")
    accepted = signer.call("POST", "/v1/sms/send", body)
    assert accepted.status == 202
    assert "Āśā ₹" in phones.the_message(to)["text"]
    assert signer.call("GET", f"/v1/messages/{accepted.body['message_id']}").status == 200
    assert code(account.client.call("GET", "/v1/messages")) == (401, "ERR_SIGNATURE_INVALID")


def test_the_first_signing_secret_is_the_one_told_at_the_opening(operator: Client) -> None:
    made = operator.post("/v1/accounts", {"name": "Signs at once", "plan": "enterprise", "auto_approve": True})
    signer = Signer(Client(operator.base_url, made["api_key"]), made["signing_secret"])
    assert signer.call("GET", "/v1/keys").status == 200
    assert Signer(signer.client, made["signing_secret"][:-1]).call("GET", "/v1/keys").status == 401


def test_a_copied_request_is_refused_also_after_the_process_was_killed(
    stack: Stack, account: Account, phones: Phones
) -> None:
    signer = rotated(account)
    to = new_number()
    body = shipping(to)
    headers = signer.headers(body)
    assert account.client.call("POST", "/v1/sms/send", body, headers=headers).status == 202
    for path in ("/v1/sms/send", "/v1/messages/send"):
        assert code(account.client.call("POST", path, body, headers=headers)) == (401, "ERR_SIGNATURE_INVALID")
    former = stack.processes()["ingress"]["pid"]
    os.kill(former, signal.SIGKILL)

    def is_new_and_ready() -> bool:
        process = stack.processes()["ingress"]
        return bool(process["ready"]) and process["pid"] != former

    eventually(is_new_and_ready, timeout_s=30, what="ingress started anew")
    assert code(account.client.call("POST", "/v1/sms/send", body, headers=headers)) == (401, "ERR_SIGNATURE_INVALID")
    phones.the_message(to)


def test_a_repeat_by_its_idempotency_key_keeps_its_signature(account: Account, phones: Phones) -> None:
    signer = rotated(account)
    to = new_number()
    body = shipping(to)
    headers = {**signer.headers(body), "Idempotency-Key": "order 1"}
    answers = [account.client.call("POST", "/v1/sms/send", body, headers=headers) for _ in range(3)]
    assert [answer.status for answer in answers] == [202, 202, 202]
    assert len({answer.body["message_id"] for answer in answers}) == 1
    phones.the_message(to)


def test_secrets_change_hands_without_a_gap(account: Account) -> None:
    old = rotated(account)
    new = rotated(account, overlap_seconds=2)
    assert [each.call("GET", "/v1/keys").status for each in (old, new)] == [200, 200]
    eventually(lambda: old.call("GET", "/v1/keys").status == 401, timeout_s=6, what="the end of the old secret")
    assert new.call("GET", "/v1/keys").status == 200


def test_a_key_works_from_its_accounts_addresses_only(operator: Client) -> None:
    account = open_account(operator)
    here, elsewhere = {"ip_allow_list": ["127.0.0.0/8", "::1"]}, {"ip_allow_list": ["203.0.113.0/24"]}
    assert account.client.call("PUT", SECURITY, here).status == 200
    assert account.client.get("/v1/keys")
    assert code(account.client.call("PUT", SECURITY, elsewhere)) == (409, "ERR_CONFLICT")
    assert account.client.call("PUT", SECURITY, {**elsewhere, "force": True}).status == 200
    for path in ("/v1/keys", "/v1/messages", SECURITY):
        assert code(account.client.call("GET", path)) == (401, "ERR_IP_NOT_ALLOWED")
    # Nobody believes a client that names another address for itself.
    claimed = account.client.call("GET", "/v1/keys", headers={"X-Forwarded-For": "203.0.113.5"})
    assert code(claimed) == (401, "ERR_IP_NOT_ALLOWED")
    operator.patch(f"/v1/accounts/{account.account_id}", {"ip_allow_list": []})
    assert account.client.get("/v1/keys")


def test_the_use_of_a_key_is_shown(account: Account) -> None:
    made = account.client.post("/v1/keys", {"name": "server", "scopes": ["read"]})

    def last_used() -> str | None:
        keys = {key["key_id"]: key for key in account.client.get("/v1/keys")["keys"]}
        at: str | None = keys[made["key_id"]]["last_used_at"]
        return at

    assert last_used() is None
    Client(account.client.base_url, made["api_key"]).get("/v1/messages")
    first = last_used()
    assert first is not None
    Client(account.client.base_url, made["api_key"]).get("/v1/messages")
    assert (last_used() or "") > first


def test_no_log_tells_a_signing_secret_and_all_changes_are_in_it(stack: Stack, operator: Client) -> None:
    made = operator.post("/v1/accounts", {"name": "Audited", "plan": "enterprise"})
    client = Client(operator.base_url, made["api_key"])
    secret = client.post(f"{SECURITY}/rotate-signing-secret")["signing_secret"]
    key = client.post("/v1/keys", {"name": "one more", "scopes": ["send"]})
    told = (stack.home / "logs" / "ingress.log").read_text(errors="replace")
    for hidden in (made["api_key"], made["signing_secret"], secret, key["api_key"]):
        assert hidden not in told
    audited = [
        line for line in told.splitlines() if "harkara_ingress.access.audit" in line and made["account_id"] in line
    ]
    assert len(audited) == 3
    assert key["key_id"] in audited[-1]
