"""The webhook-dispatcher: tells clients what became of their messages, in their log and, signed, until they have heard it."""

from dataclasses import asdict

from harkara_chassis import Service, run
from harkara_chassis.sealing import Sealer
from harkara_contracts import commands, consumers
from harkara_contracts.facts import EndpointFact
from harkara_webhook_dispatcher.directory import Directory
from harkara_webhook_dispatcher.dispatcher import OWNER, Dispatcher
from harkara_webhook_dispatcher.handlers import Handlers
from harkara_webhook_dispatcher.reading import read_events
from harkara_webhook_dispatcher.sender import Sender
from harkara_webhook_dispatcher.settings import Settings
from harkara_webhook_dispatcher.standing import warnings_of
from harkara_webhook_dispatcher.store import Store

_BATCHES_AT_ONCE = 16
"""A batch may wait its grace for an endpoint; others go on beside it."""


async def build(service: Service[Settings]) -> None:
    settings = service.settings
    store = Store(service.database, Sealer(settings.secret_key))
    directory = Directory(store.endpoints)
    sender = await service.enter(Sender(settings))
    dispatcher = await service.enter(Dispatcher(store, directory, sender.post, service.publisher.publish, settings))
    handlers = Handlers(store, directory, dispatcher, service.publisher, settings)

    service.partitions("delivery")
    service.view(EndpointFact, on_change=lambda fact: directory.mark_stale(fact.webhook_id))
    service.consume(consumers.WEBHOOK_MESSAGES, handlers.on_events, concurrency=_BATCHES_AT_ONCE, decode=read_events)
    service.consume(consumers.WEBHOOK_ATTEMPTS, handlers.on_events, concurrency=_BATCHES_AT_ONCE, decode=read_events)
    service.consume(consumers.WEBHOOK_BATCHES, handlers.on_events, concurrency=_BATCHES_AT_ONCE)
    service.consume(consumers.WEBHOOK_INBOUND, handlers.on_events, concurrency=_BATCHES_AT_ONCE)
    service.consume(consumers.WEBHOOK_TIMERS, handlers.on_timers)
    service.answer(commands.CreateEndpoint, handlers.create_endpoint)
    service.answer(commands.UpdateEndpoint, handlers.update_endpoint)
    service.answer(commands.DeleteEndpoint, handlers.delete_endpoint)
    service.answer(commands.ListEndpoints, handlers.list_endpoints)
    service.answer(commands.RotateSecret, handlers.rotate_secret)
    service.answer(commands.SendTestEvent, handlers.send_test_event)
    service.answer(commands.ListDeliveries, handlers.list_deliveries)
    service.answer(commands.ReplayDelivery, handlers.replay_delivery)
    service.vitals.warn(lambda: warnings_of(dispatcher.standing))
    service.vitals.tell("webhooks", lambda: asdict(dispatcher.standing))
    service.background(dispatcher.settle_forever, name="settle")
    service.background(dispatcher.sweep_forever, name="sweep")


def main() -> None:
    run(OWNER, Settings, build)
