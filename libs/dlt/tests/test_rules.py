"""Headers, categories, ids, chain hash, numbers, window and registration rules."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harkara_dlt import (
    IST,
    RULES,
    ClientCategory,
    ConsentRule,
    DltIdError,
    HeaderKind,
    InvalidMobileError,
    PreferenceCategory,
    TemplateCategory,
    accepts,
    chain_hash,
    check_dlt_id,
    header_kind,
    header_problem,
    is_dlt_id,
    is_open,
    next_open,
    normalise_mobile,
    preference_category,
    problems,
)

# --- headers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "kind"),
    [
        ("HARKRA", HeaderKind.ALPHABETIC),
        ("HarKra", HeaderKind.ALPHABETIC),
        ("512345", HeaderKind.NUMERIC),
        ("012345", HeaderKind.NUMERIC),
        ("912345", None),
        ("HARKR", None),
        ("HARKARA", None),
        ("HAR KA", None),
        ("HARK1A", None),
        ("HARKR\n", None),
        ("ÀRKARA", None),
        ("१२३४५६", None),
        ("", None),
    ],
)
def test_header_kind(header: str, kind: HeaderKind | None) -> None:
    assert header_kind(header) is kind


@pytest.mark.parametrize(
    ("header", "category", "problem"),
    [
        ("HARKRA", "otp", None),
        ("HARKRA", "promotional", None),
        ("512345", "promotional", None),
        ("512345", "service_explicit", None),
        ("512345", "otp", "promotional messages only; use a header of six letters for otp"),
        ("912345", "promotional", "preference category, 0 to 8"),
        ("51234", "promotional", "six digits"),
        ("VM-HARKRA", "otp", "prefix"),
        ("VM-HARKRA-S", "otp", "prefix"),
        ("HARK A", "otp", "six letters"),
    ],
)
def test_header_problem(header: str, category: str, problem: str | None) -> None:
    found = header_problem(header, ClientCategory(category))
    assert (found is None) == (problem is None)
    assert problem is None or problem in (found or "")


def test_a_numeric_header_names_its_preference_category() -> None:
    assert preference_category("512345") is PreferenceCategory.CONSUMER_GOODS_AUTOMOBILES
    assert preference_category("HARKRA") is None


# --- categories ------------------------------------------------------------------------------------------------------

T = TemplateCategory
CATEGORY_TABLE = [
    # category, template categories, lane and price column, DND and window apply, consent
    ("promotional", {T.PROMOTIONAL, T.SERVICE_EXPLICIT}, "promotional", "promotional", True, ConsentRule.OVERRIDES_DND),
    ("service_explicit", {T.PROMOTIONAL, T.SERVICE_EXPLICIT}, "promotional", "promotional", True, ConsentRule.REQUIRED),
    ("service_implicit", {T.SERVICE_IMPLICIT}, "transactional", "transactional", False, ConsentRule.INFERRED),
    (
        "transactional",
        {T.TRANSACTIONAL, T.SERVICE_IMPLICIT},
        "transactional",
        "transactional",
        False,
        ConsentRule.INFERRED,
    ),
    ("otp", {T.TRANSACTIONAL, T.SERVICE_IMPLICIT}, "otp", "otp", False, ConsentRule.INFERRED),
]


def test_each_category_has_its_rules() -> None:
    assert [
        (
            category.value,
            set(rules.template_categories),
            rules.lane,
            rules.price_column,
            rules.dnd_applies and rules.window_applies,
            rules.consent,
        )
        for category, rules in sorted(RULES.items(), key=lambda item: [row[0] for row in CATEGORY_TABLE].index(item[0]))
    ] == CATEGORY_TABLE
    assert all(rules.dnd_applies == rules.window_applies for rules in RULES.values())


def test_accepts_and_suffix() -> None:
    assert accepts(ClientCategory.OTP, T.SERVICE_IMPLICIT)
    assert not accepts(ClientCategory.OTP, T.PROMOTIONAL)
    assert [category.suffix for category in T] == ["T", "S", "P", "P"]


# --- ids and chain ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["1701158019811140068", "1" * 10, "1" * 24])
def test_dlt_ids(text: str) -> None:
    assert is_dlt_id(text)
    assert check_dlt_id(text) == text


@pytest.mark.parametrize("text", ["", "1" * 9, "1" * 25, "17011580198x", "1701158019811 ", "1701158019811\n", "१" * 12])
def test_what_is_no_dlt_id(text: str) -> None:
    assert not is_dlt_id(text)
    with pytest.raises(DltIdError, match="10 to 24 digits"):
        check_dlt_id(text)


def test_chain_hash() -> None:
    entity, aggregator, deliverer = "1101172974420810001", "1101172974420820002", "1101172974420830004"
    assert chain_hash([entity, deliverer]) == "c0c951afca257c5b87c3da535c09112080483f35b7e6faf35e2428b3b526b694"
    assert (
        chain_hash([entity, aggregator, deliverer])
        == "ba38bbe4ab3780a70aad6071c006e720eed8efc1ff70b00691d3b6844e6497e2"
    )
    with pytest.raises(ValueError, match="at least two"):
        chain_hash([entity])
    with pytest.raises(DltIdError):
        chain_hash([entity, f"{deliverer},{aggregator}"])


# --- numbers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["919876543210", "+919876543210"])
def test_mobiles_are_written_one_way(text: str) -> None:
    assert normalise_mobile(text) == "919876543210"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("9876543210", "country code is missing"),
        ("09876543210", "country code is missing"),
        ("91 98765 43210", "spaces or punctuation"),
        ("+91-9876543210", "spaces or punctuation"),
        ("919876543210\n", "spaces or punctuation"),
        ("", "empty"),
        ("+", "empty"),
        ("91987654321O", "other than digits"),
        ("९१९८७६५४३२१०", "other than digits"),
        ("+14155550100", "not Indian"),
        ("91987654321", "11 digits instead of 12"),
        ("9198765432101", "13 digits instead of 12"),
        ("911234567890", "after 91 it begins with 1"),
    ],
)
def test_other_numbers_are_refused_with_the_remedy(text: str, fault: str) -> None:
    with pytest.raises(InvalidMobileError) as caught:
        normalise_mobile(text)
    assert fault in str(caught.value)
    assert "919876543210" in str(caught.value)  # the example, not what was given
    assert text in {"", "+", "919876543210\n"} or text.replace("+", "") not in str(caught.value).replace(
        "919876543210", ""
    )


# --- window ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("local", "opens"),
    [
        ("2026-03-01T09:59:59.999999", "2026-03-01T10:00:00"),
        ("2026-03-01T10:00:00", None),
        ("2026-03-01T20:59:59.999999", None),
        ("2026-03-01T21:00:00", "2026-03-02T10:00:00"),
        ("2026-12-31T23:59:59", "2027-01-01T10:00:00"),
        ("2026-03-01T00:00:00", "2026-03-01T10:00:00"),
    ],
)
def test_the_window(local: str, opens: str | None) -> None:
    instant = datetime.fromisoformat(local).replace(tzinfo=IST)
    assert is_open(instant) == (opens is None)
    expected = datetime.fromisoformat(opens).replace(tzinfo=IST) if opens else instant
    assert next_open(instant) == expected
    assert next_open(instant.astimezone(UTC)) == expected
    assert next_open(instant.astimezone(UTC)).tzinfo is UTC


@given(st.datetimes(datetime(2020, 1, 1), datetime(2040, 1, 1)), st.integers(-14 * 60, 14 * 60))  # noqa: DTZ001 - the zone is drawn beside
def test_the_next_opening_is_the_first(local: datetime, offset_minutes: int) -> None:
    instant = local.replace(tzinfo=timezone(timedelta(minutes=offset_minutes)))
    opening = next_open(instant)
    assert is_open(opening)
    assert instant <= opening <= instant + timedelta(hours=13)
    if opening != instant:
        assert not is_open(instant)
        assert not is_open(opening - timedelta(microseconds=1))
        assert not is_open(instant + (opening - instant) / 2)


def test_a_time_without_zone_is_refused() -> None:
    for ask in (is_open, next_open):
        with pytest.raises(ValueError, match="no time zone"):
            ask(datetime(2026, 3, 1, 12))  # noqa: DTZ001 - that is the point


# --- registration ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "category", "told"),
    [
        ("Your OTP is {#var#}. -HARKRA", "service_implicit", []),
        ("Your OTP is {#num:otp#}{#var#}. -HARKRA", "transactional", []),
        ("Sale ends tonight at Harkara", "promotional", []),
        ("Sale ends tonight at Harkara", "service_implicit", ["at least one variable"]),
        ("Your OTP is {#otp#}. -HARKRA", "service_implicit", ["{#otp#} is not a known variable"]),
        ("Your OTP is {#Var#}. -HARKRA", "service_implicit", ["{#Var#} is not a known variable"]),
        ("Your OTP is {#var. {#var#} -HARKRA", "service_implicit", ["opened but not closed"]),
        ("Your OTP is ##otp##. {#var#} -HARKRA", "service_implicit", ["##otp## is not a DLT variable"]),
        ("Your OTP is {{1}}. {#var#} -HARKRA", "service_implicit", ["{{1}} is not a DLT variable"]),
        ("Your OTP  is {#var#}. -HARKRA", "service_implicit", ["Two spaces"]),
        ("Your OTP is <{#var#}>. -HARKRA", "service_implicit", ["< and >"]),
        ("OTP: {#var#}", "service_implicit", ["too short"]),
        ("", "promotional", ["empty"]),
        ("x" * 2001, "promotional", ["2001 characters"]),
        ("<  {#x#}", "otp", None),
    ],
)
def test_problems(body: str, category: str, told: list[str] | None) -> None:
    if told is None:  # every fault is told at once
        assert len(problems(body, TemplateCategory.TRANSACTIONAL)) == 4
        return
    found = problems(body, TemplateCategory(category))
    assert len(found) == len(told)
    assert all(part in problem for part, problem in zip(told, found, strict=True))
