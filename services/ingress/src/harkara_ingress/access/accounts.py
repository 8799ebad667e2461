"""Who is calling: API keys, scopes, plans, and the directory that finds a caller by key in memory.

A key is known by its SHA-256 only. Keys carry 160 random bits, so a plain hash is enough: there is nothing to guess, and
looking a hash up in a dictionary tells an attacker nothing about keys.
"""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from harkara_contracts.facts import AccountFact, ApiKeyFact
from harkara_ingress.access.addresses import AllowList
from harkara_ingress.access.limits import Rate

_KEY_BYTES = 20
_NEVER_S = float("inf")
_EVERYWHERE = AllowList(())


class Scope(StrEnum):
    SEND = "send"
    READ = "read"
    MANAGE = "manage"
    OPERATOR = "operator"


_SCOPES = frozenset(scope.value for scope in Scope)


class Plan(StrEnum):
    STARTER = "starter"
    BUSINESS = "business"
    ENTERPRISE = "enterprise"


class AccountStatus(StrEnum):
    ACTIVE = "active"
    SUSPENDED = "suspended"


@dataclass(frozen=True, slots=True)
class PlanLimits:
    """`None` is not limited. `burst` is of messages."""

    requests_per_minute: int | None
    messages_per_second: int | None
    burst: int | None


PLANS: Mapping[str, PlanLimits] = {
    Plan.STARTER: PlanLimits(60, 10, 100),
    Plan.BUSINESS: PlanLimits(600, 100, 1_000),
    Plan.ENTERPRISE: PlanLimits(None, None, None),
}


@dataclass(frozen=True, slots=True)
class Caller:
    """Who a request comes from. The operator acts for no account: its `account_id` is empty.

    `account_version` changes with everything that changes of the account.
    """

    account_id: str
    key_id: str
    scopes: frozenset[Scope]
    test_only: bool
    expires_at_s: float
    suspended: bool
    auto_approve: bool
    requests: Rate | None
    messages: Rate | None
    allow_list: AllowList = _EVERYWHERE
    require_signature: bool = False
    account_version: int = 0


_OPERATOR = Caller("", "operator", frozenset({Scope.OPERATOR}), False, _NEVER_S, False, False, None, None)


def new_api_key(*, test_only: bool) -> str:
    """Return a fresh key: `hk_live_` or `hk_test_` and 32 base-32 characters from the system's CSPRNG."""
    tail = base64.b32encode(secrets.token_bytes(_KEY_BYTES)).decode().lower()
    return f"hk_{'test' if test_only else 'live'}_{tail}"


def new_signing_secret() -> str:
    return f"hs_{secrets.token_hex(32)}"


def hash_key(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def rates(account: AccountFact) -> tuple[Rate | None, Rate | None]:
    """Return the rates of requests and of messages: the plan's, each replaced by the account's own where it has one."""
    plan = PLANS.get(account.plan, PLANS[Plan.STARTER])
    per_minute = account.requests_per_minute or plan.requests_per_minute
    per_second = account.messages_per_second or plan.messages_per_second
    burst = account.burst or plan.burst or (per_second or 0) * 10
    return (
        Rate(per_minute, 60.0, per_minute) if per_minute else None,
        Rate(per_second, 1.0, max(burst, 1)) if per_second else None,
    )


class Directory:
    """All accounts and keys, kept by their facts; a request finds its caller by one look-up."""

    def __init__(self, operator_key: str | None = None) -> None:
        self._operator_hash = hash_key(operator_key) if operator_key else None
        self._accounts: dict[str, AccountFact] = {}
        self._allow_lists: dict[str, AllowList] = {}
        self._keys: dict[str, ApiKeyFact] = {}
        self._keys_of: dict[str, set[str]] = {}
        self._callers: dict[str, Caller] = {}

    def apply_account(self, fact: AccountFact) -> None:
        if fact.deleted:
            self._accounts.pop(fact.account_id, None)
            self._allow_lists.pop(fact.account_id, None)
        else:
            self._accounts[fact.account_id] = fact
            self._allow_lists[fact.account_id] = AllowList(fact.ip_allow_list) if fact.ip_allow_list else _EVERYWHERE
        for key_id in self._keys_of.get(fact.account_id, ()):
            self._index(self._keys[key_id])

    def apply_key(self, fact: ApiKeyFact) -> None:
        known = self._keys_of.setdefault(fact.account_id, set())
        if fact.deleted:
            known.discard(fact.key_id)
            self._keys.pop(fact.key_id, None)
            self._callers.pop(fact.key_hash, None)
            return
        known.add(fact.key_id)
        self._keys[fact.key_id] = fact
        self._index(fact)

    def account(self, account_id: str) -> AccountFact | None:
        return self._accounts.get(account_id)

    def account_version(self, account_id: str) -> int | None:
        account = self._accounts.get(account_id)
        return account.version if account else None

    def key_versions(self) -> dict[str, int]:
        return {key_id: fact.version for key_id, fact in self._keys.items()}

    def caller(self, key: str, now_s: float) -> Caller | None:
        """Find who shows this key; None for an unknown, revoked or expired one. `now_s` is unix time."""
        key_hash = hash_key(key)
        caller = self._callers.get(key_hash)
        if caller is not None:
            return caller if now_s < caller.expires_at_s else None
        if self._operator_hash is not None and hmac.compare_digest(key_hash, self._operator_hash):
            return _OPERATOR
        return None

    def _index(self, key: ApiKeyFact) -> None:
        account = self._accounts.get(key.account_id)
        if account is None:
            # Accounts and keys come in any order; the key opens nothing until its account is known.
            self._callers.pop(key.key_hash, None)
            return
        requests, messages = rates(account)
        self._callers[key.key_hash] = Caller(
            account_id=key.account_id,
            key_id=key.key_id,
            scopes=frozenset(Scope(scope) for scope in key.scopes if scope in _SCOPES),
            test_only=key.test_only,
            expires_at_s=_unix(key.expires_at),
            suspended=account.status != AccountStatus.ACTIVE,
            auto_approve=account.auto_approve,
            requests=requests,
            messages=messages,
            allow_list=self._allow_lists[key.account_id],
            require_signature=account.require_signature,
            account_version=account.version,
        )


def _unix(instant: datetime | None) -> float:
    return _NEVER_S if instant is None else instant.timestamp()
