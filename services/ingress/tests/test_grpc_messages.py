"""Sending and asking over gRPC: the same rules and answers as over HTTP, in gRPC's words."""

import asyncio
import hmac
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc.error_details_pb2 import (  # type: ignore[import-untyped]  # they have no stubs
    BadRequest,
    RequestInfo,
    RetryInfo,
)
from services.ingress.tests.grpc_client import Grpc, GrpcEdge, a_bulk, a_send, connected, refusal, refused

from harkara_contracts.events import BatchAccepted, MessageAccepted
from harkara_contracts.facts import ApiKeyFact
from harkara_contracts.ids import is_message_id, new_id
from harkara_ingress.access.accounts import hash_key, new_api_key
from harkara_ingress.grpc.gen.harkara.v1 import messages_pb2 as pb


def stream_of(client: Grpc, requests: Sequence[Any]) -> Any:
    """Begin a bulk whose client says no end."""
    never = asyncio.Event()

    async def said() -> AsyncIterator[Any]:
        for request in requests:
            yield request
        await never.wait()

    path = "/harkara.v1.Messages/SendBulk"
    call: Any = client.channel.stream_unary(path, pb.SendBulkRequest.SerializeToString, pb.SendBulkResponse.FromString)
    return call(said(), metadata=client.metadata({}))


async def test_a_message_is_accepted(grpc_client: Grpc, bus: Any) -> None:
    call = grpc_client.call("Send", a_send(correlation_id="order-7"), x_request_id="mine-1")
    answer = await call
    assert answer.status == "accepted"
    assert is_message_id(answer.message_id)
    assert (answer.to, answer.channel, answer.credits_debited) == ("919876543210", "sms", 1)
    assert abs(answer.timestamp.seconds - time.time()) < 5
    assert answer.correlation_id == "order-7"
    assert not answer.HasField("scheduled_at")
    event = await bus.next(MessageAccepted, lambda event: event.message_id == answer.message_id)
    assert event.content.variables == {"otp": "123456", "minutes": "5"}
    told = dict(await call.trailing_metadata())
    assert told["x-request-id"] == "mine-1"
    assert {"x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"} <= told.keys()


async def test_every_field_of_a_send_arrives(grpc_client: Grpc, bus: Any) -> None:
    in_an_hour = "2036-12-01T10:30:00+05:30" if time.time() > 2e9 else "2027-01-01T10:30:00+05:30"
    request = a_send(
        channels=["sms"],
        cascade=pb.Cascade(timeouts={"sms": 30}, mode="fallback"),
        schedule_at=in_an_hour,
        test_mode=True,
        priority="high",
        validity_seconds=120,
        unicode=False,
    )
    answer = await grpc_client.call("Send", request)
    assert (answer.scheduled_at, answer.test_mode) == (in_an_hour, True)
    event = await bus.next(MessageAccepted, lambda event: event.message_id == answer.message_id)
    assert (event.priority, event.test_mode) == ("high", True)
    assert event.cascade is not None
    assert event.cascade.timeouts == {"sms": 30}
    assert event.send_at is not None
    assert (event.expires_at - event.send_at).total_seconds() == 120


async def test_what_is_wrong_is_named_by_field(grpc_client: Grpc) -> None:
    told = await grpc_client.refused("Send", a_send(priority="highest", validity_seconds=1))
    assert told.told == ("INVALID_ARGUMENT", "ERR_INVALID_REQUEST")
    assert {each.field for each in told.detail(BadRequest).field_violations} == {"priority", "validity_seconds"}
    assert told.detail(RequestInfo).request_id == told.metadata["x-request-id"]


