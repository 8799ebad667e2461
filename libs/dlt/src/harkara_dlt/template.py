"""Message templates as registered on DLT: fixed text with typed variables.

A body is compiled once into tokens (literals, gaps of white space, slots) and kept; rendering joins pieces, matching is
explained in `matching`. Letters, digits and punctuation must be equal; a run of white space equals any other run, since
line ends and double spaces do not survive the way to an operator unchanged.

A value longer than its limit is registered as several variables side by side. Such neighbours of one kind form one slot
with the sum of their lengths: a client may cut the value where it likes, or give it all to the first and the empty text
to the others.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from harkara_dlt.matching import (
    MAX_TEXT_CHARACTERS,
    Gap,
    Literal,
    Match,
    Mismatch,
    Slot,
    Token,
    fast_pattern,
    ignoring_punctuation,
    match_by_sets,
    values_of,
)
from harkara_dlt.variables import (
    KIND_RULES,
    TYPED_MAX_LENGTH,
    VAR_MAX_LENGTH,
    Kind,
    Variable,
    fits,
    kind_of_tag,
    text_of,
)

MAX_BODY_CHARACTERS: Final = 10_000

TAG: Final = re.compile(r"\{#([^{}#]*)#\}")
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")
_FIXED: Final = re.compile(r"(\s+)|\S+")
_KNOWN_TAGS: Final = ", ".join(f"{{#{kind}#}}" for kind in Kind)


class TemplateError(ValueError):
    """A body that is no template. `position` is an index in the body."""

    def __init__(self, position: int, message: str) -> None:
        super().__init__(message)
        self.position = position


class RenderError(ValueError):
    """The variables do not fill the template. Names the variable and never quotes its value."""

    def __init__(self, variable: str, reason: str) -> None:
        super().__init__(f"Variable {variable}: {reason}")
        self.variable = variable
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Template:
    """A compiled template; immutable, safe to share. Made by `compile_template`."""

    body: str
    variables: tuple[Variable, ...]
    _tokens: tuple[Token, ...] = field(repr=False, compare=False)
    _segments: tuple[tuple[str, Slot], ...] = field(repr=False, compare=False)
    """Each slot with the fixed text before it."""
    _tail: str = field(repr=False, compare=False)
    _names: frozenset[str] = field(repr=False, compare=False)
    _fast: re.Pattern[str] | None = field(repr=False, compare=False)
    _slots: tuple[Slot, ...] = field(repr=False, compare=False)
    _unproven: tuple[tuple[int, Kind], ...] = field(repr=False, compare=False)
    """Slots, by number, whose kind asks for more than the fast pattern proves."""

    def render(self, variables: Mapping[str, object]) -> str:
        """The text with the variables filled in. Values are text or numbers.

        Raises:
            RenderError: a variable is missing, unknown, of the wrong type or too long.
        """
        if not variables.keys() <= self._names:
            raise self._unknown(variables)
        pieces: list[str] = []
        for fixed, slot in self._segments:
            pieces.append(fixed)
            pieces.append(_fill(slot, variables))
        pieces.append(self._tail)
        return "".join(pieces)

    def match(self, text: str, *, ignore_punctuation: bool = False) -> Match | Mismatch:
        """Whether `text` is this template with its variables filled.

        White space at either end of the text is passed over.

        Args:
            text: any text; beyond 10,000 characters it is a mismatch.
            ignore_punctuation: compare letters, digits and white space only, as some operators do.
        """
        if ignore_punctuation:
            return match_by_sets(self.body, ignoring_punctuation(self._tokens), text)
        if self._fast is not None and len(text) <= MAX_TEXT_CHARACTERS:
            found = self._fast.fullmatch(text.strip())
            if found is not None:
                values = found.groups()
                if all(fits(kind, values[number]) for number, kind in self._unproven):
                    return Match(values_of(self._slots, values))
        return match_by_sets(self.body, self._tokens, text)

    def _unknown(self, variables: Mapping[str, object]) -> RenderError:
        name = min(variables.keys() - self._names)
        known = ", ".join(dict.fromkeys(variable.name for variable in self.variables)) or "none"
        return RenderError(str(name)[:64], f"the template has no such variable. Its variables are: {known}.")


def compile_template(
    body: str,
    names: Sequence[str] | None = None,
    *,
    kinds: Sequence[Kind | str | None] | None = None,
    var_length: int = VAR_MAX_LENGTH,
    typed_length: int = TYPED_MAX_LENGTH,
) -> Template:
    """Compiles a body such as `Your code is {#numeric:otp#}. - {#var#}`.

    Args:
        body: fixed text with tags; tags are case sensitive.
        names: names of the tags that name none, in order. Missing ones are var1, var2 … by their place in the body.
        kinds: for portals that declare kinds beside the body: what each `{#var#}` is, by its place among all variables;
            None leaves it as written.
        var_length: characters that one `{#var#}` may hold.
        typed_length: characters that one variable of any other kind may hold.

    Raises:
        TemplateError: unknown or unclosed tag, wrong name, more names or kinds than variables, empty or endless body.
    """
    if not body.strip():
        raise TemplateError(0, "The template is empty.")
    if len(body) > MAX_BODY_CHARACTERS:
        raise TemplateError(MAX_BODY_CHARACTERS, f"A template has at most {MAX_BODY_CHARACTERS} characters.")
    variables = _read_variables(body, names or (), kinds or (), var_length, typed_length)
    segments, tail = _read_segments(body, variables)
    tokens: list[Token] = []
    for fixed, slot in segments:
        tokens.extend(_read_fixed(fixed, slot.position - len(fixed)))
        tokens.append(slot)
    tokens.extend(_read_fixed(tail, len(body) - len(tail)))
    # White space at the ends of a text does not count, so at the ends of a template it may not be asked for.
    if isinstance(tokens[0], Gap):
        del tokens[0]
    if isinstance(tokens[-1], Gap):
        del tokens[-1]
    slots = tuple(slot for _, slot in segments)
    return Template(
        body=body,
        variables=tuple(variables),
        _tokens=tuple(tokens),
        _segments=tuple(segments),
        _tail=tail,
        _names=frozenset(variable.name for variable in variables),
        _fast=fast_pattern(tokens),
        _slots=slots,
        _unproven=tuple(
            (number, slot.kind) for number, slot in enumerate(slots) if slot.kind not in {Kind.VAR, Kind.NUMERIC}
        ),
    )


def _read_variables(
    body: str, names: Sequence[str], kinds: Sequence[Kind | str | None], var_length: int, typed_length: int
) -> list[Variable]:
    tags = list(TAG.finditer(body))
    if len(kinds) > len(tags):
        raise TemplateError(0, f"The template has {len(tags)} variables, but {len(kinds)} kinds were given.")
    unnamed = iter(names)
    variables: list[Variable] = []
    for number, tag in enumerate(tags, start=1):
        tag_name, colon, own_name = tag[1].partition(":")
        kind = kind_of_tag(tag_name)
        if kind is None:
            raise TemplateError(
                tag.start(), f"{{#{tag[1][:40]}#}} is not a known variable; write one of {_KNOWN_TAGS}."
            )
        if kind is Kind.VAR and len(kinds) >= number:
            kind = _declared_kind(kinds[number - 1])
        name = own_name if colon else next(unnamed, f"var{number}")
        if not _NAME.fullmatch(name):
            raise TemplateError(
                tag.start(),
                f"The name of variable {number} must begin with a letter and hold up to 64 letters, digits, _ . or -.",
            )
        length = var_length if kind is Kind.VAR else typed_length
        variables.append(Variable(name, kind, length, tag.start()))
    if next(unnamed, None) is not None:
        raise TemplateError(0, f"{len(names)} names were given, more than the template has variables without a name.")
    return variables


def _declared_kind(kind: Kind | str | None) -> Kind:
    known = Kind.VAR if kind is None else kind_of_tag(kind)
    if known is None:
        raise TemplateError(0, f"'{str(kind)[:40]}' is not a known kind of variable; use one of {', '.join(Kind)}.")
    return known


def _read_segments(body: str, variables: Sequence[Variable]) -> tuple[list[tuple[str, Slot]], str]:
    """Slots with the fixed text before each, and the fixed text after the last."""
    segments: list[tuple[str, Slot]] = []
    fixed_start = 0
    for tag, variable in zip(TAG.finditer(body), variables, strict=True):
        fixed = body[fixed_start : tag.start()]
        fixed_start = tag.end()
        if segments and not fixed and segments[-1][1].kind is variable.kind:
            before, slot = segments[-1]
            slot = replace(
                slot, variables=(*slot.variables, variable), max_length=slot.max_length + variable.max_length
            )
            segments[-1] = (before, slot)
        else:
            segments.append((fixed, Slot((variable,), variable.kind, variable.max_length, variable.position)))
    return segments, body[fixed_start:]


def _read_fixed(fixed: str, position: int) -> list[Token]:
    for mark in ("{#", "#}"):
        if mark in fixed:
            raise TemplateError(
                position + fixed.index(mark), f"'{mark}' without its partner: a variable is written {{#var#}}."
            )
    return [
        Gap(position + piece.start()) if piece[1] else Literal(piece[0], position + piece.start())
        for piece in _FIXED.finditer(fixed)
    ]


def _fill(slot: Slot, variables: Mapping[str, object]) -> str:
    first = slot.variables[0]
    if len(slot.variables) == 1:
        text = _text(first, variables)
    else:
        text = "".join([_text(variable, variables) for variable in slot.variables])
    if len(text) > slot.max_length:
        raise RenderError(
            first.name,
            f"{len(text)} characters are too long; at most {slot.max_length} fit. Shorten the value, "
            "or register the template with several variables side by side.",
        )
    if slot.kind is not Kind.VAR and not fits(slot.kind, text):
        what = "is empty; it" if not text else "is of the wrong type: it"
        raise RenderError(first.name, f"the value {what} must be {KIND_RULES[slot.kind].description}.")
    return text


def _text(variable: Variable, variables: Mapping[str, object]) -> str:
    try:
        value = variables[variable.name]
    except KeyError:
        value = None
    if value is None:
        raise RenderError(variable.name, f"it is missing; give it {KIND_RULES[variable.kind].description}.")
    text = text_of(value)
    if text is None:
        raise RenderError(variable.name, f"a value must be text or a number, not {type(value).__name__}.")
    return text
