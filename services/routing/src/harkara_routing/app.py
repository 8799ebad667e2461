"""Composition root of routing."""

from harkara_chassis import Service, run
from harkara_contracts import consumers
from harkara_contracts.carriers import load_carriers
from harkara_contracts.facts import CarrierHealthFact
from harkara_routing.handlers import Handlers
from harkara_routing.reading import read_attempts
from harkara_routing.routes import RouteTable
from harkara_routing.saga import Router
from harkara_routing.settings import Settings
from harkara_routing.store import Store


async def build(service: Service[Settings]) -> None:
    settings = service.settings
    routes = RouteTable(load_carriers(settings.carriers_file).carriers)
    service.view(CarrierHealthFact, on_change=routes.apply)
    handlers = Handlers(Store(service.database), Router(routes, settings.retry_after_s))
    service.partitions("saga")
    service.consume(consumers.ROUTING_MESSAGES, handlers.on_cleared)
    service.consume(consumers.ROUTING_ATTEMPTS, handlers.on_attempts, decode=read_attempts)
    service.consume(consumers.ROUTING_TIMERS, handlers.on_timers)


def main() -> None:
    run("routing", Settings, build)
