"""Keeps the FACTS stream equal to the tables.

A change is committed and then published; a crash between the two leaves a row that nobody was told of. At start and now
and then, the tables are compared with what the stream shows, and differences are told, under the lock of the account, so
that a change that is just being made is not mistaken for one that was forgotten.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence

from harkara_chassis.faults import is_passing
from harkara_compliance.store import Store
from harkara_registry import RegistryFact

logger = logging.getLogger(__name__)

COMPARE_EVERY_S = 300.0
_RETRY_S = 5.0

Publish = Callable[[Sequence[RegistryFact]], Awaitable[int]]
Shown = Callable[[], Iterable[RegistryFact]]
"""All facts that the stream shows now, without tombstones."""


def untold(kept: Iterable[RegistryFact], shown: Iterable[RegistryFact]) -> list[RegistryFact]:
    """Return what must be published for the stream to equal the tables: rows that differ, tombstones of what has no row."""
    by_key = {(fact.event, fact.key()): fact for fact in shown}
    told: list[RegistryFact] = []
    for fact in kept:
        known = by_key.pop((fact.event, fact.key()), None)
        if known is None:
            if not fact.deleted:
                told.append(fact)
        elif known.version < fact.version:
            told.append(fact)
        elif known != fact:
            # The stream is ahead of the tables: they come from a backup, and they are the truth.
            told.append(fact.model_copy(update={"version": known.version + 1}))
    told.extend(
        orphan.model_copy(update={"deleted": True, "version": orphan.version + 1}) for orphan in by_key.values()
    )
    return told


class Announcer:
    def __init__(self, store: Store, publish: Publish, shown: Shown) -> None:
        self._store = store
        self._publish = publish
        self._shown = shown

    async def run(self) -> None:
        """Compare at once and then every five minutes, for ever."""
        while True:
            try:
                await self.compare()
            except Exception as error:
                if not is_passing(error):
                    raise
                await asyncio.sleep(_RETRY_S)
            else:
                await asyncio.sleep(COMPARE_EVERY_S)

    async def compare(self) -> int:
        """Publish the differences; returns how many there were."""
        accounts = {fact.account_id for fact in untold(await self._store.facts(), list(self._shown()))}
        count = 0
        for account_id in sorted(accounts):
            async with self._store.account(account_id) as account:
                shown = [fact for fact in self._shown() if fact.account_id == account_id]
                facts = untold(await account.facts(), shown)
                if facts:
                    await self._publish(facts)
                    count += len(facts)
        if count:
            logger.warning("facts differed from the tables and were told again", extra={"count": count})
        return count
