"""May this message be sent, and as what? The rules of DLT in the order in which operators scrub.

Entity and chain, header, template, links, class: what is wrong first is told first, in words that say how to mend it.
Words may name ids, positions and a template's own fixed text, but never the text of a message or a variable's value:
they travel in events and logs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NoReturn

from harkara_contracts.errors import ErrorCode
from harkara_contracts.events import Content, SmsContent
from harkara_contracts.facts import EntityFact, SenderFact, TemplateFact
from harkara_contracts.subjects import Category, Channel
from harkara_dlt import (
    ClientCategory,
    HeaderKind,
    Kind,
    Link,
    LinkKind,
    Mismatch,
    RenderError,
    Template,
    TemplateCategory,
    TemplateError,
    accepts,
    header_kind,
    header_problem,
    unlisted_links,
)
from harkara_registry.registry import KnownTemplate, Registry
from harkara_registry.sandbox import (
    SANDBOX_CHAIN_HASH,
    SANDBOX_ENTITY_ID,
    SANDBOX_FREE_DLT_ID,
    SANDBOX_PREFIX,
    SANDBOX_TEMPLATES,
)
from harkara_registry.statuses import Status
from harkara_sms_text import LoneSurrogateError, Measure, measure, suggest_gsm

MAX_SMS_PARTS: Final = 10
"""Handsets and operators drop longer concatenations; more is nearly always a mistake that would be billed per part."""

PROMOTIONAL_CATEGORIES: Final = frozenset({Category.PROMOTIONAL, Category.SERVICE_EXPLICIT})

_SERVED: Final = {(Category.OTP, Category.OTP)} | {
    (Category(template), Category(message))
    for message in ClientCategory
    for template in TemplateCategory
    if accepts(message, template)
}
_CODE_LIKE_KINDS: Final = frozenset({Kind.NUMERIC, Kind.ALPHANUMERIC})


@dataclass(frozen=True, slots=True)
class Refused:
    """Why a channel may not be used: one of the platform's codes and words for the client."""

    code: ErrorCode
    message: str
    channel: Channel = Channel.SMS


@dataclass(frozen=True, slots=True)
class Verdict:
    """The channels that may be used, in the client's order, and why the others may not."""

    channels: list[Channel]
    refusals: list[Refused]
    sms: SmsContent | None = None

    @property
    def refused(self) -> Refused | None:
        """What to answer when no channel is left: the fault of the content, sooner than a channel that is not offered."""
        if self.channels:
            return None
        return next((refusal for refusal in self.refusals if refusal.channel is Channel.SMS), self.refusals[0])


class _RefusedError(Exception):
    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(code)
        self.refused = Refused(code, message)


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
    sms: SmsContent | None = None
    for channel in channels:
        if channel is not Channel.SMS:
            refusals.append(_not_available(channel))
            continue
        outcome = judge_sms(registry, account_id=account_id, category=category, content=content, test_mode=test_mode)
        if isinstance(outcome, Refused):
            refusals.append(outcome)
        else:
            sms = outcome
            allowed.append(channel)
    return Verdict(allowed, refusals, sms)


def judge_sms(
    registry: Registry, *, account_id: str, category: Category, content: Content, test_mode: bool = False
) -> SmsContent | Refused:
    """Judge one SMS; return it rendered and measured, or why it may not be sent."""
    try:
        if content.template_id is not None and content.template_id.startswith(SANDBOX_PREFIX):
            return _sandbox_sms(category, content, test_mode=test_mode)
        return _registered_sms(registry, account_id, category, content)
    except _RefusedError as error:
        return error.refused


def _not_available(channel: Channel) -> Refused:
    return Refused(
        ErrorCode.INVALID_REQUEST, f"The channel {channel} is not available on this platform. Use sms.", channel
    )


def _refuse(code: ErrorCode, message: str) -> NoReturn:
    raise _RefusedError(code, message)


# --- a registered sender and template ----------------------------------------------------------------------------------


def _registered_sms(registry: Registry, account_id: str, category: Category, content: Content) -> SmsContent:
    sender = _approved_sender(registry, account_id, content.sender)
    entity = _entity_of(registry, account_id, sender)
    known = _approved_template(registry, account_id, content.template_id)
    _check_pairing(known.fact, sender, category)
    compiled = _compiled(known)
    text = _text_of(content, compiled)
    measured = _measured(text, content)
    _check_match(content, compiled, text)
    _check_links(registry, account_id, text, content, compiled)
    return SmsContent(
        sender=sender.sender,
        text=text,
        encoding=measured.encoding.value,
        parts=measured.parts,
        entity_id=entity.entity_id,
        dlt_template_id=known.fact.dlt_template_id,
        chain_hash=entity.chain_hash,
    )


