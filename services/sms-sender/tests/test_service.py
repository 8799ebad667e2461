"""The whole sender: real bus, real database, real sockets to a simulated carrier."""

import asyncio
from collections.abc import Callable
from typing import Any

import asyncpg
import pytest

from harkara_chassis import Service
from harkara_contracts.errors import ErrorCode
from harkara_contracts.events import (
    AttemptDelivered,
    AttemptFailed,
    AttemptFunded,
    AttemptSent,
    AttemptUnknown,
    Event,
    InboundReceived,
)
from harkara_contracts.facts import CarrierHealthFact
from harkara_contracts.subjects import Lane
from harkara_smpp import DeliverSm, IdRule
from harkara_sms_sender.deliveries import id_key
from harkara_sms_sender.dispatcher import MAX_TRIES
from harkara_sms_sender.settings import Settings
from harkara_sms_sender.store import Intent, Store
from harkara_sms_text import split
from harkara_smsc_simulator.app import Running
from harkara_smsc_simulator.magic import MAGIC_NUMBERS

Bus = Any
Simulate = Any
Senders = Any
Fund = Callable[..., AttemptFunded]
LONG = "Your order 4711 has left our warehouse. " * 12


def of(attempt: AttemptFunded) -> Any:
    return lambda event: event.attempt_id == attempt.attempt_id


def received(smsc: Running, attempt: AttemptFunded) -> int:
    """How many parts the simulated carrier took for a number."""
    return sum(1 for _ in smsc.engine.store.with_octets(attempt.to.encode()))


async def left_behind(service: Service[Settings], attempt: AttemptFunded, tries: int = 1) -> None:
    """Record the intent of a process that died before the carrier's answer was known."""
    store = Store(service.database, owner="the process before")
    assert attempt.sms is not None
    intent = Intent(
        attempt.attempt_id,
        attempt.sms.parts,
        attempt.carrier,
        attempt.lane,
        attempt.sms.sender,
        attempt.to,
        attempt.model_dump_json(include=set(attempt.trail())),
    )
    now = attempt.planned_at
    await store.insert_intents([intent], now)
    for _ in range(tries - 1):
        await store.claim((await store.attempts([attempt.attempt_id])).values(), now)


async def test_a_message_is_sent_and_delivered(funded: Fund, bus: Bus, simulate: Simulate, senders: Senders) -> None:
    async with simulate() as smsc, senders(smsc.port):
        attempt = funded()
        await bus.publish([attempt])
        sent = await bus.next(AttemptSent, of(attempt))
        delivered = await bus.next(AttemptDelivered, of(attempt))
        assert len(sent.carrier_message_ids) == 1
        assert sent.trail() == delivered.trail() == attempt.trail()
        assert delivered.carrier_code == "000"
        assert bus.seen.index(sent) < bus.seen.index(delivered)
        assert received(smsc, attempt) == 1


async def test_a_batch_of_all_lanes_goes_through_once(
    funded: Fund, bus: Bus, simulate: Simulate, senders: Senders
) -> None:
    async with simulate() as smsc, senders(smsc.port, binds=3, window=40):
        attempts: list[Event] = [funded(lane=lane) for lane in Lane for _ in range(200)]
        await bus.publish(attempts)
        ids = {attempt.attempt_id for attempt in attempts if isinstance(attempt, AttemptFunded)}
        await bus.all(AttemptDelivered, 600, lambda event: event.attempt_id in ids, timeout_s=20)
        assert smsc.engine.of("harkara").accepted == 600


async def test_a_long_message_is_delivered_when_all_its_parts_are(
    funded: Fund, bus: Bus, simulate: Simulate, senders: Senders
) -> None:
    async with simulate() as smsc, senders(smsc.port, binds=2):
        attempt = funded(text=LONG)
        await bus.publish([attempt])
        sent = await bus.next(AttemptSent, of(attempt))
        await bus.next(AttemptDelivered, of(attempt))
        assert len(set(sent.carrier_message_ids)) == received(smsc, attempt) == 4


