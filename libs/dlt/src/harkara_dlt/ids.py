"""Identifiers given out by the DLT platforms: entities, telemarketers, templates, headers.

They are decimal, commonly 19 digits, and stay text: as numbers they overflow what JSON readers keep exactly.
"""

import re
from typing import Final

_DLT_ID: Final = re.compile(r"[0-9]{10,24}")


class DltIdError(ValueError):
    """The text is no DLT identifier."""

    def __init__(self) -> None:
        super().__init__(
            "A DLT id has 10 to 24 digits and nothing else; copy it as text from the operator's DLT portal."
        )


def is_dlt_id(text: str) -> bool:
    return _DLT_ID.fullmatch(text) is not None


def check_dlt_id(text: str) -> str:
    """`text` if it is a DLT identifier.

    Raises:
        DltIdError: it is not.
    """
    if not is_dlt_id(text):
        raise DltIdError
    return text
