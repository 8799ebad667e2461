"""Accounts and keys: changed at one process, known at once there and soon everywhere, also after a crash."""

import asyncio
import time
from datetime import timedelta
from typing import Any

from harkara_chassis.clock import now_utc
from harkara_contracts.facts import AccountFact, ApiKeyFact
from harkara_contracts.ids import new_account_id, new_id
from harkara_ingress.access import administration
from harkara_ingress.access.accounts import hash_key, new_api_key
from harkara_ingress.access.store import AccountRecord, AccountStore, KeyRecord


async def opened(edge: Any, **fields: Any) -> dict[str, Any]:
    status, body, _ = await edge.operator().call("POST", "/v1/accounts", {"name": "Kirana"} | fields)
    assert status == 200, body
    found: dict[str, Any] = body
    return found


async def status_of(edge: Any, key: str, path: str = "/v1/keys") -> int:
    status: int = (await edge.operator().call("GET", path, key=key))[0]
    return status


async def test_a_new_account_can_be_used_at_once(edge: Any, bus: Any) -> None:
    account = await opened(edge, plan="business", auto_approve=True)
    assert account["api_key"].startswith("hk_live_")
    assert account["signing_secret"]
    _, body, headers = await edge.operator().call("GET", "/v1/keys", key=account["api_key"])
    assert headers["X-RateLimit-Limit"] == "600"
    (key,) = body["keys"]
    assert key["scopes"] == ["send", "read", "manage"]
    assert "api_key" not in key
    fact = await bus.next(AccountFact, lambda f: f.account_id == account["account_id"])
    assert fact.auto_approve
    told = await bus.next(ApiKeyFact, lambda f: f.account_id == account["account_id"])
    assert told.key_hash == hash_key(account["api_key"])
    path = f"/v1/accounts/{account['account_id']}"
    for shower in (None, account["api_key"]):
        status, shown, _ = await edge.operator().call("GET", path, key=shower)
        assert (status, shown["name"]) == (200, "Kirana")
        assert "signing_secret" not in shown
    other = await opened(edge)
    assert await status_of(edge, other["api_key"], path) == 403


async def test_secrets_are_not_in_the_tables_as_they_are(edge: Any, database: Any) -> None:
    account = await opened(edge)
    row = await database.fetchrow(
        "SELECT a::text || k::text AS text FROM account a JOIN api_key k USING (account_id) WHERE account_id = $1",
        account["account_id"],
    )
    assert account["account_id"] in row["text"]
    assert account["api_key"] not in row["text"]
    assert account["signing_secret"].encode().hex() not in row["text"]


async def test_the_operator_changes_an_account(edge: Any) -> None:
    account = await opened(edge)
    path = f"/v1/accounts/{account['account_id']}"
    operator = edge.operator()
    status, changed, _ = await operator.call("PATCH", path, {"plan": "enterprise", "requests_per_minute": 7})
    assert (status, changed["plan"], changed["name"]) == (200, "enterprise", "Kirana")
    limit = (await operator.call("GET", "/v1/keys", key=account["api_key"]))[2]["X-RateLimit-Limit"]
    assert limit == "7"
    _, changed, _ = await operator.call("PATCH", path, {"requests_per_minute": None, "status": "suspended"})
    assert changed["requests_per_minute"] is None
    assert await status_of(edge, account["api_key"]) == 403
    assert (await operator.call("PATCH", "/v1/accounts/ACCNONE", {"name": "x"}))[0] == 404
    assert (await operator.call("GET", "/v1/accounts/ACCNONE"))[0] == 404


