"""An edge on a real socket, fed with facts as its neighbours would tell them."""

import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import pytest
from pydantic import SecretStr
from services.ingress.tests.grpc_client import Grpc, GrpcEdge

from harkara_chassis import Service
from harkara_chassis.clock import now_utc
from harkara_chassis.database import Database
from harkara_contracts.facts import AccountFact, ApiKeyFact, BalanceFact, EntityFact, SenderFact, TemplateFact, UrlFact
from harkara_contracts.ids import new_account_id, new_id
from harkara_contracts.subjects import Category, Channel
from harkara_dlt import chain_hash
from harkara_ingress.access.accounts import hash_key, new_api_key
from harkara_ingress.app import build
from harkara_ingress.settings import Settings

OPERATOR_KEY = "hk_op_of_the_tests"
ENTITY = "1101172974420810001"
TELEMARKETER = "1101172974420830004"
LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Client:
    """An account on a running edge, with one of its keys."""

    session: aiohttp.ClientSession
    base_url: str
    account_id: str
    key: str

    async def call(
        self, method: str, path: str, body: Any = None, *, key: str | None = None, **headers: str
    ) -> tuple[int, Any, Any]:
        """Return status, JSON body and headers."""
        sent = {"Authorization": f"Bearer {key or self.key}"}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        data = {"data": body} if isinstance(body, bytes) else {"json": body} if body is not None else {}
        if isinstance(body, bytes):
            sent.setdefault("Content-Type", "application/json")
        async with self.session.request(method, self.base_url + path, headers=sent, **data) as response:
            return response.status, await response.json(), response.headers

    async def send(
        self, *, key: str | None = None, headers: dict[str, str] | None = None, **fields: Any
    ) -> tuple[int, Any, Any]:
        return await self.call("POST", "/v1/sms/send", sms(**fields), key=key, **(headers or {}))


def sms(**fields: Any) -> dict[str, Any]:
    return {
        "to": "919876543210",
        "sender": "HRKARA",
        "template_id": "TN_OTP_001",
        "variables": {"otp": "123456", "minutes": 5},
        "category": "otp",
    } | fields


def account_facts(
    account_id: str, key: str, *, available_mp: int = 10**9, of_key: dict[str, Any] | None = None, **changes: Any
) -> list[Any]:
    """Return what the neighbours would tell of a well-furnished account."""
    version = time.time_ns()
    account: dict[str, Any] = {"name": "Test", "plan": "enterprise", "auto_approve": True} | changes
    return [
        AccountFact(version=version, account_id=account_id, **account),
        ApiKeyFact(
            **{
                "version": version,
                "key_id": new_id("KEY"),
                "account_id": account_id,
                "key_hash": hash_key(key),
                "scopes": ["send", "read", "manage"],
            }
            | (of_key or {})
        ),
        BalanceFact(
            version=version,
            account_id=account_id,
            available_mp=available_mp,
            unit_price_mp={"sms.otp": 28_000, "sms.transactional": 22_000, "sms.promotional": 18_000},
        ),
        EntityFact(
            version=version,
            account_id=account_id,
            entity_id=ENTITY,
            name="Harkara Stores",
            telemarketer_chain=[TELEMARKETER],
            chain_hash=chain_hash((ENTITY, TELEMARKETER)),
        ),
        SenderFact(
            version=version,
            account_id=account_id,
            sender="HRKARA",
            entity_id=ENTITY,
            kind="transactional",
            status="approved",
            created_at=LONG_AGO,
        ),
        TemplateFact(
            version=version,
            account_id=account_id,
            template_id="TN_OTP_001",
            channel=Channel.SMS,
            dlt_template_id="1007172974420840002",
            category=Category.OTP,
            senders=["HRKARA"],
            body="{#num:otp#} is your Harkara login code. It is valid for {#num:minutes#} minutes.",
            status="approved",
            created_at=LONG_AGO,
        ),
        UrlFact(version=version, account_id=account_id, url_id="URL1", kind="domain", value="harkara.example"),
    ]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class Edge:
    """A running edge."""

    service: Any
    session: aiohttp.ClientSession
    base_url: str

    async def client(self, bus: Any, **changes: Any) -> Client:
        """Make an account by facts alone, and wait until the edge knows it."""
        account_id, key = new_account_id(), new_api_key(test_only=False)
        sequence = await bus.publish(account_facts(account_id, key, **changes))
        assert await self.service.facts_reached(sequence)
        return Client(self.session, self.base_url, account_id, key)

    def operator(self) -> Client:
        return Client(self.session, self.base_url, "", OPERATOR_KEY)


@pytest.fixture
async def start_edge(run_service: Any) -> Any:
    """Start an edge: `async with start_edge(max_body_bytes=1024) as edge:`."""

    @asynccontextmanager
    async def start(redis_url: str | None = None, **values: Any) -> AsyncIterator[Edge]:
        port = free_port()

        async def build_edge(service: Service[Settings]) -> None:
            if redis_url:
                service.settings = service.settings.model_copy(update={"redis_url": SecretStr(redis_url)})
            await build(service)

        values = {"operator_key": OPERATOR_KEY, "http_port": port} | values
        async with (
            run_service("ingress", build_edge, Settings, **values) as service,
            aiohttp.ClientSession() as session,
        ):
            edge = Edge(service, session, f"http://127.0.0.1:{port}")
            await _until_listening(session, edge.base_url)
            yield edge

    return start


async def _until_listening(session: aiohttp.ClientSession, base_url: str) -> None:
    end = time.monotonic() + 10
    while True:
        try:
            async with session.get(f"{base_url}/openapi.json"):
                return
        except aiohttp.ClientConnectionError:
            if time.monotonic() > end:
                raise


@pytest.fixture
async def edge(start_edge: Any) -> AsyncIterator[Edge]:
    async with start_edge() as running:
        yield running


@pytest.fixture
async def client(edge: Edge, bus: Any) -> Client:
    return await edge.client(bus)


@pytest.fixture
async def database(servers: Any) -> AsyncIterator[Database]:
    opened = await Database.open(servers.database_url("ingress"), "ingress")
    await opened.ensure_partitions(("message", "attempt"))
    yield opened
    await opened.close()


def in_one_hour() -> str:
    return (now_utc() + timedelta(hours=1)).isoformat()


@pytest.fixture
async def grpc_edge(start_edge: Any, bus: Any) -> AsyncIterator[GrpcEdge]:
    port = free_port()
    async with start_edge(grpc_port=port) as edge:
        yield GrpcEdge(edge, bus, port)


@pytest.fixture
async def grpc_client(grpc_edge: GrpcEdge) -> AsyncIterator[Grpc]:
    async with grpc_edge.connected(await grpc_edge.account()) as client:
        yield client
