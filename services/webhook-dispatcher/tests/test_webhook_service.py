"""The service from outside: events in on the bus, requests out to a client's real server."""

import asyncio
import base64
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import asyncpg
import orjson
import pytest
from aiohttp import web
from standardwebhooks import Webhook

from harkara_chassis import Service
from harkara_chassis.clock import now_utc
from harkara_contracts import commands as c
from harkara_contracts.errors import ErrorCode, HarkaraError
from harkara_contracts.events import (
    AttemptSent,
    BatchCompleted,
    ClientTold,
    InboundReceived,
    MessageCancelled,
    MessageDelivered,
    MessageFailed,
)
from harkara_contracts.facts import EndpointFact
from harkara_contracts.ids import attempt_id, new_account_id, new_batch_id, new_id, new_message_id
from harkara_contracts.subjects import Category, Channel, Lane
from harkara_webhook_dispatcher.app import build
from harkara_webhook_dispatcher.settings import Settings

Respond = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Received:
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, object]:
        parsed: dict[str, object] = orjson.loads(self.body)
        return parsed


@dataclass
class ClientServer:
    """`respond_on[path]` answers; a path that nobody set answers 200."""

    base_url: str = ""
    received: list[Received] = field(default_factory=list)
    respond_on: dict[str, Respond] = field(default_factory=dict)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        async with self.changed:
            self.received.append(Received(request.path, dict(request.headers), await request.read()))
            self.changed.notify_all()
        respond = self.respond_on.get(request.path)
        return web.Response(text="thanks") if respond is None else await respond(request)

    def on(self, path: str) -> list[Received]:
        return [one for one in self.received if one.path == path]

    async def until(self, path: str, count: int, timeout_s: float = 10.0) -> list[Received]:
        async with asyncio.timeout(timeout_s), self.changed:
            await self.changed.wait_for(lambda: len(self.on(path)) >= count)
        return self.on(path)


@pytest.fixture
async def client() -> AsyncIterator[ClientServer]:
    server = ClientServer()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.base_url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield server
    await runner.cleanup()


RunService = Callable[..., AbstractAsyncContextManager[Service[Settings]]]
FAST: dict[str, Any] = {
    "webhook_sandbox": True,
    "webhook_retry_delays_s": (0.2, 0.2, 0.2, 0.2, 0.2),
    "webhook_timeout_s": 1.0,
    "webhook_lease_s": 3.0,
}


@pytest.fixture
def start(run_service: RunService) -> Callable[..., AbstractAsyncContextManager[Service[Settings]]]:
    return lambda **changes: run_service("webhook-dispatcher", build, Settings, **FAST | changes)


@pytest.fixture
async def service(start: RunService) -> AsyncIterator[Service[Settings]]:
    async with start() as running:
        yield running


@dataclass
class Account:
    """An account as its owner sees it through the edge."""

    service: Service[Settings]
    account_id: str = field(default_factory=new_account_id)

    def ids(self) -> dict[str, str]:
        return {"command_id": new_id("CMD"), "account_id": self.account_id}

    async def endpoint(self, url: str, **more: Any) -> c.EndpointReply:
        return await self.service.commands.call(c.CreateEndpoint(**self.ids(), url=url, **more))

    async def log(self, webhook_id: str, **more: Any) -> list[c.Delivery]:
        reply = await self.service.commands.call(c.ListDeliveries(**self.ids(), webhook_id=webhook_id, **more))
        return reply.deliveries

    async def shown(self, webhook_id: str) -> c.Endpoint:
        reply = await self.service.commands.call(c.ListEndpoints(**self.ids()))
        return next(one for one in reply.endpoints if one.webhook_id == webhook_id)

    async def until_log(self, webhook_id: str, fits: Callable[[list[c.Delivery]], bool]) -> list[c.Delivery]:
        """Ask until the log fits: what is settled in the background tells nobody."""
        async with asyncio.timeout(10):
            while not fits(log := await self.log(webhook_id)):
                await asyncio.sleep(0.05)
        return log

    async def until_status(self, webhook_id: str, status: str) -> c.Endpoint:
        async with asyncio.timeout(10):
            while (shown := await self.shown(webhook_id)).status != status:
                await asyncio.sleep(0.05)
        return shown

    def delivered(self, message_id: str | None = None, lane: Lane = Lane.TRANSACTIONAL) -> MessageDelivered:
        now = now_utc()
        return MessageDelivered(
            message_id=message_id or new_message_id(),
            account_id=self.account_id,
            lane=lane,
            to="919876543210",
            sender="HRKARA",
            channel=Channel.SMS,
            carrier="jio",
            correlation_id="order-7",
            occurred_at=now,
            delivered_at=now - timedelta(seconds=1),
            latency_ms=1200,
        )


