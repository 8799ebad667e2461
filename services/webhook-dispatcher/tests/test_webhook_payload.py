from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from harkara_chassis import envelope
from harkara_contracts.events import (
    AttemptSent,
    BatchCompleted,
    Event,
    InboundReceived,
    MessageCancelled,
    MessageDelivered,
    MessageExpired,
    MessageFailed,
    MessageRead,
    MessageRejected,
)
from harkara_contracts.subjects import Category, Channel, Lane
from harkara_webhook_dispatcher.payload import OFFERED, body_of, message_id_of, name_of, occurred_at, sample_body
from harkara_webhook_dispatcher.reading import read_events

AT = datetime(2026, 11, 22, 9, 30, 0, 125_999, tzinfo=UTC)
EARLIER = datetime(2026, 11, 22, 9, 29, 58, tzinfo=UTC)

OUTCOME: dict[str, Any] = {
    "message_id": "TN20261122ABCDEFGHJK",
    "account_id": "ACC1",
    "lane": Lane.TRANSACTIONAL,
    "to": "919876543210",
    "sender": "HRKARA",
    "channel": Channel.SMS,
    "carrier": "jio",
    "correlation_id": "order-7",
    "occurred_at": AT,
}
NOTHING_LEFT = OUTCOME | {"channel": None, "carrier": None, "sender": None, "correlation_id": None}
COMMON = {
    "message_id": "TN20261122ABCDEFGHJK",
    "channel": "sms",
    "to": "919876543210",
    "carrier": "jio",
    "correlation_id": "order-7",
    "timestamp": "2026-11-22T09:30:00.125Z",
}

BATCH: dict[str, Any] = {
    "batch_id": "BATCH20261122ABCDEFGHJK",
    "account_id": "ACC1",
    "lane": Lane.PROMOTIONAL,
    "correlation_id": "diwali",
    "total": 3,
    "counts": {"delivered": 2, "failed": 1},
    "accepted_at": EARLIER,
    "completed_at": AT,
}
CAMPAIGN = {
    "event": "campaign.completed",
    "message_id": "BATCH20261122ABCDEFGHJK",
    "batch_id": "BATCH20261122ABCDEFGHJK",
    "channel": None,
    "status": "COMPLETED",
    "carrier": None,
    "total": 3,
    "counts": {"delivered": 2, "failed": 1},
    "accepted_at": "2026-11-22T09:29:58.000Z",
    "completed_at": "2026-11-22T09:30:00.125Z",
    "correlation_id": "diwali",
    "timestamp": "2026-11-22T09:30:00.125Z",
    "sequence": 0,
}

