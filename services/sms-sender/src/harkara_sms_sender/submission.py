"""From a funded attempt to the submit_sm PDUs that hand it over. Pure.

Indian settings: the header as an alphanumeric source (TON 5, NPI 0), the handset as an international ISDN number
(TON 1, NPI 1), and the DLT parameters on every part, because operators put the parts together before they match the text.
"""

from collections import OrderedDict
from datetime import datetime
from functools import lru_cache
from typing import Final
from zlib import crc32

from harkara_contracts.carriers import DltTags
from harkara_contracts.events import AttemptFunded, SmsContent
from harkara_smpp import NumberingPlan, SubmitSm, TypeOfNumber
from harkara_sms_text import split

_ALPHANUMERIC: Final = int(TypeOfNumber.ALPHANUMERIC)
_INTERNATIONAL: Final = int(TypeOfNumber.INTERNATIONAL)
_ISDN: Final = int(NumberingPlan.ISDN)
_REGISTERED_DELIVERY_ALWAYS: Final = 1  # SMPP 3.4 §5.2.17
_LONGEST_VALIDITY_S: Final = 30 * 86_400  # DD of a relative time is at most 30 here; carriers keep far less
_MAX_DESTINATIONS: Final = 50_000


class References:
    """Concatenation references: 8 bits, never the same for two long messages one after the other to one handset.

    A handset joins parts by sender and reference, so each destination counts by itself and meets a number again only
    after 256 long messages. The count begins at a number made of the attempt, so that a restart seldom repeats one;
    the destinations of long ago are forgotten.
    """

    def __init__(self, max_destinations: int = _MAX_DESTINATIONS) -> None:
        self._last: OrderedDict[str, int] = OrderedDict()
        self._max_destinations = max_destinations

    def next(self, destination: str, attempt_id: str) -> int:
        """Return the reference (0..255) for the next long message to `destination`."""
        last = self._last.pop(destination, None)
        reference = crc32(attempt_id.encode()) & 0xFF if last is None else (last + 1) & 0xFF
        self._last[destination] = reference
        if len(self._last) > self._max_destinations:
            self._last.popitem(last=False)
        return reference


def submit_pdus(attempt: AttemptFunded, tags: DltTags, reference: int, now: datetime) -> list[SubmitSm]:
    """Return one PDU for each part, in order.

    Args:
        attempt: what to send; its `sms` must be there.
        tags: the carrier's tags for the DLT parameters.
        reference: 0..255, used where there is more than one part.
        now: the validity is counted from here.

    Raises:
        ValueError: the attempt has no SMS in it, or its text cannot be encoded.
    """
    sms = attempt.sms
    if sms is None:
        raise ValueError("the attempt carries no SMS")
    validity_period = relative_time((attempt.expires_at - now).total_seconds())
    tlvs = dlt_parameters(sms, tags)
    return [
        SubmitSm(
            source_addr_ton=_ALPHANUMERIC,
            source_addr=sms.sender,
            dest_addr_ton=_INTERNATIONAL,
            dest_addr_npi=_ISDN,
            destination_addr=attempt.to,
            esm_class=part.esm_class,
            validity_period=validity_period,
            registered_delivery=_REGISTERED_DELIVERY_ALWAYS,
            data_coding=part.data_coding,
            short_message=part.short_message,
            tlvs=tlvs,
        )
        for part in split(sms.text, reference)
    ]


def dlt_parameters(sms: SmsContent, tags: DltTags) -> dict[int, bytes]:
    """Return the DLT TLVs: ASCII without a closing NUL; what a message does not have is left out. Not to be changed."""
    return _dlt_parameters(
        ((tags.entity_id, sms.entity_id), (tags.template_id, sms.dlt_template_id), (tags.chain, sms.chain_hash))
    )


@lru_cache(maxsize=1024)  # they are those of the template, so the next message mostly has the same
def _dlt_parameters(values: tuple[tuple[int, str | None], ...]) -> dict[int, bytes]:
    return {tag: value.encode("ascii") for tag, value in values if value}


def relative_time(seconds: float) -> str:
    """Write a relative time, `YYMMDDhhmmss000R` (SMPP 3.4 §7.1.1): at least one second, at most 30 days."""
    return _relative_time(max(1, min(int(seconds), _LONGEST_VALIDITY_S)))


@lru_cache(maxsize=1024)  # messages sent together mostly have the same validity
def _relative_time(seconds: int) -> str:
    minutes, second = divmod(seconds, 60)
    hours, minute = divmod(minutes, 60)
    day, hour = divmod(hours, 24)
    return f"0000{day:02d}{hour:02d}{minute:02d}{second:02d}000R"
