"""A view reads what it names as the whole event would, and what is bad is found as the whole event would find it."""

import orjson
from libs.chassis.tests.helpers import MakeAccepted

from harkara_chassis import envelope, views
from harkara_contracts.events import MessageAccepted, MessageDeferred
from harkara_contracts.subjects import Lane
from harkara_contracts.views import View

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Seen(View):
    account_id: str
    category: str | None = None


class SeenLane(View):
    lane: Lane


read = views.reader({MessageAccepted: Seen})


def test_a_view_has_what_it_names_and_the_records_id_and_trace(accepted: MakeAccepted) -> None:
    events = [accepted(), accepted()]
    payload = envelope.encode(events, "/harkara/test", {events[0].message_id: TRACEPARENT})
    good, bad = read(payload, MessageAccepted)
    whole, _ = envelope.decode(payload, MessageAccepted)
    assert not bad
    assert [one.event.account_id for one in good] == [one.event.account_id for one in whole]
    assert [one.event.correlation_key() for one in good] == [one.event.correlation_key() for one in whole]
    assert [one.event.category for one in good] == [one.event.category.value for one in whole]
    assert [(one.id, one.traceparent) for one in good] == [(one.id, one.traceparent) for one in whole]
    assert good[0].traceparent == TRACEPARENT


def test_a_bad_record_does_not_spoil_the_batch(accepted: MakeAccepted) -> None:
    records = orjson.loads(envelope.encode([accepted(), accepted(), accepted()], "/harkara/test"))
    secret = records[1]["data"]["account_id"] = {"secret": "919876543210"}
    records[2]["type"] = MessageDeferred.type_name()
    good, bad = read(orjson.dumps(records), MessageAccepted)
    assert [one.id for one in good] == [records[0]["id"]]
    assert [orjson.loads(each.payload) for each in bad] == [[records[1]], [records[2]]]
    assert "account_id" in bad[0].reason
    assert secret["secret"] not in bad[0].reason
    assert MessageDeferred.type_name() in bad[1].reason


def test_a_reason_never_quotes_the_record(accepted: MakeAccepted) -> None:
    records = orjson.loads(envelope.encode([accepted()], "/harkara/test"))
    records[0]["data"]["lane"] = "it's 919876543210"
    _, (bad,) = views.reader({MessageAccepted: SeenLane})(orjson.dumps(records), MessageAccepted)
    assert bad.reason == "Invalid enum value - at `$.data.lane`"


def test_what_is_no_batch_is_one_bad_record() -> None:
    for payload in (b"{", b"{}", b"1", b"\xff"):
        assert read(payload, MessageAccepted)[0] == []
        assert [each.payload for each in read(payload, MessageAccepted)[1]] == [payload]


def test_a_record_is_cut_out_as_it_was(accepted: MakeAccepted) -> None:
    events = [accepted(), accepted()]
    payload = envelope.encode(events, "/harkara/test", {events[1].message_id: TRACEPARENT})
    assert orjson.loads(envelope.record(payload, events[1].event_id())) == orjson.loads(payload)[1:]
