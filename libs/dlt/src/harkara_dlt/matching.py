"""Does a text equal a template, whatever its variables hold? Exact, and linear in the text for any template.

Trying one reading after another (backtracking) is exponential for hostile templates. Here all readings advance
together: the set of text positions at which the rest of the template may begin is one big integer, bit p for position
p. A literal character, a gap of white space and a variable each turn the set before them into the set after them by a
few shifts and masks over the whole text, so the work is (template length) x (text length / 64) machine words. When the
set becomes empty, that is where the text departs from the template; else walking back through the sets gives values.

A regular expression that never backtracks (`fast_pattern`) reads the usual texts many times faster. It commits to the
first reading it finds, so its "yes" is right and its "no" means nothing: then the sets decide.
"""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Final, NamedTuple

from harkara_dlt.variables import KIND_RULES, Kind, Variable

MAX_TEXT_CHARACTERS: Final = 10_000
_MAX_FAST_SLOTS: Final = 40
_QUOTED_CHARACTERS: Final = 20


@dataclass(frozen=True, slots=True)
class Literal:
    """Fixed characters without white space."""

    characters: str
    position: int


@dataclass(frozen=True, slots=True)
class Gap:
    """A run of white space (and, where punctuation does not count, of punctuation)."""

    position: int
    minimum: int = 1
    punctuation: bool = False


@dataclass(frozen=True, slots=True)
class Slot:
    """Neighbouring variables of one kind: their lengths add up, since nothing in a text tells them apart."""

    variables: tuple[Variable, ...]
    kind: Kind
    max_length: int
    position: int


Token = Literal | Gap | Slot


@dataclass(frozen=True, slots=True)
class Match:
    """The text is the template. Of a name used twice the first value is given."""

    values: dict[str, str]


@dataclass(frozen=True, slots=True)
class Mismatch:
    """Where and how the text departs from the template; positions count characters from 0.

    `expected` quotes the template; `found` and `message` quote the text, so they are for its sender and not for a log.
    """

    text_position: int
    template_position: int
    expected: str
    found: str
    message: str


class _Departure(NamedTuple):
    """The token at which no reading went on, the offset in it, and the positions that had been reached."""

    token: int
    offset: int
    positions: int


def fast_pattern(tokens: Sequence[Token]) -> re.Pattern[str] | None:
    """A pattern without backtracking that accepts only matching texts, or None if it would be large.

    Its groups are the slots in order. Whether a value has a character its kind needs is left for the caller to check.
    """
    starts = [number for number, token in enumerate(tokens) if isinstance(token, Slot)]
    if len(starts) > _MAX_FAST_SLOTS:
        return None
    pattern = _fixed_pattern(tokens[: starts[0]] if starts else tokens)
    for start, end in pairwise([*starts, len(tokens)]):
        slot, fixed = tokens[start], tokens[start + 1 : end]
        assert isinstance(slot, Slot)  # noqa: S101 - `starts` lists slots
        rule = KIND_RULES[slot.kind]
        value = f"{rule.allowed}{{{0 if rule.needed is None else 1},{slot.max_length}}}"
        if fixed and _may_hold(slot.kind, fixed[0]):
            # The value stops at the first place where the fixed text fits, and the reading stays there.
            pattern += f"(?>({value}?){_fixed_pattern(fixed)})"
        else:
            pattern += f"({value}+){_fixed_pattern(fixed)}"
    return re.compile(pattern, re.DOTALL)


def values_of(slots: Sequence[Slot], texts: Sequence[str]) -> dict[str, str]:
    """Variable names with their values; the text of a slot fills its variables in order."""
    values: dict[str, str] = {}
    for slot, text in zip(slots, texts, strict=True):
        start = 0
        for variable in slot.variables:
            values.setdefault(variable.name, text[start : start + variable.max_length])
            start += variable.max_length
    return values


def ignoring_punctuation(tokens: Sequence[Token]) -> list[Token]:
    """The same template for texts whose punctuation may differ: between any two characters there may be some."""
    loose: list[Token] = []
    for token in tokens:
        if isinstance(token, Literal):
            for position, character in enumerate(token.characters, start=token.position):
                loose.append(Gap(position, minimum=0, punctuation=True))
                if not _is_punctuation(character):
                    loose.append(Literal(character, position))
            loose.append(Gap(token.position + len(token.characters), minimum=0, punctuation=True))
        elif isinstance(token, Gap):
            loose.append(Gap(token.position, punctuation=True))
        else:
            loose.append(token)
    return loose


