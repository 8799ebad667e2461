"""The ESME against our own SMSC, over loopback."""

import asyncio
import ssl
from typing import Any

import pytest
import trustme

from harkara_smpp import (
    Accepted,
    CommandStatus,
    DeliverSm,
    Esme,
    EsmeConfig,
    EsmeState,
    EsmeStoppedError,
    MessageState,
    NotSent,
    PduEncodeError,
    QueryFailedError,
    QuerySm,
    QuerySmResp,
    QueueFullError,
    Rejected,
    SessionLostError,
    SubmitSm,
    Throttled,
    Unknown,
    is_receipt,
    parse_receipt,
)
from harkara_smpp.smsc import Submission


def _receipt(message_id: str) -> DeliverSm:
    return DeliverSm(esm_class=4, short_message=f"id:{message_id} stat:DELIVRD err:000".encode())


def _states(side: Any) -> list[str]:
    return [change.state for change in side.states]


async def test_a_message_is_accepted_and_its_receipt_stored_and_answered(new_smsc: Any, new_esme: Any) -> None:
    smsc = await new_smsc()
    side = await new_esme(smsc.smsc.port, system_type="SMPP")
    side.submit("first")
    await side.until(lambda: side.outcomes)
    assert side.outcomes == [("first", Accepted("1"))]
    assert smsc.binds[0].system_id == "harkara"
    assert (smsc.binds[0].password, smsc.binds[0].system_type) == ("secret", "SMPP")
    assert smsc.submissions[0].pdu.short_message == b"Hello"

    session = await smsc.bound()
    assert session.deliver(_receipt("1"), "its receipt")
    await smsc.until(lambda: smsc.delivered)
    assert smsc.delivered == [("its receipt", 0)]
    assert is_receipt(side.deliveries[0].pdu)
    receipt = parse_receipt(side.deliveries[0].pdu)
    assert receipt is not None
    assert (receipt.message_id, receipt.state) == ("1", MessageState.DELIVRD)

    await side.esme.stop()
    assert _states(side) == ["connecting", "binding", "bound", "draining", "stopped"]
    await smsc.until(lambda: smsc.unbound)


async def test_a_refused_message_is_rejected_with_its_status(new_smsc: Any, new_esme: Any) -> None:
    smsc = await new_smsc()
    smsc.answer = lambda submission: submission.reject(CommandStatus.ESME_RINVDSTADR)
    side = await new_esme(smsc.smsc.port)
    side.submit("bad")
    await side.until(lambda: side.outcomes)
    assert side.outcomes == [("bad", Rejected(CommandStatus.ESME_RINVDSTADR))]


def throttle_at_first(smsc: Any) -> list[str]:
    """Let an SMSC throttle the first four submits, and return the list in which every submit's number will stand."""
    arrived: list[str] = []

    def answer(submission: Submission) -> None:
        arrived.append(submission.pdu.destination_addr)
        if len(arrived) <= 4:
            submission.reject(CommandStatus.ESME_RTHROTTLED)
        else:
            submission.accept(str(len(arrived)))

    smsc.answer = answer
    return arrived


async def test_a_throttled_window_goes_again_in_its_old_order(new_smsc: Any, new_esme: Any) -> None:
    smsc = await new_smsc()
    arrived = throttle_at_first(smsc)
    side = await new_esme(smsc.smsc.port, window=4)
    numbers = [f"91900000000{digit}" for digit in range(8)]
    for number in numbers:
        side.submit(number, number)
    await side.until(lambda: len(side.outcomes) == 8)
    assert arrived == numbers[:4] + numbers
    assert all(isinstance(outcome, Accepted) for _, outcome in side.outcomes)


async def test_what_is_urgent_goes_before_all_that_a_throttle_holds_up(new_smsc: Any, new_esme: Any) -> None:
    smsc = await new_smsc()
    arrived = throttle_at_first(smsc)
    side = await new_esme(smsc.smsc.port, window=4)
    bulk = [f"91900000000{digit}" for digit in range(8)]
    for number in bulk:
        side.submit(number, number)
    await smsc.until(lambda: len(arrived) == 4)
    for number in ("919111111111", "919222222222"):
        side.submit(number, number, urgent=True)
    await side.until(lambda: len(side.outcomes) == 10)
    assert arrived == [*bulk[:4], "919111111111", "919222222222", *bulk]


async def test_a_message_throttled_too_often_is_given_back(new_smsc: Any, new_esme: Any) -> None:
    smsc = await new_smsc()
    smsc.answer = lambda submission: submission.reject(CommandStatus.ESME_RMSGQFUL)
    side = await new_esme(smsc.smsc.port, max_throttles=0)
    side.submit("full")
    await side.until(lambda: side.outcomes)
    assert side.outcomes == [("full", Throttled(CommandStatus.ESME_RMSGQFUL))]


