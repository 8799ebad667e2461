"""What each channel takes: tables of bodies, each with the words it is refused with, or none where it is right."""

from typing import Any

import pytest
from pydantic import ValidationError

from harkara_contracts.subjects import Category
from harkara_ingress.channels.sends import EmailSend, RcsSend, VoiceSend, WhatsAppSend
from harkara_ingress.channels.voice import VoiceContent, useful_retries

PHONE = {"to": "919876543210"}
MAIL = {"to": "asha@example.com", "from": "billing@example.com", "subject": "Your invoice", "text": "Attached."}
FINE = None


def refusal(model: type[Any], body: dict[str, Any]) -> str | None:
    try:
        model.model_validate(body)
    except ValidationError as error:
        return "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
    return None


def check(model: type[Any], body: dict[str, Any], words: str | None) -> None:
    said = refusal(model, body)
    if words is None:
        assert said is None
    else:
        assert said is not None
        assert words in said


def template(*components: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"template": {"name": "otp_login", "language": {"code": "en_US"}, "components": list(components)} | more}


def text(value: str) -> dict[str, str]:
    return {"type": "text", "text": value}


OTP = (
    {"type": "body", "parameters": [text("482913")]},
    {"type": "button", "sub_type": "url", "index": 0, "parameters": [text("482913")]},
)
ROWS = [{"id": str(number), "title": "Row"} for number in range(10)]
ROW = {"id": "another", "title": "Row"}
BUTTONS = [{"id": str(number), "title": "Yes"} for number in range(3)]
PICTURE = {"type": "image", "link": "https://example.com/a.png"}

WHATSAPP: list[tuple[str, dict[str, Any], str | None]] = [
    ("an OTP as Meta wants it", {"category": "authentication", **template(*OTP)}, FINE),
    ("our own name of the category", {"category": "otp", **template(*OTP)}, FINE),
    ("no such category", {"category": "spam", **template(*OTP)}, "category"),
    (
        "a code that is too long",
        {"category": "otp", **template({"type": "body", "parameters": [text("4" * 16)]})},
        "15 characters",
    ),
    (
        "a link for a code",
        {"category": "otp", **template({"type": "body", "parameters": [text("https://x.in")]})},
        "no link",
    ),
    (
        "a long word in a utility template",
        {"category": "utility", **template({"type": "body", "parameters": [text("4" * 16)]})},
        FINE,
    ),
    ("a name in capitals", template(name="OtpLogin"), "template.name"),
    ("a language that is none", template(language={"code": "English"}), "language"),
    ("a button without its number", template({"type": "button", "sub_type": "url"}), "sub_type and index"),
    ("a number on the body", template({"type": "body", "index": 0, "sub_type": "url"}), "sub_type and index"),
    (
        "a parameter that says nothing",
        template({"type": "body", "parameters": [{"type": "text"}]}),
        "needs the field text",
    ),
    ("a field that Meta does not have", template({"type": "body", "colour": "red"}), "Extra inputs"),
    ("text as a word", {"text": "Hello"}, FINE),
    ("text as Meta's object", {"text": {"body": "Hello", "preview_url": True}}, FINE),
    ("text of 4,096", {"text": "x" * 4_096}, FINE),
    ("text of 4,097", {"text": "x" * 4_097}, "4096"),
    ("nothing at all", {}, "exactly one of template, text"),
    ("two at once", {"text": "Hello", "location": {"latitude": 1, "longitude": 1}}, "exactly one"),
    ("a picture with words", {"media": {**PICTURE, "caption": "Look"}}, FINE),
    ("a link and an id", {"media": {**PICTURE, "id": "1"}}, "exactly one of link, id"),
    ("a link without TLS", {"media": {"type": "image", "link": "http://example.com/a.png"}}, "https://"),
    ("words on a sound", {"media": {"type": "audio", "id": "1", "caption": "Hear"}}, "no caption"),
    ("a name on a picture", {"media": {**PICTURE, "filename": "a.png"}}, "only a document"),
    ("a place off the globe", {"location": {"latitude": 91, "longitude": 0}}, "latitude"),
    ("three buttons", {"interactive": {"body": "Is it?", "buttons": BUTTONS}}, FINE),
    (
        "four buttons",
        {"interactive": {"body": "Is it?", "buttons": [*BUTTONS, {"id": "9", "title": "No"}]}},
        "at most 3",
    ),
    ("a title of 21", {"interactive": {"body": "?", "buttons": [{"id": "1", "title": "x" * 21}]}}, "20 characters"),
    ("two buttons alike", {"interactive": {"body": "?", "buttons": [BUTTONS[0], BUTTONS[0]]}}, "ids of buttons"),
    ("a list", {"interactive": {"body": "Pick", "button": "Open", "sections": [{"rows": ROWS}]}}, FINE),
    ("a list nobody can open", {"interactive": {"body": "Pick", "sections": [{"rows": ROWS}]}}, "`button`"),
    (
        "eleven rows in two sections",
        {"interactive": {"body": "Pick", "button": "Open", "sections": [{"rows": ROWS}, {"rows": [ROW]}]}},
        "at most 10 rows",
    ),
    (
        "two rows alike",
        {"interactive": {"body": "Pick", "button": "Open", "sections": [{"rows": [ROWS[0], ROWS[0]]}]}},
        "ids of rows",
    ),
    ("a carousel", {"carousel": {"body": "New", "cards": [{"media": PICTURE}, {"media": PICTURE}]}}, FINE),
    ("a carousel of one", {"carousel": {"body": "New", "cards": [{"media": PICTURE}]}}, "at least 2"),
    ("a field that others have", {"text": "Hello", "colour": "red"}, FINE),
]  # fmt: skip

