"""A period begins and ends where the calendar says, in UTC."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.admission.period import Period, bounds

PERIODS: list[Period] = ["hour", "day", "week", "month"]


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=timezone.utc).timestamp())


CASES: list[tuple[Period, str, str, str]] = [
    ("hour", "2026-11-21T12:27:34", "2026-11-21T12:00", "2026-11-21T13:00"),
    ("hour", "2026-12-31T23:59:59", "2026-12-31T23:00", "2027-01-01T00:00"),
    ("day", "2026-03-29T01:30:00", "2026-03-29", "2026-03-30"),  # clocks change in Europe, not in UTC
    ("day", "2028-02-29T12:00:00", "2028-02-29", "2028-03-01"),
    ("day", "2026-12-31T23:59:59", "2026-12-31", "2027-01-01"),
    ("day", "2016-12-31T23:59:59", "2016-12-31", "2017-01-01"),  # a leap second followed
    ("week", "2026-11-21T12:00:00", "2026-11-16", "2026-11-23"),
    ("week", "2026-11-22T23:59:59", "2026-11-16", "2026-11-23"),
    ("week", "2026-11-23T00:00:00", "2026-11-23", "2026-11-30"),
    ("week", "2027-01-01T00:00:00", "2026-12-28", "2027-01-04"),
    ("week", "2024-02-29T10:00:00", "2024-02-26", "2024-03-04"),
    ("month", "2026-01-31T23:59:59", "2026-01-01", "2026-02-01"),
    ("month", "2026-02-28T23:59:59", "2026-02-01", "2026-03-01"),
    ("month", "2028-02-29T23:59:59", "2028-02-01", "2028-03-01"),
    ("month", "2000-02-29T00:00:00", "2000-02-01", "2000-03-01"),
    ("month", "2100-02-28T23:59:59", "2100-02-01", "2100-03-01"),  # no leap year
    ("month", "2026-04-30T23:59:59", "2026-04-01", "2026-05-01"),
    ("month", "2026-12-31T23:59:59", "2026-12-01", "2027-01-01"),
    ("month", "2027-01-01T00:00:00", "2027-01-01", "2027-02-01"),
]


@pytest.mark.parametrize(("period", "now", "start", "end"), CASES, ids=[f"{c[0]}-{c[1]}" for c in CASES])
def test_bounds_of(period: Period, now: str, start: str, end: str) -> None:
    assert bounds(period, at(now)) == (at(start), at(end))


def test_a_total_has_no_bounds() -> None:
    assert bounds("total", at("2026-11-21")) == (0, 0)


@given(st.integers(0, at("2200-01-01")), st.sampled_from(PERIODS))
def test_periods_follow_each_other_without_gaps(now_s: int, period: Period) -> None:
    start_s, end_s = bounds(period, now_s)
    assert start_s <= now_s < end_s
    assert bounds(period, start_s) == bounds(period, end_s - 1) == (start_s, end_s)
    assert bounds(period, end_s)[0] == end_s
    assert bounds(period, start_s - 1)[1] == start_s or not start_s


@given(st.integers(0, at("2200-01-01")))
def test_all_periods_begin_as_the_calendar_says(now_s: int) -> None:
    hour, day, week, month = (
        datetime.fromtimestamp(bounds(period, now_s)[0], timezone.utc) for period in PERIODS
    )
    moment = datetime.fromtimestamp(now_s, timezone.utc)
    assert hour == moment.replace(minute=0, second=0)
    assert day == moment.replace(hour=0, minute=0, second=0)
    if week.year > 1969:
        assert week == day - timedelta(days=day.weekday())
    assert month == day.replace(day=1)