@pytest.mark.parametrize("sandbox", [False, True])
async def test_tests_and_real_carriers_never_meet(
    funded: Fund, bus: Bus, simulate: Simulate, senders: Senders, sandbox: bool
) -> None:
    async with simulate() as smsc, senders(smsc.port, sandbox=sandbox):
        right, stray = funded(test_mode=sandbox), funded(test_mode=not sandbox)
        await bus.publish([stray, right])
        failed = await bus.next(AttemptFailed, of(stray))
        assert (failed.error_code, failed.left, failed.retriable) == (ErrorCode.CARRIER_UNAVAILABLE, False, True)
        await bus.next(AttemptDelivered, of(right))
        assert (received(smsc, stray), received(smsc, right)) == (0, 1)


@pytest.mark.parametrize(
    ("name", "error_code", "left"),
    [
        ("failed_absent", ErrorCode.HANDSET_UNREACHABLE, True),
        ("failed_inactive", ErrorCode.NUMBER_INACTIVE, True),
        ("failed_dnd", ErrorCode.DND_SUBSCRIBER, True),
        ("failed_rejected", ErrorCode.INVALID_MOBILE, False),
        ("failed_template", ErrorCode.DLT_TEMPLATE_MISMATCH, True),
        ("failed_sender", ErrorCode.SENDER_NOT_REGISTERED, True),
        ("failed_consent", ErrorCode.CONSENT_REQUIRED, True),
        ("failed_barred", ErrorCode.CARRIER_REJECTED, True),
        ("failed_too_long", ErrorCode.MESSAGE_TOO_LONG, False),
        ("expired", ErrorCode.EXPIRED, True),
    ],
)
async def test_every_failing_magic_number_fails_as_it_says(
    funded: Fund, bus: Bus, simulate: Simulate, senders: Senders, name: str, error_code: ErrorCode, left: bool
) -> None:
    async with simulate() as smsc, senders(smsc.port):
        attempt = funded(to=MAGIC_NUMBERS[name])
        await bus.publish([attempt])
        failed = await bus.next(AttemptFailed, of(attempt))
        assert (failed.error_code, failed.left, failed.retriable) == (error_code, left, False)
        assert failed.error_description


async def test_a_throttled_message_stays_and_goes_again(
    funded: Fund, bus: Bus, simulate: Simulate, senders: Senders
) -> None:
    async with simulate() as smsc, senders(smsc.port):
        attempt = funded(to=MAGIC_NUMBERS["throttled_once"])
        await bus.publish([attempt])
        await bus.next(AttemptDelivered, of(attempt))
        assert smsc.engine.of("harkara").throttled == 1
        assert received(smsc, attempt) == 1


async def test_a_temporary_refusal_lets_another_carrier_try(
    funded: Fund, bus: Bus, simulate: Simulate, senders: Senders
) -> None:
    async with simulate(error_fraction=1.0) as smsc, senders(smsc.port):
        attempt = funded()
        await bus.publish([attempt])
        failed = await bus.next(AttemptFailed, of(attempt))
        assert (failed.left, failed.retriable, failed.carrier_code) == (False, True, "ESME_RSYSERR")


@pytest.mark.parametrize("id_form", ["none", "hex_to_dec"])
async def test_a_late_receipt_finds_its_message(
    funded: Fund, bus: Bus, simulate: Simulate, senders: Senders, id_form: str
) -> None:
    form = "hex_then_decimal" if id_form == "hex_to_dec" else "decimal"
    async with simulate(receipt_delay_s=0.3, id_form=form) as smsc, senders(smsc.port, id_form=id_form):
        attempt = funded()
        await bus.publish([attempt])
        await bus.next(AttemptSent, of(attempt))
        assert not [event for event in bus.seen if isinstance(event, AttemptDelivered) and of(attempt)(event)]
        await bus.next(AttemptDelivered, of(attempt))


