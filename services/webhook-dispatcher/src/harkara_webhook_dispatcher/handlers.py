"""Events become deliveries; commands change endpoints and show the log."""

import asyncio
import base64
import binascii
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Protocol

from harkara_chassis.clock import now_utc
from harkara_contracts import commands as c
from harkara_contracts.errors import ErrorCode, HarkaraError
from harkara_contracts.events import ClientTold, Event, TimerDue
from harkara_contracts.subjects import Lane
from harkara_webhook_dispatcher import payload
from harkara_webhook_dispatcher.delivery import Delivery, delivery_id_of, partition_day
from harkara_webhook_dispatcher.directory import Directory
from harkara_webhook_dispatcher.dispatcher import Dispatcher, fact_of
from harkara_webhook_dispatcher.endpoint import (
    Endpoint,
    checked_description,
    checked_events,
    checked_status,
    checked_url,
)
from harkara_webhook_dispatcher.settings import Settings
from harkara_webhook_dispatcher.store import Place, Store, StoredEndpoint

_ANSWER_WITHIN_S = 3.0
"""How long a test or replay waits for the endpoint before it answers "pending": less than callers wait for us."""


class Publisher(Protocol):
    async def publish(self, events: Sequence[Event]) -> int: ...


class Handlers:
    def __init__(
        self, store: Store, directory: Directory, dispatcher: Dispatcher, publisher: Publisher, settings: Settings
    ) -> None:
        self._store = store
        self._directory = directory
        self._dispatcher = dispatcher
        self._publisher = publisher
        self._has_log = settings.event_log
        self._sandbox = settings.webhook_sandbox
        self._endpoints_max = settings.webhook_endpoints_max

    # --- events --------------------------------------------------------------------------------------------------------

    async def on_events(self, events: Sequence[Event]) -> Sequence[Event]:
        """Put events into their accounts' logs, and deliver them to every endpoint that wants them."""
        await self._dispatcher.refresh()
        now = now_utc()
        told: list[ClientTold] = []
        fresh: list[Delivery] = []
        for event in events:
            self._tell(event, now, told, fresh)
        if not fresh:
            return told
        # Beside each other: no endpoint keeps the log waiting, and no log an endpoint.
        in_log = asyncio.ensure_future(self._publisher.publish(told))
        try:
            return await self._dispatcher.dispatch(fresh)
        finally:
            await in_log

    async def on_timers(self, events: Sequence[TimerDue]) -> Sequence[Event]:
        return await self._dispatcher.sweep(max(now_utc(), *(event.due_at for event in events)))

    def _tell(self, event: Event, now: datetime, told: list[ClientTold], fresh: list[Delivery]) -> None:
        """Add what is to be told of an event, to the log and to each endpoint that wants it."""
        account_id = getattr(event, "account_id", None)  # an inbound has none until its number's owner is known
        name = payload.name_of(event)
        if account_id is None or name is None:
            return
        endpoints = self._directory.wanting(account_id, name)
        if not endpoints and not self._has_log:
            return
        body = payload.body_of(event)
        message_id = payload.message_id_of(event)
        cause = event.event_id()
        if self._has_log:
            told.append(
                ClientTold(
                    account_id=account_id,
                    cause=cause,
                    name=name,
                    message_id=message_id,
                    body=body.decode(),
                    told_at=now,
                )
            )
        if not endpoints:
            return
        day = partition_day(payload.occurred_at(event), now.date())
        fresh.extend(
            Delivery(
                delivery_id=delivery_id_of(endpoint.webhook_id, cause, day),
                day=day,
                account_id=account_id,
                webhook_id=endpoint.webhook_id,
                event=name,
                message_id=message_id,
                lane=getattr(event, "lane", Lane.TRANSACTIONAL),
                body=body,
                created_at=now,
            )
            for endpoint in endpoints
        )

    # --- endpoints -----------------------------------------------------------------------------------------------------

    async def create_endpoint(self, command: c.CreateEndpoint) -> c.EndpointReply:
        stored = await self._store.create(
            command.account_id,
            checked_url(command.url, sandbox=self._sandbox),
            checked_events(command.events),
            checked_description(command.description),
            command.command_id,
            self._endpoints_max,
        )
        if stored is None:
            raise HarkaraError(
                ErrorCode.CONFLICT, f"an account has at most {self._endpoints_max} webhooks: delete one first"
            )
        return await self._changed(stored, show_secret=True)

    async def update_endpoint(self, command: c.UpdateEndpoint) -> c.EndpointReply:
        stored = await self._store.update(
            command.account_id,
            command.webhook_id,
            url=None if command.url is None else checked_url(command.url, sandbox=self._sandbox),
            events=None if command.events is None else checked_events(command.events),
            description=None if command.description is None else checked_description(command.description),
            status=None if command.status is None else checked_status(command.status),
        )
        return await self._changed(_found(stored))

    async def delete_endpoint(self, command: c.DeleteEndpoint) -> c.Done:
        """Delete an endpoint; one that is not there any more is no error, for a repeat."""
        stored = await self._store.endpoint(command.account_id, command.webhook_id)
        if stored is None:
            return c.Done()
        await self._store.delete(command.account_id, command.webhook_id)
        self._directory.mark_stale(command.webhook_id)
        return c.Done(facts_sequence=await self._publisher.publish([fact_of(stored.endpoint, deleted=True)]))

    async def list_endpoints(self, command: c.ListEndpoints) -> c.EndpointsReply:
        return c.EndpointsReply(
            endpoints=[_shown(endpoint) for endpoint in await self._store.endpoints_of(command.account_id)]
        )

    async def rotate_secret(self, command: c.RotateSecret) -> c.EndpointReply:
        stored = await self._existing(command.account_id, command.webhook_id)
        now = now_utc()
        if stored.rotated_by != command.command_id:
            ends_at = stored.endpoint.overlap_ends_at
            if command.overlap_seconds and ends_at is not None and now < ends_at:
                raise HarkaraError(
                    ErrorCode.CONFLICT,
                    f"two secrets live together until {ends_at:%Y-%m-%d %H:%M} UTC already: wait, or rotate with"
                    " overlap_seconds 0, which ends both at once",
                )
            overlap_ends_at = now + timedelta(seconds=command.overlap_seconds) if command.overlap_seconds else None
            stored = _found(
                await self._store.rotate(command.account_id, command.webhook_id, command.command_id, overlap_ends_at)
            )
        return await self._changed(stored, show_secret=True)

    # --- deliveries ----------------------------------------------------------------------------------------------------

    async def send_test_event(self, command: c.SendTestEvent) -> c.DeliveryReply:
        """Send a test event and tell what the endpoint answered. It is tried once."""
        endpoint = await self._active(command.account_id, command.webhook_id)
        now = now_utc()
        delivery = Delivery(
            delivery_id=delivery_id_of(endpoint.webhook_id, f"{command.command_id}.test", now.date()),
            day=now.date(),
            account_id=command.account_id,
            webhook_id=endpoint.webhook_id,
            event=payload.TEST_EVENT,
            message_id=command.command_id,
            lane=Lane.TRANSACTIONAL,
            body=payload.sample_body(command.command_id, now),
            created_at=now,
        )
        await self._publisher.publish(await self._dispatcher.dispatch([delivery], grace_s=_ANSWER_WITHIN_S))
        return c.DeliveryReply(delivery=_log_entry(delivery))

    async def list_deliveries(self, command: c.ListDeliveries) -> c.DeliveriesReply:
        await self._existing(command.account_id, command.webhook_id)
        found = await self._store.page(
            command.account_id, command.webhook_id, command.message_id, _place(command.cursor), command.limit + 1
        )
        page = found[: command.limit]
        return c.DeliveriesReply(
            deliveries=[_log_entry(delivery) for delivery in page],
            next_cursor=_cursor(page[-1]) if len(found) > command.limit else None,
        )

    async def replay_delivery(self, command: c.ReplayDelivery) -> c.DeliveryReply:
        """Send a stored body again, with a new series of tries. One that is pending already is left to its course."""
        delivery = await self._delivery(command)
        await self._active(command.account_id, delivery.webhook_id)
        lease_ends_at = self._dispatcher.lease_ends_at(now_utc())
        renewed = await self._store.begin_again(command.account_id, command.delivery_id, lease_ends_at)
        if renewed is not None:
            await self._publisher.publish(await self._dispatcher.resend(renewed, _ANSWER_WITHIN_S))
            delivery = renewed
        return c.DeliveryReply(delivery=_log_entry(delivery))

    # --- helpers -------------------------------------------------------------------------------------------------------

    async def _changed(self, stored: StoredEndpoint, *, show_secret: bool = False) -> c.EndpointReply:
        self._directory.mark_stale(stored.endpoint.webhook_id)
        sequence = await self._publisher.publish([fact_of(stored.endpoint)])
        return c.EndpointReply(
            endpoint=_shown(stored.endpoint), secret=stored.secret if show_secret else None, facts_sequence=sequence
        )

    async def _existing(self, account_id: str, webhook_id: str) -> StoredEndpoint:
        return _found(await self._store.endpoint(account_id, webhook_id))

    async def _active(self, account_id: str, webhook_id: str) -> Endpoint:
        endpoint = (await self._existing(account_id, webhook_id)).endpoint
        if not endpoint.is_active:
            raise HarkaraError(ErrorCode.CONFLICT, "the webhook is disabled: set its status to active first")
        await self._dispatcher.refresh()
        return endpoint

    async def _delivery(self, command: c.ReplayDelivery) -> Delivery:
        try:
            delivery = await self._store.delivery(command.account_id, command.delivery_id)
        except ValueError:  # the id does not have the form of one
            delivery = None
        if delivery is None:
            raise HarkaraError(ErrorCode.NOT_FOUND, "there is no such delivery")
        return delivery


