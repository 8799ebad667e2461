"""Writes go to their owners over the bus; here small services answer in the owners' names."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from harkara_chassis import Service, ServiceSettings
from harkara_chassis.clock import now_utc
from harkara_contracts import commands as c
from harkara_contracts.commands import Command, Reply
from harkara_contracts.errors import ErrorCode, HarkaraError
from harkara_contracts.facts import EntityFact, SenderFact, TemplateFact, UrlFact

ENTITY = "1101172974420810009"
NOW = now_utc()
OF_COMPLIANCE = (
    c.RegisterEntity,
    c.RegisterSender,
    c.UpdateSender,
    c.SetSenderStatus,
    c.RegisterTemplate,
    c.UpdateTemplate,
    c.SetTemplateStatus,
    c.AddUrl,
    c.RemoveUrl,
)
OF_BILLING = (c.TopUp, c.GetBalance, c.ListLedger, c.GetUsage)
OF_WEBHOOKS = (
    c.CreateEndpoint,
    c.UpdateEndpoint,
    c.DeleteEndpoint,
    c.ListEndpoints,
    c.RotateSecret,
    c.SendTestEvent,
    c.ListDeliveries,
    c.ReplayDelivery,
)


class Owners:
    """Answers commands and keeps them, so that a test sees what was asked."""

    def __init__(self) -> None:
        self.asked: list[Command[Any]] = []

    async def build(self, service: Service[ServiceSettings]) -> None:
        answers = {"compliance": OF_COMPLIANCE, "billing": OF_BILLING, "webhook-dispatcher": OF_WEBHOOKS}

        async def answer(command: Any) -> Reply:
            self.asked.append(command)
            reply = self._reply(command)
            fact = next((value for value in vars(reply).values() if hasattr(value, "version")), None)
            return reply.model_copy(
                update={"facts_sequence": await service.publisher.publish([fact])} if fact is not None else {}
            )

        for command in answers[service.name]:
            service.answer(command, answer)

    def _reply(self, command: Any) -> Reply:  # noqa: C901, PLR0911, PLR0912  # one case for each kind of command
        common = {"version": 1_000 + len(self.asked), "account_id": command.account_id}
        endpoint = c.Endpoint(webhook_id="WH1", url="https://x.example/h", events=[], created_at=NOW)
        delivery = c.Delivery(
            delivery_id="DLV1",
            webhook_id="WH1",
            event="message.delivered",
            message_id="TN1",
            state="pending",
            attempts=[],
            created_at=NOW,
        )
        match command:
            case c.RegisterEntity():
                fields = command.model_dump(include={"entity_id", "name", "telemarketer_chain"})
                return c.EntityReply(entity=EntityFact(**common, **fields, chain_hash="abc"))
            case c.RegisterSender() | c.UpdateSender() | c.SetSenderStatus():
                if command.sender == "TAKENS":
                    raise HarkaraError(ErrorCode.CONFLICT, "It is registered already.")
                status = command.status if isinstance(command, c.SetSenderStatus) else "pending"
                return c.SenderReply(
                    sender=SenderFact(
                        **common,
                        sender=command.sender,
                        entity_id=ENTITY,
                        kind="transactional",
                        status=status,
                        created_at=NOW,
                    )
                )
            case c.RegisterTemplate() | c.UpdateTemplate() | c.SetTemplateStatus():
                return c.TemplateReply(
                    template=TemplateFact(
                        **common,
                        template_id=command.template_id,
                        channel="sms",
                        category="otp",
                        senders=["ABCDEF"],
                        body="{#num:otp#} is your code",
                        subject_line=getattr(command, "subject_line", None),
                        status="pending",
                        created_at=NOW,
                    )
                )
            case c.AddUrl():
                return c.UrlReply(url=UrlFact(**common, url_id="URL9", kind=command.kind, value=command.value))
            case c.TopUp() | c.GetBalance():
                return c.BalanceReply(available_mp=2_500, held_mp=28_000)
            case c.ListLedger():
                line = c.LedgerEntry(entry_id="L1", kind="topup", amount_mp=100_000, reference="r", created_at=NOW)
                return c.LedgerReply(entries=[line], next_cursor="next")
            case c.GetUsage():
                row = c.UsageRow(day="2026-07-01", channel="sms", category="otp", units=3, amount_mp=84_000)
                return c.UsageReply(rows=[row])
            case c.CreateEndpoint() | c.RotateSecret():
                return c.EndpointReply(endpoint=endpoint, secret="whsec_x")
            case c.UpdateEndpoint():
                return c.EndpointReply(endpoint=endpoint)
            case c.ListEndpoints():
                return c.EndpointsReply(endpoints=[endpoint])
            case c.ListDeliveries():
                return c.DeliveriesReply(deliveries=[delivery])
            case c.SendTestEvent() | c.ReplayDelivery():
                return c.DeliveryReply(delivery=delivery)
        return c.Done()


@pytest.fixture
async def owners(run_service: Any) -> AsyncIterator[Owners]:
    owners = Owners()
    async with AsyncExitStack() as stack:
        for name in ("compliance", "billing", "webhook-dispatcher"):
            await stack.enter_async_context(run_service(name, owners.build, ServiceSettings))
        yield owners


async def test_the_registry_shows_at_once_what_was_written(client: Any, owners: Owners) -> None:
    status, body, _ = await client.call("POST", "/v1/entities", {"entity_id": ENTITY, "name": "Kirana"})
    assert (status, body["chain_hash"]) == (200, "abc")
    assert ENTITY in [entity["entity_id"] for entity in (await client.call("GET", "/v1/entities"))[1]["entities"]]
    status, body, _ = await client.call("POST", "/v1/senders", {"sender": "ABCDEF", "entity_id": ENTITY})
    assert (status, body["status"]) == (200, "pending")
    assert (await client.call("GET", "/v1/senders/ABCDEF"))[1] == body
    assert [one["sender"] for one in (await client.call("GET", "/v1/senders"))[1]["senders"]] == ["HRKARA", "ABCDEF"]
    wanted = {"template_id": "T1", "category": "otp", "body": "{#num:otp#} is your code", "subject": "Code"}
    status, body, _ = await client.call("POST", "/v1/templates", wanted)
    assert (status, body["subject"]) == (200, "Code")
    assert (await client.call("GET", "/v1/templates/T1"))[1] == body
    assert len((await client.call("GET", "/v1/templates"))[1]["templates"]) == 2
    status, body, _ = await client.call("POST", "/v1/urls", {"domain": "kirana.example"})
    assert (status, body["kind"], body["value"]) == (200, "domain", "kirana.example")
    assert body in (await client.call("GET", "/v1/urls"))[1]["urls"]
    for path, change in (("/v1/senders/ABCDEF", {"kind": "promotional"}), ("/v1/templates/T1", {"language": "hi"})):
        assert (await client.call("PATCH", path, change))[0] == 200
        assert owners.asked[-1].auto_approve  # type: ignore[attr-defined]  # both commands have it
    assert (await client.call("DELETE", "/v1/urls/URL9"))[0] == 200
    registered = next(command for command in owners.asked if isinstance(command, c.RegisterTemplate))
    assert registered.auto_approve
    assert registered.account_id == client.account_id
    assert registered.actor is not None
    assert registered.actor.startswith("KEY")


async def test_a_refusal_of_the_owner_is_told_as_it_is(client: Any, owners: Owners) -> None:
    status, body, _ = await client.call("POST", "/v1/senders", {"sender": "TAKENS", "entity_id": ENTITY})
    assert (status, body["error_code"], body["error_message"]) == (409, "ERR_CONFLICT", "It is registered already.")


async def test_only_the_operator_sets_a_status(client: Any, edge: Any, owners: Owners) -> None:
    path, wanted = "/v1/senders/ABCDEF/status", {"status": "approved"}
    assert (await client.call("POST", path, wanted))[0] == 403
    operator = edge.operator()
    assert (await operator.call("POST", path, wanted))[0] == 400
    for query, body in ((f"?account_id={client.account_id}", wanted), ("", wanted | {"account_id": client.account_id})):
        status, shown, _ = await operator.call("POST", path + query, body)
        assert (status, shown["status"]) == (200, "approved")
    status, _, _ = await operator.call("POST", "/v1/templates/T1/status", wanted | {"account_id": client.account_id})
    assert status == 200
    assert {command.account_id for command in owners.asked} == {client.account_id}


async def test_a_template_goes_by_its_dlt_id_too(client: Any, edge: Any, owners: Owners) -> None:
    path = "/v1/templates/1007172974420840002"
    assert (await client.call("GET", path))[1]["template_id"] == "TN_OTP_001"
    assert (await client.call("PATCH", path, {"language": "en"}))[1]["template_id"] == "TN_OTP_001"
    wanted = {"status": "suspended", "account_id": client.account_id}
    assert (await edge.operator().call("POST", f"{path}/status", wanted))[1]["template_id"] == "TN_OTP_001"


async def test_headers_and_telephone_numbers_may_be_written_as_numbers(client: Any, owners: Owners) -> None:
    _, body, _ = await client.call("POST", "/v1/senders", {"sender": 512345, "entity_id": ENTITY})
    assert body["sender"] == "512345"
    _, body, _ = await client.call("POST", "/v1/urls", {"phone": 18001234567})
    assert (body["kind"], body["value"]) == ("phone", "18001234567")


async def test_one_whitelist_entry_at_a_time(client: Any) -> None:
    for wrong in ({}, {"domain": "a.example", "phone": "1"}, {"ftp": "x"}):
        assert (await client.call("POST", "/v1/urls", wrong))[0] == 400


async def test_money_is_told_in_paise(client: Any, edge: Any, owners: Owners, database: Any) -> None:
    balance = {"account_id": client.account_id, "currency": "INR", "available_paise": 2.5, "held_paise": 28}
    assert (await client.call("GET", "/v1/account/balance"))[:2] == (200, balance)
    _, ledger, _ = await client.call("GET", "/v1/account/ledger?limit=5")
    assert (ledger["entries"][0]["amount_paise"], ledger["next_cursor"]) == (100, "next")
    _, usage, _ = await client.call("GET", "/v1/account/usage?start=2026-07-01T00:00:00Z")
    assert usage["usage"][0]["amount_paise"] == 84
    operator = edge.operator()
    made = (await operator.call("POST", "/v1/accounts", {"name": "x"}))[1]["account_id"]
    path = f"/v1/accounts/{made}/topups"
    assert (await operator.call("POST", path, {"amount_paise": 500, "reference": "r1"}))[0] == 200
    top_up = owners.asked[-1]
    assert isinstance(top_up, c.TopUp)
    assert (top_up.account_id, top_up.amount_mp, top_up.reference) == (made, 500_000, "r1")
    for wrong in ({"amount_paise": 0, "reference": "r"}, {"amount_paise": True, "reference": "r"}, {"amount_paise": 1}):
        assert (await operator.call("POST", path, wrong))[0] == 400
    unknown = "/v1/accounts/ACCNONE/topups"
    assert (await operator.call("POST", unknown, {"amount_paise": 1, "reference": "r"}))[0] == 404
    assert (await client.call("POST", path, {"amount_paise": 1, "reference": "r"}))[0] == 403


async def test_webhooks_are_kept_by_their_owner(client: Any, owners: Owners) -> None:
    status, body, _ = await client.call("POST", "/v1/webhooks", {"url": "https://x.example/h"})
    assert (status, body["webhook_id"], body["secret"]) == (200, "WH1", "whsec_x")
    assert "secret" not in (await client.call("GET", "/v1/webhooks"))[1]["webhooks"][0]
    assert (await client.call("GET", "/v1/webhooks/WH1"))[0] == 200
    assert (await client.call("GET", "/v1/webhooks/WH2"))[0] == 404
    assert (await client.call("DELETE", "/v1/webhooks/WH2"))[0] == 404
    assert (await client.call("POST", "/v1/webhooks", {"url": "https://x.example/h", "events": None}))[0] == 200
    calls = [
        ("PATCH", "/v1/webhooks/WH1", {"status": "disabled"}),
        ("POST", "/v1/webhooks/WH1/rotate-secret", None),
        ("POST", "/v1/webhooks/WH1/test", None),
        ("GET", "/v1/webhooks/WH1/deliveries?limit=5", None),
        ("POST", "/v1/webhooks/deliveries/DLV1/replay", None),
        ("DELETE", "/v1/webhooks/WH1", None),
    ]
    for method, path, sent in calls:
        assert (await client.call(method, path, sent))[0] == 200, path
    kinds = [type(command) for command in owners.asked[-7:]]
    assert kinds == [
        c.UpdateEndpoint,
        c.RotateSecret,
        c.SendTestEvent,
        c.ListDeliveries,
        c.ReplayDelivery,
        c.ListEndpoints,  # it must exist
        c.DeleteEndpoint,
    ]


async def test_an_owner_away_is_told(start_edge: Any, bus: Any) -> None:
    async with start_edge(command_timeout_s=0.2) as edge:
        client = await edge.client(bus)
        status, body, _ = await client.call("GET", "/v1/account/balance")
        assert (status, body["error_code"]) == (503, "ERR_UNAVAILABLE")
