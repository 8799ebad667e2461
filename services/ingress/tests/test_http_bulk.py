"""Bulk sends over a real socket, a real bus and a real database."""

import asyncio
import io
import json
import time
from contextlib import suppress
from datetime import timedelta
from typing import Any

from harkara_chassis.clock import now_utc
from harkara_contracts.events import BatchAccepted, BatchCancelled, BatchCompleted, MessageAccepted, MessageDelivered
from harkara_contracts.facts import ApiKeyFact
from harkara_contracts.ids import message_id_in, new_id
from harkara_ingress.access.accounts import hash_key, new_api_key

PATH = "/v1/sms/bulk"


def recipient(number: int = 0, **changes: Any) -> dict[str, Any]:
    return {"to": str(919_800_000_000 + number), "variables": {"otp": str(100_000 + number), "minutes": 5}} | changes


def bulk(recipients: list[Any], **changes: Any) -> dict[str, Any]:
    shared = {"sender": "HRKARA", "template_id": "TN_OTP_001", "category": "otp"}
    return shared | {"recipients": recipients} | changes


async def post(client: Any, wanted: dict[str, Any]) -> tuple[int, Any]:
    """Send a bulk whose body is too large to be given to the session at once."""
    headers = {"Authorization": f"Bearer {client.key}", "Content-Type": "application/json"}
    body = io.BytesIO(json.dumps(wanted).encode())
    async with client.session.post(client.base_url + PATH, headers=headers, data=body) as response:
        return response.status, await response.json()


async def begun(bus: Any, batch_id: str, count: int) -> list[MessageAccepted]:
    found: list[MessageAccepted] = await bus.all(
        MessageAccepted, count, lambda event: event.batch_id == batch_id, timeout_s=15.0
    )
    return found


def delivered(event: MessageAccepted) -> MessageDelivered:
    return MessageDelivered(
        message_id=event.message_id,
        account_id=event.account_id,
        lane=event.lane,
        batch_id=event.batch_id,
        to=event.to,
        occurred_at=now_utc(),
        delivered_at=now_utc(),
        latency_ms=7,
    )


async def status_of(client: Any, batch_id: str) -> Any:
    status, body, _ = await client.call("GET", f"/v1/batches/{batch_id}")
    assert status == 200, body
    return body


async def test_a_bulk_is_accepted_and_each_recipient_gets_its_message(client: Any, bus: Any) -> None:
    recipients = [recipient(0), recipient(1, correlation_id="second"), recipient(0)]
    status, body, headers = await client.call("POST", PATH, bulk(recipients, correlation_id="campaign"))
    assert status == 202
    assert body == {
        "status": "accepted",
        "batch_id": body["batch_id"],
        "total_recipients": 3,
        "estimated_credits": 3,
        "rejected": [],
        "correlation_id": "campaign",
    }
    assert body["batch_id"].startswith("BATCH")
    assert headers["X-Request-Id"]
    events = await begun(bus, body["batch_id"], 3)
    by_id = {event.message_id: event for event in events}
    in_order = [by_id[message_id_in(body["batch_id"], place)] for place in range(3)]
    assert [event.to for event in in_order] == ["919800000000", "919800000001", "919800000000"]
    assert [event.content.variables["otp"] for event in in_order] == ["100000", "100001", "100000"]
    assert [event.correlation_id for event in in_order] == ["campaign", "second", "campaign"]
    accepted = await bus.next(BatchAccepted, lambda event: event.batch_id == body["batch_id"])
    assert (accepted.total, accepted.rejected, accepted.portions) == (3, 0, 1)
    assert all(event.accepted_at == accepted.accepted_at for event in events)


async def test_what_all_share_may_be_given_once_and_numbers_as_numbers(client: Any, bus: Any) -> None:
    wanted = bulk([{"to": 919800000000, "variables": {"otp": 42}}], variables={"minutes": "7", "otp": "1"})
    status, body, _ = await client.call("POST", "/v1/messages/bulk", wanted | {"channel": "sms"})
    assert status == 202, body
    (event,) = await begun(bus, body["batch_id"], 1)
    assert event.content.variables == {"minutes": "7", "otp": "42"}


