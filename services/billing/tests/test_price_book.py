from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harkara_billing.price_book import LIST_PRICES, NoPriceError, PriceBook, ist_day, load_price_book, price
from harkara_contracts.errors import ErrorCode
from harkara_contracts.money import RUPEE_MP, from_paise
from harkara_contracts.subjects import Category, Channel

BOOK = load_price_book()
LAKH, CRORE = 1_00_000, 1_00_00_000
LAST_UNITS = [10_000, LAKH, 10 * LAKH, CRORE]
# The published table, written down a second time: the book under test must say the same.
PUBLISHED_PAISE = {
    Category.PROMOTIONAL: [18, 16, 14, 12, 10],
    Category.SERVICE_EXPLICIT: [18, 16, 14, 12, 10],
    Category.TRANSACTIONAL: [22, 20, 18, 16, 14],
    Category.SERVICE_IMPLICIT: [22, 20, 18, 16, 14],
    Category.OTP: [28, 24, 22, 20, 18],
}

categories = st.sampled_from(list(Category))
near_an_edge = st.builds(
    lambda edge, off: max(0, edge + off), st.sampled_from([0, *LAST_UNITS]), st.integers(-200, 200)
)


def one_by_one_mp(category: Category, before: int, units: int) -> int:
    total = 0
    for unit in range(before + 1, before + units + 1):
        slab = sum(unit > last for last in LAST_UNITS)
        total += from_paise(PUBLISHED_PAISE[category][slab])
    return total


@given(category=categories, before=near_an_edge, units=st.integers(1, 400))
def test_a_price_is_the_sum_of_its_units(category: Category, before: int, units: int) -> None:
    assert price(BOOK, Channel.SMS, category, before, units) == one_by_one_mp(category, before, units)


@given(
    category=categories,
    before=st.integers(0, 3 * CRORE),
    first=st.integers(0, 2 * CRORE),
    second=st.integers(0, 2 * CRORE),
)
def test_a_price_does_not_depend_on_how_it_is_cut(category: Category, before: int, first: int, second: int) -> None:
    whole = price(BOOK, Channel.SMS, category, before, first + second)
    parts = (
        price(BOOK, Channel.SMS, category, before, first),
        price(BOOK, Channel.SMS, category, before + first, second),
    )
    assert whole == sum(parts)


def test_brute_force_over_the_first_two_edges() -> None:
    assert price(BOOK, Channel.SMS, Category.OTP, 0, LAKH + 7) == one_by_one_mp(Category.OTP, 0, LAKH + 7)


@pytest.mark.parametrize(
    ("category", "unit", "paise"),
    [
        (Category.TRANSACTIONAL, 1, 22),
        (Category.TRANSACTIONAL, 10_000, 22),
        (Category.TRANSACTIONAL, 10_001, 20),
        (Category.PROMOTIONAL, LAKH, 16),
        (Category.PROMOTIONAL, LAKH + 1, 14),
        (Category.OTP, 10 * LAKH, 22),
        (Category.OTP, 10 * LAKH + 1, 20),
        (Category.OTP, CRORE, 20),
        (Category.OTP, CRORE + 1, 18),
    ],
)
def test_the_unit_at_an_edge(category: Category, unit: int, paise: int) -> None:
    assert price(BOOK, Channel.SMS, category, unit - 1, 1) == from_paise(paise)


@pytest.mark.parametrize(("units", "rupees"), [(12_000, 2_600), (LAKH, 20_200), (10 * LAKH, 182_200)])
def test_a_month_of_transactional_sms(units: int, rupees: int) -> None:
    assert price(BOOK, Channel.SMS, Category.TRANSACTIONAL, 0, units) == rupees * RUPEE_MP


@pytest.mark.parametrize(
    ("channel", "category", "before", "paise"),
    [
        (Channel.WHATSAPP, Category.OTP, 0, 15),
        (Channel.WHATSAPP, Category.SERVICE_IMPLICIT, 5 * LAKH, 20),
        (Channel.WHATSAPP, Category.PROMOTIONAL, 0, 40),
        (Channel.RCS, Category.PROMOTIONAL, LAKH - 1, 25),
        (Channel.RCS, Category.PROMOTIONAL, LAKH, 20),
        (Channel.VOICE, Category.OTP, 10_000, 65),
        (Channel.VOICE, Category.OTP, LAKH, 50),
    ],
)
def test_other_channels(channel: Channel, category: Category, before: int, paise: int) -> None:
    assert price(BOOK, channel, category, before, 1) == from_paise(paise)


