"""The client's JSON for each event of ours.

Handlers in the field index `event`, `message_id`, `status`, `channel`, `carrier`, `correlation_id` and `timestamp` without
asking, and drop what repeats an `event` + `message_id` they have seen. So every event has all seven (null where there is
nothing to tell) and a `message_id` of its own: the inbound id where there is no message. `sequence` is the rank of the
status in a message's life, since the order of arrival is never promised.

A body is made of its event alone, without a clock: a repeat after a crash is the same bytes.
"""

from datetime import UTC, datetime

import orjson

from harkara_contracts.events import (
    AttemptSent,
    Event,
    InboundReceived,
    MessageDelivered,
    MessageExpired,
    MessageFailed,
    MessageRead,
    MessageRejected,
    OutcomeEvent,
)

TEST_EVENT = "webhook.test"

OFFERED = frozenset(
    {
        "message.sent",
        "message.delivered",
        "message.failed",
        "message.read",
        "message.replied",
        "message.clicked",
        "message.opened",
        "otp.verified",
        "campaign.completed",
        "account.low_balance",
        "template.approved",
        "template.rejected",
        "template.suspended",
    }
)
"""What an endpoint may choose from. Some are not told by any service yet; choosing them early does no harm."""

_NAMES: dict[type[Event], str] = {
    AttemptSent: "message.sent",
    MessageDelivered: "message.delivered",
    MessageFailed: "message.failed",
    MessageRejected: "message.failed",
    MessageExpired: "message.failed",
    MessageRead: "message.read",
    InboundReceived: "message.replied",
}

_SENT, _ENDED, _READ = 1, 2, 3

Json = dict[str, object]


def name_of(event: Event) -> str | None:
    """Return the name clients know an event by; None for what they are not told."""
    return _NAMES.get(type(event))


def message_id_of(event: Event) -> str:
    return event.inbound_id if isinstance(event, InboundReceived) else str(getattr(event, "message_id"))  # noqa: B009


def occurred_at(event: Event) -> datetime:
    """Return when the event was made.

    Raises:
        TypeError: clients are not told of this event.
    """
    match event:
        case OutcomeEvent():
            return event.occurred_at
        case AttemptSent():
            return event.sent_at
        case InboundReceived():
            return event.received_at
    raise TypeError(f"clients are not told of {event.type_name()}")


def body_of(event: Event) -> bytes:
    """Return the JSON body for the client.

    Raises:
        TypeError: clients are not told of this event.
    """
    return orjson.dumps(_fields(event))


def sample_body(message_id: str, at: datetime) -> bytes:
    """Return the body of a test event; `message_id` is any id not used before."""
    return orjson.dumps(
        {
            "event": TEST_EVENT,
            "message_id": message_id,
            "channel": None,
            "status": "TEST",
            "carrier": None,
            "correlation_id": None,
            "timestamp": _time(at),
            "sequence": 0,
            "test_mode": True,
        }
    )


def _fields(event: Event) -> Json:
    match event:
        case MessageDelivered():
            return _outcome(event, "DELIVERED", _ENDED, _delivered(event))
        case MessageFailed() | MessageRejected() | MessageExpired():
            return _outcome(event, "FAILED", _ENDED, _failed(event))
        case MessageRead():
            return _outcome(event, "READ", _READ, {"sender": event.sender, "read_at": _time(event.read_at)})
        case AttemptSent():
            return _sent(event)
        case InboundReceived():
            return _replied(event)
    raise TypeError(f"clients are not told of {event.type_name()}")


def _outcome(event: OutcomeEvent, status: str, rank: int, more: Json) -> Json:
    fields: Json = {
        "event": _NAMES[type(event)],
        "message_id": event.message_id,
        "channel": event.channel,
        "to": event.to,
        "status": status,
        "carrier": event.carrier,
        **more,
        "correlation_id": event.correlation_id,
        "timestamp": _time(event.occurred_at),
        "sequence": rank,
    }
    return fields | {"test_mode": True} if event.test_mode else fields


def _delivered(event: MessageDelivered) -> Json:
    return {"sender": event.sender, "delivered_at": _time(event.delivered_at), "latency_ms": event.latency_ms}


def _failed(event: MessageFailed | MessageRejected | MessageExpired) -> Json:
    return {"error_code": event.error_code, "error_description": event.error_description}


def _sent(event: AttemptSent) -> Json:
    fields: Json = {
        "event": "message.sent",
        "message_id": event.message_id,
        "channel": event.channel,
        "to": event.to,
        "sender": event.sender,
        "status": "SENT",
        "carrier": event.carrier,
        "sent_at": _time(event.sent_at),
        "correlation_id": event.correlation_id,
        "timestamp": _time(event.sent_at),
        "sequence": _SENT,
    }
    return fields | {"test_mode": True} if event.test_mode else fields


def _replied(event: InboundReceived) -> Json:
    return {
        "event": "message.replied",
        "message_id": event.inbound_id,
        "channel": event.channel,
        "from": event.sender,
        "to_business_number": event.to,
        "status": "RECEIVED",
        "carrier": event.carrier,
        "message_type": event.message_type,
        "message_text": event.text,
        "context": {"referenced_message_id": event.referenced_message_id},
        "correlation_id": None,
        "timestamp": _time(event.received_at),
        "sequence": 0,
    }


def _time(at: datetime) -> str:
    """Write a time in UTC to the millisecond: `2026-11-22T09:30:00.125Z`."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond // 1000:03d}Z"
