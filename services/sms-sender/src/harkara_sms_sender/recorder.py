"""The one writer: stores what carriers say, publishes it, and only then answers for it.

Answers to submits and receipts come from all binds in one inbox. A turn takes everything there is: first the answers,
then the receipts, each in one statement; then all events in one publish; then every deliver_sm is answered and every
handler told. What arrives meanwhile is the next turn's, and turns keep a distance while there is much to do: batches grow
with the load, nothing waits when it is quiet, and an OTP's answer never does.

One writer also means that `sent` is published before `delivered`, and that a receipt seldom looks for an id that is not
stored yet. Where it does (another process has the answer), it is parked and looked at again. A receipt of the same turn
as its answer is written with it; one that comes soon after finds in memory which row it is for.
"""

import asyncio
import contextlib
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import NamedTuple, TypeVar

from harkara_chassis.clock import now_utc
from harkara_chassis.faults import is_passing
from harkara_contracts.events import Event
from harkara_contracts.subjects import Lane
from harkara_smpp import CommandStatus, Delivery, is_receipt
from harkara_sms_sender.attempt import Part, PartState, events_of, final_word
from harkara_sms_sender.carrier import Carrier
from harkara_sms_sender.deliveries import InboundText, Word, inbound_event, read_inbound, read_receipt, with_word
from harkara_sms_sender.flight import Flight, InHand
from harkara_sms_sender.metrics import DELIVERIES, UNKNOWN_CODES
from harkara_sms_sender.settings import Settings
from harkara_sms_sender.store import Found, PartKey, Store, Taken, without

logger = logging.getLogger(__name__)

T = TypeVar("T")

_OTP = Lane.OTP
_SENT = PartState.SENT
_FIRST_BACKOFF_S = 0.1
_LONGEST_BACKOFF_S = 5.0
_MAX_REMEMBERED = 10_000
_MAX_TAKEN = 20_000
_TURN_S = 0.02
_BUSY = 8
"""A turn of so many answers and receipts is followed by another no sooner than `_TURN_S` after its beginning."""
_PARKED_LATELY = timedelta(minutes=10)
_CLEANING_S = 600.0
_INBOUND_AGE = timedelta(hours=24)
_INBOUND_TOGETHER = timedelta(hours=1)


class _Item(NamedTuple):
    """A delivery and what was read from it; words from the park have no delivery."""

    delivery: Delivery | None
    word: Word | None
    text: InboundText | None