REPLY = {"reply": {"text": "Yes", "postback_data": "yes"}}
OPEN = {"action": {"text": "Open", "postback_data": "open", "open_url_action": {"url": "https://example.com"}}}
BACKWARDS = {"title": "x", "start_time": "2026-12-01T10:00:00Z", "end_time": "2026-12-01T09:00:00Z"}
CARD = {"title": "Sale", "description": "Now", "suggestions": [REPLY, OPEN]}


def acting(**action: dict[str, str]) -> dict[str, Any]:
    return {"action": {"text": "Do it", "postback_data": "x"} | action}


def media(height: str) -> dict[str, Any]:
    return {"media": {"height": height, "content_info": {"file_url": "https://example.com/a.png"}}}


def standalone(**changes: Any) -> dict[str, Any]:
    return {"rich_card": {"standalone_card": {"card_content": CARD} | changes}}


def carousel(*cards: dict[str, Any]) -> dict[str, Any]:
    return {"rich_card": {"carousel_card": {"card_width": "MEDIUM", "card_contents": list(cards)}}}


RCS: list[tuple[str, dict[str, Any], str | None]] = [
    ("text of 3,072, which is Google's limit", {"text": "x" * 3_072}, FINE),
    ("text of 3,073", {"text": "x" * 3_073}, "3072"),
    ("text with suggestions", {"text": "Yes?", "suggestions": [REPLY, OPEN]}, FINE),
    ("twelve suggestions", {"text": "Yes?", "suggestions": [REPLY] * 12}, "at most 11"),
    ("a card", standalone(), FINE),
    (
        "a card in capitals, as Google writes",
        standalone(card_orientation="HORIZONTAL", thumbnail_image_alignment="LEFT"),
        FINE,
    ),
    ("an alignment of a vertical card", standalone(thumbnail_image_alignment="LEFT"), "only a horizontal card"),
    ("an empty card", standalone(card_content={}), "title, a description or media"),
    ("five suggestions on a card", standalone(card_content=CARD | {"suggestions": [REPLY] * 5}), "at most 4"),
    ("a title of 201", standalone(card_content={"title": "x" * 201}), "200 characters"),
    (
        "a label of 26",
        {"text": "?", "suggestions": [{"reply": {"text": "x" * 26, "postback_data": "x"}}]},
        "25 characters",
    ),
    ("a reply that acts", {"text": "?", "suggestions": [REPLY | OPEN]}, "exactly one of reply, action"),
    (
        "an action that does nothing",
        {"text": "?", "suggestions": [{"action": {"text": "x", "postback_data": "x"}}]},
        "exactly one of open_url_action",
    ),
    (
        "a number without its country",
        {"text": "?", "suggestions": [acting(dial_action={"phone_number": "9876543210"})]},
        "phone_number",
    ),
    (
        "an event that ends before it begins",
        {"text": "?", "suggestions": [acting(create_calendar_event_action=BACKWARDS)]},
        "after start_time",
    ),
    ("a carousel", carousel(CARD, CARD | media("SHORT")), FINE),
    ("a carousel of one card", carousel(CARD), "at least 2"),
    ("eleven cards", carousel(*[CARD] * 11), "at most 10"),
    ("a tall card in a carousel", carousel(CARD, media("TALL")), "short or medium"),
    ("a field that Google does not have", standalone(card_colour="red"), "Extra inputs"),
    ("text and a card", {"text": "x", **standalone()}, "exactly one of text, rich_card"),
    (
        "an SMS instead",
        {"text": "x", "fallback": {"sms": {"sender": "HRKARA", "template_id": "TN_SHIP_001", "variables": {"name": "Asha"}}}},
        FINE,
    ),
    (
        "an SMS instead without a template",
        {"text": "x", "fallback": {"sms": {"sender": "HRKARA"}}},
        "fallback.sms.template_id",
    ),
]  # fmt: skip


