"""Sends over a real socket and a real bus."""

import asyncio
import json
from datetime import timedelta
from typing import Any

from harkara_chassis.clock import now_utc
from harkara_contracts.events import MessageAccepted
from harkara_contracts.facts import ApiKeyFact
from harkara_contracts.ids import new_id
from harkara_ingress.access.accounts import hash_key, new_api_key


async def accepted(bus: Any, message_id: str) -> MessageAccepted:
    event: MessageAccepted = await bus.next(MessageAccepted, lambda e: e.message_id == message_id)
    return event


async def test_a_send_is_accepted_as_promised(client: Any, bus: Any) -> None:
    status, body, headers = await client.send(correlation_id="order-7")
    assert status == 202
    event = await accepted(bus, body["message_id"])
    assert body == {
        "status": "accepted",
        "message_id": event.message_id,
        "to": "919876543210",
        "channel": "sms",
        "credits_debited": 1,
        "estimated_delivery_seconds": 3,
        "timestamp": event.accepted_at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "correlation_id": "order-7",
    }
    assert headers["X-Request-Id"].startswith("REQ")
    assert event.content.variables == {"otp": "123456", "minutes": "5"}
    assert event.lane.value == "otp"
    assert event.expires_at == event.accepted_at + timedelta(minutes=10)


async def test_a_literal_message_and_a_dlt_id_do_as_well(client: Any, bus: Any) -> None:
    text = "123456 is your Harkara login code. It is valid for 5 minutes."
    status, body, _ = await client.send(
        message=text, variables={}, template_id="1007172974420840002", to="+91 98765 43210".replace(" ", "")
    )
    assert (status, body["to"]) == (202, "919876543210")
    assert (await accepted(bus, body["message_id"])).content.message == text


async def test_null_and_an_empty_list_mean_not_given(client: Any) -> None:
    text = "123456 is your Harkara login code. It is valid for 5 minutes."
    absent = dict.fromkeys(("unicode", "correlation_id", "schedule_at", "test_mode", "priority", "validity_seconds"))
    nothings: list[Any] = [None, [], {}]
    for nothing in nothings:
        status, body, _ = await client.send(**absent, message=text, variables=nothing)
        assert status == 202, body
        assert body.keys().isdisjoint(("correlation_id", "scheduled_at", "test_mode"))
    assert (await client.send(variables=["123456"]))[0] == 400


async def test_numbers_may_be_written_as_numbers(client: Any, bus: Any) -> None:
    status, body, _ = await client.send(to=919876543210, template_id=1007172974420840002, correlation_id=7)
    assert (status, body["to"], body["correlation_id"]) == (202, "919876543210", "7")


async def test_a_text_of_any_length_is_told_in_parts(client: Any) -> None:
    status, body, _ = await client.send(message="a" * 50_000, variables={})
    assert (status, body["error_code"]) == (422, "ERR_MESSAGE_TOO_LONG")


async def test_schedule_test_mode_and_validity_are_told(client: Any, bus: Any) -> None:
    schedule = (now_utc() + timedelta(hours=1)).astimezone().isoformat()
    status, body, _ = await client.send(schedule_at=schedule, test_mode=True, validity_seconds=60)
    assert status == 202
    assert (body["scheduled_at"], body["test_mode"]) == (schedule, True)
    assert 3_590 <= body["estimated_delivery_seconds"] <= 3_603
    event = await accepted(bus, body["message_id"])
    assert event.test_mode
    assert event.send_at is not None
    assert event.expires_at == event.send_at + timedelta(seconds=60)


async def test_any_channel_of_the_general_endpoint(client: Any) -> None:
    wanted = {
        "to": "919876543210",
        "sender": "HRKARA",
        "template_id": "TN_OTP_001",
        "variables": {"otp": "1", "minutes": "5"},
        "category": "otp",
    }
    path = "/v1/messages/send"
    ways: dict[str, Any]
    for ways in ({"channel": "sms"}, {"channels": ["sms"], "cascade": {"timeouts": {"sms": 15}}}):
        status, body, _ = await client.call("POST", path, wanted | ways)
        assert (status, body["channel"]) == (202, "sms")
    status, body, _ = await client.call("POST", path, wanted | {"channels": ["whatsapp", "sms"]})
    assert (status, body["error_code"]) == (400, "ERR_INVALID_REQUEST")
    assert "whatsapp" in body["error_message"]
    assert "Available: sms" in body["error_message"]
    for ways in ({}, {"channel": "sms", "channels": ["sms"]}, {"channels": ["sms", "sms"]}, {"channel": "pigeon"}):
        status, body, _ = await client.call("POST", path, wanted | ways)
        assert (status, body["error_code"]) == (400, "ERR_INVALID_REQUEST")


