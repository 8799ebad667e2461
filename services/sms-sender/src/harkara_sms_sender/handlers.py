"""Events in, events out; the work is the dispatcher's."""

from collections.abc import Sequence

from harkara_contracts.events import AttemptFunded, Event
from harkara_sms_sender.dispatcher import Dispatcher


class Handlers:
    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher

    async def on_funded(self, attempts: Sequence[AttemptFunded]) -> Sequence[Event]:
        """Hand attempts to their carriers; returns when the outcome of each is published (see `Recorder`)."""
        return await self._dispatcher.hand_over(attempts)
