"""Attempts in this process's hands, from the handler's call until their outcome is stored and published."""

import asyncio
from dataclasses import dataclass, field
from typing import NamedTuple

from harkara_contracts.events import AttemptFunded, Event
from harkara_contracts.ids import day_of
from harkara_smpp import SubmitSm
from harkara_sms_sender.attempt import Part
from harkara_sms_sender.store import PartKey


class Batch:
    """The attempts of one handler call; `wait` returns when each has landed, or was given back."""

    def __init__(self) -> None:
        self._pending = 0
        self._done = asyncio.Event()
        self._done.set()

    def add(self) -> None:
        self._pending += 1
        self._done.clear()

    def leave(self) -> None:
        self._pending -= 1
        if self._pending == 0:
            self._done.set()

    async def wait(self) -> None:
        await self._done.wait()


@dataclass(slots=True, eq=False)
class Flight:
    """One attempt. `waiting` counts parts without an answer; `events` are known once it has landed."""

    attempt: AttemptFunded
    batch: Batch
    trail: dict[str, object]
    pdus: list[SubmitSm] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)
    waiting: int = 0
    retried: bool = False
    events: list[Event] = field(default_factory=list)

    @property
    def size(self) -> int:
        """How many parts it has, as far as is known before the PDUs are made."""
        sms = self.attempt.sms
        return sms.parts if sms is not None else 1

    def keys(self) -> list[PartKey]:
        attempt_id = self.attempt.attempt_id
        day = day_of(attempt_id)
        return [PartKey(day, attempt_id, number) for number in range(1, len(self.parts) + 1)]


class PartRef(NamedTuple):
    """A part of a flight, the first is 0: what an answer is for."""

    flight: Flight
    place: int


class InHand:
    """The flights of this process by attempt: a redelivery that comes meanwhile joins the flight that there is."""

    def __init__(self) -> None:
        self._flights: dict[str, Flight] = {}

    def get(self, attempt_id: str) -> Flight | None:
        return self._flights.get(attempt_id)

    def board(self, attempt: AttemptFunded, batch: Batch) -> Flight:
        flight = self._flights[attempt.attempt_id] = Flight(attempt, batch, attempt.trail())
        batch.add()
        return flight

    def leave(self, flight: Flight) -> None:
        """Let it go, once: a late response to a flight that has left changes nothing here."""
        if self._flights.get(flight.attempt.attempt_id) is flight:
            del self._flights[flight.attempt.attempt_id]
            flight.batch.leave()
