"""Funded attempts to carriers: intent first, then the call, never twice unless the lane allows it.

For each slice of a batch: wait until a bind has room, record the intents in one statement, and write in the same turn of
the loop. Only what the statement says is new is submitted; anything else was begun before:

- it has an outcome: the same events are told again;
- it is in this process's hands: the repeat joins and waits for the same outcome;
- this process recorded it and never submitted it (the statement's own answer was lost): it is submitted now;
- a process that is gone recorded it, and its journal shows that it was never written: it is submitted now;
- a process that is gone may have written it. An OTP is submitted again, a second copy of a code does no harm. Anything else
  is never submitted twice: it gets a moment for a receipt to prove that the carrier has it, and is then unknown, which a
  later receipt may still resolve.

That its process is gone follows from the bus: an event in the hands of a living one is heartbeated and not delivered
again. Should one be cut off from the bus alone, its late word is taken like a late receipt.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

import orjson

from harkara_chassis.clock import now_utc
from harkara_contracts.events import AttemptFunded, Event
from harkara_contracts.subjects import Lane
from harkara_smpp import (
    Accepted,
    EsmeStoppedError,
    NotSent,
    Outcome,
    PduEncodeError,
    QueueFullError,
    Rejected,
    Throttled,
    Unknown,
    status_name,
)
from harkara_sms_sender.admission import CarrierDownError, ClosedError
from harkara_sms_sender.attempt import Part, PartState, events_of
from harkara_sms_sender.carrier import Carrier
from harkara_sms_sender.carrier_codes import EXPIRED_HERE, NOT_ENCODABLE, UNAVAILABLE, Meaning, of_status
from harkara_sms_sender.deliveries import id_key, storable
from harkara_sms_sender.flight import Batch, Flight, InHand, PartRef
from harkara_sms_sender.journal import Journal
from harkara_sms_sender.metrics import PARTS, UNKNOWN_CODES
from harkara_sms_sender.recorder import Recorder
from harkara_sms_sender.store import Intent, Store, StoredAttempt
from harkara_sms_sender.submission import References, submit_pdus

logger = logging.getLogger(__name__)

_OTP: Final = Lane.OTP
_SENT: Final = PartState.SENT
_SUBMITTING: Final = PartState.SUBMITTING
_COUNTED_AS: Final = {kind: kind.__name__.lower() for kind in (Accepted, Rejected, Throttled, NotSent, Unknown)}

MAX_TRIES: Final = 3
"""How often an OTP is submitted at most, however many processes die over it."""

_LEFT_BEHIND: Final = "The sender stopped before the carrier's answer was known."

Mark = Callable[[Sequence[Flight]], Awaitable[set[str]]]
"""Records that these flights are about to be submitted; returns the ids of those that are ours to submit."""


class UnfinishedError(ConnectionError):
    """The first handling of an attempt was broken off: to be tried again."""


class Dispatcher:
    """Hands attempts over, and takes the carriers' answers."""

    def __init__(
        self, store: Store, recorder: Recorder, in_hand: InHand, journal: Journal, receipt_grace_s: float
    ) -> None:
        self.carriers: Mapping[str, Carrier] = {}
        self._store = store
        self._recorder = recorder
        self._in_hand = in_hand
        self._journal = journal
        self._grace_s = receipt_grace_s
        self._references = References()
        self._retries: set[asyncio.Task[None]] = set()

    async def hand_over(self, attempts: Sequence[AttemptFunded]) -> list[Event]:
        """Return when every attempt has its outcome stored and published; what is returned are events of repeats.

        Raises:
            UnfinishedError, OSError, asyncpg.PostgresError: to be called again; what was submitted stays in hand.
            asyncio.CancelledError: the sender is stopping, the rest is for whoever gets it next.
        """
        batch = Batch()
        joined: list[Flight] = []
        by_carrier: dict[str, list[Flight]] = {}
        for attempt in attempts:
            flight = self._in_hand.get(attempt.attempt_id)
            if flight is not None:
                joined.append(flight)
            else:
                by_carrier.setdefault(attempt.carrier, []).append(self._in_hand.board(attempt, batch))
        groups = [self._group(carrier, flights) for carrier, flights in by_carrier.items()]
        repeats: list[Event] = []
        failures: list[BaseException] = []
        for result in await asyncio.gather(*groups, return_exceptions=True):
            if isinstance(result, BaseException):
                failures.append(result)
            else:
                repeats += result
        if failures:
            raise failures[0]
        await batch.wait()
        for flight in joined:
            await flight.batch.wait()
            if not flight.events:
                raise UnfinishedError("the attempt's first handling was broken off")
            repeats += flight.events
        return repeats

    async def close(self) -> None:
        """Drop second tries that still wait for room: they stay as they are recorded."""
        for task in self._retries:
            task.cancel()
        await asyncio.gather(*self._retries, return_exceptions=True)

    # Handing over

    async def _group(self, carrier_name: str, flights: list[Flight]) -> list[Event]:
        """Hand over the flights of one carrier; returns the events of those that had an outcome already."""
        try:
            repeats = await self._submit_all(carrier_name, flights, self._intend)
            return await self._repeat(carrier_name, repeats) if repeats else []
        except ClosedError:
            raise asyncio.CancelledError from None
        finally:
            for flight in flights:
                if not flight.parts:  # nothing of it was submitted
                    self._in_hand.leave(flight)

    async def _submit_all(self, carrier_name: str, flights: Sequence[Flight], mark: Mark) -> list[Flight]:
        """Submit in slices, as there is room; returns the flights that `mark` says are not ours to submit.

        Raises:
            ClosedError: the sender is stopping.
        """
        carrier = self.carriers.get(carrier_name)
        if carrier is None:
            return await self._refuse(flights, UNAVAILABLE, mark)
        ahead = flights
        others: list[Flight] = []
        # The routes say so too, but they may have been read before this carrier became another: no test may leave.
        is_sandbox = carrier.settings.sandbox
        strays = [flight for flight in flights if flight.attempt.test_mode is not is_sandbox]
        if strays:
            others = await self._refuse(strays, UNAVAILABLE, mark)
            ahead = [flight for flight in flights if flight.attempt.test_mode is is_sandbox]
        while ahead:
            sizes = [flight.size for flight in ahead]
            try:
                bind, messages = await carrier.admission.acquire(ahead[0].attempt.lane, sizes)
            except CarrierDownError:
                return others + await self._refuse(ahead, UNAVAILABLE, mark)
            others += await self._submit_slice(carrier, bind, ahead[:messages], sum(sizes[:messages]), mark)
            ahead = ahead[messages:]
        return others

    async def _submit_slice(
        self, carrier: Carrier, bind: int, flights: Sequence[Flight], granted: int, mark: Mark
    ) -> list[Flight]:
        used = 0
        others: list[Flight] = []
        # Now, and not when they came: at a slow carrier the wait for room may be long.
        now = now_utc()
        try:
            expired = [flight for flight in flights if flight.attempt.expires_at <= now]
            if expired:
                others = await self._refuse(expired, EXPIRED_HERE, mark)
                flights = [flight for flight in flights if flight.attempt.expires_at > now]
            ours = await mark(flights) if flights else set()
            # From here to the last submit nothing awaits: the bind writes all of it in the next turn of the loop.
            for flight in flights:
                if flight.attempt.attempt_id in ours:
                    used += self._submit(carrier, bind, flight)
        finally:
            if granted != used:
                carrier.admission.release(bind, granted - used)
        return others + [flight for flight in flights if flight.attempt.attempt_id not in ours]

    def _submit(self, carrier: Carrier, bind: int, flight: Flight) -> int:
        """Put all parts on one bind; returns how many places they take there."""
        attempt = flight.attempt
        reference = self._references.next(attempt.to, attempt.attempt_id) if flight.size > 1 else 0
        try:
            flight.pdus = submit_pdus(attempt, carrier.settings.dlt_tags, reference, now_utc())
        except ValueError:
            logger.warning("an attempt cannot be encoded", extra={"attempt_id": attempt.attempt_id})
            self._land_refused(flight, NOT_ENCODABLE)
            return 0
        flight.parts = [Part() for _ in flight.pdus]
        flight.waiting = len(flight.pdus)
        return sum(self._submit_part(carrier, bind, PartRef(flight, place)) for place in range(len(flight.pdus)))

    def _submit_part(self, carrier: Carrier, bind: int, ref: PartRef) -> int:
        try:
            is_urgent = ref.flight.attempt.lane is _OTP
            carrier.esmes[bind].submit(ref.flight.pdus[ref.place], ref, urgent=is_urgent)
        except PduEncodeError:
            self._answer(ref, _refused(NOT_ENCODABLE, None))
        except (QueueFullError, EsmeStoppedError):
            self._answer(ref, _refused(UNAVAILABLE, None))
        else:
            return 1
        return 0

    async def _refuse(self, flights: Sequence[Flight], meaning: Meaning, mark: Mark) -> list[Flight]:
        """Fail flights without a call; recorded like any other, so that a repeat does not submit them after all."""
        ours = await mark(flights)
        for flight in flights:
            if flight.attempt.attempt_id in ours:
                self._land_refused(flight, meaning)
        return [flight for flight in flights if flight.attempt.attempt_id not in ours]

    def _land_refused(self, flight: Flight, meaning: Meaning) -> None:
        flight.parts = [_refused(meaning, None) for _ in range(flight.size)]
        self._recorder.landed(flight)

    async def _intend(self, flights: Sequence[Flight]) -> set[str]:
        intents = [
            Intent(
                attempt_id=flight.attempt.attempt_id,
                parts=flight.size,
                carrier=flight.attempt.carrier,
                lane=flight.attempt.lane,
                sender=flight.attempt.sms.sender if flight.attempt.sms else "",
                recipient=flight.attempt.to,
                trail=orjson.dumps(flight.trail).decode(),
            )
            for flight in flights
        ]
        return await self._store.insert_intents(intents, now_utc())

    # Repeats

    async def _repeat(self, carrier_name: str, flights: Sequence[Flight]) -> list[Event]:
        """Attempts that were recorded before: tell their events again, or do what their lane allows."""
        stored = await self._store.attempts(flight.attempt.attempt_id for flight in flights)
        again = [flight for flight in flights if self._may_submit(flight, stored[flight.attempt.attempt_id])]

        async def claim(some: Sequence[Flight]) -> set[str]:
            return await self._store.claim([stored[flight.attempt.attempt_id] for flight in some], now_utc())

        # Those that somebody else has claimed meanwhile are told like the rest.
        not_ours = await self._submit_all(carrier_name, again, claim) if again else []
        others = [flight for flight in flights if flight not in again] + not_ours
        behind = [a for a in (stored[flight.attempt.attempt_id] for flight in others) if _is_open(a)]
        if behind:
            await asyncio.sleep(self._grace_s)
            await self._store.give_up(behind, _LEFT_BEHIND, now_utc())
        if behind or not_ours:
            stored = await self._store.attempts(flight.attempt.attempt_id for flight in others)
        return [event for flight in others for event in self._tell_again(flight, stored[flight.attempt.attempt_id])]

    def _may_submit(self, flight: Flight, attempt: StoredAttempt) -> bool:
        if not _is_open(attempt):
            return False
        if attempt.owner == self._store.owner:
            return True
        if self._journal.never_written(attempt.owner, attempt.attempt_id, attempt.intended_at):
            return True
        return flight.attempt.lane is _OTP and attempt.tries < MAX_TRIES

    def _tell_again(self, flight: Flight, attempt: StoredAttempt) -> list[Event]:
        flight.events = list(events_of(attempt.trail, attempt.parts))
        if not flight.events:
            # Another process claimed it after all: whoever has it will tell.
            raise UnfinishedError("the attempt is in other hands")
        return flight.events

    def before_write(self, refs: list[PartRef]) -> None:
        """Note what is written to a connection next: until here it is certain that the carrier does not have it."""
        self._journal.written(ref.flight.attempt.attempt_id for ref in refs)

    # Answers

    def on_outcomes(self, carrier: Carrier, bind: int, outcomes: list[tuple[PartRef, Outcome]]) -> None:
        """Take what a bind says of submitted parts."""
        now = now_utc()
        released = 0
        counts: dict[str, int] = {}
        for ref, outcome in outcomes:
            name = _COUNTED_AS[type(outcome)]
            counts[name] = counts.get(name, 0) + 1
            is_late = not isinstance(outcome, (NotSent, Unknown)) and outcome.late
            if not is_late:
                released += 1
            if isinstance(outcome, Unknown) and self._try_again(carrier, ref):
                continue
            part = _part(carrier, outcome)
            part.answered_at = now
            if is_late:
                self._answer_late(ref, part)
            else:
                self._answer(ref, part)
        for name, count in counts.items():
            PARTS.labels(carrier.name, name).inc(count)
        if released:
            carrier.admission.release(bind, released)

    def _answer(self, ref: PartRef, part: Part) -> None:
        flight, place = ref
        if flight.parts[place].state is not _SUBMITTING:
            return  # the first copy was answered late, before the second
        flight.parts[place] = part
        flight.waiting -= 1
        if flight.waiting == 0:
            self._recorder.landed(flight)

    def _answer_late(self, ref: PartRef, part: Part) -> None:
        """A response after its time: better late than unknown."""
        flight, place = ref
        state = flight.parts[place].state
        if state is _SUBMITTING and part.state is PartState.SENT:
            self._answer(ref, part)
        elif state is PartState.UNKNOWN:
            flight.parts[place] = part
            if flight.waiting == 0:
                self._recorder.landed(flight)

    def _try_again(self, carrier: Carrier, ref: PartRef) -> bool:
        """Submit an OTP's part of unknown fate once more, on whichever bind stands next."""
        flight = ref.flight
        if flight.attempt.lane is not _OTP or flight.retried or flight.attempt.expires_at <= now_utc():
            return False
        task = asyncio.get_running_loop().create_task(self._submit_again(carrier, ref))
        self._retries.add(task)
        task.add_done_callback(self._retries.discard)
        return True

    async def _submit_again(self, carrier: Carrier, ref: PartRef) -> None:
        flight, place = ref
        try:
            bind, _ = await carrier.admission.acquire(flight.attempt.lane, [1])
        except (CarrierDownError, ClosedError):
            part = _unknown("The connection ended before the carrier's answer, and none came back in time.")
            self._answer(ref, part)
            return
        flight.retried = True
        if flight.parts[place].state is not _SUBMITTING or not self._submit_part(carrier, bind, ref):
            carrier.admission.release(bind, 1)


