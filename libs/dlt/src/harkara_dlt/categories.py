"""Message categories: what a client calls a message, what its template is registered as, and which rules follow.

Since May 2025 the class "service explicit" has ended at the operators and its templates count as promotional, so the
two accept each other. "Transactional" on DLT is for banks only; what others call transactional is service implicit.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal

Lane = Literal["otp", "transactional", "promotional"]
PriceColumn = Literal["otp", "transactional", "promotional"]


class ClientCategory(StrEnum):
    """The `category` of a send."""

    PROMOTIONAL = "promotional"
    TRANSACTIONAL = "transactional"
    OTP = "otp"
    SERVICE_IMPLICIT = "service_implicit"
    SERVICE_EXPLICIT = "service_explicit"


class TemplateCategory(StrEnum):
    """The class under which a template is registered on DLT."""

    TRANSACTIONAL = "transactional"
    SERVICE_IMPLICIT = "service_implicit"
    SERVICE_EXPLICIT = "service_explicit"
    PROMOTIONAL = "promotional"

    @property
    def suffix(self) -> str:
        """The letter that operators put behind the header on the handset."""
        return {TemplateCategory.TRANSACTIONAL: "T", TemplateCategory.SERVICE_IMPLICIT: "S"}.get(self, "P")


class ConsentRule(StrEnum):
    """What the recipient's recorded consent decides under DLT; data-protection law may ask for more."""

    INFERRED = "inferred"
    """The dealing with the recipient implies it."""
    OVERRIDES_DND = "overrides_dnd"
    """A number that refuses promotions may get this one if it consented."""
    REQUIRED = "required"
    """Nothing is sent without it."""


@dataclass(frozen=True, slots=True)
class CategoryRules:
    """The rules of one client category."""

    template_categories: frozenset[TemplateCategory]
    lane: Lane
    price_column: PriceColumn
    dnd_applies: bool
    window_applies: bool
    consent: ConsentRule


_PROMOTIONAL: Final = frozenset({TemplateCategory.PROMOTIONAL, TemplateCategory.SERVICE_EXPLICIT})
_TRANSACTIONAL: Final = frozenset({TemplateCategory.TRANSACTIONAL, TemplateCategory.SERVICE_IMPLICIT})
_IMPLICIT: Final = frozenset({TemplateCategory.SERVICE_IMPLICIT})

RULES: Final[dict[ClientCategory, CategoryRules]] = {
    ClientCategory.PROMOTIONAL: CategoryRules(
        _PROMOTIONAL,
        "promotional",
        "promotional",
        dnd_applies=True,
        window_applies=True,
        consent=ConsentRule.OVERRIDES_DND,
    ),
    ClientCategory.SERVICE_EXPLICIT: CategoryRules(
        _PROMOTIONAL, "promotional", "promotional", dnd_applies=True, window_applies=True, consent=ConsentRule.REQUIRED
    ),
    ClientCategory.SERVICE_IMPLICIT: CategoryRules(
        _IMPLICIT,
        "transactional",
        "transactional",
        dnd_applies=False,
        window_applies=False,
        consent=ConsentRule.INFERRED,
    ),
    ClientCategory.TRANSACTIONAL: CategoryRules(
        _TRANSACTIONAL,
        "transactional",
        "transactional",
        dnd_applies=False,
        window_applies=False,
        consent=ConsentRule.INFERRED,
    ),
    ClientCategory.OTP: CategoryRules(
        _TRANSACTIONAL, "otp", "otp", dnd_applies=False, window_applies=False, consent=ConsentRule.INFERRED
    ),
}


def accepts(client_category: ClientCategory, template_category: TemplateCategory) -> bool:
    """Whether a message of `client_category` may use a template registered as `template_category`."""
    return template_category in RULES[client_category].template_categories
