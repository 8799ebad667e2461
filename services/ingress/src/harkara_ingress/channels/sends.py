"""The bodies of the channels' own endpoints: what every send has, and beside it the channel's fields.

Unknown fields at the top are ignored as everywhere, since client code in the field sends what other platforms wanted.
"""

from typing import Annotated

from pydantic import Field, model_validator

from harkara_contracts.subjects import Category, Channel
from harkara_ingress.channels.common import LIKE_A_CLIENT_WRITES, CommonSend
from harkara_ingress.channels.email import Address, EmailContent
from harkara_ingress.channels.rcs import Fallback, RcsContent
from harkara_ingress.channels.voice import VoiceContent
from harkara_ingress.channels.whatsapp import CATEGORIES, WhatsAppCategory, WhatsAppContent, check_category


class WhatsAppSend(WhatsAppContent, CommonSend):
    """A template of any category at any time; free form within 24 hours of the person's last message."""

    model_config = LIKE_A_CLIENT_WRITES

    category: WhatsAppCategory | Category | None = None  # type: ignore[assignment]  # Meta's names are wider than ours

    def wanted_category(self) -> Category | None:
        return CATEGORIES[self.category] if isinstance(self.category, WhatsAppCategory) else self.category

    @model_validator(mode="after")
    def _fits_its_category(self) -> "WhatsAppSend":
        check_category(self, self.wanted_category())
        return self


class RcsSend(RcsContent, CommonSend):
    """A text or a rich card; `fallback` is what goes by SMS to a device that cannot take it."""

    model_config = LIKE_A_CLIENT_WRITES

    fallback: Fallback | None = None


class VoiceSend(VoiceContent, CommonSend):
    """A call to one number."""

    model_config = LIKE_A_CLIENT_WRITES


class EmailSend(EmailContent, CommonSend):
    """A mail to one address."""

    model_config = LIKE_A_CLIENT_WRITES

    to: Annotated[Address, Field(examples=["asha@example.com"])]


SENDS: dict[Channel, type[CommonSend]] = {
    Channel.WHATSAPP: WhatsAppSend,
    Channel.RCS: RcsSend,
    Channel.VOICE: VoiceSend,
    Channel.EMAIL: EmailSend,
}
