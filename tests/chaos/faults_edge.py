"""Clients' endpoints that are dead for a while, and processes that may open no more files or connections."""

import resource
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench.sink import Mood
from tests.chaos.fault import Fault, Policy, Scenario
from tests.chaos.processes import identity_of
from tests.chaos.scene import Scene

_BREAK_AT = 0.3
_BREAK_S, _SHORT_BREAK_S, _SHORT_LOAD_S = 8.0, 2.0, 5.0
_TOLD_WITHIN_S = 150.0
"""Deliveries that failed are tried again after 5 s, 30 s and longer."""
_QUICK_S = 0.8
"""The stack of the short form is told to try again so soon that all tries are over after 1.4 s."""
_SPARE = 4
_MORE_CLIENTS = 32
_UNSURE_VALIDITY_S = 60
_UNSURE = Policy(unknown=200, otp_may_double=True, may_fail=True, patience_s=150.0)
"""What is on its way to a carrier when the connection ends may have arrived or not."""

Need = Callable[[Scene, ExitStack], None]
"""Makes a process need descriptors; what it opens itself goes onto the stack, to be closed after."""


def endpoints(mood: Mood) -> Scenario:
    def scenario(scene: Scene) -> None:
        scene.wait_until(_BREAK_AT)
        scene.begun()
        scene.sink.ask("behave", mood)
        try:
            scene.wait(_QUICK_S if scene.load_s < _SHORT_LOAD_S else _BREAK_S)
        finally:
            scene.sink.ask("behave", "well")
        scene.healed()

    return scenario


def starve_of_descriptors(name: str, need: Need) -> Scenario:
    """It may open hardly more than it has open, for a while, and just then it needs more."""

    def scenario(scene: Scene) -> None:
        scene.wait_until(_BREAK_AT)
        process = identity_of(scene.stack, name)
        with _few_descriptors(process.pid), ExitStack() as opened:
            scene.begun()
            need(scene, opened)
            scene.wait(_SHORT_BREAK_S if scene.load_s < _SHORT_LOAD_S else _BREAK_S)
        scene.healed()
        assert process.is_alive(), "nobody dies of it"

    return scenario


def _clients_connect(scene: Scene, opened: ExitStack) -> None:
    """Each is answered, or waits, or is sent away, and comes back as everybody does."""
    for _ in range(_MORE_CLIENTS):
        connection = opened.enter_context(socket.create_connection(scene.stack.address, timeout=_BREAK_S))
        connection.sendall(b"GET /v1/account/balance HTTP/1.1\r\nHost: harkara\r\n\r\n")


def _endpoints_reconnect(scene: Scene, _: ExitStack) -> None:
    scene.sink.ask("behave", "well")  # cuts off what is connected


def _carriers_reconnect(scene: Scene, _: ExitStack) -> None:
    scene.phones.drop()


def _a_service_reconnects(scene: Scene, _: ExitStack) -> None:
    scene.terminate("routing")


@contextmanager
def _few_descriptors(pid: int) -> Iterator[None]:
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    # The limit is on the highest number there may be, not on how many there are.
    highest = max(int(entry.name) for entry in Path(f"/proc/{pid}/fd").iterdir())
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (min(highest + _SPARE, hard), hard))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))


_MOODS: tuple[tuple[Mood, str], ...] = (
    ("refusing", "take no connection"),
    ("hanging", "take everything and answer nothing"),
    ("failing", "answer 500"),
)
_ENDPOINTS = tuple(
    Fault(
        name=f"endpoints-{mood}",
        what=f"webhook endpoints {what} for {_BREAK_S:g} s",
        scenario=endpoints(mood),
        policy=Policy(patience_s=_TOLD_WITHIN_S),
        is_short=mood == "failing",
        is_random=mood != "hanging",
    )
    for mood, what in _MOODS
)
_NEEDS: tuple[tuple[str, Need], ...] = (
    ("ingress", _clients_connect),
    ("webhook-dispatcher", _endpoints_reconnect),
    ("sms-sender", _carriers_reconnect),
    ("nats", _a_service_reconnects),
)
_DESCRIPTORS = tuple(
    Fault(
        name=f"{name}-descriptors",
        what=f"{name} may open no more files and connections for {_BREAK_S:g} s, and needs some",
        scenario=starve_of_descriptors(name, need),
        policy=_UNSURE if name == "sms-sender" else Policy(),
        validity_s=_UNSURE_VALIDITY_S if name == "sms-sender" else None,
        is_short=name == "ingress",
        is_random=name != "sms-sender",
    )
    for name, need in _NEEDS
)
FAULTS = (*_ENDPOINTS, *_DESCRIPTORS)
