"""Processes and servers that are killed, ended, frozen and slowed, one by one and all at once.

The supervisor (`harkara up`) starts again what ends, so these faults heal by themselves and recovery is counted from their
beginning; what is frozen is healed by letting it go on.
"""

import time

from tests.chaos.fault import Fault, Policy, Scenario
from tests.chaos.scene import SERVERS, SERVICES, Scene

SENDER = "sms-sender"
_FREEZE_SERVER_S = 10.0
_FREEZE_SERVICE_S, _ROUNDS, _BETWEEN_S = 15.0, 2, 2.0
"""Longer than any consumer waits before it gives out a message again: what was in hand is elsewhere by then."""

_SLOW_S = 10.0
_STANDS_STILL_S, _GOES_ON_S = 0.18, 0.02
_LOAD_AROUND_S = 4.0


def kill(*names: str) -> Scenario:
    def scenario(scene: Scene) -> None:
        _at_random_moment(scene)
        scene.kill(*names)

    return scenario


def terminate(*names: str) -> Scenario:
    def scenario(scene: Scene) -> None:
        _at_random_moment(scene)
        scene.terminate(*names)

    return scenario


def freeze(seconds: float, name: str, rounds: int = 1) -> Scenario:
    def scenario(scene: Scene) -> None:
        _at_random_moment(scene, lasts_s=seconds * rounds)
        for number in range(rounds):
            scene.wait(_BETWEEN_S if number else 0.0)
            scene.freeze(name)
            scene.wait(seconds)
            scene.thaw(name)

    return scenario


def slow(seconds: float, name: str) -> Scenario:
    """It stands still nine tenths of the time, in short turns: everything it does takes ten times as long."""

    def scenario(scene: Scene) -> None:
        _at_random_moment(scene, lasts_s=seconds)
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            scene.freeze(name)
            scene.wait(_STANDS_STILL_S)
            scene.thaw(name)
            scene.wait(_GOES_ON_S)

    return scenario


def _at_random_moment(scene: Scene, lasts_s: float = 0.0) -> None:
    """In the first part of the load, so that it goes on while the fault lasts and after it."""
    latest = max(0.1, min(0.6, 1.0 - lasts_s / scene.load_s))
    scene.wait_until(scene.random.uniform(0.1, latest))


def _policy(*names: str) -> Policy:
    return Policy(otp_may_double=SENDER in names)


_KILLED = tuple(
    Fault(
        name=f"{name}-killed",
        what=f"kill -9 of {name}",
        scenario=kill(name),
        policy=_policy(name),
    )
    for name in (*SERVICES, *SERVERS)
)
_TERMINATED = tuple(
    Fault(
        name=f"{name}-restarted",
        what=f"{name} ended in good order, started again",
        scenario=terminate(name),
        is_short=name == "nats",
    )
    for name in (*SERVICES, *SERVERS)
)
_FROZEN_SERVERS = tuple(
    Fault(
        name=f"{name}-frozen",
        what=f"SIGSTOP of {name} for {_FREEZE_SERVER_S:g} s",
        scenario=freeze(_FREEZE_SERVER_S, name),
        load_s=_FREEZE_SERVER_S + _LOAD_AROUND_S,
    )
    for name in SERVERS
)
_SLOW_SERVERS = tuple(
    Fault(
        name=f"{name}-slow",
        what=f"{name} runs a tenth of the time for {_SLOW_S:g} s",
        scenario=slow(_SLOW_S, name),
        load_s=_SLOW_S + _LOAD_AROUND_S,
    )
    for name in SERVERS
)
_FROZEN_SERVICES = tuple(
    Fault(
        name=f"{name}-frozen",
        what=f"SIGSTOP of {name} for {_FREEZE_SERVICE_S:g} s, twice",
        scenario=freeze(_FREEZE_SERVICE_S, name, _ROUNDS),
        load_s=_ROUNDS * (_FREEZE_SERVICE_S + _BETWEEN_S) + _LOAD_AROUND_S,
        policy=_policy(name),
    )
    for name in ("routing", "billing", SENDER)
)
_AT_ONCE = (
    Fault(
        name="services-killed",
        what="kill -9 of all six services at once",
        scenario=kill(*SERVICES),
        policy=_policy(*SERVICES),
    ),
    Fault(
        name="services-restarted",
        what="all six services ended in good order at once",
        scenario=terminate(*SERVICES),
        is_short=True,
    ),
    Fault(name="servers-killed", what="kill -9 of NATS, Postgres and Valkey at once", scenario=kill(*SERVERS)),
    Fault(
        name="everything-killed",
        what="kill -9 of all services and all servers at once",
        scenario=kill(*SERVICES, *SERVERS),
        policy=_policy(*SERVICES),
        is_short=True,
    ),
)
_SHORT = (
    Fault(
        name="postgres-frozen-shortly",
        what="SIGSTOP of postgres for 3 s",
        scenario=freeze(3.0, "postgres"),
        is_short=True,
    ),
)

FAULTS = (*_KILLED, *_TERMINATED, *_FROZEN_SERVERS, *_SLOW_SERVERS, *_FROZEN_SERVICES, *_AT_ONCE, *_SHORT)
