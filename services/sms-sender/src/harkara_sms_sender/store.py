"""The sender's tables: what was handed to a carrier, receipts that came too early, and parts of inbound messages.

`submission` has one row for each part, written up to three times: the intent, the carrier's answer, the receipt.
Every method is one statement for a whole batch. Rows are found by key only, whatever the planner may think of a table
that has just begun to grow.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any, NamedTuple

import asyncpg
import orjson
from sqlalchemy import Column, DateTime, Index, SmallInteger, text
from sqlmodel import Field, SQLModel

from harkara_contracts.ids import day_of
from harkara_contracts.subjects import Lane
from harkara_sms_sender import statements as sql
from harkara_sms_sender.attempt import Part, PartState
from harkara_sms_sender.deliveries import InboundText, Word, with_word

_NATIONAL_DIGITS = 10


def _moment(*, nullable: bool = False) -> Any:
    return Field(sa_column=Column(DateTime(timezone=True), nullable=nullable))


class Submission(SQLModel, table=True):
    """One part of one attempt. `owner` is the process that has it in hand; `trail` is JSON: what its events share."""

    __tablename__ = "submission"
    __table_args__ = (
        Index("submission_by_receipt", "carrier", "receipt_key"),
        # What a receipt with an unknown id can be matched to; a row leaves it when the carrier's id is stored.
        Index("submission_open", "carrier", "recipient", postgresql_where=text("receipt_key IS NULL")),
        {"postgresql_partition_by": "RANGE (day)"},
    )

    day: date = Field(primary_key=True)
    attempt_id: str = Field(primary_key=True)
    part: int = Field(sa_column=Column(SmallInteger, primary_key=True, autoincrement=False))
    parts: int = Field(sa_column=Column(SmallInteger, nullable=False))
    carrier: str
    lane: str
    sender: str
    recipient: str
    trail: str
    state: str
    owner: str
    tries: int = Field(sa_column=Column(SmallInteger, nullable=False))
    intended_at: datetime = _moment()
    carrier_message_id: str | None = None
    receipt_key: str | None = None
    error_code: str | None = None
    error_description: str | None = None
    carrier_code: str | None = None
    retriable: bool = Field(default=False, sa_column_kwargs={"server_default": text("false")})
    answered_at: datetime | None = _moment(nullable=True)
    final_at: datetime | None = _moment(nullable=True)


class ParkedReceipt(SQLModel, table=True):
    """A final receipt whose id no submission has yet."""

    __tablename__ = "parked_receipt"
    __table_args__ = (Index("parked_receipt_by_age", "parked_at"),)

    carrier: str = Field(primary_key=True)
    receipt_key: str = Field(primary_key=True)
    state: str
    error_code: str | None = None
    error_description: str | None = None
    carrier_code: str | None = None
    retriable: bool
    parked_at: datetime = _moment()


class InboundPart(SQLModel, table=True):
    """A part of a concatenated inbound message, until the others are there."""

    __tablename__ = "inbound_part"
    __table_args__ = (Index("inbound_part_by_age", "received_at"),)

    carrier: str = Field(primary_key=True)
    sender: str = Field(primary_key=True)
    recipient: str = Field(primary_key=True)
    reference: int = Field(primary_key=True)
    total: int = Field(sa_column=Column(SmallInteger, primary_key=True, autoincrement=False))
    number: int = Field(sa_column=Column(SmallInteger, primary_key=True, autoincrement=False))
    body: str
    received_at: datetime = _moment()


class PartKey(NamedTuple):
    """The primary key of a submission."""

    day: date
    attempt_id: str
    part: int


@dataclass(slots=True)
class Intent:
    """An attempt about to be handed over."""

    attempt_id: str
    parts: int
    carrier: str
    lane: Lane
    sender: str
    recipient: str
    trail: str


@dataclass(slots=True)
class StoredAttempt:
    """All rows of one attempt."""

    attempt_id: str
    carrier: str
    trail: dict[str, Any]
    owner: str
    tries: int
    intended_at: datetime
    parts: list[Part] = field(default_factory=list)


class Found(NamedTuple):
    """A row that a receipt's word was for, as it is now. `changed` is False where an earlier word was the last."""

    key: PartKey
    word: Word
    parts: int
    trail: dict[str, Any]
    part: Part
    changed: bool


class Taken(NamedTuple):
    """A message of one part that a carrier took: its row, and what its events share."""

    key: PartKey
    trail: dict[str, Any]


