"""Settings of the webhook-dispatcher, `HARKARA_WEBHOOK_…` in the environment. The defaults are what clients are told."""

from typing import Self

from pydantic import Field, model_validator

from harkara_chassis import ServiceSettings

RESERVE_S = 1.0
"""A try is begun only if its time-out and this much more fit into what is left of its lease."""


class Settings(ServiceSettings):
    webhook_sandbox: bool = False
    """Let endpoints be plain http and in private networks: for one machine, never where clients are."""

    webhook_header_prefix: str = Field(default="X-TechTo", pattern=r"^[A-Za-z][A-Za-z0-9-]{0,40}$")
    webhook_user_agent: str = Field(default="Harkara-Webhooks/1.0", pattern=r"^[\x20-\x7e]{1,100}$")
    webhook_timeout_s: float = Field(default=5.0, gt=0, le=30)
    """From looking up the name to the end of the answer."""

    webhook_retry_delays_s: tuple[float, ...] = Field(default=(5.0, 30.0, 300.0, 1_800.0, 7_200.0), max_length=12)
    webhook_retry_jitter: float = Field(default=0.2, ge=0, lt=1)
    webhook_retry_after_max_s: float = Field(default=3_600.0, ge=0)
    """The longest that an endpoint may put a delivery off by Retry-After."""

    webhook_grace_s: float = Field(default=0.3, ge=0, le=2)
    """How long a batch waits for prompt endpoints, so that most rows are written once, in their final state."""

    webhook_lease_s: float = Field(default=30.0, gt=0)
    """How long a pending delivery is one process's; after a crash it is found again this much later."""

    webhook_sweep_interval_s: float = Field(default=30.0, gt=0)
    """The safety net under the timers: how often due deliveries are looked for even if no timer says so."""

    webhook_endpoint_concurrency: int = Field(default=32, ge=1, le=256)
    webhook_failing_concurrency: int = Field(default=4, ge=1, le=256)
    """Requests at once to one endpoint, and to one whose last answer was a failure."""

    webhook_queue_capacity: int = Field(default=4_096, ge=1)
    webhook_in_memory_max: int = Field(default=65_536, ge=1)
    """Deliveries waiting in memory for one endpoint, and for all together; more wait in the table."""

    webhook_disable_after_s: float = Field(default=3 * 86_400.0, gt=0)
    """An endpoint that only failed for this long is switched off."""

    event_log: bool = True
    """Keep what clients are told in their event log, to be followed and read again."""

    webhook_endpoints_max: int = Field(default=20, ge=1)
    """Endpoints of one account."""

    @model_validator(mode="after")
    def _lease_outlasts_a_try(self) -> Self:
        if self.webhook_lease_s <= self.webhook_timeout_s + RESERVE_S:
            raise ValueError(f"webhook_lease_s must be more than webhook_timeout_s + {RESERVE_S:g}")
        return self
