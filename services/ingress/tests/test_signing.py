"""Signatures over the forms of a body that serialisers make, and over no body that says anything else."""

import hashlib
import hmac
import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harkara_contracts.errors import ErrorCode, HarkaraError
from harkara_ingress.access.signing import TOLERANCE_S, check_timestamp, is_signature, verdicts

SECRET = b"hs_of_the_tests"
NOW = b"1790000000"

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)
LAYOUTS: list[dict[str, Any]] = [
    {},
    {"indent": 2},
    {"indent": "\t"},
    {"separators": (" ,\r\n", ":\t")},
    {"separators": (",", ":")},
]


def signed(body: str | bytes, secret: bytes = SECRET, timestamp: bytes = NOW) -> bytes:
    raw = body.encode() if isinstance(body, str) else body
    return b"sha256=" + hmac.new(secret, timestamp + raw, "sha256").hexdigest().encode()


def holds(signature: bytes, body: str | bytes, *secrets: bytes, timestamp: bytes = NOW) -> bool:
    raw = body.encode() if isinstance(body, str) else body
    *slices, verdict = verdicts(secrets or [SECRET], timestamp, signature, raw)
    assert slices.count(None) == len(slices)
    assert isinstance(verdict, bool)
    return verdict


def compact(value: Any, *, escaped: bool) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=escaped)


def as_written(text: str | bytes) -> Any:
    """A document with its numbers as text and its objects as pairs: two that are equal here mean the same."""
    return json.loads(text, parse_int=lambda number: ("n", number), parse_float=lambda number: ("n", number),
                      object_pairs_hook=lambda pairs: ("o", pairs))  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("escaped_on_the_wire", [True, False])
@given(value=JSON)
def test_what_a_serialiser_sends_may_be_signed_in_each_form(
    value: Any, layout: dict[str, Any], escaped_on_the_wire: bool
) -> None:
    sent = json.dumps(value, ensure_ascii=escaped_on_the_wire, **layout)
    for form in (sent, compact(value, escaped=True), compact(value, escaped=False)):
        assert holds(signed(form), sent)


def test_delete_is_escaped_by_some_and_not_by_others() -> None:
    sent = '{"a": "\x7f"}'
    assert holds(signed('{"a":"\\u007f"}'), sent)
    assert holds(signed('{"a":"\x7f"}'), sent)


@given(value=JSON, escaped=st.booleans(), data=st.data())
def test_a_changed_body_verifies_only_if_it_means_the_same(value: Any, escaped: bool, data: st.DataObject) -> None:
    sent = json.dumps(value, ensure_ascii=False).encode()
    signature = signed(compact(value, escaped=escaped))
    at = data.draw(st.integers(0, len(sent)))
    put = data.draw(st.sampled_from([b"", b" ", b"\n", b"0", b"-", b".0", b'"', b",", b"\\", b"\\u0041", b"e1", b"\0"]))
    cut = data.draw(st.integers(0, 2))
    changed = sent[:at] + put + sent[at + cut :]
    if holds(signature, changed):
        assert as_written(changed) == as_written(sent)


@pytest.mark.parametrize(
    "number", ["1.0", "1e5", "1E+5", "-0", "-0.0", "0.10", "123456789012345678901234567890", "1e999"]
)
def test_numbers_stay_as_written(number: str) -> None:
    assert holds(signed(f'{{"amount":{number}}}'), f'{{ "amount" : {number} }}')


@pytest.mark.parametrize(
    ("signed_over", "sent"),
    [
        ('{"a":1}', '{"a": 1.0}'),
        ('{"a":12345678901234567000}', '{"a": 12345678901234567890}'),
        ('{"a":100000}', '{"a": 1e5}'),
        ('{"a":1}', '{"a": 2, "a": 1}'),
        ('{"a":1}', '{"a": 1, "a": 1}'),
        ('{"a":1,"b":2}', '{"b": 2, "a": 1}'),
        ('{"a":12}', '{"a": 1 2}'),
        ('["a""b"]', '["a" "b"]'),
        ("[true]", "[t rue]"),
        ('{"a":"b"}', '{"a": "b "}'),
        ("12", "1 2"),
        ("[" + '"s",' * 511 + '"s"1]', "[" + '"s",' * 511 + '"s" 1]'),
        ("1\n2", "1\n2 "),
        ('{"a":1}', '\ufeff{"a":1}'),
    ],
)
def test_another_meaning_is_another_signature(signed_over: str, sent: str) -> None:
    assert holds(signed(signed_over), signed_over)
    assert not holds(signed(signed_over), sent)


def test_a_body_that_names_a_key_twice_is_signed_with_both() -> None:
    twice = '{"a": 2, "a": 1}'
    assert holds(signed(twice), twice)
    assert not holds(signed(compact(json.loads(twice), escaped=True)), twice)


