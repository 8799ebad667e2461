"""A service's life: open resources in order, build, load views, consume, and on SIGTERM all of it backwards.

`run()` is what a service's `main()` calls. `Service` is what its `build()` gets: declare here what it consumes, answers
and keeps; nothing starts before `build()` has returned, so that a handler never sees a half-built service.
"""

import asyncio
import contextlib
import gc
import logging
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any, Generic, TypeVar, cast

import uvloop
from pydantic import ValidationError

from harkara_chassis import envelope
from harkara_chassis.admin import AdminServer
from harkara_chassis.commands import CommandCaller, CommandServer
from harkara_chassis.connection import Bus, connect
from harkara_chassis.consumer import Decode, LaneLoop
from harkara_chassis.database import Database
from harkara_chassis.ending import ended
from harkara_chassis.facts import FactFollower, FactView
from harkara_chassis.health import Ask, Health, Vitals
from harkara_chassis.logs import configure_logs
from harkara_chassis.provisioner import ProvisioningError, differences
from harkara_chassis.publisher import Outgoing, Publisher, headers
from harkara_chassis.pull import Pull
from harkara_chassis.settings import ServiceSettings
from harkara_chassis.tracing import Tracing
from harkara_contracts.commands import Command, Reply
from harkara_contracts.consumers import COMMAND_CONSUMERS, ConsumerSpec
from harkara_contracts.errors import ConfigurationError
from harkara_contracts.events import Event
from harkara_contracts.facts import Fact
from harkara_contracts.ids import random_tail
from harkara_contracts.subjects import subject

logger = logging.getLogger(__name__)

S = TypeVar("S", bound=ServiceSettings)
F = TypeVar("F", bound=Fact)
C = TypeVar("C", bound=Command[Any])
T = TypeVar("T")
EventT = TypeVar("EventT")
"""An event, or a view of one."""


_PROVISION_WAIT_S = 60.0
_GC_ALLOCATIONS = 20_000