async def test_a_throttled_message_that_waited_too_long_is_given_back_as_throttled(
    new_smsc: Any, new_esme: Any
) -> None:
    smsc = await new_smsc()
    smsc.answer = lambda submission: submission.reject(CommandStatus.ESME_RTHROTTLED)
    side = await new_esme(smsc.smsc.port, queue_timeout_s=0.2)
    side.submit("slow")
    await side.until(lambda: side.outcomes)
    assert side.outcomes == [("slow", Throttled(CommandStatus.ESME_RTHROTTLED))]


async def test_no_response_is_unknown_and_a_late_one_is_still_reported(new_smsc: Any, new_esme: Any) -> None:
    smsc = await new_smsc()
    smsc.answer = lambda _submission: None
    side = await new_esme(smsc.smsc.port, response_timeout_s=0.1, window=1)
    side.submit("silent")
    side.submit("next")
    await side.until(lambda: len(side.outcomes) == 2)
    assert [type(outcome) for _, outcome in side.outcomes] == [Unknown, Unknown]
    smsc.submissions[0].accept("late-1")
    smsc.submissions[1].reject(CommandStatus.ESME_RSYSERR)
    await side.until(lambda: len(side.outcomes) == 4)
    assert side.outcomes[2:] == [
        ("silent", Accepted("late-1", late=True)),
        ("next", Rejected(CommandStatus.ESME_RSYSERR, late=True)),
    ]


async def test_a_drop_makes_the_written_unknown_and_the_queued_go_in_the_next_session(
    new_smsc: Any, new_esme: Any
) -> None:
    smsc = await new_smsc()
    smsc.answer = lambda _submission: smsc.sessions[0].abort("cut")
    side = await new_esme(smsc.smsc.port, window=1)
    side.submit("written")
    side.submit("queued")
    await smsc.until(lambda: smsc.submissions)
    smsc.answer = lambda submission: submission.accept("second session")
    await side.until(lambda: len(side.outcomes) == 2)
    assert isinstance(side.outcome_of("written")[0], Unknown)
    assert side.outcome_of("queued") == [Accepted("second session")]
    assert _states(side) == ["connecting", "binding", "bound", "waiting", "connecting", "binding", "bound"]
    assert len(smsc.submissions) == 2


async def test_refused_credentials_are_surfaced_and_tried_again_slowly(new_smsc: Any, new_esme: Any) -> None:
    smsc = await new_smsc()
    smsc.bind_statuses = [int(CommandStatus.ESME_RINVPASWD), int(CommandStatus.ESME_RSYSERR)]
    side = await new_esme(smsc.smsc.port)
    await side.bound()
    refused, waiting = (change for change in side.states if change.command_status)
    assert refused == (EsmeState.REFUSED, "bind refused: ESME_RINVPASWD", CommandStatus.ESME_RINVPASWD)
    assert waiting == (EsmeState.WAITING, "bind refused: ESME_RSYSERR", CommandStatus.ESME_RSYSERR)


async def test_an_smsc_that_comes_later_is_found(new_smsc: Any, new_esme: Any) -> None:
    smsc = await new_smsc()
    port = smsc.smsc.port
    await smsc.smsc.stop()
    side = await new_esme(port)
    side.submit("early")
    await side.until(lambda: EsmeState.WAITING in _states(side))
    await new_smsc(port=port)
    await side.until(lambda: side.outcomes)
    assert side.outcomes == [("early", Accepted("1"))]


async def test_a_message_that_cannot_be_written_in_time_is_not_sent(new_smsc: Any, new_esme: Any) -> None:
    smsc = await new_smsc()
    port = smsc.smsc.port
    await smsc.smsc.stop()
    side = await new_esme(port, queue_timeout_s=0.1)
    side.submit("stuck")
    await side.until(lambda: side.outcomes)
    assert isinstance(side.outcome_of("stuck")[0], NotSent)


async def test_a_receipt_may_come_before_the_response(new_smsc: Any, new_esme: Any) -> None:
    smsc = await new_smsc()

    def receipt_first(submission: Submission) -> None:
        smsc.sessions[0].deliver(_receipt("1"))

    smsc.answer = receipt_first
    side = await new_esme(smsc.smsc.port)
    side.submit("fast")
    await side.until(lambda: side.deliveries)
    smsc.submissions[0].accept("1")
    await side.until(lambda: side.outcomes)
    assert side.events == ["delivery", "outcome"]


