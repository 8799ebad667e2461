from itertools import pairwise

import pytest
import smpp34
from hypothesis import given
from hypothesis import strategies as st

from harkara_smpp import DeliverSm, PduDecodeError, PduEncodeError, QuerySm, QuerySmResp, SubmitSm
from harkara_smpp.constants import CommandStatus, status_name
from harkara_smpp.frame import HEADER_LENGTH, Frame, FrameError, FrameParser, encode_frame
from harkara_smpp.pdu import (
    PDU_CLASSES,
    BindReceiver,
    BindTransceiver,
    BindTransceiverResp,
    BindTransmitter,
    DataSm,
    DataSmResp,
    DeliverSmResp,
    EnquireLink,
    GenericNack,
    Pdu,
    SubmitSmResp,
    Unbind,
    decode,
    encode,
)

octet = st.integers(0, 255)
sequence_numbers = st.integers(1, 0x7FFFFFFF)
tlvs = st.dictionaries(st.integers(0, 0xFFFF), st.binary(max_size=70), max_size=6)
latin_1 = st.characters(min_codepoint=1, max_codepoint=255)
ascii_text = st.characters(min_codepoint=0x20, max_codepoint=0x7E)
dlt_tlvs = st.dictionaries(st.sampled_from([0x1400, 0x1401, 0x1402]), st.binary(max_size=64), max_size=3)


def text(limit: int, alphabet: st.SearchStrategy[str] = latin_1) -> st.SearchStrategy[str]:
    return st.text(alphabet, max_size=limit)


def messages(
    message_class: type[SubmitSm] | type[DeliverSm],
    alphabet: st.SearchStrategy[str] = latin_1,
    parameters: st.SearchStrategy[dict[int, bytes]] = tlvs,
) -> st.SearchStrategy[SubmitSm | DeliverSm]:
    return st.builds(
        message_class,
        service_type=text(5, alphabet),
        source_addr_ton=octet,
        source_addr_npi=octet,
        source_addr=text(20, alphabet),
        dest_addr_ton=octet,
        dest_addr_npi=octet,
        destination_addr=text(20, alphabet),
        esm_class=octet,
        protocol_id=octet,
        priority_flag=octet,
        schedule_delivery_time=text(16, alphabet),
        validity_period=text(16, alphabet),
        registered_delivery=octet,
        replace_if_present_flag=octet,
        data_coding=octet,
        sm_default_msg_id=octet,
        short_message=st.binary(max_size=254),
        tlvs=parameters,
    )


binds = {"system_id": text(15), "password": text(8), "system_type": text(12), "address_range": text(40)}
pdus: st.SearchStrategy[Pdu] = st.one_of(
    messages(SubmitSm),
    messages(DeliverSm),
    st.builds(BindTransceiver, **binds, interface_version=octet, addr_ton=octet, addr_npi=octet),
    st.builds(BindTransmitter, **binds),
    st.builds(BindReceiver, **binds),
    st.builds(BindTransceiverResp, system_id=text(15), tlvs=tlvs),
    st.builds(SubmitSmResp, text(64)),
    st.builds(DeliverSmResp, text(64)),
    st.builds(DataSmResp, text(64)),
    st.builds(QuerySm, text(64), octet, octet, text(20)),
    st.builds(QuerySmResp, text(64), text(16), octet, octet),
    st.builds(DataSm, source_addr=text(64), destination_addr=text(64), esm_class=octet, tlvs=tlvs),
    st.builds(EnquireLink),
    st.builds(Unbind),
    st.builds(GenericNack),
)


@given(pdus, sequence_numbers)
def test_what_is_encoded_decodes_to_itself(pdu: Pdu, sequence_number: int) -> None:
    octets = encode(pdu, sequence_number)
    (frame,) = FrameParser().feed(octets)
    assert frame.sequence_number == sequence_number
    assert decode(frame) == pdu


