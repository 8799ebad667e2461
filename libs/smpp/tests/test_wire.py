"""Both ends against peers that write what no proper peer would."""

import asyncio
import random
from typing import Any

import pytest

from harkara_smpp import Accepted, CommandStatus, DeliverSm, EsmeState, Rejected, SubmitSm
from harkara_smpp.constants import CommandId
from harkara_smpp.frame import encode_frame
from harkara_smpp.pdu import (
    BindReceiver,
    BindTransceiver,
    BindTransceiverResp,
    DataSm,
    EnquireLink,
    EnquireLinkResp,
    SubmitSmResp,
    Unbind,
    encode,
)


async def _bind(wire: Any) -> None:
    frame = await wire.frame_of(CommandId.BIND_TRANSCEIVER)
    wire.write(encode(BindTransceiverResp("peer"), frame.sequence_number))


async def test_a_malformed_delivery_is_refused_and_the_session_goes_on(new_wire_server: Any, new_esme: Any) -> None:
    answers: list[tuple[int, int, int]] = []
    done = asyncio.Event()

    async def script(wire: Any) -> None:
        await _bind(wire)
        wire.write(encode_frame(CommandId.DELIVER_SM, 11, b"\x00\x01\x01never ends"))
        wire.write(encode_frame(0x0000000B, 12, b""))
        wire.write(encode_frame(CommandId.SUBMIT_SM_RESP, 4711, b"answers nothing\0"))
        wire.write(encode(DeliverSm(short_message=b"MO"), 13))
        for _ in range(3):
            frame = await wire.frame()
            answers.append((frame.command_id, frame.command_status, frame.sequence_number))
        done.set()
        await wire.frame()

    side = await new_esme(await new_wire_server(script))
    async with asyncio.timeout(5):
        await done.wait()
    assert answers == [
        (CommandId.DELIVER_SM_RESP, CommandStatus.ESME_RINVCMDLEN, 11),
        (CommandId.GENERIC_NACK, CommandStatus.ESME_RINVCMDID, 12),
        (CommandId.DELIVER_SM_RESP, CommandStatus.ESME_ROK, 13),
    ]
    assert side.esme.state is EsmeState.BOUND
    assert side.outcomes == []


async def test_a_stream_out_of_step_is_nacked_and_the_esme_connects_anew(new_wire_server: Any, new_esme: Any) -> None:
    nacks: list[int] = []

    async def script(wire: Any) -> None:
        await _bind(wire)
        if not nacks:
            wire.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            nacks.append((await wire.frame_of(CommandId.GENERIC_NACK)).command_status)
        await wire.frame()

    side = await new_esme(await new_wire_server(script))
    await side.bound(times=2)
    assert nacks == [CommandStatus.ESME_RINVCMDLEN]
    assert any("unreadable stream" in change.reason for change in side.states)


async def test_no_stream_of_octets_breaks_the_esme(new_wire_server: Any, new_esme: Any) -> None:
    dice = random.Random(7)  # noqa: S311 - the same octets in every run
    connections = 0

    async def script(wire: Any) -> None:
        nonlocal connections
        await _bind(wire)
        connections += 1
        for _ in range(30):
            body = dice.randbytes(dice.randrange(60))
            command = dice.choice(
                [CommandId.DELIVER_SM, CommandId.SUBMIT_SM_RESP, CommandId.DATA_SM, dice.getrandbits(32)]
            )
            wire.write(encode_frame(command & 0xFFFFFFFF, dice.getrandbits(32), body, dice.getrandbits(8)))
        wire.write(dice.randbytes(64))

    side = await new_esme(await new_wire_server(script))
    await side.bound(times=20)
    assert connections >= 20


async def test_an_smsc_that_stops_answering_is_left(new_wire_server: Any, new_esme: Any) -> None:
    async def script(wire: Any) -> None:
        await _bind(wire)
        while True:
            await wire.frame()

    side = await new_esme(await new_wire_server(script), enquire_link_s=0.1, response_timeout_s=0.2)
    await side.bound(times=2)
    assert any(change.reason == "enquire_link was not answered" for change in side.states)


async def test_what_is_silent_gets_one_window_and_is_left_long_before_the_next_enquiry_is_due(
    new_wire_server: Any, new_esme: Any
) -> None:
    written: list[int] = []

    async def script(wire: Any) -> None:
        await _bind(wire)
        written.append(0)
        while True:
            frame = await wire.frame()
            written[-1] += frame.command_id == CommandId.SUBMIT_SM

    side = await new_esme(await new_wire_server(script), enquire_link_s=60.0, response_timeout_s=0.4, window=2)
    for number in range(6):
        side.submit(number)
    await side.bound(times=2)
    assert written[0] == 2
    assert any(change.reason == "enquire_link was not answered" for change in side.states)


