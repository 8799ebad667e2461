"""What the sender says of its carriers: a bind that stands is not yet a carrier that takes messages."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from harkara_chassis import Service
from harkara_sms_sender import condition


async def until(is_true: Callable[[], bool], timeout_s: float = 10.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not is_true():
            await asyncio.sleep(0.01)


def state_of(service: Service[Any], name: str = "jio") -> str:
    return str(next(one["state"] for one in service.health().details["carriers"] if one["name"] == name))


async def test_a_carrier_that_is_up_is_no_news(simulate: Any, senders: Any) -> None:
    async with simulate() as smsc, senders(smsc.port, binds=2) as service:
        await until(lambda: state_of(service) == "up")
        health = service.health()
        assert (health.problems, health.warnings) == ([], [])
        (jio,) = health.details["carriers"]
        assert (jio["binds_up"], jio["binds"], jio["is_used"]) == (2, 2, True)


async def test_without_any_carrier_nothing_flows_and_yet_the_service_has_started(
    senders: Any, unused_port: int
) -> None:
    async with senders(unused_port) as service:
        assert service.start_problems() == []
        (problem,) = service.health().problems
        assert problem.startswith("carriers: none takes messages (jio is down for ")
        assert "cannot connect" in problem


async def test_one_dead_carrier_of_two_is_a_warning(simulate: Any, senders: Any, unused_port: int) -> None:
    dead = {"name": "airtel", "host": "127.0.0.1", "port": unused_port, "system_id": "harkara"}
    unused = {**dead, "name": "retired", "weight": 0}
    async with simulate() as smsc, senders(smsc.port, [dead, unused]) as service:
        await until(lambda: state_of(service) == "up" and state_of(service, "airtel") == "down")
        health = service.health()
        assert health.problems == []
        (warning,) = health.warnings
        assert warning.startswith("carrier airtel is down for ")


async def test_a_carrier_that_answers_nothing_is_silent_until_it_answers(
    funded: Any, bus: Any, simulate: Any, senders: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(condition, "SILENT_S", 0.2)
    async with (
        simulate(response_loss=1.0, receipts=False) as smsc,
        senders(smsc.port, response_timeout_s=2.0) as service,
    ):
        await until(lambda: state_of(service) == "up")
        await bus.publish([funded()])
        await until(lambda: state_of(service) == "silent")
        assert "jio is silent for " in service.health().problems[0]
        smsc.engine.behaviours.change({"response_loss": 0.0})
        await bus.publish([funded()])
        await until(lambda: service.health().is_ready)


async def test_a_silence_is_forgotten_when_nobody_asks_any_more(
    funded: Any, bus: Any, simulate: Any, senders: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(condition, "SILENT_S", 0.1)
    monkeypatch.setattr("harkara_smpp.esme._SILENCE_KEPT_S", 1.0)
    async with (
        simulate(response_loss=1.0, receipts=False) as smsc,
        senders(smsc.port, response_timeout_s=0.3) as service,
    ):
        await bus.publish([funded()])
        await until(lambda: state_of(service) == "silent")
        await until(lambda: state_of(service) == "up")


async def test_a_carrier_that_throttles_is_a_warning_until_it_stops(
    funded: Any, bus: Any, simulate: Any, senders: Any
) -> None:
    async with simulate(throttle_fraction=1.0, receipts=False) as smsc, senders(smsc.port, tps=1_000) as service:
        await until(lambda: state_of(service) == "up")
        await bus.publish([funded()])
        await until(lambda: service.health().warnings == ["carrier jio is throttled"])
        assert service.health().is_ready
        smsc.engine.behaviours.change({"throttle_fraction": 0.0})
        await until(lambda: state_of(service) == "up", timeout_s=20)


async def test_one_bind_of_two_is_partly(simulate: Any, senders: Any) -> None:
    async with simulate() as smsc, senders(smsc.port, binds=2) as service:
        await until(lambda: state_of(service) == "up")
        smsc.engine.drop_connections()
        await until(lambda: "partly up" in str(service.health().warnings) or not service.health().is_ready)
        await until(lambda: state_of(service) == "up", timeout_s=20)
