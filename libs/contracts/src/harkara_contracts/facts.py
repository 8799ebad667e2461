"""Facts: the last value of something one service owns and others read from a local view.

`fact.v1.<kind>.<key>`; the owner stays the judge, a view only answers early (401, 402, 422) without asking anybody.
"""

from datetime import datetime
from typing import ClassVar

from harkara_contracts.events import Event, Record
from harkara_contracts.subjects import Category, Channel, key_token, subject


class Fact(Event):
    """Base of facts. `version` grows with every change of the same key (unix nanoseconds serve); `deleted` is a tombstone."""

    domain: ClassVar[str] = "fact"
    version: int
    deleted: bool = False

    def key(self) -> str:
        raise NotImplementedError

    def subject(self) -> str:
        return subject(self.domain, self.event, key_token(self.key()), major=self.major)

    def event_id(self) -> str:
        return f"{self.event}.{self.key()}.{self.version}"


class AccountFact(Fact):
    """Who a client is. Limits are per account; `None` means not limited.

    An empty `ip_allow_list` allows every address; its entries are networks (CIDR). The signing secret is not told: the
    edge reads it from its table.
    """

    event: ClassVar[str] = "account"

    account_id: str
    name: str
    plan: str
    status: str = "active"
    auto_approve: bool = False
    requests_per_minute: int | None = None
    messages_per_second: int | None = None
    burst: int | None = None
    ip_allow_list: list[str] = []
    require_signature: bool = False

    def key(self) -> str:
        return self.account_id


class ApiKeyFact(Fact):
    """An API key, known by the SHA-256 (hex) of its text; the text itself is nowhere kept."""

    event: ClassVar[str] = "key"

    key_id: str
    account_id: str
    key_hash: str
    name: str = ""
    scopes: list[str]
    test_only: bool = False
    expires_at: datetime | None = None

    def key(self) -> str:
        return self.key_id


class EntityFact(Fact):
    event: ClassVar[str] = "entity"

    account_id: str
    entity_id: str
    name: str
    telemarketer_chain: list[str]
    chain_hash: str

    def key(self) -> str:
        return f"{self.account_id}_{self.entity_id}"


class SenderFact(Fact):
    event: ClassVar[str] = "sender"

    account_id: str
    sender: str
    entity_id: str
    kind: str
    status: str
    reason: str | None = None
    created_at: datetime

    def key(self) -> str:
        return f"{self.account_id}_{self.sender}"


class TemplateVariable(Record):
    name: str
    type: str


class TemplateFact(Fact):
    event: ClassVar[str] = "template"

    account_id: str
    template_id: str
    channel: Channel
    dlt_template_id: str | None = None
    category: Category
    senders: list[str]
    body: str
    variables: list[TemplateVariable] = []
    language: str = "en"
    subject_line: str | None = None
    status: str
    reason: str | None = None
    created_at: datetime

    def key(self) -> str:
        return f"{self.account_id}_{self.template_id}"


class UrlFact(Fact):
    """One entry of an account's whitelist. `kind` is url_prefix, domain, phone or email."""

    event: ClassVar[str] = "url"

    account_id: str
    url_id: str
    kind: str
    value: str

    def key(self) -> str:
        return f"{self.account_id}_{self.url_id}"


class BalanceFact(Fact):
    """What an account can spend now, and what one more unit costs it (milli-paise by price column)."""

    event: ClassVar[str] = "balance"

    account_id: str
    available_mp: int
    unit_price_mp: dict[str, int] = {}

    def key(self) -> str:
        return self.account_id


class CarrierHealthFact(Fact):
    """How a carrier's route does, as its sender sees it. `healthy` is false while no bind can take a message."""

    event: ClassVar[str] = "carrier"

    channel: Channel
    carrier: str
    healthy: bool
    reason: str | None = None
    changed_at: datetime

    def key(self) -> str:
        return f"{self.channel.value}_{self.carrier}"


class EndpointFact(Fact):
    """A client's webhook was made, changed or removed. Its secret is not told: the owner reads it from its table."""

    event: ClassVar[str] = "endpoint"

    account_id: str
    webhook_id: str
    status: str
    events: list[str] = []

    def key(self) -> str:
        return self.webhook_id
