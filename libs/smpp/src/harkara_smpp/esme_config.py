"""How an ESME is set up, and the states it reports."""

import ssl
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal, NamedTuple, TypeAlias

from harkara_smpp.frame import DEFAULT_MAX_PDU_LENGTH
from harkara_smpp.pdu import Bind, BindReceiver, BindTransceiver, BindTransmitter

BindType: TypeAlias = Literal["transceiver", "transmitter", "receiver"]

_BINDS: dict[BindType, type[Bind]] = {
    "transceiver": BindTransceiver,
    "transmitter": BindTransmitter,
    "receiver": BindReceiver,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class EsmeConfig:
    """One bind. Times are seconds, `tps` is submit_sm a second, `window` is unanswered submit_sm.

    `queue_timeout_s` is how long a message may wait to be written; `max_throttles` how often it goes again after a
    throttle before it is given back. `drain_timeout_s` bounds how long `stop` waits for outstanding responses. `tls`
    is a client context (with the carrier's own CA where it has one); `tls_server_name` is checked against the
    certificate.
    """

    host: str
    port: int
    system_id: str
    password: str = field(default="", repr=False)
    system_type: str = ""
    bind_type: BindType = "transceiver"
    address_range: str = ""
    window: int = 10
    tps: float = 100.0
    queue_limit: int = 1_000
    queue_timeout_s: float = 60.0
    max_throttles: int = 5
    response_timeout_s: float = 20.0
    enquire_link_s: float = 30.0
    connect_timeout_s: float = 10.0
    reconnect_first_s: float = 0.5
    reconnect_max_s: float = 30.0
    refused_retry_s: float = 60.0
    drain_timeout_s: float = 10.0
    max_unanswered: int = 1_000
    max_pdu_length: int = DEFAULT_MAX_PDU_LENGTH
    tls: ssl.SSLContext | None = None
    tls_server_name: str | None = None

    def __post_init__(self) -> None:
        if self.window < 1 or self.queue_limit < 1 or self.max_unanswered < 1 or self.tps <= 0:
            raise ValueError("window, queue_limit, max_unanswered and tps must be positive")

    @property
    def bind(self) -> Bind:
        """The bind request to send."""
        bind_class = _BINDS[self.bind_type]
        return bind_class(self.system_id, self.password, self.system_type, address_range=self.address_range)


class EsmeState(StrEnum):
    """STOPPED → CONNECTING → BINDING → BOUND → DRAINING → STOPPED; WAITING and REFUSED lead back to CONNECTING."""

    STOPPED = "stopped"
    CONNECTING = "connecting"
    BINDING = "binding"
    BOUND = "bound"
    DRAINING = "draining"
    WAITING = "waiting"
    REFUSED = "refused"


class StateChange(NamedTuple):
    """`command_status` is the SMSC's answer to a bind that was refused."""

    state: EsmeState
    reason: str = ""
    command_status: int | None = None