def menu(depth: int) -> dict[str, Any]:
    if depth == 1:
        return {"1": "Balance"}
    return {"1": {"label": "More", "prompt": "Press one.", "menu": menu(depth - 1)}}


VOICE: list[tuple[str, dict[str, Any], str | None]] = [
    (
        "a code",
        {"voice_type": "otp", "otp_code": "482913", "language": "hi-IN", "max_retries": 2, "ring_timeout_seconds": 30},
        FINE,
    ),
    ("a code as a number", {"voice_type": "otp", "otp_code": 482913}, FINE),
    ("no code", {"voice_type": "otp"}, "needs otp_code"),
    ("a code of three", {"voice_type": "otp", "otp_code": "482"}, "otp_code"),
    ("a code of letters", {"voice_type": "otp", "otp_code": "48A913"}, "otp_code"),
    ("an alert", {"voice_type": "alert", "tts_message": "The train is late."}, FINE),
    ("an alert that says nothing", {"voice_type": "alert"}, "needs tts_message"),
    ("an alert with a code", {"voice_type": "alert", "tts_message": "x", "otp_code": "482913"}, "has no otp_code"),
    ("a menu", {"voice_type": "ivr", "tts_message": "Press one.", "menu": {"1": "Balance", "*": "Repeat"}}, FINE),
    ("a menu of four prompts", {"voice_type": "ivr", "tts_message": "Press one.", "menu": menu(4)}, FINE),
    ("a menu of five prompts", {"voice_type": "ivr", "tts_message": "Press one.", "menu": menu(5)}, "4 prompts deep"),
    (
        "a menu that nobody asks for",
        {"voice_type": "ivr", "tts_message": "x", "menu": {"1": {"label": "More", "menu": {"1": "x"}}}},
        "needs the prompt",
    ),
    ("an alert with a menu", {"voice_type": "alert", "tts_message": "x", "menu": {"1": "x"}}, "has a menu"),
    ("a key that no phone has", {"voice_type": "ivr", "tts_message": "x", "menu": {"A": "x"}}, "menu"),
    ("another language", {"voice_type": "otp", "otp_code": "4829", "language": "fr-FR"}, "language"),
    ("nine retries", {"voice_type": "otp", "otp_code": "4829", "max_retries": 9}, "max_retries"),
    (
        "a ring of five minutes",
        {"voice_type": "otp", "otp_code": "4829", "ring_timeout_seconds": 300},
        "ring_timeout_seconds",
    ),
]  # fmt: skip

