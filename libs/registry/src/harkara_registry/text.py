"""The text of an SMS: rendered or matched, measured, and searched for links."""

from collections.abc import Mapping
from typing import Final

from harkara_contracts.errors import ErrorCode
from harkara_contracts.events import Content
from harkara_dlt import Kind, Link, LinkKind, Mismatch, RenderError, Template, unlisted_links
from harkara_registry.refusal import Place, refuse
from harkara_registry.registry import Registry
from harkara_sms_text import LoneSurrogateError, Measure, measure, suggest_gsm

MAX_SMS_PARTS: Final = 10
"""Handsets and operators drop longer concatenations; more is nearly always a mistake that would be billed per part."""

_CODE_LIKE_KINDS: Final = frozenset({Kind.NUMERIC, Kind.ALPHANUMERIC})


def text_of(content: Content, compiled: Template) -> str:
    """Return the client's own text, or the template with its variables filled; both must say the same if both are given."""
    message = content.message
    if message is not None and not content.variables:
        return message
    rendered = _rendered(compiled, content.variables)
    if message is None:
        return rendered
    if message.split() != rendered.split():
        character = _first_difference(message, rendered)
        refuse(
            ErrorCode.DLT_TEMPLATE_MISMATCH,
            f"`message` and the template filled with `variables` differ at character {character}. "
            "Send one of the two, or make them equal.",
            Place(character),
        )
    return message


def _rendered(compiled: Template, variables: Mapping[str, object]) -> str:
    try:
        return compiled.render(variables)
    except RenderError as error:
        refuse(ErrorCode.DLT_TEMPLATE_MISMATCH, str(error))


def _first_difference(message: str, rendered: str) -> int:
    pairs = zip(message, rendered, strict=False)
    return 1 + next((i for i, (left, right) in enumerate(pairs) if left != right), min(len(message), len(rendered)))


def check_match(content: Content, compiled: Template, text: str) -> None:
    if content.message is None:
        return  # what was rendered from the template is the template
    outcome = compiled.match(text)
    if isinstance(outcome, Mismatch):
        refuse(
            ErrorCode.DLT_TEMPLATE_MISMATCH,
            f"The text differs from the template at character {outcome.text_position + 1}: there the template has "
            f'"{outcome.expected.strip()}" (its character {outcome.template_position + 1}). '
            "Send the registered text, or `variables` in place of `message`.",
            Place(outcome.text_position + 1, outcome.template_position + 1, outcome.expected.strip()),
        )


def measured_text(text: str, content: Content) -> Measure:
    try:
        measured = measure(text)
    except LoneSurrogateError as error:
        refuse(ErrorCode.INVALID_UNICODE, str(error))
    if content.unicode is False and measured.forcing_characters:
        hint = "; a cheaper spelling of the same text exists in GSM" if suggest_gsm(text) != text else ""
        refuse(
            ErrorCode.INVALID_UNICODE,
            f"The text holds {len(measured.forcing_characters)} different characters outside the GSM alphabet, the first "
            f"is U+{ord(measured.forcing_characters[0]):04X}, but `unicode` is false{hint}. "
            "Replace them, or leave `unicode` out.",
        )
    if measured.parts > MAX_SMS_PARTS:
        refuse(
            ErrorCode.MESSAGE_TOO_LONG,
            f"The text has {measured.units} units and needs {measured.parts} parts of {measured.units_per_part}; "
            f"at most {MAX_SMS_PARTS} parts are sent. Shorten it.",
        )
    return measured


def check_links(registry: Registry, account_id: str, text: str, content: Content, compiled: Template) -> None:
    unlisted = unlisted_links(text, registry.whitelist(account_id))
    if unlisted:
        unlisted = _without_codes(unlisted, text, content, compiled)
    if unlisted:
        link = unlisted[0]
        refuse(
            ErrorCode.URL_NOT_WHITELISTED,
            f"The {_LINK_WORDS[link.kind]} at character {link.start + 1} of the text is not on the account's whitelist. "
            "Add it with POST /v1/urls.",
        )


_LINK_WORDS: Final = {LinkKind.URL: "web address", LinkKind.PHONE: "telephone number", LinkKind.EMAIL: "e-mail address"}


def _without_codes(links: list[Link], text: str, content: Content, compiled: Template) -> list[Link]:
    """Leave out what looks like a telephone number but is the whole value of a variable for numbers and codes.

    An order number of ten digits is not something to call, and its template says so.
    """
    if not any(link.kind is LinkKind.PHONE for link in links):
        return links
    values: Mapping[str, str] = content.variables
    if not values:
        matched = compiled.match(text)
        values = {} if isinstance(matched, Mismatch) else matched.values
    codes = {
        values.get(variable.name, "").strip() for variable in compiled.variables if variable.kind in _CODE_LIKE_KINDS
    }
    return [link for link in links if link.kind is not LinkKind.PHONE or link.text.strip() not in codes]