@given(st.lists(st.tuples(pdus, sequence_numbers), max_size=5), st.lists(st.integers(0, 2000), max_size=8))
def test_frames_do_not_depend_on_how_the_stream_is_split(numbered: list[tuple[Pdu, int]], cuts: list[int]) -> None:
    stream = b"".join(encode(pdu, number) for pdu, number in numbered)
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    parser = FrameParser()
    frames = [frame for start, end in pairwise(edges) for frame in parser.feed(stream[start:end])]
    assert [(decode(frame), frame.sequence_number) for frame in frames] == numbered


def _decoded(frame: Frame) -> Pdu | int:
    """The PDU, or the status of the typed error; any other exception fails the test."""
    try:
        return decode(frame)
    except PduDecodeError as error:
        return error.command_status


def _read(parser: FrameParser, data: bytes) -> tuple[list[Frame], int]:
    """The frames before the end or the framing error, and that error's status."""
    frames: list[Frame] = []
    try:
        frames.extend(parser.feed(data))
    except FrameError as error:
        return frames, error.command_status
    return frames, 0


@given(st.sampled_from(sorted(PDU_CLASSES)), st.binary(max_size=300))
def test_any_body_decodes_or_gives_a_typed_error(command_id: int, body: bytes) -> None:
    decoded = _decoded(Frame(command_id, 0, 1, body))
    assert decoded in list(CommandStatus) if isinstance(decoded, int) else decoded.command_id == command_id


