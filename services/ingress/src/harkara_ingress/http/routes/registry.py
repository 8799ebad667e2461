"""The DLT registry: entities, senders, templates, whitelisted links. Compliance owns them, the edge shows its view."""

from datetime import datetime
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field, model_validator

from harkara_contracts.commands import (
    AddUrl,
    RegisterEntity,
    RegisterSender,
    RegisterTemplate,
    RemoveUrl,
    SetSenderStatus,
    SetTemplateStatus,
    UpdateSender,
    UpdateTemplate,
)
from harkara_contracts.errors import ErrorCode, HarkaraError
from harkara_contracts.facts import EntityFact, SenderFact, TemplateFact, TemplateVariable, UrlFact
from harkara_contracts.subjects import Category, Channel
from harkara_ingress.http.common import Deleted, Id, Name, Reason
from harkara_ingress.http.context import Manager, Operator, Reader
from harkara_ingress.http.owners import Owners, asked_by
from harkara_registry import Registry

F = TypeVar("F")
DltId = Annotated[str, Field(pattern=r"^\d{10,24}$")]
Header = Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,20}$")]
Body = Annotated[str, Field(min_length=1, max_length=5_000)]
Language = Annotated[str, Field(pattern=r"^[A-Za-z]{2,3}([_-][A-Za-z0-9]{2,8})*$")]
Headers = Annotated[list[Header], Field(max_length=100)]
Variables = Annotated[list[TemplateVariable], Field(max_length=100)]
StatusName = Annotated[str, Field(pattern="^(pending|approved|rejected|suspended)$")]
AccountId = Annotated[Id | None, Query(description="Whose; may stand in the body instead.")]


class NewEntity(BaseModel):
    entity_id: DltId
    name: Name
    telemarketer_chain: Annotated[list[DltId], Field(max_length=10)] = []


class Entity(BaseModel):
    entity_id: str
    name: str
    telemarketer_chain: list[str]
    chain_hash: str


class NewSender(BaseModel):
    # A promotional header is six digits, and often written as a number.
    model_config = ConfigDict(coerce_numbers_to_str=True)

    sender: Header
    entity_id: DltId
    kind: Name = "transactional"


class ChangeSender(BaseModel):
    entity_id: DltId | None = None
    kind: Name | None = None


class Sender(BaseModel):
    sender: str
    entity_id: str
    kind: str
    status: str
    reason: str | None
    created_at: datetime


class NewTemplate(BaseModel):
    """`template_id` is the account's own name for it; the DLT id may be used in its place when sending."""

    template_id: Id
    channel: Channel = Channel.SMS
    dlt_template_id: DltId | None = None
    category: Category
    senders: Headers = []
    body: Body
    variables: Variables | None = None
    language: Language = "en"
    subject: Annotated[str, Field(max_length=250)] | None = None


class ChangeTemplate(BaseModel):
    """A new body or category starts the approval anew."""

    dlt_template_id: DltId | None = None
    category: Category | None = None
    senders: Headers | None = None
    body: Body | None = None
    variables: Variables | None = None
    language: Language | None = None
    subject: Annotated[str, Field(max_length=250)] | None = None


class Template(BaseModel):
    template_id: str
    channel: Channel
    dlt_template_id: str | None
    category: Category
    senders: list[str]
    body: str
    variables: list[TemplateVariable]
    language: str
    subject: str | None
    status: str
    reason: str | None
    created_at: datetime


class SetStatus(BaseModel):
    status: StatusName
    reason: Reason | None = None
    account_id: Id | None = None


class NewUrl(BaseModel):
    """One of the four."""

    model_config = ConfigDict(coerce_numbers_to_str=True)

    url_prefix: Annotated[str, Field(min_length=1, max_length=2_000)] | None = None
    domain: Annotated[str, Field(min_length=1, max_length=253)] | None = None
    phone: Annotated[str, Field(min_length=1, max_length=32)] | None = None
    email: Annotated[str, Field(min_length=1, max_length=254)] | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> "NewUrl":
        if len(self.model_dump(exclude_none=True)) != 1:
            raise ValueError("give one of url_prefix, domain, phone, email")
        return self


class Url(BaseModel):
    url_id: str
    kind: str
    value: str


class Entities(BaseModel):
    entities: list[Entity]


class Senders(BaseModel):
    senders: list[Sender]


class Templates(BaseModel):
    templates: list[Template]


class Urls(BaseModel):
    urls: list[Url]


def registry_routes(registry: Registry, owners: Owners) -> APIRouter:
    router = APIRouter(tags=["registry"])
    _entities(router, registry, owners)
    _senders(router, registry, owners)
    _templates(router, registry, owners)
    _urls(router, registry, owners)
    return router


def _entities(router: APIRouter, registry: Registry, owners: Owners) -> None:
    @router.post("/v1/entities")
    async def register_entity(caller: Manager, wanted: NewEntity) -> Entity:
        """Register a principal entity with its chain of telemarketers."""
        command = RegisterEntity(**asked_by(caller), **wanted.model_dump())
        return _entity((await owners.ask(command)).entity)

    @router.get("/v1/entities")
    async def entities(caller: Reader) -> Entities:
        """List the account's entities."""
        return Entities(entities=[_entity(fact) for fact in registry.entities(caller.account_id)])


