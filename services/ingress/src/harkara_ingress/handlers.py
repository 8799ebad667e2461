"""Events in, rows out: the read model follows the saga and says nothing itself."""

from collections.abc import Callable, Iterable, Sequence

from harkara_contracts.events import BatchCancelled, Event
from harkara_ingress.bulk.store import FINAL_RANK, BatchFact, BatchStore
from harkara_ingress.status.message_store import MessageStore
from harkara_ingress.status.read_model import AttemptRow, MessageRow, RowView, fold_attempts, fold_messages


class Handlers:
    """All take any events that come, in any order; those of messages and attempts as views.

    `on_ended` is told of which batches something has come to its end, when that is committed.
    """

    def __init__(self, store: MessageStore, batches: BatchStore, on_ended: Callable[[Iterable[str]], None]) -> None:
        self._store = store
        self._batches = batches
        self._on_ended = on_ended

    async def on_messages(self, events: Sequence[RowView[MessageRow]]) -> Sequence[Event]:
        rows = fold_messages(events)
        await self._store.upsert_messages(rows)
        if ended := {row.batch_id for row in rows if row.batch_id is not None and row.rank >= FINAL_RANK}:
            self._on_ended(ended)
        return ()

    async def on_batches(self, events: Sequence[BatchFact]) -> Sequence[Event]:
        await self._batches.learn(events)
        self._on_ended(event.batch_id for event in events if isinstance(event, BatchCancelled))
        return ()

    async def on_attempts(self, events: Sequence[RowView[AttemptRow]]) -> Sequence[Event]:
        await self._store.upsert_attempts(fold_attempts(events))
        return ()