@pytest.fixture
def account(service: Service[Settings]) -> Account:
    return Account(service)


async def rows_of(service: Service[Settings], account_id: str) -> int:
    row = await service.database.fetchrow("SELECT count(*) AS n FROM delivery WHERE account_id = $1", account_id)
    assert row is not None
    return int(row["n"])


async def is_stored(database_url: str, message_id: str) -> bool:
    connection = await asyncpg.connect(database_url, server_settings={"search_path": "webhook_dispatcher"})
    try:
        found = await connection.fetchval("SELECT count(*) FROM delivery WHERE message_id = $1", message_id)
    finally:
        await connection.close()
    return bool(found)


async def test_an_outcome_is_delivered_signed_and_logged(account: Account, client: ClientServer, bus: Any) -> None:
    made = await account.endpoint(client.base_url + "/hooks")
    assert made.secret is not None
    event = account.delivered()
    await bus.publish([event])
    [got] = await client.until("/hooks", 1)
    assert got.json["message_id"] == event.message_id
    assert Webhook(made.secret).verify(got.body, got.headers)
    [entry] = await account.until_log(made.endpoint.webhook_id, bool)
    assert (entry.state, entry.event, entry.message_id) == ("delivered", "message.delivered", event.message_id)
    assert entry.delivery_id == got.headers["webhook-id"]
    assert [(one.number, one.status_code, one.response_head) for one in entry.attempts] == [(1, 200, "thanks")]


async def test_each_kind_of_event_goes_to_the_endpoints_that_chose_it(
    account: Account, client: ClientServer, bus: Any
) -> None:
    await account.endpoint(client.base_url + "/all")
    await account.endpoint(client.base_url + "/failed", events=["message.failed"])
    delivered = account.delivered()
    outcome = delivered.model_dump(exclude={"delivered_at", "latency_ms", "message_id"})
    failed = MessageFailed(**outcome, message_id=new_message_id(), error_code="ERR_X", error_description="Words.")
    sent = AttemptSent(
        attempt_id=attempt_id(delivered.message_id, 1),
        message_id=delivered.message_id,
        account_id=account.account_id,
        lane=Lane.OTP,
        channel=Channel.SMS,
        carrier="jio",
        to="919876543210",
        category=Category.OTP,
        carrier_message_ids=["1"],
        sent_at=now_utc(),
    )
    await bus.publish([delivered, failed, sent])
    everything = await client.until("/all", 3)
    assert {one.json["event"] for one in everything} == {"message.delivered", "message.failed", "message.sent"}
    assert [one.json["message_id"] for one in await client.until("/failed", 1)] == [failed.message_id]


async def test_what_is_told_is_kept_in_the_accounts_log_with_and_without_endpoints(
    service: Service[Settings], client: ClientServer, bus: Any
) -> None:
    with_one, without = Account(service), Account(service)
    await with_one.endpoint(client.base_url + "/hooks", events=["message.failed"])
    events = [one.delivered() for one in (with_one, without) for _ in range(3)]
    await bus.publish(events)
    told = await bus.all(ClientTold, 6, lambda one: one.account_id in {with_one.account_id, without.account_id})
    assert {(one.account_id, one.cause, one.name) for one in told} == {
        (one.account_id, one.event_id(), "message.delivered") for one in events
    }
    await without.endpoint(client.base_url + "/hooks")
    event = without.delivered()
    await bus.publish([event])
    [got] = await client.until("/hooks", 1)
    kept = await bus.next(ClientTold, lambda one: one.message_id == event.message_id)
    assert kept.body.encode() == got.body


