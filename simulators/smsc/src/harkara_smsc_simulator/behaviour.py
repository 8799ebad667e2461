"""What the simulated SMSC does to messages; settable for all ESMEs or for one system_id."""

import json
import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal, get_args

from harkara_smpp import CommandStatus, MessageState

IdForm = Literal["decimal", "hex", "hex_then_decimal"]
_ID_FORMS = get_args(IdForm)
_MAX_DELAY_S = 86_400.0
_MAX_STATUS = 0xFFFFFFFF
_MAX_ERROR_LENGTH = 10


class BehaviourError(ValueError):
    """A setting that does not exist or has a value outside its range."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """Fractions are 0 to 1 of submits (of receipts for `receipt_loss` and `receipt_twice`), times are seconds.

    - `response_delay_s`, `response_loss`: the submit_sm_resp comes late, or never although the message was taken
    - `throttle_fraction`; `error_fraction` with `error_status`: refused submits
    - `drop_fraction`: the message is taken and the connection dropped without a response
    - `hangs`: connections are taken, and what comes by them is swallowed and answered by nothing, not even a bind or an
    enquire_link. A connection that hung once stays so: the ESME has to leave it
    - `receipts`, `receipt_delay_s`, `receipt_loss`, `receipt_twice`, `receipt_states` (state name to weight),
    `receipt_error` (the code of the states that are failures), `receipt_tlvs`, `receipt_first` (before the response),
    `receipt_per_part`
    - `id_form`: hex_then_decimal writes an id in hex in the response and in decimal in the receipt
    - `password`: where set, the only one that binds
    """

    response_delay_s: float = 0.0
    response_loss: float = 0.0
    throttle_fraction: float = 0.0
    error_fraction: float = 0.0
    error_status: int = int(CommandStatus.ESME_RSYSERR)
    drop_fraction: float = 0.0
    hangs: bool = False
    receipts: bool = True
    receipt_delay_s: float = 0.0
    receipt_loss: float = 0.0
    receipt_twice: float = 0.0
    receipt_states: Mapping[str, float] = field(default_factory=lambda: {"DELIVRD": 1.0})
    receipt_error: str = "027"
    receipt_tlvs: bool = True
    receipt_first: bool = False
    receipt_per_part: bool = True
    id_form: IdForm = "decimal"
    password: str | None = None

    def __post_init__(self) -> None:
        fractions = ("response_loss", "throttle_fraction", "error_fraction", "drop_fraction")
        for name in (*fractions, "receipt_loss", "receipt_twice"):
            _check(name, 0 <= getattr(self, name) <= 1)
        for name in ("response_delay_s", "receipt_delay_s"):
            _check(name, 0 <= getattr(self, name) <= _MAX_DELAY_S)
        _check("error_status", 0 < self.error_status <= _MAX_STATUS)
        _check("id_form", self.id_form in _ID_FORMS)
        _check("receipt_error", len(self.receipt_error) <= _MAX_ERROR_LENGTH and self.receipt_error.isascii())
        states, weights = self.receipt_states.keys(), self.receipt_states.values()
        _check("receipt_states", bool(states) and states <= MessageState.__members__.keys())
        _check("receipt_states", all(weight >= 0 for weight in weights) and sum(weights) > 0)

    @property
    def is_plain(self) -> bool:
        """Every submit is accepted at once: nothing has to be decided message by message."""
        return not (
            self.response_delay_s
            or self.response_loss
            or self.throttle_fraction
            or self.error_fraction
            or self.drop_fraction
            or self.receipt_first
        )

    def refusal(self) -> int:
        """The command status to refuse a submit with, 0 to take it."""
        if self.throttle_fraction and chance(self.throttle_fraction):
            return CommandStatus.ESME_RTHROTTLED
        if self.error_fraction and chance(self.error_fraction):
            return self.error_status
        return 0

    def receipt_state(self) -> MessageState:
        """One of the states, by weight."""
        if len(self.receipt_states) == 1:
            return MessageState[next(iter(self.receipt_states))]
        (name,) = random.choices(list(self.receipt_states), list(self.receipt_states.values()))  # noqa: S311
        return MessageState[name]

    def changed(self, settings: Mapping[str, Any]) -> "Behaviour":
        """A copy with some settings changed. Raises BehaviourError."""
        known = {one.name: one for one in fields(self)}
        values: dict[str, Any] = {}
        for name, value in settings.items():
            if name not in known:
                raise BehaviourError(f"there is no setting {name}")
            values[name] = _typed(name, value, getattr(self, name))
        return replace(self, **values)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


class Behaviours:
    """The behaviour for all, and the settings in which single system_ids differ from it."""

    def __init__(self, initial: Behaviour) -> None:
        self._initial = initial
        self.for_all = initial
        self.overrides: dict[str, dict[str, Any]] = {}
        self._merged: dict[str, Behaviour] = {}

    def of(self, system_id: str) -> Behaviour:
        return self._merged.get(system_id, self.for_all)

    def change(self, settings: Mapping[str, Any], system_id: str | None = None) -> Behaviour:
        """Change settings, for all or for one system_id; gives what holds now. Raises BehaviourError."""
        if system_id is None:
            changed = self.for_all.changed(settings)
            merged = {name: changed.changed(override) for name, override in self.overrides.items()}
            self.for_all, self._merged = changed, merged
            return changed
        override = {**self.overrides.get(system_id, {}), **settings}
        changed = self.for_all.changed(override)
        self.overrides[system_id], self._merged[system_id] = override, changed
        return changed

    def restore(self) -> None:
        """Back to the behaviour at start."""
        self.for_all = self._initial
        self.overrides.clear()
        self._merged.clear()


def behaviour_from_environment(environment: Mapping[str, str], prefix: str = "HARKARA_SMSC_") -> Behaviour:
    """Settings from variables such as HARKARA_SMSC_RECEIPT_DELAY_S; values in JSON, or plain text for text."""
    settings: dict[str, Any] = {}
    for one in fields(Behaviour):
        text = environment.get(prefix + one.name.upper())
        if text is None:
            continue
        try:
            settings[one.name] = text if one.name in _TEXTS else json.loads(text)
        except ValueError:
            raise BehaviourError(f"{prefix}{one.name.upper()} is no JSON value") from None
    return Behaviour().changed(settings)


_TEXTS = frozenset({"id_form", "password", "receipt_error"})


def _check(name: str, holds: bool) -> None:
    if not holds:
        raise BehaviourError(f"{name} is out of range")


def _typed(name: str, value: Any, present: Any) -> Any:
    """`value` if it is of the setting's kind; an int is a float, but a bool is no number."""
    if name == "password":
        kinds: tuple[type, ...] = (str, type(None))
    elif name == "receipt_states":
        kinds = (dict,)
        if isinstance(value, dict) and not all(type(weight) in (int, float) for weight in value.values()):
            raise BehaviourError("receipt_states must map states to weights")
    elif isinstance(present, float):
        kinds = (float, int)
    else:
        kinds = (type(present),)
    if type(value) not in kinds:
        raise BehaviourError(f"{name} must be {' or '.join(kind.__name__ for kind in kinds)}")
    return value


def chance(fraction: float) -> bool:
    """True in this share of the calls."""
    return random.random() < fraction  # noqa: S311 - a simulation, nothing secret
