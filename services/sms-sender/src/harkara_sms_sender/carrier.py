"""One carrier: its binds, the room on them, and how it does."""

import logging
import ssl
import time
from collections.abc import Callable
from typing import TypeAlias

from harkara_contracts.carriers import SmppCarrier
from harkara_smpp import Delivery, Esme, EsmeConfig, EsmeState, IdRule, Outcome, PduEncodeError, StateChange
from harkara_sms_sender.admission import Admission
from harkara_sms_sender.flight import PartRef

logger = logging.getLogger(__name__)

_NO_LIMIT_TPS = 1e6
_LARGEST_MESSAGE = 255

OnOutcomes: TypeAlias = Callable[["Carrier", int, list[tuple[PartRef, Outcome]]], None]
OnDeliver: TypeAlias = Callable[["Carrier", list[Delivery]], None]
BeforeWrite: TypeAlias = Callable[[list[PartRef]], None]


class Carrier:
    """Binds to one carrier, kept up from `start` to `stop`.

    Args:
        settings: from the carriers' file; `tps` is the agreement's, so the binds share it.
        wait_s: how long messages wait while no bind is up.
        queue_timeout_s: how long a message may stay unwritten in a bind's own queue.
        drain_timeout_s: how long `stop` waits for outstanding responses.
        on_outcomes, on_deliver: called on the loop with what came, and from which bind.
        before_write: called with what is written to a connection next.
        on_change: the carrier's state may have changed.

    Raises:
        ValueError: a setting fits no bind PDU, such as a password of more than 8 characters.
        OSError: the password file cannot be read.
    """

    def __init__(
        self,
        settings: SmppCarrier,
        *,
        wait_s: float,
        queue_timeout_s: float,
        drain_timeout_s: float,
        on_outcomes: OnOutcomes,
        on_deliver: OnDeliver,
        before_write: BeforeWrite,
        on_change: Callable[["Carrier"], None],
    ) -> None:
        self.name = settings.name
        self.settings = settings
        self.id_rule = IdRule(settings.id_form)
        tps = settings.tps / settings.binds if settings.tps else None
        self.admission = Admission(binds=settings.binds, window=settings.window, tps=tps, wait_s=wait_s)
        self._on_change = on_change
        self._states = [StateChange(EsmeState.STOPPED)] * settings.binds
        self._tried = [False] * settings.binds
        self._turned_at = time.monotonic()
        config = EsmeConfig(
            host=settings.host,
            port=settings.port,
            system_id=settings.system_id,
            password=settings.read_password(),
            system_type=settings.system_type,
            window=settings.window,
            tps=tps or _NO_LIMIT_TPS,
            # Admission keeps it nearly empty; the room is for messages in more parts than a window has places.
            queue_limit=2 * settings.window + _LARGEST_MESSAGE,
            queue_timeout_s=queue_timeout_s,
            response_timeout_s=settings.response_timeout_s,
            enquire_link_s=settings.enquire_link_s,
            drain_timeout_s=drain_timeout_s,
            tls=_tls(settings),
            tls_server_name=(settings.tls.server_name or settings.host) if settings.tls else None,
        )
        try:
            self.esmes = [
                self._esme(number, config, on_outcomes, on_deliver, before_write) for number in range(settings.binds)
            ]
        except PduEncodeError as error:
            raise ValueError(f"carrier {self.name} cannot be bound to, change the carriers file: {error}") from error

    def _esme(
        self, number: int, config: EsmeConfig, on_outcomes: OnOutcomes, on_deliver: OnDeliver, before_write: BeforeWrite
    ) -> Esme[PartRef]:
        return Esme(
            config,
            on_outcomes=lambda outcomes: on_outcomes(self, number, outcomes),
            on_deliver=lambda deliveries: on_deliver(self, deliveries),
            on_state=lambda change: self._changed(number, change),
            before_write=before_write,
        )

    async def start(self) -> None:
        for esme in self.esmes:
            await esme.start()

    async def stop(self) -> None:
        """Send away who waits for room, let the binds finish, and unbind."""
        self.admission.close()
        for esme in self.esmes:
            await esme.stop()

    @property
    def is_healthy(self) -> bool:
        """Whether a bind can take a message."""
        return any(change.state is EsmeState.BOUND for change in self._states)

    @property
    def binds_up(self) -> int:
        return sum(change.state is EsmeState.BOUND for change in self._states)

    @property
    def unchanged_s(self) -> float:
        """For how long there has been a bind, or none."""
        return time.monotonic() - self._turned_at

    @property
    def is_settled(self) -> bool:
        """Whether every bind has been tried: it stands, or could not be made."""
        return all(self._tried)

    @property
    def trouble(self) -> str | None:
        """Why no message can be taken; None while one can."""
        if self.is_healthy:
            return None
        return next((change.reason for change in self._states if change.reason), "not bound")

    def _changed(self, number: int, change: StateChange) -> None:
        known, was_healthy = self._states[number], self.is_healthy
        # While it tries again, what made it fail is still the reason.
        self._states[number] = (
            change if change.reason or change.state is EsmeState.BOUND else known._replace(state=change.state)
        )
        if self.is_healthy is not was_healthy:
            self._turned_at = time.monotonic()
        if change.state in {EsmeState.BOUND, EsmeState.WAITING, EsmeState.REFUSED}:
            self._tried[number] = True
            logger.info(
                "bind state",
                extra={"carrier": self.name, "bind": number, "state": change.state.value, "reason": change.reason},
            )
        self.admission.set_up(number, change.state is EsmeState.BOUND)
        self._on_change(self)


def _tls(settings: SmppCarrier) -> ssl.SSLContext | None:
    if settings.tls is None:
        return None
    return ssl.create_default_context(cafile=settings.tls.ca_file)