def test_whatsapp_is_sold_by_conversation_within_the_published_range() -> None:
    ranges = {"authentication": (15, 25), "utility": (20, 35), "marketing": (40, 80), "service": (10, 20)}
    for name, (low, high) in ranges.items():
        assert from_paise(low) <= BOOK.listed[Channel.WHATSAPP, name].rates_mp[0] <= from_paise(high)


def test_a_price_below_what_the_carrier_takes_is_told(tmp_path: Path) -> None:
    assert list(BOOK.below_cost) == ["the list price of whatsapp.marketing is 40 paise, and the carrier takes 86.31"]
    agreed = _book(tmp_path, "[accounts.ACC1.whatsapp]\nmarketing = [79.5]\nutility = [20]\n")
    assert agreed.below_cost[1:] == [
        "the price of ACC1 of whatsapp.marketing is 79.5 paise, and the carrier takes 86.31"
    ]


def test_a_channel_without_list_price_is_not_sold() -> None:
    with pytest.raises(NoPriceError):
        price(BOOK, Channel.EMAIL, Category.OTP, 0, 1, "ACC1")


def test_an_agreed_rate_is_its_accounts_own(tmp_path: Path) -> None:
    book = _book(tmp_path, "[accounts.ACC1.email]\nmessage = [2.5]\n[accounts.ACC1.whatsapp]\nutility = [27.125]\n")
    assert price(book, Channel.EMAIL, Category.OTP, 0, 4, "ACC1") == 10_000
    assert price(book, Channel.WHATSAPP, Category.TRANSACTIONAL, 0, 1, "ACC1") == 27_125
    assert price(book, Channel.WHATSAPP, Category.TRANSACTIONAL, 0, 1, "ACC2") == 20_000
    assert book.unit_prices_mp("ACC1", {})["email.message"] == 2_500
    assert "email.message" not in book.unit_prices_mp("ACC2", {})


def test_unit_prices_follow_each_channels_volume() -> None:
    prices = BOOK.unit_prices_mp("ACC1", {Channel.SMS: 10_000})
    assert prices["sms.transactional"] == 20_000
    assert prices["sms.promotional"] == 16_000
    assert prices["sms.otp"] == 24_000
    assert prices["voice.call"] == 80_000


@pytest.mark.parametrize(
    ("code", "billed"),
    [
        (ErrorCode.HANDSET_UNREACHABLE, True),
        (ErrorCode.NUMBER_INACTIVE, True),
        (ErrorCode.EXPIRED, True),
        (ErrorCode.OUTCOME_UNKNOWN, True),
        (ErrorCode.DND_SUBSCRIBER, False),
        (ErrorCode.DLT_TEMPLATE_MISMATCH, False),
        (ErrorCode.CARRIER_REJECTED, False),
        (ErrorCode.INTERNAL, False),
        ("ERR_NOBODY_KNOWS", True),
    ],
)
def test_which_failures_are_billed(code: str, *, billed: bool) -> None:
    assert BOOK.bills_failure(code) is billed


@pytest.mark.parametrize(
    ("extra", "complaint"),
    [
        ("[accounts.ACC1.email]\nmessage = [2.5, 2]\n", "needs 1 rates"),
        ("[accounts.ACC1.email]\nletter = [2.5]\n", "ACC1.email.letter"),
        ("[accounts.ACC1.email]\nmessage = [0.0001]\n", "more than three decimals"),
        ("[accounts.ACC1.email]\nmessage = [-1]\n", "is not between"),
        ("[accounts.ACC1.whatsapp]\nutility = [36]\n", "is not between 20 and 35"),
        ("[fax]\n", "fax: Extra inputs"),
        ("[sms]\n", "not valid TOML"),
    ],
)
def test_a_wrong_book_is_told(tmp_path: Path, extra: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        _book(tmp_path, extra)


def test_a_missing_book_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot be read"):
        load_price_book(tmp_path / "none.toml")


def test_a_day_begins_at_midnight_in_india() -> None:
    assert ist_day(datetime(2026, 3, 31, 18, 29, 59, tzinfo=UTC)).isoformat() == "2026-03-31"
    assert ist_day(datetime(2026, 3, 31, 18, 30, tzinfo=UTC)).isoformat() == "2026-04-01"


def _book(folder: Path, extra: str) -> PriceBook:
    path = folder / "prices.toml"
    path.write_text(LIST_PRICES.read_text() + "\n" + extra)
    return load_price_book(path)
