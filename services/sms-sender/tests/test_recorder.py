"""The recorder over the real tables; what it publishes and answers is collected."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import orjson
import pytest

from harkara_chassis.clock import now_utc
from harkara_chassis.database import Database
from harkara_contracts.events import AttemptFunded, Event
from harkara_contracts.ids import random_tail
from harkara_contracts.subjects import Lane
from harkara_smpp import DeliverSm, IdRule, MessageState
from harkara_smpp.receipt import receipt_text
from harkara_smpp.session import Incoming, Session
from harkara_sms_sender import recorder as under_test
from harkara_sms_sender.attempt import Part, PartState
from harkara_sms_sender.carrier import Carrier
from harkara_sms_sender.deliveries import Word, id_key
from harkara_sms_sender.flight import Batch, Flight, InHand
from harkara_sms_sender.recorder import Recorder
from harkara_sms_sender.settings import Settings
from harkara_sms_sender.store import Found, Intent, Store, Taken

Fund = Callable[..., AttemptFunded]
JIO = cast("Carrier", SimpleNamespace(name="jio", id_rule=IdRule.NONE))


class CountingStore(Store):
    """Counts how receipts were written; those written with their answers are in neither list."""

    def __init__(self, database: Database) -> None:
        super().__init__(database, owner="this process")
        self.searched: list[Word] = []
        self.known: list[Word] = []

    async def apply_words(self, words: Sequence[Word], today: Any) -> list[Found]:
        self.searched += words
        return await super().apply_words(words, today)

    async def apply_known(self, known: Sequence[tuple[Taken, Word]]) -> list[Found]:
        self.known += [word for _, word in known]
        return await super().apply_known(known)


class Bench:
    """A recorder with what is around it."""

    def __init__(self, store: CountingStore, settings: Settings) -> None:
        self.store = store
        self.events: list[Event] = []
        self.answered = 0
        self.changed = asyncio.Condition()
        self.in_hand = InHand()
        self.recorder = Recorder(store, self.publish, self.in_hand, settings)

    async def publish(self, events: Sequence[Event]) -> None:
        async with self.changed:
            self.events += events
            self.changed.notify_all()

    def answer(self, _octets: bytes) -> None:
        self.answered += 1

    async def submitted(self, attempt: AttemptFunded, parts: int = 1) -> tuple[Flight, list[str]]:
        """An attempt that the carrier has taken, which the recorder has not heard of yet, and the carrier's ids."""
        trail = orjson.dumps(attempt.trail()).decode()
        await self.store.insert_intents(
            [Intent(attempt.attempt_id, parts, "jio", attempt.lane, "HRKARA", attempt.to, trail)], now_utc()
        )
        flight = self.in_hand.board(attempt, Batch())
        # Zeros in front: carriers leave them out of receipts, or add some, as they please.
        ids = [f"0{random_tail()}" for _ in range(parts)]
        flight.parts = [Part(PartState.SENT, one, id_key(one, JIO.id_rule), answered_at=now_utc()) for one in ids]
        return flight, ids

    def receipt(self, attempt: AttemptFunded, message_id: str, state: MessageState = MessageState.DELIVRD) -> None:
        text = receipt_text(message_id, state, submit_date=now_utc(), done_date=now_utc(), error_code="000")
        pdu = DeliverSm(source_addr=attempt.to, destination_addr="HRKARA", esm_class=4, short_message=text.encode())
        session = cast("Session", SimpleNamespace(answer=self.answer))
        self.recorder.delivered(JIO, [Incoming(pdu, session, 0x80000005, 1)])

    async def until(self, count: int) -> list[Event]:
        async with asyncio.timeout(5), self.changed:
            await self.changed.wait_for(lambda: len(self.events) >= count)
        return self.events

    async def state_of(self, attempt: AttemptFunded) -> list[str]:
        return [
            part.state.value for part in (await self.store.attempts([attempt.attempt_id]))[attempt.attempt_id].parts
        ]


@pytest.fixture
async def database(servers: Any) -> AsyncIterator[Database]:
    opened = await Database.open(servers.database_url("sms-sender"), "sms-sender")
    await opened.ensure_partitions(("submission",))
    yield opened
    await opened.close()


