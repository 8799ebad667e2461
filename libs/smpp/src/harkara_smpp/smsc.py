"""The SMSC side: accepts binds, hands over submit_sm in lists, sends deliver_sm within a window.

Used by the simulator and by an SMPP edge for clients. As on the other side nothing costs a task per message: submits
are handed over once a read, deliver_sm are queued and written once a turn of the loop, one ticker serves all sessions.
"""

import asyncio
import ssl
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

from harkara_smpp.constants import INTERFACE_VERSION, RESPONSE_BIT, CommandId, CommandStatus, Tag
from harkara_smpp.frame import DEFAULT_MAX_PDU_LENGTH, Frame, PduDecodeError, encode_frame
from harkara_smpp.pdu import (
    PDU_CLASSES,
    Bind,
    BindReceiver,
    BindResp,
    BindTransceiver,
    BindTransmitter,
    DeliverSm,
    QuerySm,
    QuerySmResp,
    SubmitSm,
    Unbind,
    encode,
)
from harkara_smpp.session import Incoming, Session, SessionLostError
from harkara_smpp.window import Window

Submission: TypeAlias = Incoming[SubmitSm]

_BIND_IDS: dict[int, type[Bind]] = {
    int(bind.command_id): bind for bind in (BindTransceiver, BindTransmitter, BindReceiver)
}
_TICK_S = 0.05
_UNBIND_TIMEOUT_S = 2.0


class DeliveryOutcome(NamedTuple):
    """What became of a deliver_sm: the ESME's status (0: taken), or None without a response."""

    context: Any
    command_status: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SmscConfig:
    """Times are seconds; a session has at most `window` deliver_sm unanswered and `queue_limit` waiting."""

    host: str = "127.0.0.1"
    port: int = 0
    system_id: str = "harkara"
    window: int = 100
    queue_limit: int = 100_000
    max_sessions: int = 1_000
    bind_timeout_s: float = 10.0
    response_timeout_s: float = 20.0
    enquire_link_s: float = 30.0
    max_unanswered: int = 10_000
    max_pdu_length: int = DEFAULT_MAX_PDU_LENGTH
    tls: ssl.SSLContext | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SmscHandlers:
    """What the application gives.

    `authenticate` judges a bind (gives a command status, 0 lets it in). `on_submit` gets the messages of one read;
    each must be accepted or rejected. `on_delivered` gets the outcomes of `deliver`. `on_query` answers query_sm, by a
    status where it can not. `on_bound` and `on_unbound` tell of sessions.
    """

    authenticate: Callable[["SmscSession", Bind], Awaitable[int]]
    on_submit: Callable[["SmscSession", list[Submission]], None]
    on_delivered: Callable[["SmscSession", list[DeliveryOutcome]], None] | None = None
    on_query: Callable[["SmscSession", QuerySm], QuerySmResp | int] | None = None
    on_bound: Callable[["SmscSession"], None] | None = None
    on_unbound: Callable[["SmscSession"], None] | None = None


