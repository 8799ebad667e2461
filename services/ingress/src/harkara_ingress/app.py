"""The composition root of the edge: settings, resources, routes and the consumers of the read model."""

import time

from harkara_chassis import Service, run
from harkara_chassis.sealing import Sealer
from harkara_chassis.views import reader
from harkara_contracts import consumers
from harkara_contracts.facts import (
    AccountFact,
    ApiKeyFact,
    BalanceFact,
    EntityFact,
    SenderFact,
    TemplateFact,
    UrlFact,
)
from harkara_ingress.access.accounts import Directory
from harkara_ingress.access.administration import Administration
from harkara_ingress.access.admission import Admission
from harkara_ingress.access.first_uses import FirstUses
from harkara_ingress.access.guard import Guard
from harkara_ingress.access.key_use import KeyUse
from harkara_ingress.access.limits import LocalLimiter
from harkara_ingress.access.shared_limits import open_limiter
from harkara_ingress.access.signing_secrets import SigningSecrets
from harkara_ingress.access.store import AccountStore
from harkara_ingress.bulk.acceptance import BulkAcceptance, RecentBatches
from harkara_ingress.bulk.batches import Batches
from harkara_ingress.bulk.feeder import FEEDING_AT_ONCE, Feeder
from harkara_ingress.bulk.progress import Completion
from harkara_ingress.bulk.store import BatchStore
from harkara_ingress.grpc.calls import Calls
from harkara_ingress.grpc.events import Events
from harkara_ingress.grpc.messages import Messages
from harkara_ingress.grpc.server import GrpcServer
from harkara_ingress.handlers import Handlers
from harkara_ingress.http.application import create_application
from harkara_ingress.http.owners import OwnersOnTheBus
from harkara_ingress.http.proxies import TrustedProxies
from harkara_ingress.http.routes.accounts import account_routes
from harkara_ingress.http.routes.analytics import analytics_routes
from harkara_ingress.http.routes.batches import batch_routes
from harkara_ingress.http.routes.bulk import bulk_routes
from harkara_ingress.http.routes.cancelling import cancelling_routes
from harkara_ingress.http.routes.channels import channel_routes
from harkara_ingress.http.routes.events import event_routes
from harkara_ingress.http.routes.keys import key_routes
from harkara_ingress.http.routes.messages import message_routes
from harkara_ingress.http.routes.registry import registry_routes
from harkara_ingress.http.routes.sandbox import sandbox_routes
from harkara_ingress.http.routes.security import security_routes
from harkara_ingress.http.routes.sending import sending_routes, validation_routes
from harkara_ingress.http.routes.webhooks import webhook_routes
from harkara_ingress.http.server import HttpServer
from harkara_ingress.sending.acceptance import Acceptance, RecentMessages
from harkara_ingress.sending.cancelling import Cancelling
from harkara_ingress.sending.idempotency import Idempotency, ask_to_write, connect
from harkara_ingress.settings import Settings
from harkara_ingress.status.event_log import EventLog
from harkara_ingress.status.message_queries import MessageQueries
from harkara_ingress.status.message_store import MessageStore
from harkara_ingress.status.read_model import ATTEMPT_VIEWS, MESSAGE_VIEWS
from harkara_registry import Registry