@pytest.fixture
def bench(database: Database, tmp_path: Path) -> Bench:
    return Bench(CountingStore(database), Settings(carriers_file=tmp_path / "none.yaml"))


def kinds(events: Sequence[Event]) -> list[str]:
    return [event.event for event in events]


@asynccontextmanager
async def running(bench: Bench) -> AsyncIterator[None]:
    task = asyncio.create_task(bench.recorder.run())
    try:
        yield
    finally:
        bench.recorder.stop()
        await task


async def test_a_receipt_of_the_same_turn_is_written_with_its_answer(funded: Fund, bench: Bench) -> None:
    good, bad = funded(), funded()
    for attempt, state in ((good, MessageState.DELIVRD), (bad, MessageState.UNDELIV)):
        flight, [message_id] = await bench.submitted(attempt)
        bench.receipt(attempt, message_id, state)  # some carriers tell before they answer
        bench.recorder.landed(flight)
        bench.receipt(attempt, message_id, state)  # and some twice
    async with running(bench):
        events = await bench.until(4)
    assert kinds(events) == ["sent", "delivered", "sent", "failed"]
    assert (bench.store.searched, bench.store.known) == ([], [])
    assert bench.answered == 4
    assert (await bench.state_of(good), await bench.state_of(bad)) == (["delivered"], ["failed"])
    assert bench.in_hand.get(good.attempt_id) is None


async def test_a_receipt_that_comes_soon_is_written_by_its_key_and_a_repeat_is_searched_for(
    funded: Fund, bench: Bench
) -> None:
    attempt = funded()
    flight, [message_id] = await bench.submitted(attempt)
    async with running(bench):
        bench.recorder.landed(flight)
        await bench.until(1)
        bench.receipt(attempt, message_id)
        await bench.until(2)
        bench.receipt(attempt, message_id, MessageState.UNDELIV)
        events = await bench.until(3)
    assert [len(bench.store.known), len(bench.store.searched)] == [1, 1]
    assert kinds(events) == ["sent", "delivered", "delivered"]
    assert events[1].event_id() == events[2].event_id()
    assert await bench.state_of(attempt) == ["delivered"]
    assert bench.answered == 2


async def test_the_parts_of_a_long_message_are_settled_from_its_rows(funded: Fund, bench: Bench) -> None:
    attempt = funded(text="x" * 200)
    flight, ids = await bench.submitted(attempt, parts=2)
    async with running(bench):
        bench.recorder.landed(flight)
        bench.receipt(attempt, ids[0])
        await bench.until(1)
        bench.receipt(attempt, ids[1])
        events = await bench.until(2)
    assert kinds(events) == ["sent", "delivered"]
    assert await bench.state_of(attempt) == ["delivered", "delivered"]


async def test_a_row_that_was_resolved_meanwhile_keeps_its_word(funded: Fund, bench: Bench) -> None:
    attempt = funded()
    flight, [message_id] = await bench.submitted(attempt)
    async with running(bench):
        bench.recorder.landed(flight)
        await bench.until(1)
        other = Store(bench.store._database, owner="another process")
        key = id_key(message_id, JIO.id_rule)
        word = Word("jio", key, PartState.FAILED, now_utc(), message_id, attempt.to, "HRKARA", "ERR_X", "Words.")
        assert (await other.apply_words([word], now_utc().date()))[0].changed
        bench.receipt(attempt, message_id)
        events = await bench.until(2)
    assert kinds(events) == ["sent", "failed"]
    assert await bench.state_of(attempt) == ["failed"]


async def test_turns_keep_a_distance_when_there_is_much_and_never_for_an_otp(
    funded: Fund, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(under_test, "_TURN_S", 60.0)
    crowd = [await bench.submitted(funded()) for _ in range(20)]
    late, otp = await bench.submitted(funded()), await bench.submitted(funded(lane=Lane.OTP))
    async with running(bench):
        for flight, _ in crowd:
            bench.recorder.landed(flight)
        await bench.until(20)
        bench.recorder.landed(late[0])
        for _ in range(10):
            await asyncio.sleep(0)
        assert len(bench.events) == 20
        bench.recorder.landed(otp[0])
        assert len(await bench.until(22)) == 22