async def test_a_silent_endpoint_does_not_keep_the_log_waiting(
    start: RunService, client: ClientServer, bus: Any
) -> None:
    go_on = asyncio.Event()

    async def slow(_: web.Request) -> web.StreamResponse:
        await go_on.wait()
        return web.Response()

    async with start(webhook_grace_s=2.0, webhook_timeout_s=2.0, webhook_lease_s=4.0) as service:
        account = Account(service)
        made = await account.endpoint(client.base_url + "/slow")
        await bus.publish([account.delivered()])
        await client.until("/slow", 1)  # prompt so far: its answers are waited for
        await account.until_log(made.endpoint.webhook_id, bool)
        client.respond_on["/slow"] = slow
        event = account.delivered()
        await bus.publish([event])
        await client.until("/slow", 2)
        await bus.next(ClientTold, lambda one: one.message_id == event.message_id)
        assert await rows_of(service, account.account_id) == 1
        go_on.set()
        await account.until_log(made.endpoint.webhook_id, lambda log: [one.state for one in log] == 2 * ["delivered"])


async def test_without_the_log_webhooks_go_on(start: RunService, client: ClientServer, bus: Any) -> None:
    async with start(event_log=False) as service:
        account = Account(service)
        await account.endpoint(client.base_url + "/hooks")
        event = account.delivered()
        await bus.publish([event])
        await client.until("/hooks", 1)
    assert not [one for one in bus.seen if isinstance(one, ClientTold) and one.account_id == account.account_id]


async def test_the_end_of_a_campaign_is_told(account: Account, client: ClientServer, bus: Any) -> None:
    await account.endpoint(client.base_url + "/hooks", events=["campaign.completed"])
    completed = BatchCompleted(
        batch_id=new_batch_id(),
        account_id=account.account_id,
        lane=Lane.PROMOTIONAL,
        total=2,
        counts={"delivered": 2},
        accepted_at=now_utc(),
        completed_at=now_utc(),
    )
    await bus.publish([completed])
    [got] = await client.until("/hooks", 1)
    assert (got.json["event"], got.json["message_id"], got.json["total"]) == (
        "campaign.completed",
        completed.batch_id,
        2,
    )
    kept = await bus.next(ClientTold, lambda one: one.message_id == completed.batch_id)
    assert (kept.name, kept.body.encode()) == ("campaign.completed", got.body)


async def test_a_cancellation_goes_to_who_chose_it(account: Account, client: ClientServer, bus: Any) -> None:
    await account.endpoint(client.base_url + "/all")
    await account.endpoint(client.base_url + "/cancelled", events=["message.cancelled"])
    delivered = account.delivered()
    outcome = delivered.model_dump(exclude={"delivered_at", "latency_ms", "message_id"})
    cancelled = MessageCancelled(**outcome, message_id=new_message_id(), cancelled_by="KEY1")
    await bus.publish([cancelled])
    [got] = await client.until("/cancelled", 1)
    assert (got.json["message_id"], got.json["status"]) == (cancelled.message_id, "CANCELLED")
    await bus.publish([delivered])
    assert [one.json["event"] for one in await client.until("/all", 1)] == ["message.delivered"]


async def test_an_account_without_endpoints_costs_no_row(
    service: Service[Settings], client: ClientServer, bus: Any
) -> None:
    with_one, without = Account(service), Account(service)
    await with_one.endpoint(client.base_url + "/hooks")
    inbound = InboundReceived(
        inbound_id=new_id("IN"),
        channel=Channel.SMS,
        carrier="jio",
        sender="919876543210",
        to="56767",
        text="hello",
        received_at=now_utc(),
    )
    await bus.publish([inbound])
    await bus.publish([without.delivered()])
    await bus.publish([with_one.delivered()])
    await client.until("/hooks", 1)
    assert await rows_of(service, without.account_id) == 0


