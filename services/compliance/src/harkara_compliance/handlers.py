"""Events and commands in, decisions out.

A message is decided from memory. A refusal is final, though, and another instance may just have registered what seems to
be missing; so before any is given the account's rows are read again and the message is judged once more. Refusals are
rare here, since the edge has judged by the same rules.

A message that has to wait is written down, then it gets its timer. When that comes due the message leaves if its row lets
it; so does a copy of the accepted event that is handled again after it was deferred.
"""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from harkara_chassis.clock import now_utc
from harkara_compliance import registrar
from harkara_compliance.announcer import Publish
from harkara_compliance.cancelling import Canceller
from harkara_compliance.store import AccountRegistry, Store
from harkara_compliance.verdict import (
    Decision,
    Deferral,
    Standing,
    State,
    as_they_stand,
    decide,
    messages_of,
    outcomes,
    unsure,
)
from harkara_compliance.waiting import Waiting
from harkara_contracts.commands import (
    AddUrl,
    Command,
    Done,
    EntityReply,
    RegisterEntity,
    RegisterSender,
    RegisterTemplate,
    RemoveUrl,
    SenderReply,
    SetSenderStatus,
    SetTemplateStatus,
    TemplateReply,
    UpdateSender,
    UpdateTemplate,
    UrlReply,
)
from harkara_contracts.errors import ErrorCode
from harkara_contracts.events import Event, MessageAccepted, MessageRejected, TimerDue
from harkara_contracts.facts import SenderFact, TemplateFact
from harkara_contracts.ids import new_id
from harkara_registry import Registry, RegistryFact

_BY_TIME = frozenset({ErrorCode.EXPIRED, ErrorCode.OUTSIDE_PROMO_WINDOW})
"""Refusals that no registration can change."""

Clock = Callable[[], datetime]


class MessageHandlers:
    """Decides messages."""

    def __init__(
        self, registry: Registry, store: Store, waiting: Waiting, canceller: Canceller, clock: Clock = now_utc
    ) -> None:
        self._registry = registry
        self._store = store
        self._waiting = waiting
        self._canceller = canceller
        self._clock = clock

    async def on_messages(self, events: Sequence[MessageAccepted]) -> Sequence[Event]:
        now = self._clock()
        decisions = await self._decide(events, now)
        standings = await self._wait(decisions, None)
        if others := [message_id for message_id in unsure(events, now) if message_id not in standings]:
            standings |= await self._waiting.leave(others, None, now)
        return outcomes(as_they_stand(events, decisions, standings) if standings else decisions, now)

    async def on_timers(self, timers: Sequence[TimerDue]) -> Sequence[Event]:
        outcome: list[Event] = []
        for timer in timers:
            # A timer that is a moment early must not be set once more for the same instant.
            now = max(self._clock(), timer.due_at)
            events = messages_of(timer)
            decisions = await self._decide(events, now)
            standings = await self._wait(decisions, timer.due_at)
            if others := [event.message_id for event in events if event.message_id not in standings]:
                standings |= await self._waiting.leave(others, timer.due_at, now)
            outcome.extend(outcomes(as_they_stand(events, decisions, standings), now))
            # A night's promotions come due together; the other lanes are served between portions.
            await asyncio.sleep(0)
        return outcome

    async def _wait(self, decisions: Sequence[Decision], due_at: datetime | None) -> dict[str, Standing]:
        """Write down what has to wait; return how it stands."""
        deferrals = [decision for decision in decisions if isinstance(decision, Deferral)]
        if not deferrals:
            return {}
        standings = await self._waiting.defer(deferrals, due_at)
        batches = {deferral.event.batch_id for deferral in deferrals if deferral.event.batch_id is not None}
        if batches and (cancelled := await self._canceller.cancel_late(batches)):
            taken_back = {d.event.message_id for d in deferrals if d.event.batch_id in cancelled}
            standings |= {
                message_id: Standing(State.CANCELLED, standing.until)
                for message_id, standing in standings.items()
                if message_id in taken_back and standing.state is State.WAITING
            }
        return standings

    async def _decide(self, events: Sequence[MessageAccepted], now: datetime) -> list[Decision]:
        registry = self._registry
        decisions = [decide(registry, event, now) for event in events]
        refused = [
            place
            for place, decision in enumerate(decisions)
            if isinstance(decision, MessageRejected) and decision.error_code not in _BY_TIME
        ]
        if refused:
            for account_id in {events[place].account_id for place in refused}:
                for fact in await self._store.facts(account_id):
                    registry.apply(fact)
            for place in refused:
                decisions[place] = decide(registry, events[place], now)
        return decisions