async def test_an_idle_link_is_kept_alive_by_the_esme(new_wire_server: Any, new_esme: Any) -> None:
    enough = asyncio.Event()

    async def script(wire: Any) -> None:
        await _bind(wire)
        for _ in range(4):
            frame = await wire.frame_of(CommandId.ENQUIRE_LINK)
            wire.write(encode(EnquireLinkResp(), frame.sequence_number))
        enough.set()
        await wire.frame()

    side = await new_esme(await new_wire_server(script), enquire_link_s=0.1, response_timeout_s=0.15)
    async with asyncio.timeout(5):
        await enough.wait()
    assert [change.state for change in side.states] == ["connecting", "binding", "bound"]


async def test_an_idle_link_is_kept_alive_by_the_smsc(new_smsc: Any, new_wire: Any) -> None:
    smsc = await new_smsc(enquire_link_s=0.1, response_timeout_s=0.15)
    wire = await new_wire(smsc.smsc.port)
    await _status_of(wire, encode(BindTransceiver("me"), 1))
    for _ in range(4):
        frame = await wire.frame_of(CommandId.ENQUIRE_LINK)
        wire.write(encode(EnquireLinkResp(), frame.sequence_number))
    assert smsc.unbound == 0
    await smsc.until(lambda: smsc.unbound)  # the fifth has no answer


async def test_an_smsc_that_never_answers_the_bind_is_left(new_wire_server: Any, new_esme: Any) -> None:
    async def script(wire: Any) -> None:
        while True:
            await wire.frame()

    side = await new_esme(await new_wire_server(script), response_timeout_s=0.1)
    await side.until(lambda: any("no answer to the bind" in change.reason for change in side.states))


async def test_an_unbind_of_the_smsc_is_answered_and_followed_by_a_new_bind(
    new_wire_server: Any, new_esme: Any
) -> None:
    answers: list[int] = []

    async def script(wire: Any) -> None:
        await _bind(wire)
        if not answers:
            wire.write(encode(Unbind(), 5))
            answers.append((await wire.frame_of(CommandId.UNBIND_RESP)).sequence_number)
        await wire.frame()

    side = await new_esme(await new_wire_server(script))
    await side.bound(times=2)
    assert answers == [5]
    assert any(change.reason == "the peer unbound" for change in side.states)


async def test_a_generic_nack_rejects_the_submit_it_names(new_wire_server: Any, new_esme: Any) -> None:
    async def script(wire: Any) -> None:
        await _bind(wire)
        frame = await wire.frame_of(CommandId.SUBMIT_SM)
        wire.write(encode_frame(CommandId.GENERIC_NACK, frame.sequence_number, command_status=0x03))
        second = await wire.frame_of(CommandId.SUBMIT_SM)
        octets = encode(SubmitSmResp("id"), second.sequence_number)
        for octet in octets:  # one octet a packet
            wire.write(bytes((octet,)))
            await wire.writer.drain()
            await asyncio.sleep(0)
        await wire.frame()

    side = await new_esme(await new_wire_server(script))
    side.submit("nacked")
    side.submit("answered in crumbs")
    await side.until(lambda: len(side.outcomes) == 2)
    assert side.outcomes == [
        ("nacked", Rejected(CommandStatus.ESME_RINVCMDID)),
        ("answered in crumbs", Accepted("id")),
    ]


async def test_a_receipt_by_data_sm_is_a_delivery(new_wire_server: Any, new_esme: Any) -> None:
    statuses: list[int] = []

    async def script(wire: Any) -> None:
        await _bind(wire)
        wire.write(encode(DataSm(source_addr="91", esm_class=4, tlvs={0x0424: b"id:1 stat:DELIVRD"}), 1))
        statuses.append((await wire.frame_of(CommandId.DATA_SM_RESP)).command_status)
        await wire.frame()

    side = await new_esme(await new_wire_server(script))
    await side.until(lambda: side.deliveries)
    assert side.deliveries[0].pdu == DeliverSm(source_addr="91", esm_class=4, tlvs={0x0424: b"id:1 stat:DELIVRD"})


# The SMSC's side