async def test_a_repeated_event_is_one_delivery_with_one_id(account: Account, client: ClientServer, bus: Any) -> None:
    made = await account.endpoint(client.base_url + "/hooks")
    event = account.delivered()
    await bus.publish([event])
    await account.until_log(made.endpoint.webhook_id, bool)
    await bus.publish([event, account.delivered()])  # another batch, so the bus cannot know the repeat
    got = await client.until("/hooks", 3)
    assert len({one.headers["webhook-id"] for one in got}) == 2
    log = await account.until_log(made.endpoint.webhook_id, lambda log: len(log) == 2)
    assert {entry.state for entry in log} == {"delivered"}


async def test_failures_are_retried_by_timers_until_success(account: Account, client: ClientServer, bus: Any) -> None:
    answers = [500, 503, 307, 200]

    async def mending(_: web.Request) -> web.StreamResponse:
        return web.Response(status=answers.pop(0), text="so-so")

    client.respond_on["/hooks"] = mending
    made = await account.endpoint(client.base_url + "/hooks")
    await bus.publish([account.delivered()])
    got = await client.until("/hooks", 4)
    assert len({(one.headers["webhook-id"], one.body) for one in got}) == 1
    [entry] = await account.until_log(made.endpoint.webhook_id, lambda log: bool(log) and log[0].state == "delivered")
    assert [one.status_code for one in entry.attempts] == [500, 503, 307, 200]
    assert [one.number for one in entry.attempts] == [1, 2, 3, 4]


async def test_after_five_retries_it_is_kept_and_can_be_replayed(
    account: Account, client: ClientServer, bus: Any
) -> None:
    status = 500

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(status=status)

    client.respond_on["/hooks"] = answer
    made = await account.endpoint(client.base_url + "/hooks")
    await bus.publish([account.delivered()])
    [entry] = await account.until_log(made.endpoint.webhook_id, lambda log: bool(log) and log[0].state == "failed")
    assert len(entry.attempts) == len(client.received) == 6
    status = 204
    replay = c.ReplayDelivery(**account.ids(), delivery_id=entry.delivery_id)
    reply = await account.service.commands.call(replay)
    assert reply.delivery.state == "delivered"
    assert reply.delivery.attempts[-1].number == 7
    assert len({one.body for one in client.received}) == 1
    [entry] = await account.until_log(made.endpoint.webhook_id, lambda log: log[0].state == "delivered")
    assert len(entry.attempts) == 7


async def test_a_slow_endpoint_delays_no_other(account: Account, client: ClientServer, bus: Any) -> None:
    go_on = asyncio.Event()

    async def slow(_: web.Request) -> web.StreamResponse:
        await go_on.wait()
        return web.Response()

    client.respond_on["/slow"] = slow
    held = await account.endpoint(client.base_url + "/slow")
    await account.endpoint(client.base_url + "/fast")
    events = [account.delivered() for _ in range(200)]
    begun = time.perf_counter()
    for event in events:  # one by one: each a batch and a handler's call of its own
        await bus.publish([event])
    await client.until("/fast", 200)
    assert time.perf_counter() - begun < 5
    go_on.set()
    await account.until_log(held.endpoint.webhook_id, lambda log: bool(log) and log[-1].state == "delivered")


async def test_when_every_endpoint_fails_the_service_warns(account: Account, client: ClientServer, bus: Any) -> None:
    async def fail(_: web.Request) -> web.StreamResponse:
        return web.Response(status=500)

    async def until_warned(warned: bool) -> None:
        async with asyncio.timeout(10):
            while bool(account.service.health().warnings) is not warned:
                await asyncio.sleep(0.02)

    client.respond_on["/dead"] = fail
    await account.endpoint(client.base_url + "/dead")
    await bus.publish([account.delivered()])
    await until_warned(True)
    health = account.service.health()
    assert health.is_ready
    assert health.warnings[0].startswith("no webhook arrives: all endpoints in use fail")
    assert health.details["webhooks"]["failing"] >= 1
    # One of two is its owner's trouble.
    await account.endpoint(client.base_url + "/well")
    await bus.publish([account.delivered()])
    await until_warned(False)
    assert account.service.health().details["webhooks"]["failing"] >= 1


