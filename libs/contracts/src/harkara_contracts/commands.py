"""Commands: what must be answered. Imperative names, a reply on the caller's own subject.

`command.v1.<service>.<name>` in a stream of short age. The edge calls, the owner of the data decides and answers.
A reply carries `facts_sequence`, the place in the FACTS stream that the change reached, so that a caller can wait
until its own view shows what it has just been told.
"""

from datetime import datetime
from typing import ClassVar, Generic, TypeVar

from pydantic import BaseModel, Field

from harkara_contracts.events import Event, Record
from harkara_contracts.facts import EntityFact, SenderFact, TemplateFact, TemplateVariable, UrlFact
from harkara_contracts.subjects import Category, Channel, subject


class Reply(Record):
    """Base of answers."""

    facts_sequence: int = 0


class Done(Reply):
    """The command was carried out; there is nothing more to tell."""


R = TypeVar("R", bound=Reply)


class Command(Event, Generic[R]):
    """Base of commands. `service` is who answers, `reply_model` what with, `command_id` makes a repeat known.

    `actor` is who asked (an API key's id), for the owner's audit log.
    """

    domain: ClassVar[str] = "command"
    service: ClassVar[str]
    reply_model: ClassVar[type[Reply]] = Done

    command_id: str
    account_id: str
    actor: str | None = None

    def subject(self) -> str:
        return subject(self.domain, self.service, self.event, major=self.major)

    @classmethod
    def type_name(cls) -> str:
        return f"command.{cls.service}.{cls.event}.v{cls.major}"

    def event_id(self) -> str:
        return self.command_id


class Failure(Record):
    """A refused command: one of the platform's error codes and plain words for the client."""

    error_code: str
    error_message: str


class ReplyEnvelope(BaseModel):
    """What travels back: the answer's JSON, or why there is none."""

    reply_to: str
    failure: Failure | None = None
    result: dict[str, object] | None = None


# --- compliance: the registry ------------------------------------------------------------------------------------------


class EntityReply(Reply):
    entity: EntityFact


class SenderReply(Reply):
    sender: SenderFact


class TemplateReply(Reply):
    template: TemplateFact


class UrlReply(Reply):
    url: UrlFact


class _ToCompliance(Command[R]):
    service: ClassVar[str] = "compliance"


class RegisterEntity(_ToCompliance[EntityReply]):
    event: ClassVar[str] = "register_entity"
    reply_model: ClassVar[type[Reply]] = EntityReply

    entity_id: str
    name: str
    telemarketer_chain: list[str] = []


class RegisterSender(_ToCompliance[SenderReply]):
    event: ClassVar[str] = "register_sender"
    reply_model: ClassVar[type[Reply]] = SenderReply

    sender: str
    entity_id: str
    kind: str
    auto_approve: bool = False


class UpdateSender(_ToCompliance[SenderReply]):
    """Change a sender; a new entity or kind starts its approval anew."""

    event: ClassVar[str] = "update_sender"
    reply_model: ClassVar[type[Reply]] = SenderReply

    sender: str
    entity_id: str | None = None
    kind: str | None = None
    auto_approve: bool = False


class SetSenderStatus(_ToCompliance[SenderReply]):
    event: ClassVar[str] = "set_sender_status"
    reply_model: ClassVar[type[Reply]] = SenderReply

    sender: str
    status: str
    reason: str | None = None


class RegisterTemplate(_ToCompliance[TemplateReply]):
    event: ClassVar[str] = "register_template"
    reply_model: ClassVar[type[Reply]] = TemplateReply

    template_id: str
    channel: Channel = Channel.SMS
    dlt_template_id: str | None = None
    category: Category
    senders: list[str] = []
    body: str
    variables: list[TemplateVariable] | None = None
    language: str = "en"
    subject_line: str | None = None
    auto_approve: bool = False


class UpdateTemplate(_ToCompliance[TemplateReply]):
    """Change a template; a new body or category starts its approval anew."""

    event: ClassVar[str] = "update_template"
    reply_model: ClassVar[type[Reply]] = TemplateReply

    template_id: str
    dlt_template_id: str | None = None
    category: Category | None = None
    senders: list[str] | None = None
    body: str | None = None
    variables: list[TemplateVariable] | None = None
    language: str | None = None
    subject_line: str | None = None
    auto_approve: bool = False


class SetTemplateStatus(_ToCompliance[TemplateReply]):
    event: ClassVar[str] = "set_template_status"
    reply_model: ClassVar[type[Reply]] = TemplateReply

    template_id: str
    status: str
    reason: str | None = None


class AddUrl(_ToCompliance[UrlReply]):
    event: ClassVar[str] = "add_url"
    reply_model: ClassVar[type[Reply]] = UrlReply

    kind: str
    value: str


class RemoveUrl(_ToCompliance[Done]):
    event: ClassVar[str] = "remove_url"

    url_id: str


class CancelMessage(_ToCompliance[Done]):
    """Take back a message that waits for its schedule or for the promotional hours.

    Refused with ERR_NOT_FOUND where no message of this account waits under this id, and ERR_CONFLICT once it has left.
    A repeat of a cancellation is done.
    """

    event: ClassVar[str] = "cancel_message"

    message_id: str


# --- billing -----------------------------------------------------------------------------------------------------------


