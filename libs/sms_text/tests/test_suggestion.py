import pytest
from hypothesis import given
from hypothesis import strategies as st

from harkara_sms_text import is_gsm, measure, suggest_gsm


@pytest.mark.parametrize(
    ("text", "suggestion"),
    [
        ("Hi, it's “open” \u2013 come… ₹499", 'Hi, it\'s "open" - come... Rs499'),
        ("a\u00a0b\u200bc\td", "a bc d"),
        ("cafe\u0301", "café"),
        ("Rs 499 only", "Rs 499 only"),
        ("{plain}", "{plain}"),
        ("नमस्ते “जी”", "नमस्ते “जी”"),  # stays UCS-2, so nothing is gained by touching it
        ("“wow” 😀", "“wow” 😀"),
    ],
)
def test_suggest_gsm(text: str, suggestion: str) -> None:
    assert suggest_gsm(text) == suggestion


@given(st.text(alphabet="aé5 “”\u2013…₹€\u00a0\u200bक", max_size=200))
def test_a_suggestion_is_gsm_or_the_text_itself(text: str) -> None:
    suggestion = suggest_gsm(text)
    assert suggestion == text or is_gsm(suggestion)
    assert suggest_gsm(suggestion) == suggestion
    assert measure(suggestion).parts <= max(measure(text).parts, 3 * len(text) // 153 + 1)