class Store:
    """Everything the sender keeps. `database` gives asyncpg connections; `owner` names this process's run."""

    def __init__(self, database: Any, owner: str) -> None:
        self._database = database
        self.owner = owner

    async def _fetch(self, statement: str, *arguments: object) -> list[asyncpg.Record]:
        async with self._database.connection() as connection:
            try:
                rows: list[asyncpg.Record] = await connection.fetch(statement, *arguments)
            except asyncpg.InternalClientError as error:
                # The driver's word for a connection that the server ended a moment ago, while it lay in the pool.
                raise ConnectionError("the database ended the connection") from error
            return rows

    async def _execute(self, statement: str, *arguments: object) -> None:
        await self._fetch(statement, *arguments)

    # Hand-over

    async def insert_intents(self, intents: Sequence[Intent], now: datetime) -> set[str]:
        """Record that these attempts are about to be submitted; returns the ids of those nobody recorded before."""
        rows = [
            (day_of(i.attempt_id), i.attempt_id, part, i.parts, i.carrier, i.lane.value, i.sender, i.recipient, i.trail)
            for i in intents
            for part in range(1, i.parts + 1)
        ]
        found = await self._fetch(sql.INSERT_INTENTS, *_columns(rows, 9), self.owner, now)
        return {row[0] for row in found}

    async def record_answers(self, answers: Iterable[tuple[PartKey, Part]]) -> None:
        """Write what the carrier (or its absence) said; a part that a receipt has resolved meanwhile stays as it is."""
        rows = [
            (
                *key,
                part.state.value,
                part.carrier_message_id,
                part.receipt_key,
                part.error_code,
                part.error_description,
                part.carrier_code,
                part.retriable,
                part.answered_at,
                part.final_at,
            )
            for key, part in answers
        ]
        await self._execute(sql.RECORD_ANSWERS, *_columns(rows, 12))

    async def attempts(self, attempt_ids: Iterable[str]) -> dict[str, StoredAttempt]:
        """Return all rows of these attempts, parts in order."""
        rows = [(day_of(attempt_id), attempt_id) for attempt_id in attempt_ids]
        attempts: dict[str, StoredAttempt] = {}
        for row in await self._fetch(sql.ATTEMPTS, *_columns(rows, 2)):
            attempt_id = row["attempt_id"]
            attempt = attempts.get(attempt_id)
            if attempt is None:
                attempt = attempts[attempt_id] = StoredAttempt(
                    attempt_id,
                    row["carrier"],
                    orjson.loads(row["trail"]),
                    row["owner"],
                    row["tries"],
                    row["intended_at"],
                )
            attempt.parts.append(_part(row))
        return attempts

    async def claim(self, attempts: Iterable[StoredAttempt], now: datetime) -> set[str]:
        """Take over unanswered attempts to submit them once more; returns the ids of those that nobody else took."""
        rows = [(day_of(a.attempt_id), a.attempt_id, a.owner) for a in attempts]
        return {row[0] for row in await self._fetch(sql.CLAIM, *_columns(rows, 3), self.owner, now)}

    async def give_up(self, attempts: Iterable[StoredAttempt], reason: str, now: datetime) -> None:
        """Mark parts that were never answered as unknown."""
        rows = [(day_of(a.attempt_id), a.attempt_id, a.owner) for a in attempts]
        await self._execute(sql.GIVE_UP, *_columns(rows, 3), reason, now)

    # Receipts

    async def apply_words(self, words: Sequence[Word], today: date) -> list[Found]:
        """Write receipts to the parts they are for. A word that is not in the result has no part yet.

        Almost every receipt is for a message of yesterday or today that has no final word; only the others cost more.
        Carriers use their ids again: a part that has its final word is meant only if the handset is the same.
        """
        # Not the days to come, whose partitions are there already: each is one more index to search.
        found = await self._apply(words, today - timedelta(days=1), today + timedelta(days=1))
        if len(found) < len(words):
            rest = without(words, found)
            rows: dict[tuple[str, str], list[asyncpg.Record]] = {}
            for row in await self._fetch(
                sql.FIND_KEYS, *_columns([(word.carrier, word.receipt_key) for word in rest], 2)
            ):
                rows.setdefault((row["carrier"], row["receipt_key"]), []).append(row)
            late = [word for word in rest if any(map(_is_open, rows.get((word.carrier, word.receipt_key), ())))]
            if late:
                found += await self._apply(late, date.min, date.max)
            for word in without(rest, found):
                same = [row for row in rows.get((word.carrier, word.receipt_key), ()) if _is_for(word, row)]
                if same:
                    found.append(_found(same[-1], word, changed=False))
        return found

    async def apply_known(self, known: Sequence[tuple[Taken, Word]]) -> list[Found]:
        """Write receipts to rows that are known; those without a final word so far are in the result."""
        rows = [(*taken.key, *_word_columns(word)) for taken, word in known]
        updated = {tuple(row) for row in await self._fetch(sql.APPLY_KNOWN, *_columns(rows, 9))}
        return [
            Found(taken.key, word, 1, taken.trail, with_word(Part(PartState.SENT), word), changed=True)
            for taken, word in known
            if taken.key in updated
        ]

    async def _apply(self, words: Sequence[Word], first_day: date, last_day: date) -> list[Found]:
        by_key = {(word.carrier, word.receipt_key): word for word in words}
        rows = [(w.carrier, w.receipt_key, *_word_columns(w)) for w in by_key.values()]
        updated = await self._fetch(sql.APPLY_WORDS, *_columns(rows, 8), first_day, last_day)
        return [_found(row, by_key[row["carrier"], row["receipt_key"]], changed=True) for row in updated]

    async def open_parts(self, words: Sequence[Word], since: datetime) -> dict[tuple[str, str, str], list[PartKey]]:
        """Return the parts of unknown fate by (carrier, sender, recipient); those in this process's hands are not."""
        addresses = {(word.carrier, word.sender, word.recipient) for word in words}
        parts: dict[tuple[str, str, str], list[PartKey]] = {}
        for row in await self._fetch(sql.FIND_OPEN, *_columns(list(addresses), 3), since, self.owner):
            parts.setdefault((row[0], row[1], row[2]), []).append(PartKey(row[3], row[4], row[5]))
        return parts

    async def prove_taken(self, proofs: Sequence[tuple[PartKey, Word]]) -> list[Found]:
        """Resolve parts of unknown fate by receipts that can only be theirs."""
        words = dict(proofs)
        rows = [
            (
                *key,
                word.state.value,
                word.receipt_key,
                word.carrier_message_id,
                word.error_code,
                word.error_description,
                word.carrier_code,
                word.retriable,
                word.said_at,
            )
            for key, word in proofs
        ]
        updated = await self._fetch(sql.PROVE_TAKEN, *_columns(rows, 11))
        return [
            _found(row, words[PartKey(row["day"], row["attempt_id"], row["part"])], changed=True) for row in updated
        ]

    async def park(self, words: Sequence[Word]) -> None:
        """Keep receipts that nothing matches yet; of one id the newest."""
        rows = [(w.carrier, w.receipt_key, *_word_columns(w)) for w in words]
        await self._execute(sql.PARK, *_columns(rows, 8))

    async def parked_with_row(self, since: datetime) -> list[Word]:
        """Return parked receipts whose submission has meanwhile got its id."""
        return [
            Word(
                carrier=row["carrier"],
                receipt_key=row["receipt_key"],
                state=PartState(row["state"]),
                said_at=row["parked_at"],
                error_code=row["error_code"],
                error_description=row["error_description"],
                carrier_code=row["carrier_code"],
                retriable=row["retriable"],
            )
            for row in await self._fetch(sql.PARKED_WITH_ROW, since)
        ]

    async def unpark(self, words: Iterable[Word]) -> None:
        await self._execute(sql.UNPARK, *_columns([(word.carrier, word.receipt_key) for word in words], 2))

    async def forget_parked(self, before: datetime, keep: int) -> None:
        """Drop parked receipts older than `before`, and the oldest beyond `keep`."""
        await self._execute(sql.FORGET_PARKED, before, keep)

    # Inbound

    async def add_inbound(self, part: InboundText, now: datetime, not_before: datetime) -> list[tuple[str, datetime]]:
        """Keep a part; returns body and time of all parts there are, in order.

        References come round: what is older than `not_before` belongs to another message. A repeated part keeps its
        first time, so that the message it completes has the same id again.
        """
        await self._execute(sql.ADD_INBOUND, *part, now, not_before)
        rows = await self._fetch(sql.INBOUND_BODIES, *part[:5], not_before)
        return [(row["body"], row["received_at"]) for row in rows]

    async def forget_inbound(self, before: datetime) -> None:
        await self._execute(sql.FORGET_INBOUND, before)


