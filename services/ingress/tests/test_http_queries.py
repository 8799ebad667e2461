"""Lists, figures, verdicts and the sandbox over HTTP."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from harkara_chassis.clock import now_utc
from harkara_contracts import events as e
from harkara_contracts.ids import attempt_id, new_batch_id, new_message_id
from harkara_contracts.subjects import Category, Channel, Lane
from harkara_dlt import is_open
from harkara_ingress.sending import acceptance, validation
from harkara_registry import SANDBOX_NUMBERS, SANDBOX_TEMPLATES

VALIDATE = "/v1/messages/validate"


def accepted(client: Any, **changes: Any) -> e.MessageAccepted:
    now = now_utc()
    fields: dict[str, Any] = {
        "message_id": new_message_id(),
        "account_id": client.account_id,
        "lane": Lane.TRANSACTIONAL,
        "to": "919876543210",
        "category": Category.TRANSACTIONAL,
        "channels": [Channel.SMS],
        "content": e.Content(),
        "accepted_at": now,
        "expires_at": now + timedelta(days=1),
    }
    return e.MessageAccepted(**fields | changes)


def about(message: e.MessageAccepted, **more: Any) -> dict[str, Any]:
    return {
        "message_id": message.message_id,
        "account_id": message.account_id,
        "lane": message.lane,
        "batch_id": message.batch_id,
        "test_mode": message.test_mode,
    } | more


def ended(message: e.MessageAccepted, **more: Any) -> dict[str, Any]:
    sent = {"to": message.to, "channel": Channel.SMS, "carrier": "jio", "occurred_at": now_utc()}
    return about(message) | sent | more


async def until_listed(client: Any, path: str, count: int) -> list[dict[str, Any]]:
    """Ask until the read model has caught up."""
    async with asyncio.timeout(10):
        while True:
            status, body, _ = await client.call("GET", path)
            assert status == 200, body
            if len(body["messages"]) == count:
                messages: list[dict[str, Any]] = body["messages"]
                return messages
            await asyncio.sleep(0.02)


async def test_a_batch_is_listed_as_a_whole(client: Any, bus: Any) -> None:
    batch_id = new_batch_id()
    at = now_utc()
    batch = [accepted(client, batch_id=batch_id, accepted_at=at, correlation_id=str(place)) for place in range(5)]
    await bus.publish([*batch, accepted(client)])
    listed = await until_listed(client, f"/v1/messages?batch_id={batch_id}", 5)
    assert {each["message_id"] for each in listed} == {each.message_id for each in batch}
    assert {each["batch_id"] for each in listed} == {batch_id}
    assert await until_listed(client, f"/v1/messages?batch_id={batch_id}&correlation_id=3", 1)
    assert await until_listed(client, f"/v1/messages?batch_id={new_batch_id()}", 0) == []
    for wrong in (
        "BATCH1",
        "BATCH20261399ABCDEFGHJKM",
        "BATCH00010101ABCDEFGHJKM",
        "TN20261122ABCDEFGHJKM",
        f"{batch_id}%00",
    ):
        for path in (f"/v1/messages?batch_id={wrong}", f"/v1/messages?start=2026-11-01T00:00:00Z&batch_id={wrong}"):
            status, body, _ = await client.call("GET", path)
            assert (status, body["error_code"], body["errors"][0]["field"]) == (
                400,
                "ERR_INVALID_REQUEST",
                "batch_id",
            ), path


async def test_what_waits_and_what_was_taken_back(client: Any, bus: Any) -> None:
    until = now_utc() + timedelta(hours=2)
    scheduled, at_night, cancelled = (accepted(client, send_at=until) for _ in range(3))
    deferred = [
        e.MessageDeferred(**about(message), until=until, reason=reason, deferred_at=now_utc())
        for message, reason in ((scheduled, "scheduled"), (at_night, "promotional_window"), (cancelled, "scheduled"))
    ]
    await bus.publish([scheduled, at_night, cancelled, *deferred])
    await bus.publish([e.MessageCancelled(**ended(cancelled, channel=None, carrier=None), cancelled_by="KEY1")])
    (gone,) = await until_listed(client, "/v1/messages?state=cancelled", 1)
    assert gone["message_id"] == cancelled.message_id
    assert (gone["state"], gone["failed_at"], gone["deferred_until"], gone["error_code"]) == (
        "cancelled",
        None,
        None,
        None,
    )
    assert gone["cancelled_at"] is not None
    (waiting,) = await until_listed(client, "/v1/messages?state=scheduled", 1)
    assert (waiting["message_id"], waiting["state"], waiting["deferred_reason"]) == (
        scheduled.message_id, "deferred", "scheduled",
    )  # fmt: skip
    assert waiting["deferred_until"] == waiting["scheduled_at"]
    both = await until_listed(client, "/v1/messages?state=deferred", 2)
    assert {each["message_id"] for each in both} == {scheduled.message_id, at_night.message_id}


async def test_filters_that_name_what_is_rare(client: Any, bus: Any) -> None:
    failed, tested, late = accepted(client), accepted(client, test_mode=True), accepted(client, category=Category.OTP)
    errors = {"error_code": "ERR_NUMBER_INACTIVE", "error_description": "The number is not in service."}
    await bus.publish([failed, tested, late])
    await bus.publish([e.MessageFailed(**ended(failed), **errors)])
    (found,) = await until_listed(client, "/v1/messages?error_code=ERR_NUMBER_INACTIVE", 1)
    assert (found["message_id"], found["state"], found["carrier"]) == (failed.message_id, "failed", "jio")
    (found,) = await until_listed(client, "/v1/messages?test_mode=true", 1)
    assert found["message_id"] == tested.message_id
    (found,) = await until_listed(client, "/v1/messages?category=otp&test_mode=false", 1)
    assert found["message_id"] == late.message_id


async def test_how_long_it_took_is_told(client: Any, bus: Any) -> None:
    message = accepted(client)
    delivered_at = message.accepted_at + timedelta(milliseconds=2_344, microseconds=500)
    await bus.publish([message])
    await bus.publish([e.MessageDelivered(**ended(message), delivered_at=delivered_at, latency_ms=2_345)])
    await until_listed(client, "/v1/messages?state=delivered", 1)
    _, told, _ = await client.call("GET", f"/v1/messages/{message.message_id}")
    assert (told["state"], told["latency_ms"]) == ("delivered", 2_345)


@pytest.mark.parametrize(
    "query",
    [
        "start=2026-01-01T00:00:00Z&end=2026-03-01T00:00:00Z",
        "start=2026-01-02T00:00:00Z&end=2026-01-01T00:00:00Z",
        "start=2026-01-01T00:00:00",
        "start=yesterday",
        "end=1970-01-01T00:00:00Z",
    ],
)
async def test_ranges_have_bounds(client: Any, query: str) -> None:
    for path in ("/v1/messages", "/v1/analytics/delivery"):
        status, body, _ = await client.call("GET", f"{path}?{query}")
        assert (status, body["error_code"]) == (400, "ERR_INVALID_REQUEST"), path


async def test_a_start_alone_asks_for_as_much_as_there_may_be(client: Any) -> None:
    _, body, _ = await client.call("GET", "/v1/analytics/delivery?start=2026-01-01T00:00:00Z")
    assert (body["start"], body["end"]) == ("2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z")


async def test_figures(client: Any, edge: Any, bus: Any) -> None:
    messages = [accepted(client, test_mode=place == 9) for place in range(10)]
    await bus.publish(messages)
    for message, latency_ms in zip(messages, (100, 200, 300, 400), strict=False):
        delivered_at = message.accepted_at + timedelta(milliseconds=latency_ms)
        await bus.publish([e.MessageDelivered(**ended(message), delivered_at=delivered_at, latency_ms=latency_ms)])
    errors = {"error_code": "ERR_NUMBER_INACTIVE", "error_description": "The number is not in service."}
    await bus.publish([e.MessageFailed(**ended(messages[4]), **errors)])
    sent = attempt_id(messages[5].message_id, 1)
    trail = {
        "attempt_id": sent,
        "message_id": messages[5].message_id,
        "account_id": client.account_id,
        "lane": Lane.TRANSACTIONAL,
        "channel": Channel.SMS,
        "carrier": "jio",
        "to": "919876543210",
        "category": Category.TRANSACTIONAL,
    }
    await bus.publish([e.AttemptSent(**trail, carrier_message_ids=["1"], sent_at=now_utc())])
    expected = {"delivered": 4, "failed": 1, "sent": 1, "accepted": 3}
    async with asyncio.timeout(10):
        while True:
            _, report, _ = await client.call("GET", "/v1/analytics/delivery")
            if {state: count for state, count in report["states"].items() if count} == expected:
                break
            await asyncio.sleep(0.02)
    assert (report["messages"], report["delivery_rate"]) == (9, 0.8)
    assert report["latency_ms"] == {"p50": 200, "p95": 400, "p99": 400}
    assert report["errors"] == [{"error_code": "ERR_NUMBER_INACTIVE", "channel": "sms", "messages": 1}]
    assert (report["group_by"], report["groups"]) == (None, [])
    for group_by in ("day", "hour", "channel"):
        _, grouped, _ = await client.call("GET", f"/v1/analytics/delivery?group_by={group_by}")
        assert sum(group["messages"] for group in grouped["groups"]) == 9
        assert grouped["latency_ms"] == report["latency_ms"]
    assert [group["group"] for group in grouped["groups"]] == ["sms"]
    _, tests, _ = await client.call("GET", "/v1/analytics/delivery?test_mode=true")
    assert tests["messages"] == 1
    other = await edge.client(bus)
    assert (await other.call("GET", "/v1/analytics/delivery"))[1]["messages"] == 0
    assert (await client.call("GET", "/v1/analytics/delivery?group_by=carrier"))[0] == 400
    sender = await edge.client(bus, of_key={"scopes": ["send"]})
    assert (await sender.call("GET", "/v1/analytics/delivery"))[0] == 403


def otp(**changes: Any) -> dict[str, Any]:
    return {
        "to": "919876543210",
        "sender": "HRKARA",
        "template_id": "TN_OTP_001",
        "category": "otp",
        "variables": {"otp": "1", "minutes": "5"},
    } | changes


async def test_a_verdict_tells_the_text_and_when_it_leaves(client: Any) -> None:
    _, told, _ = await client.call("POST", VALIDATE, otp())
    text = "1 is your Harkara login code. It is valid for 5 minutes."
    assert (told["valid"], told["text"], told["units"], told["units_per_part"]) == (True, text, len(text), 160)
    assert (told["category"], told["test_mode"], told["price_paise"], told["deferred_reason"]) == (
        "otp",
        False,
        28,
        None,
    )
    assert (told["forcing_characters"], told["gsm_alternative"], told["mismatch"]) == ([], None, None)
    _, told, _ = await client.call("POST", VALIDATE, otp(test_mode=True))
    assert (told["test_mode"], told["price_paise"]) == (True, 0)
    at = (now_utc() + timedelta(days=1)).replace(microsecond=0)
    _, told, _ = await client.call("POST", VALIDATE, otp(schedule_at=at.isoformat()))
    assert (told["departs_at"], told["deferred_reason"]) == (f"{at:%Y-%m-%dT%H:%M:%SZ}", "scheduled")


async def test_a_verdict_tells_the_hours_of_promotion(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    night = now_utc().replace(hour=20, minute=0, second=0, microsecond=0)  # 01:30 in India
    assert not is_open(night)
    monkeypatch.setattr(validation, "now_utc", lambda: night)
    monkeypatch.setattr(acceptance, "now_utc", lambda: night)
    wanted = otp(
        template_id="SANDBOX_PROMO", category="promotional", variables={"offer": "10", "code": "A"}, test_mode=True
    )
    _, told, _ = await client.call("POST", VALIDATE, wanted)
    opens = night + timedelta(hours=8, minutes=30)
    assert (told["valid"], told["departs_at"], told["deferred_reason"]) == (
        True, f"{opens:%Y-%m-%dT%H:%M:%SZ}", "promotional_window",
    )  # fmt: skip
    later = night + timedelta(hours=30)  # the night after
    _, told, _ = await client.call("POST", VALIDATE, wanted | {"schedule_at": later.isoformat()})
    assert told["deferred_reason"] == "promotional_window"
    in_the_day = night + timedelta(hours=12)
    _, told, _ = await client.call("POST", VALIDATE, wanted | {"schedule_at": in_the_day.isoformat()})
    assert (told["deferred_reason"], told["departs_at"]) == ("scheduled", f"{in_the_day:%Y-%m-%dT%H:%M:%SZ}")


async def test_a_verdict_shows_where_a_text_leaves_its_template(client: Any) -> None:
    text = "1 is your Harkara login code. It is good for 5 minutes."
    _, told, _ = await client.call("POST", VALIDATE, otp(variables=None, message=text))
    assert (told["valid"], told["error_code"], told["parts"]) == (False, "ERR_DLT_TEMPLATE_MISMATCH", 1)
    place = told["mismatch"]
    assert text[place["text_character"] - 1 :].startswith("good")
    assert "valid" in place["expected"]
    body = "{#num:otp#} is your Harkara login code. It is valid for {#num:minutes#} minutes."
    assert body[place["template_character"] - 1 :].startswith(place["expected"])
    _, told, _ = await client.call("POST", VALIDATE, otp(message=text))
    assert told["mismatch"] == {"text_character": text.index("good") + 1, "template_character": None, "expected": None}
    _, told, _ = await client.call("POST", VALIDATE, otp(sender="NOBODY"))
    assert (told["valid"], told["mismatch"], told["text"]) == (False, None, None)


async def test_a_rupee_sign_is_named_and_spelt_in_gsm(client: Any) -> None:
    free = otp(template_id="SANDBOX_FREE", test_mode=True, category="transactional", variables=None)
    _, told, _ = await client.call("POST", VALIDATE, free | {"message": "Paid ₹500"})
    assert (told["encoding"], told["forcing_characters"], told["units_per_part"]) == ("ucs2", ["U+20B9"], 70)
    assert (told["gsm_alternative_exists"], told["gsm_alternative"]["text"]) == (True, "Paid Rs500")
    _, told, _ = await client.call("POST", VALIDATE, free | {"message": "नमस्ते"})
    assert (told["encoding"], told["gsm_alternative_exists"], told["gsm_alternative"]) == ("ucs2", False, None)
    curly = "“" + "a" * 100 + "”"
    _, told, _ = await client.call("POST", VALIDATE, free | {"message": curly})
    assert (told["parts"], told["gsm_alternative_exists"]) == (2, True)
    assert told["gsm_alternative"] == {"text": '"' + "a" * 100 + '"', "parts": 1, "price_paise": 0}


async def test_a_refused_text_is_measured_all_the_same(client: Any) -> None:
    text = "1 is your Harkara login code. It is valid for 5 minutes. ₹"
    _, told, _ = await client.call("POST", VALIDATE, otp(variables=None, message=text, unicode=False))
    assert (told["valid"], told["error_code"], told["encoding"]) == (False, "ERR_INVALID_UNICODE", "ucs2")
    _, told, _ = await client.call("POST", VALIDATE, otp(variables=None, message="a" * 2_000))
    assert (told["error_code"], told["parts"]) == ("ERR_MESSAGE_TOO_LONG", 14)


async def test_the_sandbox_is_told_as_data(edge: Any, bus: Any) -> None:
    for scopes in (["send"], ["read"], ["manage"]):
        client = await edge.client(bus, of_key={"scopes": scopes})
        status, told, _ = await client.call("GET", "/v1/sandbox")
        assert status == 200
    assert [each["number"] for each in told["numbers"]] == [each.number for each in SANDBOX_NUMBERS]
    assert {each["template_id"] for each in told["templates"]} == set(SANDBOX_TEMPLATES)
    by_name = {each["name"]: each for each in told["numbers"]}
    assert by_name["delivered"]["error_code"] is None
    assert by_name["failed_dnd"]["error_code"] == "ERR_DND_SUBSCRIBER"
    assert (await edge.operator().call("GET", "/v1/sandbox", key="nobody"))[0] == 401


async def test_what_the_sandbox_tells_can_be_sent(edge: Any, bus: Any) -> None:
    client = await edge.client(bus, available_mp=0)
    _, told, _ = await client.call("GET", "/v1/sandbox")
    values = {"numeric": "123456", "alphanumeric": "A1", "str": "Asha"}
    for template in told["templates"]:
        status, body, _ = await client.send(
            to=told["numbers"][0]["number"],
            sender=told["sender"],
            template_id=template["template_id"],
            category=template["category"],
            variables={each["name"]: values[each["type"]] for each in template["variables"]},
            test_mode=True,
        )
        assert (status, body.get("test_mode")) == (202, True), body
