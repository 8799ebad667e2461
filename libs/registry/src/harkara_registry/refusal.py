"""A refusal: a code and words. The rules raise it from wherever they stand; the verdict turns it into a value."""

from dataclasses import dataclass
from typing import NoReturn

from harkara_contracts.errors import ErrorCode
from harkara_contracts.subjects import Channel


@dataclass(frozen=True, slots=True)
class Refused:
    """Why a channel may not be used: one of the platform's codes and words for the client."""

    code: ErrorCode
    message: str
    channel: Channel = Channel.SMS


class RefusedError(Exception):
    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(code)
        self.refused = Refused(code, message)


def refuse(code: ErrorCode, message: str) -> NoReturn:
    raise RefusedError(code, message)
