"""Entities, senders, templates and whitelists of all accounts, held in memory and fed by facts.

Facts may come from more than one side (the owner's tables, its own changes, the stream), so the newest version of a key
wins whatever the order of arrival. Templates and whitelists are compiled when first asked for and kept until they change.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from harkara_contracts.facts import EntityFact, SenderFact, TemplateFact, UrlFact
from harkara_dlt import Template, Whitelist
from harkara_registry.templates import compile_fact

RegistryFact = EntityFact | SenderFact | TemplateFact | UrlFact

T = TypeVar("T")


class KnownTemplate:
    """A registered template with its compiled form."""

    __slots__ = ("_compiled", "fact")

    def __init__(self, fact: TemplateFact) -> None:
        self.fact = fact
        self._compiled: Template | None = None

    @property
    def compiled(self) -> Template:
        """The compiled body.

        Raises:
            TemplateError: the body is no template (a registered one always is).
        """
        if self._compiled is None:
            self._compiled = compile_fact(self.fact)
        return self._compiled


@dataclass(slots=True)
class _Account:
    entities: dict[str, EntityFact] = field(default_factory=dict)
    senders: dict[str, SenderFact] = field(default_factory=dict)
    templates: dict[str, KnownTemplate] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)
    """DLT template id -> the account's own id."""
    urls: dict[str, UrlFact] = field(default_factory=dict)
    whitelist: Whitelist | None = None
    conclusions: dict[Hashable, Any] = field(default_factory=dict)
    """What was found to follow from all of the above."""


_NOTHING = _Account(whitelist=Whitelist(()))


class Registry:
    """The registry of all accounts. Not for several threads."""

    def __init__(self) -> None:
        self._accounts: dict[str, _Account] = {}
        self._versions: dict[tuple[str, str], int] = {}

    def apply(self, fact: RegistryFact) -> None:
        """Take over a fact or its tombstone; what is known already or older changes nothing."""
        key = (fact.event, fact.key())
        if fact.version <= self._versions.get(key, -1):
            return
        self._versions[key] = fact.version
        account = self._accounts.setdefault(fact.account_id, _Account())
        account.conclusions.clear()
        match fact:
            case EntityFact():
                _put(account.entities, fact.entity_id, fact, fact)
            case SenderFact():
                _put(account.senders, fact.sender, fact, fact)
            case TemplateFact():
                _put_template(account, fact)
            case UrlFact():
                _put(account.urls, fact.url_id, fact, fact)
                account.whitelist = None

    def entity(self, account_id: str, entity_id: str) -> EntityFact | None:
        return self._account(account_id).entities.get(entity_id)

    def sender(self, account_id: str, sender: str) -> SenderFact | None:
        return self._account(account_id).senders.get(sender)

    def template(self, account_id: str, id_or_dlt_id: str) -> TemplateFact | None:
        known = self.known_template(account_id, id_or_dlt_id)
        return known.fact if known else None

    def known_template(self, account_id: str, id_or_dlt_id: str) -> KnownTemplate | None:
        """Return a template by the account's own id or by its DLT id; the own id comes first."""
        account = self._account(account_id)
        known = account.templates.get(id_or_dlt_id)
        if known is None:
            known = account.templates.get(account.aliases.get(id_or_dlt_id, ""))
        return known

    def whitelist(self, account_id: str) -> Whitelist:
        account = self._account(account_id)
        if account.whitelist is None:
            account.whitelist = Whitelist([(url.kind, url.value) for url in account.urls.values()])
        return account.whitelist

    def remembered(self, account_id: str, question: Hashable, conclude: Callable[[], T]) -> T:
        """Return what `conclude` returns, asked once until something of the account changes.

        What it raises is not remembered, so that there are no more conclusions than combinations of what is registered.
        """
        conclusions = self._account(account_id).conclusions
        known: T | None = conclusions.get(question)
        if known is None:
            known = conclusions[question] = conclude()
        return known

    def entities(self, account_id: str) -> list[EntityFact]:
        return sorted(self._account(account_id).entities.values(), key=lambda entity: entity.entity_id)

    def senders(self, account_id: str) -> list[SenderFact]:
        return sorted(self._account(account_id).senders.values(), key=lambda sender: sender.created_at)

    def templates(self, account_id: str) -> list[TemplateFact]:
        facts = (known.fact for known in self._account(account_id).templates.values())
        return sorted(facts, key=lambda template: template.created_at)

    def urls(self, account_id: str) -> list[UrlFact]:
        return sorted(self._account(account_id).urls.values(), key=lambda url: url.version)

    def _account(self, account_id: str) -> _Account:
        return self._accounts.get(account_id, _NOTHING)


def _put(mapping: dict[str, T], key: str, fact: RegistryFact, value: T) -> None:
    if fact.deleted:
        mapping.pop(key, None)
    else:
        mapping[key] = value


def _put_template(account: _Account, fact: TemplateFact) -> None:
    former = account.templates.get(fact.template_id)
    if former is not None and account.aliases.get(former.fact.dlt_template_id or "") == fact.template_id:
        del account.aliases[former.fact.dlt_template_id or ""]
    _put(account.templates, fact.template_id, fact, KnownTemplate(fact))
    if fact.dlt_template_id is not None:
        _put(account.aliases, fact.dlt_template_id, fact, fact.template_id)