def _is_open(attempt: StoredAttempt) -> bool:
    return any(part.state is _SUBMITTING for part in attempt.parts)


def _refused(meaning: Meaning, carrier_code: str | None) -> Part:
    return Part(
        PartState.REFUSED,
        error_code=meaning.error_code.value,
        error_description=meaning.description,
        carrier_code=carrier_code,
        retriable=meaning.retriable,
        answered_at=now_utc(),
    )


def _unknown(reason: str) -> Part:
    return Part(PartState.UNKNOWN, error_description=reason, answered_at=now_utc())


def _part(carrier: Carrier, outcome: Outcome) -> Part:
    if isinstance(outcome, Accepted):  # first and apart: nearly all are
        return Part(_SENT, storable(outcome.message_id), id_key(outcome.message_id, carrier.id_rule))
    match outcome:
        case Rejected(command_status):
            verdict = of_status(carrier.name, command_status)
            if not verdict.known:
                UNKNOWN_CODES.labels(carrier.name, "status").inc()
            return _refused(verdict.meaning, status_name(command_status))
        case Throttled(command_status):
            return _refused(UNAVAILABLE, status_name(command_status))
        case NotSent():
            return _refused(UNAVAILABLE, None)
        case Unknown(reason):
            return _unknown(f"No answer from the carrier: {reason}.")
