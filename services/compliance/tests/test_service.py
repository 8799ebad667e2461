"""The service on the real bus and database: commands, facts, verdicts, timers, repair."""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import asyncpg
import pytest

from harkara_chassis.clock import now_utc
from harkara_chassis.database import Database
from harkara_compliance.announcer import Announcer, untold
from harkara_compliance.app import build
from harkara_compliance.cancelling import Canceller
from harkara_compliance.handlers import MessageHandlers, RegistryHandlers
from harkara_compliance.settings import Settings
from harkara_compliance.store import Store
from harkara_compliance.waiting import Waiting
from harkara_contracts.commands import (
    AddUrl,
    RegisterEntity,
    RegisterSender,
    RegisterTemplate,
    RemoveUrl,
    SetSenderStatus,
    SetTemplateStatus,
    UpdateTemplate,
)
from harkara_contracts.errors import ErrorCode, HarkaraError
from harkara_contracts.events import (
    Content,
    Event,
    MessageAccepted,
    MessageCleared,
    MessageDeferred,
    MessageRejected,
)
from harkara_contracts.facts import EntityFact, SenderFact, TemplateFact, UrlFact
from harkara_contracts.ids import new_account_id, new_id, new_message_id
from harkara_contracts.subjects import Category, Channel, Lane
from harkara_registry import Registry, RegistryFact

ENTITY = "1701158019811140068"
TELEMARKETER = "1702158019811140001"
DLT_ID = "1007158019811140001"
BODY = "{#num:otp#} is your code for Harkara Stores. {#var:note#}"


def named(account_id: str) -> dict[str, Any]:
    return {"command_id": new_id("CMD"), "account_id": account_id, "actor": "KEY1"}


def entity_of(account_id: str) -> RegisterEntity:
    return RegisterEntity(**named(account_id), entity_id=ENTITY, name="Harkara Stores")


def sender_of(account_id: str, *, auto_approve: bool = True) -> RegisterSender:
    return RegisterSender(
        **named(account_id), sender="ABCDEF", entity_id=ENTITY, kind="transactional", auto_approve=auto_approve
    )


def template_of(account_id: str, **changes: Any) -> RegisterTemplate:
    asked: dict[str, Any] = {
        "template_id": "CODE",
        "dlt_template_id": DLT_ID,
        "category": Category.OTP,
        "senders": ["ABCDEF"],
        "body": BODY,
        "auto_approve": True,
    }
    return RegisterTemplate(**named(account_id), **asked | changes)


def accepted(account_id: str, note: str = "Thank you.", send_at: datetime | None = None) -> MessageAccepted:
    now = now_utc()
    return MessageAccepted(
        message_id=new_message_id(),
        account_id=account_id,
        lane=Lane.OTP,
        to="919876543210",
        category=Category.OTP,
        channels=[Channel.SMS],
        content=Content(sender="ABCDEF", template_id="CODE", variables={"otp": "123456", "note": note}),
        accepted_at=now,
        expires_at=now + timedelta(hours=1),
        send_at=send_at,
    )


class Stream:
    """Stands for the bus where a test needs to lose what was published."""

    def __init__(self) -> None:
        self.facts: list[RegistryFact] = []
        self.broken = False

    async def publish(self, facts: Sequence[RegistryFact]) -> int:
        if self.broken:
            raise TimeoutError
        self.facts.extend(facts)
        return len(self.facts)


async def test_a_registered_account_may_send(bus: Any, run_service: Any) -> None:
    account_id = new_account_id()
    async with run_service("compliance", build, Settings, telemarketer_id=TELEMARKETER) as service:
        call = service.commands.call
        entity = (await call(entity_of(account_id))).entity
        assert entity.telemarketer_chain == [TELEMARKETER]
        sender = await call(sender_of(account_id))
        template = await call(template_of(account_id))
        assert await service.facts_reached(template.facts_sequence)
        assert template.facts_sequence > sender.facts_sequence > 0

        of_account = {
            EntityFact: entity,
            SenderFact: sender.sender,
            TemplateFact: template.template,
        }
        for kind, fact in of_account.items():
            assert await bus.next(kind, lambda seen: seen.account_id == account_id) == fact

        event = accepted(account_id)
        await bus.publish([event])
        cleared = await bus.next(MessageCleared, lambda seen: seen.message_id == event.message_id)
        assert cleared.sms.text == "123456 is your code for Harkara Stores. Thank you."
        assert (cleared.sms.entity_id, cleared.sms.dlt_template_id) == (ENTITY, DLT_ID)
        assert cleared.sms.chain_hash == entity.chain_hash


