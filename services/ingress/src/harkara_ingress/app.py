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
from harkara_ingress.acceptance import Acceptance, RecentMessages
from harkara_ingress.accounts import Directory
from harkara_ingress.administration import Administration
from harkara_ingress.handlers import Handlers
from harkara_ingress.http.application import create_application
from harkara_ingress.http.owners import OwnersOnTheBus
from harkara_ingress.http.routes.accounts import account_routes
from harkara_ingress.http.routes.keys import key_routes
from harkara_ingress.http.routes.messages import message_routes
from harkara_ingress.http.routes.registry import registry_routes
from harkara_ingress.http.routes.sending import sending_routes, validation_routes
from harkara_ingress.http.routes.webhooks import webhook_routes
from harkara_ingress.http.server import HttpServer
from harkara_ingress.idempotency import Idempotency, ask_to_write, connect
from harkara_ingress.limits import LocalLimiter
from harkara_ingress.message_store import MessageStore
from harkara_ingress.read_model import ATTEMPT_VIEWS, MESSAGE_VIEWS
from harkara_ingress.settings import Settings
from harkara_ingress.store import AccountStore
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
    limiter = LocalLimiter(time.monotonic)
    recent = RecentMessages(settings.recent_messages)
    messages = MessageStore(service.database)
    registry = _registry(service)
    owners = OwnersOnTheBus(service.commands, service.facts_reached, settings.command_timeout_s)
    redis = await service.enter(connect(settings.redis_url.get_secret_value()))
    acceptance = Acceptance(
        service.publisher,
        registry,
        service.view(BalanceFact).get,
        limiter,
        Idempotency(redis, sealer),
        recent,
        service.tracing.start,
        settings.accept_timeout_s,
    )
    app = create_application(
        sending_routes(acceptance),
        (
            validation_routes(acceptance),
            message_routes(messages, recent, settings.accepted_elsewhere_s),
            account_routes(administration, accounts, owners),
            key_routes(administration, accounts),
            registry_routes(registry, owners),
            webhook_routes(owners),
        ),
        settings=settings,
        directory=directory,
        limiter=limiter,
        is_draining=service.stopping.is_set,
    )
    server = HttpServer(app, settings)

    async def serve() -> None:
        await administration.tell_what_is_missing(directory)
        await server.serve()

    handlers = Handlers(messages)
    service.partitions("message", "attempt")
    service.consume(consumers.INGRESS_MESSAGES, handlers.on_messages, decode=reader(MESSAGE_VIEWS))
    service.consume(consumers.INGRESS_ATTEMPTS, handlers.on_attempts, decode=reader(ATTEMPT_VIEWS))
    service.background(serve, name="http")
    service.readiness("http", server.problem)
    service.depends_on("valkey", lambda: ask_to_write(redis))
    # What is accepted waits on the bus: the edge stays open while statuses cannot be read, and repeats not be told.
    service.survives("database", "consumers", "valkey")


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
