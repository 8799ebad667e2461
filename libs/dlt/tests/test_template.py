"""Templates: the table of cases, and properties against a matcher that tries every reading."""

import tomllib
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from harkara_dlt import Kind, Match, Mismatch, RenderError, Template, TemplateError, compile_template
from harkara_dlt import matching as matching_module

CASES = tomllib.loads(Path(__file__).with_name("match_cases.toml").read_text(encoding="utf-8"))["case"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_cases(case: dict[str, Any]) -> None:
    template = compile_template(case["body"], case.get("names"))
    result = template.match(case["text"], ignore_punctuation=case.get("ignore_punctuation", False))
    if "values" in case:
        assert result == Match(case["values"])
        return
    assert isinstance(result, Mismatch)
    departs = {
        "text": result.text_position,
        "template": result.template_position,
        "expected": result.expected,
        "found": result.found,
    }
    assert departs == case["departs"]
    assert result.message.endswith(".")
    assert str(result.text_position + 1) in result.message


# --- rendering -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"), [("482913", "482913"), (482913, "482913"), (Decimal(12), "12"), ("007", "007")]
)
def test_text_and_numbers_are_rendered(value: object, text: str) -> None:
    assert compile_template("Code {#num:otp#}.").render({"otp": value}) == f"Code {text}."


@pytest.mark.parametrize(
    ("body", "variables", "variable", "reason"),
    [
        ("Code {#num:otp#}", {}, "otp", "missing"),
        ("Code {#num:otp#}", {"otp": None}, "otp", "missing"),
        ("Code {#num:otp#}", {"otp": "1", "opt": "1"}, "opt", "no such variable. Its variables are: otp."),
        ("Plain", {"otp": "1"}, "otp", "Its variables are: none."),
        ("Code {#num:otp#}", {"otp": "12a4"}, "otp", "wrong type: it must be digits only"),
        ("Code {#num:otp#}", {"otp": "१२"}, "otp", "digits only"),
        ("Code {#num:otp#}", {"otp": ""}, "otp", "empty; it must be digits only"),
        ("Code {#num:otp#}", {"otp": True}, "otp", "text or a number, not bool"),
        ("Code {#var:otp#}", {"otp": ["1"]}, "otp", "text or a number, not list"),
        ("Code {#var:otp#}", {"otp": 1e30}, "otp", "text or a number, not float"),
        ("Hi {#var:n#}", {"n": "x" * 31}, "n", "31 characters are too long; at most 30"),
        ("Hi {#str:n#}", {"n": "x" * 41}, "n", "41 characters are too long; at most 40"),
        ("Hi {#str:n#}", {"n": "a\nb"}, "n", "text on one line"),
        ("Hi {#alphanumeric:n#}", {"n": "https://evil.in"}, "n", "letters, digits and spaces"),
        ("Hi {#alphanumeric:n#}", {"n": "--"}, "n", "letters, digits and spaces"),
        ("Go {#url:l#}", {"l": "not an address"}, "l", "web address"),
        ("Mail {#email:m#}", {"m": "nobody"}, "m", "e-mail"),
        ("Call {#cbn:c#}", {"c": "call me"}, "c", "telephone"),
        ("Paid {#amount:a#}", {"a": "much"}, "a", "amount"),
    ],
)
def test_what_does_not_fill_a_template_is_refused(
    body: str, variables: dict[str, object], variable: str, reason: str
) -> None:
    with pytest.raises(RenderError) as caught:
        compile_template(body).render(variables)
    assert caught.value.variable == variable
    assert reason in caught.value.reason
    assert variable in str(caught.value)


def test_a_refusal_never_quotes_the_value() -> None:
    with pytest.raises(RenderError) as caught:
        compile_template("Code {#num:otp#}").render({"otp": "48x2913"})
    assert "48x2913" not in str(caught.value)
    assert caught.value.__context__ is None


