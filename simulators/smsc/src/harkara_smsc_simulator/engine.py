"""The SMSC's inside: takes submit_sm, decides their fate, sends receipts.

Written so that it is not what a benchmark measures: a submit_sm is not decoded but cut at its NULs, a receipt is put
together from the pieces, and both leave in one write a turn of the loop. Delays are queues, not timers.
"""

import socket
import time
from collections import Counter, deque
from datetime import UTC, datetime, timedelta
from struct import pack
from typing import NamedTuple

from harkara_smpp import CommandId, CommandStatus, MessageState, QuerySm, QuerySmResp, Tag
from harkara_smpp.frame import Frame, encode_frame
from harkara_smpp.pdu import Bind
from harkara_smpp.smsc import DeliveryOutcome, Smsc, SmscConfig, SmscHandlers, SmscSession
from harkara_smsc_simulator.behaviour import Behaviour, Behaviours, chance
from harkara_smsc_simulator.delay import DelayLine
from harkara_smsc_simulator.magic import FATES, Fate, Special
from harkara_smsc_simulator.store import Store
from harkara_smsc_simulator.text import split_header

_UDHI = 0x40
_NORMAL_FATE = Fate()
_FAILURES = frozenset({MessageState.UNDELIV, MessageState.EXPIRED, MessageState.REJECTD, MessageState.DELETED})
_RECEIPT_FIRST_BY_S = 0.05
_RESEND_AFTER_S = 1.0
_MAX_TRIES = 5
_MAX_BACKLOG = 100_000
_INDIAN_TIME = timedelta(hours=5, minutes=30)


class Pieces(NamedTuple):
    """A submit_sm's body, cut: addresses with TON, NPI and closing NUL; `rest` is the offset of data_coding."""

    source: bytes
    destination: bytes
    number: bytes
    esm_class: int
    registered_delivery: int
    rest: int


def cut(body: bytes) -> Pieces:
    """Raises ValueError or IndexError for a body that is too short."""
    find = body.index
    source_start = find(0) + 1
    destination_start = find(0, source_start + 2) + 1
    flags = find(0, destination_start + 2) + 1
    tail = find(0, find(0, flags + 3) + 1) + 1
    if tail + 5 + body[tail + 4] > len(body):
        raise ValueError("sm_length beyond the PDU")
    return Pieces(
        body[source_start:destination_start],
        body[destination_start:flags],
        body[destination_start + 2 : flags - 1],
        body[flags],
        body[tail],
        tail + 2,
    )


class Counts:
    """What happened, for `GET /stats`; one for each system_id."""

    __slots__ = (
        "accepted",
        "acknowledged",
        "dropped",
        "mo_sent",
        "receipts",
        "rejected",
        "resent",
        "submits",
        "throttled",
    )

    def __init__(self) -> None:
        self.submits = self.accepted = self.throttled = self.rejected = self.dropped = 0
        self.receipts = self.acknowledged = self.resent = self.mo_sent = 0

    def as_json(self) -> dict[str, int]:
        return {name: getattr(self, name) for name in self.__slots__}


class _Receipt(NamedTuple):
    """A receipt to come. `source` and `destination` are the submit's, as octets."""

    system_id: str
    number: int
    source: bytes
    destination: bytes
    state: MessageState
    error_code: str


class _Response(NamedTuple):
    session: SmscSession
    octets: bytes


class _Parcel(NamedTuple):
    """A deliver_sm under way, until an ESME has taken it."""

    system_id: str
    body: bytes
    is_receipt: bool
    tries: int


class SimulatedSession(SmscSession):
    """Hands submit_sm to the engine undecoded."""

    def __init__(self, smsc: Smsc, engine: "Engine") -> None:
        super().__init__(smsc)
        self._engine = engine
        self._hangs = False

    @property
    def receives(self) -> bool:
        return super().receives and not self._hangs

    def write(self, octets: bytes) -> None:
        if not self._hangs:
            super().write(octets)

    def data_received(self, data: bytes) -> None:
        if self._hangs or self._engine.behaviours.of(self.system_id).hangs:
            self._hangs = True
            return
        super().data_received(data)

    def submits_received(self, frames: list[Frame]) -> None:
        self._engine.submits_received(self, frames)

    def read_finished(self) -> None:
        super().read_finished()
        if self._engine.quick_acks:
            self._acknowledge_at_once()

    def _acknowledge_at_once(self) -> None:
        """Linux forgets TCP_QUICKACK with what it sends next, tcp(7): it is set anew after each read."""
        connection = self._transport.get_extra_info("socket") if self._transport else None
        if connection is not None and hasattr(socket, "TCP_QUICKACK"):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)


