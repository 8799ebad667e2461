"""Frames: PDUs whose body is not looked into yet, and the errors of the codec.

Sessions route by the header and decode only what they need, so that a submit_sm_resp costs little. A peer can make the
parser hold one unfinished frame of bounded length, and no more.
"""

from collections.abc import Iterator
from struct import Struct
from typing import NamedTuple

from harkara_smpp.constants import CommandStatus

HEADER_LENGTH = 16
DEFAULT_MAX_PDU_LENGTH = 65_536

_HEADER = Struct(">IIII")


class PduError(ValueError):
    """Octets or values that are no SMPP; `command_status` is what to answer the peer with."""

    def __init__(self, reason: str, command_status: int = CommandStatus.ESME_RSYSERR) -> None:
        super().__init__(reason)
        self.command_status = int(command_status)


class FrameError(PduError):
    """The stream has lost its framing: nothing after this point can be read, the connection must end."""


class PduDecodeError(PduError):
    """One frame's body is malformed; the frames after it are not affected."""


class PduEncodeError(PduError):
    """A field's value does not fit the specification."""


class Frame(NamedTuple):
    """One PDU, its body not decoded."""

    command_id: int
    command_status: int
    sequence_number: int
    body: bytes


class FrameParser:
    """Cuts a byte stream into frames, however it is split; holds at most one unfinished frame."""

    __slots__ = ("_max_pdu_length", "_rest")

    def __init__(self, max_pdu_length: int = DEFAULT_MAX_PDU_LENGTH) -> None:
        self._max_pdu_length = max_pdu_length
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Yield the frames completed by `data`; the iterator must be run to its end.

        Raises FrameError, after the whole frames before it, at a command_length outside 16..max_pdu_length.
        """
        if self._rest:
            data = self._rest + data
        position, available = 0, len(data)
        unpack_header = _HEADER.unpack_from
        while available - position >= HEADER_LENGTH:
            length, command_id, command_status, sequence_number = unpack_header(data, position)
            if not HEADER_LENGTH <= length <= self._max_pdu_length:
                self._rest = b""
                raise FrameError(f"command_length {length}", CommandStatus.ESME_RINVCMDLEN)
            end = position + length
            if end > available:
                break
            yield Frame(command_id, command_status, sequence_number, data[position + HEADER_LENGTH : end])
            position = end
        self._rest = data[position:]


def encode_frame(command_id: int, sequence_number: int, body: bytes = b"", command_status: int = 0) -> bytes:
    """A whole PDU from a header and an encoded body; without a body it is what error responses look like."""
    return _HEADER.pack(HEADER_LENGTH + len(body), command_id, command_status, sequence_number) + body