@pytest.mark.parametrize("text", ["Short.", LONG])
async def test_a_receipt_before_the_response_is_parked(
    funded: Fund, bus: Bus, simulate: Simulate, senders: Senders, text: str
) -> None:
    async with simulate(receipt_first=True) as smsc, senders(smsc.port) as service:
        attempt = funded(text=text)
        await bus.publish([attempt])
        sent = await bus.next(AttemptSent, of(attempt))
        delivered = await bus.next(AttemptDelivered, of(attempt))
        assert bus.seen.index(sent) <= bus.seen.index(delivered)
        keys = [id_key(one, IdRule.NONE) for one in sent.carrier_message_ids]
        async with asyncio.timeout(5):
            while await service.database.fetch("SELECT 1 FROM parked_receipt WHERE receipt_key = ANY($1)", keys):
                await asyncio.sleep(0.02)


async def test_a_receipt_parked_by_another_process_is_found_by_and_by(
    funded: Fund, bus: Bus, simulate: Simulate, senders: Senders
) -> None:
    async with simulate(receipts=False) as smsc, senders(smsc.port) as service:
        attempt = funded()
        await bus.publish([attempt])
        sent = await bus.next(AttemptSent, of(attempt))
        await service.database.execute(
            "INSERT INTO parked_receipt (carrier, receipt_key, state, retriable, parked_at) "
            "VALUES ('jio', $1, 'delivered', false, now())",
            id_key(sent.carrier_message_ids[0], IdRule.NONE),
        )
        await bus.next(AttemptDelivered, of(attempt))


async def test_a_repeated_receipt_tells_the_same_again(
    funded: Fund, bus: Bus, simulate: Simulate, senders: Senders
) -> None:
    async with simulate() as smsc, senders(smsc.port) as service:
        attempt = funded()
        await bus.publish([attempt])
        sent = await bus.next(AttemptSent, of(attempt))
        first = await bus.next(AttemptDelivered, of(attempt))
        # Out of the de-duplication's reach there would be a second event; here the store tells that nothing changes.
        receipt = f"id:{sent.carrier_message_ids[0]} stat:UNDELIV err:027 text:"
        pdu = DeliverSm(source_addr=attempt.to, destination_addr="HRKARA", esm_class=4, short_message=receipt.encode())
        smsc.engine.send_mo([pdu.to_body()], "harkara")
        other = funded()
        await bus.publish([other])
        await bus.next(AttemptDelivered, of(other))
        (row,) = await service.database.fetch(
            "SELECT state, final_at FROM submission WHERE attempt_id = $1", attempt.attempt_id
        )
        assert (row["state"], row["final_at"]) == ("delivered", first.delivered_at)
        assert not [event for event in bus.seen if isinstance(event, AttemptFailed) and of(attempt)(event)]


async def test_a_carrier_that_is_down_fails_the_attempt_so_that_another_may_try(
    funded: Fund, bus: Bus, senders: Senders, unused_port: int
) -> None:
    async with senders(unused_port) as service:
        fact = await bus.next(CarrierHealthFact, lambda fact: fact.carrier == "jio" and not fact.healthy)
        assert fact.reason is not None
        attempt = funded()
        await bus.publish([attempt])
        failed = await bus.next(AttemptFailed, of(attempt))
        assert (failed.error_code, failed.left, failed.retriable) == ("ERR_CARRIER_UNAVAILABLE", False, True)
        assert not [reason for reason in service.health().problems if reason.startswith("binds")]


async def test_a_carrier_nobody_configured_fails_the_attempt(
    funded: Fund, bus: Bus, simulate: Simulate, senders: Senders
) -> None:
    async with simulate() as smsc, senders(smsc.port):
        attempt = funded(carrier="airtel")
        await bus.publish([attempt])
        failed = await bus.next(AttemptFailed, of(attempt))
        assert (failed.left, failed.retriable) == (False, True)


async def test_a_message_past_its_validity_is_not_submitted(
    funded: Fund, bus: Bus, simulate: Simulate, senders: Senders
) -> None:
    async with simulate() as smsc, senders(smsc.port):
        attempt = funded(valid_s=-1.0)
        await bus.publish([attempt])
        failed = await bus.next(AttemptFailed, of(attempt))
        assert (failed.error_code, failed.left, failed.retriable) == ("ERR_EXPIRED", False, False)
        assert received(smsc, attempt) == 0


