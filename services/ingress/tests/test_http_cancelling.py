"""Taking messages back through the edge; a small service answers in compliance's name."""

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from harkara_chassis import Service, ServiceSettings
from harkara_chassis.clock import now_utc
from harkara_contracts.commands import CancelMessage, Done
from harkara_contracts.errors import ErrorCode, HarkaraError
from harkara_contracts.events import MessageCancelled, MessageDeferred
from harkara_contracts.ids import day_of, new_message_id
from harkara_contracts.subjects import Lane
from harkara_ingress.sending import cancelling
from harkara_ingress.sending.cancelling import is_expected_to_wait, may_be_here
from harkara_ingress.status.message_store import MessageStore
from harkara_ingress.status.read_model import AttemptRow, AttemptState, MessageRow, MessageState

NOW = datetime(2026, 3, 1, 6, 30, tzinfo=UTC)
SOON = NOW + timedelta(hours=1)


class Compliance:
    """Answers as it is told to: the codes in turn, the last of them for ever; None is done."""

    def __init__(self) -> None:
        self.asked: list[CancelMessage] = []
        self.answers: list[ErrorCode | None] = [None]
        self.meanwhile: Callable[[], Awaitable[None]] | None = None

    async def build(self, service: Service[ServiceSettings]) -> None:
        service.answer(CancelMessage, self.answer)

    async def answer(self, command: CancelMessage) -> Done:
        self.asked.append(command)
        if self.meanwhile:
            await self.meanwhile()
        code = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if code is not None:
            raise HarkaraError(code, f"The words of {code}.")
        return Done()


@pytest.fixture
async def compliance(run_service: Any) -> AsyncIterator[Compliance]:
    answering = Compliance()
    async with run_service("compliance", answering.build, ServiceSettings):
        yield answering


async def cancel(client: Any, message_id: str, **more: Any) -> tuple[int, Any]:
    status, body, _ = await client.call("DELETE", f"/v1/messages/{message_id}", **more)
    return status, body


async def scheduled(client: Any, **fields: Any) -> str:
    status, body, _ = await client.send(schedule_at=(now_utc() + timedelta(hours=1)).isoformat(), **fields)
    assert status == 202, body
    message_id: str = body["message_id"]
    return message_id


async def test_a_waiting_message_is_taken_back(client: Any, compliance: Compliance) -> None:
    message_id = await scheduled(client)
    for _ in range(2):
        assert await cancel(client, message_id) == (200, {"status": "cancelled", "message_id": message_id})
    assert {(asked.account_id, asked.message_id) for asked in compliance.asked} == {(client.account_id, message_id)}
    assert all(asked.actor and asked.actor.startswith("KEY") for asked in compliance.asked)


async def test_one_that_compliance_has_not_seen_yet_is_asked_for_again(client: Any, compliance: Compliance) -> None:
    compliance.answers = [ErrorCode.NOT_FOUND, ErrorCode.NOT_FOUND, None]
    assert (await cancel(client, await scheduled(client)))[0] == 200
    assert len(compliance.asked) == 3


async def test_one_that_is_deferred_while_it_is_asked_for_is_asked_for_again(
    client: Any, bus: Any, database: Any, compliance: Compliance
) -> None:
    """Compliance did not know it, and then wrote it down and said so, before the edge looked at the status."""
    message_id = await scheduled(client)
    deferred = MessageRow(day_of(message_id), message_id, client.account_id, False, MessageState.DEFERRED)

    async def defer_meanwhile() -> None:
        await MessageStore(database).upsert_messages([deferred])

    compliance.answers = [ErrorCode.NOT_FOUND, None]
    compliance.meanwhile = defer_meanwhile
    assert (await cancel(client, message_id))[0] == 200


async def test_nobody_waits_for_ever(client: Any, compliance: Compliance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cancelling, "PATIENCE_S", 0.2)
    compliance.answers = [ErrorCode.NOT_FOUND]
    status, body, headers = await client.call("DELETE", f"/v1/messages/{await scheduled(client)}")
    assert (status, body["error_code"]) == (503, "ERR_UNAVAILABLE")
    assert "not cancelled" in body["error_message"]
    assert int(headers["Retry-After"]) >= 1


async def test_what_is_being_sent_is_not_even_asked_for(client: Any, database: Any, compliance: Compliance) -> None:
    message_id = await scheduled(client)
    day = day_of(message_id)
    attempt = AttemptRow(day, message_id, 1, client.account_id, 1, "sms", "jio", AttemptState.FUNDED)
    store = MessageStore(database)
    await store.upsert_messages([MessageRow(day, message_id, client.account_id, False, MessageState.DEFERRED)])
    await store.upsert_attempts([attempt])
    status, body = await cancel(client, message_id)
    assert (status, body["error_code"]) == (409, "ERR_CONFLICT")
    assert compliance.asked == []


async def test_what_leaves_at_once_cannot_be_taken_back(client: Any, compliance: Compliance) -> None:
    compliance.answers = [ErrorCode.NOT_FOUND]
    _, sent, _ = await client.send()
    status, body = await cancel(client, sent["message_id"])
    assert (status, body["error_code"]) == (409, "ERR_CONFLICT")
    assert "has left" in body["error_message"]
    assert len(compliance.asked) == 1


