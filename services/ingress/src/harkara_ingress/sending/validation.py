"""What a send would come to, told without sending it."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict

from harkara_chassis.clock import now_utc
from harkara_contracts.errors import ErrorCode, HarkaraError
from harkara_ingress.access.accounts import Caller
from harkara_ingress.http.common import Paise, paise
from harkara_ingress.sending.acceptance import Acceptance, Checked, RefusedSendError
from harkara_ingress.sending.request import AnySend
from harkara_registry import Place, earliest_departure
from harkara_sms_text import LoneSurrogateError, measure, suggest_gsm

_SCHEDULED = "scheduled"
_WINDOW = "promotional_window"


class GsmAlternative(BaseModel):
    """The same text in GSM letters: what only its typography makes Unicode, such as curly quotes, is spelt plainly."""

    text: str
    parts: int
    price_paise: Paise | None


class Mismatch(BaseModel):
    """Where the text leaves its template, in characters from 1; `expected` is the template's own text there."""

    text_character: int
    template_character: int | None
    expected: str | None


_EXAMPLE: dict[str, Any] = {
    "status": "ok",
    "valid": True,
    "channel": "sms",
    "category": "transactional",
    "test_mode": False,
    "text": "Paid ₹500. - Harkara",
    "encoding": "ucs2",
    "parts": 1,
    "units": 20,
    "units_per_part": 70,
    "forcing_characters": ["U+20B9"],
    "gsm_alternative_exists": True,
    "gsm_alternative": {"text": "Paid Rs500. - Harkara", "parts": 1, "price_paise": 22},
    "price_paise": 22,
    "balance_sufficient": True,
    "departs_at": "2026-11-22T10:44:56.202Z",
    "deferred_reason": None,
    "error_code": None,
    "error_message": None,
    "mismatch": None,
}


class Verdict(BaseModel):
    """What a send would come to.

    `encoding`, `parts`, `units` and what follows are of the text as it would leave; of `message` where that may not leave.
    `forcing_characters` are those outside the GSM alphabet (U+20B9, the rupee sign, is one): each makes the whole text
    Unicode, 70 characters a part in place of 160. `price_paise` is null where the price is not known here, and nothing in
    test mode. `departs_at` is when the message would leave: later than now by its schedule or, for promotion, by the hours
    from 10:00 to 21:00 IST, and then `deferred_reason` says which.
    """

    model_config = ConfigDict(json_schema_extra={"example": _EXAMPLE})

    status: str = "ok"
    valid: bool
    channel: str | None = None
    category: str | None = None
    test_mode: bool | None = None
    text: str | None = None
    encoding: str | None = None
    parts: int | None = None
    units: int | None = None
    units_per_part: int | None = None
    forcing_characters: list[str] = []
    gsm_alternative_exists: bool | None = None
    gsm_alternative: GsmAlternative | None = None
    price_paise: Paise | None = None
    balance_sufficient: bool | None = None
    departs_at: datetime | None = None
    deferred_reason: str | None = None
    error_code: str | None = None
    error_message: str | None = None
    mismatch: Mismatch | None = None


def verdict_on(acceptance: Acceptance, caller: Caller, wanted: AnySend) -> Verdict:
    """Judge a send as it would be judged now; what speaks against it is in the verdict."""
    now = now_utc()
    try:
        checked = acceptance.check(caller, wanted, now)
    except HarkaraError as error:
        return _refused(error, wanted)
    verdict = Verdict(
        valid=acceptance.can_pay(caller, checked),
        channel=wanted.wanted_channels()[0].value,
        category=checked.category.value,
        test_mode=checked.test_mode,
    )
    verdict.balance_sufficient = verdict.valid
    verdict.price_paise = _price(checked)
    _tell_departure(verdict, checked, now)
    if checked.sms is not None:
        _tell_text(
            verdict, checked.sms.text, None if checked.price_mp is None else checked.price_mp // checked.sms.parts
        )
    if not verdict.valid:
        verdict.error_code = ErrorCode.INSUFFICIENT_CREDITS.value
        verdict.error_message = "The balance does not cover this message. Top up the account."
    return verdict


def _refused(error: HarkaraError, wanted: AnySend) -> Verdict:
    verdict = Verdict(valid=False, error_code=error.code.value, error_message=error.message)
    if isinstance(error, RefusedSendError):
        verdict.mismatch = _mismatch(error.refused.place)
    if wanted.message is not None:
        _tell_text(verdict, wanted.message, None)
    return verdict


def _mismatch(place: Place | None) -> Mismatch | None:
    if place is None:
        return None
    return Mismatch(
        text_character=place.text_character,
        template_character=place.template_character,
        expected=place.expected,
    )


def _price(checked: Checked) -> Paise | None:
    if checked.test_mode:
        return 0
    return None if checked.price_mp is None else paise(checked.price_mp)


def _tell_departure(verdict: Verdict, checked: Checked, now: datetime) -> None:
    asked = checked.send_at or now
    verdict.departs_at = earliest_departure(checked.category, checked.send_at, now)
    if verdict.departs_at > asked:
        verdict.deferred_reason = _WINDOW
    elif verdict.departs_at > now:
        verdict.deferred_reason = _SCHEDULED


def _tell_text(verdict: Verdict, text: str, part_price_mp: int | None) -> None:
    try:
        measured = measure(text)
    except LoneSurrogateError:
        return  # no encoding has it
    verdict.text = text
    verdict.encoding = measured.encoding.value
    verdict.parts = measured.parts
    verdict.units = measured.units
    verdict.units_per_part = measured.units_per_part
    verdict.forcing_characters = [f"U+{ord(character):04X}" for character in measured.forcing_characters]
    alternative = suggest_gsm(text)
    verdict.gsm_alternative_exists = alternative != text
    if verdict.gsm_alternative_exists:
        parts = measure(alternative).parts
        price_mp = None if part_price_mp is None else part_price_mp * parts
        price = 0 if verdict.test_mode else None if price_mp is None else paise(price_mp)
        verdict.gsm_alternative = GsmAlternative(text=alternative, parts=parts, price_paise=price)
