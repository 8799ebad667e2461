"""Billing: reserves an attempt's price before it may be sent, captures it when the carrier took it."""

import asyncio
import logging

from harkara_billing.balances import BalanceTeller
from harkara_billing.handlers import Handlers
from harkara_billing.price_book import load_price_book
from harkara_billing.reading import read_attempts
from harkara_billing.settings import Settings
from harkara_billing.store import Store
from harkara_chassis import Service, run
from harkara_chassis.clock import now_utc
from harkara_chassis.faults import is_passing
from harkara_contracts import commands, consumers
from harkara_contracts.facts import BalanceFact

logger = logging.getLogger(__name__)

_LOOK_AT_MONTHS_S = 6 * 3600.0


async def build(service: Service[Settings]) -> None:
    book = load_price_book(service.settings.prices_file)
    for words in book.below_cost:
        logger.warning("sold below cost: %s", words)
    store = Store(service.database, book)
    teller = BalanceTeller(store, book, service.publisher.publish, service.view(BalanceFact).get)
    handlers = Handlers(store, teller)

    async def keep_ledger_months() -> None:
        while True:
            await asyncio.sleep(_LOOK_AT_MONTHS_S)
            try:
                await store.open_ledger_months(now_utc().date())
            except Exception as error:
                if not is_passing(error):
                    raise

    service.partitions("hold")
    await store.open_ledger_months(now_utc().date())
    service.background(keep_ledger_months, name="ledger months")
    service.background(teller.run, name="balances")
    service.consume(consumers.BILLING_ATTEMPTS, handlers.on_attempts, decode=read_attempts)
    service.answer(commands.TopUp, handlers.top_up)
    service.answer(commands.GetBalance, handlers.get_balance)
    service.answer(commands.ListLedger, handlers.list_ledger)
    service.answer(commands.GetUsage, handlers.get_usage)


def main() -> None:
    run("billing", Settings, build)