async def test_refusals_have_the_codes_of_http(grpc_client: Grpc, grpc_edge: GrpcEdge, bus: Any) -> None:
    cases = [
        (a_send(to="12345"), "INVALID_ARGUMENT", "ERR_INVALID_MOBILE"),
        (pb.SendRequest(), "INVALID_ARGUMENT", "ERR_INVALID_REQUEST"),
        (a_send(template_id="TN_NONE"), "FAILED_PRECONDITION", "ERR_TEMPLATE_NOT_FOUND"),
        (a_send(sender="OTHERS"), "FAILED_PRECONDITION", "ERR_SENDER_NOT_REGISTERED"),
        (a_send(channel="voice"), "INVALID_ARGUMENT", "ERR_INVALID_REQUEST"),
        (a_send(channel="pigeon"), "INVALID_ARGUMENT", "ERR_INVALID_REQUEST"),
    ]
    for request, code, reason in cases:
        assert (await grpc_client.refused("Send", request)).told == (code, reason)
    poor = await grpc_edge.account(available_mp=0)
    async with grpc_edge.connected(poor) as poor_client:
        told = await poor_client.refused("Send", a_send())
        assert told.told == ("FAILED_PRECONDITION", "ERR_INSUFFICIENT_CREDITS")
    assert (await grpc_client.refused("Get", pb.GetRequest(message_id="TN1"))).told == ("NOT_FOUND", "ERR_NOT_FOUND")


async def test_who_calls_is_asked_as_over_http(grpc_edge: GrpcEdge, bus: Any) -> None:
    closed = await grpc_edge.account(status="suspended")
    reader, elsewhere = new_api_key(test_only=False), await grpc_edge.account(ip_allow_list=["192.0.2.0/24"])
    owner = await grpc_edge.account()
    only_reads = ApiKeyFact(
        version=1, key_id=new_id("KEY"), account_id=owner.account_id, key_hash=hash_key(reader), scopes=["read"]
    )
    assert await grpc_edge.edge.service.facts_reached(await bus.publish([only_reads]))
    cases = [
        ("hk_live_nobodys", ("UNAUTHENTICATED", "ERR_UNAUTHORIZED")),
        (closed.key, ("PERMISSION_DENIED", "ERR_FORBIDDEN")),
        (reader, ("PERMISSION_DENIED", "ERR_FORBIDDEN")),
        (elsewhere.key, ("UNAUTHENTICATED", "ERR_IP_NOT_ALLOWED")),
    ]
    for key, told in cases:
        async with connected(grpc_edge.port, key) as client:
            assert (await client.refused("Send", a_send())).told == told
            assert (await refused(client.bulk(a_bulk("919876543210")))).told == told


async def test_behind_a_trusted_proxy_the_client_counts(start_edge: Any, bus: Any, unused_tcp_port: int) -> None:
    async with start_edge(grpc_port=unused_tcp_port, forwarded_allow_ips="127.0.0.1") as edge:
        account = await edge.client(bus, ip_allow_list=["203.0.113.9/32"])
        async with connected(unused_tcp_port, account.key) as client:
            assert (await client.call("Send", a_send(), x_forwarded_for="198.51.100.1, 203.0.113.9")).message_id
            spoofed = await client.refused("Send", a_send(), x_forwarded_for="203.0.113.9, 198.51.100.1")
            assert spoofed.reason == "ERR_IP_NOT_ALLOWED"


async def test_limits_are_told_and_kept(grpc_edge: GrpcEdge) -> None:
    account = await grpc_edge.account(plan="starter", requests_per_minute=2)
    async with grpc_edge.connected(account) as client:
        call = client.call("Validate", pb.ValidateRequest(send=a_send()))
        await call
        told = dict(await call.trailing_metadata())
        assert (told["x-ratelimit-limit"], told["x-ratelimit-remaining"]) == ("2", "1")
        # HTTP and gRPC take from one bucket.
        status, _, headers = await account.call("GET", "/v1/messages")
        assert (status, headers["X-RateLimit-Remaining"]) == (200, "0")
        over = await client.refused("Validate", pb.ValidateRequest(send=a_send()))
        assert over.told == ("RESOURCE_EXHAUSTED", "ERR_RATE_LIMIT_EXCEEDED")
        assert 1 <= over.detail(RetryInfo).retry_delay.seconds <= 30
        assert over.metadata["x-ratelimit-remaining"] == "0"


