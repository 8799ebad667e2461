"""A message as the edge accepts it, and the moments at which promotion may leave or must wait."""

from datetime import UTC, datetime, timedelta

from harkara_contracts.events import Content, MessageAccepted
from harkara_contracts.ids import new_message_id
from harkara_contracts.subjects import Category, Channel, lane_of

NOON = datetime(2026, 3, 1, 6, 30, tzinfo=UTC)  # 12:00 IST
NIGHT = datetime(2026, 3, 1, 18, 30, tzinfo=UTC)  # 00:00 IST
OPENING = datetime(2026, 3, 2, 4, 30, tzinfo=UTC)  # 10:00 IST
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


def accepted_message(
    category: Category = Category.OTP,
    *,
    at: datetime = NOON,
    send_at: datetime | None = None,
    validity: timedelta = DAY,
    template: str = "SANDBOX_FREE",
    channels: tuple[Channel, ...] = (Channel.SMS,),
    message: str = "Hello",
    account_id: str = "ACC1",
    batch_id: str | None = None,
) -> MessageAccepted:
    """`validity` counts from when the message may leave."""
    return MessageAccepted(
        message_id=new_message_id(),
        account_id=account_id,
        lane=lane_of(category),
        test_mode=True,
        correlation_id="order-1",
        batch_id=batch_id,
        to="919876543210",
        category=category,
        channels=list(channels),
        content=Content(sender="HARKRA", template_id=template, message=message),
        accepted_at=at,
        expires_at=(send_at or at) + validity,
        send_at=send_at,
    )
