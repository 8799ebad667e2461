"""What both ends of an SMPP session share: framing, joined writes, keep-alive, rare requests, answers.

Everything written during one turn of the loop leaves in one write, and everything received in one read is handed over
in one call: at thousands of PDUs a second the system calls, not the codec, would be the cost. There is no task and no
timer per PDU; the owner calls `tick` a few times a second for all time-outs.
"""

import asyncio
import socket
from typing import Generic, TypeVar, cast

from harkara_smpp.constants import MAX_SEQUENCE_NUMBER, RESPONSE_BIT, CommandId, CommandStatus
from harkara_smpp.frame import (
    DEFAULT_MAX_PDU_LENGTH,
    Frame,
    FrameError,
    FrameParser,
    PduDecodeError,
    encode_frame,
)
from harkara_smpp.pdu import EnquireLink, Message, Pdu, encode

MessageT = TypeVar("MessageT", bound=Message)

# Plain numbers for what is asked of every PDU: to name a member of an enum is a call.
_ENQUIRE_LINK = int(CommandId.ENQUIRE_LINK)
_ENQUIRE_LINK_RESP = int(CommandId.ENQUIRE_LINK_RESP)
_UNBIND = int(CommandId.UNBIND)
_MAX_REQUESTS = 1_000
_MAX_WRITE_BUFFER = 16 * 1024 * 1024
_NOTABLE_PAUSE_S = 1.0


class SessionLostError(ConnectionError):
    """The session ended before the response came: whether the request was carried out is not known."""


class Incoming(Generic[MessageT]):
    """A message that came in and waits for its answer; exactly one `accept` or `reject` counts.

    After its session has ended an answer does nothing: the peer sends the message again in the next one.
    """

    __slots__ = ("_response_id", "_sequence_number", "_session", "pdu")

    def __init__(self, pdu: MessageT, session: "Session", response_id: int, sequence_number: int) -> None:
        self.pdu = pdu
        self._session: Session | None = session
        self._response_id = response_id
        self._sequence_number = sequence_number

    def accept(self, message_id: str = "") -> None:
        """Answer ESME_ROK; `message_id` is for submit_sm only."""
        self._answer(message_id.encode("latin-1") + b"\0", 0)

    def reject(self, command_status: int) -> None:
        """Answer with an error, e.g. ESME_RX_T_APPN to have it sent again later."""
        self._answer(b"", command_status)

    def _answer(self, body: bytes, command_status: int) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.answer(encode_frame(self._response_id, self._sequence_number, body, command_status))


