"""The saga's events: immutable facts in the past tense.

Each class is one event of one major version. Within a major only optional fields are added (a test compares the checked-in
JSON Schemas). An event's id is made of what caused it, so a repeat after a crash has the same id and is a no-op downstream.
"""

from datetime import datetime
from typing import Annotated, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from harkara_contracts.subjects import Category, Channel, Lane, key_token, subject


class Record(BaseModel):
    """Part of an event; unknown fields are ignored so that an older reader survives a newer writer."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Event(Record):
    """Base of all events. Subclasses name their `domain` and `event`, and say where they go and what their id is."""

    domain: ClassVar[str]
    event: ClassVar[str]
    major: ClassVar[int] = 1

    @classmethod
    def type_name(cls) -> str:
        """Return the CloudEvents type, such as `message.accepted.v1`."""
        return f"{cls.domain}.{cls.event}.v{cls.major}"

    def subject(self) -> str:
        raise NotImplementedError

    def event_id(self) -> str:
        raise NotImplementedError

    def correlation_key(self) -> str:
        """Return what ties cause and effect for tracing: the message's id where there is one."""
        return self.event_id()


class Cascade(Record):
    timeouts: dict[Channel, Annotated[int, Field(ge=1, le=86_400)]] = {}
    mode: str = "fallback"


class Content(Record):
    """What the client asked to be said, not yet checked or rendered."""

    sender: str | None = None
    template_id: str | None = None
    variables: dict[str, str] = {}
    message: str | None = None
    unicode: bool | None = None


class SmsContent(Record):
    """An SMS ready for a carrier: text rendered and matched, DLT ids known."""

    sender: str
    text: str
    encoding: str
    parts: Annotated[int, Field(ge=1)]
    entity_id: str | None = None
    dlt_template_id: str | None = None
    chain_hash: str | None = None


class Refusal(Record):
    """Why a channel may not be used for this message."""

    channel: Channel
    error_code: str
    reason: str


# --- message -----------------------------------------------------------------------------------------------------------


class MessageEvent(Event):
    domain: ClassVar[str] = "message"

    message_id: str
    account_id: str
    lane: Lane
    test_mode: bool = False
    correlation_id: str | None = None
    batch_id: str | None = None

    def subject(self) -> str:
        return subject(self.domain, self.event, self.lane.value, major=self.major)

    def event_id(self) -> str:
        return f"{self.message_id}.{self.event}"

    def correlation_key(self) -> str:
        return self.message_id


class MessageAccepted(MessageEvent):
    """A client was answered 202: from here on the message is never lost. `send_at` is when it may leave at the earliest."""

    event: ClassVar[str] = "accepted"

    to: str
    category: Category
    channels: Annotated[list[Channel], Field(min_length=1)]
    content: Content
    cascade: Cascade | None = None
    priority: str = "normal"
    accepted_at: datetime
    expires_at: datetime
    send_at: datetime | None = None


class MessageDeferred(MessageEvent):
    """The message waits until `until` (its schedule, or the promotional window) and then comes back by timer."""

    event: ClassVar[str] = "deferred"

    until: datetime
    reason: str
    deferred_at: datetime

    def event_id(self) -> str:
        # Deferred again (a schedule, later a closed window) is another event, not a repeat.
        return f"{self.message_id}.{self.event}.{int(self.until.timestamp())}"


class MessageCleared(MessageEvent):
    """Compliance says: this may be sent by these channels, in this order."""

    event: ClassVar[str] = "cleared"

    to: str
    category: Category
    channels: Annotated[list[Channel], Field(min_length=1)]
    refusals: list[Refusal] = []
    sms: SmsContent | None = None
    cascade: Cascade | None = None
    accepted_at: datetime
    expires_at: datetime


class OutcomeEvent(MessageEvent):
    """What every final word about a message tells: who it was for and over which channel it went."""

    to: str
    sender: str | None = None
    channel: Channel | None = None
    carrier: str | None = None
    attempt_id: str | None = None
    occurred_at: datetime


