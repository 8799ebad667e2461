from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from harkara_contracts.errors import ErrorCode, HarkaraError
from harkara_contracts.events import Content, MessageAccepted, TimerDue
from harkara_contracts.ids import batch_id_of, day_of_batch, is_batch_id, is_message_id, message_id_in, new_message_id
from harkara_contracts.subjects import Category, Channel, Lane
from harkara_ingress.bulk.portions import (
    MAX_BYTES,
    MAX_ENTRIES,
    Cutter,
    Entry,
    messages,
    read_portion,
    timer_again,
    timers,
)
from harkara_ingress.bulk.request import read_recipient, shown_number

NOON = datetime(2026, 11, 22, 6, 30, tzinfo=UTC)  # 12:00 in India
EVENING = datetime(2026, 11, 22, 16, 0, tzinfo=UTC)  # 21:30: closed for promotion
BATCH = batch_id_of(new_message_id())


def prototype(category: Category = Category.TRANSACTIONAL, lane: Lane = Lane.TRANSACTIONAL) -> MessageAccepted:
    return MessageAccepted(
        message_id="",
        account_id="ACC1",
        lane=lane,
        batch_id=BATCH,
        correlation_id="shared",
        to="",
        category=category,
        channels=[Channel.SMS],
        content=Content(sender="HRKARA", template_id="T1"),
        accepted_at=NOON,
        expires_at=NOON + timedelta(hours=1),
    )


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
entries = st.builds(
    Entry,
    st.integers(0, 99_999),
    st.just("919876543210"),
    st.dictionaries(texts, texts, max_size=4),
    st.none() | texts.filter(bool),
)


def as_read(timer: TimerDue) -> TimerDue:
    """What comes back from the bus."""
    return TimerDue.model_validate_json(timer.model_dump_json(exclude_none=True))


@given(st.lists(entries, min_size=1, max_size=20))
def test_what_waits_comes_back_as_it_was(given_entries: list[Entry]) -> None:
    cutter = Cutter()
    for entry in given_entries:
        cutter.add(entry)
    (timer,) = timers(prototype(), cutter.finish(), NOON, 100.0)
    portion = read_portion(as_read(timer))
    assert (portion.number, portion.tries, portion.batch_id) == (0, 0, BATCH)
    assert list(portion.entries) == given_entries
    assert portion.prototype == prototype()
    again = read_portion(as_read(timer_again(portion, NOON, left=portion.entries[1:], tries=2)))
    assert (list(again.entries), again.tries) == (given_entries[1:], 2)
    assert timer_again(portion, NOON).timer_id == timer.timer_id


def test_portions_are_bounded_in_number_and_in_size_and_spread_by_the_rate() -> None:
    cutter = Cutter()
    for place in range(1_000):
        cutter.add(Entry(place, "919876543210", {"name": "x" * (2_000 if place >= 600 else 5)}, None))
    portions = cutter.finish()
    made = list(timers(prototype(), portions, NOON, 100.0))
    sizes = [len(read_portion(timer).entries) for timer in made]
    assert sum(sizes) == cutter.count == 1_000
    assert sizes[:2] == [MAX_ENTRIES, MAX_ENTRIES]
    assert max(len(timer.model_dump_json()) for timer in made) < 100_000
    assert max(len(portion.recipients) for portion in portions) <= MAX_BYTES + MAX_ENTRIES
    assert [timer.due_at for timer in made[:3]] == [NOON + timedelta(seconds=at) for at in (0, 2.5, 5.0)]
    assert len({timer.timer_id for timer in made}) == len(made)


def test_whoever_makes_the_messages_makes_the_same() -> None:
    entry = Entry(7, "919876543210", {"name": "Asha"}, None)
    cutter = Cutter()
    cutter.add(entry)
    cutter.add(entry._replace(place=8, correlation_id="own"))
    (timer,) = timers(prototype(), cutter.finish(), NOON, 1.0)
    portion = read_portion(timer)
    first, second = messages(portion, portion.entries, NOON)
    assert (first.message_id, second.message_id) == (message_id_in(BATCH, 7), message_id_in(BATCH, 8))
    assert (first.correlation_id, second.correlation_id) == ("shared", "own")
    assert (first.to, first.content.variables, first.content.sender) == ("919876543210", {"name": "Asha"}, "HRKARA")
    assert (first.batch_id, first.accepted_at) == (BATCH, NOON)
    assert prototype().content.variables == {}


