"""Debian's kannel as the ESME against the SMSC simulator: bearerbox speaks SMPP, smsbox takes and gives messages over HTTP."""

import asyncio
import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from harkara_smsc_simulator.app import Running, Settings, running
from harkara_smsc_simulator.behaviour import Behaviour
from harkara_smsc_simulator.magic import MAGIC_NUMBERS

_PATIENCE_S = 30.0
_PHONE = "919876543210"
_DELIVERED, _FAILED, _SMSC_ACCEPTED, _SMSC_REJECTED = "1", "2", "8", "16"

_CONFIGURATION = """
group = core
admin-port = {admin_port}
admin-password = bar
admin-interface = 127.0.0.1
smsbox-port = {box_port}
smsbox-interface = 127.0.0.1
box-allow-ip = 127.0.0.1
log-level = 4
sms-resend-freq = 1

group = smsc
smsc = smpp
smsc-id = simulator
host = 127.0.0.1
port = {smpp_port}
transceiver-mode = true
smsc-username = kannel
smsc-password = secret
system-type = VMA
enquire-link-interval = 1
reconnect-delay = 1
msg-id-type = 0x01

group = smpp-tlv
name = entity
tag = 0x1400
type = octetstring
length = 19
smsc-id = simulator

group = smsbox
bearerbox-host = 127.0.0.1
bearerbox-port = {box_port}
sendsms-port = {send_port}
sendsms-interface = 127.0.0.1
log-level = 4

group = sendsms-user
username = tester
password = secret
max-messages = 10
concatenation = true

group = sms-service
keyword = default
max-messages = 0
catch-all = true
get-url = "http://127.0.0.1:{callback_port}/mo?from=%p&to=%P&text=%b"
"""


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return ports


class Kannel:
    """Kannel running, the simulator it is bound to, and the calls it made back."""

    def __init__(self, client: aiohttp.ClientSession, simulator: Running, send_port: int, callback_port: int) -> None:
        self._client = client
        self._view = f"http://127.0.0.1:{simulator.http_port}"
        self._send = f"http://127.0.0.1:{send_port}/cgi-bin/sendsms"
        self._callback = f"http://127.0.0.1:{callback_port}"
        self.simulator = simulator
        self.calls: asyncio.Queue[tuple[str, dict[str, str]]] = asyncio.Queue()

    async def called(self, request: web.Request) -> web.Response:
        self.calls.put_nowait((request.path, dict(request.query)))
        return web.Response()

    async def call(self) -> tuple[str, dict[str, str]]:
        """The next HTTP call that kannel made."""
        async with asyncio.timeout(_PATIENCE_S):
            return await self.calls.get()

    async def send(self, **parameters: str) -> None:
        """Have a message sent, with word of what becomes of it (`call` gives /dlr with its type)."""
        query = {
            "username": "tester",
            "password": "secret",
            "from": "HARKRA",
            "to": _PHONE,
            "dlr-mask": "31",
            "dlr-url": f"{self._callback}/dlr?type=%d",
        }
        async with self._client.get(self._send, params=query | parameters) as response:
            assert response.status == 202, await response.text()

    async def messages(self, to: str = _PHONE) -> list[dict[str, Any]]:
        async with self._client.get(f"{self._view}/messages", params={"to": to}) as response:
            return list(await response.json())

    async def stats(self) -> dict[str, Any]:
        async with self._client.get(f"{self._view}/stats") as response:
            return dict(await response.json())

    async def post(self, path: str, **values: str) -> None:
        async with self._client.post(self._view + path, json=values) as response:
            assert response.status == 202


@pytest.fixture(scope="session")
def program() -> str:
    """What runs kannel's programs; they are fetched once into a folder of this checkout."""
    folder = Path(__file__).parents[2] / ".harkara" / "peers" / "kannel"
    script = str(Path(__file__).with_name("fetch_kannel.sh"))
    subprocess.run([script, str(folder)], check=True, timeout=300)  # noqa: S603  # our own script
    return str(folder / "run")


async def _until_accepting(port: int) -> None:
    async with asyncio.timeout(_PATIENCE_S):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionRefusedError:
                await asyncio.sleep(0.05)  # another program's socket: there is nothing to await
            else:
                writer.close()
                return


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.terminate()
    async with asyncio.timeout(_PATIENCE_S):
        await process.wait()