async def test_a_message_whose_validity_ends_while_it_waits_for_room_is_not_submitted(
    funded: Fund, bus: Bus, simulate: Simulate, senders: Senders
) -> None:
    async with simulate(response_delay_s=0.6) as smsc, senders(smsc.port, window=1):
        first, second = funded(), funded(valid_s=0.4)
        await bus.publish([first, second])
        failed = await bus.next(AttemptFailed, of(second))
        assert (failed.error_code, failed.left) == ("ERR_EXPIRED", False)
        await bus.next(AttemptSent, of(first))
        assert (received(smsc, first), received(smsc, second)) == (1, 0)


async def test_a_header_no_pdu_can_carry_fails_the_attempt(
    funded: Fund, bus: Bus, simulate: Simulate, senders: Senders
) -> None:
    async with simulate() as smsc, senders(smsc.port):
        attempt = funded()
        assert attempt.sms is not None
        sms = attempt.sms.model_copy(update={"sender": "A" * 30})
        attempt = attempt.model_copy(update={"sms": sms})
        await bus.publish([attempt])
        failed = await bus.next(AttemptFailed, of(attempt))
        assert (failed.error_code, failed.left, failed.retriable) == ("ERR_CARRIER_REJECTED", False, False)


async def test_health_follows_the_binds(funded: Fund, bus: Bus, simulate: Simulate, senders: Senders) -> None:
    async with simulate() as smsc:
        port = smsc.port
        async with senders(port):
            up = await bus.next(CarrierHealthFact, lambda fact: fact.healthy)
            await smsc.engine.stop()
            down = await bus.next(CarrierHealthFact, lambda fact: fact.version > up.version and not fact.healthy)
            async with simulate(port=port):
                again = await bus.next(CarrierHealthFact, lambda fact: fact.version > down.version and fact.healthy)
                assert again.reason is None


async def test_of_instances_that_differ_the_one_with_a_bind_has_the_last_word(
    bus: Bus, simulate: Simulate, senders: Senders
) -> None:
    async with simulate() as smsc, senders(smsc.port):
        mine = await bus.next(CarrierHealthFact, lambda fact: fact.healthy)
        ahead = mine.version + 3600 * 10**9  # its clock is an hour ahead, too
        others = mine.model_copy(update={"version": ahead, "healthy": False, "reason": "down there"})
        await bus.publish([others])
        again = await bus.next(CarrierHealthFact, lambda fact: fact.healthy and fact.version > others.version)
        assert again.carrier == mine.carrier


async def test_a_refused_bind_is_told_and_does_not_keep_the_service_from_being_ready(
    funded: Fund, bus: Bus, simulate: Simulate, senders: Senders
) -> None:
    async with simulate(password="right") as smsc, senders(smsc.port, password="wrong") as service:
        fact = await bus.next(CarrierHealthFact, lambda fact: "RINVPASWD" in (fact.reason or ""))
        assert not fact.healthy
        assert service.start_problems() == []
        (problem,) = service.health().problems
        assert "jio is down" in problem


async def test_without_an_answer_the_fate_is_unknown_until_a_receipt_tells(
    funded: Fund, bus: Bus, simulate: Simulate, senders: Senders
) -> None:
    async with (
        simulate(response_loss=1.0, receipt_delay_s=1.0) as smsc,
        senders(smsc.port, response_timeout_s=0.3, enquire_link_s=60),
    ):
        attempt = funded()
        await bus.publish([attempt])
        unknown = await bus.next(AttemptUnknown, of(attempt))
        sent = await bus.next(AttemptSent, of(attempt))
        delivered = await bus.next(AttemptDelivered, of(attempt))
        order = [bus.seen.index(event) for event in (unknown, sent, delivered)]
        assert order == sorted(order)
        assert received(smsc, attempt) == 1


