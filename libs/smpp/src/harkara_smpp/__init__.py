"""SMPP 3.4: PDU codec, ESME and SMSC sessions on plain asyncio."""

from harkara_smpp.constants import (
    CommandId,
    CommandStatus,
    EsmClass,
    MessageState,
    NumberingPlan,
    Tag,
    TypeOfNumber,
    status_name,
)
from harkara_smpp.esme import (
    Esme,
    EsmeStoppedError,
    QueryFailedError,
    QueueFullError,
)
from harkara_smpp.esme_config import EsmeConfig, EsmeState, StateChange
from harkara_smpp.esme_session import Delivery
from harkara_smpp.frame import PduDecodeError, PduEncodeError, PduError
from harkara_smpp.outcome import Accepted, NotSent, Outcome, Rejected, Throttled, Unknown
from harkara_smpp.pdu import DeliverSm, QuerySm, QuerySmResp, SubmitSm
from harkara_smpp.receipt import IdRule, Receipt, is_receipt, parse_receipt, receipt_key, response_key
from harkara_smpp.session import Incoming, SessionLostError

__all__ = [
    "Accepted",
    "CommandId",
    "CommandStatus",
    "DeliverSm",
    "Delivery",
    "EsmClass",
    "Esme",
    "EsmeConfig",
    "EsmeState",
    "EsmeStoppedError",
    "IdRule",
    "Incoming",
    "MessageState",
    "NotSent",
    "NumberingPlan",
    "Outcome",
    "PduDecodeError",
    "PduEncodeError",
    "PduError",
    "QueryFailedError",
    "QuerySm",
    "QuerySmResp",
    "QueueFullError",
    "Receipt",
    "Rejected",
    "SessionLostError",
    "StateChange",
    "SubmitSm",
    "Tag",
    "Throttled",
    "TypeOfNumber",
    "Unknown",
    "is_receipt",
    "parse_receipt",
    "receipt_key",
    "response_key",
    "status_name",
]
