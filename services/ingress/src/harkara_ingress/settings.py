"""What the edge can be told from outside; every bound of the HTTP server is here."""

from pathlib import Path

from pydantic import Field, SecretStr, model_validator

from harkara_chassis import ServiceSettings


class Settings(ServiceSettings):
    http_host: str = "127.0.0.1"
    http_port: int = Field(default=8080, ge=0, le=65_535)
    """0 lets the system choose."""

    http_shared: bool = False
    """Share the ports with other processes of this service: the system gives each new connection to one of them."""

    grpc_host: str = "127.0.0.1"
    grpc_port: int | None = Field(default=None, ge=0, le=65_535)
    """Without it there is no gRPC; 0 lets the system choose."""

    operator_key: SecretStr | None = None
    """The platform's own key, with the scope `operator`; without it the operator's endpoints answer nobody."""

    signature_header_prefix: str = Field(default="X-TechTo", pattern=r"^[A-Za-z][A-Za-z0-9-]{0,40}$")
    """Of the two headers of a signed request, `…-Timestamp` and `…-Signature`."""

    forwarded_allow_ips: str = ""
    """Proxies (addresses or networks, comma separated) whose X-Forwarded-For is believed; empty believes none."""

    tls_cert_file: Path | None = None
    """The certificate with its chain (PEM); with it, and with `tls_key_file`, the edge speaks TLS only.

    Both files are read again when they change."""

    tls_key_file: Path | None = None

    max_head_bytes: int = Field(default=32 * 1024, ge=1024)
    """Of a request's line and headers."""

    max_headers: int = Field(default=100, ge=10)
    head_timeout_s: float = Field(default=10.0, gt=0)
    """From a connection's opening, or a request's first byte, to the end of its head."""

    max_body_bytes: int = Field(default=256 * 1024, ge=1024)
    body_timeout_s: float = Field(default=10.0, gt=0)
    min_body_bytes_per_s: int = Field(default=256 * 1024, ge=1)
    """What arrives earns its body more time than `body_timeout_s`: a second for so many bytes."""

    max_bulk_bytes: int = Field(default=48 * 1024 * 1024, ge=1024)
    max_bulk_in_flight: int = Field(default=2, ge=1)
    """Bodies beyond `max_body_bytes` that may be in memory at once, over HTTP; and as many over gRPC."""

    bulk_wait_s: float = Field(default=3.0, gt=0)
    """How long one more of those waits for its turn."""

    max_requests_in_flight: int = Field(default=2_000, ge=1)
    max_event_streams: int = Field(default=1_000, ge=0)
    max_event_streams_per_account: int = Field(default=10, ge=1)
    event_heartbeat_s: float = Field(default=15.0, gt=0)
    """How long a stream of events may be quiet before a comment shows that it lives."""

    max_connections: int = Field(default=10_000, ge=1)
    max_connections_per_address: int = Field(default=256, ge=1)
    """Of one IPv4 address or IPv6 /64; proxies in `forwarded_allow_ips` may have any number."""

    write_timeout_s: float = Field(default=30.0, gt=0)
    """How long a client may leave an answer unread once the buffers are full."""

    keep_alive_s: int = Field(default=75, ge=1)

    accept_timeout_s: float = Field(default=10.0, gt=0)
    """How long a send may wait for the bus before its client is told 503."""

    bulk_accept_timeout_s: float = Field(default=30.0, gt=0)
    """The same for a bulk, once all its recipients are judged."""

    bulk_messages_per_second: int = Field(default=1_000, ge=1)
    """At which the bulks of an account without a limit of its own are fed, all together."""

    recent_batches: int = Field(default=1_000, ge=0)

    command_timeout_s: float = Field(default=5.0, gt=0)
    anonymous_requests_per_minute: int = Field(default=600, ge=1)
    """For each address that shows no valid key: answers stay cheap, and keys cannot be guessed at speed."""

    recent_messages: int = Field(default=10_000, ge=0)

    accepted_elsewhere_s: float = Field(default=0.0, ge=0, le=10)
    """With several processes: how long to look for a message nobody knows, since another may have just accepted it."""

    @model_validator(mode="after")
    def _has_both_files(self) -> "Settings":
        if (self.tls_cert_file is None) is not (self.tls_key_file is None):
            raise ValueError("tls_cert_file and tls_key_file belong together: give both, or neither")
        return self
