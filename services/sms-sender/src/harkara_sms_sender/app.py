"""The SMS sender: hands funded attempts to carriers by SMPP, and turns what carriers say into events."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict

from harkara_chassis import Service, run
from harkara_contracts.carriers import load_carriers
from harkara_contracts.consumers import SMS_SENDER_ATTEMPTS
from harkara_contracts.facts import CarrierHealthFact
from harkara_contracts.ids import random_tail
from harkara_sms_sender.carrier import Carrier
from harkara_sms_sender.condition import conditions_of, problem_of, warnings_of
from harkara_sms_sender.dispatcher import Dispatcher
from harkara_sms_sender.flight import InHand
from harkara_sms_sender.handlers import Handlers
from harkara_sms_sender.health import HealthReporter
from harkara_sms_sender.journal import Journal
from harkara_sms_sender.recorder import Recorder
from harkara_sms_sender.settings import Settings
from harkara_sms_sender.store import Store


async def build(service: Service[Settings]) -> None:
    settings = service.settings
    # The run is part of the name: what an earlier process of the same instance left behind is not in hand.
    store = Store(service.database, owner=f"{settings.instance}.{random_tail(6)}")
    in_hand = InHand()
    recorder = Recorder(store, service.publisher.publish, in_hand, settings)
    journal = Journal(settings.home / "sms-sender", store.owner)
    dispatcher = Dispatcher(store, recorder, in_hand, journal, settings.receipt_grace_s)
    health = HealthReporter(service.publisher.publish, settings.health_debounce_s)
    carriers = {
        carrier.name: Carrier(
            carrier,
            wait_s=settings.carrier_wait_s,
            queue_timeout_s=settings.queue_timeout_s,
            drain_timeout_s=settings.drain_timeout_s / 2,
            on_outcomes=dispatcher.on_outcomes,
            on_deliver=recorder.delivered,
            before_write=dispatcher.before_write,
            on_change=health.changed,
        )
        for carrier in load_carriers(settings.carriers_file).carriers
    }
    dispatcher.carriers = carriers
    service.view(CarrierHealthFact, on_change=lambda fact: health.heard(fact, carriers.get(fact.carrier)))
    service.partitions("submission")
    await service.enter(_kept(journal))
    await service.enter(_recording(service, recorder))
    await service.enter(_bound(carriers, dispatcher))
    service.background(health.run, name="carrier health")
    service.background(recorder.look_after_park, name="parked receipts")
    service.background(lambda: _close_when_stopping(service, carriers), name="admission")
    service.readiness("binds", lambda: _untried(carriers))
    service.readiness("carriers", lambda: problem_of(conditions_of(carriers.values())), outside=True)
    service.vitals.warn(lambda: warnings_of(conditions_of(carriers.values())))
    service.vitals.tell("carriers", lambda: [asdict(one) for one in conditions_of(carriers.values())])
    service.consume(SMS_SENDER_ATTEMPTS, Handlers(dispatcher).on_funded, concurrency=settings.concurrency)


@asynccontextmanager
async def _kept(journal: Journal) -> AsyncIterator[None]:
    journal.open()
    try:
        yield
    finally:
        journal.close()


@asynccontextmanager
async def _recording(service: Service[Settings], recorder: Recorder) -> AsyncIterator[None]:
    """Keep the recorder running until the binds are closed and all they said is written."""
    writing = asyncio.create_task(recorder.run(), name="recorder")

    async def watch() -> None:
        await asyncio.shield(writing)

    # Its failure ends the process; the task itself outlives the background tasks, which end before the binds close.
    service.background(watch, name="recorder")
    try:
        yield
    finally:
        recorder.stop()
        await writing


@asynccontextmanager
async def _bound(carriers: Mapping[str, Carrier], dispatcher: Dispatcher) -> AsyncIterator[None]:
    for carrier in carriers.values():
        await carrier.start()
    try:
        yield
    finally:
        await dispatcher.close()
        await asyncio.gather(*(carrier.stop() for carrier in carriers.values()))


async def _close_when_stopping(service: Service[Settings], carriers: Mapping[str, Carrier]) -> None:
    """At the drain, give back what still waits for room at once; what is with a carrier may be answered."""
    await service.stopping.wait()
    for carrier in carriers.values():
        carrier.admission.close()


def _untried(carriers: Mapping[str, Carrier]) -> str | None:
    """Name the carriers whose binds were not tried yet. One that is down is no reason: others can be used."""
    names = [c.name for c in carriers.values() if not c.is_settled and not c.settings.sandbox]
    return f"waiting for the first bind of {', '.join(sorted(names))}" if names else None


def main() -> None:
    run("sms-sender", Settings, build)
