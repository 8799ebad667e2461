"""May this message be sent, and as what? The rules of DLT in the order in which operators scrub.

Entity and chain, header, template, links, class: what is wrong first is told first, in words that say how to mend it.
Words may name ids, positions and a template's own fixed text, but never the text of a message or a variable's value:
they travel in events and logs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from harkara_contracts.errors import ErrorCode
from harkara_contracts.events import Content, SmsContent
from harkara_contracts.facts import EntityFact, SenderFact, TemplateFact
from harkara_contracts.subjects import Category, Channel
from harkara_dlt import (
    ClientCategory,
    HeaderKind,
    Template,
    TemplateCategory,
    TemplateError,
    accepts,
    header_kind,
    header_problem,
)
from harkara_registry.refusal import Refused, RefusedError, refuse
from harkara_registry.registry import KnownTemplate, Registry
from harkara_registry.sandbox import (
    SANDBOX_CHAIN_HASH,
    SANDBOX_ENTITY_ID,
    SANDBOX_FREE_DLT_ID,
    SANDBOX_PREFIX,
    SANDBOX_TEMPLATES,
)
from harkara_registry.statuses import Status
from harkara_registry.text import check_links, check_match, measured_text, text_of

PROMOTIONAL_CATEGORIES: Final = frozenset({Category.PROMOTIONAL, Category.SERVICE_EXPLICIT})

_SERVED: Final = {(Category.OTP, Category.OTP)} | {
    (Category(template), Category(message))
    for message in ClientCategory
    for template in TemplateCategory
    if accepts(message, template)
}


class RenderedSms(NamedTuple):
    """An SMS that may be sent, rendered and measured: the fields of `SmsContent`, for those who need no event of it."""

    sender: str
    text: str
    encoding: str
    parts: int
    entity_id: str
    dlt_template_id: str | None
    chain_hash: str | None

    def content(self) -> SmsContent:
        return SmsContent(**self._asdict())


@dataclass(slots=True)  # not frozen: that takes twice as long to make, and there is one for every message
class Verdict:
    """The channels that may be used, in the client's order, and why the others may not."""

    channels: list[Channel]
    refusals: list[Refused]
    rendered: RenderedSms | None = None

    @property
    def sms(self) -> SmsContent | None:
        """What an event tells of the SMS."""
        return self.rendered.content() if self.rendered else None

    @property
    def refused(self) -> Refused | None:
        """What to answer when no channel is left: the fault of the content, sooner than a channel that is not offered."""
        if self.channels:
            return None
        return next((refusal for refusal in self.refusals if refusal.channel is Channel.SMS), self.refusals[0])


def judge(
    registry: Registry,
    *,
    account_id: str,
    category: Category,
    channels: Sequence[Channel],
    content: Content,
    test_mode: bool = False,
) -> Verdict:
    """Judge every channel the client asked for."""
    allowed: list[Channel] = []
    refusals: list[Refused] = []
    rendered: RenderedSms | None = None
    for channel in channels:
        if channel is not Channel.SMS:
            refusals.append(_not_available(channel))
            continue
        outcome = judge_sms(registry, account_id=account_id, category=category, content=content, test_mode=test_mode)
        if isinstance(outcome, Refused):
            refusals.append(outcome)
        else:
            rendered = outcome
            allowed.append(channel)
    return Verdict(allowed, refusals, rendered)


def judge_sms(
    registry: Registry, *, account_id: str, category: Category, content: Content, test_mode: bool = False
) -> RenderedSms | Refused:
    """Judge one SMS; return it rendered and measured, or why it may not be sent."""
    try:
        if content.template_id is not None and content.template_id.startswith(SANDBOX_PREFIX):
            return _sandbox_sms(category, content, test_mode=test_mode)
        return _registered_sms(registry, account_id, category, content)
    except RefusedError as error:
        return error.refused


def _not_available(channel: Channel) -> Refused:
    return Refused(
        ErrorCode.INVALID_REQUEST, f"The channel {channel} is not available on this platform. Use sms.", channel
    )