def _columns(rows: Sequence[tuple[Any, ...]], width: int) -> list[Sequence[Any]]:
    """Turn rows into the arrays that `unnest` takes."""
    return list(zip(*rows, strict=True)) if rows else [()] * width


def _word_columns(word: Word) -> tuple[Any, ...]:
    return (
        word.state.value,
        word.error_code,
        word.error_description,
        word.carrier_code,
        word.retriable,
        word.said_at,
    )


def without(words: Sequence[Word], found: Sequence[Found]) -> list[Word]:
    """Return the words that nothing was found for."""
    keys = {(one.word.carrier, one.word.receipt_key) for one in found}
    return [word for word in words if (word.carrier, word.receipt_key) not in keys]


def _is_open(row: asyncpg.Record) -> bool:
    return bool(row["state"] == PartState.SENT.value)


def _is_for(word: Word, row: asyncpg.Record) -> bool:
    """Whether the handsets are the same; carriers write the country code, or not."""
    national = slice(-_NATIONAL_DIGITS, None)
    return bool(word.recipient[national] == row["recipient"][national])


def _part(row: asyncpg.Record) -> Part:
    return Part(
        state=PartState(row["state"]),
        carrier_message_id=row["carrier_message_id"],
        receipt_key=row["receipt_key"],
        error_code=row["error_code"],
        error_description=row["error_description"],
        carrier_code=row["carrier_code"],
        retriable=row["retriable"],
        answered_at=row["answered_at"],
        final_at=row["final_at"],
    )


def _found(row: asyncpg.Record, word: Word, *, changed: bool) -> Found:
    key = PartKey(row["day"], row["attempt_id"], row["part"])
    return Found(key, word, row["parts"], orjson.loads(row["trail"]), _part(row), changed)
