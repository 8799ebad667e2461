"""An account's API keys."""

from datetime import datetime, timedelta
from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, Field

from harkara_chassis.clock import now_utc
from harkara_contracts.errors import ErrorCode, HarkaraError
from harkara_ingress.accounts import Scope
from harkara_ingress.administration import Administration
from harkara_ingress.fields import Whole
from harkara_ingress.http.common import Deleted, Id, Instant, Name
from harkara_ingress.http.context import Manager
from harkara_ingress.store import AccountStore, KeyRecord

_MAX_OVERLAP_S = 7 * 86_400
_DEFAULT_OVERLAP_S = 86_400


class CreateKey(BaseModel):
    name: Name
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=4)]
    test_only: bool = False
    expires_at: Instant | None = None


class RotateKey(BaseModel):
    """How long the old key goes on beside the new one."""

    overlap_seconds: Annotated[Whole, Field(ge=0, le=_MAX_OVERLAP_S)] = _DEFAULT_OVERLAP_S


class Key(BaseModel):
    key_id: str
    name: str
    scopes: list[str]
    test_only: bool
    expires_at: datetime | None
    created_at: datetime

    @classmethod
    def of(cls, record: KeyRecord) -> "Key":
        return cls(**{name: getattr(record, name) for name in Key.model_fields})


class CreatedKey(Key):
    """`api_key` is told this once."""

    api_key: str


class RotatedKey(CreatedKey):
    former_key_id: str
    former_key_expires_at: datetime


class Keys(BaseModel):
    keys: list[Key]


def key_routes(administration: Administration, store: AccountStore) -> APIRouter:
    router = APIRouter(tags=["keys"])

    @router.post("/v1/keys")
    async def create(caller: Manager, wanted: CreateKey) -> CreatedKey:
        """Create a key."""
        if Scope.OPERATOR in wanted.scopes:
            raise HarkaraError(ErrorCode.FORBIDDEN, "An account's keys cannot have the scope operator.")
        if wanted.expires_at is not None and wanted.expires_at <= now_utc():
            raise HarkaraError(ErrorCode.INVALID_REQUEST, "Field `expires_at` lies in the past.")
        new = await administration.add_key(
            caller.account_id,
            wanted.name,
            list(dict.fromkeys(wanted.scopes)),
            test_only=wanted.test_only,
            expires_at=wanted.expires_at,
        )
        return CreatedKey(**Key.of(new.key).model_dump(), api_key=new.api_key)

    @router.get("/v1/keys")
    async def keys(caller: Manager) -> Keys:
        """List the keys that are not deleted, oldest first."""
        return Keys(keys=[Key.of(record) for record in await store.keys(caller.account_id)])

    @router.delete("/v1/keys/{key_id}")
    async def delete(caller: Manager, key_id: Id) -> Deleted:
        """End a key at once."""
        await administration.revoke_key(caller.account_id, key_id)
        return Deleted()

    @router.post("/v1/keys/{key_id}/rotate")
    async def rotate(caller: Manager, key_id: Id, wanted: RotateKey | None = None) -> RotatedKey:
        """Replace a key; the old one goes on for `overlap_seconds`."""
        overlap = timedelta(seconds=(wanted or RotateKey()).overlap_seconds)
        new, until = await administration.rotate_key(caller.account_id, key_id, overlap)
        return RotatedKey(
            **Key.of(new.key).model_dump(),
            api_key=new.api_key,
            former_key_id=key_id,
            former_key_expires_at=until,
        )

    return router
