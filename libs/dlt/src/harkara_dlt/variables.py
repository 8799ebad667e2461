"""Kinds of template variables: what each tag accepts.

A kind is two character classes: `allowed` (every character of a value) and `needed` (at least one character; a value of
a kind that needs nothing may be empty). That is all that decides a match, and it keeps matching exact and linear: a
value's fitness depends on its characters only, never on how the rest of the text is read.

`{#numeric#}` to `{#email#}` are the tags of the TRAI direction of 18 November 2025, `{#var#}` is the older free
variable. `str`, `date` and `amount` are accepted too and say more than the `alphanumeric` they are registered as.
Alphanumeric is read as operators apply it, who pass over punctuation: names and order numbers hold spaces, dots and
dashes; what would make an address or a link (`:`, `@`) is left out.
"""

import re
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from functools import cache
from typing import Final, NamedTuple

VAR_MAX_LENGTH: Final = 30
TYPED_MAX_LENGTH: Final = 40

# Invisible formatting, currency signs, arrows, pictures: no letters; U+200C and U+200D join letters in Indic scripts.
_SYMBOLS: Final = r"\u200b\u200e-\u2027\u202a-\u206f\u20a0-\u20cf\u2100-\u2bff\ufeff\U0001f000-\U0001faff"
_CONTROLS: Final = r"\x00-\x1f\x7f-\x9f\u2028\u2029"


class Kind(StrEnum):
    """A variable's kind; the value is the tag's own name."""

    VAR = "var"
    NUMERIC = "numeric"
    ALPHANUMERIC = "alphanumeric"
    URL = "url"
    URLOTT = "urlott"
    CBN = "cbn"
    EMAIL = "email"
    STR = "str"
    DATE = "date"
    AMOUNT = "amount"

    @property
    def trai_tag(self) -> str:
        """The name under which an operator's portal knows the kind."""
        return "alphanumeric" if self in {Kind.STR, Kind.DATE, Kind.AMOUNT} else self.value


class KindRule(NamedTuple):
    """What a kind accepts. `allowed` and `needed` are regular expressions (DOTALL) for one character."""

    allowed: str
    needed: str | None
    description: str
    """Completes the sentence "must be …"."""


KIND_RULES: Final[dict[Kind, KindRule]] = {
    Kind.VAR: KindRule(r".", None, "any text"),
    Kind.NUMERIC: KindRule(r"[0-9]", r"[0-9]", "digits only"),
    Kind.ALPHANUMERIC: KindRule(
        rf"[^{_CONTROLS}{_SYMBOLS}!\"$%*+:;<=>?@\[\\\]^`{{|}}~]", r"[^\W_]", "letters, digits and spaces"
    ),
    Kind.STR: KindRule(rf"[^{_CONTROLS}]", r"[^\W_]", "text on one line"),
    Kind.DATE: KindRule(r"[\w /.,:-]", r"[^\W_]", "a date or time, such as 15-10-2026"),
    Kind.AMOUNT: KindRule(r"[0-9.,₹RrsSINinu /-]", r"[0-9]", "an amount, such as 1,499.00"),
    Kind.URL: KindRule(r"\S", r"\.", "a web address without spaces"),
    Kind.URLOTT: KindRule(r"\S", r"\.", "an app or download link without spaces"),
    Kind.CBN: KindRule(r"[0-9+() -]", r"[0-9]", "a telephone number"),
    Kind.EMAIL: KindRule(r"\S", r"@", "an e-mail address"),
}

_TAGS: Final = {kind.value: kind for kind in Kind} | {"num": Kind.NUMERIC, "number": Kind.NUMERIC}


@dataclass(frozen=True, slots=True)
class Variable:
    """One variable of a template."""

    name: str
    kind: Kind
    max_length: int
    position: int
    """Index of its tag in the body."""


def kind_of_tag(tag: str) -> Kind | None:
    """The kind a tag stands for, or None. Tags are case sensitive, as on the operators' portals."""
    return _TAGS.get(tag)


def fits(kind: Kind, value: str) -> bool:
    """Whether `value` consists of what `kind` accepts. Length is not judged here."""
    return _pattern(kind).fullmatch(value) is not None


def text_of(value: object) -> str | None:
    """How a value given by a client is written into a text; None if it is neither text nor a number."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return None
    text = str(value)
    return text if text.lstrip("-").replace(".", "", 1).isdecimal() else None  # not 1e+22, nan


@cache
def _pattern(kind: Kind) -> re.Pattern[str]:
    rule = KIND_RULES[kind]
    if rule.needed is None:
        return re.compile(f"{rule.allowed}*+", re.DOTALL)
    return re.compile(f"(?=.*?{rule.needed}){rule.allowed}++", re.DOTALL)