# --- a registered sender and template ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Approved:
    """What may be used together. It stays so until something of the account changes."""

    sender: SenderFact
    entity: EntityFact
    template: TemplateFact
    compiled: Template


def _registered_sms(registry: Registry, account_id: str, category: Category, content: Content) -> RenderedSms:
    approved = registry.remembered(
        account_id,
        (content.sender, content.template_id, category),
        lambda: _approved(registry, account_id, category, content),
    )
    sender, entity, compiled = approved.sender, approved.entity, approved.compiled
    text = text_of(content, compiled)
    measured = measured_text(text, content)
    check_match(content, compiled, text)
    check_links(registry, account_id, text, content, compiled)
    return RenderedSms(
        sender=sender.sender,
        text=text,
        encoding=measured.encoding.value,
        parts=measured.parts,
        entity_id=entity.entity_id,
        dlt_template_id=approved.template.dlt_template_id,
        chain_hash=entity.chain_hash,
    )


def _approved(registry: Registry, account_id: str, category: Category, content: Content) -> _Approved:
    sender = _approved_sender(registry, account_id, content.sender)
    entity = _entity_of(registry, account_id, sender)
    known = _approved_template(registry, account_id, content.template_id)
    _check_pairing(known.fact, sender, category)
    return _Approved(sender, entity, known.fact, _compiled(known))


def _approved_sender(registry: Registry, account_id: str, name: str | None) -> SenderFact:
    if not name:
        refuse(ErrorCode.SENDER_NOT_REGISTERED, "An SMS needs `sender`: the header registered on DLT, such as ABCDEF.")
    sender = registry.sender(account_id, name)
    if sender is None:
        refuse(ErrorCode.SENDER_NOT_REGISTERED, _unknown_sender(registry, account_id, name))
    if sender.status == Status.SUSPENDED:
        refuse(
            ErrorCode.SENDER_SUSPENDED,
            f"The sender {name} is suspended{_because(sender.reason)}. Have it released, or use another sender.",
        )
    if sender.status != Status.APPROVED:
        refuse(
            ErrorCode.SENDER_NOT_REGISTERED,
            f"The sender {name} is registered but {_state(sender.status, sender.reason)}; only an approved one may send.",
        )
    return sender


def _unknown_sender(registry: Registry, account_id: str, name: str) -> str:
    spelled = next(
        (known.sender for known in registry.senders(account_id) if known.sender.lower() == name.lower()), None
    )
    if spelled is not None:
        return f"Headers are case sensitive on DLT: send as {spelled}, as it is registered."
    return "The sender is not registered in this account. Register it with POST /v1/senders."


def _entity_of(registry: Registry, account_id: str, sender: SenderFact) -> EntityFact:
    entity = registry.entity(account_id, sender.entity_id)
    if entity is None:
        refuse(
            ErrorCode.SENDER_NOT_REGISTERED,
            f"The sender {sender.sender} belongs to the entity {sender.entity_id}, which is not registered. "
            "Register it with POST /v1/entities.",
        )
    if not entity.chain_hash:
        refuse(
            ErrorCode.DLT_CHAIN_INVALID,
            f"The entity {entity.entity_id} has no telemarketer chain. Register its chain with POST /v1/entities.",
        )
    return entity


def _approved_template(registry: Registry, account_id: str, template_id: str | None) -> KnownTemplate:
    if not template_id:
        refuse(
            ErrorCode.TEMPLATE_NOT_FOUND,
            "An SMS to India needs `template_id`: your own id of a template, or its DLT id. "
            "Register the template with POST /v1/templates.",
        )
    known = registry.known_template(account_id, template_id)
    if known is None:
        refuse(
            ErrorCode.TEMPLATE_NOT_FOUND,
            "The account has no template of this id. Register it with POST /v1/templates; GET /v1/templates lists all.",
        )
    fact = known.fact
    if fact.channel is not Channel.SMS:
        refuse(
            ErrorCode.TEMPLATE_NOT_FOUND,
            f"The template {fact.template_id} is for {fact.channel}. Use one made for sms.",
        )
    if fact.status == Status.SUSPENDED:
        refuse(
            ErrorCode.DLT_TEMPLATE_SUSPENDED,
            f"The template {fact.template_id} is suspended{_because(fact.reason)}. "
            "Have it released, or use another template.",
        )
    if fact.status != Status.APPROVED:
        refuse(
            ErrorCode.TEMPLATE_NOT_FOUND,
            f"The template {fact.template_id} is {_state(fact.status, fact.reason)}; only an approved one may be used.",
        )
    return known