async def test_bytes_that_are_no_message_are_refused(grpc_client: Grpc) -> None:
    for raw in (b"\xff", b"\x0a\x02\xc3\x28", b"\x0a\xff\xff\xff\xff\x7f"):
        assert (await grpc_client.refused("Send", raw)).told == ("INVALID_ARGUMENT", "ERR_INVALID_REQUEST")
    nul = await grpc_client.refused("Send", a_send(variables={"otp": "1\x0023456", "minutes": "5"}))
    assert nul.told == ("INVALID_ARGUMENT", "ERR_INVALID_UNICODE")
    out_of_time = pb.ListRequest(start=Timestamp(seconds=10**15))
    assert (await grpc_client.refused("List", out_of_time)).told == ("INVALID_ARGUMENT", "ERR_INVALID_REQUEST")
    no_number = a_send(channel="whatsapp")
    no_number.whatsapp["price"] = float("nan")
    assert (await grpc_client.refused("Send", no_number)).told == ("INVALID_ARGUMENT", "ERR_INVALID_REQUEST")


async def test_what_is_too_large_is_refused(grpc_client: Grpc) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await grpc_client.call("Send", a_send(message="x" * 300_000))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    await grpc_client.call("Send", a_send())


async def test_the_same_key_sends_once(grpc_client: Grpc, bus: Any) -> None:
    request = a_send()
    first = await grpc_client.call("Send", request, idempotency_key="k1")
    again = await asyncio.gather(*(grpc_client.call("Send", request, idempotency_key="k1") for _ in range(20)))
    assert {each.message_id for each in again} == {first.message_id}
    assert all(each == first for each in again)
    other = await grpc_client.refused("Send", a_send(to="919876543211"), idempotency_key="k1")
    assert other.told == ("FAILED_PRECONDITION", "ERR_IDEMPOTENCY_CONFLICT")
    await bus.next(MessageAccepted, lambda event: event.message_id == first.message_id)
    assert [event.message_id for event in bus.seen if isinstance(event, MessageAccepted)] == [first.message_id]


async def test_a_call_its_client_gave_up_is_finished(grpc_client: Grpc, bus: Any) -> None:
    request = a_send(correlation_id="given-up")
    while not any(event.correlation_id == "given-up" for event in bus.seen if isinstance(event, MessageAccepted)):
        given_up = grpc_client.call("Send", request, idempotency_key="k2")
        await asyncio.sleep(0.002)  # sometimes it is in the middle by now
        given_up.cancel()
        with suppress(asyncio.CancelledError):  # and sometimes at its end
            await given_up
    answer = await grpc_client.call("Send", request, idempotency_key="k2")
    await bus.next(MessageAccepted, lambda event: event.message_id == answer.message_id)
    assert {event.message_id for event in bus.seen if isinstance(event, MessageAccepted)} == {answer.message_id}


async def test_a_send_is_judged_without_sending(grpc_client: Grpc, bus: Any) -> None:
    verdict = await grpc_client.call("Validate", pb.ValidateRequest(send=a_send()))
    assert (verdict.valid, verdict.parts, verdict.price_paise) == (True, 1, 28)
    verdict = await grpc_client.call("Validate", pb.ValidateRequest(send=a_send(template_id="TN_NONE")))
    assert (verdict.valid, verdict.error_code) == (False, "ERR_TEMPLATE_NOT_FOUND")
    assert not [event for event in bus.seen if isinstance(event, MessageAccepted)]


async def test_messages_are_found_again_by_their_account_only(grpc_client: Grpc, grpc_edge: GrpcEdge) -> None:
    sent = [(await grpc_client.call("Send", a_send(correlation_id="c1"))).message_id for _ in range(3)]
    message = (await grpc_client.call("Get", pb.GetRequest(message_id=sent[0]))).message
    assert (message.message_id, message.state, message.correlation_id) == (sent[0], "accepted", "c1")
    assert message.accepted_at.seconds > 0
    assert not message.HasField("delivered_at")

    async def listed(**filters: Any) -> Any:
        return await grpc_client.call("List", pb.ListRequest(**filters))

    async with asyncio.timeout(10):
        while len((await listed()).messages) < 3:
            await asyncio.sleep(0.05)
    first = await listed(limit=2, correlation_id="c1")
    second = await listed(limit=2, correlation_id="c1", cursor=first.next_cursor)
    assert [each.message_id for each in [*first.messages, *second.messages]] == sent[::-1]
    assert not second.HasField("next_cursor")
    assert not (await listed(state="delivered")).messages
    assert (await grpc_client.refused("List", pb.ListRequest(limit=201))).told[0] == "INVALID_ARGUMENT"
    async with grpc_edge.connected(await grpc_edge.account()) as other:
        assert (await other.refused("Get", pb.GetRequest(message_id=sent[0]))).reason == "ERR_NOT_FOUND"
        assert not (await other.call("List", pb.ListRequest())).messages


