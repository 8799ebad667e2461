"""What the tools alone can do, each against next to nothing: a measurement near these rates measures the tools."""

import asyncio
import time
from dataclasses import dataclass
from typing import cast

from bench import load as load_generator
from bench import sink as webhook_sink
from bench.figures import rate_of
from bench.load import FIRST_NUMBER, LoadPlan, LoadResult
from bench.processes import Watch
from bench.worker import BenchError, Requests, Serve, Worker
from harkara_smpp import Accepted, Delivery, Esme, EsmeConfig, EsmeState, Outcome, StateChange, SubmitSm
from harkara_smsc_simulator.app import Settings, running

_ACCEPTED_BODY = b'{"status":"accepted","message_id":"TN20260101BENCH","channel":"sms"}'
_ACCEPTED = b"HTTP/1.1 202 Accepted\r\nContent-Length: %d\r\n\r\n%s" % (len(_ACCEPTED_BODY), _ACCEPTED_BODY)
_TIMEOUT_S = 120.0


@dataclass(frozen=True)
class Floor:
    """`cpu_us` is each tool's CPU, in microseconds a message."""

    name: str
    rate: float
    cpu_us: dict[str, float]


def measure_floor(messages: int, connections: int) -> list[Floor]:
    """Each pair alone, one after the other."""
    return [
        http_floor("generator → trivial responder", serve_responder, messages, connections),
        http_floor("generator → sink", webhook_sink.serve, messages, connections),
        smpp_floor("our ESME → SMSC simulator, with receipts", messages),
    ]


def http_floor(name: str, serve_target: Serve, messages: int, connections: int) -> Floor:
    with Worker("target", serve_target) as target, Worker("load", load_generator.serve) as load:
        plan = LoadPlan(
            host="127.0.0.1", port=target.first_answer, api_key="hk_live_" + "a" * 32, sender="BENCHX",
            template_id="BENCH_SHIPPED", first_number=FIRST_NUMBER, count=messages, connections=connections,
        )  # fmt: skip
        watch = Watch({"target": target.pid, "generator": load.pid})
        result = load.ask("run", plan, timeout_s=_TIMEOUT_S)
        if not isinstance(result, LoadResult) or not all(result.status):
            raise BenchError(f"{name}: not every request was answered")
        return Floor(name, rate_of(result.answered), cpu_us(watch, messages))


def smpp_floor(name: str, messages: int) -> Floor:
    with Worker("smsc", serve_simulator) as smsc, Worker("esme", serve_esme) as esme:
        watch = Watch({"simulator": smsc.pid, "ESME": esme.pid})
        elapsed_s: float = esme.ask("flood", (smsc.first_answer, messages), timeout_s=_TIMEOUT_S)
        return Floor(name, messages / elapsed_s, cpu_us(watch, messages))


def cpu_us(watch: Watch, messages: int) -> dict[str, float]:
    return {name: usage.cpu_s / messages * 1e6 for name, usage in watch.finish().items()}


class _Responder(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but name

    def data_received(self, data: bytes) -> None:
        # The generator sends a request in one piece, and one at a time.
        del data
        self._transport.write(_ACCEPTED)


async def serve_responder(requests: Requests) -> None:
    """Answers 202 to whatever comes."""
    server = await asyncio.get_running_loop().create_server(_Responder, "127.0.0.1", 0)
    requests.answer(server.sockets[0].getsockname()[1])
    await requests.next()


async def serve_simulator(requests: Requests) -> None:
    """The stack's SMSC simulator on free ports."""
    async with running(Settings(port=0, http_port=0)) as simulator:
        requests.answer(simulator.port)
        await requests.next()


async def serve_esme(requests: Requests) -> None:
    """`flood` with (port, messages) gives the seconds until every message has its response and its receipt."""
    requests.answer("ready")
    while True:
        _, (port, messages) = await requests.next()
        requests.answer(await _flood(port, messages))


async def _flood(port: int, messages: int) -> float:
    bound, done = asyncio.Event(), asyncio.Event()
    accepted = receipts = 0

    def look() -> None:
        if accepted >= messages and receipts >= messages:
            done.set()

    def on_outcomes(outcomes: list[tuple[int, Outcome]]) -> None:
        nonlocal accepted
        accepted += sum(isinstance(outcome, Accepted) for _, outcome in outcomes)
        look()

    def on_deliver(deliveries: list[Delivery]) -> None:
        nonlocal receipts
        for delivery in deliveries:
            delivery.accept()
        receipts += len(deliveries)
        look()

    def on_state(change: StateChange) -> None:
        if change.state is EsmeState.BOUND:
            bound.set()

    config = EsmeConfig(host="127.0.0.1", port=port, system_id="bench", tps=1e6, window=100)
    esme = Esme[int](config, on_outcomes=on_outcomes, on_deliver=on_deliver, on_state=on_state)
    await esme.start()
    await asyncio.wait_for(bound.wait(), _TIMEOUT_S)
    began = time.monotonic()
    sent = 0
    while sent < messages:
        for _ in range(min(await esme.room(), messages - sent)):
            esme.submit(
                SubmitSm(
                    source_addr_ton=5, source_addr="BENCHX", dest_addr_ton=1, dest_addr_npi=1,
                    destination_addr=str(FIRST_NUMBER + sent), registered_delivery=1,
                    short_message=b"Dear Asha, your order has been shipped and reaches you by 12 December.",
                ),
                sent,
            )  # fmt: skip
            sent += 1
    await asyncio.wait_for(done.wait(), _TIMEOUT_S)
    elapsed_s = time.monotonic() - began
    await esme.stop()
    return elapsed_s
