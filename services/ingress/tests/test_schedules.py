"""What clients write as the time to send at."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harkara_contracts.errors import ErrorCode, HarkaraError
from harkara_ingress.sending.schedules import MAX_AHEAD, PAST_TOLERANCE, checked_schedule, read_time

NOW = datetime(2026, 11, 22, 18, 29, 30, tzinfo=UTC)
# Half past midnight in India is still the day before in UTC.
TIMES = {
    "2026-11-23T00:30:00+05:30": datetime(2026, 11, 22, 19, tzinfo=UTC),
    "2026-11-22T19:00:00Z": datetime(2026, 11, 22, 19, tzinfo=UTC),
    "2026-11-22t19:00:00z": datetime(2026, 11, 22, 19, tzinfo=UTC),
    "2026-11-22 19:00:00+00:00": datetime(2026, 11, 22, 19, tzinfo=UTC),
    "20261123T003000+0530": datetime(2026, 11, 22, 19, tzinfo=UTC),
    "2026-11-23T05:29:59+05:30": datetime(2026, 11, 22, 23, 59, 59, tzinfo=UTC),
    "2026-11-23T05:30:00+05:30": datetime(2026, 11, 23, tzinfo=UTC),
    "2026-11-22T14:00:00.250-05:00": datetime(2026, 11, 22, 19, 0, 0, 250_000, tzinfo=UTC),
    # The second that UTC has put in now and then, as London, Delhi and New York see it.
    "2026-12-31T23:59:60Z": datetime(2027, 1, 1, tzinfo=UTC),
    "2027-01-01T05:29:60+05:30": datetime(2027, 1, 1, tzinfo=UTC),
    "20261231T185960-0500": datetime(2027, 1, 1, tzinfo=UTC),
    "2028-02-29T10:00:00+05:30": datetime(2028, 2, 29, 4, 30, tzinfo=UTC),
}
NO_TIMES = (
    "",
    "tomorrow",
    "2026-12-01",
    "2026-13-01T10:00:00Z",
    "2027-02-29T10:00:00Z",
    "2026-12-01T10:30:61Z",
    "2026-12-01T10:30:60Z",
    "2026-12-31T23:59:60",
    "2026-12-01T10:30:00+24:00",
    "9999-12-31T23:59:60Z",
    "1764000000",
)


@pytest.mark.parametrize(("text", "instant"), TIMES.items())
def test_times_are_read_at_any_offset(text: str, instant: datetime) -> None:
    read = checked_schedule(text, NOW)
    assert read == instant
    assert read.tzinfo is UTC


@pytest.mark.parametrize("text", NO_TIMES)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(HarkaraError, match="schedule_at") as refusal:
        checked_schedule(text, NOW)
    assert refusal.value.code is ErrorCode.INVALID_REQUEST
    assert "+05:30" in refusal.value.message


def test_a_time_without_an_offset_is_refused_with_the_way_to_mend_it() -> None:
    with pytest.raises(HarkaraError, match=r"no offset.*\+05:30.*Z for UTC"):
        checked_schedule("2026-12-01T10:30:00", NOW)


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+05:30", "2026-11-22T18:24:29Z"])
def test_the_past_is_refused(text: str) -> None:
    with pytest.raises(HarkaraError, match="past"):
        checked_schedule(text, NOW)


@pytest.mark.parametrize("text", ["9999-12-31T23:59:59-05:30", "2031-11-23T18:29:31Z"])
def test_what_is_too_far_ahead_is_refused(text: str) -> None:
    with pytest.raises(HarkaraError, match="5 years"):
        checked_schedule(text, NOW)


def test_both_ends_of_what_is_allowed() -> None:
    assert checked_schedule(None, NOW) is None
    assert checked_schedule((NOW - PAST_TOLERANCE).isoformat(), NOW) is None
    assert checked_schedule(NOW.isoformat(), NOW) is None
    assert checked_schedule((NOW + MAX_AHEAD).isoformat(), NOW) == NOW + MAX_AHEAD
    assert checked_schedule("2031-11-22T18:29:30Z", NOW) == datetime(2031, 11, 22, 18, 29, 30, tzinfo=UTC)


OFFSETS = st.integers(-23 * 60, 23 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))


@given(st.datetimes(timezones=OFFSETS))
def test_what_python_writes_is_read_alike(instant: datetime) -> None:
    assert read_time(instant.isoformat()) == instant


@given(st.text(max_size=40) | st.from_regex(r"[0-9T:Z+.-]{1,40}", fullmatch=True))
def test_any_text_is_a_schedule_or_refused_in_words(text: str) -> None:
    read, words = _read(text)
    if words:
        assert "schedule_at" in words
    elif read is not None:
        assert NOW < read <= NOW + MAX_AHEAD


def _read(text: str) -> tuple[datetime | None, str]:
    try:
        return checked_schedule(text, NOW), ""
    except HarkaraError as refusal:
        return None, refusal.message
