"""A send as the client writes it, and what becomes of it: the accepted event and the answer. Pure.

Unknown fields are ignored: client code in the field sends what other platforms wanted, and must run unchanged.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, Field, model_validator

from harkara_contracts.errors import ErrorCode, HarkaraError
from harkara_contracts.events import Cascade, Content, MessageAccepted
from harkara_contracts.subjects import Category, Channel, Lane, lane_of
from harkara_dlt import RULES, ClientCategory, InvalidMobileError, normalise_mobile
from harkara_ingress.channels.common import CommonSend
from harkara_ingress.channels.email import EmailContent
from harkara_ingress.channels.rcs import RcsContent
from harkara_ingress.channels.voice import VoiceContent
from harkara_ingress.channels.whatsapp import WhatsAppContent
from harkara_ingress.fields import Whole
from harkara_registry import RenderedSms, earliest_departure

AVAILABLE_CHANNELS = (Channel.SMS,)

_DEFAULT_VALIDITY_S = {Lane.OTP: 600, Lane.TRANSACTIONAL: 86_400, Lane.PROMOTIONAL: 86_400}
_USUAL_DELIVERY_S = {Lane.OTP: 3, Lane.TRANSACTIONAL: 5, Lane.PROMOTIONAL: 30}
_PRICE_NAME = {category: f"sms.{RULES[ClientCategory(category)].price_column}" for category in Category}

VariableName = Annotated[str, Field(max_length=64)]
VariableValue = Annotated[str, Field(max_length=2_000)]


def _object(value: Any) -> Any:
    # Clients write null for what they leave out, and PHP writes [] for an object without members.
    return {} if value is None or value == [] else value


class CascadeRequest(BaseModel):
    timeouts: dict[Channel, Annotated[Whole, Field(ge=1, le=86_400)]] = {}
    mode: Annotated[str, Field(pattern="^(fallback|all)$")] = "fallback"


class SmsSend(CommonSend):
    """One SMS to one number. For India `template_id` is required, with `variables` or with the `message` itself."""

    sender: Annotated[str, Field(max_length=20, examples=["HRKARA"])] | None = None
    # A length that is too long is told in parts (ERR_MESSAGE_TOO_LONG); the body's size bounds it here.
    message: Annotated[str, Field(min_length=1)] | None = None
    template_id: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    variables: Annotated[dict[VariableName, VariableValue], BeforeValidator(_object)] = Field(
        default_factory=dict, max_length=100
    )
    unicode: bool | None = None

    def wanted_channels(self) -> list[Channel]:
        return [Channel.SMS]

    def wanted_cascade(self) -> Cascade | None:
        return None


class AnySend(SmsSend):
    """One message by `channel`, or by `channels` in order; by SMS where neither is said.

    What each channel other than SMS is to carry stands in the object of its name.
    """

    channel: Channel | None = None
    channels: Annotated[list[Channel], Field(min_length=1, max_length=5)] | None = None
    cascade: CascadeRequest | None = None
    whatsapp: WhatsAppContent | None = None
    rcs: RcsContent | None = None
    voice: VoiceContent | None = None
    email: EmailContent | None = None

    @model_validator(mode="after")
    def _said_once(self) -> "AnySend":
        if self.channel is not None and self.channels is not None:
            raise ValueError("give channel, or channels in order, and not both")
        if self.channels is not None and len(set(self.channels)) < len(self.channels):
            raise ValueError("channels names one channel twice")
        return self

    def wanted_channels(self) -> list[Channel]:
        return self.channels or [self.channel or Channel.SMS]

    def wanted_cascade(self) -> Cascade | None:
        return Cascade(timeouts=self.cascade.timeouts, mode=self.cascade.mode) if self.cascade else None


class MessageSend(AnySend):
    """One message by `channel`, or by `channels` in order."""

    @model_validator(mode="after")
    def _said_at_all(self) -> "MessageSend":
        if self.channel is None and self.channels is None:
            raise ValueError("give channel, or channels in order")
        return self


def checked_channels(request: SmsSend) -> list[Channel]:
    """Return the channels in order.

    Raises:
        HarkaraError: ERR_INVALID_REQUEST, one of them is not offered.
    """
    wanted = request.wanted_channels()
    check_offered(wanted)
    return wanted


def check_offered(wanted: Iterable[Channel]) -> None:
    """Check that channels are offered here.

    Raises:
        HarkaraError: ERR_INVALID_REQUEST, with those that are.
    """
    missing = [channel.value for channel in wanted if channel not in AVAILABLE_CHANNELS]
    if missing:
        offered = ", ".join(AVAILABLE_CHANNELS)
        raise HarkaraError(
            ErrorCode.INVALID_REQUEST, f"Not available on this platform: {', '.join(missing)}. Available: {offered}."
        )


def checked_mobile(text: str) -> str:
    """Return the number as `91` and ten digits.

    Raises:
        HarkaraError: ERR_INVALID_MOBILE.
    """
    try:
        return normalise_mobile(text)
    except InvalidMobileError as error:
        raise HarkaraError(
            ErrorCode.INVALID_MOBILE, "Field `to` must be 91 and ten digits, the first of them 6 to 9."
        ) from error


def content_of(request: SmsSend) -> Content:
    return Content(
        sender=request.sender,
        template_id=request.template_id,
        variables=request.variables,
        message=request.message,
        unicode=request.unicode,
    )


def price_name(category: Category) -> str:
    """Return under which name an account's balance tells the price of an SMS part."""
    return _PRICE_NAME[category]


