"""What is read of the events that clients are told of: the fields that a body has, by the names the event gives them."""

from collections.abc import Mapping
from datetime import datetime
from typing import ClassVar

from harkara_contracts.events import (
    AttemptSent,
    Event,
    MessageCancelled,
    MessageDelivered,
    MessageExpired,
    MessageFailed,
    MessageRead,
    MessageRejected,
)
from harkara_contracts.subjects import Channel, Lane
from harkara_contracts.views import View


class _Told(View, kw_only=True):
    event: ClassVar[str]

    account_id: str
    lane: Lane
    to: str
    sender: str | None = None
    channel: Channel | None = None
    carrier: str | None = None
    correlation_id: str | None = None
    test_mode: bool = False

    def event_id(self) -> str:
        """As the event's own."""
        return f"{self.message_id}.{self.event}"


class Sent(_Told, kw_only=True):
    event: ClassVar[str] = AttemptSent.event

    attempt_id: str
    sent_at: datetime

    def event_id(self) -> str:
        return f"{self.attempt_id}.{self.event}"


class _Outcome(_Told, kw_only=True):
    occurred_at: datetime


class Delivered(_Outcome, kw_only=True):
    event: ClassVar[str] = MessageDelivered.event

    delivered_at: datetime
    latency_ms: int


class Read(_Outcome, kw_only=True):
    event: ClassVar[str] = MessageRead.event

    read_at: datetime


class Cancelled(_Outcome):
    event: ClassVar[str] = MessageCancelled.event


class _NotDelivered(_Outcome, kw_only=True):
    error_code: str
    error_description: str


class Failed(_NotDelivered):
    event: ClassVar[str] = MessageFailed.event


class Rejected(_NotDelivered):
    event: ClassVar[str] = MessageRejected.event


class Expired(_NotDelivered):
    event: ClassVar[str] = MessageExpired.event


VIEWS: Mapping[type[Event], type[_Told]] = {
    AttemptSent: Sent,
    MessageDelivered: Delivered,
    MessageRead: Read,
    MessageCancelled: Cancelled,
    MessageFailed: Failed,
    MessageRejected: Rejected,
    MessageExpired: Expired,
}
