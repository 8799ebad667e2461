"""What cannot be handled is kept with its reason, shown by the command line, and given back on request."""

import asyncio
import json
from collections.abc import Collection
from typing import Any

import nats
import pytest
from tests.e2e.client import Account
from tests.e2e.stack import Stack
from tests.e2e.waiting import eventually

SUBJECT = "message.v1.accepted.transactional"
READERS = {"compliance", "ingress"}


def publish(stack: Stack, body: bytes, message_id: str) -> None:
    """Put something onto the bus that no service of ours would."""

    async def work() -> None:
        client = await nats.connect(stack.nats_url)
        try:
            await client.jetstream().publish(SUBJECT, body, headers={"Nats-Msg-Id": message_id})
        finally:
            await client.close()

    asyncio.run(work())


def purge(stack: Stack) -> None:
    async def work() -> None:
        client = await nats.connect(stack.nats_url)
        try:
            await client.jetstream().purge_stream("DEAD")
        finally:
            await client.close()

    asyncio.run(work())


def dead_for_all(stack: Stack, without: Collection[int] = ()) -> list[dict[str, Any]]:
    """Wait until each reader has buried one, beyond those with the numbers that are known."""

    def look() -> list[dict[str, Any]] | None:
        letters = [letter for letter in stack.dead_letters() if letter["sequence"] not in without]
        return letters if len(letters) == len(READERS) else None

    return eventually(look, what="a dead event of each reader")


@pytest.fixture
def buried(stack: Stack) -> list[dict[str, Any]]:
    """An event that lacks what it promises, as it lies in DEAD once for each of its readers."""
    purge(stack)
    record = {"id": "no-such-message.accepted", "type": "message.accepted.v1", "data": {"message_id": "nothing"}}
    publish(stack, json.dumps([record]).encode(), "e2e-bad-record")
    return eventually(
        lambda: letters if len(letters := stack.dead_letters()) == len(READERS) else [], what="dead events"
    )


def test_a_bad_event_is_listed_shown_and_given_back(
    stack: Stack, buried: list[dict[str, Any]], account: Account
) -> None:
    assert {letter["service"] for letter in buried} == READERS
    assert {letter["original_subject"] for letter in buried} == {SUBJECT}
    assert all("missing" in letter["reason"] for letter in buried)
    # What comes after it is not held up.
    account.client.reached(account.accepted()["message_id"], "delivered")

    number = str(buried[0]["sequence"])
    code, said = stack.harkara("dead", "list")
    assert (code, number in said, "compliance" in said) == (0, True, True), said
    code, said = stack.harkara("dead", "show", number)
    assert code == 0, said
    assert json.loads(said)["body"][0]["data"] == {"message_id": "nothing"}

    code, said = stack.harkara("dead", "replay", number)
    assert (code, "Replayed: 1" in said) == (0, True), said
    # It is no better than before: each reader buries it once more for the same reason, and the replayed one is gone.
    again = dead_for_all(stack, without={letter["sequence"] for letter in buried})
    assert {letter["service"]: letter["reason"] for letter in again} == {
        letter["service"]: letter["reason"] for letter in buried
    }
    assert int(number) not in {letter["sequence"] for letter in stack.dead_letters()}
    code, said = stack.harkara("dead", "show", number)
    assert (code, f"There is no dead event {number}" in said) == (1, True), said
    purge(stack)


def test_what_is_no_json_dies_at_once(stack: Stack, account: Account) -> None:
    purge(stack)
    publish(stack, b"\x00not json", "e2e-not-json")
    letters = eventually(
        lambda: found if len(found := stack.dead_letters()) == len(READERS) else [], what="dead events"
    )
    assert {letter["reason"] for letter in letters} == {"not JSON"}
    account.client.reached(account.accepted()["message_id"], "delivered")
    purge(stack)
