"""A cleared message, and what its sender says of it: the beginning of every story that the tests of routing tell."""

from datetime import UTC, datetime, timedelta
from typing import Any

from harkara_contracts.events import MessageCleared, SmsContent
from harkara_contracts.ids import attempt_id, new_message_id
from harkara_contracts.subjects import Category, Channel, Lane

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)

_CATEGORIES = {Lane.OTP: Category.OTP, Lane.TRANSACTIONAL: Category.TRANSACTIONAL}


def cleared(
    lane: Lane = Lane.OTP, at: datetime = NOW, validity_s: float = 3600, parts: int = 1, **more: Any
) -> MessageCleared:
    return MessageCleared(
        message_id=new_message_id(),
        account_id="ACC1",
        lane=lane,
        to="919876543210",
        category=_CATEGORIES[lane],
        channels=[Channel.SMS],
        sms=SmsContent(sender="HRKARA", text="Hello", encoding="gsm", parts=parts),
        accepted_at=at,
        expires_at=at + timedelta(seconds=validity_s),
        **more,
    )


def trail(message: MessageCleared, number: int, carrier: str = "jio") -> dict[str, Any]:
    """What every event of an attempt says of it."""
    return {
        "attempt_id": attempt_id(message.message_id, number),
        "message_id": message.message_id,
        "account_id": message.account_id,
        "lane": message.lane,
        "channel": Channel.SMS,
        "carrier": carrier,
        "to": message.to,
        "category": message.category,
    }