class MessageRejected(OutcomeEvent):
    """The message may not or cannot be sent; no attempt left. Seen by the client as `message.failed`."""

    event: ClassVar[str] = "rejected"

    error_code: str
    error_description: str
    rejected_by: str


class MessageCancelled(OutcomeEvent):
    """The client took it back before it left: no carrier was ever asked, and nothing is paid."""

    event: ClassVar[str] = "cancelled"

    cancelled_by: str


class MessageDelivered(OutcomeEvent):
    event: ClassVar[str] = "delivered"

    delivered_at: datetime
    latency_ms: int


class MessageFailed(OutcomeEvent):
    event: ClassVar[str] = "failed"

    error_code: str
    error_description: str


class MessageExpired(OutcomeEvent):
    """The validity ran out before any final receipt. Seen by the client as `message.failed` with ERR_EXPIRED."""

    event: ClassVar[str] = "expired"

    error_code: str
    error_description: str


class MessageRead(OutcomeEvent):
    event: ClassVar[str] = "read"

    read_at: datetime


# --- batch -------------------------------------------------------------------------------------------------------------


class BatchEvent(Event):
    """One bulk send. Its messages are events of their own, which name their batch."""

    domain: ClassVar[str] = "batch"

    batch_id: str
    account_id: str
    lane: Lane
    test_mode: bool = False
    correlation_id: str | None = None

    def subject(self) -> str:
        return subject(self.domain, self.event, self.lane.value, major=self.major)

    def event_id(self) -> str:
        return f"{self.batch_id}.{self.event}"

    def correlation_key(self) -> str:
        return self.batch_id


class BatchAccepted(BatchEvent):
    """A client was answered 202 for a bulk: `total` recipients will be tried, `rejected` more were told to be wrong.

    The recipients wait in timers of the edge, in `portions` of them; a portion of a batch that was never accepted is
    dropped when its time comes.
    """

    event: ClassVar[str] = "accepted"

    category: Category
    channels: Annotated[list[Channel], Field(min_length=1)]
    template_id: str | None = None
    sender: str | None = None
    total: Annotated[int, Field(ge=0)]
    rejected: Annotated[int, Field(ge=0)]
    portions: Annotated[int, Field(ge=0)]
    estimated_credits: Annotated[int, Field(ge=0)]
    accepted_at: datetime
    send_at: datetime | None = None


class BatchCancelled(BatchEvent):
    """The client took back what of a batch has not left."""

    event: ClassVar[str] = "cancelled"

    cancelled_by: str
    cancelled_at: datetime


class BatchCompleted(BatchEvent):
    """Every message of a batch has come to its end. Seen by the client as `campaign.completed`.

    `counts` are of messages by their state in the status API when the batch was complete.
    """

    event: ClassVar[str] = "completed"

    channels: list[Channel] = []
    total: Annotated[int, Field(ge=0)]
    counts: dict[str, int]
    accepted_at: datetime
    completed_at: datetime


# --- attempt -----------------------------------------------------------------------------------------------------------


class AttemptEvent(Event):
    """One hand-over to one carrier. `hop` counts channels of the cascade; the attempt's number also counts carriers."""

    domain: ClassVar[str] = "attempt"

    attempt_id: str
    message_id: str
    account_id: str
    lane: Lane
    channel: Channel
    carrier: str
    hop: Annotated[int, Field(ge=1)] = 1
    to: str
    sender: str | None = None
    category: Category
    correlation_id: str | None = None
    test_mode: bool = False

    def subject(self) -> str:
        return subject(self.domain, self.event, self.lane.value, self.channel.value, self.carrier, major=self.major)

    def event_id(self) -> str:
        return f"{self.attempt_id}.{self.event}"

    def correlation_key(self) -> str:
        return self.message_id

    def trail(self) -> dict[str, object]:
        """Return the fields all events of one attempt share, to make the next one: `AttemptSent(**e.trail(), …)`."""
        fields = self.__dict__
        return {name: fields[name] for name in _TRAIL}


_TRAIL = tuple(AttemptEvent.model_fields)


