"""The ESME: one bind to one SMSC, kept up, and an honest account of what happened to every message.

`submit` puts a message into a bounded queue. The pump, run once a turn of the loop, writes as many as window, TPS and
the transport allow, all in one write. Outcomes and incoming messages are handed to the application in lists, once a
turn.

What decides the outcome is whether a message was written: before, it is `NotSent` and may safely go another way;
after, only the SMSC's response says `Accepted` or `Rejected`, and without one it is `Unknown`, which a resend could
double. A throttled message was certainly not accepted, so it keeps its place in the queue and goes again. What is urgent
is written before what is not, however much of that waits for a throttle's end.

deliver_sm is answered by the application, after it has stored what came.
"""

import asyncio
import heapq
import random
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from harkara_smpp.constants import RESPONSE_BIT, THROTTLE_STATUSES, CommandId, CommandStatus, status_name
from harkara_smpp.esme_config import EsmeConfig, EsmeState, StateChange
from harkara_smpp.esme_session import Delivery, EsmeSession
from harkara_smpp.frame import Frame, encode_frame
from harkara_smpp.outcome import Accepted, NotSent, Outcome, Rejected, Throttled, Unknown
from harkara_smpp.pacing import Pacer
from harkara_smpp.pdu import QuerySm, QuerySmResp, SubmitSm, decode_message_id
from harkara_smpp.session import SessionLostError
from harkara_smpp.window import Window

ContextT = TypeVar("ContextT")

# Refusals that waiting a moment does not heal: retried slowly, and an operator should look.
_REFUSED_STATUSES = frozenset(
    {
        int(CommandStatus.ESME_RBINDFAIL),
        int(CommandStatus.ESME_RINVPASWD),
        int(CommandStatus.ESME_RINVSYSID),
        int(CommandStatus.ESME_RINVSYSTYP),
    }
)
_SUBMIT_SM = int(CommandId.SUBMIT_SM)
_SUBMIT_SM_RESP = int(CommandId.SUBMIT_SM_RESP)
_SUBMIT_ANSWERS = frozenset({int(CommandId.SUBMIT_SM_RESP), int(CommandId.GENERIC_NACK)})
_TICK_S = 0.02
_STABLE_AFTER_S = 10.0
_URGENT_FIRST = 2**62
_SILENCE_KEPT_S = 60.0
"""So long after the last write a silence is still news: whether the SMSC answers by now, nobody has asked."""


class QueueFullError(RuntimeError):
    """`submit` without asking for `room` first."""


class EsmeStoppedError(RuntimeError):
    """The ESME is stopping or stopped and takes no messages, or it never did: a receiver bind."""


class QueryFailedError(RuntimeError):
    """The SMSC answered a query_sm with an error status."""

    def __init__(self, command_status: int) -> None:
        super().__init__(status_name(command_status))
        self.command_status = command_status


class _Submission(Generic[ContextT]):
    """A queued or written message. Ordered by `serial`, so that throttled ones find their old places.

    Serials of urgent ones are negative: they come before all others.
    """

    __slots__ = ("body", "context", "queued_at", "serial", "throttle_status", "throttles")

    def __init__(self, serial: int, body: bytes, context: ContextT, queued_at: float) -> None:
        self.serial = serial
        self.body = body
        self.context = context
        self.queued_at = queued_at
        self.throttles = 0
        self.throttle_status = 0

    @property
    def is_urgent(self) -> bool:
        return self.serial < 0

    def __lt__(self, other: "_Submission[ContextT]") -> bool:
        return self.serial < other.serial