async def _status_of(wire: Any, octets: bytes) -> tuple[int, int]:
    wire.write(octets)
    frame = await wire.frame()
    return frame.command_id, frame.command_status


async def test_nothing_but_a_bind_is_taken_before_the_bind(new_smsc: Any, new_wire: Any) -> None:
    smsc = await new_smsc()
    wire = await new_wire(smsc.smsc.port)
    unbound = CommandStatus.ESME_RINVBNDSTS
    assert await _status_of(wire, encode(SubmitSm(), 1)) == (CommandId.SUBMIT_SM_RESP, unbound)
    assert await _status_of(wire, encode_frame(CommandId.QUERY_SM, 2, b"1\0\0\0\0")) == (
        CommandId.QUERY_SM_RESP,
        unbound,
    )
    assert await _status_of(wire, encode(EnquireLink(), 3)) == (CommandId.ENQUIRE_LINK_RESP, 0)
    assert await _status_of(wire, encode(BindReceiver("me"), 4)) == (CommandId.BIND_RECEIVER_RESP, 0)
    assert await _status_of(wire, encode(BindTransceiver("me"), 5)) == (
        CommandId.BIND_TRANSCEIVER_RESP,
        CommandStatus.ESME_RALYBND,
    )
    assert await _status_of(wire, encode(SubmitSm(), 6)) == (CommandId.SUBMIT_SM_RESP, unbound)
    assert smsc.submissions == []


async def test_a_malformed_submit_is_refused_and_the_next_one_taken(new_smsc: Any, new_wire: Any) -> None:
    smsc = await new_smsc()
    wire = await new_wire(smsc.smsc.port)
    await _status_of(wire, encode(BindTransceiver("me"), 1))
    body = SubmitSm(short_message=b"Hello").to_body()
    assert (await _status_of(wire, encode_frame(CommandId.SUBMIT_SM, 2, body[:-1])))[1] == CommandStatus.ESME_RINVMSGLEN
    assert await _status_of(wire, encode_frame(CommandId.SUBMIT_SM, 3, body)) == (CommandId.SUBMIT_SM_RESP, 0)


@pytest.mark.parametrize("octets", [b"GET / HTTP/1.1\r\n\r\n", bytes(16), b"\xff" * 64])
async def test_a_stream_that_is_no_smpp_is_ended(new_smsc: Any, new_wire: Any, octets: bytes) -> None:
    smsc = await new_smsc()
    wire = await new_wire(smsc.smsc.port)
    assert (await _status_of(wire, octets))[0] == CommandId.GENERIC_NACK
    with pytest.raises(EOFError):
        await wire.frame()


async def test_a_connection_that_never_binds_is_ended(new_smsc: Any, new_wire: Any) -> None:
    smsc = await new_smsc(bind_timeout_s=0.1)
    wire = await new_wire(smsc.smsc.port)
    with pytest.raises((EOFError, ConnectionError)):
        await wire.frame()


async def test_there_are_no_more_sessions_than_allowed(new_smsc: Any, new_wire: Any) -> None:
    smsc = await new_smsc(max_sessions=1)
    first = await new_wire(smsc.smsc.port)
    assert (await _status_of(first, encode(BindTransceiver("one"), 1)))[1] == 0
    second = await new_wire(smsc.smsc.port)
    with pytest.raises((EOFError, ConnectionError)):
        await second.frame()


async def test_a_refused_bind_is_answered_and_the_connection_ended(new_smsc: Any, new_wire: Any) -> None:
    smsc = await new_smsc()
    smsc.bind_statuses = [int(CommandStatus.ESME_RINVSYSID)]
    wire = await new_wire(smsc.smsc.port)
    assert await _status_of(wire, encode(BindTransceiver("nobody"), 1)) == (
        CommandId.BIND_TRANSCEIVER_RESP,
        CommandStatus.ESME_RINVSYSID,
    )
    with pytest.raises(EOFError):
        await wire.frame()


async def test_a_delivery_without_an_answer_is_reported_so(new_smsc: Any, new_wire: Any) -> None:
    smsc = await new_smsc(response_timeout_s=0.1, window=1)
    wire = await new_wire(smsc.smsc.port)
    await _status_of(wire, encode(BindTransceiver("me"), 1))
    session = await smsc.bound()
    assert session.deliver(DeliverSm(), "first")
    assert session.deliver(DeliverSm(), "second")
    await smsc.until(lambda: len(smsc.delivered) == 2)
    assert smsc.delivered == [("first", None), ("second", None)]
