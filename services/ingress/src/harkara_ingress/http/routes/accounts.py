"""Accounts, as the operator keeps them, and an account's own money."""

from dataclasses import replace
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict
from starlette.requests import Request

from harkara_contracts.commands import BalanceReply, GetBalance, GetUsage, LedgerEntry, ListLedger, TopUp
from harkara_contracts.errors import ErrorCode, HarkaraError
from harkara_contracts.ids import is_message_id
from harkara_contracts.money import from_paise
from harkara_ingress.access.accounts import AccountStatus, Plan, Scope
from harkara_ingress.access.administration import Administration
from harkara_ingress.access.audit import audit
from harkara_ingress.access.store import AccountRecord, AccountStore
from harkara_ingress.fields import Whole
from harkara_ingress.http.common import Cursor, Id, Instant, Name, Paise, paise
from harkara_ingress.http.context import Operator, Reader, context_of
from harkara_ingress.http.owners import Owners, asked_by
from harkara_ingress.http.routes.security import Networks

_MAX_TOPUP_PAISE = 10**13
Limit = Annotated[Whole, Field(ge=1, le=1_000_000)]


_OPENING: JsonDict = {"name": "Kirana Stores", "plan": "business", "auto_approve": False}
_ACCOUNT: JsonDict = {
    **_OPENING,
    "account_id": "ACC0PZQ4X8M2T7RVBK",
    "status": "active",
    "requests_per_minute": None,
    "messages_per_second": None,
    "burst": None,
    "ip_allow_list": ["203.0.113.0/24"],
    "require_signature": False,
    "created_at": "2026-11-22T10:44:56Z",
}
_OPENED: JsonDict = {
    **_ACCOUNT,
    "ip_allow_list": [],
    "api_key": "hk_live_mzxw6ytboi2dgnrvgy3tqojqgezdgnbv",
    "signing_secret": "hs_4f0c1b7a96d2e3584f0c1b7a96d2e3584f0c1b7a96d2e3584f0c1b7a96d2e358",
}
_BALANCE: JsonDict = {
    "account_id": "ACC0PZQ4X8M2T7RVBK",
    "currency": "INR",
    "available_paise": 4_999_978,
    "held_paise": 22,
}
_LINE: JsonDict = {
    "entry_id": "20394",
    "kind": "hold",
    "amount_paise": 22,
    "available_change_paise": -22,
    "units": 1,
    "reference": "TN20261122B8Q0JY7RSTKBRZ7B4.1",
    "message_id": "TN20261122B8Q0JY7RSTKBRZ7B4",
    "created_at": "2026-11-22T10:44:56Z",
}
_USED: JsonDict = {
    "day": "2026-11-22",
    "channel": "sms",
    "category": "transactional",
    "units": 1_200,
    "amount_paise": 26_400,
}


class OpenAccount(BaseModel):
    model_config = ConfigDict(json_schema_extra={"example": _OPENING})

    name: Name
    plan: Plan = Plan.STARTER
    auto_approve: bool = False


class ChangeAccount(BaseModel):
    """What is not given stays. A limit of null goes back to the plan's.

    `ip_allow_list` and `require_signature` let in again who has locked itself out.
    """

    model_config = ConfigDict(json_schema_extra={"example": {"plan": "business", "ip_allow_list": []}})

    name: Name | None = None
    plan: Plan | None = None
    status: AccountStatus | None = None
    auto_approve: bool | None = None
    requests_per_minute: Limit | None = None
    messages_per_second: Limit | None = None
    burst: Limit | None = None
    ip_allow_list: Networks | None = None
    require_signature: bool | None = None


class Account(BaseModel):
    model_config = ConfigDict(json_schema_extra={"example": _ACCOUNT})

    account_id: str
    name: str
    plan: str
    status: str
    auto_approve: bool
    requests_per_minute: int | None
    messages_per_second: int | None
    burst: int | None
    ip_allow_list: list[str]
    require_signature: bool
    created_at: datetime

    @classmethod
    def of(cls, record: AccountRecord) -> "Account":
        return cls(**{name: getattr(record, name) for name in cls.model_fields})


class OpenedAccount(Account):
    """`api_key` and `signing_secret` are told this once."""

    model_config = ConfigDict(json_schema_extra={"example": _OPENED})

    api_key: str
    signing_secret: str