def event_of(
    request: SmsSend,
    *,
    message_id: str,
    account_id: str,
    to: str,
    category: Category,
    channels: list[Channel],
    content: Content,
    test_mode: bool,
    accepted_at: datetime,
    send_at: datetime | None,
) -> MessageAccepted:
    """Make the event that says the client was answered 202."""
    lane = lane_of(category)
    validity_s = request.validity_seconds or _DEFAULT_VALIDITY_S[lane]
    # The validity starts when the message may leave: a night's wait for the promotional hours does not eat it up.
    departure = earliest_departure(category, send_at, accepted_at)
    return MessageAccepted(
        message_id=message_id,
        account_id=account_id,
        lane=lane,
        test_mode=test_mode,
        correlation_id=request.correlation_id,
        to=to,
        category=category,
        channels=channels,
        content=content,
        cascade=request.wanted_cascade(),
        priority=request.priority or "normal",
        accepted_at=accepted_at,
        expires_at=departure + timedelta(seconds=validity_s),
        send_at=send_at,
    )


def answer_of(request: SmsSend, event: MessageAccepted, sms: RenderedSms | None) -> dict[str, Any]:
    """Return the body of the 202; what the client did not give is not in it."""
    departure = earliest_departure(event.category, event.send_at, event.accepted_at)
    waiting_s = 0 if departure is event.accepted_at else max(0, round((departure - event.accepted_at).total_seconds()))
    answer: dict[str, Any] = {
        "status": "accepted",
        "message_id": event.message_id,
        "to": event.to,
        "channel": event.channels[0].value,
        "credits_debited": sms.parts if sms else 1,
        "estimated_delivery_seconds": waiting_s + _USUAL_DELIVERY_S[event.lane],
        "timestamp": zulu(event.accepted_at),
    }
    if event.correlation_id is not None:
        answer["correlation_id"] = event.correlation_id
    if request.schedule_at is not None:
        answer["scheduled_at"] = request.schedule_at
    if event.test_mode or request.test_mode is not None:
        answer["test_mode"] = event.test_mode
    return answer


def zulu(instant: datetime) -> str:
    """Write an instant in UTC with milliseconds and `Z`."""
    # Formatting a time is slow, and most of it stays as it is for a second.
    return f"{_second(int(instant.timestamp()))}.{instant.microsecond // 1000:03d}Z"


@lru_cache(maxsize=16)
def _second(unix_s: int) -> str:
    return datetime.fromtimestamp(unix_s, UTC).replace(tzinfo=None).isoformat()
