"""What the phones received, decoded from the store: parts put together, text in characters, TLVs by tag."""

from bisect import bisect_right
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from harkara_smpp import MessageState, SubmitSm, Tag
from harkara_smsc_simulator.engine import cut
from harkara_smsc_simulator.store import Store
from harkara_smsc_simulator.text import Concatenation, decode_text, split_header

_UDHI = 0x40


@dataclass(slots=True)
class _Shown:
    """A message as it is put together: part number to number in the store."""

    pdu: SubmitSm
    total: int
    parts: dict[int, tuple[int, SubmitSm, bytes]] = field(default_factory=dict)


def messages_to(store: Store, to: str | None, limit: int, boot_at: datetime) -> list[Any]:
    """The last `limit` messages that a phone (or any, for None) received, newest last, in JSON values.

    A message's place in the list is that of its first part. `boot_at` is the moment at which the monotonic clock was
    zero.
    """
    shown: list[_Shown] = []
    unfinished: dict[tuple[str, str, str, int, int], _Shown] = {}
    for number in _candidates(store, to, limit):
        pdu = SubmitSm.from_body(store.body(number))
        if to is not None and pdu.destination_addr != to:
            continue
        concatenation, octets = _content(pdu)
        if concatenation is None:
            shown.append(_Shown(pdu, 1, {1: (number, pdu, octets)}))
            continue
        key = (
            store.system_id(number),
            pdu.source_addr,
            pdu.destination_addr,
            concatenation.reference,
            concatenation.total,
        )
        message = unfinished.get(key)
        if message is None or concatenation.number in message.parts:
            message = unfinished[key] = _Shown(pdu, concatenation.total)
            shown.append(message)
        message.parts[concatenation.number] = (number, pdu, octets)
        if len(message.parts) == message.total:
            del unfinished[key]
    return [_as_json(store, message, boot_at) for message in shown[-limit:]] if limit else []


def _candidates(store: Store, to: str | None, limit: int) -> Any:
    if to is not None:
        return store.with_octets(to.encode("latin-1", "replace") + b"\0")
    # Ten parts a message are plenty; a list of everything would decode everything.
    return store.numbers()[-limit * 10 :]


def _content(pdu: SubmitSm) -> tuple[Concatenation | None, bytes]:
    """Which part this is, by user data header or by sar_* TLVs (SMPP 3.4 §5.3.2.22 to .24), and its octets of text."""
    octets = pdu.short_message or pdu.tlvs.get(Tag.MESSAGE_PAYLOAD, b"")
    if pdu.esm_class & _UDHI:
        return split_header(octets)
    reference, total, number = (
        pdu.tlvs.get(tag) for tag in (Tag.SAR_MSG_REF_NUM, Tag.SAR_TOTAL_SEGMENTS, Tag.SAR_SEGMENT_SEQNUM)
    )
    if reference and total and number:
        return Concatenation(int.from_bytes(reference, "big"), total[0], number[0]), octets
    return None, octets


def _as_json(store: Store, message: _Shown, boot_at: datetime) -> dict[str, Any]:
    parts = [message.parts[number] for number in sorted(message.parts)]
    numbers = [number for number, _, _ in parts]
    received_monotonic = max(store.received_monotonic(number) for number in numbers)
    first = message.pdu
    states = [_state_name(store.receipt_state(number)) for number in numbers]
    return {
        "to": first.destination_addr,
        "from": first.source_addr,
        # Joined before decoding: a character may lie across two parts.
        "text": decode_text(first.data_coding, b"".join(octets for _, _, octets in parts)),
        "parts": message.total,
        "complete": len(parts) == message.total,
        "data_coding": first.data_coding,
        "esm_class": first.esm_class,
        "tlvs": [_tlvs_as_json(pdu) for _, pdu, _ in parts],
        "system_id": store.system_id(numbers[0]),
        "received_at": (boot_at + timedelta(seconds=received_monotonic)).isoformat(),
        "received_monotonic": received_monotonic,
        "message_id": str(numbers[0]),
        "message_ids": [str(number) for number in numbers],
        "receipt": states[0] if len(set(states)) == 1 else None,
        "receipts": states,
    }


def _tlvs_as_json(pdu: SubmitSm) -> dict[str, str]:
    """Tag in hex to text, or to hex where the octets are not printable."""
    shown: dict[str, str] = {}
    for tag, value in pdu.tlvs.items():
        text = value.decode("latin-1")
        shown[f"0x{tag:04X}"] = text if text.isascii() and text.isprintable() else value.hex()
    return shown


def _state_name(state: int) -> str | None:
    return MessageState(state).name if state else None


def arrivals(store: Store, since_monotonic: float, limit: int) -> list[Any]:
    """[to, CLOCK_MONOTONIC seconds] of the last `limit` parts that came after `since_monotonic`, oldest first."""
    numbers = store.numbers()
    # Asked again and again for what is new: what is older is not walked each time.
    first = max(bisect_right(numbers, since_monotonic, key=store.received_monotonic), len(numbers) - limit)
    return [
        [cut(store.body(number)).number.decode("latin-1"), store.received_monotonic(number)]
        for number in numbers[first:]
    ]
