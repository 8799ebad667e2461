"""Signing secrets read from a real table, and remembered for as long as they are the account's."""

import base64
import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pytest
from pydantic import SecretStr

from harkara_chassis.clock import now_utc
from harkara_chassis.database import Database
from harkara_chassis.sealing import Sealer
from harkara_contracts.errors import ErrorCode, HarkaraError
from harkara_contracts.ids import new_account_id, new_id
from harkara_ingress.access.signing_secrets import SigningSecrets
from harkara_ingress.access.store import AccountRecord, AccountStore, KeyRecord

SEALER = Sealer(SecretStr(base64.b64encode(bytes(32)).decode()))
VERSION = 1


@dataclass
class Clock:
    now: datetime = field(default_factory=now_utc)

    def __call__(self) -> datetime:
        return self.now


async def account_with(store: AccountStore, secret: bytes) -> str:
    account_id, now = new_account_id(), now_utc()
    account = AccountRecord(
        account_id, "A", "starter", "active", False, None, None, None, [], False, None, time.time_ns(), now
    )
    key = KeyRecord(new_id("KEY"), account_id, new_id("HASH"), "k", ["read"], False, None, None, None, 1, now)
    await store.add_account(account, SEALER.seal(secret), key)
    return account_id


async def rotate(store: AccountStore, account_id: str, secret: bytes, until: datetime | None) -> None:
    await store.rotate_signing_secret(account_id, SEALER.seal(secret), now_utc(), until, time.time_ns())


@pytest.fixture
def store(database: Any) -> AccountStore:
    return AccountStore(database)


async def test_a_new_version_is_read_anew_and_an_old_one_is_not(store: AccountStore) -> None:
    account_id = await account_with(store, b"first")
    secrets = SigningSecrets(store, SEALER)
    assert await secrets.of(account_id, VERSION) == [b"first"]
    await rotate(store, account_id, b"second", None)
    assert await secrets.of(account_id, VERSION) == [b"first"]
    assert await secrets.of(account_id, VERSION + 1) == [b"second"]


async def test_the_former_secret_is_valid_until_its_time(store: AccountStore) -> None:
    account_id = await account_with(store, b"first")
    clock = Clock()
    secrets = SigningSecrets(store, SEALER, clock)
    until = clock.now + timedelta(hours=1)
    await rotate(store, account_id, b"second", until)
    assert await secrets.of(account_id, VERSION) == [b"second", b"first"]
    clock.now = until - timedelta(microseconds=1)
    assert await secrets.of(account_id, VERSION) == [b"second", b"first"]
    clock.now = until
    assert await secrets.of(account_id, VERSION) == [b"second"]


async def test_two_secrets_are_valid_at_most_and_the_one_in_use_is_among_them(store: AccountStore) -> None:
    account_id = await account_with(store, b"in use")
    later = now_utc() + timedelta(hours=1)
    secrets = SigningSecrets(store, SEALER)
    await rotate(store, account_id, b"lost", later)
    await rotate(store, account_id, b"second", later)
    assert await secrets.of(account_id, 1) == [b"second", b"in use"]
    await rotate(store, account_id, b"third", None)
    stored = await store.signing_secrets(account_id)
    assert stored is not None
    assert (stored.former, stored.former_until) == (None, None)
    await rotate(store, account_id, b"fourth", now_utc() - timedelta(seconds=1))
    assert await secrets.of(account_id, 2) == [b"fourth"]
    await rotate(store, account_id, b"fifth", later)
    assert await secrets.of(account_id, 3) == [b"fifth", b"fourth"]


async def test_who_has_no_secret_has_no_signature(store: AccountStore) -> None:
    assert await SigningSecrets(store, SEALER).of("ACCNONE", VERSION) == []


async def test_of_many_accounts_those_read_last_are_known(store: AccountStore) -> None:
    first, second, third = [await account_with(store, name) for name in (b"1", b"2", b"3")]
    secrets = SigningSecrets(store, SEALER, max_accounts=2)
    for account_id in (first, second, third):
        await secrets.of(account_id, VERSION)
    for account_id in (first, second, third):
        await rotate(store, account_id, b"new", None)
    assert await secrets.of(second, VERSION) == [b"2"]
    assert await secrets.of(third, VERSION) == [b"3"]
    assert await secrets.of(first, VERSION) == [b"new"]


async def test_without_a_database_what_was_read_is_still_known_and_nothing_else(servers: Any) -> None:
    database = await Database.open(servers.database_url("ingress"), "ingress")
    store = AccountStore(database)
    known, other = await account_with(store, b"known"), await account_with(store, b"other")
    secrets = SigningSecrets(store, SEALER)
    await secrets.of(known, VERSION)
    await database.close()
    assert await secrets.of(known, VERSION) == [b"known"]
    for account_id, version in ((known, VERSION + 1), (other, VERSION)):
        with pytest.raises(HarkaraError) as refused:
            await secrets.of(account_id, version)
        assert refused.value.code is ErrorCode.UNAVAILABLE