async def test_a_bulk_is_accepted_with_its_bad_recipients_listed(
    grpc_client: Grpc, bus: Any, grpc_edge: GrpcEdge
) -> None:
    numbers = [f"91987654{number:04}" for number in range(250)]
    numbers[7] = "12345"
    answer = await grpc_client.bulk(a_bulk(*numbers, correlation_id="summer"))
    assert (answer.status, answer.total_recipients, answer.estimated_credits) == ("accepted", 249, 249)
    (rejected,) = answer.rejected
    assert (rejected.index, rejected.to, rejected.error_code) == (7, "12345", "ERR_INVALID_MOBILE")
    assert answer.correlation_id == "summer"
    batch = (await grpc_client.call("GetBatch", pb.GetBatchRequest(batch_id=answer.batch_id))).batch
    assert (batch.batch_id, batch.total_recipients, batch.rejected_recipients) == (answer.batch_id, 249, 1)
    assert sum(batch.counts.values()) == 249
    async with grpc_edge.connected(await grpc_edge.account()) as other:
        for method in ("GetBatch", "CancelBatch"):
            request = getattr(pb, f"{method}Request")(batch_id=answer.batch_id)
            assert (await other.refused(method, request)).told == ("NOT_FOUND", "ERR_NOT_FOUND")
    stopped = await grpc_client.call("CancelBatch", pb.CancelBatchRequest(batch_id=answer.batch_id))
    assert (stopped.status, stopped.batch_id) == ("cancelled", answer.batch_id)
    batch = (await grpc_client.call("GetBatch", pb.GetBatchRequest(batch_id=answer.batch_id))).batch
    assert batch.state == "cancelled"


async def test_a_bulk_is_the_same_however_it_is_cut(grpc_client: Grpc) -> None:
    numbers = [f"91987654{number:04}" for number in range(50)]
    first = await grpc_client.bulk(a_bulk(*numbers, at_once=50), idempotency_key="b1")
    again = await grpc_client.bulk(a_bulk(*numbers, at_once=7), idempotency_key="b1")
    assert again == first
    other = await refused(grpc_client.bulk(a_bulk(*numbers[1:]), idempotency_key="b1"))
    assert other.told == ("FAILED_PRECONDITION", "ERR_IDEMPOTENCY_CONFLICT")


async def test_a_bulk_has_one_header_first_and_recipients(grpc_client: Grpc) -> None:
    header, portion = a_bulk("919876543210")
    wrong: list[list[Any]] = [
        [],
        [portion],
        [header],
        [header, header, portion],
        [portion, header],
        [header, pb.SendBulkRequest()],
        [b"\xff"],
    ]
    for requests in wrong:
        told = await refused(grpc_client.bulk(requests))
        assert told.told == ("INVALID_ARGUMENT", "ERR_INVALID_REQUEST"), requests
    nul = await refused(grpc_client.bulk(a_bulk("919876543210", variables={"otp": "1\x002"})))
    assert nul.told == ("INVALID_ARGUMENT", "ERR_INVALID_UNICODE")
    many = pb.SendBulkRequest(recipients=pb.BulkRecipients(recipients=[pb.BulkRecipient()] * 50_001))
    assert (await refused(grpc_client.bulk([header, many, many]))).reason == "ERR_INVALID_REQUEST"
    told = await refused(grpc_client.bulk(a_bulk("919876543210", template_id="TN_NONE")))
    assert told.told == ("FAILED_PRECONDITION", "ERR_TEMPLATE_NOT_FOUND")


