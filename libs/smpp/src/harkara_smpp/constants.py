"""Numbers of SMPP 3.4, under the names the specification gives them."""

from enum import IntEnum, IntFlag

INTERFACE_VERSION = 0x34
RESPONSE_BIT = 0x80000000
MAX_SEQUENCE_NUMBER = 0x7FFFFFFF


class CommandId(IntEnum):
    """SMPP 3.4 §5.1.2.1. A response carries its request's id with `RESPONSE_BIT` set."""

    GENERIC_NACK = 0x80000000
    BIND_RECEIVER = 0x00000001
    BIND_RECEIVER_RESP = 0x80000001
    BIND_TRANSMITTER = 0x00000002
    BIND_TRANSMITTER_RESP = 0x80000002
    QUERY_SM = 0x00000003
    QUERY_SM_RESP = 0x80000003
    SUBMIT_SM = 0x00000004
    SUBMIT_SM_RESP = 0x80000004
    DELIVER_SM = 0x00000005
    DELIVER_SM_RESP = 0x80000005
    UNBIND = 0x00000006
    UNBIND_RESP = 0x80000006
    BIND_TRANSCEIVER = 0x00000009
    BIND_TRANSCEIVER_RESP = 0x80000009
    ENQUIRE_LINK = 0x00000015
    ENQUIRE_LINK_RESP = 0x80000015
    DATA_SM = 0x00000103
    DATA_SM_RESP = 0x80000103


class CommandStatus(IntEnum):
    """SMPP 3.4 §5.1.3 table 5-2; 0x400 to 0x4FF are the SMSC vendor's own and have no name here."""

    ESME_ROK = 0x00
    ESME_RINVMSGLEN = 0x01
    ESME_RINVCMDLEN = 0x02
    ESME_RINVCMDID = 0x03
    ESME_RINVBNDSTS = 0x04
    ESME_RALYBND = 0x05
    ESME_RINVPRTFLG = 0x06
    ESME_RINVREGDLVFLG = 0x07
    ESME_RSYSERR = 0x08
    ESME_RINVSRCADR = 0x0A
    ESME_RINVDSTADR = 0x0B
    ESME_RINVMSGID = 0x0C
    ESME_RBINDFAIL = 0x0D
    ESME_RINVPASWD = 0x0E
    ESME_RINVSYSID = 0x0F
    ESME_RCANCELFAIL = 0x11
    ESME_RREPLACEFAIL = 0x13
    ESME_RMSGQFUL = 0x14
    ESME_RINVSERTYP = 0x15
    ESME_RINVNUMDESTS = 0x33
    ESME_RINVDLNAME = 0x34
    ESME_RINVDESTFLAG = 0x40
    ESME_RINVSUBREP = 0x42
    ESME_RINVESMCLASS = 0x43
    ESME_RCNTSUBDL = 0x44
    ESME_RSUBMITFAIL = 0x45
    ESME_RINVSRCTON = 0x48
    ESME_RINVSRCNPI = 0x49
    ESME_RINVDSTTON = 0x50
    ESME_RINVDSTNPI = 0x51
    ESME_RINVSYSTYP = 0x53
    ESME_RINVREPFLAG = 0x54
    ESME_RINVNUMMSGS = 0x55
    ESME_RTHROTTLED = 0x58
    ESME_RINVSCHED = 0x61
    ESME_RINVEXPIRY = 0x62
    ESME_RINVDFTMSGID = 0x63
    ESME_RX_T_APPN = 0x64
    ESME_RX_P_APPN = 0x65
    ESME_RX_R_APPN = 0x66
    ESME_RQUERYFAIL = 0x67
    ESME_RINVOPTPARSTREAM = 0xC0
    ESME_ROPTPARNOTALLWD = 0xC1
    ESME_RINVPARLEN = 0xC2
    ESME_RMISSINGOPTPARAM = 0xC3
    ESME_RINVOPTPARAMVAL = 0xC4
    ESME_RDELIVERYFAILURE = 0xFE
    ESME_RUNKNOWNERR = 0xFF


_STATUS_NAMES = {status.value: status.name for status in CommandStatus}

THROTTLE_STATUSES = frozenset({int(CommandStatus.ESME_RTHROTTLED), int(CommandStatus.ESME_RMSGQFUL)})


def status_name(command_status: int) -> str:
    """The specification's name, or the number in hex for a vendor's status."""
    return _STATUS_NAMES.get(command_status, f"0x{command_status:08X}")


class Tag(IntEnum):
    """Optional parameters, SMPP 3.4 §5.3.2, and the three that Indian operators use for DLT (vendor range)."""

    RECEIPTED_MESSAGE_ID = 0x001E
    SAR_MSG_REF_NUM = 0x020C
    SAR_TOTAL_SEGMENTS = 0x020E
    SAR_SEGMENT_SEQNUM = 0x020F
    SC_INTERFACE_VERSION = 0x0210
    NETWORK_ERROR_CODE = 0x0423
    MESSAGE_PAYLOAD = 0x0424
    MESSAGE_STATE = 0x0427
    DLT_ENTITY_ID = 0x1400
    DLT_TEMPLATE_ID = 0x1401
    DLT_TELEMARKETER_ID = 0x1402


class MessageState(IntEnum):
    """SMPP 3.4 §5.2.28; the names are those of a receipt's `stat` field (Appendix B)."""

    ENROUTE = 1
    DELIVRD = 2
    EXPIRED = 3
    DELETED = 4
    UNDELIV = 5
    ACCEPTD = 6
    UNKNOWN = 7
    REJECTD = 8

    @property
    def is_final(self) -> bool:
        """ACCEPTD, ENROUTE and UNKNOWN say nothing about the handset: another receipt may follow."""
        return self in _FINAL_STATES


_FINAL_STATES = frozenset(
    {
        MessageState.DELIVRD,
        MessageState.EXPIRED,
        MessageState.DELETED,
        MessageState.UNDELIV,
        MessageState.REJECTD,
    }
)


class EsmClass(IntFlag):
    """SMPP 3.4 §5.2.12: the bits this library looks at."""

    DEFAULT = 0x00
    RECEIPT = 0x04
    INTERMEDIATE = 0x20
    UDHI = 0x40
    MESSAGE_TYPE_MASK = 0x3C


class TypeOfNumber(IntEnum):
    """SMPP 3.4 §5.2.5."""

    UNKNOWN = 0
    INTERNATIONAL = 1
    NATIONAL = 2
    ALPHANUMERIC = 5


class NumberingPlan(IntEnum):
    """SMPP 3.4 §5.2.6."""

    UNKNOWN = 0
    ISDN = 1
