"""Commands, replies, facts and views, on the real bus."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from libs.chassis.tests.helpers import MakeAccepted, nothing
from nats.aio.client import Client

from harkara_chassis import ServiceSettings
from harkara_chassis.facts import FactView
from harkara_chassis.service import Service
from harkara_contracts.commands import BalanceReply, GetBalance, TopUp
from harkara_contracts.errors import ErrorCode, HarkaraError
from harkara_contracts.facts import BalanceFact, CarrierHealthFact
from harkara_contracts.ids import new_account_id, new_id
from harkara_contracts.subjects import Channel

if TYPE_CHECKING:
    from conftest import BusProbe, RunService


async def test_a_command_is_answered_and_its_facts_are_seen_by_the_caller(run_service: RunService) -> None:
    account = new_account_id()
    changes: list[BalanceFact] = []

    async def owner(service: Service[ServiceSettings]) -> None:
        async def top_up(command: TopUp) -> BalanceReply:
            fact = BalanceFact(version=1, account_id=command.account_id, available_mp=command.amount_mp)
            sequence = await service.publisher.publish([fact])
            return BalanceReply(available_mp=command.amount_mp, held_mp=0, facts_sequence=sequence)

        service.answer(TopUp, top_up)

    async def edge(service: Service[ServiceSettings]) -> None:
        service.view(BalanceFact, on_change=changes.append)

    async with run_service("billing", owner, ServiceSettings), run_service("ingress", edge, ServiceSettings) as caller:
        command = TopUp(command_id=new_id("CMD"), account_id=account, amount_mp=500, reference="r")
        reply = await caller.commands.call(command)
        assert reply.available_mp == 500
        assert await caller.facts_reached(reply.facts_sequence)
    assert [fact.available_mp for fact in changes if fact.account_id == account] == [500]


async def test_a_refusal_comes_back_with_its_code_and_words(run_service: RunService) -> None:
    async def owner(service: Service[ServiceSettings]) -> None:
        async def refuse(_: TopUp) -> BalanceReply:
            raise HarkaraError(ErrorCode.CONFLICT, "The reference was used with another amount.")

        async def fail(_: GetBalance) -> BalanceReply:
            raise ZeroDivisionError

        service.answer(TopUp, refuse)
        service.answer(GetBalance, fail)

    async with (
        run_service("billing", owner, ServiceSettings),
        run_service("ingress", nothing, ServiceSettings) as caller,
    ):
        with pytest.raises(HarkaraError, match="another amount") as refused:
            await caller.commands.call(TopUp(command_id="1", account_id="A", amount_mp=1, reference="r"))
        assert refused.value.code is ErrorCode.CONFLICT
        with pytest.raises(HarkaraError) as failed:
            await caller.commands.call(GetBalance(command_id="2", account_id="A"))
        assert failed.value.code is ErrorCode.INTERNAL


async def test_an_owner_that_is_away_is_unavailable_and_does_not_act_later(run_service: RunService) -> None:
    acted: list[str] = []

    async def owner(service: Service[ServiceSettings]) -> None:
        async def top_up(command: TopUp) -> BalanceReply:
            acted.append(command.command_id)
            return BalanceReply(available_mp=0, held_mp=0)

        service.answer(TopUp, top_up)

    async with run_service("ingress", nothing, ServiceSettings) as caller:
        late = TopUp(command_id="late", account_id="A", amount_mp=1, reference="r")
        with pytest.raises(HarkaraError) as away:
            await caller.commands.call(late, timeout_s=0.3)
        assert away.value.code is ErrorCode.UNAVAILABLE
        async with run_service("billing", owner, ServiceSettings):
            await caller.commands.call(late.model_copy(update={"command_id": "in time"}))
    assert acted == ["in time"]


async def test_a_view_keeps_the_newest_and_forgets_what_was_deleted(run_service: RunService, bus: BusProbe) -> None:
    account = new_account_id()
    newest = BalanceFact(version=5, account_id=account, available_mp=5)
    await bus.publish([newest])
    views: list[FactView[BalanceFact]] = []

    async def edge(service: Service[ServiceSettings]) -> None:
        views.append(service.view(BalanceFact))

    async with run_service("ingress", edge, ServiceSettings) as service:
        (balances,) = views
        assert balances.get(account) == newest, "loaded before anything starts"
        await bus.publish([newest.model_copy(update={"version": 4, "available_mp": 4})])
        await bus.publish([newest.model_copy(update={"version": 6, "deleted": True})])
        sequence = await bus.publish([newest.model_copy(update={"version": 3, "available_mp": 3})])
        assert await service.facts_reached(sequence)
        assert balances.get(account) is None


async def test_a_place_of_a_kind_that_is_not_followed_is_reached_at_once(
    run_service: RunService, bus: BusProbe
) -> None:
    async def edge(service: Service[ServiceSettings]) -> None:
        service.view(BalanceFact)

    async with run_service("ingress", edge, ServiceSettings) as service:
        sequence = await bus.publish(
            [CarrierHealthFact(version=1, channel=Channel.SMS, carrier="x", healthy=True, changed_at=datetime.now(UTC))]
        )
        assert await service.facts_reached(sequence, timeout_s=1)


async def test_a_place_is_reached_when_the_view_shows_it(run_service: RunService, bus: BusProbe) -> None:
    views: list[FactView[BalanceFact]] = []

    async def edge(service: Service[ServiceSettings]) -> None:
        views.append(service.view(BalanceFact))

    async with run_service("ingress", edge, ServiceSettings) as service:
        for _ in range(50):
            fact = BalanceFact(version=1, account_id=new_account_id(), available_mp=5)
            assert await service.facts_reached(await bus.publish([fact]))
            assert views[0].get(fact.account_id) == fact


async def test_callers_who_arrive_together_share_one_batch(
    run_service: RunService, accepted: MakeAccepted, raw: Client
) -> None:
    async with run_service("ingress", nothing, ServiceSettings) as service:
        before = (await raw.jetstream().stream_info("MESSAGES")).state.last_seq
        await asyncio.gather(*(service.publisher.commit(accepted()) for _ in range(1000)))
        after = (await raw.jetstream().stream_info("MESSAGES")).state.last_seq
    assert after - before <= 6
