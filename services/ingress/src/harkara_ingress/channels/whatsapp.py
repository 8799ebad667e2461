"""A WhatsApp message, in the shape of Meta's Cloud API: a template, or, while the person's 24 hours run, free form.

The limits are Meta's: https://developers.facebook.com/docs/whatsapp/cloud-api/reference/messages
"""

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from harkara_contracts.subjects import Category
from harkara_ingress.channels.shape import Link, OneLine, Shape, exactly_one, without_repeats

MAX_CODE_LENGTH = 15
"""Of a one-time password in an authentication template."""
_MAX_CAPTION = 1_024
_KINDS = ("template", "text", "media", "location", "interactive", "carousel")
_CAPTIONED = frozenset({"image", "video", "document"})

Label = Annotated[str, Field(min_length=1, max_length=20), OneLine]
ReplyId = Annotated[str, Field(min_length=1, max_length=256), OneLine]
Body = Annotated[str, Field(min_length=1, max_length=1_024)]
HeaderOrFooter = Annotated[str, Field(min_length=1, max_length=60), OneLine]


class WhatsAppCategory(StrEnum):
    """Meta's categories; a client may name the platform's own instead."""

    AUTHENTICATION = "authentication"
    UTILITY = "utility"
    MARKETING = "marketing"


CATEGORIES: dict[WhatsAppCategory, Category] = {
    WhatsAppCategory.AUTHENTICATION: Category.OTP,
    WhatsAppCategory.UTILITY: Category.TRANSACTIONAL,
    WhatsAppCategory.MARKETING: Category.PROMOTIONAL,
}


class Language(Shape):
    code: Annotated[str, Field(pattern=r"^[a-z]{2,3}(_[A-Z]{2})?$", examples=["en_US"])]
    policy: Literal["deterministic"] | None = None


class Parameter(Shape):
    """What stands for one variable of a template: Meta's object named as its type."""

    type: Literal["text", "currency", "date_time", "image", "video", "document", "location", "payload", "coupon_code"]
    text: Annotated[str, Field(min_length=1, max_length=1_024)] | None = None
    parameter_name: Annotated[str, Field(pattern=r"^[a-z0-9_]{1,64}$")] | None = None
    currency: dict[str, Any] | None = None
    date_time: dict[str, Any] | None = None
    image: dict[str, Any] | None = None
    video: dict[str, Any] | None = None
    document: dict[str, Any] | None = None
    location: dict[str, Any] | None = None
    payload: Annotated[str, Field(max_length=256)] | None = None
    coupon_code: Annotated[str, Field(min_length=1, max_length=20)] | None = None

    @model_validator(mode="after")
    def _says_what_it_is(self) -> "Parameter":
        if getattr(self, self.type) is None:
            raise ValueError(f"a parameter of the type {self.type} needs the field {self.type}")
        return self


class Component(Shape):
    """A header, the body, or one button of a template, with its parameters."""

    type: Literal["header", "body", "button"]
    sub_type: Literal["url", "quick_reply", "copy_code", "flow", "catalog"] | None = None
    index: Annotated[str, Field(pattern=r"^[0-9]$")] | None = None
    parameters: list[Parameter] = Field(default_factory=list, max_length=50)

    @model_validator(mode="after")
    def _buttons_are_numbered(self) -> "Component":
        if (self.type == "button") != (self.sub_type is not None and self.index is not None):
            raise ValueError("a button, and only a button, has sub_type and index")
        return self


class Template(Shape):
    name: Annotated[str, Field(pattern=r"^[a-z0-9_]{1,512}$", examples=["order_update"])]
    language: Language
    components: list[Component] = Field(default_factory=list, max_length=12)

    def codes(self) -> list[str]:
        """Return what the body says, which in an authentication template is the code."""
        bodies = [component for component in self.components if component.type == "body"]
        return [parameter.text or "" for body in bodies for parameter in body.parameters]


class Text(Shape):
    body: Annotated[str, Field(min_length=1, max_length=4_096)]
    preview_url: bool = False