async def test_links_pass_once_they_are_listed_and_no_longer(bus: Any, run_service: Any) -> None:
    account_id = new_account_id()
    async with run_service("compliance", build, Settings, telemarketer_id=TELEMARKETER) as service:
        call = service.commands.call
        await call(entity_of(account_id))
        await call(sender_of(account_id))
        await call(template_of(account_id))

        async def outcome_of(note: str) -> Event:
            event = accepted(account_id, note)
            await bus.publish([event])
            return await _outcome(bus, event)

        before = await outcome_of("See hkr.in/a")
        assert isinstance(before, MessageRejected)
        assert before.error_code == ErrorCode.URL_NOT_WHITELISTED
        url = (await call(AddUrl(**named(account_id), kind="domain", value="hkr.in"))).url
        assert isinstance(await outcome_of("See hkr.in/a"), MessageCleared)
        await call(RemoveUrl(**named(account_id), url_id=url.url_id))
        await bus.next(UrlFact, lambda seen: seen.url_id == url.url_id and seen.deleted)
        assert isinstance(await outcome_of("See hkr.in/a"), MessageRejected)


async def _outcome(bus: Any, event: MessageAccepted) -> Event:
    waits = [
        asyncio.ensure_future(bus.next(kind, lambda seen: seen.message_id == event.message_id))
        for kind in (MessageCleared, MessageRejected)
    ]
    done, pending = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for wait in pending:
        wait.cancel()
    outcome: Event = done.pop().result()
    return outcome


async def test_refusals_come_back_to_the_caller(run_service: Any) -> None:
    account_id = new_account_id()
    async with run_service("compliance", build, Settings) as service:
        with pytest.raises(HarkaraError) as refusal:
            await service.commands.call(sender_of(account_id))
        assert refusal.value.code is ErrorCode.INVALID_REQUEST
        assert "POST /v1/entities" in refusal.value.message


async def test_a_scheduled_message_comes_back_by_its_timer(bus: Any, run_service: Any) -> None:
    account_id = new_account_id()
    async with run_service("compliance", build, Settings, telemarketer_id=TELEMARKETER) as service:
        await service.commands.call(entity_of(account_id))
        await service.commands.call(sender_of(account_id))
        due = now_utc() + timedelta(seconds=2)
        events = [accepted(account_id, send_at=due) for _ in range(3)]
        await bus.publish(events)
        ids = {event.message_id for event in events}
        deferred = await bus.all(MessageDeferred, 3, lambda seen: seen.message_id in ids)
        assert {(event.until, event.reason) for event in deferred} == {(due, "scheduled")}
        # Registered while the messages wait: they are judged by what is registered when they are due.
        await service.commands.call(template_of(account_id))
        cleared = await bus.all(MessageCleared, 3, lambda seen: seen.message_id in ids)
        assert {event.message_id for event in cleared} == ids
        assert now_utc() >= due


async def test_what_another_instance_registered_is_known_in_time(
    store: Store, waiting: Waiting, canceller: Canceller
) -> None:
    """A refusal is given only after a look into the tables, so a fact that is still on its way harms nobody."""
    account_id = new_account_id()
    stale = MessageHandlers(Registry(), store, waiting, canceller)
    await _registered(account_id, RegistryHandlers(Registry(), store, Stream().publish, TELEMARKETER))
    (outcome,) = await stale.on_messages([accepted(account_id)])
    assert isinstance(outcome, MessageCleared)


