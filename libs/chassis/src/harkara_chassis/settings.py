"""Settings come from the environment (`HARKARA_…`), so that a laptop, a test and a cluster configure alike."""

import secrets
import socket
from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


def _instance() -> str:
    return f"{socket.gethostname().split('.')[0][:32]}-{secrets.token_hex(4)}"


class ServiceSettings(BaseSettings):
    """What every service needs. Addresses carry credentials, so they are secrets: a repr or a log never shows them."""

    model_config = SettingsConfigDict(env_prefix="HARKARA_", extra="ignore", frozen=True, hide_input_in_errors=True)

    nats_url: SecretStr = SecretStr("nats://127.0.0.1:4222")
    database_url: SecretStr = SecretStr("")
    redis_url: SecretStr = SecretStr("redis://127.0.0.1:6379/0")
    secret_key: SecretStr | None = None
    """32 random bytes in base64; seals what must be readable again (webhook secrets) before it reaches a table."""

    instance: str = Field(default_factory=_instance, pattern=r"^[A-Za-z0-9_-]{1,64}$")
    home: Path = Path(".harkara")
    admin_host: str = "127.0.0.1"
    admin_port: int = Field(default=0, ge=0, le=65_535)
    """Health and metrics over HTTP; 0 lets the system choose."""

    log_level: str = "INFO"
    log_format: str = "json"

    database_pool: int = Field(default=8, ge=1, le=64)
    max_batch_events: int = Field(default=512, ge=1, le=4096)
    drain_timeout_s: float = Field(default=10.0, gt=0)

    otlp_endpoint: str | None = None
    trace_ratio: float = Field(default=0.01, ge=0, le=1)