def _state(status: str, reason: str | None) -> str:
    return "pending approval" if status == Status.PENDING else f"{status}{_because(reason)}"


def _because(reason: str | None) -> str:
    return f" ({reason})" if reason else ""


def _check_pairing(template: TemplateFact, sender: SenderFact, category: Category) -> None:
    """Header, template and category must be of one kind (operators' codes 634, 683, 687)."""
    if template.senders and sender.sender not in template.senders:
        refuse(
            ErrorCode.SENDER_NOT_REGISTERED,
            f"The template {template.template_id} is not approved for the sender {sender.sender}. "
            f"Use one of {', '.join(template.senders)}, or add the sender to the template.",
        )
    if not template_serves(template.category, category):
        refuse(
            ErrorCode.TEMPLATE_CATEGORY_MISMATCH,
            f"A template of the category {template.category} may not carry a message of the category {category}. "
            "Send with the template's own category, or use another template.",
        )
    problem = header_problem(sender.sender, ClientCategory(category))
    if problem is None and sender.kind in PROMOTIONAL_CATEGORIES and category not in PROMOTIONAL_CATEGORIES:
        problem = f"The sender is registered as {sender.kind} and may carry promotional messages only."
    if problem is not None:
        refuse(ErrorCode.TEMPLATE_CATEGORY_MISMATCH, problem)


def template_serves(template: Category, message: Category) -> bool:
    """Whether a template of one category may carry a message of another.

    `otp` is no class of DLT: such a template is service-implicit there, and here it is kept for OTP, whose lane and
    price are its own.
    """
    return (template, message) in _SERVED


def _compiled(known: KnownTemplate) -> Template:
    try:
        return known.compiled
    except TemplateError as error:
        refuse(
            ErrorCode.TEMPLATE_NOT_FOUND,
            f"The body of the template {known.fact.template_id} cannot be read: {error} Correct it with PATCH /v1/templates.",
        )


# --- the sandbox -------------------------------------------------------------------------------------------------------


def _sandbox_sms(category: Category, content: Content, *, test_mode: bool) -> RenderedSms:
    if not test_mode:
        refuse(
            ErrorCode.TEMPLATE_NOT_FOUND,
            'Templates that start with SANDBOX_ exist in test mode only. Send with "test_mode": true, or use your own.',
        )
    sender = content.sender or ""
    if header_kind(sender) is not HeaderKind.ALPHABETIC:
        refuse(ErrorCode.SENDER_NOT_REGISTERED, "In the sandbox `sender` is any 6 letters, such as HARKRA.")
    known = SANDBOX_TEMPLATES.get(content.template_id or "")
    if known is None:
        text = _free_text(content)
    else:
        if not template_serves(known.fact.category, category):
            refuse(
                ErrorCode.TEMPLATE_CATEGORY_MISMATCH,
                f"The template {known.fact.template_id} is for the category {known.fact.category}.",
            )
        text = text_of(content, known.compiled)
    measured = measured_text(text, content)
    if known is not None:
        check_match(content, known.compiled, text)
    return RenderedSms(
        sender=sender,
        text=text,
        encoding=measured.encoding.value,
        parts=measured.parts,
        entity_id=SANDBOX_ENTITY_ID,
        dlt_template_id=known.fact.dlt_template_id if known else SANDBOX_FREE_DLT_ID,
        chain_hash=SANDBOX_CHAIN_HASH,
    )


def _free_text(content: Content) -> str:
    if content.message is not None:
        return content.message
    values = ", ".join(f"{name}: {value}" for name, value in content.variables.items())
    return f"Test message from {content.template_id}. {values}".strip()
