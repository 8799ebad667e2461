"""What the edge can be told from outside; every bound of the HTTP server is here."""

from pydantic import Field, SecretStr

from harkara_chassis import ServiceSettings


class Settings(ServiceSettings):
    http_host: str = "127.0.0.1"
    http_port: int = Field(default=8080, ge=0, le=65_535)
    """0 lets the system choose."""

    http_shared: bool = False
    """Share the port with other processes of this service: the system gives each new connection to one of them."""

    operator_key: SecretStr | None = None
    """The platform's own key, with the scope `operator`; without it the operator's endpoints answer nobody."""

    forwarded_allow_ips: str = ""
    """Proxies (comma separated) whose X-Forwarded-For is believed; empty believes none."""

    max_body_bytes: int = Field(default=256 * 1024, ge=1024)
    body_timeout_s: float = Field(default=10.0, gt=0)
    max_requests_in_flight: int = Field(default=2_000, ge=1)
    max_connections: int = Field(default=10_000, ge=1)
    keep_alive_s: int = Field(default=75, ge=1)

    accept_timeout_s: float = Field(default=10.0, gt=0)
    """How long a send may wait for the bus before its client is told 503."""

    command_timeout_s: float = Field(default=5.0, gt=0)
    anonymous_requests_per_minute: int = Field(default=600, ge=1)
    """For each address that shows no valid key: answers stay cheap, and keys cannot be guessed at speed."""

    recent_messages: int = Field(default=10_000, ge=0)

    accepted_elsewhere_s: float = Field(default=0.0, ge=0, le=10)
    """With several processes: how long to look for a message nobody knows, since another may have just accepted it."""
