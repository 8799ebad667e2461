"""The run: a clean load for what each process uses, a second one under py-spy for where it uses it, then the floors.

The figures of CPU are those of the clean load: sampling stops a process for a moment each time, which changes how much it
does, not where. So a layer's microseconds are its share of the samples, of the process's CPU in the clean load.
"""

import asyncio
import os
import random
import signal
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass

import asyncpg

from bench import load as load_generator
from bench import sink as webhook_sink
from bench.account import close_webhook, open_account
from bench.floor import Floor
from bench.load import FIRST_NUMBER, NUMBERS
from bench.pipeline import MAX_MESSAGES, Bench, Options, Phase
from bench.profile.counters import Counters, Sources
from bench.profile.floors import Database, bare_floors, insert_floor
from bench.profile.layers import Layer, Profile
from bench.profile.sampling import Sampler
from bench.stack import Choice, Stack, stack_of, starts_one
from bench.worker import BenchError, Worker
from harkara_cli.ports import Ports
from harkara_cli.stack import SERVICES
from harkara_cli.stack import Stack as Described

_WARM_UP = 1_000
_PATIENCE_S = 60.0
_RESTART_PATIENCE_S = 60.0
_STATEMENTS_LIBRARY = "pg_stat_statements"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """`seconds` is how long each service is sampled, `floors` of how many messages each floor is; 0 leaves them out."""

    stack: Choice
    messages: int = 10_000
    seconds: float = 10.0
    connections: int = 50
    floors: int = 20_000


@dataclass(frozen=True)
class Result:
    """`counters` are of the clean load, `clean`; `profiles` by service."""

    clean: Phase
    counters: Counters
    profiles: dict[str, Profile]
    floors: list[Floor]

    @property
    def messages(self) -> int:
        return max(1, self.clean.figures.counts.submitted)

    def cpu_us(self, process: str) -> float:
        """Of the clean load, a message; 0 for a process that is not known."""
        usage = self.clean.usage.get(process)
        return usage.cpu_s / self.messages * 1e6 if usage else 0.0

    def layers_us(self, service: str) -> dict[Layer, float]:
        """CPU a message by layer.

        What the kernel spent is known from its own accounts. Samples would tell it wrong: a process that was woken and
        waits for a processor is seen in the call that it waited in. They only divide the rest.
        """
        profile, usage = self.profiles[service], self.clean.usage[service]
        system_us = usage.system_s / self.messages * 1e6
        user_us = self.cpu_us(service) - system_us
        seen = max(1, profile.samples - profile.layers[Layer.SYSTEM])
        return {
            layer: system_us if layer is Layer.SYSTEM else profile.layers[layer] / seen * user_us for layer in Layer
        }


def measure(plan: Plan, say: Callable[[str], None]) -> Result:
    """Raises BenchError where the stack cannot be looked into."""
    is_own = starts_one(plan.stack)
    with (
        Worker("sink", webhook_sink.serve) as sink,
        Worker("load", load_generator.serve) as load,
        stack_of(plan.stack) as stack,
    ):
        if stack.home is None:
            raise BenchError("a stack that is known by its URL only cannot be looked into: give its --home")
        described = _described(stack)
        if is_own:
            say("Starting Postgres again with pg_stat_statements …")
            _count_statements(stack, described)
        account = open_account(stack, f"http://127.0.0.1:{sink.first_answer}/webhooks")
        bench = Bench(
            Options(stack=plan.stack, connections=plan.connections, patience_s=_PATIENCE_S),
            stack,
            account,
            load,
            sink,
            os.getpid(),
        )
        first = FIRST_NUMBER + random.randrange(NUMBERS - _WARM_UP - plan.messages - MAX_MESSAGES)  # noqa: S311  # no secret
        say(f"Warm-up: {_WARM_UP:,} messages …")
        warm_up = bench.phase("warm-up", first, _WARM_UP, None).figures.counts
        if warm_up.webhooks < _WARM_UP:
            raise BenchError(
                f"only {warm_up.webhooks} of {_WARM_UP:,} messages came through: there is nothing to profile"
            )
        first += _WARM_UP
        sources = _sources(stack, described)
        before = sources.read()
        say(f"Clean: {plan.messages:,} messages, flat out …")
        clean = bench.phase("clean", first, plan.messages, None)
        counters = sources.read().since(before)
        first += plan.messages
        sampler = Sampler({service.name: stack.pids()[service.name] for service in SERVICES}, plan.seconds)
        # As many as last until every service had its turn.
        count = min(MAX_MESSAGES, max(plan.messages, int(clean.figures.rates.end_to_end * sampler.needs_s)))
        say(f"Sampled: {count:,} messages, flat out, {plan.seconds:g} s of each service …")
        sampler.start()
        bench.phase("sampled", first, count, None)
        profiles = sampler.finish()
        close_webhook(stack, account)
        floors: list[Floor] = []
        if plan.floors:
            say("Floors …")
            floors.append(insert_floor(Database(described.database_url, sources.postgres_pid), plan.floors))
    if plan.floors:
        # The stack has ended: nothing else is at work.
        floors = bare_floors(plan.floors, plan.connections) + floors
    return Result(clean, counters, profiles, floors)


def _described(stack: Stack) -> Described:
    assert stack.home is not None
    record = stack.home.require_running()
    return Described(stack.home, Ports(record.port_base), record.overrides)


def _sources(stack: Stack, described: Described) -> Sources:
    return Sources(
        described.database_url,
        stack.pids().get("postgres", 0),
        described.ports["nats.monitoring"],
        {service.name: described.ports[service.name] for service in SERVICES},
    )


def _count_statements(stack: Stack, described: Described) -> None:
    """Lets the server of our own stack load the extension; it has to start again for that."""

    async def set_up() -> None:
        connection = await asyncpg.connect(described.database_url)
        await connection.execute(f"alter system set shared_preload_libraries = '{_STATEMENTS_LIBRARY}'")
        await connection.close()

    async def create() -> None:
        connection = await asyncpg.connect(described.database_url)
        await connection.execute(f"create extension if not exists {_STATEMENTS_LIBRARY}")
        await connection.close()

    asyncio.run(set_up())
    former = stack.pids()["postgres"]
    os.kill(former, signal.SIGINT)
    deadline = time.monotonic() + _RESTART_PATIENCE_S
    while stack.pids().get("postgres") in {former, None} or not _are_ready(described):
        if time.monotonic() > deadline:
            raise BenchError("the stack has not become ready again after Postgres was started anew")
        time.sleep(0.2)
    asyncio.run(create())


def _are_ready(described: Described) -> bool:
    for service in SERVICES:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{described.ports[service.name]}/readyz", timeout=5):
                pass
        except OSError:
            return False
    try:
        asyncio.run(_ask(described.database_url))
    except (OSError, asyncpg.PostgresError):
        return False
    return True


async def _ask(url: str) -> None:
    connection = await asyncpg.connect(url, timeout=5)
    await connection.close()