class Session(asyncio.Protocol):
    """One connection. Subclasses give `request_received` and, where they need them, the other hooks.

    `max_unanswered` bounds the messages handed over and not answered: beyond it reading pauses (what one read brought
    is still handed over) and resumes at half of it.
    """

    def __init__(
        self,
        *,
        enquire_link_s: float,
        response_timeout_s: float,
        max_unanswered: int,
        max_pdu_length: int = DEFAULT_MAX_PDU_LENGTH,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.closed: asyncio.Future[str] = self.loop.create_future()
        self.writing_paused = False
        self.reading_paused = False
        self.unanswered = 0
        self.resumed_at = 0.0
        self._enquire_link_s = enquire_link_s
        self._response_timeout_s = response_timeout_s
        self._max_unanswered = max_unanswered
        self._parser = FrameParser(max_pdu_length)
        self._transport: asyncio.Transport | None = None
        self._outbox: list[bytes] = []
        self._sequence_number = 0
        self._requests: dict[int, tuple[asyncio.Future[Frame], float]] = {}
        self._close_reason = ""
        self._received_at = self.loop.time()
        self._enquired_at: float | None = None
        self._is_doubted = False
        self._paused_at = 0.0

    # Hooks

    def request_received(self, frame: Frame) -> None:
        """A request other than enquire_link and unbind. PduDecodeError raised here is answered with its status."""
        raise NotImplementedError

    def response_received(self, frame: Frame) -> None:
        """A response, or a generic_nack, that answers no `request`."""

    def read_finished(self) -> None:
        """All frames of one read have been handed over."""

    def writable(self) -> None:
        """The transport takes more again."""

    # Writing

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    @property
    def heard_at(self) -> float:
        """When the peer was last heard of, whatever it said; the loop's time in seconds."""
        return self._received_at

    @property
    def takes_more(self) -> bool:
        """Whether to write more requests: the connection stands, the peer reads, and nobody doubts that it lives."""
        return self.is_open and not self.writing_paused and not self._is_doubted

    def next_sequence_number(self) -> int:
        self._sequence_number = self._sequence_number % MAX_SEQUENCE_NUMBER + 1
        return self._sequence_number

    def write(self, octets: bytes) -> None:
        """Octets of one or more whole PDUs; they leave with everything else of this turn of the loop."""
        if not self._outbox:
            self.loop.call_soon(self.flush)
        self._outbox.append(octets)

    def flush(self) -> None:
        transport = self._transport
        if self._outbox and transport is not None and not transport.is_closing():
            transport.write(b"".join(self._outbox))
            if self.writing_paused and transport.get_write_buffer_size() > _MAX_WRITE_BUFFER:
                self._close_reason = "the peer does not read"
                transport.abort()
        self._outbox.clear()

    def request(self, pdu: Pdu) -> asyncio.Future[Frame]:
        """Write a request of the rarer kinds; the future gives its response, TimeoutError or SessionLostError."""
        future: asyncio.Future[Frame] = self.loop.create_future()
        if self.closed.done():
            future.set_exception(SessionLostError("the session has ended"))
            return future
        if len(self._requests) >= _MAX_REQUESTS:
            raise RuntimeError("too many requests are waiting for their responses")
        sequence_number = self.next_sequence_number()
        self.write(encode(pdu, sequence_number))
        self._requests[sequence_number] = (future, self.loop.time() + self._response_timeout_s)
        return future

    def answer(self, octets: bytes) -> None:
        """Write the response of one `Incoming`."""
        if self.closed.done():
            return
        self.unanswered -= 1
        self.write(octets)
        if self.reading_paused and self.unanswered <= self._max_unanswered // 2:
            self._resume_reading()

    def close(self, reason: str) -> None:
        """End the connection after what is still to be written."""
        self._close_reason = self._close_reason or reason
        self.flush()
        if self._transport is not None:
            self._transport.close()

    def abort(self, reason: str) -> None:
        """End the connection at once, for a peer that may never read the rest."""
        self._close_reason = self._close_reason or reason
        if self._transport is not None:
            self._transport.abort()

    def doubt(self, now: float) -> None:
        """Ask at once whether the peer lives, and hold requests back until it says anything at all."""
        self._is_doubted = True
        if self._enquired_at is None:
            self._enquire(now)

    def tick(self, now: float) -> None:
        """Look after time-outs and keep-alive; `now` is the loop's time in seconds."""
        for sequence_number, (future, deadline) in list(self._requests.items()):
            if future.done() or now >= deadline:
                del self._requests[sequence_number]
                if not future.done():
                    future.set_exception(TimeoutError("no response in time"))
        if self.reading_paused:
            return
        if self._enquired_at is not None and now - self._enquired_at > self._response_timeout_s:
            self.abort("enquire_link was not answered")
        elif self._enquired_at is None and now - self._received_at >= self._enquire_link_s:
            self._enquire(now)

    def _enquire(self, now: float) -> None:
        self._enquired_at = now
        self.write(encode(EnquireLink(), self.next_sequence_number()))

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        connection = transport.get_extra_info("socket")
        if connection is not None:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def connection_lost(self, exc: Exception | None) -> None:
        reason = self._close_reason or (str(exc) if exc else "the peer closed the connection")
        if not self.closed.done():
            self.closed.set_result(reason)
        for future, _ in self._requests.values():
            if not future.done():
                future.set_exception(SessionLostError(reason))
        self._requests.clear()

    def pause_writing(self) -> None:
        self.writing_paused = True

    def resume_writing(self) -> None:
        self.writing_paused = False
        self.writable()

    def data_received(self, data: bytes) -> None:
        self._received_at = self.loop.time()
        self._enquired_at = None
        self._is_doubted = False
        try:
            for frame in self._parser.feed(data):
                self._frame_received(frame)
        except FrameError as error:
            self.write(encode_frame(CommandId.GENERIC_NACK, 0, command_status=error.command_status))
            self.close(f"unreadable stream: {error}")
        if self.unanswered > self._max_unanswered and not self.reading_paused:
            self._pause_reading()
        self.read_finished()

    def _frame_received(self, frame: Frame) -> None:
        command_id = frame.command_id
        if command_id & RESPONSE_BIT:
            if self._requests and frame.sequence_number in self._requests:
                future, _ = self._requests.pop(frame.sequence_number)
                if not future.done():
                    future.set_result(frame)
            elif command_id != _ENQUIRE_LINK_RESP:
                self.response_received(frame)
        elif command_id == _ENQUIRE_LINK:
            self.write(encode_frame(CommandId.ENQUIRE_LINK_RESP, frame.sequence_number))
        elif command_id == _UNBIND:
            self.write(encode_frame(CommandId.UNBIND_RESP, frame.sequence_number))
            self.close("the peer unbound")
        else:
            try:
                self.request_received(frame)
            except PduDecodeError as error:
                self.refuse(frame, error.command_status)

    def refuse(self, frame: Frame, command_status: int) -> None:
        """Answer a request with an error; one whose command is not known gets a generic_nack (SMPP 3.4 §4.3)."""
        unknown = command_status == CommandStatus.ESME_RINVCMDID
        response_id = CommandId.GENERIC_NACK if unknown else frame.command_id | RESPONSE_BIT
        self.write(encode_frame(response_id, frame.sequence_number, command_status=command_status))

    def _pause_reading(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()
            self.reading_paused = True
            self._paused_at = self.loop.time()

    def _resume_reading(self) -> None:
        self.reading_paused = False
        now = self.loop.time()
        if now - self._paused_at > _NOTABLE_PAUSE_S:
            # What came meanwhile lies unread: the peer gets a fresh chance before anything counts as timed out.
            self.resumed_at = self._received_at = now
            self._enquired_at = None
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()