def test_the_validity_begins_when_a_message_may_leave() -> None:
    cutter = Cutter()
    cutter.add(Entry(0, "919876543210", {}, None))
    written = cutter.finish()
    (plain,) = timers(prototype(), written, NOON, 1.0)
    later = NOON + timedelta(hours=5)
    portion = read_portion(plain)
    assert messages(portion, portion.entries, later)[0].expires_at == later + timedelta(hours=1)
    (closed,) = timers(prototype(Category.PROMOTIONAL, Lane.PROMOTIONAL), written, NOON, 1.0)
    portion = read_portion(closed)
    opens = datetime(2026, 11, 23, 4, 30, tzinfo=UTC)
    assert messages(portion, portion.entries, EVENING)[0].expires_at == opens + timedelta(hours=1)


def test_another_timer_of_the_edge_is_told_from_a_portion() -> None:
    timer = TimerDue(owner="ingress", lane=Lane.OTP, timer_id="x", name="other", due_at=NOON, payload={"number": 1})
    with pytest.raises(ValueError, match="no portion"):
        read_portion(timer)


def test_ids_of_a_batch_and_of_its_messages() -> None:
    message_id = new_message_id()
    batch_id = batch_id_of(message_id)
    assert is_batch_id(batch_id)
    assert not is_batch_id(message_id)
    assert not is_batch_id("BATCH20261340ABCDEFGHJKMN")
    ids = [message_id_in(batch_id, place) for place in range(1_000)]
    assert all(is_message_id(one) and one[:14] == message_id[:14] for one in ids)
    assert len(set(ids)) == 1_000
    assert f"{day_of_batch(batch_id):%Y%m%d}" == message_id[2:10]


READABLE: list[tuple[bytes, tuple[str, dict[str, str], str | None]]] = [
    (b'{"to":"919876543210"}', ("919876543210", {}, None)),
    (b'{"to":919876543210,"variables":{"n":5,"x":1.5},"more":[1]}', ("919876543210", {"n": "5", "x": "1.5"}, None)),
    (b'{"to":"+919876543210","variables":null,"correlation_id":7}', ("919876543210", {}, "7")),
    (b'{"to":"919876543210","variables":[],"correlation_id":"a b"}', ("919876543210", {}, "a b")),
]
UNREADABLE: list[tuple[bytes, ErrorCode, str | None]] = [
    (b'{"to":"9876543210"}', ErrorCode.INVALID_MOBILE, "9876543210"),
    (b'{"to":null}', ErrorCode.INVALID_REQUEST, None),
    (b'{"to":{"a":1}}', ErrorCode.INVALID_REQUEST, None),
    (b'{"variables":{}}', ErrorCode.INVALID_REQUEST, None),
    (b"[]", ErrorCode.INVALID_REQUEST, None),
    (b"7", ErrorCode.INVALID_REQUEST, None),
    (b'{"to":"919876543210","variables":{"a":true}}', ErrorCode.INVALID_REQUEST, "919876543210"),
    (b'{"to":"919876543210","variables":{"a":{}}}', ErrorCode.INVALID_REQUEST, "919876543210"),
    (b'{"to":"919876543210","variables":["a"]}', ErrorCode.INVALID_REQUEST, "919876543210"),
    (b'{"to":"919876543210","correlation_id":"a\\n"}', ErrorCode.INVALID_REQUEST, "919876543210"),
    (b'{"to":"919876543210","variables":{"a":"%b"}}' % (b"x" * 2_001), ErrorCode.INVALID_REQUEST, "919876543210"),
    (b'{"to":"919876543210","variables":{"%b":"a"}}' % (b"x" * 65), ErrorCode.INVALID_REQUEST, "919876543210"),
    (b'{"to":"919876543210","more":"%b"}' % (b"x" * 70_000), ErrorCode.INVALID_REQUEST, "919876543210"),
    (
        msgspec.json.encode({"to": "919876543210", "variables": {f"v{place}": "x" for place in range(101)}}),
        ErrorCode.INVALID_REQUEST,
        "919876543210",
    ),
]


@pytest.mark.parametrize(("text", "recipient"), READABLE)
def test_recipients_as_clients_write_them(text: bytes, recipient: tuple[str, dict[str, str], str | None]) -> None:
    assert tuple(read_recipient(Raw(text))) == recipient


@pytest.mark.parametrize(("text", "code", "shown"), UNREADABLE)
def test_recipients_that_cannot_be_read(text: bytes, code: ErrorCode, shown: str | None) -> None:
    with pytest.raises(HarkaraError) as caught:
        read_recipient(Raw(text))
    assert caught.value.code is code
    assert "919876543210" not in caught.value.message
    assert shown_number(Raw(text)) == shown
