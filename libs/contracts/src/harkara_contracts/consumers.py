"""Who reads what: every durable consumer of the platform, one for each service, stream and lane.

A service subscribes by naming a declaration here; the provisioner creates exactly these. A test proves that every
event is published by somebody, read by somebody and provisioned.
"""

from dataclasses import dataclass, field

from harkara_contracts import events as e
from harkara_contracts import streams as s
from harkara_contracts.events import Event
from harkara_contracts.subjects import Channel, Lane

# How soon what was in the hands of a killed process comes back. Work that takes longer is heartbeated every third of it.
_ACK_WAIT_S = {Lane.OTP: 3.0, Lane.TRANSACTIONAL: 5.0, Lane.PROMOTIONAL: 10.0}


@dataclass(frozen=True, slots=True)
class ConsumerSpec:
    """What one service reads of one stream, in every lane. `channel` narrows attempts to one channel.

    `max_ack_pending` counts stream messages (each a batch of up to 256 events) in the hands of all instances together.
    A new `major` version of an event is read by a declaration, and so a durable, of its own, beside that of the old one: a
    durable whose filter was widened would skip what lay in the stream before.
    """

    service: str
    stream: s.StreamSpec
    events: tuple[type[Event], ...]
    channel: Channel | None = None
    lanes: tuple[Lane, ...] = (Lane.OTP, Lane.TRANSACTIONAL, Lane.PROMOTIONAL)
    max_ack_pending: int = 512
    major: int = 1

    def durable(self, lane: Lane) -> str:
        name = f"{self.service}__{self.stream.name}__{lane.value}"
        return name if self.major == 1 else f"{name}__v{self.major}"

    def filters(self, lane: Lane) -> tuple[str, ...]:
        return tuple(self._filter(event, lane) for event in self.events)

    def ack_wait_s(self, lane: Lane) -> float:
        return _ACK_WAIT_S[lane]

    def _filter(self, event: type[Event], lane: Lane) -> str:
        if event is e.TimerDue:
            return f"timer.v1.due.{self.service}.{lane.value}"
        head = f"{event.domain}.v{event.major}.{event.event}.{lane.value}"
        if event.domain in {"message", "batch"}:
            return head
        return f"{head}.{self.channel.value}.*" if self.channel else f"{head}.>"


@dataclass(frozen=True, slots=True)
class CommandConsumerSpec:
    """The commands a service answers: one durable, no lanes."""

    service: str
    stream: s.StreamSpec = field(default=s.COMMANDS)

    @property
    def durable(self) -> str:
        return f"{self.service}__COMMANDS"

    @property
    def filter(self) -> str:
        return f"command.v1.{self.service}.>"


_OUTCOMES = (
    e.MessageRejected,
    e.MessageCancelled,
    e.MessageDelivered,
    e.MessageFailed,
    e.MessageExpired,
    e.MessageRead,
)
_ATTEMPT_ENDS = (e.AttemptDelivered, e.AttemptFailed, e.AttemptRead, e.AttemptUnknown)

COMPLIANCE_MESSAGES = ConsumerSpec("compliance", s.MESSAGES, (e.MessageAccepted,))
COMPLIANCE_BATCHES = ConsumerSpec("compliance", s.BATCHES, (e.BatchCancelled,))
COMPLIANCE_TIMERS = ConsumerSpec("compliance", s.TIMERS, (e.TimerDue,))

ROUTING_MESSAGES = ConsumerSpec("routing", s.MESSAGES, (e.MessageCleared,))
ROUTING_ATTEMPTS = ConsumerSpec("routing", s.ATTEMPTS, (e.AttemptUnfunded, *_ATTEMPT_ENDS))
ROUTING_TIMERS = ConsumerSpec("routing", s.TIMERS, (e.TimerDue,))

BILLING_ATTEMPTS = ConsumerSpec("billing", s.ATTEMPTS, (e.AttemptPlanned, e.AttemptSent, *_ATTEMPT_ENDS))

SMS_SENDER_ATTEMPTS = ConsumerSpec(
    "sms-sender", s.ATTEMPTS, (e.AttemptFunded,), channel=Channel.SMS, max_ack_pending=2048
)

INGRESS_MESSAGES = ConsumerSpec("ingress", s.MESSAGES, (e.MessageAccepted, e.MessageDeferred, *_OUTCOMES))
INGRESS_ATTEMPTS = ConsumerSpec(
    "ingress", s.ATTEMPTS, (e.AttemptFunded, e.AttemptUnfunded, e.AttemptSent, *_ATTEMPT_ENDS)
)
INGRESS_BATCHES = ConsumerSpec("ingress", s.BATCHES, (e.BatchAccepted, e.BatchCancelled, e.BatchCompleted))
INGRESS_TIMERS = ConsumerSpec("ingress", s.TIMERS, (e.TimerDue,))

WEBHOOK_MESSAGES = ConsumerSpec("webhook-dispatcher", s.MESSAGES, _OUTCOMES)
WEBHOOK_ATTEMPTS = ConsumerSpec("webhook-dispatcher", s.ATTEMPTS, (e.AttemptSent,))
WEBHOOK_BATCHES = ConsumerSpec("webhook-dispatcher", s.BATCHES, (e.BatchCompleted,))
WEBHOOK_INBOUND = ConsumerSpec("webhook-dispatcher", s.INBOUND, (e.InboundReceived,), lanes=(Lane.TRANSACTIONAL,))
WEBHOOK_TIMERS = ConsumerSpec("webhook-dispatcher", s.TIMERS, (e.TimerDue,))

CONSUMERS: tuple[ConsumerSpec, ...] = (
    COMPLIANCE_MESSAGES,
    COMPLIANCE_BATCHES,
    COMPLIANCE_TIMERS,
    ROUTING_MESSAGES,
    ROUTING_ATTEMPTS,
    ROUTING_TIMERS,
    BILLING_ATTEMPTS,
    SMS_SENDER_ATTEMPTS,
    INGRESS_MESSAGES,
    INGRESS_ATTEMPTS,
    INGRESS_BATCHES,
    INGRESS_TIMERS,
    WEBHOOK_MESSAGES,
    WEBHOOK_ATTEMPTS,
    WEBHOOK_BATCHES,
    WEBHOOK_INBOUND,
    WEBHOOK_TIMERS,
)

READ_ALONG: tuple[type[Event], ...] = (e.ClientTold,)
"""Read from any place in the stream, by as many readers as there are clients listening: no durable remembers where."""

COMMAND_CONSUMERS: tuple[CommandConsumerSpec, ...] = tuple(
    CommandConsumerSpec(service) for service in ("compliance", "billing", "webhook-dispatcher")
)