class Service(Generic[S]):
    """One process of one service. Its parts are open when `build()` gets it; what it declares starts afterwards."""

    def __init__(
        self, name: str, settings: S, bus: Bus, database: Database | None, publisher: Publisher, tracing: Tracing
    ) -> None:
        self.name = name
        self.settings = settings
        self.instance = settings.instance
        self.bus = bus
        self.publisher = publisher
        self.tracing = tracing
        self.commands = CommandCaller(bus.client, settings.instance, publisher)
        self.facts = FactFollower(bus.client, name, self._watch)
        self.loops: list[LaneLoop] = []
        self.stopping = asyncio.Event()
        self.vitals = Vitals()
        self._database = database
        self._server: CommandServer | None = None
        self._stack = AsyncExitStack()
        self._backgrounds: list[tuple[str, Callable[[], Awaitable[None]]]] = []
        self._tables: tuple[str, ...] = ()
        self._tasks: list[asyncio.Task[None]] = []
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._started = False

    @property
    def database(self) -> Database:
        """The service's schema in Postgres.

        Raises:
            ConfigurationError: HARKARA_DATABASE_URL is not set.
        """
        if self._database is None:
            raise ConfigurationError("HARKARA_DATABASE_URL is not set: this service needs its Postgres role's address")
        return self._database

    def consume(
        self,
        spec: ConsumerSpec,
        handler: Callable[[Sequence[EventT]], Awaitable[Sequence[Event]]],
        *,
        concurrency: int = 1,
        decode: Decode = envelope.decode,
    ) -> None:
        """Handle what a declaration says this service reads, in a loop of its own for each lane."""
        if spec.service != self.name:
            raise ValueError(f"{spec.service}'s consumer cannot be consumed by {self.name}")
        for lane in spec.lanes:
            loop = LaneLoop(
                self.bus.client,
                spec,
                lane,
                cast("Any", handler),
                self.publisher,
                self.tracing,
                concurrency=concurrency,
                max_events=self.settings.max_batch_events,
                decode=decode,
            )
            self.loops.append(loop)

    def answer(self, command: type[C], answerer: Callable[[C], Awaitable[Reply]]) -> None:
        """Answer a command of this service."""
        if self._server is None:
            spec = next(spec for spec in COMMAND_CONSUMERS if spec.service == self.name)
            self._server = CommandServer(self.bus.client, spec, self.publisher)
        self._server.add(command, answerer)

    def view(self, kind: type[F], on_change: Callable[[F], None] | None = None) -> FactView[F]:
        """Follow a kind of fact; the view is loaded before anything is consumed."""
        return self.facts.add(FactView(kind, on_change))

    async def facts_reached(self, sequence: int, timeout_s: float = 2.0) -> bool:
        return await self.facts.reached(sequence, timeout_s)

    def background(self, work: Callable[[], Awaitable[None]], name: str) -> None:
        """Run something from start to stop (it is cancelled then); if it fails, the process ends and is restarted."""
        self._backgrounds.append((name, work))

    def readiness(self, name: str, check: Callable[[], str | None], *, outside: bool = False) -> None:
        """Add a reason not to be ready: the check returns it in plain words, or None.

        Args:
            name: of the part that is looked at.
            check: called whenever somebody asks for the service's health.
            outside: the part is not the platform's own, and no start waits for it.
        """

        def found() -> list[str]:
            reason = check()
            return [f"{name}: {reason}"] if reason else []

        self.vitals.check(name, found, outside=outside)

    def depends_on(self, name: str, ask: Ask) -> None:
        """Ask again and again, in the background, whether something else that is needed answers."""
        self.vitals.ask(name, ask, f"{name} has not answered")

    def survives(self, *parts: str) -> None:
        """Stay ready, with a warning, while these parts are away: "database", "consumers", or what `depends_on` named."""
        self.vitals.survive(parts)

    async def enter(self, manager: AbstractAsyncContextManager[T]) -> T:
        """Open a resource that lives as long as the service and is closed in reverse order."""
        return await self._stack.enter_async_context(manager)

    def partitions(self, *tables: str) -> None:
        """Keep the daily partitions of these tables existing."""
        self._tables = tables

    def health(self) -> Health:
        """Say how this service is; it is ready when there is no problem."""
        if reason := self._not_begun():
            return Health([reason])
        return self.vitals.health()

    def start_problems(self) -> list[str]:
        """Say what keeps this service from having started."""
        if reason := self._not_begun():
            return [reason]
        return self.vitals.start_problems()

    def _not_begun(self) -> str | None:
        if self.stopping.is_set():
            return "draining"
        return None if self._started else "starting"

    async def start(self) -> None:
        await self._await_provisioning()
        if self._tables:
            await self.database.ensure_partitions(self._tables)
            tables = self._tables
            self.background(lambda: self.database.keep_partitions(tables), name="partitions")
        self._watch_vitals()
        await self.facts.start()
        self.bus.on_reconnect(self._restart_pulls)
        for name, work in self._backgrounds:
            self._spawn(work(), name)
        for loop in self.loops:
            self._spawn(loop.run(), loop.durable)
        if self._server is not None:
            self._spawn(self._server.run(), "commands")
        await self.vitals.first_answers()
        self._started = True

    async def failed(self) -> None:
        """Return when the service cannot go on: a loop died, or the bus is lost for good.

        Raises:
            Exception: what the dead loop died of.
        """
        lost = asyncio.create_task(self._lost())
        try:
            await asyncio.wait({lost, self._failed}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            lost.cancel()
        if self._failed.done():
            self._failed.result()
        raise ConnectionError("the connection to the bus is closed for good")

    async def _lost(self) -> None:
        await self.bus.lost.wait()

    async def stop(self) -> None:
        """Drain: not ready any more, take nothing new, finish what is in hand, close in reverse order of opening."""
        self.stopping.set()
        stops = [loop.stop(self.settings.drain_timeout_s) for loop in self.loops]
        if self._server is not None:
            stops.append(self._server.stop(self.settings.drain_timeout_s))
        await asyncio.gather(*stops)
        consumers = [task for task in self._tasks if not task.get_name().startswith("background ")]
        if consumers:
            await asyncio.wait(consumers, timeout=self.settings.drain_timeout_s)
        await ended(*reversed(self._tasks))
        for pull in self._pulls():
            await pull.close()
        await self._stack.aclose()
        await self.facts.stop()
        await self.commands.stop()

    def _watch_vitals(self) -> None:
        """Follow what every service needs: a bus that stores, streams and consumers as declared, a database, progress."""
        self.vitals.check("bus", lambda: [] if self.bus.connected else ["the bus is away"])
        self.vitals.check("consumers", self._idle_consumers)
        self.vitals.ask("bus", self._ask_bus, "the bus has stored nothing")
        if self._database is not None:
            self.vitals.ask("database", self._ask_database, "the database has not answered")
        for pulse in self.vitals.pulses:
            self._spawn(pulse.run(), f"pulse of {pulse.part}")

    async def _ask_bus(self) -> list[str]:
        """Prove the way to the disk: a server with a full store answers, and takes no message. Then ask what differs."""
        name = subject("reply", self.instance, "alive")
        await self.publisher.send([Outgoing(name, b"[]", headers(name, f"alive.{random_tail(16)}"))])
        return await self._differences()

    async def _ask_database(self) -> list[str]:
        await self.database.fetchrow("SELECT 1")
        return []

    def _idle_consumers(self) -> list[str]:
        if not self.bus.connected or self.vitals.pulse("bus").problems:
            return []  # that says it all
        pulls = [*self._pulls(), *([self.facts.pull] if self.facts.pull else [])]
        return [reason for pull in pulls if (reason := pull.problem or pull.standstill)]

    def _pulls(self) -> list[Pull]:
        return [loop.pull for loop in self.loops] + ([self._server.pull] if self._server is not None else [])

    def _spawn(self, work: Awaitable[None], name: str) -> None:
        is_loop = any(loop.durable == name for loop in self.loops) or name == "commands"
        task = asyncio.ensure_future(work)
        task.set_name(name if is_loop else f"background {name}")
        task.add_done_callback(self._watch)
        self._tasks.append(task)

    def _watch(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or self._failed.done() or self.stopping.is_set():
            return
        error = task.exception()
        if error is not None:
            self._failed.set_exception(error)
        else:
            self._failed.set_exception(RuntimeError(f"{task.get_name()} ended by itself"))

    async def _restart_pulls(self) -> None:
        self.publisher.repeat_unacknowledged()
        for pull in self._pulls():
            await pull.restart()
        await self.facts.restart()
        await self.commands.restart()

    async def _differences(self) -> list[str]:
        """Tell what differs from the declarations, and of a cluster that is electing, that it cannot be asked."""
        try:
            return await differences(self.bus.client, self.name)
        except ProvisioningError as error:
            return [str(error)]

    async def _await_provisioning(self) -> None:
        """Wait until streams and consumers are as declared: the provisioner may still be at it."""
        async with asyncio.timeout(_PROVISION_WAIT_S):
            while missing := await self._differences():
                logger.warning("waiting for provisioning", extra={"first": missing[0], "count": len(missing)})
                await asyncio.sleep(0.5)


Build = Callable[[Service[S]], Awaitable[None]]


@contextlib.asynccontextmanager
async def running(name: str, settings: S, build: Build[S]) -> AsyncIterator[Service[S]]:
    """Run a service inside the caller's loop: everything is started when the body begins and drained after it."""
    async with AsyncExitStack() as stack:
        ending = False
        bus = await connect(settings.nats_url.get_secret_value(), name, closing_is_loss=lambda: not ending)
        stack.push_async_callback(bus.close)
        database = None
        if url := settings.database_url.get_secret_value():
            database = await Database.open(url, name, settings.database_pool)
            stack.push_async_callback(database.close)
        tracing = Tracing(name, settings.instance, settings.otlp_endpoint, settings.trace_ratio)
        stack.callback(tracing.close)
        publisher = Publisher(bus.client, name)
        await publisher.start()
        service = Service(name, settings, bus, database, publisher, tracing)
        admin = AdminServer(
            settings.admin_host,
            settings.admin_port,
            alive=lambda: not bus.lost.is_set(),
            health=service.health,
            start_problems=service.start_problems,
        )
        await admin.start()
        stack.push_async_callback(admin.close)
        try:
            await build(service)
            await service.start()
            yield service
        finally:
            ending = True
            await service.stop()


async def _serve(name: str, settings: S, build: Build[S]) -> None:
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked.set)
    loop.set_exception_handler(_tell_of_forgotten_failures)
    async with running(name, settings, build) as service:
        # What start-up made lives for ever; the collector need not walk it again and again. And a batch makes thousands
        # of objects that die by reference count: looking for cycles after every 700 of them is work for nothing.
        gc.collect()
        gc.freeze()
        gc.set_threshold(_GC_ALLOCATIONS, 20, 50)
        logger.info("ready")
        end = asyncio.create_task(asked.wait())
        failure = asyncio.create_task(service.failed())
        await asyncio.wait([end, failure], return_when=asyncio.FIRST_COMPLETED)
        end.cancel()
        if failure.done():
            failure.result()
        failure.cancel()
        logger.info("draining")
    logger.info("stopped")


def _tell_of_forgotten_failures(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log what nobody awaited, as every failure is logged: where it broke, without the exception's own text."""
    error = context.get("exception")
    logger.error("a task failed and nobody asked", exc_info=error if isinstance(error, BaseException) else None)


def run(name: str, settings_class: type[S], build: Build[S]) -> None:
    """Run a service until SIGTERM or SIGINT; what a service's `main()` calls.

    Wrong settings and a failure that cannot be waited out end the process with exit code 1.
    """
    try:
        settings = settings_class()
    except ValidationError as error:
        faults = error.errors(include_url=False, include_context=False, include_input=False)
        wrong = "; ".join(f"HARKARA_{'_'.join(map(str, fault['loc'])).upper()}: {fault['msg']}" for fault in faults)
        sys.exit(f"{name} cannot start, its settings are wrong: {wrong}")
    configure_logs(name, settings.instance, settings.log_level, settings.log_format)
    try:
        uvloop.run(_serve(name, settings, build))
    except ConfigurationError as error:
        logger.error("the service cannot start: %s", error)  # noqa: TRY400  # the words tell more than frames
        sys.exit(1)
    except Exception:
        logger.exception("the service cannot go on")
        sys.exit(1)