class SmscSession(Session):
    """One ESME's connection; `bind` is None until it is bound."""

    def __init__(self, smsc: "Smsc") -> None:
        config = smsc.config
        super().__init__(
            enquire_link_s=config.enquire_link_s,
            response_timeout_s=config.response_timeout_s,
            max_unanswered=config.max_unanswered,
            max_pdu_length=config.max_pdu_length,
        )
        self.bind: Bind | None = None
        self.peer = ""
        self._smsc = smsc
        self._handlers = smsc.handlers
        self._opened_at = self.loop.time()
        self._authenticating: asyncio.Task[None] | None = None
        self._submits: list[Frame] = []
        self._queue: deque[tuple[bytes, Any]] = deque()
        self._queue_limit = config.queue_limit
        self._window: Window[Any] = Window(config.window, config.response_timeout_s, late_limit=0)
        self._outcomes: list[DeliveryOutcome] = []
        self._pump_scheduled = False

    @property
    def system_id(self) -> str:
        """The ESME's, empty until it is bound."""
        return self.bind.system_id if self.bind else ""

    @property
    def receives(self) -> bool:
        """Whether deliver_sm may be sent here."""
        return self.bind is not None and not isinstance(self.bind, BindTransmitter) and self.is_open

    def deliver(self, pdu: DeliverSm, context: Any = None) -> bool:
        """Queue one deliver_sm; False where the queue is full or the session does not receive."""
        return self.deliver_body(pdu.to_body(), context)

    def deliver_body(self, body: bytes, context: Any = None) -> bool:
        """`deliver` for a body already encoded."""
        if not self.receives or len(self._queue) >= self._queue_limit:
            return False
        self._queue.append((body, context))
        self._pump_soon()
        return True

    @property
    def undelivered(self) -> int:
        """deliver_sm queued or not answered yet."""
        return len(self._queue) + len(self._window)

    async def unbind(self) -> None:
        """Ask the ESME to leave and close."""
        try:
            async with asyncio.timeout(_UNBIND_TIMEOUT_S):
                await self.request(Unbind())
        except (TimeoutError, SessionLostError):
            pass
        self.close("unbound")

    def submits_received(self, frames: list[Frame]) -> None:
        """The submit_sm of one read, undecoded. A subclass that answers by `write` may do without `Incoming`."""
        submissions: list[Submission] = []
        for frame in frames:
            try:
                pdu = SubmitSm.from_body(frame.body)
            except PduDecodeError as error:
                self.refuse(frame, error.command_status)
            else:
                submissions.append(Incoming(pdu, self, CommandId.SUBMIT_SM_RESP, frame.sequence_number))
        self.unanswered += len(submissions)
        if submissions:
            self._handlers.on_submit(self, submissions)

    def tick(self, now: float) -> None:
        super().tick(now)
        if self.bind is None and now - self._opened_at > self._smsc.config.bind_timeout_s:
            self.abort("no bind in time")
        if not self.reading_paused:
            for context in self._window.expire(now):
                self._report_soon(context, None)
        if self._queue:
            self._pump_soon()

    # Session's hooks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        peer = transport.get_extra_info("peername")
        self.peer = str(peer[0]) if peer else ""
        if not self._smsc.opened(self):
            self.abort("too many sessions")

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._smsc.closed_session(self)
        if self._authenticating is not None:
            self._authenticating.cancel()
        for context in [*self._window.clear(), *(context for _, context in self._queue)]:
            self._report_soon(context, None)
        self._queue.clear()
        if self.bind is not None and self._handlers.on_unbound is not None:
            self._handlers.on_unbound(self)

    def request_received(self, frame: Frame) -> None:
        command_id = frame.command_id
        if command_id == CommandId.SUBMIT_SM:
            if self.bind is None or isinstance(self.bind, BindReceiver):
                raise PduDecodeError("not bound to submit", CommandStatus.ESME_RINVBNDSTS)
            self._submits.append(frame)
        elif command_id in _BIND_IDS:
            self._bind_received(frame)
        elif command_id == CommandId.QUERY_SM:
            self._query_received(frame)
        else:
            raise PduDecodeError("not a request for this SMSC", CommandStatus.ESME_RINVCMDID)

    def response_received(self, frame: Frame) -> None:
        answered = self._window.answered(frame.sequence_number)
        if answered is not None:
            self._report_soon(answered[0], frame.command_status)

    def read_finished(self) -> None:
        if self._submits:
            frames, self._submits = self._submits, []
            self.submits_received(frames)
        if self._queue:
            self._pump_soon()

    def writable(self) -> None:
        self._pump_soon()

    # Bind and query

    def _bind_received(self, frame: Frame) -> None:
        if self.bind is not None or self._authenticating is not None:
            raise PduDecodeError("bound already", CommandStatus.ESME_RALYBND)
        bind = _BIND_IDS[frame.command_id].from_body(frame.body)
        self._authenticating = self.loop.create_task(self._authenticate(frame, bind))

    async def _authenticate(self, frame: Frame, bind: Bind) -> None:
        status = int(CommandStatus.ESME_RSYSERR)
        try:
            status = await self._handlers.authenticate(self, bind)
        finally:
            self._authenticating = None
            if status:
                self.refuse(frame, status)
                self.close("bind refused")
        if status or not self.is_open:
            return
        self.bind = bind
        response_class = PDU_CLASSES[frame.command_id | RESPONSE_BIT]
        tlvs = {int(Tag.SC_INTERFACE_VERSION): bytes((INTERFACE_VERSION,))}
        assert issubclass(response_class, BindResp)  # noqa: S101 - for the type checker
        self.write(encode(response_class(self._smsc.config.system_id, tlvs), frame.sequence_number))
        if self._handlers.on_bound is not None:
            self._handlers.on_bound(self)

    def _query_received(self, frame: Frame) -> None:
        query = QuerySm.from_body(frame.body)
        if self.bind is None:
            raise PduDecodeError("not bound", CommandStatus.ESME_RINVBNDSTS)
        on_query = self._handlers.on_query
        answer = on_query(self, query) if on_query is not None else int(CommandStatus.ESME_RQUERYFAIL)
        if isinstance(answer, int):
            self.refuse(frame, answer)
        else:
            self.write(encode(answer, frame.sequence_number))

    # deliver_sm

    def _pump_soon(self) -> None:
        if not self._pump_scheduled:
            self._pump_scheduled = True
            self.loop.call_soon(self._pump)

    def _pump(self) -> None:
        self._pump_scheduled = False
        queue, window = self._queue, self._window
        writable = min(len(queue), window.free) if self.takes_more else 0
        if writable <= 0:
            return
        now = self.loop.time()
        octets: list[bytes] = []
        for _ in range(writable):
            body, context = queue.popleft()
            sequence_number = self.next_sequence_number()
            window.written(sequence_number, context, now)
            octets.append(encode_frame(CommandId.DELIVER_SM, sequence_number, body))
        self.write(b"".join(octets))

    def _report_soon(self, context: Any, command_status: int | None) -> None:
        if self._handlers.on_delivered is None:
            return
        if not self._outcomes:
            self.loop.call_soon(self._report, self._handlers.on_delivered)
        self._outcomes.append(DeliveryOutcome(context, command_status))

    def _report(self, on_delivered: Callable[["SmscSession", list[DeliveryOutcome]], None]) -> None:
        outcomes, self._outcomes = self._outcomes, []
        on_delivered(self, outcomes)