WRONG: list[tuple[dict[str, Any], int, str]] = [
    ({"to": "9876543210"}, 400, "ERR_INVALID_MOBILE"),
    ({"to": "915876543210"}, 400, "ERR_INVALID_MOBILE"),
    ({"category": "gossip"}, 400, "ERR_INVALID_REQUEST"),
    ({"schedule_at": "2099-01-01T00:00:00Z"}, 400, "ERR_INVALID_REQUEST"),
    ({"schedule_at": "2020-01-01T00:00:00Z"}, 400, "ERR_INVALID_REQUEST"),
    ({"schedule_at": "2026-12-01 10:00"}, 400, "ERR_INVALID_REQUEST"),
    ({"sender": "NOBODY"}, 422, "ERR_SENDER_NOT_REGISTERED"),
    ({"template_id": "TN_NONE"}, 422, "ERR_TEMPLATE_NOT_FOUND"),
    ({"category": "promotional"}, 422, "ERR_TEMPLATE_CATEGORY_MISMATCH"),
    ({"message": "Something else entirely 123456", "variables": {}}, 422, "ERR_DLT_TEMPLATE_MISMATCH"),
    ({"to": None}, 400, "ERR_INVALID_REQUEST"),
    ({"validity_seconds": True}, 400, "ERR_INVALID_REQUEST"),
    ({"validity_seconds": 29}, 400, "ERR_INVALID_REQUEST"),
    ({"template_id": None, "category": None}, 400, "ERR_INVALID_REQUEST"),
]


async def test_what_is_wrong_is_told_at_once(client: Any) -> None:
    for fields, status, code in WRONG:
        got, body, _ = await client.send(**fields)
        assert (got, body["error_code"]) == (status, code), body
        assert body["status"] == "error"
        told = json.dumps(body)
        assert "123456" not in told
        assert "9876543210" not in told


async def test_the_category_may_be_left_to_the_template(client: Any, bus: Any) -> None:
    status, body, _ = await client.send(category=None)
    assert status == 202
    assert (await accepted(bus, body["message_id"])).category.value == "otp"
    for template_id in ("SANDBOX_OTP", "SANDBOX_ANY"):
        fields = {"template_id": template_id, "variables": {"otp": "123456"}, "category": None}
        assert (await client.send(**fields, test_mode=True))[0] == 202
    status, body, _ = await client.send(template_id="TN_NONE", category=None)
    assert (status, body["error_code"]) == (422, "ERR_TEMPLATE_NOT_FOUND")


UNREADABLE = [
    (b'{"to": "919876543210", "message": "\\ud83d alone"}', "ERR_INVALID_UNICODE"),
    (b'{"to": "919876543210", "message": "\xff"}', "ERR_INVALID_UNICODE"),
    (b'{"to": "919876543210", "message": "a\\u0000b"}', "ERR_INVALID_UNICODE"),
    (b'{"to": "919876543210", ', "ERR_INVALID_REQUEST"),
    (b"[]", "ERR_INVALID_REQUEST"),
    (b"", "ERR_INVALID_REQUEST"),
]


async def test_unreadable_bodies(client: Any) -> None:
    for raw, code in UNREADABLE:
        for path in ("/v1/sms/send", "/v1/messages/validate"):
            status, body, _ = await client.call("POST", path, raw)
            assert (status, body["error_code"]) == (400, code), raw


async def test_money_must_suffice_except_in_test_mode(edge: Any, bus: Any) -> None:
    poor = await edge.client(bus, available_mp=27_999)
    status, body, _ = await poor.send()
    assert (status, body["error_code"]) == (402, "ERR_INSUFFICIENT_CREDITS")
    assert (await poor.send(test_mode=True))[0] == 202
    exact = await edge.client(bus, available_mp=28_000)
    assert (await exact.send())[0] == 202


async def test_sandbox_templates_work_for_every_account(edge: Any, bus: Any) -> None:
    fields = {"template_id": "SANDBOX_OTP", "sender": "ABCDEF", "variables": {"otp": "123456"}}
    poor = await edge.client(bus, available_mp=0)
    status, body, _ = await poor.send(**fields, test_mode=True)
    assert (status, body["test_mode"], body["credits_debited"]) == (202, True, 1)
    assert (await poor.send(**fields))[0] == 422


async def test_a_test_key_only_sends_tests(edge: Any, bus: Any) -> None:
    tester = await edge.client(bus, available_mp=0, of_key={"test_only": True})
    status, body, _ = await tester.send(test_mode=False)
    assert (status, body["test_mode"]) == (202, True)
    assert (await accepted(bus, body["message_id"])).test_mode


