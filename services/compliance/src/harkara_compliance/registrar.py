"""What may be registered, and how it may change: the rules of the registry, pure.

Each function takes what is known and what is asked, and returns the fact as it shall be. It returns the very fact that
is known when nothing changes, so that a repeated command is seen to be one. What is refused says how to mend it.
"""

import re
from collections.abc import Sequence
from datetime import datetime
from typing import NoReturn, TypeVar

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
from harkara_dlt import (
    ClientCategory,
    TemplateCategory,
    TemplateError,
    Whitelist,
    WhitelistError,
    chain_hash,
    header_problem,
    is_dlt_id,
    problems,
)
from harkara_registry import SANDBOX_PREFIX, RegistryFact, Status, declare_variables

MAX_CHAIN = 10
MAX_NAME_CHARACTERS = 200
MAX_REASON_CHARACTERS = 500
MAX_BODY_CHARACTERS = 5_000
MAX_URL_CHARACTERS = 500

SENDER_KINDS: dict[str, ClientCategory] = {
    "promotional": ClientCategory.PROMOTIONAL,
    "service_explicit": ClientCategory.SERVICE_EXPLICIT,
    "transactional": ClientCategory.TRANSACTIONAL,
    "service_implicit": ClientCategory.SERVICE_IMPLICIT,
    "otp": ClientCategory.OTP,
    "service": ClientCategory.SERVICE_IMPLICIT,
    "government": ClientCategory.SERVICE_IMPLICIT,
    "other": ClientCategory.SERVICE_IMPLICIT,
}
"""Kinds of headers, each with the category by which its form is judged."""

_ALIAS = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}([-_][A-Za-z0-9]{2,8})*")

Approvable = TypeVar("Approvable", SenderFact, TemplateFact)


def version_after(known: RegistryFact | None, now: datetime) -> int:
    """Return a version for a change made now: nanoseconds since 1970, and always above the known one."""
    fresh = int(now.timestamp() * 1_000_000) * 1_000
    return fresh if known is None else max(fresh, known.version + 1)


# --- entities ----------------------------------------------------------------------------------------------------------


def register_entity(
    known: EntityFact | None, command: RegisterEntity, telemarketer_id: str | None, now: datetime
) -> EntityFact:
    """Register an entity, or correct its name or chain; whoever names no chain keeps the one that is known.

    `telemarketer_id` is the platform's own: the chain of a new entity that names none.
    """
    if not is_dlt_id(command.entity_id):
        _invalid("`entity_id` is the principal entity's id on DLT: 10 to 24 digits, as text.")
    name = command.name.strip()
    if not 0 < len(name) <= MAX_NAME_CHARACTERS:
        _invalid(f"`name` has 1 to {MAX_NAME_CHARACTERS} characters.")
    chain = _chain(command) or _chain_unnamed(known, telemarketer_id)
    if known is not None and (known.name, known.telemarketer_chain) == (name, chain):
        return known
    return EntityFact(
        version=version_after(known, now),
        account_id=command.account_id,
        entity_id=command.entity_id,
        name=name,
        telemarketer_chain=chain,
        chain_hash=chain_hash([command.entity_id, *chain]) if chain else "",
    )


def _chain_unnamed(known: EntityFact | None, telemarketer_id: str | None) -> list[str]:
    if known is not None and known.telemarketer_chain:
        return known.telemarketer_chain
    return [] if telemarketer_id is None else [telemarketer_id]


def _chain(command: RegisterEntity) -> list[str]:
    chain = list(command.telemarketer_chain)
    if chain[:1] == [command.entity_id]:
        del chain[0]  # some write the chain with the entity itself in front
    if not all(is_dlt_id(link) for link in chain):
        _invalid("`telemarketer_chain` lists DLT ids of telemarketers: each 10 to 24 digits, as text.")
    if len(set(chain)) < len(chain) or command.entity_id in chain:
        _invalid("`telemarketer_chain` names an id twice. Name each telemarketer once, the delivering one last.")
    if len(chain) > MAX_CHAIN:
        _invalid(f"`telemarketer_chain` has at most {MAX_CHAIN} ids.")
    return chain


# --- senders -----------------------------------------------------------------------------------------------------------


def register_sender(
    known: SenderFact | None, entity: EntityFact | None, command: RegisterSender, now: datetime
) -> SenderFact:
    _check_sender(command.sender, command.kind, command.entity_id, entity)
    if known is None:
        return SenderFact(
            version=version_after(None, now),
            account_id=command.account_id,
            sender=command.sender,
            entity_id=command.entity_id,
            kind=command.kind,
            status=_first_status(auto_approve=command.auto_approve),
            created_at=now,
        )
    if (known.entity_id, known.kind) != (command.entity_id, command.kind):
        _conflict(
            f"The sender {known.sender} is registered already with another entity or kind. "
            f"Change it with PATCH /v1/senders/{known.sender}."
        )
    return known