async def test_a_late_answer_resolves_what_was_unknown(
    funded: Fund, bus: Bus, simulate: Simulate, senders: Senders
) -> None:
    async with (
        simulate(response_delay_s=0.6, receipts=False) as smsc,
        senders(smsc.port, response_timeout_s=0.2, enquire_link_s=60),
    ):
        attempt = funded()
        await bus.publish([attempt])
        await bus.next(AttemptUnknown, of(attempt))
        sent = await bus.next(AttemptSent, of(attempt))
        assert sent.carrier_message_ids != [""]
        assert received(smsc, attempt) == 1


async def test_an_otp_without_an_answer_is_submitted_once_more(
    funded: Fund, bus: Bus, simulate: Simulate, senders: Senders
) -> None:
    async with (
        simulate(response_loss=1.0, receipts=False) as smsc,
        senders(smsc.port, response_timeout_s=0.2, enquire_link_s=60),
    ):
        attempt = funded(lane=Lane.OTP)
        await bus.publish([attempt])
        await bus.next(AttemptUnknown, of(attempt))
        assert received(smsc, attempt) == 2


async def test_a_connection_dropped_in_the_middle_doubles_nothing(
    funded: Fund, bus: Bus, simulate: Simulate, senders: Senders
) -> None:
    async with simulate(response_delay_s=30.0, receipt_delay_s=0.2) as smsc, senders(smsc.port) as service:
        attempt = funded()
        await bus.publish([attempt])
        async with asyncio.timeout(5):
            while not received(smsc, attempt):
                await asyncio.sleep(0.01)
        smsc.engine.drop_connections()
        await bus.next(AttemptUnknown, of(attempt))
        # The receipt that comes after the new bind proves that the carrier has it.
        await bus.next(AttemptDelivered, of(attempt))
        assert received(smsc, attempt) == 1
        assert service.health().problems == []


async def test_an_otp_left_behind_is_submitted_again(
    funded: Fund, bus: Bus, simulate: Simulate, senders: Senders
) -> None:
    async with simulate() as smsc, senders(smsc.port) as service:
        attempt = funded(lane=Lane.OTP)
        await left_behind(service, attempt)
        await bus.publish([attempt])
        await bus.next(AttemptDelivered, of(attempt))
        assert received(smsc, attempt) == 1


async def test_an_otp_that_every_process_dies_over_is_given_up(
    funded: Fund, bus: Bus, simulate: Simulate, senders: Senders
) -> None:
    async with simulate() as smsc, senders(smsc.port) as service:
        attempt = funded(lane=Lane.OTP)
        await left_behind(service, attempt, tries=MAX_TRIES)
        await bus.publish([attempt])
        await bus.next(AttemptUnknown, of(attempt))
        assert received(smsc, attempt) == 0


@pytest.mark.parametrize("lane", [Lane.TRANSACTIONAL, Lane.PROMOTIONAL])
async def test_anything_else_left_behind_is_unknown_and_never_submitted_twice(
    funded: Fund, bus: Bus, simulate: Simulate, senders: Senders, lane: Lane
) -> None:
    async with simulate() as smsc, senders(smsc.port) as service:
        attempt = funded(lane=lane)
        await left_behind(service, attempt)
        await bus.publish([attempt])
        unknown = await bus.next(AttemptUnknown, of(attempt))
        assert "stopped" in unknown.reason
        assert received(smsc, attempt) == 0


@pytest.mark.parametrize("text", ["Short.", LONG])
async def test_a_receipt_proves_that_what_was_left_behind_was_taken(
    funded: Fund, bus: Bus, simulate: Simulate, senders: Senders, text: str
) -> None:
    async with simulate() as smsc, senders(smsc.port) as service:
        attempt = funded(text=text)
        await left_behind(service, attempt)
        async with asyncio.timeout(5):
            while not smsc.engine.smsc.sessions:
                await asyncio.sleep(0.01)
        for number in range(attempt.units):
            receipt = f"id:{attempt.to}{number} stat:DELIVRD err:000 text:".encode()
            pdu = DeliverSm(source_addr=attempt.to, destination_addr="HRKARA", esm_class=4, short_message=receipt)
            smsc.engine.send_mo([pdu.to_body()], "harkara")
        sent = await bus.next(AttemptSent, of(attempt))
        await bus.next(AttemptDelivered, of(attempt))
        assert sent.carrier_message_ids == [f"{attempt.to}{number}" for number in range(attempt.units)]
        await bus.publish([attempt])
        other = funded()
        await bus.publish([other])
        await bus.next(AttemptDelivered, of(other))
        assert received(smsc, attempt) == 0