class Engine:
    """One simulated SMSC. `counts` and `store` are for looking at.

    `quick_acks`, which may change at any time: TCP acknowledges what an ESME sends at once and not, as is usual, up to 40 ms
    later. An ESME that leaves Nagle's algorithm on is several times faster against such an SMSC.
    """

    def __init__(self, config: SmscConfig, behaviours: Behaviours, store: Store, *, quick_acks: bool = False) -> None:
        self.quick_acks = quick_acks
        self.behaviours = behaviours
        self.store = store
        self.counts: dict[str, Counts] = {}
        self.refusals: Counter[int] = Counter()
        self.smsc = Smsc(
            config,
            SmscHandlers(
                authenticate=self._authenticate,
                on_submit=lambda _session, _submissions: None,
                on_delivered=self._delivered,
                on_query=self._query,
                on_bound=self._bound,
            ),
            lambda smsc: SimulatedSession(smsc, self),
        )
        self.receipts_to_come: DelayLine[_Receipt] = DelayLine(self._send_receipt)
        self._responses: DelayLine[_Response] = DelayLine(lambda response: response.session.write(response.octets))
        self._resends: DelayLine[_Parcel] = DelayLine(self._send)
        self._backlog: dict[str, deque[_Parcel]] = {}
        self._throttled_once: set[tuple[str, bytes]] = set()
        self._sessions: dict[str, list[SmscSession]] = {}

    async def start(self) -> None:
        await self.smsc.start()

    async def stop(self) -> None:
        await self.smsc.stop()

    def of(self, system_id: str) -> Counts:
        """The counts of one system_id."""
        counts = self.counts.get(system_id)
        if counts is None:
            counts = self.counts[system_id] = Counts()
        return counts

    @property
    def backlog(self) -> int:
        """deliver_sm that wait for an ESME to bind."""
        return sum(map(len, self._backlog.values()))

    def reset(self) -> None:
        """Forget messages and counts; receipts under way still come."""
        self.store.clear()
        self.counts.clear()
        self.refusals.clear()
        self._throttled_once.clear()

    def drop_connections(self, system_id: str | None = None) -> int:
        """Cut connections without a word, of one system_id or all; gives how many."""
        sessions = [one for one in self.smsc.sessions if system_id is None or one.system_id == system_id]
        for session in sessions:
            session.abort("dropped by the simulator")
        return len(sessions)

    # submit_sm

    def submits_received(self, session: SmscSession, frames: list[Frame]) -> None:
        """Take or refuse each; responses of one read leave together."""
        system_id = session.system_id
        behaviour, counts = self.behaviours.of(system_id), self.of(system_id)
        is_plain, wants_receipts = behaviour.is_plain, behaviour.receipts
        hex_ids = behaviour.id_form != "decimal"
        now = time.monotonic()
        octets: list[bytes] = []
        counts.submits += len(frames)
        for frame in frames:
            body = frame.body
            try:
                pieces = cut(body)
            except (ValueError, IndexError):
                counts.rejected += 1
                session.refuse(frame, CommandStatus.ESME_RINVCMDLEN)
                continue
            fate = FATES.get(pieces.number)
            if fate is not None or not is_plain:
                status = self._refusal(system_id, pieces.number, fate or _NORMAL_FATE, behaviour, counts)
                if status:
                    session.refuse(frame, status)
                    continue
            number = self.store.add(body, system_id, now, _digest(body, pieces))
            counts.accepted += 1
            if fate is not None and fate.special is Special.UNANSWERED:
                continue
            message_id = f"{number:x}" if hex_ids else str(number)
            response = encode_frame(CommandId.SUBMIT_SM_RESP, frame.sequence_number, message_id.encode("ascii") + b"\0")
            if is_plain:
                octets.append(response)
            elif not self._respond(session, response, behaviour, counts):
                break
            if wants_receipts and pieces.registered_delivery & 0x03:
                self._plan_receipt(system_id, number, pieces, fate or _NORMAL_FATE, behaviour)
        if octets:
            session.write(b"".join(octets))

    def _refusal(self, system_id: str, number: bytes, fate: Fate, behaviour: Behaviour, counts: Counts) -> int:
        status = fate.command_status or behaviour.refusal()
        if fate.special is Special.THROTTLED_ONCE:
            key = (system_id, number)
            if key in self._throttled_once:
                self._throttled_once.remove(key)
            else:
                self._throttled_once.add(key)
                status = CommandStatus.ESME_RTHROTTLED
        if status == CommandStatus.ESME_RTHROTTLED:
            counts.throttled += 1
        elif status:
            counts.rejected += 1
        if status:
            self.refusals[int(status)] += 1
        return status

    def _respond(self, session: SmscSession, response: bytes, behaviour: Behaviour, counts: Counts) -> bool:
        """Answer the unusual way; False where the connection is gone."""
        if behaviour.drop_fraction and chance(behaviour.drop_fraction):
            counts.dropped += 1
            session.abort("dropped by the simulator")
            return False
        if behaviour.response_loss and chance(behaviour.response_loss):
            return True
        delay_s = behaviour.response_delay_s
        if behaviour.receipt_first:
            delay_s = max(delay_s, behaviour.receipt_delay_s + _RECEIPT_FIRST_BY_S)
        if delay_s:
            self._responses.put(delay_s, _Response(session, response))
        else:
            session.write(response)
        return True

    # Receipts and other deliver_sm

    def _plan_receipt(self, system_id: str, number: int, pieces: Pieces, fate: Fate, behaviour: Behaviour) -> None:
        if fate.special is Special.SILENT or chance(behaviour.receipt_loss):
            return
        if not behaviour.receipt_per_part and pieces.esm_class & _UDHI and not self._is_last_part(number, pieces):
            return
        state, error_code = fate.state, fate.error_code
        if fate is _NORMAL_FATE:
            state = behaviour.receipt_state()
            error_code = behaviour.receipt_error if state in _FAILURES else "000"
        if pieces.registered_delivery & 0x03 == 2 and state is MessageState.DELIVRD:  # noqa: PLR2004 - §5.2.17
            return
        receipt = _Receipt(system_id, number, pieces.source, pieces.destination, state, error_code)
        delay_s = behaviour.receipt_delay_s + fate.delay_s
        if delay_s:
            self.receipts_to_come.put(delay_s, receipt)
        else:
            self._send_receipt(receipt)

    def _is_last_part(self, number: int, pieces: Pieces) -> bool:
        concatenation, _ = split_header(self.store.body(number)[pieces.rest + 3 :])
        return concatenation is None or concatenation.number == concatenation.total

    def _send_receipt(self, receipt: _Receipt) -> None:
        behaviour = self.behaviours.of(receipt.system_id)
        self.store.set_receipt_state(receipt.number, receipt.state)
        self.of(receipt.system_id).receipts += 1
        parcel = _Parcel(receipt.system_id, _receipt_body(receipt, behaviour), is_receipt=True, tries=0)
        self._send(parcel)
        if behaviour.receipt_twice and chance(behaviour.receipt_twice):
            self._send(parcel)

    def send_mo(self, bodies: list[bytes], system_id: str | None) -> bool:
        """Send a phone's message, part by part, to one ESME; False where none is bound."""
        candidates = [system_id] if system_id is not None else [name for name, bound in self._sessions.items() if bound]
        for name in candidates:
            if self._receiver(name) is not None:
                for body in bodies:
                    self._send(_Parcel(name, body, is_receipt=False, tries=0))
                self.of(name).mo_sent += 1
                return True
        return False

    def _receiver(self, system_id: str) -> SmscSession | None:
        sessions = self._sessions.get(system_id)
        while sessions:
            if sessions[0].receives:
                return sessions[0]
            del sessions[0]
        return None

    def _send(self, parcel: _Parcel) -> None:
        session = self._receiver(parcel.system_id)
        if session is None or not session.deliver_body(parcel.body, parcel):
            self._backlog.setdefault(parcel.system_id, deque(maxlen=_MAX_BACKLOG)).append(parcel)

    def _delivered(self, session: SmscSession, outcomes: list[DeliveryOutcome]) -> None:
        for parcel, status in outcomes:
            if status == 0:
                if parcel.is_receipt:
                    self.of(parcel.system_id).acknowledged += 1
            elif parcel.tries < _MAX_TRIES:
                self.of(parcel.system_id).resent += 1
                self._resends.put(_RESEND_AFTER_S, parcel._replace(tries=parcel.tries + 1))
        if session.receives and not session.undelivered:
            self._send_backlog(session.system_id)

    def _bound(self, session: SmscSession) -> None:
        self.of(session.system_id)
        if session.receives:
            self._sessions.setdefault(session.system_id, []).append(session)
            self._send_backlog(session.system_id)

    def _send_backlog(self, system_id: str) -> None:
        for parcel in self._backlog.pop(system_id, ()):
            self._send(parcel)

    async def _authenticate(self, _session: SmscSession, bind: Bind) -> int:
        password = self.behaviours.of(bind.system_id).password
        return 0 if password in (None, bind.password) else int(CommandStatus.ESME_RINVPASWD)

    def _query(self, session: SmscSession, query: QuerySm) -> QuerySmResp | int:
        hex_ids = self.behaviours.of(session.system_id).id_form != "decimal"
        try:
            number = int(query.message_id, 16 if hex_ids else 10)
        except ValueError:
            return int(CommandStatus.ESME_RINVMSGID)
        if number not in self.store or self.store.system_id(number) != session.system_id:
            return int(CommandStatus.ESME_RINVMSGID)
        state = self.store.receipt_state(number) or MessageState.ENROUTE
        final_date = "" if state == MessageState.ENROUTE else f"{datetime.now(UTC):%y%m%d%H%M%S}000+"
        return QuerySmResp(query.message_id, final_date, state, 0)


