"""Events in, rows out: the read model follows the saga and says nothing itself."""

from collections.abc import Sequence

from harkara_contracts.events import Event
from harkara_ingress.message_store import MessageStore
from harkara_ingress.read_model import AttemptRow, MessageRow, RowView, fold_attempts, fold_messages


class Handlers:
    """Both take any events that come, in any order, as views."""

    def __init__(self, store: MessageStore) -> None:
        self._store = store

    async def on_messages(self, events: Sequence[RowView[MessageRow]]) -> Sequence[Event]:
        await self._store.upsert_messages(fold_messages(events))
        return ()

    async def on_attempts(self, events: Sequence[RowView[AttemptRow]]) -> Sequence[Event]:
        await self._store.upsert_attempts(fold_attempts(events))
        return ()