def _approved_sender(registry: Registry, account_id: str, name: str | None) -> SenderFact:
    if not name:
        _refuse(ErrorCode.SENDER_NOT_REGISTERED, "An SMS needs `sender`: the header registered on DLT, such as ABCDEF.")
    sender = registry.sender(account_id, name)
    if sender is None:
        _refuse(ErrorCode.SENDER_NOT_REGISTERED, _unknown_sender(registry, account_id, name))
    if sender.status == Status.APPROVED:
        return sender
    if sender.status == Status.SUSPENDED:
        _refuse(
            ErrorCode.SENDER_SUSPENDED,
            f"The sender {name} is suspended{_because(sender.reason)}. Have it released, or use another sender.",
        )
    _refuse(
        ErrorCode.SENDER_NOT_REGISTERED,
        f"The sender {name} is registered but {_state(sender.status, sender.reason)}; only an approved one may send.",
    )


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
        _refuse(
            ErrorCode.SENDER_NOT_REGISTERED,
            f"The sender {sender.sender} belongs to the entity {sender.entity_id}, which is not registered. "
            "Register it with POST /v1/entities.",
        )
    if not entity.chain_hash:
        _refuse(
            ErrorCode.DLT_CHAIN_INVALID,
            f"The entity {entity.entity_id} has no telemarketer chain. Register its chain with POST /v1/entities.",
        )
    return entity


def _approved_template(registry: Registry, account_id: str, template_id: str | None) -> KnownTemplate:
    if not template_id:
        _refuse(
            ErrorCode.TEMPLATE_NOT_FOUND,
            "An SMS to India needs `template_id`: your own id of a template, or its DLT id. "
            "Register the template with POST /v1/templates.",
        )
    known = registry.known_template(account_id, template_id)
    if known is None:
        _refuse(
            ErrorCode.TEMPLATE_NOT_FOUND,
            "The account has no template of this id. Register it with POST /v1/templates; GET /v1/templates lists all.",
        )
    fact = known.fact
    if fact.channel is not Channel.SMS:
        _refuse(
            ErrorCode.TEMPLATE_NOT_FOUND,
            f"The template {fact.template_id} is for {fact.channel}. Use one made for sms.",
        )
    if fact.status == Status.APPROVED:
        return known
    if fact.status == Status.SUSPENDED:
        _refuse(
            ErrorCode.DLT_TEMPLATE_SUSPENDED,
            f"The template {fact.template_id} is suspended{_because(fact.reason)}. "
            "Have it released, or use another template.",
        )
    _refuse(
        ErrorCode.TEMPLATE_NOT_FOUND,
        f"The template {fact.template_id} is {_state(fact.status, fact.reason)}; only an approved one may be used.",
    )


def _state(status: str, reason: str | None) -> str:
    return "pending approval" if status == Status.PENDING else f"{status}{_because(reason)}"


def _because(reason: str | None) -> str:
    return f" ({reason})" if reason else ""


def _check_pairing(template: TemplateFact, sender: SenderFact, category: Category) -> None:
    """Header, template and category must be of one kind (operators' codes 634, 683, 687)."""
    if template.senders and sender.sender not in template.senders:
        _refuse(
            ErrorCode.SENDER_NOT_REGISTERED,
            f"The template {template.template_id} is not approved for the sender {sender.sender}. "
            f"Use one of {', '.join(template.senders)}, or add the sender to the template.",
        )
    if not template_serves(template.category, category):
        _refuse(
            ErrorCode.TEMPLATE_CATEGORY_MISMATCH,
            f"A template of the category {template.category} may not carry a message of the category {category}. "
            "Send with the template's own category, or use another template.",
        )
    problem = header_problem(sender.sender, ClientCategory(category))
    if problem is None and sender.kind in PROMOTIONAL_CATEGORIES and category not in PROMOTIONAL_CATEGORIES:
        problem = f"The sender is registered as {sender.kind} and may carry promotional messages only."
    if problem is not None:
        _refuse(ErrorCode.TEMPLATE_CATEGORY_MISMATCH, problem)


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
        _refuse(
            ErrorCode.TEMPLATE_NOT_FOUND,
            f"The body of the template {known.fact.template_id} cannot be read: {error} Correct it with PATCH /v1/templates.",
        )


# --- the text ----------------------------------------------------------------------------------------------------------


def _text_of(content: Content, compiled: Template) -> str:
    """Return the client's own text, or the template with its variables filled; both must say the same if both are given."""
    message = content.message
    if message is not None and not content.variables:
        return message
    rendered = _rendered(compiled, content.variables)
    if message is None:
        return rendered
    if message.split() != rendered.split():
        _refuse(
            ErrorCode.DLT_TEMPLATE_MISMATCH,
            "`message` and the template filled with `variables` differ"
            f"{_first_difference(message, rendered)}. Send one of the two, or make them equal.",
        )
    return message


