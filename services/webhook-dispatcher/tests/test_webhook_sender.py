import asyncio
import datetime as dt
import ipaddress
import socket
import ssl
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohappyeyeballs import AddrInfoType
from aiohttp import web
from aiohttp.test_utils import TestServer
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from standardwebhooks import Webhook
from yarl import URL

from harkara_chassis.clock import now_utc
from harkara_contracts.subjects import Lane
from harkara_webhook_dispatcher.delivery import Delivery
from harkara_webhook_dispatcher.endpoint import Endpoint
from harkara_webhook_dispatcher.sender import Sender
from harkara_webhook_dispatcher.settings import Settings
from harkara_webhook_dispatcher.signature import SigningKey, new_secret

SECRET = new_secret()


@dataclass
class Received:
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class ClientServer:
    """A client's server. `respond_on[path]` answers; a path that nobody set answers 200."""

    base_url: str = ""
    received: list[Received] = field(default_factory=list)
    respond_on: dict[str, Callable[[web.Request], Awaitable[web.StreamResponse]]] = field(default_factory=dict)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.received.append(Received(request.path, dict(request.headers), await request.read()))
        respond = self.respond_on.get(request.path)
        return web.Response(text="thanks") if respond is None else await respond(request)


@pytest.fixture
async def client() -> AsyncIterator[ClientServer]:
    made = ClientServer()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", made.handle)
    async with TestServer(app) as server:
        made.base_url = str(server.make_url("")).rstrip("/")
        yield made


def endpoint(url: str) -> Endpoint:
    return Endpoint(
        webhook_id="WH1",
        account_id="ACC1",
        url=URL(url),
        events=frozenset(),
        description="",
        status="active",
        reason=None,
        created_at=now_utc(),
        key=SigningKey.of(SECRET),
        previous_key=None,
        overlap_ends_at=None,
        failing_since=None,
    )


def delivery() -> Delivery:
    now = now_utc()
    body = '{"event":"message.delivered","text":"₹"}'.encode()
    return Delivery("DL20261122A", now.date(), "ACC1", "WH1", "message.delivered", "TN1", Lane.OTP, body, now)


@pytest.fixture
async def sender() -> AsyncIterator[Sender]:
    async with Sender(Settings(webhook_sandbox=True, webhook_timeout_s=0.5)) as made:
        yield made


async def test_the_signed_body_arrives_byte_for_byte(client: ClientServer, sender: Sender) -> None:
    answer = await sender.post(endpoint(client.base_url + "/hooks?a=1"), delivery())
    assert (answer.status_code, answer.error, answer.response_head) == (200, None, "thanks")
    [got] = client.received
    assert got.body == delivery().body
    assert got.headers["Content-Type"] == "application/json"
    assert got.headers["webhook-id"] == "DL20261122A"
    assert got.headers["X-TechTo-Signature"].startswith("sha256=")
    assert Webhook(SECRET).verify(got.body, got.headers)


async def test_connections_are_kept(client: ClientServer, sender: Sender) -> None:
    ports = set()

    async def note_port(request: web.Request) -> web.Response:
        assert request.transport is not None
        ports.add(request.transport.get_extra_info("peername")[1])
        return web.Response()

    client.respond_on["/"] = note_port
    for _ in range(5):
        await sender.post(endpoint(client.base_url), delivery())
    assert len(ports) == 1


async def test_a_redirect_is_a_failure_and_not_followed(client: ClientServer, sender: Sender) -> None:
    async def redirect(_: web.Request) -> web.StreamResponse:
        raise web.HTTPTemporaryRedirect(client.base_url + "/elsewhere")

    client.respond_on["/hooks"] = redirect
    answer = await sender.post(endpoint(client.base_url + "/hooks"), delivery())
    assert answer.status_code == 307
    assert not answer.is_success
    assert not [one for one in client.received if one.path == "/elsewhere"]


async def test_gone_is_told_apart(client: ClientServer, sender: Sender) -> None:
    async def gone(_: web.Request) -> web.StreamResponse:
        return web.Response(status=410)

    client.respond_on["/hooks"] = gone
    assert (await sender.post(endpoint(client.base_url + "/hooks"), delivery())).is_gone


async def test_retry_after_is_read_from_a_failure_only(client: ClientServer, sender: Sender) -> None:
    async def busy(request: web.Request) -> web.StreamResponse:
        return web.Response(status=int(request.query["status"]), headers={"Retry-After": "42"})

    client.respond_on["/hooks"] = busy
    failed = await sender.post(endpoint(client.base_url + "/hooks?status=429"), delivery())
    succeeded = await sender.post(endpoint(client.base_url + "/hooks?status=202"), delivery())
    assert (failed.retry_after_s, succeeded.retry_after_s) == (42.0, None)


async def test_one_deadline_for_headers_and_body(client: ClientServer, sender: Sender) -> None:
    async def dripping(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b".")
            await asyncio.sleep(0.1)

    client.respond_on["/hooks"] = dripping
    answer = await sender.post(endpoint(client.base_url + "/hooks"), delivery())
    assert answer.error == "no answer within 0.5 s"
    assert 450 <= answer.latency_ms <= 2_000


async def test_a_huge_answer_is_read_in_part_only(client: ClientServer, sender: Sender) -> None:
    async def huge(_: web.Request) -> web.StreamResponse:
        return web.Response(body=b"x" * 50_000_000)

    client.respond_on["/hooks"] = huge
    answer = await sender.post(endpoint(client.base_url + "/hooks"), delivery())
    assert answer.is_success
    assert answer.response_head == "x" * 512