class Esme(Generic[ContextT]):
    """One bind. `start` and `stop` it on one loop; every callback runs on that loop.

    `on_outcomes` gets (context, outcome) pairs: one for every submitted message, and a second one where a response
    comes after `Unknown`. `on_deliver` gets the incoming messages; each must be accepted or rejected. `on_state` gets
    every transition. `before_write` gets the contexts of what is written next: the last moment at which it is certain
    that the SMSC does not have it.
    """

    def __init__(
        self,
        config: EsmeConfig,
        *,
        on_outcomes: Callable[[list[tuple[ContextT, Outcome]]], None],
        on_deliver: Callable[[list[Delivery]], None],
        on_state: Callable[[StateChange], None] | None = None,
        before_write: Callable[[list[ContextT]], None] | None = None,
    ) -> None:
        config.bind.to_body()  # what does not fit the bind PDU is refused here, not in the background
        self.config = config
        self.state = EsmeState.STOPPED
        self._on_outcomes = on_outcomes
        self._on_deliver = on_deliver
        self._on_state = on_state
        self._before_write = before_write
        self._accepting = False
        self._session: EsmeSession | None = None
        self._runner: asyncio.Task[None] | None = None
        self._ticker: asyncio.TimerHandle | None = None
        self._queue: deque[_Submission[ContextT]] = deque()
        self._urgent: deque[_Submission[ContextT]] = deque()
        self._returned: list[_Submission[ContextT]] = []
        self._window: Window[_Submission[ContextT]] = Window(config.window, config.response_timeout_s)
        self._outcomes: list[tuple[ContextT, Outcome]] = []
        self._room = asyncio.Event()
        self._pump_scheduled = False
        self._serial = 0
        self._written_at = 0.0
        self._unanswered_since: float | None = None

    async def start(self) -> None:
        """Begin to connect; returns at once, `on_state` tells when the bind stands."""
        if self._runner is not None:
            raise RuntimeError("already started")
        self._loop = asyncio.get_running_loop()
        self._pacer = Pacer(self.config.tps, self._loop.time())
        self._accepting = self.config.bind_type != "receiver"
        self._room.set()
        self._runner = self._loop.create_task(self._run())
        self._ticker = self._loop.call_later(_TICK_S, self._tick)

    async def stop(self) -> None:
        """Give back what was not written, wait for outstanding responses up to the drain time-out, unbind, close."""
        if self._runner is None:
            return
        runner, self._runner = self._runner, None
        self._accepting = False
        self._room.set()
        self._give_back("stopped")
        session = self._session
        if session is not None and self.state is EsmeState.BOUND:
            session.draining = True
            self._set_state(StateChange(EsmeState.DRAINING))
            await self._drain(session)
            await session.unbind()
        runner.cancel()
        await asyncio.gather(runner, return_exceptions=True)
        if self._ticker is not None:
            self._ticker.cancel()
        self._give_back("stopped")
        self._set_state(StateChange(EsmeState.STOPPED))
        await asyncio.sleep(0)

    @property
    def queued(self) -> int:
        """Messages not written yet."""
        return len(self._queue) + len(self._urgent) + len(self._returned)

    @property
    def outstanding(self) -> int:
        """Messages written and not answered yet."""
        return len(self._window)

    @property
    def silent_s(self) -> float:
        """For how long messages have been written and none answered; 0 while answers come, or nothing is asked."""
        if self._unanswered_since is None:
            return 0.0
        now = self._loop.time()
        is_old = not self._window and now - self._written_at > _SILENCE_KEPT_S
        return 0.0 if is_old else now - self._unanswered_since

    @property
    def pace(self) -> float:
        """The share of the agreed rate that throttling leaves now, 0 to 1; after `start`."""
        return self._pacer.share(self._loop.time())

    def submit(self, pdu: SubmitSm, context: ContextT, *, urgent: bool = False) -> None:
        """Queue one message, before all that are not urgent if it is; its outcome comes to `on_outcomes` with `context`.

        Raises PduEncodeError where a field does not fit, QueueFullError beyond `queue_limit`, EsmeStoppedError.
        """
        if not self._accepting:
            raise EsmeStoppedError("not started, or a receiver bind")
        if len(self._queue) + len(self._urgent) >= self.config.queue_limit:
            self._room.clear()
            raise QueueFullError("the queue is full")
        self._serial += 1
        serial = self._serial - _URGENT_FIRST if urgent else self._serial
        queue = self._urgent if urgent else self._queue
        queue.append(_Submission(serial, pdu.to_body(), context, self._loop.time()))
        self._pump_soon()

    async def room(self) -> int:
        """Wait until the queue has room; gives the number of messages that fit now. Raises EsmeStoppedError."""
        while True:
            if not self._accepting:
                raise EsmeStoppedError("not started, or a receiver bind")
            free = self.config.queue_limit - len(self._queue) - len(self._urgent)
            if free > 0:
                return free
            self._room.clear()
            await self._room.wait()

    async def query(self, query: QuerySm) -> QuerySmResp:
        """Ask the SMSC for a message's state.

        Raises QueryFailedError for an error status, TimeoutError, SessionLostError, PduDecodeError.
        """
        if self._session is None or self.state is not EsmeState.BOUND:
            raise SessionLostError("not bound")
        frame = await self._session.request(query)
        if frame.command_status:
            raise QueryFailedError(frame.command_status)
        return QuerySmResp.from_body(frame.body)

    # Connecting

    async def _run(self) -> None:
        delay_s = self.config.reconnect_first_s
        while True:
            self._set_state(StateChange(EsmeState.CONNECTING))
            started_at = self._loop.time()
            ended = await self._run_session()
            if self._runner is None:
                return
            if self._loop.time() - started_at > _STABLE_AFTER_S:
                delay_s = self.config.reconnect_first_s
            self._set_state(ended)
            wait_s = self.config.refused_retry_s if ended.state is EsmeState.REFUSED else delay_s
            # Jitter, so that the binds of many processes do not come back as one.
            await asyncio.sleep(wait_s * random.uniform(0.5, 1.0))  # noqa: S311 - nothing secret
            delay_s = min(self.config.reconnect_max_s, delay_s * 2)

    async def _run_session(self) -> StateChange:
        """Connect, bind, and stay until the connection ends; gives the state to wait in before the next try."""
        config = self.config
        try:
            async with asyncio.timeout(config.connect_timeout_s):
                _, session = await self._loop.create_connection(
                    lambda: EsmeSession(config, self._submit_answered, self._pump_soon, self._on_deliver),
                    config.host,
                    config.port,
                    ssl=config.tls,
                    server_hostname=config.tls_server_name if config.tls else None,
                )
        except OSError as error:  # time-outs and TLS failures are OSErrors too
            return StateChange(EsmeState.WAITING, f"cannot connect: {error or type(error).__name__}")
        self._session = session
        try:
            return await self._bind_and_stay(session)
        finally:
            session.abort("stopped")
            self._session = None
            self._unanswered_since = None
            for submission in self._window.clear():
                self._report_soon(submission.context, Unknown("the connection ended before the response"))

    async def _bind_and_stay(self, session: "EsmeSession") -> StateChange:
        self._set_state(StateChange(EsmeState.BINDING))
        bind = self.config.bind
        try:
            frame = await session.request(bind)
        except (TimeoutError, SessionLostError) as error:
            return StateChange(EsmeState.WAITING, f"no answer to the bind: {error}")
        status = frame.command_status
        if frame.command_id != bind.command_id | RESPONSE_BIT or status:
            state = EsmeState.REFUSED if status in _REFUSED_STATUSES else EsmeState.WAITING
            return StateChange(state, f"bind refused: {status_name(status)}", status)
        self._set_state(StateChange(EsmeState.BOUND))
        self._pump_soon()
        return StateChange(EsmeState.WAITING, await session.closed)

    def _set_state(self, change: StateChange) -> None:
        self.state = change.state
        if self._on_state is not None:
            # Not from here: an error in the callback must not end the runner.
            self._loop.call_soon(self._on_state, change)

    async def _drain(self, session: EsmeSession) -> None:
        """Wait for responses and for the application's answers to what it was handed."""
        deadline = self._loop.time() + self.config.drain_timeout_s
        # Polled, as these are two counts of two objects that nothing else waits for.
        while (self._window or session.unanswered > 0) and session.is_open and self._loop.time() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(_TICK_S)

    # Queue and window

    def _pump_soon(self) -> None:
        if not self._pump_scheduled:
            self._pump_scheduled = True
            self._loop.call_soon(self._pump)

    def _pump(self) -> None:
        """Write what may be written."""
        self._pump_scheduled = False
        session, window = self._session, self._window
        wanted = min(self.queued, window.free)
        if wanted <= 0 or session is None or self.state is not EsmeState.BOUND or not session.takes_more:
            return
        now = self._loop.time()
        octets: list[bytes] = []
        contexts: list[ContextT] = []
        granted = self._pacer.take(wanted, now) or (self._pacer.take_urgent(now) if self._has_urgent else 0)
        for _ in range(granted):
            submission = self._next()
            sequence_number = session.next_sequence_number()
            window.written(sequence_number, submission, now)
            octets.append(encode_frame(_SUBMIT_SM, sequence_number, submission.body))
            contexts.append(submission.context)
        if octets:
            if self._before_write is not None:
                self._before_write(contexts)
            session.write(b"".join(octets))
            self._written_at = now
            if self._unanswered_since is None:
                self._unanswered_since = now
            self._offer_room()

    def _next(self) -> _Submission[ContextT]:
        """Take the next message out of the queue; there is one."""
        returned = self._returned
        if self._urgent and not (returned and returned[0].is_urgent):
            return self._urgent.popleft()
        return heapq.heappop(returned) if returned else self._queue.popleft()

    @property
    def _has_urgent(self) -> bool:
        return bool(self._urgent or (self._returned and self._returned[0].is_urgent))

    def _offer_room(self) -> None:
        # At half, not at the first free place: a producer is woken for a batch.
        if len(self._queue) + len(self._urgent) <= self.config.queue_limit // 2 and not self._room.is_set():
            self._room.set()

    def _submit_answered(self, frame: Frame) -> None:
        if frame.command_id not in _SUBMIT_ANSWERS:
            return
        answered = self._window.answered(frame.sequence_number)
        if answered is None:
            return
        submission, late = answered
        status = frame.command_status
        now = self._loop.time()
        self._unanswered_since = now if self._window else None
        outcome: Outcome
        if status == 0 and frame.command_id == _SUBMIT_SM_RESP:
            self._pacer.accepted(now)
            outcome = Accepted(decode_message_id(frame.body), late)
        elif status in THROTTLE_STATUSES:
            self._pacer.throttled(now)
            submission.throttles += 1
            submission.throttle_status = status
            if self._accepting and not late and submission.throttles <= self.config.max_throttles:
                heapq.heappush(self._returned, submission)
                return
            outcome = Throttled(status, late)
        else:
            outcome = Rejected(status, late)
        self._report_soon(submission.context, outcome)

    def _tick(self) -> None:
        self._ticker = self._loop.call_later(_TICK_S, self._tick)
        now = self._loop.time()
        session = self._session
        if session is not None:
            session.tick(now)
            if not session.reading_paused and now - session.resumed_at >= self.config.response_timeout_s:
                for submission in self._window.expire(now):
                    self._report_soon(submission.context, Unknown("no response in time"))
            if self._unanswered_since is not None and not session.reading_paused:
                silent_s = now - max(self._unanswered_since, session.heard_at)
                if silent_s >= self.config.response_timeout_s / 2:
                    # What is written next may be of unknown fate as well.
                    session.doubt(now)
        self._expire_queue(now - self.config.queue_timeout_s)
        if self.queued:
            self._pump_soon()

    def _expire_queue(self, queued_before: float) -> None:
        # Not only the first: an urgent one before it may be younger.
        late = [submission for submission in self._returned if submission.queued_at <= queued_before]
        if late:
            self._returned = [submission for submission in self._returned if submission.queued_at > queued_before]
            heapq.heapify(self._returned)
        for submission in late:
            self._report_soon(submission.context, Throttled(submission.throttle_status))
        for queue in (self._urgent, self._queue):
            while queue and queue[0].queued_at <= queued_before:
                self._report_soon(queue.popleft().context, NotSent("waited too long to be written"))
        self._offer_room()

    def _give_back(self, reason: str) -> None:
        """Report everything queued as not sent; a throttled message was written, but certainly not accepted."""
        for submission in (*self._returned, *self._urgent, *self._queue):
            self._report_soon(submission.context, NotSent(reason))
        self._returned.clear()
        self._urgent.clear()
        self._queue.clear()

    def _report_soon(self, context: ContextT, outcome: Outcome) -> None:
        if not self._outcomes:
            self._loop.call_soon(self._report)
        self._outcomes.append((context, outcome))

    def _report(self) -> None:
        if self._outcomes:
            outcomes, self._outcomes = self._outcomes, []
            self._on_outcomes(outcomes)