def _senders(router: APIRouter, registry: Registry, owners: Owners) -> None:
    @router.post("/v1/senders")
    async def register_sender(caller: Manager, wanted: NewSender) -> Sender:
        """Register a sender id (header)."""
        command = RegisterSender(
            **asked_by(caller),
            auto_approve=caller.auto_approve,
            **wanted.model_dump(),
        )
        return _sender((await owners.ask(command)).sender)

    @router.get("/v1/senders")
    async def senders(caller: Reader) -> Senders:
        """List the account's senders."""
        return Senders(senders=[_sender(fact) for fact in registry.senders(caller.account_id)])

    @router.get("/v1/senders/{sender}")
    async def one_sender(caller: Reader, sender: Header) -> Sender:
        """Show a sender."""
        return _sender(_found(registry.sender(caller.account_id, sender), "sender"))

    @router.patch("/v1/senders/{sender}")
    async def change_sender(caller: Manager, sender: Header, wanted: ChangeSender) -> Sender:
        """Change a sender."""
        command = UpdateSender(
            **asked_by(caller), sender=sender, auto_approve=caller.auto_approve, **wanted.model_dump()
        )
        return _sender((await owners.ask(command)).sender)

    @router.post("/v1/senders/{sender}/status")
    async def set_sender_status(
        caller: Operator, sender: Header, wanted: SetStatus, account_id: AccountId = None
    ) -> Sender:
        """Set a sender's status (operator)."""
        command = SetSenderStatus(
            **asked_by(caller, _whose(wanted, account_id)),
            sender=sender,
            status=wanted.status,
            reason=wanted.reason,
        )
        return _sender((await owners.ask(command)).sender)


def _templates(router: APIRouter, registry: Registry, owners: Owners) -> None:
    @router.post("/v1/templates")
    async def register_template(caller: Manager, wanted: NewTemplate) -> Template:
        """Register a template."""
        command = RegisterTemplate(
            **asked_by(caller),
            auto_approve=caller.auto_approve,
            **_with_subject_line(wanted),
        )
        return _template((await owners.ask(command)).template)

    @router.get("/v1/templates")
    async def templates(caller: Reader) -> Templates:
        """List the account's templates."""
        return Templates(templates=[_template(fact) for fact in registry.templates(caller.account_id)])

    @router.get("/v1/templates/{template_id}")
    async def one_template(caller: Reader, template_id: Id) -> Template:
        """Show a template, by its own or its DLT id."""
        return _template(_found(registry.template(caller.account_id, template_id), "template"))

    @router.patch("/v1/templates/{template_id}")
    async def change_template(caller: Manager, template_id: Id, wanted: ChangeTemplate) -> Template:
        """Change a template, by its own or its DLT id."""
        command = UpdateTemplate(
            **asked_by(caller),
            template_id=_own_id(registry, caller.account_id, template_id),
            auto_approve=caller.auto_approve,
            **_with_subject_line(wanted),
        )
        return _template((await owners.ask(command)).template)

    @router.post("/v1/templates/{template_id}/status")
    async def set_template_status(
        caller: Operator, template_id: Id, wanted: SetStatus, account_id: AccountId = None
    ) -> Template:
        """Set a template's status (operator)."""
        whose = _whose(wanted, account_id)
        command = SetTemplateStatus(
            **asked_by(caller, whose),
            template_id=_own_id(registry, whose, template_id),
            status=wanted.status,
            reason=wanted.reason,
        )
        return _template((await owners.ask(command)).template)


def _urls(router: APIRouter, registry: Registry, owners: Owners) -> None:
    @router.post("/v1/urls")
    async def add_url(caller: Manager, wanted: NewUrl) -> Url:
        """Whitelist what messages may link to or name."""
        ((kind, value),) = wanted.model_dump(exclude_none=True).items()
        command = AddUrl(**asked_by(caller), kind=kind, value=value)
        return _url((await owners.ask(command)).url)

    @router.get("/v1/urls")
    async def urls(caller: Reader) -> Urls:
        """List the account's whitelist."""
        return Urls(urls=[_url(fact) for fact in registry.urls(caller.account_id)])

    @router.delete("/v1/urls/{url_id}")
    async def remove_url(caller: Manager, url_id: Id) -> Deleted:
        """Take an entry off the whitelist."""
        await owners.ask(RemoveUrl(**asked_by(caller), url_id=url_id))
        return Deleted()


def _whose(wanted: SetStatus, account_id: str | None) -> str:
    named = wanted.account_id or account_id
    if named is None:
        raise HarkaraError(ErrorCode.INVALID_REQUEST, "Give account_id, in the body or the query: ids are per account.")
    return named


def _own_id(registry: Registry, account_id: str, id_or_dlt_id: str) -> str:
    """Return the account's own id of a template; what is not known here is for the owner to look for."""
    template = registry.template(account_id, id_or_dlt_id)
    return template.template_id if template else id_or_dlt_id


def _found(fact: F | None, what: str) -> F:
    if fact is None:
        raise HarkaraError(ErrorCode.NOT_FOUND, f"The account has no such {what}.")
    return fact


def _with_subject_line(wanted: NewTemplate | ChangeTemplate) -> dict[str, Any]:
    return {**wanted.model_dump(exclude={"subject"}), "subject_line": wanted.subject}


def _entity(fact: EntityFact) -> Entity:
    return Entity.model_validate(fact, from_attributes=True)


def _sender(fact: SenderFact) -> Sender:
    return Sender.model_validate(fact, from_attributes=True)


def _template(fact: TemplateFact) -> Template:
    shown = fact.model_dump(include=set(Template.model_fields))
    return Template(**shown, subject=fact.subject_line)


def _url(fact: UrlFact) -> Url:
    return Url.model_validate(fact, from_attributes=True)