class RegistryHandlers:
    """Answers the commands that change the registry."""

    def __init__(
        self, registry: Registry, store: Store, publish: Publish, telemarketer_id: str | None, clock: Clock = now_utc
    ) -> None:
        self._registry = registry
        self._store = store
        self._publish = publish
        self._telemarketer_id = telemarketer_id
        self._clock = clock

    async def register_entity(self, command: RegisterEntity) -> EntityReply:
        async with self._store.account(command.account_id) as account:
            known = await account.entity(command.entity_id)
            entity = registrar.register_entity(known, command, self._telemarketer_id, self._clock())
            return EntityReply(entity=entity, facts_sequence=await self._settle(account, known, entity, command))

    async def register_sender(self, command: RegisterSender) -> SenderReply:
        async with self._store.account(command.account_id) as account:
            known = await account.sender(command.sender)
            entity = await account.entity(command.entity_id)
            sender = registrar.register_sender(known, entity, command, self._clock())
            return await self._sender_reply(account, known, sender, command)

    async def update_sender(self, command: UpdateSender) -> SenderReply:
        async with self._store.account(command.account_id) as account:
            known = await account.sender(command.sender)
            entity_id = command.entity_id or (known.entity_id if known else "")
            sender = registrar.update_sender(known, await account.entity(entity_id), command, self._clock())
            return await self._sender_reply(account, known, sender, command)

    async def set_sender_status(self, command: SetSenderStatus) -> SenderReply:
        async with self._store.account(command.account_id) as account:
            known = await account.sender(command.sender)
            sender = registrar.set_sender_status(known, command, self._clock())
            return await self._sender_reply(account, known, sender, command)

    async def register_template(self, command: RegisterTemplate) -> TemplateReply:
        async with self._store.account(command.account_id) as account:
            known = await account.template(command.template_id)
            namesake = await account.template_by_dlt_id(command.dlt_template_id or command.template_id)
            template = registrar.register_template(known, namesake, command, self._clock())
            return await self._template_reply(account, known, template, command)

    async def update_template(self, command: UpdateTemplate) -> TemplateReply:
        async with self._store.account(command.account_id) as account:
            known = await account.template(command.template_id)
            namesake = await account.template_by_dlt_id(command.dlt_template_id or "")
            template = registrar.update_template(known, namesake, command, self._clock())
            return await self._template_reply(account, known, template, command)

    async def set_template_status(self, command: SetTemplateStatus) -> TemplateReply:
        async with self._store.account(command.account_id) as account:
            known = await account.template(command.template_id)
            template = registrar.set_template_status(known, command, self._clock())
            return await self._template_reply(account, known, template, command)

    async def add_url(self, command: AddUrl) -> UrlReply:
        async with self._store.account(command.account_id) as account:
            known = await account.url_by_value(command.kind, command.value.strip())
            url = registrar.add_url(known, command, new_id("URL"), self._clock())
            return UrlReply(url=url, facts_sequence=await self._settle(account, known, url, command))

    async def remove_url(self, command: RemoveUrl) -> Done:
        async with self._store.account(command.account_id) as account:
            known = await account.url(command.url_id)
            url = registrar.remove_url(known, command, self._clock())
            return Done(facts_sequence=await self._settle(account, known, url, command))

    async def _sender_reply(
        self, account: AccountRegistry, known: SenderFact | None, sender: SenderFact, command: Command[SenderReply]
    ) -> SenderReply:
        return SenderReply(sender=sender, facts_sequence=await self._settle(account, known, sender, command))

    async def _template_reply(
        self,
        account: AccountRegistry,
        known: TemplateFact | None,
        template: TemplateFact,
        command: Command[TemplateReply],
    ) -> TemplateReply:
        return TemplateReply(template=template, facts_sequence=await self._settle(account, known, template, command))

    async def _settle(
        self, account: AccountRegistry, before: RegistryFact | None, after: RegistryFact, command: Command[Any]
    ) -> int:
        """Save a change and publish it. What has not changed is published too: the first time may not have come so far."""
        if after is not before:
            await account.save(before, after, command)
        self._registry.apply(after)
        return await self._publish([after])