async def test_gone_switches_the_endpoint_off_and_active_switches_it_on_again(
    account: Account, client: ClientServer, bus: Any
) -> None:
    status = 410

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(status=status)

    client.respond_on["/hooks"] = answer
    made = await account.endpoint(client.base_url + "/hooks")
    webhook_id = made.endpoint.webhook_id
    await bus.publish([account.delivered()])
    shown = await account.until_status(webhook_id, "disabled")
    assert shown.reason == "the endpoint answered 410 Gone"
    await bus.next(EndpointFact, lambda fact: fact.webhook_id == webhook_id and fact.status == "disabled")
    with pytest.raises(HarkaraError) as caught:
        await account.service.commands.call(c.SendTestEvent(**account.ids(), webhook_id=webhook_id))
    assert caught.value.code == ErrorCode.CONFLICT

    status = 200
    update = c.UpdateEndpoint(**account.ids(), webhook_id=webhook_id, status="active")
    reply = await account.service.commands.call(update)
    assert (reply.endpoint.status, reply.endpoint.reason) == ("active", None)
    await bus.publish([account.delivered()])
    await client.until("/hooks", 2)


async def test_long_failure_switches_the_endpoint_off_and_keeps_what_was_pending(
    start: RunService, client: ClientServer, bus: Any
) -> None:
    async def broken(_: web.Request) -> web.StreamResponse:
        return web.Response(status=500)

    client.respond_on["/hooks"] = broken
    async with start(webhook_disable_after_s=0.3, webhook_retry_delays_s=(0.2, 0.2, 600.0)) as service:
        account = Account(service)
        made = await account.endpoint(client.base_url + "/hooks")
        await bus.publish([account.delivered()])
        shown = await account.until_status(made.endpoint.webhook_id, "disabled")
        assert shown.reason is not None
        assert "only failures since" in shown.reason
        [entry] = await account.until_log(made.endpoint.webhook_id, lambda log: log[0].state == "failed")
        assert entry.next_attempt_at is None


async def test_rotation_lets_two_secrets_live_together(account: Account, client: ClientServer, bus: Any) -> None:
    made = await account.endpoint(client.base_url + "/hooks")
    command = c.RotateSecret(**account.ids(), webhook_id=made.endpoint.webhook_id, overlap_seconds=600)
    rotated = await account.service.commands.call(command)
    repeated = await account.service.commands.call(command)
    assert made.secret is not None
    assert rotated.secret is not None
    assert rotated.secret == repeated.secret != made.secret
    await bus.publish([account.delivered()])
    [got] = await client.until("/hooks", 1)
    assert Webhook(made.secret).verify(got.body, got.headers)
    assert Webhook(rotated.secret).verify(got.body, got.headers)
    with pytest.raises(HarkaraError) as caught:
        await account.service.commands.call(command.model_copy(update={"command_id": new_id("CMD")}))
    assert caught.value.code == ErrorCode.CONFLICT
    at_once = command.model_copy(update={"command_id": new_id("CMD"), "overlap_seconds": 0})
    newest = await account.service.commands.call(at_once)
    await bus.publish([account.delivered()])
    got = (await client.until("/hooks", 2))[1]
    assert newest.secret is not None
    assert Webhook(newest.secret).verify(got.body, got.headers)
    assert " " not in got.headers["webhook-signature"]


async def test_a_test_event_tells_what_the_endpoint_answered(account: Account, client: ClientServer) -> None:
    async def teapot(_: web.Request) -> web.StreamResponse:
        return web.Response(status=418, text="short and stout")

    client.respond_on["/hooks"] = teapot
    made = await account.endpoint(client.base_url + "/hooks", events=["message.read"])
    test = c.SendTestEvent(**account.ids(), webhook_id=made.endpoint.webhook_id)
    reply = await account.service.commands.call(test)
    assert reply.delivery.state == "failed"
    assert reply.delivery.attempts[0].response_head == "short and stout"
    assert client.received[0].json["event"] == "webhook.test"
    assert client.received[0].json["test_mode"] is True


