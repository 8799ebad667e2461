"""The status API: fed by the saga's events from the bus, as the other services would publish them."""

import asyncio
from datetime import datetime, timedelta
from typing import Any

from harkara_chassis.clock import now_utc
from harkara_contracts import events as e
from harkara_contracts.ids import attempt_id, new_message_id
from harkara_contracts.subjects import Category, Channel, Lane


def outcome(client: Any, message_id: str, at: datetime) -> dict[str, Any]:
    return {
        "message_id": message_id,
        "account_id": client.account_id,
        "lane": Lane.OTP,
        "to": "919876543210",
        "channel": Channel.SMS,
        "carrier": "jio",
        "occurred_at": at,
    }


def trail(client: Any, message_id: str, number: int = 1, carrier: str = "jio") -> dict[str, Any]:
    return {
        "attempt_id": attempt_id(message_id, number),
        "message_id": message_id,
        "account_id": client.account_id,
        "lane": Lane.OTP,
        "channel": Channel.SMS,
        "carrier": carrier,
        "to": "919876543210",
        "category": Category.OTP,
    }


async def until(client: Any, message_id: str, state: str, last_attempt: str | None = None) -> Any:
    """Ask until the read model has caught up; attempts are read apart from messages, and either may come first."""
    async with asyncio.timeout(5):
        while True:
            status, body, _ = await client.call("GET", f"/v1/messages/{message_id}")
            assert status == 200, body
            if body["state"] == state and last_attempt in {None, *(each["state"] for each in body["attempts"][-1:])}:
                return body


async def test_a_message_is_there_right_after_its_202(client: Any) -> None:
    _, sent, _ = await client.send(correlation_id="c1")
    status, body, _ = await client.call("GET", f"/v1/messages/{sent['message_id']}")
    assert status == 200
    assert (body["message_id"], body["correlation_id"], body["channels"]) == (sent["message_id"], "c1", ["sms"])
    assert body["state"] == "accepted"
    assert body["attempts"] == []


async def test_a_message_that_another_process_accepted_is_waited_for(start_edge: Any, bus: Any) -> None:
    async with start_edge(recent_messages=0, accepted_elsewhere_s=5.0) as edge:
        client = await edge.client(bus)
        _, sent, _ = await client.send()
        status, body, _ = await client.call("GET", f"/v1/messages/{sent['message_id']}")
        assert (status, body["message_id"]) == (200, sent["message_id"])
    async with start_edge(accepted_elsewhere_s=0.2) as edge:
        client = await edge.client(bus)
        status, body, _ = await client.call("GET", f"/v1/messages/{new_message_id()}")
        assert (status, body["error_code"]) == (404, "ERR_NOT_FOUND")


async def test_the_whole_life_is_told(client: Any, bus: Any) -> None:
    message_id = (await client.send())[1]["message_id"]
    at = now_utc()
    first, second = trail(client, message_id, 1, "vi"), trail(client, message_id, 2)
    funded = {"units": 1, "expires_at": at + timedelta(minutes=5), "price_mp": 28_000}
    await bus.publish(
        [
            e.AttemptFunded(**first, **funded, planned_at=at),
            e.AttemptFailed(
                **first,
                error_code="ERR_CARRIER_UNAVAILABLE",
                error_description="no bind",
                carrier_code="8",
                left=False,
                retriable=True,
                failed_at=at,
            ),
        ]
    )
    assert (await until(client, message_id, "sending"))["cost_paise"] == 0
    await bus.publish(
        [
            e.AttemptFunded(**second, **funded, planned_at=at),
            e.AttemptSent(**second, carrier_message_ids=["x"], sent_at=at),
        ]
    )
    assert (await until(client, message_id, "sent"))["cost_paise"] == 28
    delivered = at + timedelta(seconds=2)
    await bus.publish([e.AttemptDelivered(**second, delivered_at=delivered, carrier_code="000")])
    await bus.publish(
        [e.MessageDelivered(**outcome(client, message_id, delivered), delivered_at=delivered, latency_ms=2_000)]
    )
    body = await until(client, message_id, "delivered", "delivered")
    assert (body["channel"], body["carrier"], body["parts"], body["error_code"]) == ("sms", "jio", 1, None)
    assert [(a["attempt"], a["carrier"], a["state"], a["cost_paise"]) for a in body["attempts"]] == [
        (1, "vi", "failed", 0),
        (2, "jio", "delivered", 28),
    ]
    assert body["attempts"][0]["carrier_code"] == "8"
    assert body["delivered_at"].endswith("Z")


async def test_a_refusal_found_later_is_told_with_its_code(client: Any, bus: Any) -> None:
    message_id = (await client.send())[1]["message_id"]
    rejected = e.MessageRejected(
        **outcome(client, message_id, now_utc()) | {"channel": None, "carrier": None},
        error_code="ERR_DND_SUBSCRIBER",
        error_description="The subscriber does not want promotion.",
        rejected_by="compliance",
    )
    await bus.publish([rejected])
    body = await until(client, message_id, "rejected")
    assert (body["error_code"], body["channel"]) == ("ERR_DND_SUBSCRIBER", None)
    assert body["failed_at"] is not None


async def test_another_account_sees_nothing(client: Any, edge: Any, bus: Any) -> None:
    message_id = (await client.send())[1]["message_id"]
    other = await edge.client(bus)
    status, body, _ = await other.call("GET", f"/v1/messages/{message_id}")
    assert (status, body["error_code"]) == (404, "ERR_NOT_FOUND")
    assert (await other.call("GET", "/v1/messages"))[1]["messages"] == []


async def test_lists_filter_and_lead_on(client: Any) -> None:
    ids = [(await client.send(correlation_id=f"c{number % 2}"))[1]["message_id"] for number in range(5)]
    async with asyncio.timeout(5):
        while len((await client.call("GET", "/v1/messages"))[1]["messages"]) < 5:
            pass
    found: list[str] = []
    path = "/v1/messages?limit=2"
    for _ in range(3):
        _, page, _ = await client.call("GET", path)
        found += [message["message_id"] for message in page["messages"]]
        path = f"/v1/messages?limit=2&cursor={page['next_cursor']}"
    assert (found, page["next_cursor"]) == (ids[::-1], None)
    _, page, _ = await client.call("GET", "/v1/messages?correlation_id=c1&state=accepted")
    assert [message["message_id"] for message in page["messages"]] == [ids[3], ids[1]]
    assert (await client.call("GET", "/v1/messages?state=delivered"))[1]["messages"] == []
    assert (await client.call("GET", "/v1/messages?state=lost"))[0] == 400
    assert len((await client.call("GET", "/v1/messages?channel=sms"))[1]["messages"]) == 5
    assert (await client.call("GET", "/v1/messages?channel=rcs"))[1]["messages"] == []
    assert (await client.call("GET", "/v1/messages?channel=pigeon"))[0] == 400


async def test_another_process_tells_the_same(client: Any, start_edge: Any, bus: Any) -> None:
    async with start_edge() as second:
        message_id = (await client.send())[1]["message_id"]
        async with asyncio.timeout(5):
            while True:
                url = f"{second.base_url}/v1/messages/{message_id}"
                async with second.session.get(url, headers={"Authorization": f"Bearer {client.key}"}) as response:
                    if response.status == 200:
                        assert (await response.json())["state"] == "accepted"
                        return
