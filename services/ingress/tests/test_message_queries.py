"""Cursors and ranges: whatever a client gives is understood or refused in words."""

import base64
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harkara_contracts.errors import HarkaraError
from harkara_contracts.ids import is_message_id, new_message_id
from harkara_ingress.status.cursor import cursor_after, read_cursor
from harkara_ingress.status.message_queries import checked_range

INSTANTS = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001  # bounds are naive


@given(INSTANTS)
def test_a_cursor_leads_to_where_it_was_made(at: datetime) -> None:
    message_id = new_message_id()
    assert read_cursor(cursor_after(at, message_id), is_message_id) == (at, message_id)


@given(st.one_of(st.text(), st.binary().map(lambda raw: base64.urlsafe_b64encode(raw).decode())))
def test_any_other_text_is_refused_or_is_a_place(text: str) -> None:
    with suppress(HarkaraError):
        at, message_id = read_cursor(text, is_message_id)
        assert at.utcoffset() == timedelta()
        assert is_message_id(message_id)


@given(st.none() | INSTANTS, st.none() | INSTANTS)
def test_a_range_is_never_longer_than_a_month(start: datetime | None, end: datetime | None) -> None:
    with suppress(HarkaraError):
        first, last = checked_range(start, end)
        assert timedelta() < last - first <= timedelta(days=31)
        assert (start or first, end or last) == (first, last)


def test_without_times_it_is_the_last_week() -> None:
    before = datetime.now(UTC)
    first, last = checked_range(None, None)
    assert before <= last <= datetime.now(UTC)
    assert last - first == timedelta(days=7)


@pytest.mark.parametrize("length", [timedelta(), timedelta(days=-1), timedelta(days=31, microseconds=1)])
def test_a_range_that_is_none_or_too_long_is_refused(length: timedelta) -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    with pytest.raises(HarkaraError, match="31 days"):
        checked_range(start, start + length)