async def test_bad_recipients_are_listed_and_the_others_go(client: Any, bus: Any) -> None:
    recipients = [
        recipient(0),
        recipient(1, to="12345"),
        recipient(2, variables={"otp": "letters", "minutes": "5"}),
        recipient(3, variables=["a"]),
        "nobody",
        {"variables": {}},
        recipient(6),
    ]
    status, body, _ = await client.call("POST", PATH, bulk(recipients))
    assert (status, body["total_recipients"], body["estimated_credits"]) == (202, 2, 2)
    assert [(one["index"], one["to"], one["error_code"]) for one in body["rejected"]] == [
        (1, "12345", "ERR_INVALID_MOBILE"),
        (2, "919800000002", "ERR_DLT_TEMPLATE_MISMATCH"),
        (3, "919800000003", "ERR_INVALID_REQUEST"),
        (4, None, "ERR_INVALID_REQUEST"),
        (5, None, "ERR_INVALID_REQUEST"),
    ]
    assert all(one["error_message"] for one in body["rejected"])
    events = await begun(bus, body["batch_id"], 2)
    assert {event.message_id for event in events} == {message_id_in(body["batch_id"], place) for place in (0, 6)}


async def test_what_is_wrong_with_all_refuses_the_call(client: Any, edge: Any, bus: Any) -> None:
    good = [recipient()]
    cases: list[tuple[dict[str, Any], int, str]] = [
        (bulk([]), 400, "ERR_INVALID_REQUEST"),
        (bulk(good) | {"recipients": {"to": "919800000000"}}, 400, "ERR_INVALID_REQUEST"),
        (bulk(good) | {"recipients": None}, 400, "ERR_INVALID_REQUEST"),
        (bulk(good, sender="NOBODY"), 422, "ERR_SENDER_NOT_REGISTERED"),
        (bulk(good, template_id="NONE"), 422, "ERR_TEMPLATE_NOT_FOUND"),
        (bulk(good, category="promotional"), 422, "ERR_TEMPLATE_CATEGORY_MISMATCH"),
        (bulk(good, schedule_at="2020-01-01T00:00:00Z"), 400, "ERR_INVALID_REQUEST"),
        (bulk(good, validity_seconds=1), 400, "ERR_INVALID_REQUEST"),
        (bulk([recipient(to="x")] * 2), 400, "ERR_INVALID_MOBILE"),
        (bulk([recipient(variables={})]), 422, "ERR_DLT_TEMPLATE_MISMATCH"),
    ]
    for wanted, status, code in cases:
        got, body, _ = await client.call("POST", PATH, wanted)
        assert (got, body["error_code"]) == (status, code), body
    got, body, _ = await client.call("POST", PATH, bulk([recipient(to="x")] * 50))
    assert [one["field"] for one in body["errors"]] == [f"recipients.{place}" for place in range(20)]
    for text in (b"[]", b'{"recipients": [', b'{"recipients": "none"}', b"{}", b"7"):
        got, body, _ = await client.call("POST", PATH, text)
        assert (got, body["error_code"]) == (400, "ERR_INVALID_REQUEST")
    got, body, _ = await client.call("POST", "/v1/messages/bulk", bulk(good))
    assert (got, body["errors"][0]["field"]) == (400, "body")
    poor = await edge.client(bus, available_mp=2 * 28_000)
    assert (await poor.call("POST", PATH, bulk([recipient(place) for place in range(2)])))[0] == 202
    got, body, _ = await poor.call("POST", PATH, bulk([recipient(place) for place in range(3)]))
    assert (got, body["error_code"]) == (402, "ERR_INSUFFICIENT_CREDITS")


async def test_a_key_needs_the_scope(edge: Any, bus: Any) -> None:
    reader = await edge.client(bus, of_key={"scopes": ["read"]})
    assert (await reader.call("POST", PATH, bulk([recipient()])))[0] == 403
    assert (await reader.call("DELETE", "/v1/batches/BATCH20261122ABCDEFGHJKMNPQRST"))[0] == 403


