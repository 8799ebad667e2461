"""Headers (sender ids): six letters, or for promotions six digits that begin with the preference category.

Operators look headers up case sensitively, so a header is kept and compared exactly as it is registered. What a handset
shows around it (operator, circle, class suffix) the operators add.
"""

import re
from enum import IntEnum, StrEnum
from typing import Final

from harkara_dlt.categories import RULES, ClientCategory

_ALPHABETIC: Final = re.compile(r"[A-Za-z]{6}")
_NUMERIC: Final = re.compile(r"[0-8][0-9]{5}")
_DECORATED: Final = re.compile(r"[A-Za-z]{2}-[A-Za-z0-9]{6}(-[PSTG])?")


class HeaderKind(StrEnum):
    ALPHABETIC = "alphabetic"
    NUMERIC = "numeric"


class PreferenceCategory(IntEnum):
    """What a promotion is about; recipients block or allow by it."""

    OTHER = 0
    BANKING_INSURANCE_FINANCE = 1
    REAL_ESTATE = 2
    EDUCATION = 3
    HEALTH = 4
    CONSUMER_GOODS_AUTOMOBILES = 5
    COMMUNICATION_ENTERTAINMENT_IT = 6
    TOURISM_LEISURE = 7
    FOOD_BEVERAGES = 8


def header_kind(header: str) -> HeaderKind | None:
    """What kind of header this is, or None if it is none."""
    if _ALPHABETIC.fullmatch(header):
        return HeaderKind.ALPHABETIC
    return HeaderKind.NUMERIC if _NUMERIC.fullmatch(header) else None


def preference_category(header: str) -> PreferenceCategory | None:
    """The preference category that a numeric header names; None for any other header."""
    return PreferenceCategory(int(header[0])) if header_kind(header) is HeaderKind.NUMERIC else None


def header_problem(header: str, category: ClientCategory) -> str | None:
    """Why `header` cannot carry messages of `category`, and how to mend it; None if it can."""
    kind = header_kind(header)
    if kind is HeaderKind.ALPHABETIC:
        return None
    if kind is HeaderKind.NUMERIC:
        if RULES[category].lane == "promotional":
            return None
        return f"A numeric header carries promotional messages only; use a header of six letters for {category}."
    if _DECORATED.fullmatch(header):
        return "Leave out the operator's prefix and suffix: give the six characters in the middle only."
    if header.isascii() and header.isdecimal():
        return "A numeric header has six digits and begins with the preference category, 0 to 8."
    return "A header is six letters, A to Z (or six digits for promotional messages), without spaces or other signs."