class BalanceReply(Reply):
    """All in milli-paise. `held_mp` is reserved for attempts whose end is open; `available_mp` is what can be spent."""

    available_mp: int
    held_mp: int
    currency: str = "INR"


class LedgerEntry(Record):
    """One movement of an account's money.

    `amount_mp` is signed as the account sees it: a top-up is positive. `available_change_mp` is what it did to what can
    be spent: a capture takes from what was held, and changes that no more. The sum of them is the balance.
    """

    entry_id: str
    kind: str
    amount_mp: int
    available_change_mp: int = 0
    units: int = 0
    reference: str
    message_id: str | None = None
    created_at: datetime


class LedgerReply(Reply):
    entries: list[LedgerEntry]
    next_cursor: str | None = None


class UsageRow(Record):
    day: str
    channel: str
    category: str
    units: int
    amount_mp: int


class UsageReply(Reply):
    rows: list[UsageRow]


class _ToBilling(Command[R]):
    service: ClassVar[str] = "billing"


class TopUp(_ToBilling[BalanceReply]):
    """Add money once per `reference`: a repeat with the same amount changes nothing, with another amount it is refused."""

    event: ClassVar[str] = "top_up"
    reply_model: ClassVar[type[Reply]] = BalanceReply

    amount_mp: int = Field(gt=0)
    reference: str


class GetBalance(_ToBilling[BalanceReply]):
    event: ClassVar[str] = "get_balance"
    reply_model: ClassVar[type[Reply]] = BalanceReply


class ListLedger(_ToBilling[LedgerReply]):
    event: ClassVar[str] = "list_ledger"
    reply_model: ClassVar[type[Reply]] = LedgerReply

    limit: int = Field(default=100, ge=1, le=1000)
    cursor: str | None = None
    message_id: str | None = None


class GetUsage(_ToBilling[UsageReply]):
    event: ClassVar[str] = "get_usage"
    reply_model: ClassVar[type[Reply]] = UsageReply

    start: datetime | None = None
    end: datetime | None = None


# --- webhook-dispatcher ------------------------------------------------------------------------------------------------


class Endpoint(Record):
    """A client's webhook. `status` is active or disabled (with `reason`); the secret is told once, on creation."""

    webhook_id: str
    url: str
    events: list[str]
    description: str = ""
    status: str = "active"
    reason: str | None = None
    created_at: datetime


class EndpointReply(Reply):
    endpoint: Endpoint
    secret: str | None = None


class EndpointsReply(Reply):
    endpoints: list[Endpoint]


class DeliveryAttempt(Record):
    number: int
    at: datetime
    status_code: int | None = None
    error: str | None = None
    latency_ms: int | None = None
    response_head: str | None = None


class Delivery(Record):
    """One event to one endpoint: `state` is pending, delivered or failed (kept for replay)."""

    delivery_id: str
    webhook_id: str
    event: str
    message_id: str
    state: str
    attempts: list[DeliveryAttempt]
    created_at: datetime
    next_attempt_at: datetime | None = None


class DeliveriesReply(Reply):
    deliveries: list[Delivery]
    next_cursor: str | None = None


class DeliveryReply(Reply):
    delivery: Delivery


class _ToWebhooks(Command[R]):
    service: ClassVar[str] = "webhook-dispatcher"


class CreateEndpoint(_ToWebhooks[EndpointReply]):
    """An empty `events` means all of them."""

    event: ClassVar[str] = "create_endpoint"
    reply_model: ClassVar[type[Reply]] = EndpointReply

    url: str
    events: list[str] = []
    description: str = ""


class UpdateEndpoint(_ToWebhooks[EndpointReply]):
    event: ClassVar[str] = "update_endpoint"
    reply_model: ClassVar[type[Reply]] = EndpointReply

    webhook_id: str
    url: str | None = None
    events: list[str] | None = None
    description: str | None = None
    status: str | None = None


class DeleteEndpoint(_ToWebhooks[Done]):
    event: ClassVar[str] = "delete_endpoint"

    webhook_id: str


class ListEndpoints(_ToWebhooks[EndpointsReply]):
    event: ClassVar[str] = "list_endpoints"
    reply_model: ClassVar[type[Reply]] = EndpointsReply


class RotateSecret(_ToWebhooks[EndpointReply]):
    """Make a new secret; the old one goes on signing beside it for `overlap_seconds`."""

    event: ClassVar[str] = "rotate_secret"
    reply_model: ClassVar[type[Reply]] = EndpointReply

    webhook_id: str
    overlap_seconds: int = Field(default=86_400, ge=0, le=604_800)


class SendTestEvent(_ToWebhooks[DeliveryReply]):
    event: ClassVar[str] = "send_test_event"
    reply_model: ClassVar[type[Reply]] = DeliveryReply

    webhook_id: str


class ListDeliveries(_ToWebhooks[DeliveriesReply]):
    event: ClassVar[str] = "list_deliveries"
    reply_model: ClassVar[type[Reply]] = DeliveriesReply

    webhook_id: str
    limit: int = Field(default=50, ge=1, le=200)
    cursor: str | None = None
    message_id: str | None = None


class ReplayDelivery(_ToWebhooks[DeliveryReply]):
    event: ClassVar[str] = "replay_delivery"
    reply_model: ClassVar[type[Reply]] = DeliveryReply

    delivery_id: str