async def build(service: Service[Settings]) -> None:
    settings = service.settings
    directory = _directory(service)
    accounts = AccountStore(service.database)
    sealer = Sealer(settings.secret_key)
    administration = Administration(
        service.database,
        accounts,
        service.publisher,
        service.facts_reached,
        sealer,
        settings.command_timeout_s,
    )
    redis_url = settings.redis_url.get_secret_value()
    limiter = await service.enter(open_limiter(redis_url, LocalLimiter(time.monotonic)))
    redis = await service.enter(connect(redis_url))
    idempotency = Idempotency(redis, sealer)
    key_use = KeyUse(accounts)
    await service.enter(key_use.written_at_the_end())
    service.background(key_use.keep_writing, name="key use")
    guard = Guard(SigningSecrets(accounts, sealer), FirstUses(redis), key_use, settings.signature_header_prefix)
    admission = Admission(directory, limiter, guard, settings.anonymous_requests_per_minute)
    recent = RecentMessages(settings.recent_messages)
    messages = MessageStore(service.database)
    queries = MessageQueries(messages, recent, settings.accepted_elsewhere_s)
    registry = _registry(service)
    owners = OwnersOnTheBus(service.commands, service.facts_reached, settings.command_timeout_s)
    cancelling = Cancelling(owners, messages, recent, settings.accepted_elsewhere_s)
    acceptance = Acceptance(
        service.publisher,
        registry,
        service.view(BalanceFact).get,
        limiter,
        idempotency,
        recent,
        service.tracing.start,
        settings.accept_timeout_s,
    )
    recent_batches, batch_store = RecentBatches(settings.recent_batches), BatchStore(service.database)
    bulk_acceptance = BulkAcceptance(
        acceptance,
        service.publisher,
        registry,
        idempotency,
        recent_batches,
        per_second=settings.bulk_messages_per_second,
        timeout_s=settings.bulk_accept_timeout_s,
    )
    batches = Batches(
        batch_store,
        recent_batches,
        service.publisher,
        patience_s=settings.accepted_elsewhere_s,
        timeout_s=settings.accept_timeout_s,
    )
    feeder = Feeder(
        batch_store, directory.account, limiter, service.publisher.publish, settings.bulk_messages_per_second
    )
    completion = Completion(batch_store, service.publisher.publish)
    event_log = EventLog(service.bus, settings.max_event_streams, settings.max_event_streams_per_account)
    app = create_application(
        [*sending_routes(acceptance), *bulk_routes(bulk_acceptance, settings.max_bulk_bytes), *channel_routes()],
        (
            validation_routes(acceptance),
            message_routes(queries),
            cancelling_routes(cancelling),
            batch_routes(batches),
            analytics_routes(messages),
            sandbox_routes(),
            account_routes(administration, accounts, owners),
            key_routes(administration, accounts, key_use),
            security_routes(administration, accounts),
            registry_routes(registry, owners),
            webhook_routes(owners),
            event_routes(event_log, admission, settings.event_heartbeat_s),
        ),
        settings=settings,
        admission=admission,
        is_draining=service.stopping.is_set,
    )
    server = HttpServer(app, settings)
    if settings.grpc_port is not None:
        _serve_grpc(
            service,
            admission,
            Messages(acceptance, bulk_acceptance, queries, cancelling, batches),
            Events(event_log, admission),
        )

    async def serve() -> None:
        await administration.tell_what_is_missing(directory)
        await server.serve()

    handlers = Handlers(messages, batch_store, completion.touch)
    service.partitions("message", "attempt")
    service.consume(consumers.INGRESS_MESSAGES, handlers.on_messages, decode=reader(MESSAGE_VIEWS))
    service.consume(consumers.INGRESS_ATTEMPTS, handlers.on_attempts, decode=reader(ATTEMPT_VIEWS))
    service.consume(consumers.INGRESS_BATCHES, handlers.on_batches)
    service.consume(consumers.INGRESS_TIMERS, feeder.on_timers, concurrency=FEEDING_AT_ONCE)
    service.background(completion.run, name="batch completion")
    service.background(lambda: event_log.watch(service.stopping), name="event log")
    service.background(idempotency.keep_leases, name="leases")
    service.background(serve, name="http")
    service.readiness("http", server.problem)
    service.depends_on("valkey", lambda: ask_to_write(redis))
    service.readiness("limits", limiter.problem)
    # What is accepted waits on the bus: the edge stays open while statuses cannot be read, and repeats not be told.
    service.survives("database", "consumers", "valkey", "limits")


def _serve_grpc(service: Service[Settings], admission: Admission, messages: Messages, events: Events) -> None:
    calls = Calls(admission, TrustedProxies(service.settings.forwarded_allow_ips), service.settings)
    server = GrpcServer(
        [messages.service(calls), events.service(calls)], calls, service.settings, lambda: not service.health().problems
    )
    service.background(server.serve, name="grpc")
    service.readiness("grpc", server.problem)


def _directory(service: Service[Settings]) -> Directory:
    operator_key = service.settings.operator_key
    directory = Directory(operator_key.get_secret_value() if operator_key else None)
    service.view(AccountFact, directory.apply_account)
    service.view(ApiKeyFact, directory.apply_key)
    return directory


def _registry(service: Service[Settings]) -> Registry:
    registry = Registry()
    service.view(EntityFact, registry.apply)
    service.view(SenderFact, registry.apply)
    service.view(TemplateFact, registry.apply)
    service.view(UrlFact, registry.apply)
    return registry


def main() -> None:
    run("ingress", Settings, build)
