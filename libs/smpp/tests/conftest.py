"""Both ends of a session over real loopback sockets, and a peer that writes whatever octets a test wants."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any, Protocol

import pytest
import uvloop
from hypothesis import settings

from harkara_smpp import (
    Delivery,
    Esme,
    EsmeConfig,
    EsmeState,
    Outcome,
    QuerySm,
    QuerySmResp,
    StateChange,
    SubmitSm,
)
from harkara_smpp.frame import Frame, FrameParser
from harkara_smpp.pdu import Bind
from harkara_smpp.smsc import DeliveryOutcome, Smsc, SmscConfig, SmscHandlers, SmscSession, Submission

settings.register_profile("harkara", deadline=None, max_examples=60)
settings.load_profile("harkara")

_PATIENCE_S = 10.0


class Watched:
    """Lets a test wait until what callbacks have collected satisfies it."""

    def __init__(self) -> None:
        self._changed = asyncio.Event()

    def changed(self) -> None:
        self._changed.set()

    async def until(self, holds: Callable[[], object]) -> None:
        async with asyncio.timeout(_PATIENCE_S):
            while not holds():
                self._changed.clear()
                await self._changed.wait()


class EsmeSide(Watched):
    """An ESME and everything it reported, in order."""

    def __init__(self, config: EsmeConfig) -> None:
        super().__init__()
        self.outcomes: list[tuple[Any, Outcome]] = []
        self.deliveries: list[Delivery] = []
        self.states: list[StateChange] = []
        self.events: list[str] = []
        self.accepts_deliveries = True
        self.esme: Esme[Any] = Esme(
            config, on_outcomes=self._on_outcomes, on_deliver=self._on_deliver, on_state=self._on_state
        )

    def _on_outcomes(self, outcomes: list[tuple[Any, Outcome]]) -> None:
        self.outcomes += outcomes
        self.events += ["outcome"] * len(outcomes)
        self.changed()

    def _on_deliver(self, deliveries: list[Delivery]) -> None:
        self.deliveries += deliveries
        self.events += ["delivery"] * len(deliveries)
        if self.accepts_deliveries:
            for delivery in deliveries:
                delivery.accept()
        self.changed()

    def _on_state(self, change: StateChange) -> None:
        self.states.append(change)
        self.changed()

    async def bound(self, times: int = 1) -> None:
        await self.until(lambda: sum(change.state is EsmeState.BOUND for change in self.states) >= times)

    def submit(self, context: Any, destination: str = "919876543210", *, urgent: bool = False) -> None:
        self.esme.submit(
            SubmitSm(source_addr="HARKRA", destination_addr=destination, registered_delivery=1, short_message=b"Hello"),
            context,
            urgent=urgent,
        )

    def outcome_of(self, context: Any) -> list[Outcome]:
        return [outcome for its_context, outcome in self.outcomes if its_context == context]


class SmscSide(Watched):
    """An SMSC that collects what it gets. `answer` decides on each submission; by default the id is its count."""

    def __init__(self, config: SmscConfig) -> None:
        super().__init__()
        self.submissions: list[Submission] = []
        self.sessions: list[SmscSession] = []
        self.delivered: list[DeliveryOutcome] = []
        self.binds: list[Bind] = []
        self.bind_statuses: list[int] = []
        self.unbound = 0
        self.answer: Callable[[Submission], None] = lambda submission: submission.accept(str(len(self.submissions)))
        self.query: Callable[[QuerySm], QuerySmResp | int] = lambda _query: 0x67
        self.smsc = Smsc(
            config,
            SmscHandlers(
                authenticate=self._authenticate,
                on_submit=self._on_submit,
                on_delivered=self._on_delivered,
                on_query=lambda _session, query: self.query(query),
                on_bound=self._on_bound,
                on_unbound=self._on_unbound,
            ),
        )

    async def _authenticate(self, _session: SmscSession, bind: Bind) -> int:
        self.binds.append(bind)
        return self.bind_statuses.pop(0) if self.bind_statuses else 0

    def _on_submit(self, _session: SmscSession, submissions: list[Submission]) -> None:
        for submission in submissions:
            self.submissions.append(submission)
            self.answer(submission)
        self.changed()

    def _on_delivered(self, _session: SmscSession, outcomes: list[DeliveryOutcome]) -> None:
        self.delivered += outcomes
        self.changed()

    def _on_bound(self, session: SmscSession) -> None:
        self.sessions.append(session)
        self.changed()

    def _on_unbound(self, _session: SmscSession) -> None:
        self.unbound += 1
        self.changed()

    async def bound(self, times: int = 1) -> SmscSession:
        await self.until(lambda: len(self.sessions) >= times)
        return self.sessions[times - 1]


class Wire:
    """One connection as frames, in the hands of a test."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._parser = FrameParser()
        self._frames: list[Frame] = []

    async def frame(self) -> Frame:
        """The next frame. Raises EOFError where the connection has ended."""
        async with asyncio.timeout(_PATIENCE_S):
            while not self._frames:
                data = await self.reader.read(65_536)
                if not data:
                    raise EOFError
                self._frames += self._parser.feed(data)
        return self._frames.pop(0)

    async def frame_of(self, command_id: int) -> Frame:
        """The next frame of one command; others are passed over."""
        while (frame := await self.frame()).command_id != command_id:
            pass
        return frame

    def write(self, octets: bytes) -> None:
        self.writer.write(octets)