async def test_a_batch_s_bad_message_harms_no_other(store: Store, waiting: Waiting, canceller: Canceller) -> None:
    account_id, nobody = new_account_id(), new_account_id()
    await _registered(account_id, RegistryHandlers(Registry(), store, Stream().publish, TELEMARKETER))
    handlers = MessageHandlers(Registry(), store, waiting, canceller)
    events = [accepted(account_id), accepted(nobody), accepted(account_id)]
    outcomes = await handlers.on_messages(events)
    assert [type(outcome) for outcome in outcomes] == [MessageCleared, MessageRejected, MessageCleared]
    again = await handlers.on_messages(events)
    assert [outcome.event_id() for outcome in again] == [outcome.event_id() for outcome in outcomes]


async def _registered(account_id: str, handlers: RegistryHandlers) -> None:
    await handlers.register_entity(entity_of(account_id))
    await handlers.register_sender(sender_of(account_id))
    await handlers.register_template(template_of(account_id))


async def test_a_repeat_answers_the_same_and_changes_nothing(store: Store, database: Database) -> None:
    account_id = new_account_id()
    stream = Stream()
    handlers = RegistryHandlers(Registry(), store, stream.publish, TELEMARKETER)
    await _registered(account_id, handlers)
    first = list(stream.facts)
    await _registered(account_id, handlers)
    assert stream.facts == first * 2
    rows = await database.fetch("SELECT kind, name, actor FROM audit WHERE account_id = $1 ORDER BY number", account_id)
    assert [tuple(row) for row in rows] == [
        ("entity", ENTITY, "KEY1"),
        ("sender", "ABCDEF", "KEY1"),
        ("template", "CODE", "KEY1"),
    ]


async def test_what_was_committed_but_not_told_is_told_by_the_repeat(store: Store) -> None:
    account_id = new_account_id()
    stream = Stream()
    handlers = RegistryHandlers(Registry(), store, stream.publish, TELEMARKETER)
    stream.broken = True
    with pytest.raises(TimeoutError):
        await handlers.register_entity(entity_of(account_id))
    stream.broken = False
    reply = await handlers.register_entity(entity_of(account_id))
    assert stream.facts == [reply.entity]


async def test_changes_of_one_account_are_made_one_at_a_time(store: Store) -> None:
    account_id = new_account_id()
    stream = Stream()
    instances = [RegistryHandlers(Registry(), store, stream.publish, TELEMARKETER) for _ in range(2)]
    await _registered(account_id, instances[0])
    stream.facts.clear()
    await asyncio.gather(
        *(
            instances[number % 2].update_template(
                UpdateTemplate(**named(account_id), template_id="CODE", language=f"e{chr(97 + number)}")
            )
            for number in range(8)
        )
    )
    versions = [fact.version for fact in stream.facts]
    assert versions == sorted(set(versions))
    (kept,) = [fact for fact in await store.facts(account_id) if isinstance(fact, TemplateFact)]
    assert kept == stream.facts[-1]


async def test_a_failed_change_leaves_no_lock(store: Store) -> None:
    account_id = new_account_id()
    for _ in range(2):
        with pytest.raises(RuntimeError):
            async with store.account(account_id):
                raise RuntimeError
    async with asyncio.timeout(5), store.account(account_id) as account:
        assert await account.facts() == []


async def test_the_history_of_approvals_is_kept(store: Store, database: Database) -> None:
    account_id = new_account_id()
    handlers = RegistryHandlers(Registry(), store, Stream().publish, TELEMARKETER)
    await handlers.register_entity(entity_of(account_id))
    await handlers.register_sender(sender_of(account_id, auto_approve=False))
    for status, reason in (("approved", None), ("suspended", "complaints"), ("approved", None)):
        await handlers.set_sender_status(
            SetSenderStatus(**named(account_id), sender="ABCDEF", status=status, reason=reason)
        )
    rows = await database.fetch(
        "SELECT status, reason FROM status_history WHERE account_id = $1 ORDER BY number", account_id
    )
    assert [tuple(row) for row in rows] == [
        ("pending", None),
        ("approved", None),
        ("suspended", "complaints"),
        ("approved", None),
    ]


