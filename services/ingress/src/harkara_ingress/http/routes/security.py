"""What an account asks of those who show its keys: where they call from, and that they sign."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Annotated

from fastapi import APIRouter
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.config import JsonDict
from starlette.requests import Request

from harkara_chassis.clock import now_utc
from harkara_contracts.errors import ErrorCode, HarkaraError
from harkara_ingress.access.accounts import Caller
from harkara_ingress.access.addresses import AllowList, network
from harkara_ingress.access.administration import Administration
from harkara_ingress.access.audit import audit
from harkara_ingress.access.store import AccountRecord, AccountStore
from harkara_ingress.fields import Whole
from harkara_ingress.http.context import Manager, context_of

MAX_NETWORKS = 100
MAX_OVERLAP_S = 7 * 86_400
DEFAULT_OVERLAP_S = 86_400
_MAX_NETWORK_LENGTH = 64

Networks = Annotated[
    list[Annotated[str, Field(max_length=_MAX_NETWORK_LENGTH), AfterValidator(network)]],
    Field(max_length=MAX_NETWORKS),
    AfterValidator(lambda networks: list(dict.fromkeys(networks))),
]
"""IPv4 and IPv6 networks, each once; a single address is a network too."""

_EXAMPLE: JsonDict = {"ip_allow_list": ["203.0.113.0/24", "2001:db8:40::/48"], "require_signature": True}


class ChangeSecurity(BaseModel):
    """What is not given stays. An empty list lets every address in.

    `force` takes a list that your own address is not on.
    """

    model_config = ConfigDict(json_schema_extra={"example": _EXAMPLE})

    ip_allow_list: Networks | None = None
    require_signature: bool | None = None
    force: bool = False


class Security(BaseModel):
    """`former_secret_expires_at` is there while two signing secrets are valid."""

    model_config = ConfigDict(json_schema_extra={"example": {**_EXAMPLE, "former_secret_expires_at": None}})

    ip_allow_list: list[str]
    require_signature: bool
    former_secret_expires_at: datetime | None

    @classmethod
    def of(cls, record: AccountRecord) -> "Security":
        until = record.former_secret_until
        return cls(
            ip_allow_list=record.ip_allow_list,
            require_signature=record.require_signature,
            former_secret_expires_at=until if until is not None and until > now_utc() else None,
        )


class RotateSecret(BaseModel):
    """How long the old secret goes on beside the new one."""

    model_config = ConfigDict(json_schema_extra={"example": {"overlap_seconds": 3_600}})

    overlap_seconds: Annotated[Whole, Field(ge=0, le=MAX_OVERLAP_S)] = DEFAULT_OVERLAP_S


class RotatedSecret(BaseModel):
    """`signing_secret` is told this once."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "signing_secret": "hs_4f0c1b7a96d2e3584f0c1b7a96d2e3584f0c1b7a96d2e3584f0c1b7a96d2e358",
                "former_secret_expires_at": "2026-11-22T11:44:56Z",
            }
        }
    )

    signing_secret: str
    former_secret_expires_at: datetime


def _check_is_live(caller: Caller) -> None:
    if caller.test_only:
        raise HarkaraError(
            ErrorCode.FORBIDDEN, "What is asked of live requests is not for a test key to change. Use a live key."
        )


def security_routes(administration: Administration, store: AccountStore) -> APIRouter:
    router = APIRouter(tags=["security"])

    @router.get("/v1/security")
    async def security(caller: Manager) -> Security:
        """Show where requests may come from and whether they must be signed."""
        record = await store.account(caller.account_id)
        if record is None:
            raise HarkaraError(ErrorCode.NOT_FOUND, "There is no such account.")
        return Security.of(record)

    @router.put("/v1/security")
    async def change_security(request: Request, caller: Manager, wanted: ChangeSecurity) -> Security:
        """Change where requests may come from and whether they must be signed."""
        _check_is_live(caller)
        changes = wanted.model_dump(exclude_none=True, exclude={"force"})
        allow_list = AllowList(wanted.ip_allow_list or ())
        if not wanted.force and not allow_list.allows(context_of(request).host):
            raise HarkaraError(
                ErrorCode.CONFLICT,
                "The address you call from is not on this list: your next request would be refused. Add it, or give"
                " force: true if that is meant.",
            )
        record = await administration.change_account(caller.account_id, lambda former: replace(former, **changes))
        audit(caller, "security changed", **changes)
        return Security.of(record)

    @router.post("/v1/security/rotate-signing-secret")
    async def rotate_signing_secret(caller: Manager, wanted: RotateSecret | None = None) -> RotatedSecret:
        """Replace the signing secret; the old one goes on for `overlap_seconds`.

        While two are valid already the newer one is replaced, and the older one goes on.
        """
        _check_is_live(caller)
        overlap = timedelta(seconds=(wanted or RotateSecret()).overlap_seconds)
        secret, until = await administration.rotate_signing_secret(caller.account_id, overlap)
        audit(caller, "signing secret rotated", former_until=until)
        return RotatedSecret(signing_secret=secret, former_secret_expires_at=until)

    return router