def update_sender(
    known: SenderFact | None, entity: EntityFact | None, command: UpdateSender, now: datetime
) -> SenderFact:
    """`entity` is the one the command names, or the known one."""
    if known is None:
        _not_found("sender", "POST /v1/senders registers one")
    entity_id = command.entity_id or known.entity_id
    kind = command.kind or known.kind
    if (entity_id, kind) == (known.entity_id, known.kind):
        return known
    _check_sender(known.sender, kind, entity_id, entity)
    changed = known.model_copy(update={"entity_id": entity_id, "kind": kind, "version": version_after(known, now)})
    return _approve_anew(changed, auto_approve=command.auto_approve)


def set_sender_status(known: SenderFact | None, command: SetSenderStatus, now: datetime) -> SenderFact:
    if known is None:
        _not_found("sender", "POST /v1/senders registers one")
    return _with_status(known, command.status, command.reason, now)


def _check_sender(sender: str, kind: str, entity_id: str, entity: EntityFact | None) -> None:
    if kind not in SENDER_KINDS:
        _invalid(f"`kind` is one of {', '.join(SENDER_KINDS)}.")
    problem = header_problem(sender, SENDER_KINDS[kind])
    if problem is not None:
        _invalid(f"`sender`: {problem}")
    if not is_dlt_id(entity_id):
        _invalid("`entity_id` is the principal entity's id on DLT: 10 to 24 digits, as text.")
    if entity is None:
        _invalid(f"The entity {entity_id} is not registered in this account. Register it with POST /v1/entities first.")


# --- templates ---------------------------------------------------------------------------------------------------------


def register_template(
    known: TemplateFact | None, namesake: TemplateFact | None, command: RegisterTemplate, now: datetime
) -> TemplateFact:
    """`namesake` is the account's template with the same DLT id, if there is one."""
    _check_alias(command.template_id)
    dlt_id = command.dlt_template_id
    if dlt_id is None and command.channel is Channel.SMS and is_dlt_id(command.template_id):
        dlt_id = command.template_id
    fact = TemplateFact(
        version=version_after(None, now),
        account_id=command.account_id,
        template_id=command.template_id,
        channel=command.channel,
        dlt_template_id=dlt_id,
        category=command.category,
        senders=list(dict.fromkeys(command.senders)),
        body=command.body,
        variables=_variables(command.channel, command.body, command.variables),
        language=command.language,
        subject_line=command.subject_line,
        status=_first_status(auto_approve=command.auto_approve),
        created_at=now,
    )
    _check_template(fact, namesake)
    if known is None:
        return fact
    if _content_of(known) != _content_of(fact):
        _conflict(
            f"The template {known.template_id} is registered already and differs. "
            f"Change it with PATCH /v1/templates/{known.template_id}, or register another template_id."
        )
    return known


def update_template(
    known: TemplateFact | None, namesake: TemplateFact | None, command: UpdateTemplate, now: datetime
) -> TemplateFact:
    """`namesake` is the account's template with the DLT id the command names, if there is one."""
    if known is None:
        _not_found("template", "POST /v1/templates registers one")
    asked = {
        name: value
        for name in ("dlt_template_id", "category", "senders", "body", "language", "subject_line")
        if (value := getattr(command, name)) is not None
    }
    body = known.body if command.body is None else command.body
    if body != known.body or command.variables is not None:
        asked["variables"] = _variables(known.channel, body, command.variables)
    changed = known.model_copy(update=asked)
    if _content_of(changed) == _content_of(known):
        return known
    _check_template(changed, namesake)
    changed = changed.model_copy(update={"version": version_after(known, now)})
    if any(getattr(changed, name) != getattr(known, name) for name in _APPROVED_FIELDS):
        return _approve_anew(changed, auto_approve=command.auto_approve)
    return changed


_APPROVED_FIELDS = ("body", "category", "dlt_template_id", "variables")
"""What DLT approved a template for; whoever changes one of these asks for a new approval."""


def set_template_status(known: TemplateFact | None, command: SetTemplateStatus, now: datetime) -> TemplateFact:
    if known is None:
        _not_found("template", "POST /v1/templates registers one")
    return _with_status(known, command.status, command.reason, now)


def _content_of(fact: TemplateFact) -> dict[str, object]:
    return fact.model_dump(exclude={"version", "status", "reason", "created_at"})


def _check_alias(template_id: str) -> None:
    if not _ALIAS.fullmatch(template_id):
        _invalid("`template_id` is your own name for the template: 1 to 64 letters, digits, _ . or -.")
    if template_id.startswith(SANDBOX_PREFIX):
        _invalid("Names that start with SANDBOX_ are the sandbox's own. Choose another `template_id`.")


