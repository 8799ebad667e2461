"""A refusal: a code and words. The rules raise it from wherever they stand; the verdict turns it into a value."""

from dataclasses import dataclass
from typing import NoReturn

from harkara_contracts.errors import ErrorCode
from harkara_contracts.subjects import Channel


@dataclass(frozen=True, slots=True)
class Place:
    """Where a text leaves its template, in characters from 1; `expected` is what the template says there itself."""

    text_character: int
    template_character: int | None = None
    expected: str | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """Why a channel may not be used: one of the platform's codes and words for the client."""

    code: ErrorCode
    message: str
    channel: Channel = Channel.SMS
    place: Place | None = None


class RefusedError(Exception):
    def __init__(self, code: ErrorCode, message: str, place: Place | None = None) -> None:
        super().__init__(code)
        self.refused = Refused(code, message, place=place)


def refuse(code: ErrorCode, message: str, place: Place | None = None) -> NoReturn:
    raise RefusedError(code, message, place)