async def test_of_two_alike_left_behind_a_receipt_proves_neither(
    funded: Fund, bus: Bus, simulate: Simulate, senders: Senders
) -> None:
    async with simulate() as smsc, senders(smsc.port) as service:
        first = funded()
        second = funded(to=first.to)
        await left_behind(service, first)
        await left_behind(service, second)
        receipt = f"id:{first.to} stat:DELIVRD err:000 text:".encode()
        pdu = DeliverSm(source_addr=first.to, destination_addr="HRKARA", esm_class=4, short_message=receipt)
        await bus.next(CarrierHealthFact, lambda fact: fact.healthy)
        smsc.engine.send_mo([pdu.to_body()], "harkara")
        async with asyncio.timeout(5):
            while not await service.database.fetch("SELECT 1 FROM parked_receipt WHERE receipt_key = $1", first.to):
                await asyncio.sleep(0.01)
        await bus.publish([first, second])
        await bus.next(AttemptUnknown, of(first))
        await bus.next(AttemptUnknown, of(second))


async def test_a_repeat_tells_the_same_and_submits_nothing(
    funded: Fund, bus: Bus, simulate: Simulate, senders: Senders
) -> None:
    async with simulate() as smsc, senders(smsc.port) as service:
        attempt = funded(text=LONG)
        handler = service.loops[0]._handler
        assert list(await handler([attempt])) == []
        sent = await bus.next(AttemptSent, of(attempt))
        delivered = await bus.next(AttemptDelivered, of(attempt))
        assert list(await handler([attempt])) == [sent, delivered]
        assert received(smsc, attempt) == 4


async def test_a_repeat_while_the_first_is_under_way_joins_it(
    funded: Fund, bus: Bus, simulate: Simulate, senders: Senders
) -> None:
    async with simulate(response_delay_s=0.3) as smsc, senders(smsc.port) as service:
        attempt = funded()
        handler = service.loops[0]._handler
        first, second = await asyncio.gather(handler([attempt, attempt]), handler([attempt]))
        sent = await bus.next(AttemptSent, of(attempt))
        assert list(first) == list(second) == [sent]
        assert received(smsc, attempt) == 1


async def test_the_drain_waits_for_the_answer(funded: Fund, bus: Bus, simulate: Simulate, senders: Senders) -> None:
    async with simulate(response_delay_s=0.5) as smsc:
        attempt = funded()
        async with senders(smsc.port):
            await bus.publish([attempt])
            async with asyncio.timeout(5):
                while not received(smsc, attempt):
                    await asyncio.sleep(0.01)
        await bus.next(AttemptSent, of(attempt))
        assert not smsc.engine.smsc.sessions


async def test_what_somebody_wrote_is_told_once(funded: Fund, bus: Bus, simulate: Simulate, senders: Senders) -> None:
    async with simulate() as smsc, senders(smsc.port):
        number = funded().to
        await bus.next(CarrierHealthFact, lambda fact: fact.healthy)
        pdu = DeliverSm(source_addr=number, destination_addr="56161", short_message=b"STOP")
        smsc.engine.send_mo([pdu.to_body()], "harkara")
        inbound = await bus.next(InboundReceived, lambda event: event.sender == number)
        assert (inbound.text, inbound.to, inbound.carrier) == ("STOP", "56161", "jio")