class Smsc:
    """A listening SMSC. `new_session` makes the protocol of a connection, perhaps of a subclass."""

    def __init__(
        self, config: SmscConfig, handlers: SmscHandlers, new_session: Callable[["Smsc"], SmscSession] = SmscSession
    ) -> None:
        self.config = config
        self.handlers = handlers
        self.sessions: set[SmscSession] = set()
        self._new_session = new_session
        self._server: asyncio.Server | None = None
        self._ticker: asyncio.TimerHandle | None = None

    @property
    def port(self) -> int:
        """The port listened on, also where the configuration said 0."""
        if self._server is None:
            raise RuntimeError("not started")
        return int(self._server.sockets[0].getsockname()[1])

    async def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._server = await self._loop.create_server(
            lambda: self._new_session(self), self.config.host, self.config.port, ssl=self.config.tls, backlog=512
        )
        self._ticker = self._loop.call_later(_TICK_S, self._tick)

    async def stop(self) -> None:
        """Take no more connections, unbind every session, close."""
        if self._server is None:
            return
        self._server.close()
        bound = [session for session in self.sessions if session.bind is not None]
        await asyncio.gather(*(session.unbind() for session in bound))
        if bound:
            await asyncio.wait([session.closed for session in bound], timeout=1.0)
        for session in list(self.sessions):
            session.abort("stopped")
        if self._ticker is not None:
            self._ticker.cancel()
        self._server = None

    def opened(self, session: SmscSession) -> bool:
        """Called by a new session; False where there are too many."""
        if len(self.sessions) >= self.config.max_sessions:
            return False
        self.sessions.add(session)
        return True

    def closed_session(self, session: SmscSession) -> None:
        self.sessions.discard(session)

    def _tick(self) -> None:
        self._ticker = self._loop.call_later(_TICK_S, self._tick)
        now = self._loop.time()
        for session in list(self.sessions):
            session.tick(now)