async def test_the_same_key_is_the_same_batch(client: Any, bus: Any) -> None:
    wanted = bulk([recipient(0), recipient(1)])
    answers = await asyncio.gather(*(client.call("POST", PATH, wanted, Idempotency_Key="k1") for _ in range(5)))
    assert {status for status, _, _ in answers} == {202}
    (batch_id,) = {body["batch_id"] for _, body, _ in answers}
    status, body, _ = await client.call("POST", PATH, bulk([recipient(0)]), Idempotency_Key="k1")
    assert (status, body["error_code"]) == (422, "ERR_IDEMPOTENCY_CONFLICT")
    assert len(await begun(bus, batch_id, 2)) == 2


async def test_a_hundred_thousand_recipients_with_fifty_bad_ones(edge: Any, bus: Any) -> None:
    client = await edge.client(bus, available_mp=100_000 * 28_000)
    bad = set(range(1_000, 100_000, 1_980))
    assert len(bad) == 50
    recipients = [recipient(place, **({"to": "98"} if place in bad else {})) for place in range(100_000)]
    later = (now_utc() + timedelta(hours=1)).isoformat()
    slowest_s = 0.0

    async def others() -> None:
        nonlocal slowest_s
        while True:
            began_s = time.perf_counter()
            assert (await client.call("GET", "/v1/messages?limit=1"))[0] == 200
            slowest_s = max(slowest_s, time.perf_counter() - began_s)

    meanwhile = asyncio.create_task(others())
    status, body = await post(client, bulk(recipients, schedule_at=later))
    meanwhile.cancel()
    with suppress(asyncio.CancelledError):
        await meanwhile
    assert (status, body["total_recipients"], body["estimated_credits"]) == (202, 99_950, 99_950)
    assert body["scheduled_at"] == later
    assert {one["index"] for one in body["rejected"]} == bad
    assert slowest_s < 1.0  # it takes several seconds in all, and shares the machine
    batch = await bus.next(BatchAccepted, lambda event: event.batch_id == body["batch_id"])
    assert (batch.total, batch.rejected, batch.portions) == (99_950, 50, 400)
    assert (await status_of(client, body["batch_id"]))["state"] == "scheduled"
    assert (await post(client, bulk([*recipients, recipient()])))[0] == 400
    assert (await client.call("DELETE", f"/v1/batches/{body['batch_id']}"))[0] == 200


async def test_a_batch_tells_how_far_it_is_and_is_completed_once(client: Any, bus: Any) -> None:
    _, body, _ = await client.call("POST", PATH, bulk([recipient(place) for place in range(3)], correlation_id="c"))
    batch_id = body["batch_id"]
    first = await status_of(client, batch_id)
    assert (first["batch_id"], first["total_recipients"], first["correlation_id"]) == (batch_id, 3, "c")
    events = await begun(bus, batch_id, 3)
    await bus.publish([delivered(event) for event in events[:2]])
    async with asyncio.timeout(10):
        while (await status_of(client, batch_id))["counts"] != {"delivered": 2, "accepted": 1}:
            await asyncio.sleep(0.05)
    assert (await status_of(client, batch_id))["state"] == "sending"
    await bus.publish([delivered(events[2])])
    done = await bus.next(BatchCompleted, lambda event: event.batch_id == batch_id)
    assert (done.total, done.counts, done.correlation_id) == (3, {"delivered": 3}, "c")
    async with asyncio.timeout(10):
        while (last := await status_of(client, batch_id))["state"] != "completed":
            await asyncio.sleep(0.05)
    assert (last["counts"], last["completed_at"] is not None) == ({"delivered": 3}, True)
    status, body, _ = await client.call("DELETE", f"/v1/batches/{batch_id}")
    assert (status, body["error_code"]) == (409, "ERR_CONFLICT")
    listed = (await client.call("GET", f"/v1/messages?batch_id={batch_id}"))[1]["messages"]
    assert {one["message_id"] for one in listed} == {event.message_id for event in events}
    assert len([event for event in bus.seen if isinstance(event, BatchCompleted) and event.batch_id == batch_id]) == 1