class Recorder:
    """Give it answers by `landed` and deliveries by `delivered`; `run` writes them until `stop`."""

    def __init__(
        self,
        store: Store,
        publish: Callable[[Sequence[Event]], Awaitable[object]],
        in_hand: InHand,
        settings: Settings,
    ) -> None:
        self._store = store
        self._in_hand = in_hand
        self._publish = publish
        self._settings = settings
        self._flights: list[Flight] = []
        self._items: list[_Item] = []
        self._wake = asyncio.Event()
        self._stopping = False
        # Receipts this process parked a moment ago: matched at once when their id is stored.
        self._parked: OrderedDict[tuple[str, str], Word] = OrderedDict()
        # Messages of one part that a carrier took a moment ago, by what their receipts will name.
        self._taken: OrderedDict[tuple[str, str], Taken] = OrderedDict()
        self._hurry = asyncio.Event()

    def landed(self, flight: Flight) -> None:
        """All parts of a flight have an answer."""
        self._flights.append(flight)
        self._wake.set()
        if flight.attempt.lane is _OTP:
            self._hurry.set()

    def delivered(self, carrier: Carrier, deliveries: Sequence[Delivery]) -> None:
        """Messages came in; each is answered when what it says is stored and published."""
        now = now_utc()
        kinds: dict[str, int] = {}
        for delivery in deliveries:
            kind, item = _read(carrier, delivery, now)
            kinds[kind] = kinds.get(kind, 0) + 1
            if item is not None:
                self._items.append(item)
        for kind, count in kinds.items():
            DELIVERIES.labels(carrier.name, kind).inc(count)
        self._wake.set()

    async def run(self) -> None:
        """Write until stopped; then what is left.

        Raises:
            Exception: something that waiting does not mend, with answers unwritten: the process must not go on.
        """
        loop = asyncio.get_running_loop()
        while not self._stopping or self._flights or self._items:
            await self._wake.wait()
            began = loop.time()
            self._wake.clear()
            self._hurry.clear()
            flights, self._flights = self._flights, []
            items, self._items = self._items, []
            if flights or items:
                await self._turn(flights, items)
            if len(flights) + len(items) >= _BUSY and not self._stopping:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(began + _TURN_S):
                        await self._hurry.wait()

    def stop(self) -> None:
        self._stopping = True
        self._wake.set()
        self._hurry.set()

    async def _turn(self, flights: list[Flight], items: list[_Item]) -> None:
        with_answers, others = _with_answers(flights, items)
        events = await self._record(flights)
        others += self._awaited(flights)
        settled, more = await self._settle_or_isolate(others)
        events += more
        settled += with_answers
        if events:
            await self._publish(events)
        unparked = [item.word for item in settled if item.delivery is None and item.word is not None]
        if unparked:
            await _insist(lambda: self._store.unpark(unparked))
        for item in settled:
            if item.delivery is not None:
                item.delivery.accept()
        for flight in flights:
            self._in_hand.leave(flight)

    # Answers

    async def _record(self, flights: list[Flight]) -> list[Event]:
        if not flights:
            return []
        events: list[Event] = []
        answers: list[tuple[PartKey, Part]] = []
        taken: dict[tuple[str, str], Taken] = {}
        for flight in flights:
            flight.events = list(events_of(flight.trail, flight.parts))
            events += flight.events
            keys = flight.keys()
            answers += zip(keys, flight.parts, strict=True)
            if _is_taken_whole(flight):
                taken[flight.attempt.carrier, flight.parts[0].receipt_key or ""] = Taken(keys[0], flight.trail)
        await _insist(lambda: self._store.record_answers(answers))
        self._taken.update(taken)
        while len(self._taken) > _MAX_TAKEN:
            self._taken.popitem(last=False)
        return events

    def _awaited(self, flights: list[Flight]) -> list[_Item]:
        """Receipts that were waiting for just these ids."""
        if not self._parked:
            return []
        keys = [(f.attempt.carrier, part.receipt_key) for f in flights for part in f.parts if part.receipt_key]
        words = [self._parked.pop(key, None) for key in keys]
        return [_Item(None, word, None) for word in words if word is not None]

    # Receipts and inbound messages

    async def _settle_or_isolate(self, items: list[_Item]) -> tuple[list[_Item], list[Event]]:
        """Settle all together; where something breaks that waiting does not mend, one by one, and refuse the broken.

        A refused delivery comes again later: the carrier keeps it.
        """
        try:
            return items, await _insist(lambda: self._settle(items))
        except Exception:
            logger.exception("deliveries could not be stored", extra={"count": len(items)})
            if len(items) > 1:
                results = [await self._settle_or_isolate([item]) for item in items]
                return [one for settled, _ in results for one in settled], [e for _, events in results for e in events]
            for item in items:
                if item.delivery is not None:
                    item.delivery.reject(CommandStatus.ESME_RX_T_APPN)
            return [], []

    async def _settle(self, items: list[_Item]) -> list[Event]:
        # The first word on a part is the last: repeats within the turn are left out.
        words: dict[tuple[str, str], Word] = {}
        for item in items:
            if item.word is not None:
                words.setdefault((item.word.carrier, item.word.receipt_key), item.word)
        events = await self._settle_words(list(words.values())) if words else []
        for item in items:
            if item.text is not None:
                events += await self._receive(item.text)
        return events

    async def _settle_words(self, words: list[Word]) -> list[Event]:
        known = [(taken, word) for word in words if (taken := self._taken.pop((word.carrier, word.receipt_key), None))]
        found = await self._store.apply_known(known) if known else []
        if len(found) < len(words):
            found += await self._store.apply_words(without(words, found), now_utc().date())
        proven: list[Found] = []
        if len(found) < len(words):
            strangers = without(words, found)
            proven = await self._prove(strangers)
            await self._park(without(strangers, proven))
        return await self._events(found, proven)

    async def _prove(self, strangers: list[Word]) -> list[Found]:
        """Match receipts with unknown ids to messages of unknown fate.

        A receipt for a handset and header of which exactly one message is open proves that the carrier has that one.
        The parts of one message are alike, so its receipts take them in turn.
        """
        since = now_utc() - timedelta(seconds=self._settings.orphan_window_s)
        open_parts = await self._store.open_parts(strangers, since)
        proofs = []
        for word in strangers:
            keys = open_parts.get((word.carrier, word.sender, word.recipient), [])
            if keys and len({key.attempt_id for key in keys}) == 1:
                proofs.append((keys.pop(0), word))
        return await self._store.prove_taken(proofs) if proofs else []

    async def _park(self, words: list[Word]) -> None:
        if not words:
            return
        await self._store.park(words)
        for word in words:
            self._parked[word.carrier, word.receipt_key] = word
        while len(self._parked) > _MAX_REMEMBERED:
            self._parked.popitem(last=False)

    async def _events(self, found: list[Found], proven: list[Found]) -> list[Event]:
        """What the receipts mean for their attempts. A repeat tells the same again: the publish may have failed."""
        events: list[Event] = []
        whole = [one.key.attempt_id for one in (*found, *proven) if one.parts > 1]
        attempts = await self._store.attempts(dict.fromkeys(whole)) if whole else {}
        for one in found:
            parts = attempts[one.key.attempt_id].parts if one.parts > 1 else [one.part]
            event = final_word(one.trail, parts)
            if event is not None:
                events.append(event)
        for one in proven:
            parts = attempts[one.key.attempt_id].parts if one.parts > 1 else [one.part]
            events += events_of(one.trail, parts)
        return events

    async def _receive(self, text: InboundText) -> list[Event]:
        now = now_utc()
        if text.total == 1:
            return [inbound_event(text, text.body, now)]
        parts = await self._store.add_inbound(text, now, now - _INBOUND_TOGETHER)
        if len(parts) < text.total:
            return []
        began_at = min(received_at for _, received_at in parts)
        return [inbound_event(text, "".join(body for body, _ in parts), began_at)]

    # The park

    async def look_after_park(self) -> None:
        """Look at parked receipts again: another process may have stored their ids; drop what is too old. Never returns."""
        since = now_utc() - timedelta(seconds=self._settings.parked_receipt_age_s)
        next_cleaning = 0.0
        loop = asyncio.get_running_loop()
        while True:
            words = await _insist(partial(self._store.parked_with_row, since))
            if words:
                self._items += [_Item(None, word, None) for word in words]
                self._wake.set()
            if loop.time() >= next_cleaning:
                await _insist(self._clean)
                next_cleaning = loop.time() + _CLEANING_S
            await asyncio.sleep(self._settings.parked_retry_s)
            since = now_utc() - _PARKED_LATELY

    async def _clean(self) -> None:
        now = now_utc()
        await self._store.forget_parked(
            now - timedelta(seconds=self._settings.parked_receipt_age_s), self._settings.parked_receipt_limit
        )
        await self._store.forget_inbound(now - _INBOUND_AGE)