def test_neighbours_share_their_lengths() -> None:
    template = compile_template("Go {#url:a#}{#url:b#}!")
    address = "https://example.in/" + "x" * 61
    assert template.render({"a": address, "b": ""}) == f"Go {address}!"
    assert template.match(f"Go {address}!") == Match({"a": address[:40], "b": address[40:]})
    with pytest.raises(RenderError, match="at most 80"):
        template.render({"a": address, "b": "x"})


def test_lengths_can_be_set() -> None:
    template = compile_template("{#var:a#} {#num:b#}", var_length=2, typed_length=3)
    assert template.render({"a": "xy", "b": 123}) == "xy 123"
    with pytest.raises(RenderError, match="at most 2"):
        template.render({"a": "xyz", "b": 123})
    assert isinstance(template.match("xy 1234"), Mismatch)


# --- compiling -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tag", "kind", "trai_tag"),
    [
        ("var", Kind.VAR, "var"),
        ("numeric", Kind.NUMERIC, "numeric"),
        ("number", Kind.NUMERIC, "numeric"),
        ("num", Kind.NUMERIC, "numeric"),
        ("alphanumeric", Kind.ALPHANUMERIC, "alphanumeric"),
        ("str", Kind.STR, "alphanumeric"),
        ("date", Kind.DATE, "alphanumeric"),
        ("amount", Kind.AMOUNT, "alphanumeric"),
        ("url", Kind.URL, "url"),
        ("urlott", Kind.URLOTT, "urlott"),
        ("cbn", Kind.CBN, "cbn"),
        ("email", Kind.EMAIL, "email"),
    ],
)
def test_tags(tag: str, kind: Kind, trai_tag: str) -> None:
    (variable,) = compile_template(f"Hello {{#{tag}#}}").variables
    assert (variable.name, variable.kind, variable.position) == ("var1", kind, 6)
    assert variable.max_length == (30 if kind is Kind.VAR else 40)
    assert variable.kind.trai_tag == trai_tag


def test_kinds_may_be_declared_beside_the_body() -> None:
    template = compile_template("{#var#} {#var#} {#url#}", ["otp", "who", "link"], kinds=["numeric", None, "email"])
    assert [variable.kind for variable in template.variables] == [Kind.NUMERIC, Kind.VAR, Kind.URL]


@pytest.mark.parametrize(
    ("body", "names", "kinds", "position", "reason"),
    [
        ("", None, None, 0, "empty"),
        (" \n", None, None, 0, "empty"),
        ("x" * 10_001, None, None, 10_000, "at most 10000"),
        ("Hi {#VAR#}", None, None, 3, "{#VAR#} is not a known variable"),
        ("Hi {#name#}", None, None, 3, "{#name#} is not a known variable"),
        ("Hi {##}", None, None, 3, "not a known variable"),
        ("Hi {#var", None, None, 3, "without its partner"),
        ("{#var#} #} {#var#}", None, None, 8, "without its partner"),
        ("Hi {#var:#}", None, None, 3, "name of variable 1"),
        ("Hi {#var:a b#}", None, None, 3, "name of variable 1"),
        ("Hi {#var#}", ["a", "b"], None, 0, "2 names"),
        ("Hi {#var:x#}", ["a"], None, 0, "1 names"),
        ("Hi {#var#}", None, ["num", "num"], 0, "2 kinds"),
        ("Hi {#var#}", None, ["digits"], 0, "'digits' is not a known kind"),
    ],
)
def test_what_is_no_template_is_refused(
    body: str, names: list[str] | None, kinds: list[str] | None, position: int, reason: str
) -> None:
    with pytest.raises(TemplateError) as caught:
        compile_template(body, names, kinds=kinds)
    assert caught.value.position == position
    assert reason in str(caught.value)


def test_a_text_beyond_all_bounds_is_a_mismatch() -> None:
    result = compile_template("{#num#}" * 300).match("1" * 10_001)
    assert isinstance(result, Mismatch)
    assert "10001 characters" in result.message


# --- properties ------------------------------------------------------------------------------------------------------

