"""DEAD: what could not be handled is kept for 30 days with its reason, to be looked at and replayed.

`dead.v1.<service>.<stream>`; the body is the original record, the headers tell where it came from and why it died.
A replay publishes the record to its old subject again under a fresh de-duplication id; since every consumer is idempotent
by event id, only those who have not handled it do anything.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

import nats.js.errors
from nats.js import api
from nats.js.client import JetStreamContext

from harkara_chassis import envelope
from harkara_chassis.connection import connect
from harkara_chassis.publisher import Outgoing, Publisher
from harkara_contracts.streams import DEAD, stream_of
from harkara_contracts.subjects import key_token, subject

_REASON = "Harkara-Dead-Reason"
_SUBJECT = "Harkara-Dead-Subject"
_CONSUMER = "Harkara-Dead-Consumer"
_DELIVERIES = "Harkara-Dead-Deliveries"
_MAX_REASON = 500


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One dead record. `body` is the CloudEvents batch as it was (a batch of one where the record could be cut out)."""

    sequence: int
    service: str
    stream: str
    original_subject: str
    consumer: str
    reason: str
    deliveries: int
    died_at: datetime
    body: bytes


def dead_letter(
    service: str, original_subject: str, consumer: str, reason: str, deliveries: int, body: bytes, identity: str
) -> Outgoing:
    """Make the message for DEAD.

    Args:
        service: who gives up.
        original_subject: where the record came from, and goes on replay.
        consumer: the durable that could not handle it.
        reason: kinds and places of fault, no values.
        deliveries: how often it was tried.
        body: the record.
        identity: the same for a repeat of the same burial, so that it is stored once.
    """
    name = subject("dead", key_token(service), stream_of(original_subject).name)
    one_line = " ".join(reason.split())[:_MAX_REASON]
    return Outgoing(
        name,
        body,
        {
            "Content-Type": envelope.CONTENT_TYPE,
            "Nats-Msg-Id": f"dead.{consumer}.{identity}",
            "Nats-Expected-Stream": DEAD.name,
            _REASON: one_line.encode("ascii", "replace").decode(),
            _SUBJECT: original_subject,
            _CONSUMER: consumer,
            _DELIVERIES: str(deliveries),
        },
    )


async def list_dead(nats_url: str, limit: int = 100) -> list[DeadLetter]:
    """Return the newest dead letters, newest last."""
    bus = await connect(nats_url, "dead", closing_is_loss=lambda: False)
    try:
        stream = bus.client.jetstream()
        state = (await stream.stream_info(DEAD.name)).state
        found: list[DeadLetter] = []
        sequence = state.last_seq
        while sequence >= max(1, state.first_seq) and len(found) < limit:
            if (letter := await _get(stream, sequence)) is not None:
                found.append(letter)
            sequence -= 1
        return found[::-1]
    finally:
        await bus.close()


async def show_dead(nats_url: str, sequence: int) -> DeadLetter | None:
    """Return one dead letter, None if it is not (or no longer) there."""
    bus = await connect(nats_url, "dead", closing_is_loss=lambda: False)
    try:
        return await _get(bus.client.jetstream(), sequence)
    finally:
        await bus.close()


async def replay_dead(nats_url: str, sequence: int | None = None) -> int:
    """Publish one dead letter (or all) to where it came from, and take it out of DEAD. Returns how many."""
    bus = await connect(nats_url, "dead", closing_is_loss=lambda: False)
    try:
        stream = bus.client.jetstream()
        publisher = Publisher(bus.client, "dead")
        await publisher.start()
        state = (await stream.stream_info(DEAD.name)).state
        wanted = [sequence] if sequence is not None else range(max(1, state.first_seq), state.last_seq + 1)
        replayed = 0
        for number in wanted:
            letter = await _get(stream, number)
            if letter is None:
                continue
            await publisher.send([_again(letter)])
            await stream.delete_msg(DEAD.name, number)
            replayed += 1
        return replayed
    finally:
        await bus.close()


def _again(letter: DeadLetter) -> Outgoing:
    return Outgoing(
        letter.original_subject,
        letter.body,
        {
            "Content-Type": envelope.CONTENT_TYPE,
            "Nats-Msg-Id": f"replay.{letter.sequence}.{letter.died_at.timestamp()}",
            "Nats-Expected-Stream": stream_of(letter.original_subject).name,
        },
    )


async def _get(stream: JetStreamContext, sequence: int) -> DeadLetter | None:
    try:
        message: api.RawStreamMsg = await stream.get_msg(DEAD.name, sequence)
    except nats.js.errors.NotFoundError:
        return None
    headers = message.headers or {}
    _, _, service, stream_name = (message.subject or "dead.v1..").split(".", 3)
    return DeadLetter(
        sequence=sequence,
        service=service,
        stream=stream_name,
        original_subject=headers.get(_SUBJECT, ""),
        consumer=headers.get(_CONSUMER, ""),
        reason=headers.get(_REASON, ""),
        deliveries=int(headers.get(_DELIVERIES, "0")),
        died_at=message.time or datetime.fromtimestamp(0, UTC),
        body=message.data or b"",
    )
