"""An account's API keys."""

from datetime import datetime, timedelta
from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

from harkara_chassis.clock import now_utc
from harkara_contracts.errors import ErrorCode, HarkaraError
from harkara_ingress.access.accounts import Caller, Scope
from harkara_ingress.access.administration import Administration
from harkara_ingress.access.audit import audit
from harkara_ingress.access.key_use import KeyUse
from harkara_ingress.access.store import AccountStore, KeyRecord
from harkara_ingress.fields import Whole
from harkara_ingress.http.common import Deleted, Id, Instant, Name
from harkara_ingress.http.context import Manager

_MAX_OVERLAP_S = 7 * 86_400
_DEFAULT_OVERLAP_S = 86_400


_KEY: JsonDict = {
    "key_id": "KEY0PZQ4X8M2T",
    "name": "web shop",
    "scopes": ["send", "read"],
    "test_only": False,
    "expires_at": None,
    "last_used_at": "2026-11-22T10:44:56.202Z",
    "created_at": "2026-11-01T06:30:00Z",
}
_CREATED: JsonDict = {**_KEY, "last_used_at": None, "api_key": "hk_live_mzxw6ytboi2dgnrvgy3tqojqgezdgnbv"}
_ROTATED: JsonDict = {**_CREATED, "former_key_id": "KEY0MHC7V5K1R", "former_key_expires_at": "2026-11-23T10:44:56Z"}


class CreateKey(BaseModel):
    model_config = ConfigDict(json_schema_extra={"example": {"name": "web shop", "scopes": ["send", "read"]}})

    name: Name
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=4)]
    test_only: bool = False
    expires_at: Instant | None = None


class RotateKey(BaseModel):
    """How long the old key goes on beside the new one."""

    model_config = ConfigDict(json_schema_extra={"example": {"overlap_seconds": 3_600}})

    overlap_seconds: Annotated[Whole, Field(ge=0, le=_MAX_OVERLAP_S)] = _DEFAULT_OVERLAP_S


class Key(BaseModel):
    """`last_used_at` is exact to half a minute; null means never."""

    model_config = ConfigDict(json_schema_extra={"example": _KEY})

    key_id: str
    name: str
    scopes: list[str]
    test_only: bool
    expires_at: datetime | None
    last_used_at: datetime | None
    created_at: datetime

    @classmethod
    def of(cls, record: KeyRecord) -> "Key":
        return cls(**{name: getattr(record, name) for name in Key.model_fields})


class CreatedKey(Key):
    """`api_key` is told this once."""

    model_config = ConfigDict(json_schema_extra={"example": _CREATED})

    api_key: str


class RotatedKey(CreatedKey):
    model_config = ConfigDict(json_schema_extra={"example": _ROTATED})

    former_key_id: str
    former_key_expires_at: datetime


class Keys(BaseModel):
    model_config = ConfigDict(json_schema_extra={"example": {"keys": [_KEY]}})

    keys: list[Key]


async def _check_may_change(store: AccountStore, caller: Caller, key_id: str) -> None:
    """Keep live keys from a test key: it would make itself one."""
    if caller.test_only:
        record = await store.key(caller.account_id, key_id)
        if record is not None and not record.test_only:
            raise HarkaraError(ErrorCode.FORBIDDEN, "A test key changes test keys only. Use a live key.")


def key_routes(administration: Administration, store: AccountStore, key_use: KeyUse) -> APIRouter:
    router = APIRouter(tags=["keys"])

    @router.post("/v1/keys")
    async def create(caller: Manager, wanted: CreateKey) -> CreatedKey:
        """Create a key."""
        if Scope.OPERATOR in wanted.scopes:
            raise HarkaraError(ErrorCode.FORBIDDEN, "An account's keys cannot have the scope operator.")
        if caller.test_only and not wanted.test_only:
            raise HarkaraError(
                ErrorCode.FORBIDDEN, "A test key makes test keys only. Give test_only: true, or use a live key."
            )
        if wanted.expires_at is not None and wanted.expires_at <= now_utc():
            raise HarkaraError(ErrorCode.INVALID_REQUEST, "Field `expires_at` lies in the past.")
        new = await administration.add_key(
            caller.account_id,
            wanted.name,
            list(dict.fromkeys(wanted.scopes)),
            test_only=wanted.test_only,
            expires_at=wanted.expires_at,
        )
        audit(
            caller,
            "key created",
            key_id=new.key.key_id,
            scopes=new.key.scopes,
            test_only=wanted.test_only,
            expires_at=wanted.expires_at,
        )
        return CreatedKey(**Key.of(new.key).model_dump(), api_key=new.api_key)

    @router.get("/v1/keys")
    async def keys(caller: Manager) -> Keys:
        """List the keys that are not deleted, oldest first."""
        await key_use.write()
        return Keys(keys=[Key.of(record) for record in await store.keys(caller.account_id)])

    @router.delete("/v1/keys/{key_id}")
    async def delete(caller: Manager, key_id: Id) -> Deleted:
        """End a key at once."""
        await _check_may_change(store, caller, key_id)
        await administration.revoke_key(caller.account_id, key_id)
        audit(caller, "key deleted", key_id=key_id)
        return Deleted()

    @router.post("/v1/keys/{key_id}/rotate")
    async def rotate(caller: Manager, key_id: Id, wanted: RotateKey | None = None) -> RotatedKey:
        """Replace a key; the old one goes on for `overlap_seconds`."""
        await _check_may_change(store, caller, key_id)
        overlap = timedelta(seconds=(wanted or RotateKey()).overlap_seconds)
        new, until = await administration.rotate_key(caller.account_id, key_id, overlap)
        audit(caller, "key rotated", key_id=new.key.key_id, former_key_id=key_id, former_until=until)
        return RotatedKey(
            **Key.of(new.key).model_dump(),
            api_key=new.api_key,
            former_key_id=key_id,
            former_key_expires_at=until,
        )

    return router
