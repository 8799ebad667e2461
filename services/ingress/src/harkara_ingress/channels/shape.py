"""Kinds of fields that several channels have."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError


class Shape(BaseModel):
    """Part of a body. A field that the channel does not have is refused: nobody would ever see what it says."""

    model_config = ConfigDict(extra="forbid", coerce_numbers_to_str=True)


def _https(text: str) -> str:
    if not text.startswith("https://") or any(character.isspace() for character in text):
        raise PydanticCustomError("https", "A link must begin with https:// and hold no blanks")
    return text


def _one_line(text: str) -> str:
    # A line break in what becomes a header of a mail, or a label, would begin a line of somebody else's.
    if any(ord(character) < ord(" ") or character == "\x7f" for character in text):
        raise PydanticCustomError("one_line", "Line breaks and control characters are not allowed here")
    return text


Link = Annotated[str, Field(max_length=2_048), AfterValidator(_https)]
Variables = dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=2_000)]]
OneLine = AfterValidator(_one_line)


def exactly_one(model: BaseModel, names: Mapping[str, object] | tuple[str, ...]) -> None:
    """Check that just one of several fields is given.

    Raises:
        PydanticCustomError: none is, or several are.
    """
    given = [name for name in names if getattr(model, name) is not None]
    if len(given) != 1:
        listed = ", ".join(names)
        raise PydanticCustomError("exactly_one", "Give exactly one of {names}", {"names": listed})


def without_repeats(values: list[Any], what: str) -> None:
    """Check that nothing is said twice.

    Raises:
        PydanticCustomError: something is.
    """
    if len(set(values)) < len(values):
        raise PydanticCustomError("repeated", "{what} must differ from each other", {"what": what})