async def test_a_compressed_answer_is_not_unpacked(client: ClientServer, sender: Sender) -> None:
    packed = zlib.compress(b"x" * 1_000_000)

    async def bomb(_: web.Request) -> web.StreamResponse:
        return web.Response(body=packed, headers={"Content-Encoding": "deflate"})

    client.respond_on["/hooks"] = bomb
    answer = await sender.post(endpoint(client.base_url + "/hooks"), delivery())
    assert answer.is_success
    assert answer.response_head is not None
    assert "xxx" not in answer.response_head


async def test_control_characters_do_not_reach_the_log(client: ClientServer, sender: Sender) -> None:
    async def odd(_: web.Request) -> web.StreamResponse:
        return web.Response(body=b"a\x00b\x1b[31m\xff\nc")

    client.respond_on["/hooks"] = odd
    answer = await sender.post(endpoint(client.base_url + "/hooks"), delivery())
    assert answer.response_head == "a b [31m\ufffd\nc"


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "the connection broke before the answer"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "the answer is not valid HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort", "the connection broke in the middle of the answer"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"a" * 100_000 + b"\r\n\r\n", "the answer is not valid HTTP"),
    ],
)
async def test_a_broken_answer_is_told_in_plain_words(sender: Sender, raw: bytes, words: str) -> None:
    async def answer_raw(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(len(delivery().body))
        writer.write(raw)
        writer.close()

    server = await asyncio.start_server(answer_raw, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        answer = await sender.post(endpoint(f"http://127.0.0.1:{port}/"), delivery())
    assert answer.error == words


async def test_nobody_listening(sender: Sender) -> None:
    server = await asyncio.start_server(lambda _r, _w: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    answer = await sender.post(endpoint(f"http://127.0.0.1:{port}/"), delivery())
    assert answer.error == "the connection could not be made"


async def test_a_name_without_address(sender: Sender) -> None:
    answer = await sender.post(endpoint("http://nowhere.invalid/"), delivery())
    assert answer.error == "the host's name has no address"


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]", "0x7f.0.0.1", "[::ffff:127.0.0.1]"])
async def test_outside_the_sandbox_nothing_reaches_this_machine(client: ClientServer, host: str) -> None:
    port = URL(client.base_url).port
    async with Sender(Settings(webhook_timeout_s=2)) as strict:
        answer = await strict.post(endpoint(f"http://{host}:{port}/"), delivery())
    assert answer.error is not None
    assert "not public" in answer.error
    assert not client.received


async def test_the_connection_goes_to_the_address_that_was_looked_at_and_keeps_the_name(
    client: ClientServer, sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def once(host: str, port: int) -> list[AddrInfoType]:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("127.0.0.1", port))]

    monkeypatch.setattr("harkara_webhook_dispatcher.guard._addresses", once)
    port = URL(client.base_url).port
    answer = await sender.post(endpoint(f"http://hooks.example.test:{port}/"), delivery())
    assert answer.is_success
    assert asked == ["hooks.example.test"]
    assert client.received[0].headers["Host"] == f"hooks.example.test:{port}"


@pytest.fixture
def self_signed(tmp_path: Path) -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    names = [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("hooks.example.test")]
    now = now_utc()
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    (tmp_path / "certificate.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (tmp_path / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "certificate.pem", tmp_path / "key.pem")
    return context


async def test_a_certificate_nobody_vouches_for_is_refused(sender: Sender, self_signed: ssl.SSLContext) -> None:
    received: list[bytes] = []
    done: Callable[[asyncio.StreamReader, asyncio.StreamWriter], None] = lambda _r, _w: received.append(b"")  # noqa: E731
    server = await asyncio.start_server(done, "127.0.0.1", 0, ssl=self_signed)
    async with server:
        port = server.sockets[0].getsockname()[1]
        answer = await sender.post(endpoint(f"https://127.0.0.1:{port}/"), delivery())
    assert answer.error == "the host's TLS certificate is not valid"
    assert not received


async def test_the_certificate_is_that_of_the_name_while_the_connection_goes_to_the_address_looked_at(
    self_signed: ssl.SSLContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def here(_host: str, port: int) -> list[AddrInfoType]:
        return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("127.0.0.1", port))]

    asked: list[str | None] = []
    self_signed.sni_callback = lambda _connection, name, _context: asked.append(name)
    trusting = ssl.create_default_context(cafile=tmp_path / "certificate.pem")
    monkeypatch.setattr("harkara_webhook_dispatcher.guard._addresses", here)
    monkeypatch.setattr(ssl, "create_default_context", lambda: trusting)
    made = ClientServer()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", made.handle)
    server = TestServer(app)
    await server.start_server(ssl=self_signed)
    async with Sender(Settings(webhook_sandbox=True)) as sender:
        right = await sender.post(endpoint(f"https://hooks.example.test:{server.port}/hooks"), delivery())
        again = await sender.post(endpoint(f"https://hooks.example.test:{server.port}/hooks"), delivery())
        wrong = await sender.post(endpoint(f"https://other.example.test:{server.port}/hooks"), delivery())
    await server.close()
    assert (right.error, again.status_code) == (None, 200)
    assert wrong.error == "the host's TLS certificate is not valid"
    assert asked == ["hooks.example.test", "other.example.test"]
    assert len(made.received) == 2