async def test_changes_at_once_do_not_lose_each_other(edge: Any) -> None:
    account = await opened(edge)
    path = f"/v1/accounts/{account['account_id']}"
    changes: list[dict[str, Any]] = [{"name": "New"}, {"burst": 5}, {"plan": "business"}, {"requests_per_minute": 9}]
    await asyncio.gather(*(edge.operator().call("PATCH", path, change) for change in changes))
    _, shown, _ = await edge.operator().call("GET", path)
    assert (shown["name"], shown["burst"], shown["plan"], shown["requests_per_minute"]) == ("New", 5, "business", 9)
    _, _, headers = await edge.operator().call("GET", "/v1/keys", key=account["api_key"])
    assert headers["X-RateLimit-Limit"] == "9"


async def test_keys_are_made_and_deleted(edge: Any) -> None:
    account = await opened(edge)
    operator, first = edge.operator(), account["api_key"]
    wanted: dict[str, Any] = {"name": "reports", "scopes": ["read"], "test_only": True}
    status, made, _ = await operator.call("POST", "/v1/keys", wanted, key=first)
    assert (status, made["api_key"][:8]) == (200, "hk_test_")
    assert await status_of(edge, made["api_key"], "/v1/messages") == 200
    assert await status_of(edge, made["api_key"], "/v1/keys") == 403
    for _ in range(2):
        assert (await operator.call("DELETE", f"/v1/keys/{made['key_id']}", key=first))[0] == 200
        assert await status_of(edge, made["api_key"], "/v1/messages") == 401
    assert (await operator.call("DELETE", "/v1/keys/KEYNONE", key=first))[0] == 404
    refused: list[tuple[dict[str, Any], int]] = [
        ({"name": "x", "scopes": ["operator"]}, 403),
        ({"name": "x", "scopes": []}, 400),
        ({"name": "x", "scopes": ["read"], "expires_at": "2020-01-01T00:00:00Z"}, 400),
        ({"name": "x", "scopes": ["read"], "expires_at": "2030-01-01T00:00:00"}, 400),
    ]
    for wanted, expected in refused:
        assert (await operator.call("POST", "/v1/keys", wanted, key=first))[0] == expected
    other = await opened(edge)
    (key,) = (await operator.call("GET", "/v1/keys", key=first))[1]["keys"]
    assert (await operator.call("DELETE", f"/v1/keys/{key['key_id']}", key=other["api_key"]))[0] == 404


async def test_a_rotated_key_lives_on_for_its_overlap(edge: Any) -> None:
    account = await opened(edge)
    operator, first = edge.operator(), account["api_key"]
    (key,) = (await operator.call("GET", "/v1/keys", key=first))[1]["keys"]
    path = f"/v1/keys/{key['key_id']}/rotate"
    status, second, _ = await operator.call("POST", path, {"overlap_seconds": 3_600}, key=first)
    assert status == 200
    assert second["scopes"] == key["scopes"]
    assert [await status_of(edge, each) for each in (first, second["api_key"])] == [200, 200]
    status, third, _ = await operator.call("POST", path, {"overlap_seconds": 0}, key=first)
    assert [await status_of(edge, each) for each in (first, third["api_key"])] == [401, 200]
    for wrong in (604_801, False):
        assert (await operator.call("POST", path, {"overlap_seconds": wrong}, key=third["api_key"]))[0] == 400


async def test_a_test_key_comes_to_no_live_key(edge: Any) -> None:
    operator, live = edge.operator(), (await opened(edge))["api_key"]
    (first,) = (await operator.call("GET", "/v1/keys", key=live))[1]["keys"]
    wanted = {"name": "sandbox", "scopes": ["send", "manage"], "test_only": True}
    _, made, _ = await operator.call("POST", "/v1/keys", wanted, key=live)
    test = made["api_key"]
    for method, path, body in (
        ("POST", "/v1/keys", {"name": "live", "scopes": ["send"]}),
        ("POST", f"/v1/keys/{first['key_id']}/rotate", None),
        ("DELETE", f"/v1/keys/{first['key_id']}", None),
        ("PUT", "/v1/security", {"require_signature": True}),
        ("POST", "/v1/security/rotate-signing-secret", None),
    ):
        status, answer, _ = await operator.call(method, path, body, key=test)
        assert (status, answer["error_code"]) == (403, "ERR_FORBIDDEN"), path
    assert (await operator.call("DELETE", "/v1/keys/KEYNONE", key=test))[0] == 404
    status, rotated, _ = await operator.call("POST", f"/v1/keys/{made['key_id']}/rotate", key=test)
    assert (status, rotated["test_only"]) == (200, True)
    _, another, _ = await operator.call("POST", "/v1/keys", wanted, key=test)
    assert (await operator.call("DELETE", f"/v1/keys/{another['key_id']}", key=test))[0] == 200