def _with_answers(flights: list[Flight], items: list[_Item]) -> tuple[list[_Item], list[_Item]]:
    """Put receipts into the answers of this turn that they are for; returns the items that are thereby done, and the rest.

    A message of several parts waits for the other parts' receipts: those are settled from its rows.
    """
    answered = {
        (flight.attempt.carrier, flight.parts[0].receipt_key): flight for flight in flights if _is_taken_whole(flight)
    }
    done: list[_Item] = []
    others: list[_Item] = []
    for item in items:
        flight = answered.get((item.word.carrier, item.word.receipt_key)) if item.word is not None else None
        if flight is None or item.word is None:
            others.append(item)
            continue
        done.append(item)
        if _is_taken_whole(flight):  # the first word is the last
            flight.parts[0] = with_word(flight.parts[0], item.word)
    return done, others


def _is_taken_whole(flight: Flight) -> bool:
    """Tell whether it is of one part, which the carrier took and has no final word on."""
    return len(flight.parts) == 1 and flight.parts[0].state is _SENT


def _read(carrier: Carrier, delivery: Delivery, now: datetime) -> tuple[str, _Item | None]:
    """Read a delivery; what is of no use is answered at once, or it would come again for ever."""
    pdu = delivery.pdu
    if is_receipt(pdu):
        receipt = read_receipt(carrier.name, carrier.id_rule, pdu, now)
        if not receipt.known_code:
            UNKNOWN_CODES.labels(carrier.name, "receipt").inc()
        if receipt.word is not None:
            return receipt.word.state.value, _Item(delivery, receipt.word, None)
        delivery.accept()
        return "not final", None
    text = read_inbound(carrier.name, pdu)
    if text is not None:
        return "inbound", _Item(delivery, None, text)
    delivery.accept()
    return "unreadable", None


async def _insist(work: Callable[[], Awaitable[T]]) -> T:
    """Do it, waiting out a database that is away."""
    backoff_s = _FIRST_BACKOFF_S
    while True:
        try:
            return await work()
        except Exception as error:
            if not is_passing(error):
                raise
            logger.warning("the database is away", extra={"kind": type(error).__name__})
            await asyncio.sleep(backoff_s)
            backoff_s = min(2 * backoff_s, _LONGEST_BACKOFF_S)