@pytest.fixture
async def kannel(program: str, tmp_path: Path) -> AsyncIterator[Kannel]:
    admin_port, box_port, send_port, callback_port = _free_ports(4)
    async with AsyncExitStack() as stack:
        settings = Settings(port=0, http_port=0, behaviour=Behaviour(id_form="hex_then_decimal", receipt_tlvs=False))
        simulator = await stack.enter_async_context(running(settings))
        client = await stack.enter_async_context(aiohttp.ClientSession())
        kannel = Kannel(client, simulator, send_port, callback_port)
        callbacks = web.Application()
        callbacks.router.add_get("/{path:.*}", kannel.called)
        runner = web.AppRunner(callbacks)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", callback_port).start()

        configuration = tmp_path / "kannel.conf"
        configuration.write_text(
            _CONFIGURATION.format(
                admin_port=admin_port,
                box_port=box_port,
                send_port=send_port,
                callback_port=callback_port,
                smpp_port=simulator.port,
            )
        )
        for box, port in (("bearerbox", box_port), ("smsbox", send_port)):
            process = await asyncio.create_subprocess_exec(
                program, box, str(configuration), stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
            )
            stack.push_async_callback(_stop, process)
            await _until_accepting(port)
        async with asyncio.timeout(_PATIENCE_S):
            while "kannel" not in (await kannel.stats())["sessions"]:
                await asyncio.sleep(0.05)
        yield kannel


async def test_a_message_its_receipt_and_its_parameters(kannel: Kannel) -> None:
    await kannel.send(text="Hello from kannel: @$ {}", **{"meta-data": "?smpp?entity=1101172974420810001"})
    assert [await kannel.call(), await kannel.call()] == [
        ("/dlr", {"type": _SMSC_ACCEPTED}),
        ("/dlr", {"type": _DELIVERED}),
    ]
    (message,) = await kannel.messages()
    assert message["from"] == "HARKRA"
    assert message["text"] == "Hello from kannel: @$ {}"
    assert message["tlvs"] == [{"0x1400": "1101172974420810001"}]
    assert message["receipt"] == "DELIVRD"
    stats = await kannel.stats()
    assert (stats["submits"], stats["receipts"], stats["acknowledged"]) == (1, 1, 1)


async def test_a_long_message_in_hindi_is_one_message_on_the_phone(kannel: Kannel) -> None:
    text = "नमस्ते! आपका ऑर्डर भेज दिया गया है। " * 6
    await kannel.send(text=text, charset="UTF-8", coding="2")
    for _ in range(2):
        await kannel.call()
    (message,) = await kannel.messages()
    assert message["text"] == text
    assert (message["data_coding"], message["complete"]) == (8, True)
    assert message["parts"] == 4


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("failed_absent", [_SMSC_ACCEPTED, _FAILED]),
        ("failed_rejected", [_SMSC_REJECTED]),
        ("throttled_once", [_SMSC_ACCEPTED, _DELIVERED]),
    ],
)
async def test_failures_are_understood(kannel: Kannel, name: str, expected: list[str]) -> None:
    await kannel.send(to=MAGIC_NUMBERS[name], text="x")
    assert [(await kannel.call())[1]["type"] for _ in expected] == expected


async def test_a_mobile_originated_message_arrives(kannel: Kannel) -> None:
    await kannel.post("/messages", **{"from": _PHONE, "to": "56161", "text": "STOP ALL"})
    path, query = await kannel.call()
    assert path == "/mo"
    assert query["from"].lstrip("+") == _PHONE
    assert (query["to"], query["text"]) == ("56161", "STOP ALL")


async def test_a_dropped_connection_comes_back_and_receipts_wait_for_it(kannel: Kannel) -> None:
    kannel.simulator.engine.behaviours.change({"receipt_delay_s": 0.2})
    await kannel.send(text="receipt later")
    assert (await kannel.call())[1]["type"] == _SMSC_ACCEPTED
    assert kannel.simulator.engine.drop_connections("kannel") == 1
    assert (await kannel.call())[1]["type"] == _DELIVERED
