"""Webhook endpoints and the log of their deliveries; webhook-dispatcher owns both."""

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from harkara_contracts.commands import (
    CreateEndpoint,
    DeleteEndpoint,
    Delivery,
    Endpoint,
    EndpointReply,
    ListDeliveries,
    ListEndpoints,
    ReplayDelivery,
    RotateSecret,
    SendTestEvent,
    UpdateEndpoint,
)
from harkara_contracts.errors import ErrorCode, HarkaraError
from harkara_ingress.access.accounts import Caller
from harkara_ingress.fields import Whole
from harkara_ingress.http.common import Cursor, Deleted, Id
from harkara_ingress.http.context import Manager, Reader
from harkara_ingress.http.owners import Owners, asked_by

WebhookUrl = Annotated[str, Field(min_length=8, max_length=2_000)]
EventNames = Annotated[list[Annotated[str, Field(pattern=r"^[a-z_]+\.[a-z_]+$")]], Field(max_length=50)]
Description = Annotated[str, Field(max_length=500)]


class NewWebhook(BaseModel):
    """No `events` means all of them."""

    url: WebhookUrl
    events: EventNames | None = None
    description: Description | None = None


class ChangeWebhook(BaseModel):
    url: WebhookUrl | None = None
    events: EventNames | None = None
    description: Description | None = None
    status: Annotated[str, Field(pattern="^(active|disabled)$")] | None = None


class RotateWebhookSecret(BaseModel):
    """How long the old secret goes on signing beside the new one."""

    overlap_seconds: Annotated[Whole, Field(ge=0, le=604_800)] = 86_400


class WebhookWithSecret(Endpoint):
    """`secret` is told this once."""

    secret: str | None = None


class Webhooks(BaseModel):
    webhooks: list[Endpoint]


class Deliveries(BaseModel):
    """Newest first; `next_cursor` leads on, null at the end."""

    deliveries: list[Delivery]
    next_cursor: str | None


def webhook_routes(owners: Owners) -> APIRouter:
    router = APIRouter(tags=["webhooks"])
    _endpoints(router, owners)
    _deliveries(router, owners)
    return router


def _endpoints(router: APIRouter, owners: Owners) -> None:
    @router.post("/v1/webhooks")
    async def create(caller: Manager, wanted: NewWebhook) -> WebhookWithSecret:
        """Add an endpoint; its secret is told once."""
        command = CreateEndpoint(**asked_by(caller), **wanted.model_dump(exclude_none=True))
        return _with_secret(await owners.ask(command))

    @router.get("/v1/webhooks")
    async def webhooks(caller: Reader) -> Webhooks:
        """List the account's endpoints."""
        reply = await owners.ask(ListEndpoints(**asked_by(caller)))
        return Webhooks(webhooks=reply.endpoints)

    @router.get("/v1/webhooks/{webhook_id}")
    async def webhook(caller: Reader, webhook_id: Id) -> Endpoint:
        """Show an endpoint."""
        return await _existing(owners, caller, webhook_id)

    @router.patch("/v1/webhooks/{webhook_id}")
    async def change(caller: Manager, webhook_id: Id, wanted: ChangeWebhook) -> Endpoint:
        """Change an endpoint, or switch it off and on."""
        command = UpdateEndpoint(**asked_by(caller), webhook_id=webhook_id, **wanted.model_dump())
        return (await owners.ask(command)).endpoint

    @router.delete("/v1/webhooks/{webhook_id}")
    async def delete(caller: Manager, webhook_id: Id) -> Deleted:
        """Remove an endpoint."""
        await _existing(owners, caller, webhook_id)  # to its owner, deleting what is gone is no error
        await owners.ask(DeleteEndpoint(**asked_by(caller), webhook_id=webhook_id))
        return Deleted()

    @router.post("/v1/webhooks/{webhook_id}/rotate-secret")
    async def rotate_secret(
        caller: Manager, webhook_id: Id, wanted: RotateWebhookSecret | None = None
    ) -> WebhookWithSecret:
        """Make a new secret; the old one goes on signing beside it for `overlap_seconds`."""
        command = RotateSecret(
            **asked_by(caller),
            webhook_id=webhook_id,
            overlap_seconds=(wanted or RotateWebhookSecret()).overlap_seconds,
        )
        return _with_secret(await owners.ask(command))


async def _existing(owners: Owners, caller: Caller, webhook_id: str) -> Endpoint:
    reply = await owners.ask(ListEndpoints(**asked_by(caller)))
    found = next((endpoint for endpoint in reply.endpoints if endpoint.webhook_id == webhook_id), None)
    if found is None:
        raise HarkaraError(ErrorCode.NOT_FOUND, "The account has no such webhook.")
    return found


def _deliveries(router: APIRouter, owners: Owners) -> None:
    @router.post("/v1/webhooks/{webhook_id}/test")
    async def send_test(caller: Manager, webhook_id: Id) -> Delivery:
        """Send a test event to an endpoint."""
        command = SendTestEvent(**asked_by(caller), webhook_id=webhook_id)
        return (await owners.ask(command)).delivery

    @router.get("/v1/webhooks/{webhook_id}/deliveries")
    async def deliveries(
        caller: Reader,
        webhook_id: Id,
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
        cursor: Cursor | None = None,
        message_id: Id | None = None,
    ) -> Deliveries:
        """List what was sent to an endpoint, with every attempt."""
        command = ListDeliveries(
            **asked_by(caller),
            webhook_id=webhook_id,
            limit=limit,
            cursor=cursor,
            message_id=message_id,
        )
        reply = await owners.ask(command)
        return Deliveries(deliveries=reply.deliveries, next_cursor=reply.next_cursor)

    @router.post("/v1/webhooks/deliveries/{delivery_id}/replay")
    async def replay(caller: Manager, delivery_id: Id) -> Delivery:
        """Send a delivery again."""
        command = ReplayDelivery(**asked_by(caller), delivery_id=delivery_id)
        return (await owners.ask(command)).delivery


def _with_secret(reply: EndpointReply) -> WebhookWithSecret:
    return WebhookWithSecret(**reply.endpoint.model_dump(), secret=reply.secret)
