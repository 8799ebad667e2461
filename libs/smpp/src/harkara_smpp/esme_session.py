"""The protocol of one connection of an ESME; what outlives a connection is in `Esme`."""

import asyncio
from collections.abc import Callable
from typing import TypeAlias

from harkara_smpp.constants import RESPONSE_BIT, CommandId, CommandStatus
from harkara_smpp.esme_config import EsmeConfig
from harkara_smpp.frame import Frame, PduDecodeError
from harkara_smpp.pdu import DataSm, DeliverSm, Unbind
from harkara_smpp.session import Incoming, Session, SessionLostError

Delivery: TypeAlias = Incoming[DeliverSm]

_DELIVER_SM = int(CommandId.DELIVER_SM)
_UNBIND_TIMEOUT_S = 2.0


class EsmeSession(Session):
    """The protocol of one connection; what outlives a connection is in `Esme`."""

    def __init__(
        self,
        config: EsmeConfig,
        on_response: Callable[[Frame], None],
        on_writable: Callable[[], None],
        on_deliver: Callable[[list[Delivery]], None],
    ) -> None:
        super().__init__(
            enquire_link_s=config.enquire_link_s,
            response_timeout_s=config.response_timeout_s,
            max_unanswered=config.max_unanswered,
            max_pdu_length=config.max_pdu_length,
        )
        self.draining = False
        self._on_response = on_response
        self._on_writable = on_writable
        self._on_deliver = on_deliver
        self._deliveries: list[Delivery] = []

    def request_received(self, frame: Frame) -> None:
        if frame.command_id == _DELIVER_SM:
            pdu = DeliverSm.from_body(frame.body)
        elif frame.command_id == CommandId.DATA_SM:
            pdu = _deliver_sm_of(DataSm.from_body(frame.body))
        else:
            raise PduDecodeError("not a request for an ESME", CommandStatus.ESME_RINVCMDID)
        if self.draining:
            return  # left unanswered, so that the SMSC keeps it for the next session
        if not self._deliveries:
            self.loop.call_soon(self._hand_over)
        self._deliveries.append(Incoming(pdu, self, frame.command_id | RESPONSE_BIT, frame.sequence_number))
        self.unanswered += 1

    def response_received(self, frame: Frame) -> None:
        self._on_response(frame)

    def read_finished(self) -> None:
        self._on_writable()  # the responses of this read have made room in the window

    def writable(self) -> None:
        self._on_writable()

    async def unbind(self) -> None:
        """Unbind, and give the SMSC a moment to answer and close."""
        try:
            async with asyncio.timeout(_UNBIND_TIMEOUT_S):
                await self.request(Unbind())
        except (TimeoutError, SessionLostError):
            pass
        self.close("unbound")
        await asyncio.wait([self.closed], timeout=1.0)

    def _hand_over(self) -> None:
        deliveries, self._deliveries = self._deliveries, []
        self._on_deliver(deliveries)


def _deliver_sm_of(data: DataSm) -> DeliverSm:
    """Some SMSCs send receipts by data_sm; to the application they are all the same."""
    return DeliverSm(
        service_type=data.service_type,
        source_addr_ton=data.source_addr_ton,
        source_addr_npi=data.source_addr_npi,
        source_addr=data.source_addr,
        dest_addr_ton=data.dest_addr_ton,
        dest_addr_npi=data.dest_addr_npi,
        destination_addr=data.destination_addr,
        esm_class=data.esm_class,
        registered_delivery=data.registered_delivery,
        data_coding=data.data_coding,
        tlvs=data.tlvs,
    )