def _digest(body: bytes, pieces: Pieces) -> int:
    """Tells a text sent to a number; the reference of a concatenated message is left out, a repeat has another."""
    if not pieces.esm_class & _UDHI:
        return hash((pieces.number, body[pieces.rest :]))
    concatenation, text = split_header(body[pieces.rest + 3 :])
    return hash((pieces.number, text, concatenation and (concatenation.total, concatenation.number)))


def _receipt_body(receipt: _Receipt, behaviour: Behaviour) -> bytes:
    """A deliver_sm's body (SMPP 3.4 §4.6.1, Appendix B), from the phone to the header that sent."""
    in_hex = behaviour.id_form == "hex"
    message_id = f"{receipt.number:x}" if in_hex else str(receipt.number)
    state, error_code = receipt.state, receipt.error_code
    date = _now_in_india()
    delivered = 1 if state is MessageState.DELIVRD else 0
    text = (
        f"id:{message_id} sub:001 dlvrd:00{delivered} submit date:{date} done date:{date} "
        f"stat:{state.name} err:{error_code} text:"
    ).encode("ascii")
    tlvs = b""
    if behaviour.receipt_tlvs:
        identifier = message_id.encode("ascii") + b"\0"
        tlvs = b"".join(
            (
                pack(">HH", Tag.RECEIPTED_MESSAGE_ID, len(identifier)),
                identifier,
                pack(">HHB", Tag.MESSAGE_STATE, 1, state),
            )
        )
    return b"\0%b%b\x04\0\0\0\0\0\0\0\0%c%b%b" % (receipt.destination, receipt.source, len(text), text, tlvs)


_date_cache = (0, "")


def _now_in_india() -> str:
    """YYMMDDhhmm, formatted once a second."""
    global _date_cache  # noqa: PLW0603 - a cache of one value, used by one loop
    second = int(time.time())
    if _date_cache[0] != second:
        _date_cache = (second, f"{datetime.now(UTC) + _INDIAN_TIME:%y%m%d%H%M}")
    return _date_cache[1]