async def test_the_log_is_paged_and_filtered(account: Account, client: ClientServer, bus: Any) -> None:
    made = await account.endpoint(client.base_url + "/hooks")
    webhook_id = made.endpoint.webhook_id
    events = [account.delivered() for _ in range(5)]
    await bus.publish(events)
    await account.until_log(webhook_id, lambda log: len(log) == 5)
    seen: list[str] = []
    cursor = None
    while True:
        page = await account.service.commands.call(
            c.ListDeliveries(**account.ids(), webhook_id=webhook_id, limit=2, cursor=cursor)
        )
        seen += [entry.message_id for entry in page.deliveries]
        if (cursor := page.next_cursor) is None:
            break
    assert sorted(seen) == sorted(event.message_id for event in events)
    [entry] = await account.log(webhook_id, message_id=events[0].message_id)
    assert entry.message_id == events[0].message_id
    for bad in ("!!", base64.urlsafe_b64encode(b"x y").decode(), "\u00e9"):
        with pytest.raises(HarkaraError) as caught:
            await account.log(webhook_id, cursor=bad)
        assert caught.value.code == ErrorCode.INVALID_REQUEST


async def test_commands_are_idempotent_and_bounded(start: RunService, client: ClientServer, bus: Any) -> None:
    async with start(webhook_endpoints_max=2) as service:
        account = Account(service)
        command = c.CreateEndpoint(**account.ids(), url=client.base_url + "/hooks")
        first = await service.commands.call(command)
        again = await service.commands.call(command)
        assert (first.secret, first.endpoint) == (again.secret, again.endpoint)
        await account.endpoint(client.base_url)
        with pytest.raises(HarkaraError) as caught:
            await account.endpoint(client.base_url)
        assert caught.value.code == ErrorCode.CONFLICT
        delete = c.DeleteEndpoint(**account.ids(), webhook_id=first.endpoint.webhook_id)
        assert (await service.commands.call(delete)).facts_sequence > 0
        await service.commands.call(delete)
        await bus.next(EndpointFact, lambda fact: fact.deleted and fact.webhook_id == first.endpoint.webhook_id)
        await bus.publish([account.delivered()])
        await client.until("/", 1)
        assert not client.on("/hooks")


async def test_another_account_sees_nothing(account: Account, client: ClientServer, bus: Any) -> None:
    made = await account.endpoint(client.base_url + "/hooks")
    await bus.publish([account.delivered()])
    [entry] = await account.until_log(made.endpoint.webhook_id, bool)
    stranger = Account(account.service)
    webhook_id = made.endpoint.webhook_id
    refused: list[c.Command[Any]] = [
        c.UpdateEndpoint(**stranger.ids(), webhook_id=webhook_id, url="https://evil.example.com"),
        c.RotateSecret(**stranger.ids(), webhook_id=webhook_id),
        c.SendTestEvent(**stranger.ids(), webhook_id=webhook_id),
        c.ListDeliveries(**stranger.ids(), webhook_id=webhook_id),
        c.ReplayDelivery(**stranger.ids(), delivery_id=entry.delivery_id),
        c.ReplayDelivery(**stranger.ids(), delivery_id="nonsense"),
    ]
    for command in refused:
        with pytest.raises(HarkaraError) as caught:
            await account.service.commands.call(command)
        assert caught.value.code == ErrorCode.NOT_FOUND
    await account.service.commands.call(c.DeleteEndpoint(**stranger.ids(), webhook_id=webhook_id))
    assert (await account.shown(webhook_id)).status == "active"


