"""Settings of compliance, on top of the chassis's."""

from pydantic import Field

from harkara_chassis import ServiceSettings


class Settings(ServiceSettings):
    telemarketer_id: str | None = Field(default=None, pattern=r"^\d{10,24}$")
    """The platform's own id as delivering telemarketer (TM-DF): the chain of every entity registered without one."""
