"""How the carriers do, for those who run the platform.

A bind that stands says little: an SMSC may hang behind it, or throttle. One carrier of several that takes nothing is a
warning, since messages go by the others; when none takes any, nothing flows.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from harkara_smpp import EsmeState
from harkara_sms_sender.carrier import Carrier

SILENT_S = 5.0
"""From so long without any answer to what was submitted, a carrier takes nothing any more."""

_FULL_PACE = 0.999


class State(StrEnum):
    UP = "up"
    PARTLY = "partly up"
    THROTTLED = "throttled"
    SILENT = "silent"
    DOWN = "down"


_TAKES_NOTHING = frozenset({State.SILENT, State.DOWN})


@dataclass(frozen=True)
class Condition:
    """One carrier now. `since_s`: how long it has had a bind, or none, or (silent) not answered.

    `is_used` is false for those that no real message goes to: the sandbox, and what has no weight.
    """

    name: str
    state: State
    binds_up: int
    binds: int
    outstanding: int
    since_s: float
    reason: str | None
    is_used: bool


def conditions_of(carriers: Iterable[Carrier]) -> list[Condition]:
    return [_condition_of(carrier) for carrier in carriers]


def problem_of(conditions: Sequence[Condition]) -> str | None:
    """Say why no message can be handed over, None while one can."""
    used = [one for one in conditions if one.is_used]
    if not used or any(one.state not in _TAKES_NOTHING for one in used):
        return None
    return f"none takes messages ({'; '.join(_words(one) for one in used)})"


def warnings_of(conditions: Sequence[Condition]) -> list[str]:
    """Name every carrier in use that is not as it should be."""
    return [f"carrier {_words(one)}" for one in conditions if one.is_used and one.state is not State.UP]


def _condition_of(carrier: Carrier) -> Condition:
    settings = carrier.settings
    silences_s = [esme.silent_s for esme in carrier.esmes if esme.state is EsmeState.BOUND]
    state = _state_of(carrier, silences_s)
    return Condition(
        name=carrier.name,
        state=state,
        binds_up=carrier.binds_up,
        binds=settings.binds,
        outstanding=sum(esme.outstanding for esme in carrier.esmes),
        since_s=round(min(silences_s) if state is State.SILENT else carrier.unchanged_s, 1),
        reason=carrier.trouble,
        is_used=settings.weight > 0 and not settings.sandbox,
    )


def _state_of(carrier: Carrier, silences_s: Sequence[float]) -> State:
    if not silences_s:
        return State.DOWN
    if min(silences_s) > SILENT_S:
        return State.SILENT
    if len(silences_s) < len(carrier.esmes) or max(silences_s) > SILENT_S:
        return State.PARTLY
    return State.THROTTLED if min(esme.pace for esme in carrier.esmes) < _FULL_PACE else State.UP


def _words(condition: Condition) -> str:
    since = f" for {condition.since_s:.0f} s" if condition.state in _TAKES_NOTHING else ""
    reason = f": {condition.reason}" if condition.reason else ""
    return f"{condition.name} is {condition.state}{since}{reason}"
