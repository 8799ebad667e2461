"""Kinds of fields that JSON and Python see differently."""

from typing import Annotated, Any

from pydantic import BeforeValidator


def _number(value: Any) -> Any:
    # To Python true is 1: an overlap of false seconds would end a key at once.
    if isinstance(value, bool):
        raise ValueError("Input should be a valid integer")  # noqa: TRY004  # pydantic reports only these
    return value


Whole = Annotated[int, BeforeValidator(_number)]
"""A whole number; its text does as well, true and false do not."""