def _variables(channel: Channel, body: str, declared: Sequence[TemplateVariable] | None) -> list[TemplateVariable]:
    if len(body) > MAX_BODY_CHARACTERS:
        _invalid(f"`body` has at most {MAX_BODY_CHARACTERS} characters.")
    if channel is not Channel.SMS:
        return list(declared or ())
    try:
        return declare_variables(body, declared)
    except TemplateError as error:
        _invalid(f"`body`: {error}")


def _check_template(fact: TemplateFact, namesake: TemplateFact | None) -> None:
    if not fact.body.strip():
        _invalid("`body` is empty.")
    if not _LANGUAGE.fullmatch(fact.language):
        _invalid("`language` is a language code such as en or hi-IN.")
    if fact.channel is Channel.SMS:
        _check_dlt(fact)
    if namesake is not None and namesake.template_id != fact.template_id:
        _conflict(
            f"The DLT template {fact.dlt_template_id} is registered already as {namesake.template_id}. "
            "Use that one, or correct `dlt_template_id`."
        )


def _check_dlt(fact: TemplateFact) -> None:
    if fact.dlt_template_id is None:
        _invalid("An SMS template needs `dlt_template_id`: the id that DLT gave it, 10 to 24 digits, as text.")
    if not is_dlt_id(fact.dlt_template_id):
        _invalid("`dlt_template_id` is the template's id on DLT: 10 to 24 digits, as text.")
    for sender in fact.senders:
        problem = header_problem(sender, ClientCategory(fact.category))
        if problem is not None:
            _invalid(f"`senders`: {problem}")
    found = problems(fact.body, _dlt_class(fact.category))
    if found:
        _invalid(f"`body`: {' '.join(found)}")


def _dlt_class(category: Category) -> TemplateCategory:
    return TemplateCategory.SERVICE_IMPLICIT if category is Category.OTP else TemplateCategory(category)


# --- the whitelist -----------------------------------------------------------------------------------------------------


def add_url(known: UrlFact | None, command: AddUrl, new_url_id: str, now: datetime) -> UrlFact:
    """`known` is the entry of the same kind and value, if it is on the list."""
    value = command.value.strip()
    if len(value) > MAX_URL_CHARACTERS:
        _invalid(f"`{command.kind}` has at most {MAX_URL_CHARACTERS} characters.")
    try:
        Whitelist([(command.kind, value)])
    except WhitelistError as error:
        _invalid(str(error))
    if known is not None:
        return known
    return UrlFact(
        version=version_after(None, now),
        account_id=command.account_id,
        url_id=new_url_id,
        kind=command.kind,
        value=value,
    )


def remove_url(known: UrlFact | None, _command: RemoveUrl, now: datetime) -> UrlFact:
    if known is None:
        _not_found("whitelist entry", "GET /v1/urls lists all")
    if known.deleted:
        return known
    return known.model_copy(update={"deleted": True, "version": version_after(known, now)})


# --- approval ----------------------------------------------------------------------------------------------------------


def _first_status(*, auto_approve: bool) -> str:
    return (Status.APPROVED if auto_approve else Status.PENDING).value


def _approve_anew(changed: Approvable, *, auto_approve: bool) -> Approvable:
    # Nobody gets out of a suspension by changing what was suspended.
    if changed.status == Status.SUSPENDED:
        return changed
    return changed.model_copy(update={"status": _first_status(auto_approve=auto_approve), "reason": None})


def _with_status(known: Approvable, status: str, reason: str | None, now: datetime) -> Approvable:
    if status not in set(Status):
        _invalid(f"`status` is one of {', '.join(Status)}.")
    if reason is not None and len(reason) > MAX_REASON_CHARACTERS:
        _invalid(f"`reason` has at most {MAX_REASON_CHARACTERS} characters.")
    target = Status(status)
    if known.status == target:
        return known
    if not Status(known.status).may_become(target):
        allowed = ", ".join(other for other in Status if Status(known.status).may_become(other))
        _conflict(f"It is {known.status} and cannot become {target}; from there it may become: {allowed}.")
    return known.model_copy(update={"status": target.value, "reason": reason, "version": version_after(known, now)})


# --- refusals ----------------------------------------------------------------------------------------------------------


def _invalid(message: str) -> NoReturn:
    raise HarkaraError(ErrorCode.INVALID_REQUEST, message)


def _conflict(message: str) -> NoReturn:
    raise HarkaraError(ErrorCode.CONFLICT, message)


def _not_found(what: str, how: str) -> NoReturn:
    raise HarkaraError(ErrorCode.NOT_FOUND, f"The account has no such {what}; {how}.")
