"""gRPC against a whole stack: what is sent by it arrives, and what became of it is told by it."""

import os
import re
import subprocess
import sys
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from tests.e2e.client import SENDER, SHIPPED, SHIPPED_TEXT, SHIPPED_VARIABLES, Account, Phones, new_number, open_account
from tests.e2e.stack import Stack
from tests.e2e.waiting import eventually

from harkara_ingress.grpc.gen.harkara.v1 import events_pb2, messages_pb2

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs/grpc.md").read_text()


class Client:
    """One account's blocking calls."""

    def __init__(self, channel: grpc.Channel, key: str) -> None:
        self._channel = channel
        self._metadata = [("authorization", f"Bearer {key}")]

    def call(self, method: str, request: Any) -> Any:
        response = getattr(messages_pb2, f"{method}Response")
        call: Any = self._channel.unary_unary(
            f"/harkara.v1.Messages/{method}", type(request).SerializeToString, response.FromString
        )
        return call(request, metadata=self._metadata, timeout=20)

    def refused(self, method: str, request: Any) -> str:
        with pytest.raises(grpc.RpcError) as caught:
            self.call(method, request)
        error: Any = caught.value
        code: str = error.code().name
        return code

    def bulk(self, requests: list[Any]) -> Any:
        call: Any = self._channel.stream_unary(
            "/harkara.v1.Messages/SendBulk",
            messages_pb2.SendBulkRequest.SerializeToString,
            messages_pb2.SendBulkResponse.FromString,
        )
        return call(iter(requests), metadata=self._metadata, timeout=60)

    def events(self, **wanted: Any) -> Any:
        call: Any = self._channel.unary_stream(
            "/harkara.v1.Events/Subscribe",
            events_pb2.SubscribeRequest.SerializeToString,
            events_pb2.SubscribeResponse.FromString,
        )
        stream = call(events_pb2.SubscribeRequest(**wanted), metadata=self._metadata, timeout=60)
        stream.initial_metadata()
        return stream


@pytest.fixture
def channel(stack: Stack) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(stack.demo["grpc"]) as channel:
        yield channel


@pytest.fixture
def client(channel: grpc.Channel, account: Account) -> Client:
    assert account.client.key is not None
    return Client(channel, account.client.key)


def shipping(**changes: Any) -> messages_pb2.SendRequest:
    fields: dict[str, Any] = {
        "to": new_number(),
        "sender": SENDER,
        "template_id": SHIPPED,
        "variables": SHIPPED_VARIABLES,
        "category": "transactional",
    }
    return messages_pb2.SendRequest(**(fields | changes))


def in_an_hour() -> str:
    return (datetime.now(UTC) + timedelta(hours=1)).isoformat()


def test_a_message_arrives_and_is_told_of(client: Client, account: Account, phones: Phones) -> None:
    events = client.events()
    request = shipping(correlation_id="order-1")
    accepted = client.call("Send", request)
    assert phones.the_message(request.to)["text"] == SHIPPED_TEXT
    seen: list[Any] = []
    for event in events:
        seen.append(event)
        if event.event == "message.delivered":
            break
    events.cancel()
    assert [event.event for event in seen] == ["message.sent", "message.delivered"]
    assert {event.message_id for event in seen} == {accepted.message_id}
    assert {event.correlation_id for event in seen} == {"order-1"}
    message = client.call("Get", messages_pb2.GetRequest(message_id=accepted.message_id)).message
    told = account.client.reached(accepted.message_id, "delivered")
    assert (message.message_id, message.correlation_id) == (accepted.message_id, "order-1")
    assert message.attempts[0].carrier == told["attempts"][0]["carrier"]
    again = client.events(after=seen[0].id)
    assert next(again).id == seen[1].id
    again.cancel()


def test_a_bulk_arrives_once_at_each(client: Client, phones: Phones) -> None:
    numbers = [new_number() for _ in range(60)]
    recipients = [messages_pb2.BulkRecipient(to=number, variables=SHIPPED_VARIABLES) for number in numbers]
    header = messages_pb2.BulkHeader(sender=SENDER, template_id=SHIPPED, category="transactional")
    portions = [messages_pb2.BulkRecipients(recipients=recipients[start : start + 25]) for start in range(0, 60, 25)]
    events = client.events(types=["campaign.completed"])
    accepted = client.bulk(
        [
            messages_pb2.SendBulkRequest(header=header),
            *(messages_pb2.SendBulkRequest(recipients=portion) for portion in portions),
        ]
    )
    assert (accepted.total_recipients, list(accepted.rejected)) == (60, [])
    completed = next(events)
    events.cancel()
    assert completed.message_id == accepted.batch_id
    for number in numbers:
        phones.the_message(number)
    batch = client.call("GetBatch", messages_pb2.GetBatchRequest(batch_id=accepted.batch_id)).batch
    assert (batch.state, dict(batch.counts)["delivered"]) == ("completed", 60)
    listed = client.call("List", messages_pb2.ListRequest(batch_id=accepted.batch_id, limit=100)).messages
    assert len(listed) == 60


