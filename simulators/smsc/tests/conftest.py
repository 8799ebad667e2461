"""A simulator on free ports, an ESME bound to it, and its view over HTTP."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import pytest

from harkara_smpp import Accepted, Delivery, Esme, EsmeConfig, EsmeState, Outcome, Receipt, SubmitSm, parse_receipt
from harkara_smsc_simulator.app import Running, Settings, running

_PATIENCE_S = 10.0


class Carrier:
    """An ESME and what it got: outcomes by context, receipts by message id, messages from phones."""

    def __init__(self, port: int, system_id: str, **changes: Any) -> None:
        self.outcomes: dict[Any, Outcome] = {}
        self.receipts: list[Receipt] = []
        self.from_phones: list[Delivery] = []
        self.events: list[str] = []
        self.bound = False
        self.rejects_with = 0
        self._changed = asyncio.Event()
        settings: dict[str, Any] = {"tps": 1e6, "window": 100, "reconnect_first_s": 0.02, "drain_timeout_s": 0.2}
        self.esme: Esme[Any] = Esme(
            EsmeConfig(host="127.0.0.1", port=port, system_id=system_id, **(settings | changes)),
            on_outcomes=self._on_outcomes,
            on_deliver=self._on_deliver,
            on_state=lambda change: self._on_state(change.state),
        )

    def _on_state(self, state: EsmeState) -> None:
        self.bound = state is EsmeState.BOUND
        self._changed.set()

    def _on_outcomes(self, outcomes: list[tuple[Any, Outcome]]) -> None:
        self.outcomes |= dict(outcomes)
        self.events += ["outcome"] * len(outcomes)
        self._changed.set()

    def _on_deliver(self, deliveries: list[Delivery]) -> None:
        for delivery in deliveries:
            receipt = parse_receipt(delivery.pdu)
            if self.rejects_with:
                delivery.reject(self.rejects_with)
                self.rejects_with = 0
            elif receipt is None:
                delivery.accept()
                self.from_phones.append(delivery)
            else:
                delivery.accept()
                self.receipts.append(receipt)
                self.events.append("receipt")
        self._changed.set()

    async def until(self, holds: Callable[[], object]) -> None:
        async with asyncio.timeout(_PATIENCE_S):
            while not holds():
                self._changed.clear()
                await self._changed.wait()

    def submit(self, context: Any, to: str = "919876543210", text: bytes = b"Hello", **fields: Any) -> None:
        pdu = SubmitSm(
            source_addr_ton=5,
            source_addr="HARKRA",
            dest_addr_ton=1,
            dest_addr_npi=1,
            destination_addr=to,
            short_message=text,
            **({"registered_delivery": 1} | fields),
        )
        self.esme.submit(pdu, context)

    async def send(self, context: Any, to: str = "919876543210", text: bytes = b"Hello", **fields: Any) -> Outcome:
        """Submit one message and wait for its outcome."""
        self.submit(context, to, text, **fields)
        await self.until(lambda: context in self.outcomes)
        return self.outcomes[context]

    async def accepted_id(self, context: Any) -> str:
        await self.until(lambda: context in self.outcomes)
        outcome = self.outcomes[context]
        assert isinstance(outcome, Accepted)
        return outcome.message_id


class View:
    """The simulator's HTTP side."""

    def __init__(self, client: aiohttp.ClientSession) -> None:
        self._client = client

    async def get(self, path: str) -> Any:
        async with self._client.get(path) as response:
            assert response.status == 200, await response.text()
            return await response.json()

    async def text(self, path: str) -> str:
        async with self._client.get(path) as response:
            assert response.status == 200
            return await response.text()

    async def call(self, method: str, path: str, value: Any = None) -> tuple[int, Any]:
        async with self._client.request(method, path, json=value) as response:
            is_json = response.content_type == "application/json"
            return response.status, await response.json() if is_json else await response.text()


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture
async def simulator(stack: AsyncExitStack) -> Running:
    return await stack.enter_async_context(running(Settings(port=0, http_port=0, keep=1_000)))


@pytest.fixture
async def view(stack: AsyncExitStack, simulator: Running) -> View:
    client = aiohttp.ClientSession(f"http://127.0.0.1:{simulator.http_port}")
    return View(await stack.enter_async_context(client))


@pytest.fixture
async def new_carrier(stack: AsyncExitStack, simulator: Running) -> Callable[..., Awaitable[Carrier]]:
    async def new(system_id: str = "carrier", **changes: Any) -> Carrier:
        carrier = Carrier(simulator.port, system_id, **changes)
        await carrier.esme.start()
        stack.push_async_callback(carrier.esme.stop)
        await carrier.until(lambda: carrier.bound)
        return carrier

    return new


@pytest.fixture
async def carrier(new_carrier: Callable[..., Awaitable[Carrier]]) -> Carrier:
    return await new_carrier()
