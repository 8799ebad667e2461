"""Settings of the SMS sender; carriers themselves are in the carriers' file."""

from pathlib import Path

from pydantic import Field

from harkara_chassis import ServiceSettings


class Settings(ServiceSettings):
    carriers_file: Path
    concurrency: int = Field(default=8, ge=1, le=64)
    """Handler calls at once for each lane and carrier; each waits for the carrier's answers."""

    carrier_wait_s: float = Field(default=3.0, gt=0)
    """How long messages wait for a carrier that is down before another one is tried."""

    queue_timeout_s: float = Field(default=10.0, gt=0)
    """How long a message that was handed to a bind may wait there: for a throttle's end, for a connection that dropped."""

    receipt_grace_s: float = Field(default=5.0, ge=0)
    """How long a message of unknown fate, left by a process that died, waits for a receipt that proves it was taken."""

    orphan_window_s: float = Field(default=6 * 3600.0, gt=0)
    """How old a message of unknown fate may be for a receipt without a known id to be taken as its own."""

    parked_receipt_age_s: float = Field(default=72 * 3600.0, gt=0)
    parked_receipt_limit: int = Field(default=100_000, ge=1)
    parked_retry_s: float = Field(default=1.0, gt=0)
    """How often receipts that came before their message's id was stored are looked at again."""

    health_debounce_s: float = Field(default=0.5, ge=0)