FILE = {"filename": "invoice.pdf", "content_type": "application/pdf"}

EMAIL: list[tuple[str, dict[str, Any], str | None]] = [
    ("a mail", {}, FINE),
    ("to nobody", {"to": "asha"}, "no mail address"),
    ("to a folded header", {"to": "asha@example.com\r\nBcc: all@example.com"}, "to"),
    ("a subject with a line break", {"subject": "Invoice\r\nBcc: all@example.com"}, "Line breaks"),
    ("a name with a line break", {"from_name": "Bench\nStores"}, "Line breaks"),
    ("without a subject", {"subject": None}, "needs a subject"),
    ("without words", {"text": None}, "text or html, or a template_id"),
    ("words and a template", {"template_id": "INVOICE"}, "and not both"),
    ("a template", {"text": None, "subject": None, "template_id": "INVOICE", "variables": {"name": "Asha"}}, FINE),
    ("a file by link", {"attachments": [FILE | {"url": "https://example.com/a.pdf"}]}, FINE),
    ("a file in the request", {"attachments": [FILE | {"content_base64": "aGVsbG8="}]}, FINE),
    (
        "a file from two places",
        {"attachments": [FILE | {"url": "https://example.com/a.pdf", "content_base64": "aGVsbG8="}]},
        "exactly one of url, content_base64",
    ),
    ("a file that is not base 64", {"attachments": [FILE | {"content_base64": "~~~"}]}, "not base 64"),
    (
        "a file with a path",
        {"attachments": [FILE | {"filename": "../../etc/passwd", "url": "https://example.com/a"}]},
        "no path",
    ),
    ("two files alike", {"attachments": [FILE | {"content_base64": "aGVsbG8="}] * 2}, "names of files"),
    ("files of 26 MiB", {"attachments": [FILE | {"content_base64": "A" * (26 * 2**20 * 4 // 3 // 4 * 4)}]}, "25 MiB"),
    (
        "a kind of file that is none",
        {"attachments": [FILE | {"content_type": "pdf", "content_base64": "aGVsbG8="}]},
        "content_type",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("body", "words"), [pytest.param(*case[1:], id=case[0]) for case in WHATSAPP])
def test_whatsapp(body: dict[str, Any], words: str | None) -> None:
    check(WhatsAppSend, PHONE | body, words)


@pytest.mark.parametrize(("body", "words"), [pytest.param(*case[1:], id=case[0]) for case in RCS])
def test_rcs(body: dict[str, Any], words: str | None) -> None:
    check(RcsSend, PHONE | body, words)


@pytest.mark.parametrize(("body", "words"), [pytest.param(*case[1:], id=case[0]) for case in VOICE])
def test_voice(body: dict[str, Any], words: str | None) -> None:
    check(VoiceSend, PHONE | body, words)


@pytest.mark.parametrize(("body", "words"), [pytest.param(*case[1:], id=case[0]) for case in EMAIL])
def test_email(body: dict[str, Any], words: str | None) -> None:
    check(EmailSend, MAIL | body, words)


def test_metas_categories_are_ours() -> None:
    names = {"authentication": Category.OTP, "utility": Category.TRANSACTIONAL, "marketing": Category.PROMOTIONAL}
    for name, category in names.items():
        assert WhatsAppSend.model_validate(PHONE | template() | {"category": name}).wanted_category() is category


@pytest.mark.parametrize(
    ("lifetime_s", "retries"), [(30.0, 0), (90.0, 0), (110.0, 1), (175.0, 2), (3_600.0, 2)], ids=str
)
def test_no_call_begins_that_would_read_a_dead_code(lifetime_s: float, retries: int) -> None:
    call = VoiceContent(voice_type="otp", otp_code="482913", max_retries=2, ring_timeout_seconds=30)
    assert useful_retries(call, lifetime_s) == retries