async def test_bulks_are_bounded_in_size_time_and_number(start_edge: Any, bus: Any, unused_tcp_port: int) -> None:
    bounds = {"max_body_bytes": 4_096, "max_bulk_bytes": 16_384, "max_bulk_in_flight": 1}
    async with start_edge(grpc_port=unused_tcp_port, **bounds, bulk_wait_s=0.1, body_timeout_s=3) as edge:
        account = await edge.client(bus)
        async with connected(unused_tcp_port, account.key) as client:
            numbers = [f"91987654{number:04}" for number in range(150)]
            over = await refused(client.bulk(a_bulk(*numbers * 3, at_once=20)))
            assert over.told == ("RESOURCE_EXHAUSTED", "ERR_PAYLOAD_TOO_LARGE")
            slow = stream_of(client, [*a_bulk(*numbers, at_once=20)])
            while True:  # until it has taken the one place
                answers = await asyncio.gather(client.bulk(a_bulk(*numbers, at_once=20)), return_exceptions=True)
                if isinstance(answers[0], grpc.aio.AioRpcError):
                    break
            assert refusal(answers[0]).told == ("UNAVAILABLE", "ERR_UNAVAILABLE")
            assert refusal(answers[0]).detail(RetryInfo).retry_delay.seconds == 5
            assert (await client.bulk(a_bulk(*numbers[:10]))).total_recipients == 10
            assert (await refused(slow)).told == ("DEADLINE_EXCEEDED", "ERR_INVALID_REQUEST")
            assert (await client.bulk(a_bulk(*numbers, at_once=20))).total_recipients == 150


async def test_a_bulk_that_is_broken_off_sends_nothing(grpc_client: Grpc, bus: Any) -> None:
    call = stream_of(grpc_client, a_bulk("919876543210"))
    await call.wait_for_connection()
    call.cancel()
    await grpc_client.bulk(a_bulk("919876543210", correlation_id="whole"))
    assert all(event.correlation_id == "whole" for event in bus.seen if isinstance(event, BatchAccepted))


async def test_signatures_are_over_the_bytes_that_were_sent(grpc_edge: GrpcEdge) -> None:
    opening = {"name": "Kirana", "plan": "enterprise", "auto_approve": True}
    _, account, _ = await grpc_edge.edge.operator().call("POST", "/v1/accounts", opening)
    key, secret = account["api_key"], account["signing_secret"]

    def signed(raw: bytes, secret: str = secret) -> dict[str, str]:
        timestamp = str(int(time.time()))
        mac = hmac.new(secret.encode(), timestamp.encode() + raw, "sha256").hexdigest()
        return {"x_techto_timestamp": timestamp, "x_techto_signature": f"sha256={mac}"}

    operator = grpc_edge.edge.operator()
    status, body, _ = await operator.call(
        "PUT", "/v1/security", {"require_signature": True, "ip_allow_list": []}, key=key
    )
    assert status == 200, body
    sandbox: dict[str, Any] = {"template_id": "SANDBOX_OTP", "variables": {"otp": "123456"}, "test_mode": True}
    async with connected(grpc_edge.port, key) as client:
        assert (await client.refused("Send", a_send(**sandbox))).reason == "ERR_SIGNATURE_INVALID"
        raw = a_send(**sandbox).SerializeToString()
        assert (await client.refused("Send", raw, **signed(raw, "hs_other"))).reason == "ERR_SIGNATURE_INVALID"
        once = signed(raw)
        assert (await client.call("Send", raw, **once)).status == "accepted"
        assert (await client.refused("Send", raw, **once)).reason == "ERR_SIGNATURE_INVALID"
        parts = [each.SerializeToString() for each in a_bulk("919876543210", "919876543211", at_once=1, **sandbox)]
        assert (await refused(client.bulk(parts, **signed(parts[0])))).reason == "ERR_SIGNATURE_INVALID"
        assert (await client.bulk(parts, **signed(b"".join(parts)))).status == "accepted"
        request = pb.ListRequest(limit=1).SerializeToString()
        assert len((await client.call("List", request, **signed(request))).messages) <= 1