def _rendered(compiled: Template, variables: Mapping[str, object]) -> str:
    try:
        return compiled.render(variables)
    except RenderError as error:
        _refuse(ErrorCode.DLT_TEMPLATE_MISMATCH, str(error))


def _first_difference(message: str, rendered: str) -> str:
    pairs = zip(message, rendered, strict=False)
    position = next((i for i, (left, right) in enumerate(pairs) if left != right), min(len(message), len(rendered)))
    return f" at character {position + 1}"


def _check_match(content: Content, compiled: Template, text: str) -> None:
    if content.message is None:
        return  # what was rendered from the template is the template
    outcome = compiled.match(text)
    if isinstance(outcome, Mismatch):
        _refuse(
            ErrorCode.DLT_TEMPLATE_MISMATCH,
            f"The text differs from the template at character {outcome.text_position + 1}: there the template has "
            f'"{outcome.expected.strip()}" (its character {outcome.template_position + 1}). '
            "Send the registered text, or `variables` in place of `message`.",
        )


def _measured(text: str, content: Content) -> Measure:
    try:
        measured = measure(text)
    except LoneSurrogateError as error:
        _refuse(ErrorCode.INVALID_UNICODE, str(error))
    if content.unicode is False and measured.forcing_characters:
        hint = "; a cheaper spelling of the same text exists in GSM" if suggest_gsm(text) != text else ""
        _refuse(
            ErrorCode.INVALID_UNICODE,
            f"The text holds {len(measured.forcing_characters)} different characters outside the GSM alphabet, the first "
            f"is U+{ord(measured.forcing_characters[0]):04X}, but `unicode` is false{hint}. "
            "Replace them, or leave `unicode` out.",
        )
    if measured.parts > MAX_SMS_PARTS:
        _refuse(
            ErrorCode.MESSAGE_TOO_LONG,
            f"The text has {measured.units} units and needs {measured.parts} parts of {measured.units_per_part}; "
            f"at most {MAX_SMS_PARTS} parts are sent. Shorten it.",
        )
    return measured


def _check_links(registry: Registry, account_id: str, text: str, content: Content, compiled: Template) -> None:
    unlisted = unlisted_links(text, registry.whitelist(account_id))
    if unlisted:
        unlisted = _without_codes(unlisted, text, content, compiled)
    if unlisted:
        link = unlisted[0]
        _refuse(
            ErrorCode.URL_NOT_WHITELISTED,
            f"The {_LINK_WORDS[link.kind]} at character {link.start + 1} of the text is not on the account's whitelist. "
            "Add it with POST /v1/urls.",
        )


_LINK_WORDS: Final = {LinkKind.URL: "web address", LinkKind.PHONE: "telephone number", LinkKind.EMAIL: "e-mail address"}


def _without_codes(links: list[Link], text: str, content: Content, compiled: Template) -> list[Link]:
    """Leave out what looks like a telephone number but is the whole value of a variable for numbers and codes.

    An order number of ten digits is not something to call, and its template says so.
    """
    if not any(link.kind is LinkKind.PHONE for link in links):
        return links
    values: Mapping[str, str] = content.variables
    if not values:
        matched = compiled.match(text)
        values = {} if isinstance(matched, Mismatch) else matched.values
    codes = {
        values.get(variable.name, "").strip() for variable in compiled.variables if variable.kind in _CODE_LIKE_KINDS
    }
    return [link for link in links if link.kind is not LinkKind.PHONE or link.text.strip() not in codes]


# --- the sandbox -------------------------------------------------------------------------------------------------------


def _sandbox_sms(category: Category, content: Content, *, test_mode: bool) -> SmsContent:
    if not test_mode:
        _refuse(
            ErrorCode.TEMPLATE_NOT_FOUND,
            'Templates that start with SANDBOX_ exist in test mode only. Send with "test_mode": true, or use your own.',
        )
    sender = content.sender or ""
    if header_kind(sender) is not HeaderKind.ALPHABETIC:
        _refuse(ErrorCode.SENDER_NOT_REGISTERED, "In the sandbox `sender` is any 6 letters, such as HARKRA.")
    known = SANDBOX_TEMPLATES.get(content.template_id or "")
    if known is None:
        text = _free_text(content)
    else:
        if not template_serves(known.fact.category, category):
            _refuse(
                ErrorCode.TEMPLATE_CATEGORY_MISMATCH,
                f"The template {known.fact.template_id} is for the category {known.fact.category}.",
            )
        text = _text_of(content, known.compiled)
    measured = _measured(text, content)
    if known is not None:
        _check_match(content, known.compiled, text)
    return SmsContent(
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