async def test_an_account_has_so_many_keys_and_expired_ones_make_room(edge: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(administration, "MAX_KEYS", 5)
    operator, live = edge.operator(), (await opened(edge))["api_key"]
    (first,) = (await operator.call("GET", "/v1/keys", key=live))[1]["keys"]
    wanted = {"name": "x", "scopes": ["read"]}

    async def outcomes(path: str, body: dict[str, Any]) -> list[int]:
        calls = (operator.call("POST", path, body, key=live) for _ in range(12))
        return sorted(status for status, *_ in await asyncio.gather(*calls))

    async def listed() -> list[dict[str, Any]]:
        keys: list[dict[str, Any]] = (await operator.call("GET", "/v1/keys", key=live))[1]["keys"]
        return keys

    assert await outcomes("/v1/keys", wanted) == [200] * 4 + [409] * 8
    assert set(await outcomes(f"/v1/keys/{first['key_id']}/rotate", {"overlap_seconds": 60})) == {409}
    for key in (await listed())[-4:]:
        assert (await operator.call("DELETE", f"/v1/keys/{key['key_id']}", key=live))[0] == 200
    for _ in range(2):
        _, other, _ = await operator.call("POST", "/v1/keys", wanted, key=live)
        await operator.call("POST", f"/v1/keys/{other['key_id']}/rotate", {"overlap_seconds": 0}, key=live)
    assert len(await listed()) == 5
    assert (await operator.call("POST", "/v1/keys", wanted, key=live))[0] == 200
    assert len(await listed()) == 4


async def test_an_expired_key_has_no_successor(edge: Any) -> None:
    account = await opened(edge)
    operator, first = edge.operator(), account["api_key"]
    (key,) = (await operator.call("GET", "/v1/keys", key=first))[1]["keys"]
    path = f"/v1/keys/{key['key_id']}/rotate"
    _, second, _ = await operator.call("POST", path, {"overlap_seconds": 0}, key=first)
    status, body, _ = await operator.call("POST", path, key=second["api_key"])
    assert (status, body["error_code"]) == (409, "ERR_CONFLICT")


async def test_another_process_knows_what_one_was_told(edge: Any, start_edge: Any) -> None:
    async with start_edge() as second:
        account = await opened(edge)
        async with asyncio.timeout(5):
            while await status_of(second, account["api_key"]) != 200:
                pass


async def test_what_a_crash_kept_back_is_told_at_the_next_start(start_edge: Any, database: Any) -> None:
    store = AccountStore(database)
    account_id, text, now = new_account_id(), new_api_key(test_only=False), now_utc()
    account = AccountRecord(
        account_id, "Crashed", "starter", "active", False, None, None, None, [], False, None, time.time_ns(), now
    )
    key = KeyRecord(
        new_id("KEY"), account_id, hash_key(text), "first", ["manage"], False, None, None, None, time.time_ns(), now
    )
    await store.add_account(account, b"sealed", key)
    async with start_edge() as edge:
        assert await status_of(edge, text) == 200
    assert await store.revoke_key(account_id, key.key_id, now + timedelta(seconds=1), time.time_ns())
    async with start_edge() as edge:
        async with asyncio.timeout(5):
            while await status_of(edge, text) != 401:
                pass