async def test_a_cancelled_batch_lets_nothing_leave_any_more(client: Any, bus: Any) -> None:
    soon = (now_utc() + timedelta(seconds=2)).isoformat()
    _, body, _ = await client.call("POST", PATH, bulk([recipient(0)], schedule_at=soon))
    batch_id = body["batch_id"]
    for _ in range(2):
        status, told, _ = await client.call("DELETE", f"/v1/batches/{batch_id}")
        assert (status, told) == (200, {"status": "cancelled", "batch_id": batch_id})
    assert (await bus.next(BatchCancelled, lambda event: event.batch_id == batch_id)).cancelled_by == "client"
    now = await status_of(client, batch_id)
    assert (now["state"], now["counts"]) == ("cancelled", {"cancelled": 1})
    # Its time comes, and then some: the batch ends with nobody reached.
    done = await bus.next(BatchCompleted, lambda event: event.batch_id == batch_id, timeout_s=15)
    assert done.counts == {"cancelled": 1}
    assert not [event for event in bus.seen if isinstance(event, MessageAccepted) and event.batch_id == batch_id]


async def test_batches_are_listed_newest_first_and_nobody_sees_others(client: Any, edge: Any, bus: Any) -> None:
    later = (now_utc() + timedelta(days=2)).isoformat()
    made: list[str] = []
    for place in range(3):
        _, body, _ = await client.call("POST", PATH, bulk([recipient(place)], schedule_at=later))
        await bus.next(BatchAccepted, lambda event, batch_id=body["batch_id"]: event.batch_id == batch_id)
        made.append(body["batch_id"])
    async with asyncio.timeout(10):
        while len((await client.call("GET", "/v1/batches"))[1]["batches"]) < 3:
            await asyncio.sleep(0.05)
    _, page, _ = await client.call("GET", "/v1/batches?limit=2")
    _, rest, _ = await client.call("GET", f"/v1/batches?limit=2&cursor={page['next_cursor']}")
    assert [one["batch_id"] for one in page["batches"] + rest["batches"]] == made[::-1]
    assert rest["next_cursor"] is None
    stranger = await edge.client(bus)
    assert (await stranger.call("GET", "/v1/batches"))[1]["batches"] == []
    for method, path in (("GET", made[0]), ("DELETE", made[0]), ("GET", "BATCH1"), ("GET", made[0][:-1])):
        status, body, _ = await stranger.call(method, f"/v1/batches/{path}")
        assert (status, body["error_code"]) == (404, "ERR_NOT_FOUND")
    assert (await client.call("GET", "/v1/batches?cursor=x"))[0] == 400
    for batch_id in made:
        assert (await client.call("DELETE", f"/v1/batches/{batch_id}"))[0] == 200


async def test_a_test_key_sends_and_cancels_tests_only(edge: Any, bus: Any) -> None:
    later = (now_utc() + timedelta(days=2)).isoformat()
    tester = await edge.client(bus, of_key={"test_only": True})
    wanted = bulk([recipient()], template_id="SANDBOX_OTP", schedule_at=later)
    _, tests, _ = await tester.call("POST", PATH, wanted | {"recipients": [recipient(variables={"otp": "123456"})]})
    assert tests["test_mode"] is True
    assert (await tester.call("DELETE", f"/v1/batches/{tests['batch_id']}"))[0] == 200
    live = new_api_key(test_only=False)
    key = ApiKeyFact(
        version=time.time_ns(),
        key_id=new_id("KEY"),
        account_id=tester.account_id,
        key_hash=hash_key(live),
        scopes=["send", "read"],
    )
    assert await edge.service.facts_reached(await bus.publish([key]))
    _, body, _ = await tester.call("POST", PATH, bulk([recipient()], schedule_at=later), key=live)
    status, told, _ = await tester.call("DELETE", f"/v1/batches/{body['batch_id']}")
    assert (status, told["error_code"]) == (403, "ERR_FORBIDDEN")
    assert (await tester.call("DELETE", f"/v1/batches/{body['batch_id']}", key=live))[0] == 200
