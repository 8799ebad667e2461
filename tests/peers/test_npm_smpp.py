"""The ESME against an SMSC made with the npm package `smpp`: a mistake that both of our ends shared would show here."""

import asyncio
import json
import shutil
import subprocess
from collections.abc import AsyncIterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from harkara_smpp import (
    Accepted,
    CommandStatus,
    Delivery,
    Esme,
    EsmeConfig,
    EsmeState,
    IdRule,
    MessageState,
    Outcome,
    QuerySm,
    Rejected,
    StateChange,
    SubmitSm,
    Unknown,
    is_receipt,
    parse_receipt,
    receipt_key,
    response_key,
)

_FOLDER = Path(__file__).parent / "npm_smpp"
_PATIENCE_S = 20.0


class Peer:
    """The SMSC's process: what it saw, in order, and commands to it. Its output is read all the time, or it would stall."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._seen: list[dict[str, Any]] = []
        self._more = asyncio.Event()
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            self._seen.append(json.loads(line))
            self._more.set()

    async def event(self, name: str) -> dict[str, Any]:
        """The next event of this name; the ones before it stay to be asked for."""
        async with asyncio.timeout(_PATIENCE_S):
            while True:
                for position, event in enumerate(self._seen):
                    if event["event"] == name:
                        return self._seen.pop(position)
                self._more.clear()
                await self._more.wait()

    async def command(self, **values: Any) -> None:
        """Have it carried out, or begun."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(values).encode() + b"\n")
        await self.event("commanded")

    async def end(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        async with asyncio.timeout(_PATIENCE_S):
            await self._process.wait()
            await self._reader


def _put_all(queue: asyncio.Queue[Any], items: Sequence[Any]) -> None:
    for item in items:
        queue.put_nowait(item)


class Application:
    """What the ESME reported, to be awaited."""

    def __init__(self, port: int, **changes: Any) -> None:
        self.outcomes: asyncio.Queue[tuple[Any, Outcome]] = asyncio.Queue()
        self.deliveries: asyncio.Queue[Delivery] = asyncio.Queue()
        self.states: asyncio.Queue[StateChange] = asyncio.Queue()
        settings: dict[str, Any] = {
            "host": "127.0.0.1",
            "port": port,
            "system_id": "harkara",
            "password": "secret",
            "reconnect_first_s": 0.05,
        } | changes
        self.esme: Esme[Any] = Esme(
            EsmeConfig(**settings),
            on_outcomes=partial(_put_all, self.outcomes),
            on_deliver=partial(_put_all, self.deliveries),
            on_state=self.states.put_nowait,
        )

    async def state(self, wanted: EsmeState) -> StateChange:
        async with asyncio.timeout(_PATIENCE_S):
            while (change := await self.states.get()).state is not wanted:
                pass
        return change

    async def outcome(self) -> tuple[Any, Outcome]:
        async with asyncio.timeout(_PATIENCE_S):
            return await self.outcomes.get()

    async def delivery(self) -> Delivery:
        async with asyncio.timeout(_PATIENCE_S):
            return await self.deliveries.get()


@pytest.fixture(scope="session")
def installed() -> str:
    """The path of node, with the package installed as the lock file says."""
    node, npm = shutil.which("node"), shutil.which("npm")
    assert node is not None, "node 18 or newer must be on the machine"
    assert npm is not None, "npm must be on the machine"
    lock = _FOLDER / "package-lock.json"
    stamp = _FOLDER / "node_modules" / ".installed"
    if not stamp.exists() or stamp.read_text() != lock.read_text():
        command = [npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
        subprocess.run(command, cwd=_FOLDER, check=True, capture_output=True, timeout=300)  # noqa: S603  # fixed words
        stamp.write_text(lock.read_text())
    return node


@pytest.fixture
async def peer(installed: str) -> AsyncIterator[Peer]:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(installed, str(_FOLDER / "server.js"), stdin=pipe, stdout=pipe)
    peer = Peer(process)
    yield peer
    await peer.end()


@pytest.fixture
async def application(peer: Peer) -> AsyncIterator[Application]:
    port = (await peer.event("listening"))["port"]
    application = Application(port, enquire_link_s=1.0, response_timeout_s=1.5, drain_timeout_s=0.2)
    await application.esme.start()
    await application.state(EsmeState.BOUND)
    yield application
    await application.esme.stop()


async def test_every_field_arrives_as_it_was_meant(peer: Peer, application: Application) -> None:
    bind = await peer.event("bind_transceiver")
    assert (bind["system_id"], bind["password"], bind["interface_version"]) == ("harkara", "secret", 0x34)
    application.esme.submit(
        SubmitSm(
            source_addr_ton=5,
            source_addr_npi=0,
            source_addr="HARKRA",
            dest_addr_ton=1,
            dest_addr_npi=1,
            destination_addr="919876543210",
            esm_class=0x40,
            protocol_id=0,
            priority_flag=2,
            validity_period="000001000000000R",
            registered_delivery=1,
            data_coding=8,
            short_message=b"\x05\x00\x03\x07\x02\x01" + "नमस्ते".encode("utf-16-be"),
            tlvs={0x1400: b"1101172974420810001", 0x1401: b"1107161234567890123", 0x1402: b"a" * 64},
        ),
        "hindi",
    )
    seen = await peer.event("submit_sm")
    expected = {
        "source_addr_ton": 5,
        "source_addr_npi": 0,
        "source_addr": "HARKRA",
        "dest_addr_ton": 1,
        "dest_addr_npi": 1,
        "destination_addr": "919876543210",
        "esm_class": 0x40,
        "priority_flag": 2,
        "registered_delivery": 1,
        "data_coding": 8,
        "short_message": (b"\x05\x00\x03\x07\x02\x01" + "नमस्ते".encode("utf-16-be")).hex(),
        str(0x1400): b"1101172974420810001".hex(),
        str(0x1401): b"1107161234567890123".hex(),
        str(0x1402): (b"a" * 64).hex(),
    }
    assert {name: seen.get(name) for name in expected} == expected


async def test_a_receipt_in_decimal_meets_its_response_in_hex(peer: Peer, application: Application) -> None:
    application.esme.submit(SubmitSm(destination_addr="919876543210", registered_delivery=1), "receipt")
    context, outcome = await application.outcome()
    assert isinstance(outcome, Accepted)
    delivery = await application.delivery()
    assert is_receipt(delivery.pdu)
    receipt = parse_receipt(delivery.pdu)
    assert receipt is not None
    assert (context, receipt.state) == ("receipt", MessageState.DELIVRD)
    assert response_key(outcome.message_id, IdRule.HEX_TO_DEC) == receipt_key(receipt, IdRule.HEX_TO_DEC)
    assert response_key(outcome.message_id) != receipt_key(receipt)
    delivery.accept()
    assert (await peer.event("deliver_sm_resp"))["status"] == 0


async def test_refusals_throttles_and_silence(peer: Peer, application: Application) -> None:
    await peer.command(statuses=[int(CommandStatus.ESME_RINVDSTADR), int(CommandStatus.ESME_RTHROTTLED), 0])
    application.esme.submit(SubmitSm(destination_addr="1"), "refused")
    assert await application.outcome() == ("refused", Rejected(CommandStatus.ESME_RINVDSTADR))
    application.esme.submit(SubmitSm(destination_addr="2"), "throttled")
    context, outcome = await application.outcome()
    assert context == "throttled"
    assert isinstance(outcome, Accepted)
    assert [(await peer.event("submit_sm"))["destination_addr"] for _ in range(3)] == ["1", "2", "2"]
    await peer.command(silence=1)
    application.esme.submit(SubmitSm(destination_addr="3"), "silent")
    context, outcome = await application.outcome()
    assert context == "silent"
    assert isinstance(outcome, Unknown)


async def test_a_mobile_originated_message(peer: Peer, application: Application) -> None:
    text = "STOP ✓".encode("utf-16-be")
    await peer.command(
        deliver={
            "source_addr": "919812345678",
            "destination_addr": "56161",
            "data_coding": 8,
            "short_message": text.hex(),
        }
    )
    delivery = await application.delivery()
    pdu = delivery.pdu
    assert not is_receipt(pdu)
    assert (pdu.source_addr, pdu.destination_addr, pdu.data_coding) == ("919812345678", "56161", 8)
    assert pdu.short_message == text
    delivery.reject(CommandStatus.ESME_RX_T_APPN)
    assert (await peer.event("deliver_sm_resp"))["status"] == CommandStatus.ESME_RX_T_APPN


async def test_enquire_link_both_ways_and_query(peer: Peer, application: Application) -> None:
    await peer.command(enquire=True)
    assert (await peer.event("enquire_link_resp"))["status"] == 0
    answer = await application.esme.query(QuerySm("1268"))
    assert (answer.message_id, answer.message_state) == ("1268", MessageState.ENROUTE)
    await peer.event("enquire_link")


@pytest.mark.parametrize("end", ["unbind", "destroy"])
async def test_the_bind_comes_back(peer: Peer, application: Application, end: str) -> None:
    await peer.command(**{end: True})
    await application.state(EsmeState.WAITING)
    await application.state(EsmeState.BOUND)
    if end == "unbind":
        assert (await peer.event("unbind_resp"))["status"] == 0
    application.esme.submit(SubmitSm(destination_addr="1"), "again")
    assert isinstance((await application.outcome())[1], Accepted)


async def test_stop_unbinds(peer: Peer, application: Application) -> None:
    await application.esme.stop()
    await peer.event("unbind")


async def test_a_wrong_password_is_surfaced(peer: Peer) -> None:
    application = Application((await peer.event("listening"))["port"], password="wrong")
    await application.esme.start()
    refused = await application.state(EsmeState.REFUSED)
    assert refused.command_status == CommandStatus.ESME_RINVPASWD
    await application.esme.stop()


async def test_thousands_of_messages_with_receipts(peer: Peer, application: Application) -> None:
    fast = Application(application.esme.config.port, window=200, tps=50_000, queue_limit=5_000, max_unanswered=5_000)
    await fast.esme.start()
    await fast.state(EsmeState.BOUND)
    for number in range(3_000):
        fast.esme.submit(SubmitSm(destination_addr=str(number), registered_delivery=1), number)
    ids = set()
    for _ in range(3_000):
        _, outcome = await fast.outcome()
        assert isinstance(outcome, Accepted)
        ids.add(response_key(outcome.message_id, IdRule.HEX_TO_DEC))
    receipts = set()
    for _ in range(3_000):
        delivery = await fast.delivery()
        receipt = parse_receipt(delivery.pdu)
        assert receipt is not None
        receipts.add(receipt_key(receipt, IdRule.HEX_TO_DEC))
        delivery.accept()
    assert ids == receipts
    await fast.esme.stop()
