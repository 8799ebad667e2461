"""What the models of several resources share."""

from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, BaseModel, Field

from harkara_contracts.money import PAISA_MP

Name = Annotated[str, Field(min_length=1, max_length=128)]
Id = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
Reason = Annotated[str, Field(max_length=500)]
Cursor = Annotated[str, Field(max_length=512)]
_FIRST = datetime(2000, 1, 1, tzinfo=UTC)
_LAST = datetime(2100, 1, 1, tzinfo=UTC)


def _in_our_time(at: datetime) -> datetime:
    # Near the ends of the calendar no day can be added and no zone changed: what is no time of ours stops here.
    if not _FIRST <= at <= _LAST:
        raise ValueError("a time between the years 2000 and 2100 is meant")
    return at.astimezone(UTC)


Instant = Annotated[AwareDatetime, AfterValidator(_in_our_time)]
"""A time with its offset, in UTC from here on."""

Paise = int | float
"""A whole number wherever it is one."""


class FieldError(BaseModel):
    field: str
    message: str


class ErrorBody(BaseModel):
    """What every refusal looks like."""

    status: str = "error"
    error_code: str
    error_message: str
    request_id: str
    errors: list[FieldError] | None = None


class Deleted(BaseModel):
    status: str = "deleted"


def paise(amount_mp: int) -> Paise:
    """Write milli-paise as paise: a whole number wherever it is one, else with at most three decimals."""
    whole, rest = divmod(amount_mp, PAISA_MP)
    return amount_mp / PAISA_MP if rest else whole
