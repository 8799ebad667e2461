"""Compliance: may this be sent? Owns the DLT registry and judges every message by it, when the message may leave."""

from collections.abc import Iterator

from harkara_chassis import Service, run
from harkara_chassis.sealing import Sealer
from harkara_compliance.announcer import Announcer
from harkara_compliance.cancelling import Canceller
from harkara_compliance.handlers import MessageHandlers, RegistryHandlers
from harkara_compliance.settings import Settings
from harkara_compliance.store import Store
from harkara_compliance.waiting import Waiting
from harkara_contracts import commands, consumers
from harkara_contracts.facts import EntityFact, SenderFact, TemplateFact, UrlFact
from harkara_registry import Registry, RegistryFact


async def build(service: Service[Settings]) -> None:
    store = Store(service.database)
    registry = Registry()
    for fact in await store.facts():
        registry.apply(fact)
    entities = service.view(EntityFact, on_change=registry.apply)
    senders = service.view(SenderFact, on_change=registry.apply)
    templates = service.view(TemplateFact, on_change=registry.apply)
    urls = service.view(UrlFact, on_change=registry.apply)

    def shown() -> Iterator[RegistryFact]:
        yield from entities.values()
        yield from senders.values()
        yield from templates.values()
        yield from urls.values()

    service.background(Announcer(store, service.publisher.publish, shown).run, name="announcer")

    waiting = Waiting(service.database, Sealer(service.settings.secret_key))
    canceller = Canceller(waiting, service.publisher.publish)
    service.consume(consumers.COMPLIANCE_BATCHES, canceller.on_batches)
    service.answer(commands.CancelMessage, canceller.cancel_message)
    service.background(canceller.run, name="canceller")

    messages = MessageHandlers(registry, store, waiting, canceller)
    service.consume(consumers.COMPLIANCE_MESSAGES, messages.on_messages)
    service.consume(consumers.COMPLIANCE_TIMERS, messages.on_timers)

    answers = RegistryHandlers(registry, store, service.publisher.publish, service.settings.telemarketer_id)
    service.answer(commands.RegisterEntity, answers.register_entity)
    service.answer(commands.RegisterSender, answers.register_sender)
    service.answer(commands.UpdateSender, answers.update_sender)
    service.answer(commands.SetSenderStatus, answers.set_sender_status)
    service.answer(commands.RegisterTemplate, answers.register_template)
    service.answer(commands.UpdateTemplate, answers.update_template)
    service.answer(commands.SetTemplateStatus, answers.set_template_status)
    service.answer(commands.AddUrl, answers.add_url)
    service.answer(commands.RemoveUrl, answers.remove_url)


def main() -> None:
    run("compliance", Settings, build)
