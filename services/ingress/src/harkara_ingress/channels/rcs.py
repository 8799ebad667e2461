"""An RCS message of Google's RCS for Business: a text or rich cards, with suggestions.

Clients write Google's objects with underscores; what Google does not have is refused here rather than lost there. The
limits are Google's: https://developers.google.com/business-communications/rcs-business-messaging/reference/rest
"""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import AwareDatetime, BeforeValidator, Field, model_validator

from harkara_ingress.channels.shape import Link, OneLine, Shape, Variables, exactly_one

MAX_TEXT = 3_072
MAX_CARD_SUGGESTIONS = 4
MAX_SUGGESTIONS = 11

Label = Annotated[str, Field(min_length=1, max_length=25), OneLine]
Postback = Annotated[str, Field(min_length=1, max_length=2_048)]
_ACTIONS = (
    "open_url_action",
    "dial_action",
    "view_location_action",
    "create_calendar_event_action",
    "share_location_action",
)


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


class Reply(Shape):
    text: Label
    postback_data: Postback


class OpenUrl(Shape):
    url: Link


class Dial(Shape):
    phone_number: Annotated[str, Field(pattern=r"^\+[1-9][0-9]{6,14}$", examples=["+911140001000"])]


class Place(Shape):
    latitude: Annotated[float, Field(ge=-90, le=90)]
    longitude: Annotated[float, Field(ge=-180, le=180)]


class ViewLocation(Shape):
    lat_long: Place | None = None
    label: Annotated[str, Field(max_length=100), OneLine] | None = None
    query: Annotated[str, Field(min_length=1, max_length=200), OneLine] | None = None

    @model_validator(mode="after")
    def _somewhere(self) -> "ViewLocation":
        exactly_one(self, ("lat_long", "query"))
        return self


class CalendarEvent(Shape):
    start_time: AwareDatetime
    end_time: AwareDatetime
    title: Annotated[str, Field(min_length=1, max_length=100), OneLine]
    description: Annotated[str, Field(max_length=500)] | None = None

    @model_validator(mode="after")
    def _in_order(self) -> "CalendarEvent":
        start: datetime = self.start_time
        if self.end_time <= start:
            raise ValueError("end_time must come after start_time")
        return self


class ShareLocation(Shape):
    """Asks the person where they are; there is nothing to say."""


class Action(Shape):
    """Something the handset does when the person taps the label."""

    text: Label
    postback_data: Postback
    fallback_url: Link | None = None
    open_url_action: OpenUrl | None = None
    dial_action: Dial | None = None
    view_location_action: ViewLocation | None = None
    create_calendar_event_action: CalendarEvent | None = None
    share_location_action: ShareLocation | None = None

    @model_validator(mode="after")
    def _does_one_thing(self) -> "Action":
        exactly_one(self, _ACTIONS)
        return self


class Suggestion(Shape):
    reply: Reply | None = None
    action: Action | None = None

    @model_validator(mode="after")
    def _is_one(self) -> "Suggestion":
        exactly_one(self, ("reply", "action"))
        return self


class ContentInfo(Shape):
    file_url: Link
    thumbnail_url: Link | None = None
    force_refresh: bool = False


class CardMedia(Shape):
    height: Annotated[Literal["short", "medium", "tall"], BeforeValidator(_lower)]
    content_info: ContentInfo


class CardContent(Shape):
    title: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    description: Annotated[str, Field(min_length=1, max_length=2_000)] | None = None
    media: CardMedia | None = None
    suggestions: list[Suggestion] = Field(default_factory=list, max_length=MAX_CARD_SUGGESTIONS)

    @model_validator(mode="after")
    def _is_not_empty(self) -> "CardContent":
        if self.title is None and self.description is None and self.media is None:
            raise ValueError("a card needs a title, a description or media")
        return self


class StandaloneCard(Shape):
    card_orientation: Annotated[Literal["horizontal", "vertical"], BeforeValidator(_lower)] = "vertical"
    thumbnail_image_alignment: Annotated[Literal["left", "right"], BeforeValidator(_lower)] | None = None
    card_content: CardContent

    @model_validator(mode="after")
    def _alignment_is_of_horizontal_cards(self) -> "StandaloneCard":
        if self.thumbnail_image_alignment is not None and self.card_orientation != "horizontal":
            raise ValueError("only a horizontal card has thumbnail_image_alignment")
        return self


class CarouselCard(Shape):
    card_width: Annotated[Literal["small", "medium"], BeforeValidator(_lower)] = "medium"
    card_contents: Annotated[list[CardContent], Field(min_length=2, max_length=10)]

    @model_validator(mode="after")
    def _none_is_tall(self) -> "CarouselCard":
        if any(card.media is not None and card.media.height == "tall" for card in self.card_contents):
            raise ValueError("the media of a carousel are short or medium")
        return self


class RichCard(Shape):
    standalone_card: StandaloneCard | None = None
    carousel_card: CarouselCard | None = None

    @model_validator(mode="after")
    def _is_one(self) -> "RichCard":
        exactly_one(self, ("standalone_card", "carousel_card"))
        return self


class SmsInstead(Shape):
    """What goes by SMS to a device that cannot take RCS."""

    sender: Annotated[str, Field(min_length=1, max_length=20)]
    template_id: Annotated[str, Field(min_length=1, max_length=64)]
    variables: Variables = Field(default_factory=dict, max_length=100)


class Fallback(Shape):
    sms: SmsInstead


class RcsContent(Shape):
    """A text or a rich card, and up to eleven suggestions under it."""

    text: Annotated[str, Field(min_length=1, max_length=MAX_TEXT)] | None = None
    rich_card: RichCard | None = None
    suggestions: list[Suggestion] = Field(default_factory=list, max_length=MAX_SUGGESTIONS)

    @model_validator(mode="after")
    def _is_one(self) -> "RcsContent":
        exactly_one(self, ("text", "rich_card"))
        return self