async def test_its_owner_s_refusal_is_told(client: Any, compliance: Compliance) -> None:
    compliance.answers = [ErrorCode.CONFLICT]
    status, body = await cancel(client, await scheduled(client))
    assert (status, body["error_message"]) == (409, "The words of ERR_CONFLICT.")


@pytest.mark.parametrize("message_id", ["x", "TN", "TN20261399ABCDEFGHJK", "TN20261122000000000000"])
async def test_no_message_no_cancelling(client: Any, compliance: Compliance, message_id: str) -> None:
    compliance.answers = [ErrorCode.NOT_FOUND]
    status, body = await cancel(client, message_id)
    assert (status, body["error_code"]) == (404, "ERR_NOT_FOUND")


async def test_another_account_s_message_is_as_good_as_none(
    edge: Any, bus: Any, client: Any, compliance: Compliance
) -> None:
    stranger = await edge.client(bus)
    message_id = await scheduled(client)
    compliance.answers = [ErrorCode.NOT_FOUND]
    known = await cancel(stranger, message_id)
    unknown = await cancel(stranger, new_message_id())
    assert known[0] == unknown[0] == 404
    assert known[1]["error_message"] == unknown[1]["error_message"]
    assert compliance.asked[0].account_id == stranger.account_id


async def test_it_takes_the_scope_of_sending(edge: Any, bus: Any, compliance: Compliance) -> None:
    reader = await edge.client(bus, of_key={"scopes": ["read", "manage"]})
    status, body = await cancel(reader, new_message_id())
    assert (status, body["error_code"]) == (403, "ERR_FORBIDDEN")
    assert compliance.asked == []


async def test_a_test_key_takes_back_tests_only(edge: Any, bus: Any, database: Any, compliance: Compliance) -> None:
    tester = await edge.client(bus, of_key={"test_only": True})
    mine = await scheduled(tester)
    assert (await cancel(tester, mine))[0] == 200
    live = new_message_id()
    row = MessageRow(day_of(live), live, tester.account_id, False, MessageState.DEFERRED)
    await MessageStore(database).upsert_messages([row])
    status, body = await cancel(tester, live)
    assert (status, body["error_code"]) == (403, "ERR_FORBIDDEN")
    assert (await cancel(tester, new_message_id()))[0] == 404
    assert [asked.message_id for asked in compliance.asked] == [mine]


async def test_what_its_owner_has_forgotten_is_read_from_the_status(
    client: Any, bus: Any, database: Any, compliance: Compliance
) -> None:
    compliance.answers = [ErrorCode.NOT_FOUND]
    gone, left = new_message_id(), new_message_id()
    rows = [
        MessageRow(day_of(one), one, client.account_id, False, state)
        for one, state in ((gone, MessageState.CANCELLED), (left, MessageState.DEFERRED))
    ]
    await MessageStore(database).upsert_messages(rows)
    assert (await cancel(client, gone))[0] == 200
    assert (await cancel(client, left))[0] == 409


async def test_the_status_tells_of_the_cancellation(client: Any, bus: Any, compliance: Compliance) -> None:
    message_id = await scheduled(client)
    common = {"message_id": message_id, "account_id": client.account_id, "lane": Lane.OTP}
    at = now_utc()
    await bus.publish(
        [
            MessageDeferred(**common, until=at + timedelta(hours=1), reason="scheduled", deferred_at=at),
            MessageCancelled(**common, to="919876543210", occurred_at=at, cancelled_by="KEY1"),
        ]
    )
    state = ""
    while state != "cancelled":
        status, body, _ = await client.call("GET", f"/v1/messages/{message_id}")
        assert status == 200
        state = body["state"]
    assert body["deferred_until"] is None


def row(**changes: Any) -> MessageRow:
    message_id = new_message_id()
    known: dict[str, Any] = {"category": "otp", "accepted_at": NOW, "send_at": SOON} | changes
    state = known.pop("state", MessageState.ACCEPTED)
    return MessageRow(day_of(message_id), message_id, "ACC1", False, state, **known)


def test_what_may_still_be_here() -> None:
    here = {MessageState.ACCEPTED, MessageState.DEFERRED, MessageState.CANCELLED}
    assert {state for state in MessageState if may_be_here(row(state=state))} == here


def test_what_is_expected_to_wait() -> None:
    assert is_expected_to_wait(row(), NOW)
    assert not is_expected_to_wait(row(), SOON)
    assert not is_expected_to_wait(row(send_at=None), NOW)
    assert not is_expected_to_wait(row(state=MessageState.DEFERRED), NOW)
    assert not is_expected_to_wait(row(state=MessageState.REJECTED), NOW)
    assert not is_expected_to_wait(row(accepted_at=None), NOW)
    night = datetime(2026, 3, 1, 18, 30, tzinfo=UTC)
    opening = datetime(2026, 3, 2, 4, 30, tzinfo=UTC)
    promotion = row(category="promotional", send_at=None, accepted_at=night)
    assert is_expected_to_wait(promotion, opening - timedelta(seconds=1))
    assert not is_expected_to_wait(promotion, opening)


async def test_the_api_describes_it(client: Any) -> None:
    _, described, _ = await client.call("GET", "/openapi.json")
    operation = described["paths"]["/v1/messages/{message_id}"]["delete"]
    assert operation["responses"]["200"]
    assert "409" in operation["description"]