class AddMoney(BaseModel):
    """One payment; a `reference` counts once."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"amount_paise": 5_000_000, "reference": "NEFT N326248811"}}
    )

    amount_paise: Annotated[Whole, Field(gt=0, le=_MAX_TOPUP_PAISE)]
    reference: Name


class Balance(BaseModel):
    """`held_paise` is reserved for messages whose end is open."""

    model_config = ConfigDict(json_schema_extra={"example": _BALANCE})

    account_id: str
    currency: str
    available_paise: Paise
    held_paise: Paise


class LedgerLine(BaseModel):
    """One movement. `available_change_paise` sums up to the balance: a capture takes from what was held already."""

    model_config = ConfigDict(json_schema_extra={"example": _LINE})

    entry_id: str
    kind: str
    amount_paise: Paise
    available_change_paise: Paise
    units: int
    reference: str
    message_id: str | None
    created_at: datetime


class Ledger(BaseModel):
    model_config = ConfigDict(json_schema_extra={"example": {"entries": [_LINE], "next_cursor": None}})

    entries: list[LedgerLine]
    next_cursor: str | None


class UsageLine(BaseModel):
    model_config = ConfigDict(json_schema_extra={"example": _USED})

    day: str
    channel: str
    category: str
    units: int
    amount_paise: Paise


class Usage(BaseModel):
    model_config = ConfigDict(json_schema_extra={"example": {"usage": [_USED]}})

    usage: list[UsageLine]


def account_routes(administration: Administration, store: AccountStore, owners: Owners) -> APIRouter:
    router = APIRouter(tags=["accounts"])
    _accounts(router, administration, store)
    _money(router, store, owners)
    return router


def _accounts(router: APIRouter, administration: Administration, store: AccountStore) -> None:
    @router.post("/v1/accounts")
    async def open_account(caller: Operator, wanted: OpenAccount) -> OpenedAccount:
        """Open an account (operator)."""
        new = await administration.open_account(wanted.name, wanted.plan, auto_approve=wanted.auto_approve)
        audit(caller, "account opened", account_id=new.account.account_id, key_id=new.key_id)
        account = Account.of(new.account).model_dump()
        return OpenedAccount(**account, api_key=new.api_key, signing_secret=new.signing_secret)

    @router.get("/v1/accounts/{account_id}")
    async def account(request: Request, account_id: Id) -> Account:
        """Show an account: to the operator, and to the account itself."""
        caller = context_of(request).caller
        itself = caller is not None and caller.account_id == account_id and Scope.READ in caller.scopes
        record = await store.account(account_id)
        if caller is None or not (itself or Scope.OPERATOR in caller.scopes):
            raise HarkaraError(
                ErrorCode.FORBIDDEN, "An account is shown to its own keys (scope read) and to the operator."
            )
        if record is None:
            raise HarkaraError(ErrorCode.NOT_FOUND, "There is no such account.")
        return Account.of(record)

    @router.patch("/v1/accounts/{account_id}")
    async def change_account(caller: Operator, account_id: Id, wanted: ChangeAccount) -> Account:
        """Change an account (operator)."""
        changes = _changes(wanted)
        record = await administration.change_account(account_id, lambda former: replace(former, **changes))
        audit(caller, "account changed", account_id=account_id, **{k: v for k, v in changes.items() if k != "name"})
        return Account.of(record)


def _money(router: APIRouter, store: AccountStore, owners: Owners) -> None:
    @router.post("/v1/accounts/{account_id}/topups")
    async def top_up(caller: Operator, account_id: Id, wanted: AddMoney) -> Balance:
        """Add money (operator); the same `reference` with the same amount changes nothing."""
        if await store.account(account_id) is None:
            raise HarkaraError(ErrorCode.NOT_FOUND, "There is no such account.")
        reply = await owners.ask(
            TopUp(
                **asked_by(caller, account_id),
                amount_mp=from_paise(wanted.amount_paise),
                reference=wanted.reference,
            )
        )
        return _balance(account_id, reply)

    @router.get("/v1/account/balance")
    async def balance(caller: Reader) -> Balance:
        """Show what can be spent and what is held."""
        reply = await owners.ask(GetBalance(**asked_by(caller)))
        return _balance(caller.account_id, reply)

    @router.get("/v1/account/ledger")
    async def ledger(
        caller: Reader,
        limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
        cursor: Cursor | None = None,
        message_id: str | None = None,
    ) -> Ledger:
        """List the movements of the account's money, newest first."""
        if message_id is not None and not is_message_id(message_id):
            raise HarkaraError(ErrorCode.INVALID_REQUEST, "Field `message_id` is no message id.")
        reply = await owners.ask(
            ListLedger(
                **asked_by(caller),
                limit=limit,
                cursor=cursor,
                message_id=message_id,
            )
        )
        lines = [_line(entry) for entry in reply.entries]
        return Ledger(entries=lines, next_cursor=reply.next_cursor)

    @router.get("/v1/account/usage")
    async def usage(caller: Reader, start: Instant | None = None, end: Instant | None = None) -> Usage:
        """Sum up what was used, by day (IST), channel and category."""
        reply = await owners.ask(GetUsage(**asked_by(caller), start=start, end=end))
        lines = [
            UsageLine(**row.model_dump(exclude={"amount_mp"}), amount_paise=paise(row.amount_mp)) for row in reply.rows
        ]
        return Usage(usage=lines)


def _changes(wanted: ChangeAccount) -> dict[str, Any]:
    given = wanted.model_dump(mode="json", exclude_unset=True)
    return {
        name: value
        for name, value in given.items()
        if value is not None or name in {"requests_per_minute", "messages_per_second", "burst"}
    }


def _line(entry: LedgerEntry) -> LedgerLine:
    return LedgerLine(
        **entry.model_dump(exclude={"amount_mp", "available_change_mp"}),
        amount_paise=paise(entry.amount_mp),
        available_change_paise=paise(entry.available_change_mp),
    )


def _balance(account_id: str, reply: BalanceReply) -> Balance:
    return Balance(
        account_id=account_id,
        currency=reply.currency,
        available_paise=paise(reply.available_mp),
        held_paise=paise(reply.held_mp),
    )
