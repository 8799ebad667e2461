from datetime import UTC, datetime
from typing import Any

import pytest

from harkara_contracts.facts import AccountFact, ApiKeyFact
from harkara_ingress.access.accounts import Directory, Scope, hash_key, new_api_key, rates
from harkara_ingress.access.limits import Rate

KEY = new_api_key(test_only=False)


def account(version: int = 1, **changes: Any) -> AccountFact:
    return AccountFact(**{"version": version, "account_id": "ACC1", "name": "A", "plan": "starter"} | changes)


def api_key(version: int = 1, **changes: Any) -> ApiKeyFact:
    fields = {"version": version, "key_id": "KEY1", "account_id": "ACC1", "key_hash": hash_key(KEY), "scopes": ["send"]}
    return ApiKeyFact(**fields | changes)


@pytest.mark.parametrize("account_first", [True, False])
def test_a_key_finds_its_account_whatever_comes_first(account_first: bool) -> None:
    directory = Directory()
    if account_first:
        directory.apply_account(account())
    directory.apply_key(api_key())
    if not account_first:
        assert directory.caller(KEY, 0.0) is None
        directory.apply_account(account())
    caller = directory.caller(KEY, 0.0)
    assert caller is not None
    assert (caller.account_id, caller.scopes) == ("ACC1", frozenset({Scope.SEND}))
    assert caller.requests == Rate(60, 60.0, 60)
    assert caller.messages == Rate(10, 1.0, 100)


def test_changes_of_the_account_reach_its_callers() -> None:
    directory = Directory()
    directory.apply_account(account())
    directory.apply_key(api_key())
    directory.apply_account(account(2, plan="enterprise", status="suspended"))
    caller = directory.caller(KEY, 0.0)
    assert caller is not None
    assert caller.suspended
    assert caller.requests is None


def test_what_an_account_asks_of_its_callers_reaches_them() -> None:
    directory = Directory()
    directory.apply_key(api_key())
    directory.apply_account(account(7, ip_allow_list=["203.0.113.0/24"], require_signature=True))
    caller = directory.caller(KEY, 0.0)
    assert caller is not None
    assert (caller.require_signature, caller.account_version) == (True, 7)
    assert caller.allow_list.allows("203.0.113.5")
    assert not caller.allow_list.allows("203.0.114.5")
    directory.apply_account(account(8))
    caller = directory.caller(KEY, 0.0)
    assert caller is not None
    assert caller.allow_list.allows("203.0.114.5")
    assert not caller.require_signature


def test_revoked_expired_and_unknown_keys_find_nobody() -> None:
    directory = Directory(operator_key="hk_op_x")
    directory.apply_account(account())
    directory.apply_key(api_key(expires_at=datetime.fromtimestamp(100, UTC)))
    assert directory.caller(KEY, 99.0) is not None
    assert directory.caller(KEY, 100.0) is None
    directory.apply_key(api_key(2))
    assert directory.caller(KEY, 100.0) is not None
    directory.apply_key(api_key(3, deleted=True))
    assert directory.caller(KEY, 0.0) is None
    assert directory.caller("hk_live_guess", 0.0) is None


def test_the_operator_is_known_by_its_key_only() -> None:
    directory = Directory(operator_key="hk_op_x")
    operator = directory.caller("hk_op_x", 0.0)
    assert operator is not None
    assert operator.scopes == {Scope.OPERATOR}
    assert directory.caller("hk_op_y", 0.0) is None
    assert Directory().caller("", 0.0) is None


def test_limits_of_an_account_replace_those_of_its_plan() -> None:
    assert rates(account(plan="business")) == (Rate(600, 60.0, 600), Rate(100, 1.0, 1_000))
    assert rates(account(plan="enterprise")) == (None, None)
    own = account(plan="enterprise", requests_per_minute=5, messages_per_second=3)
    assert rates(own) == (Rate(5, 60.0, 5), Rate(3, 1.0, 30))
    assert rates(account(plan="of another time")) == rates(account())


def test_keys_are_long_random_and_tell_their_kind() -> None:
    assert KEY.startswith("hk_live_")
    assert len(KEY) == len("hk_live_") + 32
    assert new_api_key(test_only=True).startswith("hk_test_")
    assert len({new_api_key(test_only=False) for _ in range(100)}) == 100