def _found(stored: StoredEndpoint | None) -> StoredEndpoint:
    if stored is None:
        raise HarkaraError(ErrorCode.NOT_FOUND, "there is no such webhook")
    return stored


def _shown(endpoint: Endpoint) -> c.Endpoint:
    return c.Endpoint(
        webhook_id=endpoint.webhook_id,
        url=str(endpoint.url),
        events=sorted(endpoint.events),
        description=endpoint.description,
        status=endpoint.status,
        reason=endpoint.reason,
        created_at=endpoint.created_at,
    )


def _log_entry(delivery: Delivery) -> c.Delivery:
    return c.Delivery(
        delivery_id=delivery.delivery_id,
        webhook_id=delivery.webhook_id,
        event=delivery.event,
        message_id=delivery.message_id,
        state=delivery.state,
        attempts=[
            c.DeliveryAttempt(
                number=attempt.number,
                at=attempt.at,
                status_code=attempt.status_code,
                error=attempt.error,
                latency_ms=attempt.latency_ms,
                response_head=attempt.response_head,
            )
            for attempt in delivery.attempts
        ],
        created_at=delivery.created_at,
        next_attempt_at=delivery.next_attempt_at,
    )


def _cursor(delivery: Delivery) -> str:
    """Write the place behind a delivery as one opaque token."""
    created_us = int(delivery.created_at.timestamp()) * 1_000_000 + delivery.created_at.microsecond
    return base64.urlsafe_b64encode(f"{created_us} {delivery.delivery_id}".encode()).decode().rstrip("=")


def _place(cursor: str | None) -> Place | None:
    if cursor is None:
        return None
    try:
        created_us, delivery_id = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode().split(" ")
        seconds, microseconds = divmod(int(created_us), 1_000_000)
        created_at = datetime.fromtimestamp(seconds, UTC).replace(microsecond=microseconds)
    except (ValueError, OverflowError, OSError, binascii.Error) as error:
        raise HarkaraError(ErrorCode.INVALID_REQUEST, "cursor is not one that was given out here") from error
    return Place(created_at, delivery_id)
