"""A call: a one-time password read digit by digit, an alert, or a menu that is answered with keys."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from harkara_ingress.channels.shape import OneLine, Shape
from harkara_ingress.fields import Whole

LANGUAGES = ("en-IN", "hi-IN", "ta-IN", "te-IN", "kn-IN", "ml-IN", "bn-IN")
MAX_MENU_DEPTH = 4
RETRY_PAUSE_S = 20
"""A busy line is called again no sooner."""
READOUT_S = 15
"""About how long a code takes to be read twice."""

Language = Literal["en-IN", "hi-IN", "ta-IN", "te-IN", "kn-IN", "ml-IN", "bn-IN"]
Key = Annotated[str, Field(pattern=r"^[0-9*#]$")]
Label = Annotated[str, Field(min_length=1, max_length=64), OneLine]


class Branch(Shape):
    """Where a key leads: to its label alone, or on to a further prompt."""

    label: Label
    prompt: Annotated[str, Field(min_length=1, max_length=1_000)] | None = None
    menu: "dict[Key, Branch | Label] | None" = None

    @model_validator(mode="after")
    def _a_menu_is_asked_for(self) -> "Branch":
        if self.menu and not self.prompt:
            raise ValueError("a menu needs the prompt that asks for its keys")
        return self


Menu = Annotated[dict[Key, Branch | Label], Field(min_length=1, max_length=12)]


class VoiceContent(Shape):
    """`otp` reads `otp_code` twice, `alert` says `tts_message`, `ivr` says it and waits for a key of `menu`."""

    voice_type: Literal["otp", "alert", "ivr"]
    otp_code: Annotated[str, Field(pattern=r"^[0-9]{4,8}$")] | None = None
    tts_message: Annotated[str, Field(min_length=1, max_length=2_000)] | None = None
    language: Language = "en-IN"
    max_retries: Annotated[Whole, Field(ge=0, le=3)] = 0
    ring_timeout_seconds: Annotated[Whole, Field(ge=10, le=60)] = 30
    menu: Menu | None = None
    record: bool = False

    @model_validator(mode="after")
    def _has_what_it_says(self) -> "VoiceContent":
        if self.voice_type == "otp" and self.otp_code is None:
            raise ValueError("a call of the type otp needs otp_code, 4 to 8 digits")
        if self.voice_type != "otp" and (self.tts_message is None or self.otp_code is not None):
            raise ValueError(f"a call of the type {self.voice_type} needs tts_message, and has no otp_code")
        if (self.voice_type == "ivr") != (self.menu is not None):
            raise ValueError("a call of the type ivr, and only that, has a menu")
        if _depth(self.menu) > MAX_MENU_DEPTH:
            raise ValueError(f"a menu is at most {MAX_MENU_DEPTH} prompts deep")
        return self


def useful_retries(content: VoiceContent, lifetime_s: float) -> int:
    """Return how often a call may be tried again while what it says is still true.

    A code that would be dead before it is read to its end is not worth a call: of three rings of 30 s, the last may
    come when a code of 90 s has just expired.
    """
    first_s = content.ring_timeout_seconds + READOUT_S
    further_s = first_s + RETRY_PAUSE_S
    fitting = int((lifetime_s - first_s) // further_s) if lifetime_s >= first_s else 0
    return min(content.max_retries, fitting)


def _depth(menu: dict[str, Branch | str] | None) -> int:
    if not menu:
        return 0
    return 1 + max(_depth(branch.menu) if isinstance(branch, Branch) else 0 for branch in menu.values())