async def test_the_window_is_never_exceeded(new_smsc: Any, new_esme: Any) -> None:
    smsc = await new_smsc()
    waiting: list[Submission] = []
    largest = 0

    def answer(submission: Submission) -> None:
        nonlocal largest
        waiting.append(submission)
        largest = max(largest, len(waiting))
        if len(waiting) == 5:
            asyncio.get_running_loop().call_later(0.01, answer_all)

    def answer_all() -> None:
        while waiting:
            waiting.pop().accept("x")

    smsc.answer = answer
    side = await new_esme(smsc.smsc.port, window=5)
    for number in range(50):
        side.submit(number)
    await side.until(lambda: len(side.outcomes) == 50)
    assert largest == 5


async def test_the_rate_is_kept(new_smsc: Any, new_esme: Any) -> None:
    smsc = await new_smsc()
    side = await new_esme(smsc.smsc.port, tps=100, window=1000)
    await side.bound()
    loop = asyncio.get_running_loop()
    began = loop.time()
    for number in range(60):
        side.submit(number)
    await side.until(lambda: len(side.outcomes) == 60)
    # A burst of a tenth of a second, then 50 at 100 a second.
    assert loop.time() - began > 0.4


async def test_the_queue_is_bounded_and_tells_when_it_has_room(new_smsc: Any, new_esme: Any) -> None:
    smsc = await new_smsc()
    smsc.answer = lambda _submission: None
    side = await new_esme(smsc.smsc.port, queue_limit=4, window=4)
    await side.bound()
    for number in range(4):
        side.submit(number)
    await smsc.until(lambda: len(smsc.submissions) == 4)
    assert await side.esme.room() == 4
    for number in range(4, 8):
        side.submit(number)
    with pytest.raises(QueueFullError):
        side.submit(8)
    room = asyncio.create_task(side.esme.room())
    await asyncio.sleep(0)
    assert not room.done()
    smsc.answer = lambda submission: submission.accept("x")
    for submission in smsc.submissions[:4]:
        submission.accept("x")
    assert await room >= 2
    await side.until(lambda: len(side.outcomes) == 8)


async def test_unanswered_deliveries_stop_the_reading_and_none_is_lost(new_smsc: Any, new_esme: Any) -> None:
    smsc = await new_smsc(window=5_000)
    side = await new_esme(smsc.smsc.port, max_unanswered=50)
    side.accepts_deliveries = False
    session = await smsc.bound()
    text = bytes(250)
    for number in range(5_000):
        session.deliver(DeliverSm(source_addr=str(number), short_message=text), number)
    await side.until(lambda: side.esme._session is not None and side.esme._session.reading_paused)
    assert len(side.deliveries) < 5_000
    side.accepts_deliveries = True
    for delivery in list(side.deliveries):
        delivery.accept()
    await smsc.until(lambda: len(smsc.delivered) == 5_000)
    assert [int(delivery.pdu.source_addr) for delivery in side.deliveries] == list(range(5_000))
    assert all(outcome.command_status == 0 for outcome in smsc.delivered)


async def test_a_delivery_is_answered_only_by_the_application_and_only_once(new_smsc: Any, new_esme: Any) -> None:
    smsc = await new_smsc()
    side = await new_esme(smsc.smsc.port)
    side.accepts_deliveries = False
    session = await smsc.bound()
    session.deliver(_receipt("1"), "a")
    session.deliver(_receipt("2"), "b")
    await side.until(lambda: len(side.deliveries) == 2)
    assert session.undelivered == 2
    first, second = side.deliveries
    first.reject(CommandStatus.ESME_RX_T_APPN)
    second.accept()
    first.accept()
    await smsc.until(lambda: len(smsc.delivered) == 2)
    assert smsc.delivered == [("a", CommandStatus.ESME_RX_T_APPN), ("b", 0)]


async def test_an_answer_after_the_session_has_ended_does_nothing(new_smsc: Any, new_esme: Any) -> None:
    smsc = await new_smsc()
    side = await new_esme(smsc.smsc.port)
    side.accepts_deliveries = False
    session = await smsc.bound()
    session.deliver(_receipt("1"), "a")
    await side.until(lambda: side.deliveries)
    session.abort("cut")
    await side.bound(times=2)
    side.deliveries[0].accept()
    await smsc.until(lambda: smsc.delivered)
    assert smsc.delivered == [("a", None)]


async def test_stop_waits_for_responses_and_gives_the_queue_back(new_smsc: Any, new_esme: Any) -> None:
    smsc = await new_smsc()

    def answer_later(submission: Submission) -> None:
        asyncio.get_running_loop().call_later(0.2, submission.accept, "in time")

    smsc.answer = answer_later
    side = await new_esme(smsc.smsc.port, window=1)
    side.submit("written")
    side.submit("queued")
    await smsc.until(lambda: smsc.submissions)
    await side.esme.stop()
    assert side.outcome_of("written") == [Accepted("in time")]
    assert side.outcome_of("queued") == [NotSent("stopped")]
    with pytest.raises(EsmeStoppedError):
        side.submit("after")
    with pytest.raises(EsmeStoppedError):
        await side.esme.room()


