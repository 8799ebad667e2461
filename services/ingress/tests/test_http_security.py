"""What an account asks of those who show its keys, over a real socket: addresses, signatures, and when keys were used."""

import asyncio
import hmac
import json
import logging
import time
from dataclasses import dataclass, field
from typing import Any

import pytest

from harkara_ingress.access.guard import ANSWERED_ONCE

PREFIX = "X-TechTo"
SECURITY = "/v1/security"
ROTATE = "/v1/security/rotate-signing-secret"
SEND = {
    "to": "919999900001",
    "sender": "HRKARA",
    "template_id": "SANDBOX_OTP",
    "variables": {"otp": "123456"},
    "test_mode": True,
}


@dataclass
class Owner:
    """An account as its owner has it: with its key and its secret."""

    edge: Any
    account_id: str
    key: str
    secret: str = field(repr=False)

    async def call(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        status, answer, _ = await self.edge.operator().call(method, path, body, key=self.key, **headers)
        return status, answer

    def signature(
        self, body: bytes | str = b"", at: int | str | None = None, secret: str | None = None
    ) -> dict[str, str]:
        raw = body.encode() if isinstance(body, str) else body
        timestamp = str(int(time.time()) if at is None else at)
        mac = hmac.new((secret or self.secret).encode(), timestamp.encode() + raw, "sha256").hexdigest()
        return {f"{PREFIX}-Timestamp": timestamp, f"{PREFIX}-Signature": f"sha256={mac}"}

    async def signed(self, method: str, path: str, body: Any = None, **options: Any) -> tuple[int, Any]:
        raw = b"" if body is None else json.dumps(body).encode()
        return await self.call(method, path, raw if body is not None else None, **self.signature(raw, **options))

    async def operator_changes(self, **changes: Any) -> Any:
        path = f"/v1/accounts/{self.account_id}"
        status, body, _ = await self.edge.operator().call("PATCH", path, changes)
        assert status == 200, body
        return body


async def owner_on(edge: Any) -> Owner:
    opening = {"name": "Kirana", "plan": "enterprise", "auto_approve": True}
    _, body, _ = await edge.operator().call("POST", "/v1/accounts", opening)
    return Owner(edge, body["account_id"], body["api_key"], body["signing_secret"])


@pytest.fixture
async def owner(edge: Any) -> Owner:
    return await owner_on(edge)


def refused(answer: tuple[int, Any], code: str = "ERR_SIGNATURE_INVALID", status: int = 401) -> bool:
    return (answer[0], answer[1].get("error_code")) == (status, code)


# --- addresses ---------------------------------------------------------------------------------------------------------


async def test_a_list_is_shown_as_it_is_understood(owner: Owner) -> None:
    nothing = {"ip_allow_list": [], "require_signature": False, "former_secret_expires_at": None}
    assert await owner.call("GET", SECURITY) == (200, nothing)
    listed = ["127.0.0.1", "2001:DB8::/32", "127.0.0.1/32", "::ffff:10.0.0.0/104"]
    meant = nothing | {"ip_allow_list": ["127.0.0.1/32", "2001:db8::/32", "10.0.0.0/8"]}
    assert await owner.call("PUT", SECURITY, {"ip_allow_list": listed}) == (200, meant)
    assert await owner.call("PUT", SECURITY, {}) == (200, meant)
    assert await owner.call("PUT", SECURITY, {"ip_allow_list": None}) == (200, meant)
    assert await owner.call("GET", SECURITY) == (200, meant)
    assert await owner.call("PUT", SECURITY, {"ip_allow_list": []}) == (200, nothing)


@pytest.mark.parametrize(
    ("wanted", "place"),
    [
        ({"ip_allow_list": ["127.0.0.0/8", "203.0.113.7/24"]}, "ip_allow_list.1"),
        ({"ip_allow_list": "127.0.0.0/8"}, "ip_allow_list"),
        ({"ip_allow_list": [2_130_706_433]}, "ip_allow_list.0"),
        ({"ip_allow_list": ["127.0.0.1"] * 101}, "ip_allow_list"),
        ({"ip_allow_list": ["1" * 65]}, "ip_allow_list.0"),
        ({"require_signature": "perhaps"}, "require_signature"),
    ],
)
async def test_what_is_wrong_with_a_list_is_told_by_place(owner: Owner, wanted: dict[str, Any], place: str) -> None:
    status, body = await owner.call("PUT", SECURITY, wanted)
    assert (status, body["errors"][0]["field"]) == (400, place)
    assert (await owner.call("GET", SECURITY))[1]["ip_allow_list"] == []


async def test_nobody_locks_himself_out_by_mistake_and_the_operator_lets_in_again(owner: Owner) -> None:
    elsewhere = {"ip_allow_list": ["203.0.113.0/24"]}
    assert refused(await owner.call("PUT", SECURITY, elsewhere), "ERR_CONFLICT", 409)
    assert (await owner.call("GET", "/v1/keys"))[0] == 200
    assert (await owner.call("PUT", SECURITY, elsewhere | {"force": True}))[0] == 200
    for method, path, body in (("GET", "/v1/keys", None), ("POST", "/v1/sms/send", SEND), ("GET", "/v1/nothing", None)):
        assert refused(await owner.call(method, path, body), "ERR_IP_NOT_ALLOWED")
    shown = await owner.operator_changes(ip_allow_list=["203.0.113.0/24", "127.0.0.0/8"])
    assert shown["ip_allow_list"] == ["203.0.113.0/24", "127.0.0.0/8"]
    assert (await owner.call("POST", "/v1/sms/send", SEND))[0] == 202


async def test_a_stray_key_does_not_use_up_its_accounts_limit(owner: Owner) -> None:
    await owner.operator_changes(requests_per_minute=3, ip_allow_list=["203.0.113.0/24"])
    for _ in range(5):
        assert refused(await owner.call("GET", "/v1/keys"), "ERR_IP_NOT_ALLOWED")
    await owner.operator_changes(ip_allow_list=[])
    found = [(await owner.call("GET", "/v1/keys"))[0] for _ in range(4)]
    assert found == [200, 200, 200, 429]


async def test_behind_a_proxy_the_client_is_meant(start_edge: Any) -> None:
    async with start_edge(forwarded_allow_ips="127.0.0.1") as edge:
        owner = await owner_on(edge)
        await owner.operator_changes(ip_allow_list=["203.0.113.0/24", "2001:db8::/32"])
        inside = ("203.0.113.5", "::ffff:203.0.113.5", "2001:db8::7", "198.51.100.1, 203.0.113.5")
        outside = ("203.0.114.5", "2001:db9::7", "203.0.113.5, 198.51.100.1", "203.0.113.5.example")
        for host in inside:
            assert (await owner.call("GET", "/v1/keys", X_Forwarded_For=host))[0] == 200, host
        for host in outside:
            assert refused(await owner.call("GET", "/v1/keys", X_Forwarded_For=host), "ERR_IP_NOT_ALLOWED"), host
        assert refused(await owner.call("GET", "/v1/keys"), "ERR_IP_NOT_ALLOWED")


async def test_another_process_asks_the_same(edge: Any, owner: Owner, start_edge: Any) -> None:
    async with start_edge() as second:
        await owner.operator_changes(ip_allow_list=["203.0.113.0/24"])
        there = Owner(second, owner.account_id, owner.key, owner.secret)
        async with asyncio.timeout(5):
            while not refused(await there.call("GET", "/v1/keys"), "ERR_IP_NOT_ALLOWED"):
                pass


# --- signatures --------------------------------------------------------------------------------------------------------


async def test_a_required_signature_is_asked_of_every_call(owner: Owner) -> None:
    assert (await owner.call("PUT", SECURITY, {"require_signature": True}))[1]["require_signature"] is True
    for method, path, body in (("GET", "/v1/keys", None), ("POST", "/v1/sms/send", SEND), ("GET", SECURITY, None)):
        assert refused(await owner.call(method, path, body))
    assert (await owner.signed("GET", "/v1/keys"))[0] == 200
    assert (await owner.signed("POST", "/v1/sms/send", SEND))[0] == 202
    assert (await owner.signed("PUT", SECURITY, {"require_signature": False}))[0] == 200
    assert (await owner.call("GET", "/v1/keys"))[0] == 200


async def test_each_form_of_a_body_may_be_signed(owner: Owner) -> None:
    for number, sent_escaped in enumerate((True, False)):
        wanted = {"name": f"Läden ₹ {number}", "scopes": ["read"], "expires_at": None}
        sent = json.dumps(wanted, ensure_ascii=sent_escaped).encode()
        forms = [
            sent.decode(),
            json.dumps(wanted, separators=(",", ":")),
            json.dumps(wanted, separators=(",", ":"), ensure_ascii=False),
        ]
        for form in forms:
            status, made = await owner.call("POST", "/v1/keys", sent, **owner.signature(form))
            assert (status, made["name"]) == (200, wanted["name"])
        others = [json.dumps({**wanted, "scopes": ["send"]}), json.dumps(wanted, indent=1), ""]
        for form in others:
            assert refused(await owner.call("POST", "/v1/keys", sent, **owner.signature(form)))


async def test_a_large_body_is_checked_like_a_small_one(owner: Owner) -> None:
    wanted = {"name": "large", "scopes": ["read"], "rest": [{"name": "₹"}] * 10_000}
    sent = json.dumps(wanted).encode()
    form = json.dumps(wanted, separators=(",", ":"), ensure_ascii=False)
    assert (await owner.call("POST", "/v1/keys", sent, **owner.signature(form)))[0] == 200
    assert refused(await owner.call("POST", "/v1/keys", sent, **owner.signature(form + " ")))


async def test_a_signature_that_is_given_must_hold(owner: Owner) -> None:
    body = json.dumps(SEND).encode()
    good, now = owner.signature(body), int(time.time())
    wrong: list[dict[str, str]] = [
        owner.signature(body, at=now - 301),
        owner.signature(body, at=now + 302),
        owner.signature(body, at=now * 1_000),
        owner.signature(body, at="now"),
        owner.signature(body, secret=(await owner_on(owner.edge)).secret),
        good | {f"{PREFIX}-Timestamp": str(now - 1)},
        good | {f"{PREFIX}-Signature": good[f"{PREFIX}-Signature"].upper()},
        good | {f"{PREFIX}-Signature": good[f"{PREFIX}-Signature"].removeprefix("sha256=")},
        {f"{PREFIX}-Timestamp": good[f"{PREFIX}-Timestamp"]},
        {f"{PREFIX}-Signature": good[f"{PREFIX}-Signature"]},
    ]
    for headers in wrong:
        status, answer = await owner.call("POST", "/v1/sms/send", body, **headers)
        assert refused((status, answer)), headers
        assert "sign" in answer["error_message"].lower()
    assert (await owner.call("POST", "/v1/sms/send", body, **good))[0] == 202


async def test_the_headers_have_the_name_that_is_set(start_edge: Any) -> None:
    async with start_edge(signature_header_prefix="X-Example") as edge:
        owner = await owner_on(edge)
        await owner.operator_changes(require_signature=True)
        named = {name.replace(PREFIX, "X-Example"): value for name, value in owner.signature().items()}
        assert (await owner.call("GET", "/v1/keys", **named))[0] == 200
        assert refused(await owner.signed("GET", "/v1/keys"))


async def test_the_operator_signs_nothing(edge: Any) -> None:
    wrong = {f"{PREFIX}-Timestamp": "1", f"{PREFIX}-Signature": "sha256="}
    assert (await edge.operator().call("POST", "/v1/accounts", {"name": "A"}, **wrong))[0] == 200


async def test_a_body_signed_once_comes_in_once(owner: Owner) -> None:
    body = json.dumps(SEND).encode()
    headers = owner.signature(body)
    found = await asyncio.gather(*(owner.call("POST", "/v1/sms/send", body, **headers) for _ in range(5)))
    assert sorted(status for status, _ in found) == [202, 401, 401, 401, 401]
    assert refused(await owner.call("POST", "/v1/messages/send", body, **headers))
    assert refused(await owner.call("POST", "/v1/sms/send", json.dumps(SEND, indent=1).encode(), **headers))
    assert (await owner.call("POST", "/v1/sms/send", body, **owner.signature(body, at=int(time.time()) + 5)))[0] == 202


async def test_a_repeat_with_its_idempotency_key_is_answered_alike(owner: Owner) -> None:
    body = json.dumps(SEND).encode()
    headers = owner.signature(body)
    first = await owner.call("POST", "/v1/sms/send", body, **headers, Idempotency_Key="order 7")
    assert first[0] == 202
    assert await owner.call("POST", "/v1/sms/send", body, **headers, Idempotency_Key="order 7") == first
    assert refused(await owner.call("POST", "/v1/sms/send", body, **headers, Idempotency_Key="order 8"))
    assert refused(await owner.call("POST", "/v1/messages/send", body, **headers, Idempotency_Key="order 7"))
    assert refused(await owner.call("POST", "/v1/sms/send", body, **headers))


async def test_where_no_idempotency_answers_a_repeat_a_copy_is_refused(edge: Any, owner: Owner) -> None:
    body = json.dumps({"name": "one only", "scopes": ["read"]}).encode()
    headers = owner.signature(body)
    assert (await owner.call("POST", "/v1/keys", body, **headers, Idempotency_Key="k"))[0] == 200
    assert refused(await owner.call("POST", "/v1/keys", body, **headers, Idempotency_Key="k"))
    _, api, _ = await edge.operator().call("GET", "/openapi.json")
    heeding = {
        path
        for path, operations in api["paths"].items()
        for operation in operations.values()
        if any(each.get("name") == "Idempotency-Key" for each in operation.get("parameters", ()))
    }
    assert {path for path in ANSWERED_ONCE if path.startswith("/v1/")} == heeding


async def test_reading_may_be_repeated_and_what_has_no_body_is_told_apart_by_path(owner: Owner) -> None:
    made = [(await owner.call("POST", "/v1/keys", {"name": "k", "scopes": ["read"]}))[1] for _ in range(2)]
    headers = owner.signature()
    for _ in range(3):
        assert (await owner.call("GET", "/v1/keys", **headers))[0] == 200
    for key in made:
        assert (await owner.call("DELETE", f"/v1/keys/{key['key_id']}", **headers))[0] == 200
    assert refused(await owner.call("DELETE", f"/v1/keys/{made[0]['key_id']}", **headers))


async def test_a_copy_shown_to_another_process_does_not_come_in(edge: Any, owner: Owner, start_edge: Any) -> None:
    async with start_edge() as second:
        body = json.dumps(SEND).encode()
        headers = owner.signature(body)
        assert (await owner.call("POST", "/v1/sms/send", body, **headers))[0] == 202
        there = Owner(second, owner.account_id, owner.key, owner.secret)
        assert refused(await there.call("POST", "/v1/sms/send", body, **headers))
        again = there.signature(body, at=int(time.time()) + 9)
        assert (await there.call("POST", "/v1/sms/send", body, **again))[0] == 202


async def test_without_redis_a_copy_is_still_refused_here(start_edge: Any) -> None:
    async with start_edge("redis://127.0.0.1:1/0") as edge:
        owner = await owner_on(edge)
        body = json.dumps(SEND).encode()
        headers = owner.signature(body)
        assert (await owner.call("POST", "/v1/sms/send", body, **headers))[0] == 202
        assert refused(await owner.call("POST", "/v1/sms/send", body, **headers))


# --- rotation ----------------------------------------------------------------------------------------------------------


async def test_two_secrets_live_for_the_overlap_and_no_third(owner: Owner) -> None:
    status, rotated = await owner.call("POST", ROTATE, {"overlap_seconds": 600})
    assert status == 200
    new = rotated["signing_secret"]
    assert new.startswith("hs_")
    assert new != owner.secret
    until = rotated["former_secret_expires_at"]
    assert (await owner.call("GET", SECURITY))[1]["former_secret_expires_at"] == until
    for secret in (owner.secret, new):
        assert (await owner.signed("GET", "/v1/keys", secret=secret))[0] == 200
    _, again = await owner.call("POST", ROTATE, {"overlap_seconds": 600})
    assert refused(await owner.signed("GET", "/v1/keys", secret=new))
    for secret in (owner.secret, again["signing_secret"]):
        assert (await owner.signed("GET", "/v1/keys", secret=secret))[0] == 200
    status, last = await owner.call("POST", ROTATE, {"overlap_seconds": 0})
    assert status == 200
    assert (await owner.call("GET", SECURITY))[1]["former_secret_expires_at"] is None
    for secret in (owner.secret, new, again["signing_secret"]):
        assert refused(await owner.signed("GET", "/v1/keys", secret=secret))
    assert (await owner.signed("GET", "/v1/keys", secret=last["signing_secret"]))[0] == 200
    for wrong in (604_801, -1, False, "soon"):
        assert (await owner.call("POST", ROTATE, {"overlap_seconds": wrong}))[0] == 400


async def test_the_former_secret_ends_with_its_overlap(owner: Owner) -> None:
    _, rotated = await owner.call("POST", ROTATE, {"overlap_seconds": 1})
    assert (await owner.signed("GET", "/v1/keys"))[0] == 200
    async with asyncio.timeout(5):
        while (await owner.signed("GET", "/v1/keys"))[0] == 200:
            await asyncio.sleep(0.05)
    assert (await owner.signed("GET", "/v1/keys", secret=rotated["signing_secret"]))[0] == 200
    assert (await owner.call("POST", ROTATE))[0] == 200


async def test_secrets_are_sealed_and_told_once(owner: Owner, database: Any) -> None:
    _, rotated = await owner.call("POST", ROTATE)
    row = await database.fetchrow("SELECT a::text AS text FROM account a WHERE account_id = $1", owner.account_id)
    for secret in (owner.secret, rotated["signing_secret"]):
        assert secret.encode().hex() not in row["text"]
        assert secret not in str(await owner.call("GET", SECURITY))


# --- keys and the audit ------------------------------------------------------------------------------------------------


async def test_when_a_key_was_used_is_shown_and_outlives_the_process(start_edge: Any) -> None:
    async with start_edge() as edge:
        owner = await owner_on(edge)
        _, made = await owner.call("POST", "/v1/keys", {"name": "reports", "scopes": ["read"]})
        keys = {key["name"]: key for key in (await owner.call("GET", "/v1/keys"))[1]["keys"]}
        assert keys["first key"]["last_used_at"] is not None
        assert keys["reports"]["last_used_at"] is None
        assert (await edge.operator().call("GET", "/v1/messages", key=made["api_key"]))[0] == 200
    async with start_edge() as edge:
        owner.edge = edge
        keys = {key["name"]: key for key in (await owner.call("GET", "/v1/keys"))[1]["keys"]}
        assert keys["reports"]["last_used_at"] is not None


async def test_changes_are_logged_by_key_and_without_secrets(edge: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "harkara_ingress.access.audit"):
        owner = await owner_on(edge)
        _, made = await owner.call("POST", "/v1/keys", {"name": "a name", "scopes": ["read"]})
        _, turned = await owner.call("POST", f"/v1/keys/{made['key_id']}/rotate", {"overlap_seconds": 0})
        await owner.call("DELETE", f"/v1/keys/{turned['key_id']}")
        await owner.call("PUT", SECURITY, {"ip_allow_list": ["127.0.0.0/8"]})
        _, rotated = await owner.call("POST", ROTATE)
        await owner.operator_changes(plan="business", name="Another")
    told = [record for record in caplog.records if record.name == "harkara_ingress.access.audit"]
    assert [record.getMessage() for record in told] == [
        "account opened",
        "key created",
        "key rotated",
        "key deleted",
        "security changed",
        "signing secret rotated",
        "account changed",
    ]
    first_key_id = vars(told[0])["key_id"]
    assert [vars(record)["by_key"] for record in told] == ["operator", *[first_key_id] * 5, "operator"]
    assert vars(told[2])["former_key_id"] == made["key_id"]
    everything = str([vars(record) for record in told])
    for secret in (owner.key, owner.secret, made["api_key"], turned["api_key"], rotated["signing_secret"]):
        assert secret not in everything