VALUES: dict[str, st.SearchStrategy[str]] = {
    "var": st.text(st.characters(exclude_categories=["Cs"]), max_size=30),
    "num": st.text("0123456789", min_size=1, max_size=40),
    "str": st.text("aé 1-:./@नमस्ते", max_size=39).map(lambda text: text + "a"),
    "alphanumeric": st.text("ab 1-/.ते", max_size=39).map(lambda text: "1" + text),
    "date": st.text("0123456789/- :.", max_size=39).map(lambda text: text + "5"),
    "amount": st.text("0123456789,.", max_size=39).map(lambda text: "1" + text),
    "url": st.text("ab./:?=", min_size=0, max_size=39).map(lambda text: text + "."),
    "cbn": st.text("0123456789 -+()", max_size=39).map(lambda text: text + "0"),
    "email": st.text("ab.@", max_size=39).map(lambda text: "@" + text),
}
fixed_texts = st.text("ab 1.,-:@/é\nते", max_size=12)


@st.composite
def filled_templates(draw: st.DrawFn) -> tuple[Template, dict[str, str]]:
    body = draw(fixed_texts)
    values = {}
    for number in range(draw(st.integers(0, 6))):
        tag = draw(st.sampled_from(sorted(VALUES)))
        values[f"v{number}"] = draw(VALUES[tag])
        body += f"{{#{tag}:v{number}#}}" + draw(fixed_texts)
    assume(body.strip())
    return compile_template(body), values


@given(filled_templates(), st.booleans())
@settings(max_examples=400)
def test_a_rendered_text_always_matches(filled: tuple[Template, dict[str, str]], ignore_punctuation: bool) -> None:
    template, values = filled
    text = template.render(values)
    result = template.match(text, ignore_punctuation=ignore_punctuation)
    assert isinstance(result, Match)
    assert result.values.keys() == values.keys()
    if not ignore_punctuation and text == text.strip():
        # What was found fills the template to the same text, white space between the words apart.
        assert template.render(result.values).split() == text.split()


@given(
    st.lists(
        st.tuples(st.text("abcdefgh ,.", min_size=1, max_size=10), st.integers(0, 10**12)), min_size=1, max_size=5
    ),
    st.data(),
)
@settings(max_examples=200)
def test_a_changed_fixed_letter_never_matches(pieces: list[tuple[str, int]], data: st.DataObject) -> None:
    template = compile_template("".join(f"{fixed}{{#num:v{n}#}}" for n, (fixed, _) in enumerate(pieces)))
    text = template.render({f"v{n}": value for n, (_, value) in enumerate(pieces)})
    letters = [place for place, character in enumerate(text) if character.isalpha()]
    assume(letters)
    place = data.draw(st.sampled_from(letters))
    other = data.draw(st.sampled_from("abcdefghXé5.").filter(lambda character: character != text[place]))
    for ignore_punctuation in (False, True):
        assert isinstance(
            template.match(text[:place] + other + text[place + 1 :], ignore_punctuation=ignore_punctuation), Mismatch
        )


Accepts = Callable[[str], bool]
REFERENCE_KINDS: dict[str, tuple[int, Accepts]] = {
    "var": (3, lambda _: True),
    "num": (4, lambda value: value != "" and set(value) <= set("0123456789")),
    "url": (4, lambda value: "." in value and not any(character.isspace() for character in value)),
    "email": (4, lambda value: "@" in value and not any(character.isspace() for character in value)),
}


def reads(pieces: list[str], text: str) -> bool:
    """Tries every reading. A piece is a tag, one space, or one other fixed character."""
    if not pieces:
        return text == ""
    first, rest = pieces[0], pieces[1:]
    if first in REFERENCE_KINDS:
        longest, accepts = REFERENCE_KINDS[first]
        return any(accepts(text[:n]) and reads(rest, text[n:]) for n in range(min(longest, len(text)) + 1))
    if first == " ":
        spaces = len(text) - len(text.lstrip())
        return any(reads(rest, text[n:]) for n in range(1, spaces + 1))
    return text.startswith(first) and reads(rest, text[1:])


