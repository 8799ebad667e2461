"""Settings of routing."""

from pathlib import Path

from pydantic import Field

from harkara_chassis import ServiceSettings


class Settings(ServiceSettings):
    carriers_file: Path = Path("carriers.yaml")
    retry_after_s: float = Field(default=5.0, gt=0)
    """How long a message waits when no carrier can take it; doubles with each round, at most a minute."""
