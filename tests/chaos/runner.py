"""Runs one fault: load, break, mend, wait for quiet, count."""

import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from bench import load as load_generator
from bench import sink as webhook_sink
from bench.account import close_webhook
from bench.load import FIRST_NUMBER, NUMBERS, LoadPlan, LoadResult
from bench.stack import Choice, Stack, stack_of
from bench.worker import BenchError, Worker
from tests.chaos.fault import Fault, Policy
from tests.chaos.record import Record
from tests.chaos.scene import Scene
from tests.chaos.tally import Counts, count, problems_of
from tests.chaos.traffic import Traffic, open_traffic

_CONNECTIONS = 64
_LOAD_GIVES_UP_AFTER_S = 180.0
_ANSWERS_WITHIN_S = 30.0
_WHOLE_AGAIN_WITHIN_S = 60.0
_DEAD_SHOWN = 3


@dataclass(frozen=True)
class Tools:
    """The load generator and the webhook sink, processes of their own that serve any number of runs."""

    load: Worker
    sink: Worker

    @property
    def webhook_url(self) -> str:
        return f"http://127.0.0.1:{self.sink.first_answer}/webhooks"


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much is sent beside a fault, at which steady rate a second; `seed` decides what is left to chance."""

    messages: int = 3_000
    rate: float = 300.0
    seed: int = 1


@dataclass(frozen=True)
class Row:
    """One line of the table; no problems means that all holds."""

    fault: str
    what: str
    counts: Counts
    policy: Policy
    problems: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@contextmanager
def tools() -> Iterator[Tools]:
    with Worker("sink", webhook_sink.serve) as sink, Worker("load", load_generator.serve) as load:
        yield Tools(load, sink)


def own_stack(environment: dict[str, str] | None = None) -> Callable[[], AbstractContextManager[Stack]]:
    """For `Fault.stack`: a stack that is started for this fault alone, its services with this environment."""
    return lambda: stack_of(Choice(environment=environment or {}))


def run_fault(fault: Fault, stack: Stack, tools: Tools, size: Size) -> Row:
    """`stack` is whole, and is whole again afterwards (or the row says that it is not)."""
    messages = max(size.messages, int(size.rate * fault.load_s))
    traffic = open_traffic(stack, tools.webhook_url, messages / size.rate, fault.validity_s)
    record = Record(stack, traffic, tools.sink)
    scene = Scene(
        stack,
        traffic.account,
        tools.sink,
        random.Random(f"{size.seed} {fault.name}"),  # noqa: S311  # to be repeated, nothing secret
        messages,
        size.rate,
    )
    scene.restore()
    problems = run_beside(fault, scene, record, tools, random_first_number(scene.random, messages))
    if not record.await_quiet(fault.policy.patience_s):
        problems.append(f"not quiet {fault.policy.patience_s:g} s after the load ended")
    evidence = record.evidence(scene.recovers_from)
    counts = count(evidence)
    if counts.dead > fault.policy.dead:
        problems += [f"dead: {words}" for words in evidence.dead[:_DEAD_SHOWN]]
    close_webhook(stack, traffic.account)
    return Row(fault.name, fault.what, counts, fault.policy, problems_of(counts, fault.policy) + problems)


def run_beside(fault: Fault, scene: Scene, record: Record, tools: Tools, first_number: int) -> list[str]:
    """Loads and breaks side by side, and notes what was accepted; returns what went wrong with the fault itself."""
    problems: list[str] = []
    tools.load.begin("run", _plan(scene, record.traffic, first_number))
    try:
        fault.scenario(scene)
    except Exception as error:  # noqa: BLE001  # the run goes on, and tells of it
        problems.append(f"the scenario failed: {error!r}")
    finally:
        scene.freezer.thaw_all()
    load = tools.load.answer(scene.load_s + _LOAD_GIVES_UP_AFTER_S + _ANSWERS_WITHIN_S)
    if not isinstance(load, LoadResult):
        raise BenchError(str(load))
    record.add(load)
    try:
        scene.await_ready(_WHOLE_AGAIN_WITHIN_S)
    except AssertionError:
        unready = [one.name for one in scene.status().values() if not one.ready]
        problems.append(f"not ready {_WHOLE_AGAIN_WITHIN_S:g} s after: {', '.join(unready)}")
    return problems


def random_first_number(chance: random.Random, count: int) -> int:
    return FIRST_NUMBER + chance.randrange(NUMBERS - count)


def _plan(scene: Scene, traffic: Traffic, first_number: int) -> LoadPlan:
    host, port = scene.stack.address
    return LoadPlan(
        host=host,
        port=port,
        api_key=traffic.account.api_key,
        sender=traffic.account.sender,
        template_id=traffic.account.template_id,
        first_number=first_number,
        count=scene.messages,
        connections=_CONNECTIONS,
        rate=scene.rate,
        contents=traffic.contents,
        repeat=True,
        give_up_s=scene.load_s + _LOAD_GIVES_UP_AFTER_S,
    )