def trimmed_readings(text: str) -> list[str]:
    """The text with any part of the white space at its ends taken off."""
    leading, end = len(text) - len(text.lstrip()), len(text.rstrip())
    return [text[i:j] for i in range(leading + 1) for j in range(end, len(text) + 1) if i <= j]


@given(
    st.lists(st.sampled_from(["var", "num", "url", "email", " ", "a", ".", "1"]), min_size=1, max_size=7),
    st.text("a.1@ ", max_size=9),
)
@settings(max_examples=1500, deadline=None)
def test_matching_agrees_with_trying_every_reading(pieces: list[str], text: str) -> None:
    # One space only where spaces meet, none at the ends, and no neighbours of one kind: those are told apart in the
    # reference and are one slot in the matcher, which is tested above.
    pieces = [p for n, p in enumerate(pieces) if not (n and p == pieces[n - 1] and (p == " " or len(p) > 1))]
    while pieces and pieces[0] == " ":
        del pieces[0]
    while pieces and pieces[-1] == " ":
        del pieces[-1]
    assume(pieces)
    body = "".join(f"{{#{piece}#}}" if len(piece) > 1 else piece for piece in pieces)
    template = compile_template(body, var_length=3, typed_length=4)
    expected = any(reads(pieces, reading) for reading in trimmed_readings(text))
    result = template.match(text)
    assert isinstance(result, Match) == expected
    # The quick way may say no, but its yes is the exact answer's yes.
    by_sets = matching_module.match_by_sets(template.body, template._tokens, text)
    assert isinstance(by_sets, Match) == expected
    if isinstance(by_sets, Match):
        rebuilt = template.render(by_sets.values)
        assert rebuilt.split() == text.split()


@given(filled_templates(), st.text("ab 1.,-:@/é\n", max_size=60))
@settings(max_examples=200)
def test_a_mismatch_points_into_text_and_template(filled: tuple[Template, dict[str, str]], text: str) -> None:
    template, _ = filled
    result = template.match(text)
    if isinstance(result, Mismatch):
        assert 0 <= result.text_position <= len(text)
        assert 0 <= result.template_position <= len(template.body)
        assert result.found == text[result.text_position :][:20]


# --- cost ------------------------------------------------------------------------------------------------------------

HOSTILE: list[tuple[str, str, str]] = [
    ("neighbours of two kinds", "{#var#}{#num#}", "1"),
    ("addresses and dots", "{#url#}.", "."),
    ("words", "{#var#} a", "a "),
    ("nearly literal", "{#var#}aaaaaaaaaaaaaaaaaaaaaaaaaaaab", "a"),
    ("white space", "{#var#} a", " "),
]


class _CountingIndex(matching_module._TextIndex):
    """Counts the set operations' operands: each is one pass over the text as machine words."""

    looked_up = 0

    def of(self, character: str) -> int:
        type(self).looked_up += 1
        return super().of(character)

    def strides(self, kind: Kind, max_length: int) -> list[tuple[int, int, int]]:
        steps = super().strides(kind, max_length)
        type(self).looked_up += len(steps)
        return steps


@pytest.mark.parametrize(("name", "unit", "letters"), HOSTILE, ids=[name for name, _, _ in HOSTILE])
def test_hostile_templates_cost_a_pass_per_template_character(
    name: str, unit: str, letters: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matching_module, "_TextIndex", _CountingIndex)
    body = unit * (9_900 // len(unit)) + "!"
    _CountingIndex.looked_up = 0
    compile_template(body).match(letters * (9_990 // len(letters)))
    assert 0 < _CountingIndex.looked_up <= len(body)


def test_the_fast_pattern_never_backtracks() -> None:
    pattern = compile_template("{#var#} a {#num#}1{#url#}.{#str#}")._fast
    assert pattern is not None
    # Every repetition is possessive, or lazy inside an atomic group.
    assert pattern.pattern.count("}?)") == pattern.pattern.count("(?>")
    assert compile_template("{#var#} " * 41)._fast is None