async def test_a_change_reaches_another_instance(start: RunService, client: ClientServer, bus: Any) -> None:
    async with start() as one, start() as other:
        account = Account(one)
        made = await account.endpoint(client.base_url + "/old")
        update = c.UpdateEndpoint(**account.ids(), webhook_id=made.endpoint.webhook_id, url=client.base_url + "/new")
        reply = await one.commands.call(update)
        assert await one.facts_reached(reply.facts_sequence)
        assert await other.facts_reached(reply.facts_sequence)
        for _ in range(20):
            await bus.publish([account.delivered()])
        await client.until("/new", 20)
        assert not client.on("/old")


async def test_secrets_and_bodies_are_sealed_in_the_tables(account: Account, client: ClientServer, bus: Any) -> None:
    made = await account.endpoint(client.base_url + "/hooks")
    await bus.publish([account.delivered()])
    await account.until_log(made.endpoint.webhook_id, bool)
    rows = [
        *await account.service.database.fetch("SELECT * FROM endpoint WHERE account_id = $1", account.account_id),
        *await account.service.database.fetch("SELECT * FROM delivery WHERE account_id = $1", account.account_id),
    ]
    stored = repr([tuple(row.values()) for row in rows])
    assert made.secret is not None
    assert made.secret not in stored
    assert "919876543210" not in stored


async def test_a_restart_takes_up_what_a_stop_left(start: RunService, client: ClientServer, bus: Any) -> None:
    hold = asyncio.Event()

    async def holding(_: web.Request) -> web.StreamResponse:
        await hold.wait()
        return web.Response()

    client.respond_on["/hooks"] = holding
    async with start() as first:
        account = Account(first)
        made = await account.endpoint(client.base_url + "/hooks")
        event = account.delivered()
        await bus.publish([event])
        await client.until("/hooks", 1)
    hold.set()
    async with start() as second:
        account.service = second
        [entry] = await account.until_log(
            made.endpoint.webhook_id, lambda log: bool(log) and log[0].state == "delivered"
        )
    assert entry.message_id == event.message_id
    assert {one.json["message_id"] for one in client.received} == {event.message_id}


@pytest.mark.parametrize("grace_s", [0.1, 2.0], ids=["after its row was written", "before its row was written"])
async def test_nothing_is_lost_when_the_process_is_killed(
    start: RunService, servers: Any, client: ClientServer, bus: Any, grace_s: float
) -> None:
    """Killed while the client holds the request; another process finds the delivery and ends it."""
    hold = asyncio.Event()

    async def holding(_: web.Request) -> web.StreamResponse:
        await hold.wait()
        return web.Response()

    client.respond_on["/hooks"] = holding
    async with start() as first:
        account = Account(first)
        made = await account.endpoint(client.base_url + "/hooks")
    environment = {
        "HARKARA_NATS_URL": servers.nats_url,
        "HARKARA_DATABASE_URL": servers.database_url("webhook-dispatcher"),
        "HARKARA_SECRET_KEY": servers.secret_key,
        "HARKARA_WEBHOOK_SANDBOX": "true",
        "HARKARA_WEBHOOK_TIMEOUT_S": "1.9",
        "HARKARA_WEBHOOK_LEASE_S": "3",
        "HARKARA_WEBHOOK_GRACE_S": str(grace_s),
    }
    program = "from harkara_webhook_dispatcher.app import main; main()"
    process = subprocess.Popen(  # noqa: ASYNC220, S603  # returns at once; our own program, killed below
        [sys.executable, "-c", program], env=os.environ | environment, stdout=subprocess.DEVNULL
    )
    try:
        event = account.delivered(lane=Lane.OTP)
        await bus.publish([event])
        await client.until("/hooks", 1, timeout_s=20)
        if grace_s < 1:
            async with asyncio.timeout(10):
                while not await is_stored(environment["HARKARA_DATABASE_URL"], event.message_id):
                    await asyncio.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    hold.set()
    async with start() as second:
        account.service = second
        async with asyncio.timeout(15):
            while not any(entry.state == "delivered" for entry in await account.log(made.endpoint.webhook_id)):
                await asyncio.sleep(0.1)
    assert {one.json["message_id"] for one in client.received} == {event.message_id}
    assert len({one.headers["webhook-id"] for one in client.received}) == 1