def match_by_sets(body: str, tokens: Sequence[Token], text: str) -> Match | Mismatch:
    """The exact answer. White space at either end of the text does not count."""
    if len(text) > MAX_TEXT_CHARACTERS:
        message = f"The text has {len(text)} characters; at most {MAX_TEXT_CHARACTERS} are compared with a template."
        return Mismatch(MAX_TEXT_CHARACTERS, len(body), "the end of the text", "", message)
    index = _TextIndex(text)
    sets = _advance(tokens, index)
    if isinstance(sets, _Departure):
        return _explain(body, tokens, text, sets)
    slots = [token for token in tokens if isinstance(token, Slot)]
    return Match(values_of(slots, _walk_back(tokens, index, sets)))


class _TextIndex:
    """Where each character, and each class of characters, stands in a text, as sets of positions."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.everywhere = (1 << len(text)) - 1
        positions: defaultdict[str, int] = defaultdict(int)
        bit = 1
        for character in text:
            positions[character] |= bit
            bit <<= 1
        self._positions = dict(positions)
        self._characters = "".join(positions)
        self._strides: dict[tuple[Kind, int], list[tuple[int, int, int]]] = {}
        self._white_space = self.of_class(r"\s")
        self._punctuation: int | None = None
        first, last = len(text) - len(text.lstrip()), len(text.rstrip())
        self.starts = (1 << (first + 1)) - 1
        self.ends = (2 << len(text)) - (1 << last)

    def of(self, character: str) -> int:
        return self._positions.get(character, 0)

    def of_class(self, pattern: str) -> int:
        return self._union(_compiled(pattern).findall(self._characters))

    def of_gap(self, gap: Gap) -> int:
        """Positions of the characters that a gap may hold."""
        if not gap.punctuation:
            return self._white_space
        if self._punctuation is None:
            self._punctuation = self._union(filter(_is_punctuation, self._characters))
        return self._punctuation | self._white_space if gap.minimum else self._punctuation

    def needed(self, kind: Kind) -> int:
        """Positions of the characters of which a value of `kind` has at least one."""
        pattern = KIND_RULES[kind].needed
        return self.everywhere if pattern is None else self.of_class(pattern)

    def strides(self, kind: Kind, max_length: int) -> list[tuple[int, int, int]]:
        """Steps whose sums are all lengths up to `max_length`.

        Each is (length, positions from which that many characters are allowed, positions from which that many are
        allowed and not one is a needed one).
        """
        key = (kind, max_length)
        if key not in self._strides:
            allowed = self.everywhere if kind is Kind.VAR else self.of_class(KIND_RULES[kind].allowed)
            bare = allowed & ~self.needed(kind)
            self._strides[key] = [
                (length, _runs(allowed, length), _runs(bare, length)) for length in _stride_lengths(max_length)
            ]
        return self._strides[key]

    def _union(self, characters: Iterable[str]) -> int:
        union = 0
        for character in characters:
            union |= self._positions[character]
        return union


def _advance(tokens: Sequence[Token], index: _TextIndex) -> list[int] | _Departure:
    """The sets of positions before each token and after the last, or where they ran out."""
    positions = index.starts
    sets = [positions]
    for number, token in enumerate(tokens):
        if isinstance(token, Literal):
            for offset, character in enumerate(token.characters):
                after = (positions & index.of(character)) << 1
                if not after:
                    return _Departure(number, offset, positions)
                positions = after
        else:
            after = (
                _after_gap(positions, token, index) if isinstance(token, Gap) else _after_slot(positions, token, index)
            )
            if not after:
                return _Departure(number, 0, positions)
            positions = after
        sets.append(positions)
    if not positions & index.ends:
        return _Departure(len(tokens), 0, positions)
    sets[-1] &= index.ends
    return sets


def _after_gap(positions: int, gap: Gap, index: _TextIndex) -> int:
    characters = index.of_gap(gap)
    if gap.minimum:
        positions = (positions & characters) << 1
    # Adding lets a carry run from each position through the run of characters it stands in (as in Myers' algorithm).
    return positions | (((positions & characters) + characters) ^ characters)


def _after_slot(positions: int, slot: Slot, index: _TextIndex) -> int:
    # `bare`: ends of values that hold no needed character yet; `complete`: ends of values that do, or need none.
    bare, complete = (0, positions) if KIND_RULES[slot.kind].needed is None else (positions, 0)
    for length, allowed_run, bare_run in index.strides(slot.kind, slot.max_length):
        complete |= ((complete & allowed_run) | (bare & allowed_run & ~bare_run)) << length
        bare |= (bare & bare_run) << length
    return complete


def _walk_back(tokens: Sequence[Token], index: _TextIndex, sets: Sequence[int]) -> list[str]:
    """The slots' texts in one reading. Each token begins as late as the sets allow.

    That a way leads from there to the token's end needs no check: a way leads from an earlier place through it.
    """
    texts: list[str] = []
    end = _lowest(sets[-1])
    for token, before in zip(reversed(tokens), reversed(sets[:-1]), strict=True):
        if isinstance(token, Literal):
            end -= len(token.characters)
        elif isinstance(token, Gap):
            end = _highest_up_to(before, end - token.minimum)
        else:
            needs = KIND_RULES[token.kind].needed is not None
            start = _highest_up_to(before, _highest_up_to(index.needed(token.kind), end - 1) if needs else end)
            texts.append(index.text[start:end])
            end = start
    texts.reverse()
    return texts


def _explain(body: str, tokens: Sequence[Token], text: str, departure: _Departure) -> Mismatch:
    """Says where the reading that came furthest in the template stopped."""
    previous = tokens[departure.token - 1] if departure.token and not departure.offset else None
    if departure.token == len(tokens):
        position = _highest(departure.positions)
        found = _quote(text, position)
        message = f'The template ends before character {position + 1} of the text, which goes on with "{found}".'
        return Mismatch(position, len(body), "the end of the text", found, message)
    token = tokens[departure.token]
    if isinstance(token, Slot):
        position = _lowest(departure.positions)
        found, expected = _quote(text, position), KIND_RULES[token.kind].description
        message = (
            f"At character {position + 1} the variable {token.variables[0].name} must be {expected}; {_found(found)}."
        )
        return Mismatch(position, token.position, expected, found, message)
    template_position = token.position + departure.offset
    expected = _quote(body[: _end_of_fixed(tokens, departure.token, body)], template_position)
    if isinstance(previous, Slot):
        return _explain_after_slot(previous, template_position, expected, text, departure.positions)
    position = _lowest(departure.positions)
    found = _quote(text, position)
    what = f'has "{found}"' if found else "ends"
    message = (
        f'At character {position + 1} the text {what} where the template has "{expected}" '
        f"(character {template_position + 1})."
    )
    return Mismatch(position, template_position, expected, found, message)


def _explain_after_slot(slot: Slot, template_position: int, expected: str, text: str, positions: int) -> Mismatch:
    name = slot.variables[-1].name
    # A free variable may end anywhere, so the fault is told from its beginning; a typed one from where its type ends.
    position = _lowest(positions) if slot.kind is Kind.VAR else _highest(positions)
    found = _quote(text, position)
    if len(text) - position > slot.max_length and text.find(expected, position + slot.max_length) >= 0:
        message = (
            f"The variable {name} is longer than its {slot.max_length} characters, "
            f"or the text after it is not the template's; {_found(found)} from character {position + 1} on."
        )
    else:
        message = (
            f'After the variable {name} the template has "{expected}" (character {template_position + 1}), '
            f"which does not follow; {_found(found)} from character {position + 1} on."
        )
    return Mismatch(position, template_position, expected, found, message)


def _end_of_fixed(tokens: Sequence[Token], number: int, body: str) -> int:
    """Index in the body of the first variable after a token."""
    return next((token.position for token in tokens[number:] if isinstance(token, Slot)), len(body))


def _fixed_pattern(tokens: Sequence[Token]) -> str:
    return "".join(re.escape(token.characters) if isinstance(token, Literal) else r"\s++" for token in tokens)


def _may_hold(kind: Kind, token: Token) -> bool:
    """Whether a value of `kind` could hold the beginning of the fixed text after it."""
    first = token.characters[0] if isinstance(token, Literal) else " "
    return _compiled(KIND_RULES[kind].allowed).match(first) is not None


def _quote(text: str, position: int) -> str:
    return text[position : position + _QUOTED_CHARACTERS]


def _found(text: str) -> str:
    return f'found "{text}"' if text else "found nothing"


def _stride_lengths(max_length: int) -> list[int]:
    """1, 2, 4 … and a rest: numbers whose partial sums are all of 0..max_length."""
    lengths: list[int] = []
    while max_length:
        lengths.append(min(2 ** len(lengths), max_length))
        max_length -= lengths[-1]
    return lengths


def _runs(positions: int, length: int) -> int:
    """Positions from which `length` successive positions are all in the set."""
    covered = 1
    while covered < length:
        step = min(covered, length - covered)
        positions &= positions >> step
        covered += step
    return positions


def _lowest(positions: int) -> int:
    return (positions & -positions).bit_length() - 1


def _highest(positions: int) -> int:
    return positions.bit_length() - 1


def _highest_up_to(positions: int, limit: int) -> int:
    return _highest(positions & ((2 << limit) - 1))


def _is_punctuation(character: str) -> bool:
    return unicodedata.category(character)[0] in "PS"


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.DOTALL)