class NewEsme(Protocol):
    def __call__(self, port: int, **changes: Any) -> Awaitable[EsmeSide]: ...


class NewSmsc(Protocol):
    def __call__(self, **changes: Any) -> Awaitable[SmscSide]: ...


class NewWireServer(Protocol):
    def __call__(self, script: Callable[[Wire], Awaitable[None]]) -> Awaitable[int]: ...


class NewWire(Protocol):
    def __call__(self, port: int) -> Awaitable[Wire]: ...


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Every test of a session runs on both loops: their transports differ in corners."""
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture
async def cleanup() -> AsyncIterator[AsyncExitStack]:
    """Closes in reverse order, and fails the test on an exception that a callback let out."""
    problems: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: problems.append(context))
    async with AsyncExitStack() as stack:
        yield stack
    assert problems == []


_QUICK = EsmeConfig(
    host="127.0.0.1",
    port=0,
    system_id="harkara",
    password="secret",
    tps=100_000,
    reconnect_first_s=0.01,
    reconnect_max_s=0.05,
    refused_retry_s=0.05,
    drain_timeout_s=1.0,
)


@pytest.fixture
async def new_esme(cleanup: AsyncExitStack) -> NewEsme:
    async def new(port: int, **changes: Any) -> EsmeSide:
        side = EsmeSide(replace(_QUICK, port=port, **changes))
        await side.esme.start()
        cleanup.push_async_callback(side.esme.stop)
        return side

    return new


@pytest.fixture
async def new_smsc(cleanup: AsyncExitStack) -> NewSmsc:
    async def new(**changes: Any) -> SmscSide:
        side = SmscSide(SmscConfig(**changes))
        await side.smsc.start()
        cleanup.push_async_callback(side.smsc.stop)
        return side

    return new


@pytest.fixture
async def new_wire_server(cleanup: AsyncExitStack) -> NewWireServer:
    """A server that runs a script for each connection; gives its port."""

    async def new(script: Callable[[Wire], Awaitable[None]]) -> int:
        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await script(Wire(reader, writer))
            except (EOFError, ConnectionError):
                pass
            finally:
                writer.close()

        server = await asyncio.start_server(connected, "127.0.0.1", 0)
        cleanup.callback(server.close)
        return int(server.sockets[0].getsockname()[1])

    return new


@pytest.fixture
async def new_wire(cleanup: AsyncExitStack) -> NewWire:
    """A connection to a server."""

    async def new(port: int) -> Wire:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        cleanup.callback(writer.close)
        return Wire(reader, writer)

    return new