class Media(Shape):
    """A file by link, or by the id that an upload gave. `filename` is a document's, `caption` of what can have one."""

    type: Literal["image", "video", "audio", "document", "sticker"]
    link: Link | None = None
    id: Annotated[str, Field(min_length=1, max_length=64), OneLine] | None = None
    caption: Annotated[str, Field(max_length=_MAX_CAPTION)] | None = None
    filename: Annotated[str, Field(min_length=1, max_length=240), OneLine] | None = None

    @model_validator(mode="after")
    def _fits_its_type(self) -> "Media":
        exactly_one(self, ("link", "id"))
        if self.caption is not None and self.type not in _CAPTIONED:
            raise ValueError(f"a file of the type {self.type} has no caption")
        if self.filename is not None and self.type != "document":
            raise ValueError("only a document has a filename")
        return self


class Location(Shape):
    latitude: Annotated[float, Field(ge=-90, le=90)]
    longitude: Annotated[float, Field(ge=-180, le=180)]
    name: Annotated[str, Field(max_length=1_000)] | None = None
    address: Annotated[str, Field(max_length=1_000)] | None = None


class ReplyButton(Shape):
    id: ReplyId
    title: Label


class Row(Shape):
    id: Annotated[str, Field(min_length=1, max_length=200), OneLine]
    title: Annotated[str, Field(min_length=1, max_length=24), OneLine]
    description: Annotated[str, Field(max_length=72), OneLine] | None = None


class Section(Shape):
    title: Annotated[str, Field(max_length=24), OneLine] | None = None
    rows: Annotated[list[Row], Field(min_length=1, max_length=10)]


class Interactive(Shape):
    """Up to three reply buttons, or a list of up to ten rows in all."""

    body: Body
    header: HeaderOrFooter | None = None
    footer: HeaderOrFooter | None = None
    buttons: Annotated[list[ReplyButton], Field(min_length=1, max_length=3)] | None = None
    button: Label | None = None
    sections: Annotated[list[Section], Field(min_length=1, max_length=10)] | None = None

    @model_validator(mode="after")
    def _is_buttons_or_a_list(self) -> "Interactive":
        exactly_one(self, ("buttons", "sections"))
        if self.buttons is not None:
            without_repeats([button.id for button in self.buttons], "The ids of buttons")
            return self
        if self.button is None:
            raise ValueError("a list needs the label of the button that opens it: `button`")
        rows = [row for section in self.sections or () for row in section.rows]
        if len(rows) > 10:  # noqa: PLR2004  # Meta's limit, said in the docstring
            raise ValueError("a list has at most 10 rows in all its sections")
        without_repeats([row.id for row in rows], "The ids of rows")
        return self


class Card(Shape):
    """One card of a carousel: a picture or video, words, and a button that opens a page or replies."""

    media: Media
    body: Annotated[str, Field(min_length=1, max_length=160)] | None = None
    url_button: "UrlButton | None" = None
    reply_buttons: list[ReplyButton] = Field(default_factory=list, max_length=2)


class UrlButton(Shape):
    title: Label
    url: Link


class Carousel(Shape):
    body: Body
    cards: Annotated[list[Card], Field(min_length=2, max_length=10)]


def _text(value: Any) -> Any:
    # `"text": "Hello"` is what most clients write; Meta's own shape is an object.
    return {"body": value} if isinstance(value, str) else value


class WhatsAppContent(Shape):
    """Exactly one of these. Outside the 24 hours after a person's last message only a template may be sent."""

    template: Template | None = None
    text: Annotated[Text, BeforeValidator(_text)] | None = None
    media: Media | None = None
    location: Location | None = None
    interactive: Interactive | None = None
    carousel: Carousel | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> "WhatsAppContent":
        exactly_one(self, _KINDS)
        return self


def check_category(content: WhatsAppContent, category: Category | None) -> None:
    """Check that an authentication template carries a code that Meta will take.

    Raises:
        ValueError: it is longer than that, or looks like a link.
    """
    if category is not Category.OTP or content.template is None:
        return
    for code in content.template.codes():
        if len(code) > MAX_CODE_LENGTH or "://" in code:
            raise ValueError(
                f"the code of an authentication template has at most {MAX_CODE_LENGTH} characters, no link"
            )