async def test_the_parts_of_what_somebody_wrote_are_put_together(
    funded: Fund, bus: Bus, simulate: Simulate, senders: Senders
) -> None:
    async with simulate() as smsc, senders(smsc.port):
        number = funded().to
        text = "नमस्ते, कृपया मुझे वापस कॉल करें। " * 5
        bodies = [
            DeliverSm(
                source_addr=number,
                destination_addr="56161",
                esm_class=part.esm_class,
                data_coding=part.data_coding,
                short_message=part.short_message,
            ).to_body()
            for part in split(text, 42)
        ]
        await bus.next(CarrierHealthFact, lambda fact: fact.healthy)
        smsc.engine.send_mo([*reversed(bodies)], "harkara")
        inbound = await bus.next(InboundReceived, lambda event: event.sender == number)
        assert inbound.text == text
        smsc.engine.send_mo(bodies[-1:], "harkara")
        after = DeliverSm(source_addr=number, destination_addr="56161", short_message=b"thanks")
        smsc.engine.send_mo([after.to_body()], "harkara")
        await bus.next(InboundReceived, lambda event: event.sender == number and event.text == "thanks")
        told = [event for event in bus.seen if isinstance(event, InboundReceived) and event.sender == number]
        assert {event.inbound_id for event in told if event.text == text} == {inbound.inbound_id}


async def test_at_the_drain_what_waits_for_room_is_given_back_unsubmitted(
    funded: Fund, bus: Bus, simulate: Simulate, senders: Senders
) -> None:
    async with simulate() as smsc:
        attempts = [funded(lane=Lane.PROMOTIONAL) for _ in range(30)]
        async with senders(smsc.port, tps=5.0) as service:
            handing_over = asyncio.create_task(service.loops[0]._handler(attempts))
            await bus.next(AttemptSent, lambda event: event.attempt_id == attempts[0].attempt_id)
        with pytest.raises(asyncio.CancelledError):
            await handing_over
        submitted = sum(received(smsc, attempt) for attempt in attempts)
        assert 1 <= submitted < 30
        async with senders(smsc.port) as service:
            await service.loops[0]._handler(attempts)
            for attempt in attempts:
                await bus.next(AttemptDelivered, of(attempt))
        assert [received(smsc, attempt) for attempt in attempts] == [1] * 30


async def test_a_database_that_goes_away_loses_and_doubles_nothing(
    funded: Fund, bus: Bus, simulate: Simulate, senders: Senders, servers: Any
) -> None:
    administrator = await asyncpg.connect(servers.admin_database_url)
    async with simulate(response_delay_s=0.05) as smsc, senders(smsc.port):
        attempts = [funded() for _ in range(60)]
        for start in range(0, 60, 10):
            await bus.publish(attempts[start : start + 10])
            await administrator.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'sms_sender'"
            )
        for attempt in attempts:
            await bus.next(AttemptDelivered, of(attempt), timeout_s=10)
        assert [received(smsc, attempt) for attempt in attempts] == [1] * 60
    await administrator.close()


async def test_what_cannot_be_stored_is_refused_alone(
    funded: Fund, bus: Bus, simulate: Simulate, senders: Senders
) -> None:
    async with simulate() as smsc, senders(smsc.port) as service:
        await service.database.execute("ALTER TABLE inbound_part ADD CONSTRAINT broken CHECK (body <> 'broken')")
        try:
            number = funded().to
            await bus.next(CarrierHealthFact, lambda fact: fact.healthy)
            head = bytes((5, 0, 3, 9, 2, 1))
            for message in (
                DeliverSm(source_addr=number, destination_addr="1", esm_class=0x40, short_message=head + b"broken"),
                DeliverSm(source_addr=number, destination_addr="1", short_message=b"whole"),
            ):
                smsc.engine.send_mo([message.to_body()], "harkara")
            await bus.next(InboundReceived, lambda event: event.sender == number and event.text == "whole")
            async with asyncio.timeout(5):
                while not smsc.engine.of("harkara").resent:
                    await asyncio.sleep(0.01)
        finally:
            await service.database.execute("ALTER TABLE inbound_part DROP CONSTRAINT broken")


async def test_settings_that_no_bind_can_carry_are_told_by_the_carriers_name(
    senders: Senders, unused_port: int
) -> None:
    with pytest.raises(ValueError, match=r"carrier jio .* password"):
        async with senders(unused_port, password="far too long"):
            pass
