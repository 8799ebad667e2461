"""What every send has, by whatever channel it goes."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from harkara_contracts.subjects import Category
from harkara_ingress.fields import Whole

# Numbers for strings are taken as they are written: {"to": 919876543210} is a common sight.
LIKE_A_CLIENT_WRITES = ConfigDict(extra="ignore", coerce_numbers_to_str=True, populate_by_name=True)


class CommonSend(BaseModel):
    """What every send may say beside its content."""

    model_config = LIKE_A_CLIENT_WRITES

    to: Annotated[str, Field(max_length=32, examples=["919876543210"])]
    category: Category | None = None
    correlation_id: Annotated[str, Field(max_length=128, pattern=r"^[^\x00-\x1f\x7f]*$")] | None = None
    schedule_at: Annotated[str, Field(max_length=40, examples=["2026-12-01T10:30:00+05:30"])] | None = None
    test_mode: bool | None = None
    priority: Annotated[str, Field(pattern="^(high|normal)$")] | None = None
    validity_seconds: Annotated[Whole, Field(ge=30, le=259_200)] | None = None