@given(messages(SubmitSm), st.data())
def test_a_message_cut_short_or_changed_never_crashes(pdu: SubmitSm, data: st.DataObject) -> None:
    body = bytearray(pdu.to_body())
    for _ in range(data.draw(st.integers(0, 3))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(octet)
    del body[data.draw(st.integers(0, len(body))) :]
    assert _decoded(Frame(SubmitSm.command_id, 0, 1, bytes(body))) != 0


@given(st.binary(max_size=600))
def test_any_stream_gives_frames_or_a_frame_error(stream: bytes) -> None:
    frames, status = _read(FrameParser(max_pdu_length=512), stream)
    assert all(len(frame.body) <= 512 - HEADER_LENGTH for frame in frames)
    assert status in (0, CommandStatus.ESME_RINVCMDLEN)


@pytest.mark.parametrize("length", [0, 15, 1025, 0xFFFFFFFF])
def test_an_impossible_command_length_ends_the_stream_after_the_frames_before_it(length: int) -> None:
    stream = encode(EnquireLink(), 7) + length.to_bytes(4, "big") + bytes(12)
    frames, status = _read(FrameParser(max_pdu_length=1024), stream)
    assert [frame.sequence_number for frame in frames] == [7]
    assert status == CommandStatus.ESME_RINVCMDLEN


def test_the_layout_is_that_of_the_specification() -> None:
    pdu = SubmitSm(
        source_addr_ton=5,
        source_addr="HARKRA",
        dest_addr_ton=1,
        dest_addr_npi=1,
        destination_addr="919876543210",
        esm_class=0x40,
        validity_period="000001000000000R",
        registered_delivery=1,
        data_coding=8,
        short_message=b"\x00h",
        tlvs={0x1400: b"1101"},
    )
    assert encode(pdu, 1) == (
        b"\x00\x00\x00\x4d\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00\x01"
        b"\x00\x05\x00HARKRA\x00\x01\x01919876543210\x00\x40\x00\x00\x00000001000000000R\x00"
        b"\x01\x00\x08\x00\x02\x00h\x14\x00\x00\x041101"
    )


@pytest.mark.parametrize(
    "pdu",
    [
        SubmitSm(short_message=bytes(255)),
        SubmitSm(source_addr="1" * 21),
        SubmitSm(destination_addr="91\x00"),
        SubmitSm(source_addr="ह"),
        SubmitSm(data_coding=256),
        SubmitSm(source_addr_ton=-1),
        SubmitSm(tlvs={0x1400: bytes(0x10000)}),
        SubmitSm(tlvs={0x10000: b""}),
        BindTransceiver("x" * 16),
        BindTransceiver("x", "password9"),
        SubmitSmResp("9" * 65),
        QuerySm(source_addr_ton=256),
        QuerySmResp(error_code=256),
        DataSm(esm_class=256),
    ],
)
def test_a_value_that_does_not_fit_is_refused(pdu: Pdu) -> None:
    with pytest.raises(PduEncodeError):
        encode(pdu, 1)


@pytest.mark.parametrize("sequence_number", [-1, 0x80000000])
def test_a_sequence_number_out_of_range_is_refused(sequence_number: int) -> None:
    with pytest.raises(PduEncodeError):
        encode(EnquireLink(), sequence_number)


def test_responses_without_body_or_nul_are_read() -> None:
    assert decode(Frame(0x80000004, 0x58, 1, b"")) == SubmitSmResp("")
    assert decode(Frame(0x80000004, 0, 1, b"abc")) == SubmitSmResp("abc")
    assert decode(Frame(0x80000009, 0x0E, 1, b"")) == BindTransceiverResp()
    assert decode(Frame(0x80000003, 0x67, 1, b"")) == QuerySmResp()


def test_an_unknown_command_is_named_as_such() -> None:
    with pytest.raises(PduDecodeError) as raised:
        decode(Frame(0x7777, 0, 1, b""))
    assert raised.value.command_status == CommandStatus.ESME_RINVCMDID


def test_statuses_have_names() -> None:
    assert status_name(0x58) == "ESME_RTHROTTLED"
    assert status_name(0x401) == "0x00000401"


def test_passwords_do_not_show() -> None:
    assert "hunter2" not in repr(BindTransceiver("carrier", "hunter2"))


# Against a codec that nobody here wrote.

_ORACLE_CLASSES: dict[type, type[smpp34.SubmitSm] | type[smpp34.DeliverSm]] = {
    SubmitSm: smpp34.SubmitSm,
    DeliverSm: smpp34.DeliverSm,
}
_FIELDS = [
    "service_type",
    "source_addr_ton",
    "source_addr_npi",
    "source_addr",
    "dest_addr_ton",
    "dest_addr_npi",
    "destination_addr",
    "esm_class",
    "protocol_id",
    "priority_flag",
    "schedule_delivery_time",
    "validity_period",
    "registered_delivery",
    "replace_if_present_flag",
    "data_coding",
    "sm_default_msg_id",
    "short_message",
]


@pytest.mark.parametrize("message_class", [SubmitSm, DeliverSm])
@given(st.data(), sequence_numbers)
def test_the_oracle_reads_what_we_write(
    message_class: type[SubmitSm] | type[DeliverSm], data: st.DataObject, sequence_number: int
) -> None:
    pdu = data.draw(messages(message_class, ascii_text, dlt_tlvs))
    theirs = smpp34.decode(encode(pdu, sequence_number))
    assert type(theirs) is _ORACLE_CLASSES[message_class]
    assert not isinstance(theirs, smpp34.RawPdu)
    assert theirs.sequence_number == sequence_number
    assert [getattr(theirs, name) for name in _FIELDS] == [getattr(pdu, name) for name in _FIELDS]
    assert {tlv.tag: tlv.value for tlv in theirs.tlvs} == pdu.tlvs


@pytest.mark.parametrize("message_class", [SubmitSm, DeliverSm])
@given(st.data(), sequence_numbers)
def test_we_read_what_the_oracle_writes(
    message_class: type[SubmitSm] | type[DeliverSm], data: st.DataObject, sequence_number: int
) -> None:
    pdu = data.draw(messages(message_class, ascii_text, dlt_tlvs))
    values = {name: getattr(pdu, name) for name in _FIELDS}
    theirs = _ORACLE_CLASSES[message_class](
        **values,
        tlvs=[smpp34.Tlv(tag, value) for tag, value in pdu.tlvs.items()],
        sequence_number=sequence_number,
    )
    octets = theirs.encode()
    (frame,) = FrameParser().feed(octets)
    assert decode(frame) == pdu
    assert encode(pdu, sequence_number) == octets


@given(st.binary(max_size=200))
def test_the_oracle_reads_our_headers(body: bytes) -> None:
    theirs = smpp34.decode(encode_frame(0x80000103, 99, body, 0x45))
    assert isinstance(theirs, smpp34.RawPdu)
    assert (theirs.command_id, theirs.command_status, theirs.sequence_number) == (0x80000103, 0x45, 99)
    assert theirs.body == body
