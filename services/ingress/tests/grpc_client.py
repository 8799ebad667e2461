"""A client of the gRPC edge, as a test needs it: calls by name, and refusals with all that they tell."""

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc
import grpc.aio
import pytest
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import (  # type: ignore[import-untyped]  # they have no stubs
    BadRequest,
    ErrorInfo,
    RequestInfo,
    RetryInfo,
)
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]  # likewise

from harkara_ingress.grpc.gen.harkara.v1 import events_pb2, messages_pb2
from harkara_ingress.grpc.gen.harkara.v1 import messages_pb2 as pb

T = TypeVar("T")
_TIMEOUT_S = 30
_DETAILS = (ErrorInfo, RequestInfo, BadRequest, RetryInfo)
_METHODS = {
    method.name: (f"/{service.full_name}/{method.name}", module)
    for module in (messages_pb2, events_pb2)
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}


@dataclass(frozen=True)
class Refused:
    """A refusal as a client reads it."""

    code: str
    message: str
    metadata: Mapping[str, Any]
    details: list[Any]

    def detail(self, kind: type[T]) -> T:
        (found,) = [each for each in self.details if isinstance(each, kind)]
        return found

    @property
    def reason(self) -> str:
        reason: str = self.detail(ErrorInfo).reason
        return reason

    @property
    def told(self) -> tuple[str, str]:
        return self.code, self.reason


def refusal(error: grpc.aio.AioRpcError) -> Refused:
    """Read a refusal; each has the details, and they agree with the status."""
    metadata = dict(error.trailing_metadata() or ())
    status = Status.FromString(metadata["grpc-status-details-bin"])
    assert status.code == error.code().value[0]
    assert status.message == error.details()
    details = []
    for packed in status.details:
        (kind,) = [each for each in _DETAILS if packed.Is(each.DESCRIPTOR)]
        detail = kind()
        packed.Unpack(detail)
        details.append(detail)
    return Refused(error.code().name, error.details() or "", metadata, details)


class Grpc:
    """One account's calls over one channel."""

    def __init__(self, channel: grpc.aio.Channel, key: str) -> None:
        self.channel = channel
        self.key = key

    def metadata(self, extra: Mapping[str, str]) -> list[tuple[str, str]]:
        named = {"authorization": f"Bearer {self.key}"} | {name.replace("_", "-"): each for name, each in extra.items()}
        return list(named.items())

    def call(self, method: str, request: Message | bytes, **metadata: str) -> Any:
        """Begin a call of one answer; await it for the answer."""
        path, module = _METHODS[method]
        call: Any = self.channel.unary_unary(path, _bytes, getattr(module, f"{method}Response").FromString)
        return call(request, timeout=_TIMEOUT_S, metadata=self.metadata(metadata))

    def bulk(self, requests: Iterable[Message | bytes], **metadata: str) -> Any:
        path, _ = _METHODS["SendBulk"]
        call: Any = self.channel.stream_unary(path, _bytes, pb.SendBulkResponse.FromString)
        return call(iter(requests), timeout=_TIMEOUT_S, metadata=self.metadata(metadata))

    def subscribe(self, request: Message | None = None, **metadata: str) -> Any:
        path, module = _METHODS["Subscribe"]
        call: Any = self.channel.unary_stream(path, _bytes, module.SubscribeResponse.FromString)
        return call(request or module.SubscribeRequest(), metadata=self.metadata(metadata))

    async def refused(self, method: str, request: Message | bytes, **metadata: str) -> Refused:
        return await refused(self.call(method, request, **metadata))


async def refused(call: Any) -> Refused:
    """Await a call that is to be refused."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return refusal(caught.value)


def _bytes(request: Message | bytes) -> bytes:
    return request if isinstance(request, bytes) else request.SerializeToString()


@asynccontextmanager
async def connected(
    port: int, key: str, credentials: grpc.ChannelCredentials | None = None, options: Iterable[tuple[str, Any]] = ()
) -> AsyncIterator[Grpc]:
    target, given = f"127.0.0.1:{port}", list(options)
    # Each test's own connection: gRPC would share those to the same address.
    given.append(("grpc.use_local_subchannel_pool", 1))
    if credentials is None:
        channel = grpc.aio.insecure_channel(target, given)
    else:
        channel = grpc.aio.secure_channel(target, credentials, given)
    async with channel:
        yield Grpc(channel, key)


def a_send(**changes: Any) -> pb.SendRequest:
    fields: dict[str, Any] = {
        "to": "919876543210",
        "sender": "HRKARA",
        "template_id": "TN_OTP_001",
        "variables": {"otp": "123456", "minutes": "5"},
        "category": "otp",
    }
    return pb.SendRequest(**(fields | changes))


def a_bulk(
    *numbers: str, at_once: int = 100, variables: Mapping[str, str] | None = None, **changes: Any
) -> list[pb.SendBulkRequest]:
    """Return the messages of a bulk: its header, and its recipients in portions."""
    header: dict[str, Any] = {"sender": "HRKARA", "template_id": "TN_OTP_001", "category": "otp"}
    given = {"otp": "123456", "minutes": "5"} if variables is None else variables
    recipients = [pb.BulkRecipient(to=each, variables=given) for each in numbers]
    portions = [recipients[start : start + at_once] for start in range(0, len(recipients), at_once)]
    return [
        pb.SendBulkRequest(header=pb.BulkHeader(**(header | changes))),
        *(pb.SendBulkRequest(recipients=pb.BulkRecipients(recipients=portion)) for portion in portions),
    ]


@dataclass(frozen=True)
class GrpcEdge:
    """A running edge with gRPC."""

    edge: Any
    bus: Any
    port: int

    async def account(self, **changes: Any) -> Any:
        """Make an account by facts alone."""
        return await self.edge.client(self.bus, **changes)

    def connected(self, account: Any) -> AbstractAsyncContextManager[Grpc]:
        return connected(self.port, account.key)