async def test_a_key_without_the_scope_may_not_send(edge: Any, bus: Any) -> None:
    reader = await edge.client(bus, of_key={"scopes": ["read"]})
    status, body, _ = await reader.send()
    assert (status, body["error_code"]) == (403, "ERR_FORBIDDEN")
    status, body, _ = await edge.operator().send()
    assert (status, body["error_code"]) == (403, "ERR_FORBIDDEN")


async def test_messages_a_second_are_limited(edge: Any, bus: Any) -> None:
    slow = await edge.client(bus, messages_per_second=1, burst=2)
    assert [(await slow.send())[0] for _ in range(2)] == [202, 202]
    status, body, headers = await slow.send()
    assert (status, body["error_code"]) == (429, "ERR_RATE_LIMIT_EXCEEDED")
    assert int(headers["Retry-After"]) == 1
    assert (headers["X-RateLimit-Limit"], headers["X-RateLimit-Remaining"]) == ("1", "0")


async def test_an_idempotency_key_sends_once(client: Any, bus: Any) -> None:
    key = {"headers": {"Idempotency-Key": "pay-1"}}
    answers = await asyncio.gather(*(client.send(**key) for _ in range(10)))
    assert {status for status, _, _ in answers} == {202}
    bodies = [body for _, body, _ in answers]
    assert bodies == [bodies[0]] * 10
    fence = (await client.send())[1]["message_id"]
    await accepted(bus, fence)
    sent = [e for e in bus.seen if isinstance(e, MessageAccepted) and e.account_id == client.account_id]
    assert sorted(e.message_id for e in sent) == sorted([bodies[0]["message_id"], fence])

    status, body, _ = await client.send(**key, to="919876543211")
    assert (status, body["error_code"]) == (422, "ERR_IDEMPOTENCY_CONFLICT")
    status, body, _ = await client.send(headers={"Idempotency-Key": "x" * 256})
    assert (status, body["error_code"]) == (400, "ERR_INVALID_REQUEST")


async def test_a_live_send_is_not_answered_by_the_test_before_it(edge: Any, client: Any, bus: Any) -> None:
    test_key = new_api_key(test_only=True)
    fact = ApiKeyFact(
        version=1,
        key_id=new_id("KEY"),
        account_id=client.account_id,
        key_hash=hash_key(test_key),
        scopes=["send"],
        test_only=True,
    )
    assert await edge.service.facts_reached(await bus.publish([fact]))
    named = {"Idempotency-Key": "order-7"}
    _, tested, _ = await client.send(key=test_key, headers=named)
    status, live, _ = await client.send(headers=named)
    assert (status, "test_mode" in live, tested["test_mode"]) == (202, False, True)
    assert not (await accepted(bus, live["message_id"])).test_mode
    assert (await client.send(headers=named))[1] == live
    assert (await client.send(key=test_key, headers=named))[1] == tested


async def test_a_refused_request_does_not_use_its_key_up(client: Any) -> None:
    key = {"headers": {"Idempotency-Key": "pay-2"}}
    assert (await client.send(**key, sender="NOBODY"))[0] == 422
    assert (await client.send(**key))[0] == 202


async def test_without_redis_only_keyed_requests_are_refused(start_edge: Any, bus: Any) -> None:
    async with start_edge(redis_url="redis://127.0.0.1:1/0") as edge:
        client = await edge.client(bus)
        status, body, _ = await client.send(headers={"Idempotency-Key": "pay-3"})
        assert (status, body["error_code"]) == (503, "ERR_UNAVAILABLE")
        assert (await client.send())[0] == 202


async def test_validate_tells_and_sends_nothing(client: Any, bus: Any) -> None:
    path = "/v1/messages/validate"
    wanted = {"to": "919876543210", "sender": "HRKARA", "template_id": "TN_OTP_001", "category": "otp"}
    status, body, _ = await client.call("POST", path, wanted | {"variables": {"otp": "1", "minutes": "5"}})
    assert status == 200
    assert (body["valid"], body["encoding"], body["parts"], body["price_paise"]) == (True, "gsm", 1, 28)
    status, body, _ = await client.call("POST", path, wanted | {"sender": "NOBODY"})
    assert (status, body["valid"], body["error_code"]) == (200, False, "ERR_SENDER_NOT_REGISTERED")
    fence = (await client.send())[1]["message_id"]
    await accepted(bus, fence)
    assert [e.message_id for e in bus.seen if isinstance(e, MessageAccepted)] == [fence]


async def test_many_at_once_are_all_accepted(client: Any, bus: Any) -> None:
    answers = await asyncio.gather(*(client.send(correlation_id=str(number)) for number in range(100)))
    assert {status for status, _, _ in answers} == {202}
    ids = {body["message_id"] for _, body, _ in answers}
    assert len(ids) == 100
    events = await bus.all(MessageAccepted, 100, lambda e: e.account_id == client.account_id)
    assert {event.message_id for event in events} == ids