async def test_stop_does_not_wait_for_ever(new_smsc: Any, new_esme: Any) -> None:
    smsc = await new_smsc()
    smsc.answer = lambda _submission: None
    side = await new_esme(smsc.smsc.port, drain_timeout_s=0.1)
    side.submit("written")
    await smsc.until(lambda: smsc.submissions)
    await side.esme.stop()
    assert isinstance(side.outcome_of("written")[0], Unknown)
    assert side.esme.state is EsmeState.STOPPED


async def test_what_comes_while_stopping_is_left_to_the_next_session(new_smsc: Any, new_esme: Any) -> None:
    smsc = await new_smsc()
    smsc.answer = lambda _submission: None
    side = await new_esme(smsc.smsc.port, drain_timeout_s=0.3)
    side.submit("written")
    await smsc.until(lambda: smsc.submissions)
    stopping = asyncio.create_task(side.esme.stop())
    await side.until(lambda: EsmeState.DRAINING in _states(side))
    smsc.sessions[0].deliver(_receipt("1"), "kept")
    await stopping
    await smsc.until(lambda: smsc.delivered)
    assert side.deliveries == []
    assert smsc.delivered == [("kept", None)]


async def test_query_sm(new_smsc: Any, new_esme: Any) -> None:
    smsc = await new_smsc()
    smsc.query = lambda query: (
        QuerySmResp(query.message_id, "", MessageState.ENROUTE) if query.message_id == "1" else 0x0C
    )
    side = await new_esme(smsc.smsc.port)
    with pytest.raises(SessionLostError):
        await side.esme.query(QuerySm("1"))
    await side.bound()
    assert (await side.esme.query(QuerySm("1"))).message_state == MessageState.ENROUTE
    with pytest.raises(QueryFailedError, match="ESME_RINVMSGID"):
        await side.esme.query(QuerySm("2"))


@pytest.mark.parametrize("bind_type", ["transmitter", "receiver"])
async def test_one_way_binds(new_smsc: Any, new_esme: Any, bind_type: str) -> None:
    smsc = await new_smsc()
    side = await new_esme(smsc.smsc.port, bind_type=bind_type)
    session = await smsc.bound()
    await side.bound()
    assert type(session.bind).__name__ == f"Bind{bind_type.title()}"
    if bind_type == "transmitter":
        assert not session.deliver(_receipt("1"))
        side.submit("one way")
        await side.until(lambda: side.outcomes)
    else:
        with pytest.raises(EsmeStoppedError):
            side.submit("no way")
        session.deliver(_receipt("1"))
        await side.until(lambda: side.deliveries)


async def test_tls_with_the_carriers_own_ca(new_smsc: Any, new_esme: Any) -> None:
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("smsc.carrier.example").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    smsc = await new_smsc(tls=server)
    side = await new_esme(smsc.smsc.port, tls=client, tls_server_name="smsc.carrier.example")
    for number in range(100):
        side.submit(number)
    await side.until(lambda: len(side.outcomes) == 100)
    assert all(isinstance(outcome, Accepted) for _, outcome in side.outcomes)

    stranger = await new_esme(smsc.smsc.port, tls=client, tls_server_name="other.example")
    await stranger.until(lambda: EsmeState.WAITING in _states(stranger))
    assert "certificate verify failed" in next(c.reason for c in stranger.states if c.state is EsmeState.WAITING)


def test_what_does_not_fit_is_refused_at_once() -> None:
    config = EsmeConfig(host="localhost", port=1, system_id="carrier", password="longer than eight")
    with pytest.raises(PduEncodeError):
        Esme(config, on_outcomes=lambda _outcomes: None, on_deliver=lambda _deliveries: None)
    with pytest.raises(ValueError, match="window"):
        EsmeConfig(host="localhost", port=1, system_id="carrier", window=0)
    assert "longer" not in repr(config)


async def test_a_message_that_does_not_fit_is_refused_to_its_caller(new_smsc: Any, new_esme: Any) -> None:
    smsc = await new_smsc()
    side = await new_esme(smsc.smsc.port)
    with pytest.raises(PduEncodeError):
        side.esme.submit(SubmitSm(short_message=bytes(255)), "too long")
    side.submit("fits")
    await side.until(lambda: side.outcomes)
    assert side.outcomes == [("fits", Accepted("1"))]