CASES: dict[str, tuple[Event, dict[str, Any]]] = {
    "delivered": (
        MessageDelivered(**OUTCOME, delivered_at=EARLIER, latency_ms=1840),
        COMMON
        | {
            "event": "message.delivered",
            "status": "DELIVERED",
            "sender": "HRKARA",
            "delivered_at": "2026-11-22T09:29:58.000Z",
            "latency_ms": 1840,
            "sequence": 2,
        },
    ),
    "delivered in test mode": (
        MessageDelivered(**OUTCOME | {"test_mode": True}, delivered_at=EARLIER, latency_ms=1),
        COMMON
        | {
            "event": "message.delivered",
            "status": "DELIVERED",
            "sender": "HRKARA",
            "delivered_at": "2026-11-22T09:29:58.000Z",
            "latency_ms": 1,
            "sequence": 2,
            "test_mode": True,
        },
    ),
    "failed": (
        MessageFailed(**OUTCOME, error_code="ERR_NUMBER_INACTIVE", error_description="The number is not in use."),
        COMMON
        | {
            "event": "message.failed",
            "status": "FAILED",
            "error_code": "ERR_NUMBER_INACTIVE",
            "error_description": "The number is not in use.",
            "sequence": 2,
        },
    ),
    "rejected is failed, with nulls where nothing left": (
        MessageRejected(
            **NOTHING_LEFT, error_code="ERR_DND_SUBSCRIBER", error_description="Blocked.", rejected_by="compliance"
        ),
        COMMON
        | {
            "event": "message.failed",
            "status": "FAILED",
            "channel": None,
            "carrier": None,
            "correlation_id": None,
            "error_code": "ERR_DND_SUBSCRIBER",
            "error_description": "Blocked.",
            "sequence": 2,
        },
    ),
    "expired is failed": (
        MessageExpired(**OUTCOME, error_code="ERR_EXPIRED", error_description="No receipt in time."),
        COMMON
        | {
            "event": "message.failed",
            "status": "FAILED",
            "error_code": "ERR_EXPIRED",
            "error_description": "No receipt in time.",
            "sequence": 2,
        },
    ),
    "cancelled": (
        MessageCancelled(**NOTHING_LEFT, cancelled_by="KEY1"),
        COMMON
        | {
            "event": "message.cancelled",
            "status": "CANCELLED",
            "channel": None,
            "carrier": None,
            "correlation_id": None,
            "sequence": 2,
        },
    ),
    "a campaign's end": (
        BatchCompleted(**BATCH, channels=[Channel.SMS]),
        CAMPAIGN | {"channel": "sms"},
    ),
    "a campaign's end, over several channels, in test mode": (
        BatchCompleted(**BATCH, channels=[Channel.WHATSAPP, Channel.SMS], test_mode=True),
        CAMPAIGN | {"test_mode": True},
    ),
    "read": (
        MessageRead(**OUTCOME | {"channel": Channel.WHATSAPP}, read_at=EARLIER),
        COMMON
        | {
            "event": "message.read",
            "status": "READ",
            "channel": "whatsapp",
            "sender": "HRKARA",
            "read_at": "2026-11-22T09:29:58.000Z",
            "sequence": 3,
        },
    ),
    "sent": (
        AttemptSent(
            attempt_id="TN20261122ABCDEFGHJK-1",
            message_id="TN20261122ABCDEFGHJK",
            account_id="ACC1",
            lane=Lane.OTP,
            channel=Channel.SMS,
            carrier="jio",
            to="919876543210",
            sender="HRKARA",
            category=Category.OTP,
            correlation_id="order-7",
            carrier_message_ids=["1"],
            sent_at=AT,
        ),
        COMMON
        | {
            "event": "message.sent",
            "status": "SENT",
            "sender": "HRKARA",
            "sent_at": "2026-11-22T09:30:00.125Z",
            "sequence": 1,
        },
    ),
    "replied": (
        InboundReceived(
            inbound_id="IN1",
            channel=Channel.SMS,
            carrier="jio",
            sender="919876543210",
            to="56767",
            text="STOP",
            received_at=AT,
            referenced_message_id="TN20261122ABCDEFGHJK",
        ),
        {
            "event": "message.replied",
            "message_id": "IN1",
            "channel": "sms",
            "from": "919876543210",
            "to_business_number": "56767",
            "status": "RECEIVED",
            "carrier": "jio",
            "message_type": "text",
            "message_text": "STOP",
            "context": {"referenced_message_id": "TN20261122ABCDEFGHJK"},
            "correlation_id": None,
            "timestamp": "2026-11-22T09:30:00.125Z",
            "sequence": 0,
        },
    ),
}


@pytest.mark.parametrize(("event", "expected"), CASES.values(), ids=CASES.keys())
def test_an_event_as_the_client_sees_it(event: Event, expected: dict[str, Any]) -> None:
    assert orjson.loads(body_of(event)) == expected
    assert name_of(event) == expected["event"]
    assert message_id_of(event) == expected["message_id"]
    assert occurred_at(event) == AT


@pytest.mark.parametrize("event", [event for event, _ in CASES.values()], ids=CASES.keys())
def test_what_is_read_off_the_bus_is_told_as_the_event_is(event: Event) -> None:
    [received], bad = read_events(envelope.encode([event], "/test"), type(event))
    read = received.event
    assert bad == []
    assert (body_of(read), name_of(read), message_id_of(read)) == (body_of(event), name_of(event), message_id_of(event))
    assert (read.event_id(), occurred_at(read)) == (event.event_id(), occurred_at(event))
    assert (read.account_id, getattr(read, "lane", None)) == (
        getattr(event, "account_id", None),
        getattr(event, "lane", None),
    )


@pytest.mark.parametrize(
    "body", [*(body_of(event) for event, _ in CASES.values()), sample_body("CMD1", AT)], ids=[*CASES, "test"]
)
def test_every_event_has_what_handlers_index_unasked(body: bytes) -> None:
    fields = orjson.loads(body)
    assert fields.keys() >= {"event", "message_id", "status", "channel", "carrier", "correlation_id", "timestamp"}
    assert fields["message_id"]
    assert fields["event"] in OFFERED | {"webhook.test"}