def test_a_message_that_waits_is_taken_back(client: Client, account: Account) -> None:
    accepted = client.call("Send", shipping(schedule_at=in_an_hour()))
    request = messages_pb2.CancelRequest(message_id=accepted.message_id)
    assert client.call("Cancel", request).status == "cancelled"
    eventually(
        lambda: (
            client.call("Get", messages_pb2.GetRequest(message_id=accepted.message_id)).message.state == "cancelled"
        ),
        what="a cancelled message",
    )
    sent = client.call("Send", shipping())
    account.client.reached(sent.message_id, "delivered")
    assert client.refused("Cancel", messages_pb2.CancelRequest(message_id=sent.message_id)) == "FAILED_PRECONDITION"


def test_nobody_reaches_what_is_anothers(client: Client, channel: grpc.Channel, account: Account) -> None:
    message_id = client.call("Send", shipping(schedule_at=in_an_hour(), correlation_id="mine")).message_id
    header = messages_pb2.BulkHeader(
        sender=SENDER, template_id=SHIPPED, category="transactional", schedule_at=in_an_hour(), correlation_id="mine"
    )
    recipient = messages_pb2.BulkRecipient(to=new_number(), variables=SHIPPED_VARIABLES)
    portion = messages_pb2.BulkRecipients(recipients=[recipient])
    bulk = [messages_pb2.SendBulkRequest(header=header), messages_pb2.SendBulkRequest(recipients=portion)]
    batch_id = client.bulk(bulk).batch_id
    by_id = {
        "Get": messages_pb2.GetRequest(message_id=message_id),
        "Cancel": messages_pb2.CancelRequest(message_id=message_id),
        "GetBatch": messages_pb2.GetBatchRequest(batch_id=batch_id),
        "CancelBatch": messages_pb2.CancelBatchRequest(batch_id=batch_id),
    }
    lists = {"List": [messages_pb2.ListRequest(correlation_id="mine"), messages_pb2.ListRequest(batch_id=batch_id)]}
    name_nothing = {"Send", "SendBulk", "Validate", "Subscribe"}
    services = [
        *messages_pb2.DESCRIPTOR.services_by_name.values(),
        *events_pb2.DESCRIPTOR.services_by_name.values(),
    ]
    assert {method.name for service in services for method in service.methods} == {*by_id, *lists, *name_nothing}
    key = open_account(account.operator).client.key
    assert key is not None
    other = Client(channel, key)
    for method, request in by_id.items():
        assert other.refused(method, request) == "NOT_FOUND", method
    for request in lists["List"]:
        assert not other.call("List", request).messages
    assert client.call("Get", by_id["Get"]).message.state in {"accepted", "deferred"}
    assert client.call("GetBatch", by_id["GetBatch"]).batch.state == "scheduled"


def test_the_guides_own_client_works(stack: Stack, tmp_path: Path) -> None:
    commands, program = re.findall(r"```(?:python)?\n(.*?)```", GUIDE, re.DOTALL)[:2]
    generate = commands.splitlines()[1].split()
    assert generate[:3] == ["python", "-m", "grpc_tools.protoc"]
    files = [str(ROOT / word) if word.startswith("proto") else word for word in generate[1:]]
    subprocess.run([sys.executable, *files], cwd=tmp_path, check=True, timeout=60)  # noqa: S603  # our own guide
    fresh_key = program.replace("order-12345-shipped", uuid.uuid4().hex)
    (tmp_path / "client.py").write_text(fresh_key)
    environment = {**os.environ, "HARKARA_GRPC": stack.demo["grpc"], "HARKARA_API_KEY": stack.demo["api_key"]}
    command = [sys.executable, "client.py"]
    done = subprocess.run(  # noqa: S603  # our own guide
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"accepted TN\w+\nmessage\.delivered [\d:.TZ-]+\n", done.stdout), done.stdout