class AttemptPlanned(AttemptEvent):
    """Routing chose channel and carrier; `units` are billable units (SMS parts). Nothing is paid yet."""

    event: ClassVar[str] = "planned"

    units: Annotated[int, Field(ge=1)]
    sms: SmsContent | None = None
    expires_at: datetime
    planned_at: datetime


class AttemptFunded(AttemptPlanned):
    """Billing holds the price; the sender may hand over. A hold is named by the attempt's id."""

    event: ClassVar[str] = "funded"

    price_mp: Annotated[int, Field(ge=0)]


class AttemptUnfunded(AttemptEvent):
    event: ClassVar[str] = "unfunded"

    error_code: str
    error_description: str
    occurred_at: datetime


class AttemptSent(AttemptEvent):
    """The carrier took every part and gave these ids, in the order of the parts."""

    event: ClassVar[str] = "sent"

    carrier_message_ids: list[str]
    sent_at: datetime


class AttemptDelivered(AttemptEvent):
    event: ClassVar[str] = "delivered"

    delivered_at: datetime
    carrier_code: str | None = None


class AttemptFailed(AttemptEvent):
    """The attempt came to nothing.

    `left` tells whether the carrier ever took it (then the price book says if it is billed); `retriable` tells that
    the fault is the carrier's or the route's, so another carrier may be tried with no danger of a double.
    """

    event: ClassVar[str] = "failed"

    error_code: str
    error_description: str
    carrier_code: str | None = None
    left: bool
    retriable: bool = False
    failed_at: datetime


class AttemptRead(AttemptEvent):
    event: ClassVar[str] = "read"

    read_at: datetime


class AttemptUnknown(AttemptEvent):
    """Nobody can say whether the carrier took it (a time-out or crash after the write). Never quietly sent again."""

    event: ClassVar[str] = "unknown"

    reason: str
    occurred_at: datetime


# --- inbound -----------------------------------------------------------------------------------------------------------


class InboundReceived(Event):
    """A person wrote to us (MO). The account is not known to the sender; the owner of the number is looked up later."""

    domain: ClassVar[str] = "inbound"
    event: ClassVar[str] = "received"

    inbound_id: str
    channel: Channel
    carrier: str
    sender: str
    to: str
    text: str
    message_type: str = "text"
    received_at: datetime
    account_id: str | None = None
    referenced_message_id: str | None = None

    def subject(self) -> str:
        tokens = (Lane.TRANSACTIONAL.value, self.channel.value, self.carrier)
        return subject(self.domain, self.event, *tokens, major=self.major)

    def event_id(self) -> str:
        return f"{self.inbound_id}.{self.event}"


# --- timers ------------------------------------------------------------------------------------------------------------


class TimerDue(Event):
    """A timer its owner set has come due. `name` and `payload` are the owner's own; `timer_id` replaces an older one."""

    domain: ClassVar[str] = "timer"
    event: ClassVar[str] = "due"

    owner: str
    lane: Lane
    timer_id: str
    name: str
    due_at: datetime
    payload: dict[str, object] = {}

    def subject(self) -> str:
        return subject(self.domain, self.event, self.owner, self.lane.value, major=self.major)

    def event_id(self) -> str:
        return f"{self.owner}.{self.timer_id}.{int(self.due_at.timestamp() * 1000)}"


# --- what a client is told ---------------------------------------------------------------------------------------------


class ClientTold(Event):
    """What happened to something of an account's, in the client's own words: the body of a webhook, kept to be read again.

    One subject for each account, so that a client reads its own events and nobody else's. `cause` is the id of the event
    that is told of, `name` what clients call it, `body` the JSON text that webhooks carry.
    """

    domain: ClassVar[str] = "client"
    event: ClassVar[str] = "told"

    account_id: str
    cause: str
    name: str
    message_id: str
    body: str
    told_at: datetime

    def subject(self) -> str:
        return subject(self.domain, self.event, key_token(self.account_id), major=self.major)

    def event_id(self) -> str:
        return f"{self.cause}.{self.event}"

    def correlation_key(self) -> str:
        return self.message_id
