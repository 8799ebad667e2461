"""Indian mobile numbers as the platform writes them: 91 and ten digits that begin with 6, 7, 8 or 9."""

import re
from typing import Final

_MOBILE: Final = re.compile(r"\+?(91[6-9][0-9]{9})")
_TEN_DIGITS: Final = re.compile(r"0?[6-9][0-9]{9}")
_SPACED: Final = re.compile(r"[\s().-]")
_DIGITS: Final = re.compile(r"[0-9]+")
_DIGITS_OF_A_MOBILE: Final = 12


class InvalidMobileError(ValueError):
    """The text is no Indian mobile number. The message never quotes it: a number is personal data."""


def normalise_mobile(text: str) -> str:
    """The number as `91XXXXXXXXXX`; a leading + is dropped.

    Raises:
        InvalidMobileError: anything else, with how to mend it.
    """
    number = _MOBILE.fullmatch(text)
    if number is None:
        raise InvalidMobileError(_advice(text))
    return number[1]


def _advice(text: str) -> str:
    return f"{_fault(text)}. Write it as 91 and ten digits that begin with 6, 7, 8 or 9, for example 919876543210."


def _fault(text: str) -> str:
    digits = text.removeprefix("+")
    if _TEN_DIGITS.fullmatch(text):
        fault = "The country code is missing"
    elif _SPACED.search(text) and _MOBILE.fullmatch(_SPACED.sub("", text)):
        fault = "The number holds spaces or punctuation"
    elif not _DIGITS.fullmatch(digits):
        fault = "The number is empty or holds something other than digits"
    elif not digits.startswith("91"):
        fault = "The number is not Indian"
    elif len(digits) != _DIGITS_OF_A_MOBILE:
        fault = f"The number has {len(digits)} digits instead of {_DIGITS_OF_A_MOBILE}"
    else:
        fault = f"The number is not a mobile: after 91 it begins with {digits[2]}"
    return fault