async def test_a_suspended_template_stops_messages(store: Store, waiting: Waiting, canceller: Canceller) -> None:
    account_id = new_account_id()
    registry = Registry()
    handlers = RegistryHandlers(registry, store, Stream().publish, TELEMARKETER)
    await _registered(account_id, handlers)
    messages = MessageHandlers(registry, store, waiting, canceller)
    (before,) = await messages.on_messages([accepted(account_id)])
    assert isinstance(before, MessageCleared)
    await handlers.set_template_status(
        SetTemplateStatus(**named(account_id), template_id="CODE", status="suspended", reason="complaints")
    )
    (after,) = await messages.on_messages([accepted(account_id)])
    assert isinstance(after, MessageRejected)
    assert after.error_code == ErrorCode.DLT_TEMPLATE_SUSPENDED


async def test_the_audit_log_cannot_be_changed(store: Store, database: Database) -> None:
    account_id = new_account_id()
    await _registered(account_id, RegistryHandlers(Registry(), store, Stream().publish, TELEMARKETER))
    await database.execute("DELETE FROM audit WHERE account_id = $1", account_id)
    await database.execute("UPDATE audit SET actor = 'nobody' WHERE account_id = $1", account_id)
    rows = await database.fetch("SELECT actor FROM audit WHERE account_id = $1", account_id)
    assert [row["actor"] for row in rows] == ["KEY1"] * 3


async def test_the_tables_refuse_an_unknown_status(store: Store, database: Database) -> None:
    account_id = new_account_id()
    await _registered(account_id, RegistryHandlers(Registry(), store, Stream().publish, TELEMARKETER))
    with pytest.raises(asyncpg.CheckViolationError):
        await database.execute("UPDATE sender SET status = 'fine' WHERE account_id = $1", account_id)


async def test_differences_between_tables_and_stream_are_mended(store: Store) -> None:
    account_id = new_account_id()
    stream = Stream()
    handlers = RegistryHandlers(Registry(), store, stream.publish, TELEMARKETER)
    await _registered(account_id, handlers)
    url = (await handlers.add_url(AddUrl(**named(account_id), kind="domain", value="hkr.in"))).url
    entity, sender, template, _ = stream.facts
    removal = RemoveUrl(**named(account_id), url_id=url.url_id)
    await handlers.remove_url(removal)
    orphan = sender.model_copy(update={"sender": "ORPHAN"})
    # Seen from others: a fact never told, one that is too old, one that went, one that never was.
    shown = [sender.model_copy(update={"version": 1, "status": "pending"}), template, url, orphan]
    others = [fact for fact in await store.facts() if fact.account_id != account_id and not fact.deleted]
    mended = Stream()
    assert await Announcer(store, mended.publish, lambda: [*shown, *others]).compare() == 4
    by_key = {fact.key(): fact for fact in mended.facts}
    assert by_key[entity.key()] == entity
    assert by_key[sender.key()] == sender
    assert by_key[url.key()].deleted
    assert by_key[orphan.key()].deleted
    kept = await store.facts(account_id)
    assert untold(kept, [entity, sender, template]) == []


async def test_facts_that_are_ahead_of_the_tables_are_overruled() -> None:
    kept = SenderFact(
        version=5,
        account_id="A",
        sender="ABCDEF",
        entity_id=ENTITY,
        kind="otp",
        status="pending",
        created_at=now_utc(),
    )
    ahead = kept.model_copy(update={"version": 9, "status": "approved"})
    assert untold([kept], [ahead]) == [kept.model_copy(update={"version": 10})]


async def test_a_restarted_service_knows_and_tells_its_registry(bus: Any, run_service: Any, store: Store) -> None:
    account_id = new_account_id()
    await _registered(account_id, RegistryHandlers(Registry(), store, Stream().publish, TELEMARKETER))
    async with run_service("compliance", build, Settings):
        template = await bus.next(TemplateFact, lambda seen: seen.account_id == account_id)
        assert template.dlt_template_id == DLT_ID
        event = accepted(account_id)
        await bus.publish([event])
        assert isinstance(await _outcome(bus, event), MessageCleared)