@pytest.mark.parametrize(
    "raw",
    [b"", b"{", b'{"a', b'"\\ud800"', b'"\\x"', b'"\x01"', b"\xff\xfe", b'"\xff"', b"NaN", b"\0", b'"\0"', b'{"a":\0}'],
)
def test_what_is_no_json_is_signed_as_it_is(raw: bytes) -> None:
    assert holds(signed(raw), raw)
    assert not holds(signed(b"{}"), raw)


def test_one_of_two_secrets_is_enough_and_a_third_is_none() -> None:
    body = '{"a": "₹"}'
    for form in (body, '{"a":"₹"}', '{"a":"\\u20b9"}'):
        assert holds(signed(form, b"former"), body, b"current", b"former")
        assert holds(signed(form, b"current"), body, b"current", b"former")
        assert not holds(signed(form, b"other"), body, b"current", b"former")
        assert not holds(signed(form), body, SECRET, timestamp=b"1790000001")
    assert not list(verdicts([], NOW, signed(""), b""))[-1]


@pytest.mark.parametrize(
    "text",
    [b"", b"now", b"1790000000.5", b" 1790000000", b"+1790000000", b"-5", b"01790000000", b"1_790_000_000", b"9" * 99],
)
def test_a_timestamp_is_unix_seconds(text: bytes) -> None:
    with pytest.raises(HarkaraError) as refused:
        check_timestamp(text, 1_790_000_000.0)
    assert refused.value.code is ErrorCode.SIGNATURE_INVALID


@pytest.mark.parametrize("offset", [-TOLERANCE_S, 0, TOLERANCE_S])
def test_five_minutes_are_tolerated_either_way(offset: int) -> None:
    check_timestamp(str(1_790_000_000 + offset).encode(), 1_790_000_000.0)


@pytest.mark.parametrize("written", [1_790_000_301, 1_789_999_699, 1_790_000_000_000])
def test_more_than_that_is_refused(written: int) -> None:
    with pytest.raises(HarkaraError, match="more than 300 seconds"):
        check_timestamp(str(written).encode(), 1_790_000_000.0)


GOOD = signed("")


@pytest.mark.parametrize(
    "text",
    [b"", b"sha256=", GOOD[7:], GOOD.upper(), GOOD[:-1], GOOD + b"0", GOOD + b"\n", b" " + GOOD, b"v1," + GOOD],
)
def test_a_signature_has_one_form(text: bytes) -> None:
    assert is_signature(GOOD)
    assert not is_signature(text)


def test_a_large_body_is_checked_in_slices_that_let_others_through() -> None:
    recipients = [{"to": f"9198{n:08}", "variables": {"name": "Asha ₹", "n": n}} for n in range(20_000)]
    body = json.dumps({"recipients": recipients}).encode()
    signature = signed(compact({"recipients": recipients}, escaped=False))
    longest_s, verdict, started_s = 0.0, None, time.thread_time()
    for verdict in verdicts([SECRET], NOW, signature, body):  # noqa: B007  # the last one is looked at
        longest_s, started_s = max(longest_s, time.thread_time() - started_s), time.thread_time()
    assert verdict is True
    assert longest_s < 0.02


@pytest.mark.parametrize(
    "hostile",
    [
        b'"' + b"\\\\" * 2_000_000,
        b'"\\' * 50_000,
        b'"' * 2_000_001,
        b"[" * 4_000_000,
        b" " * 4_000_000,
        b"1 " * 2_000_000,
        b"1," * 4_000_000,
        b'"' + b"\\n" * 2_000_000 + b'"',
    ],
    ids=["escapes", "escaped quotes", "quotes", "depth", "spaces", "apart", "numbers", "one string"],
)
def test_no_body_takes_long_to_refuse(hostile: bytes) -> None:
    slices, started_s, longest_s = verdicts([SECRET], NOW, signed(b"{}"), hostile), time.thread_time(), 0.0
    began_s = started_s
    for verdict in slices:
        assert not verdict
        longest_s, began_s = max(longest_s, time.thread_time() - began_s), time.thread_time()
    assert time.thread_time() - started_s < 3.0
    assert longest_s < 0.05


def test_the_sample_of_the_guide_signs_as_is_expected() -> None:
    guide = (Path(__file__).parents[3] / "docs/api.md").read_text()
    sample = guide.split("```python\ntimestamp = ")[1].split("```")[0]
    message = {"to": "919876543210", "variables": {"name": "Āśā ₹"}}
    names: dict[str, Any] = {"time": time, "json": json, "hmac": hmac, "hashlib": hashlib}
    made: dict[str, Any] = {}
    exec("timestamp = " + sample, names | {"message": message, "signing_secret": SECRET.decode()}, made)  # noqa: S102  # the guide's own code
    headers: dict[str, str] = made["headers"]
    timestamp, signature = (headers[f"X-TechTo-{name}"].encode() for name in ("Timestamp", "Signature"))
    check_timestamp(timestamp, time.time())
    assert holds(signature, json.dumps(message), timestamp=timestamp)
