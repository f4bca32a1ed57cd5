"""Days and deadlines of Paris, its two nights of the clock change, business days, and how dates are written."""

from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.calendar import (
    PARIS,
    ClosingDays,
    day_style,
    end_of_day,
    is_business_day,
    last_day_before,
    list_style,
    mail_style,
    plus_business_days,
    shown_day,
    shown_instant,
    start_of_day,
    today,
    voucher_style,
)
from domain.texts import Locale, Text

MICROSECOND = timedelta(microseconds=1)
DAYS = st.dates(date(1980, 1, 1), date(2100, 12, 31))
INSTANTS = st.datetimes(datetime(1980, 1, 2), datetime(2100, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001
ZONES = st.sampled_from(
    [
        PARIS,
        ZoneInfo("America/Martinique"),
        ZoneInfo("Indian/Reunion"),
        ZoneInfo("America/Sao_Paulo"),  # its clock used to change at midnight
        ZoneInfo("America/Havana"),
        ZoneInfo("Pacific/Auckland"),
    ]
)
unhurried = settings(deadline=None)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("now", "day"),
    [
        ("2020-06-24T21:59:59.999999", date(2020, 6, 24)),
        ("2020-06-24T22:00:00", date(2020, 6, 25)),
        ("2020-12-31T22:59:59", date(2020, 12, 31)),
        ("2020-12-31T23:00:00", date(2021, 1, 1)),
        ("2026-03-28T22:59:59", date(2026, 3, 28)),
        ("2026-03-28T23:00:00", date(2026, 3, 29)),
        ("2026-10-25T22:59:59", date(2026, 10, 25)),
    ],
)
def test_a_day_is_the_day_of_paris(now: str, day: date) -> None:
    assert today(utc(now)) == day


def test_a_day_can_be_another_zones() -> None:
    at = utc("2026-11-21T23:30:00")
    assert today(at) == date(2026, 11, 22)
    assert today(at, ZoneInfo("America/Martinique")) == date(2026, 11, 21)
    assert end_of_day(date(2026, 11, 21), ZoneInfo("America/Martinique")) == utc("2026-11-22T04:00:00")


@pytest.mark.parametrize(
    ("day", "start", "end", "hours"),
    [
        (date(2020, 6, 24), "2020-06-23T22:00:00", "2020-06-24T22:00:00", 24),
        (date(2026, 1, 15), "2026-01-14T23:00:00", "2026-01-15T23:00:00", 24),
        (date(2026, 3, 28), "2026-03-27T23:00:00", "2026-03-28T23:00:00", 24),
        (date(2026, 3, 29), "2026-03-28T23:00:00", "2026-03-29T22:00:00", 23),
        (date(2026, 3, 30), "2026-03-29T22:00:00", "2026-03-30T22:00:00", 24),
        (date(2026, 10, 24), "2026-10-23T22:00:00", "2026-10-24T22:00:00", 24),
        (date(2026, 10, 25), "2026-10-24T22:00:00", "2026-10-25T23:00:00", 25),
        (date(2026, 10, 26), "2026-10-25T23:00:00", "2026-10-26T23:00:00", 24),
        (date(2028, 2, 29), "2028-02-28T23:00:00", "2028-02-29T23:00:00", 24),
        (date(2026, 12, 31), "2026-12-30T23:00:00", "2026-12-31T23:00:00", 24),
    ],
)
def test_H1_a_deadline_is_the_end_of_its_last_day(day: date, start: str, end: str, hours: int) -> None:
    assert start_of_day(day) == utc(start)
    assert end_of_day(day) == utc(end)
    assert end_of_day(day).tzinfo is UTC
    assert end_of_day(day) - start_of_day(day) == timedelta(hours=hours)
    assert last_day_before(end_of_day(day)) == day


@pytest.mark.parametrize(
    ("made", "days", "last_day"),
    [
        (date(2020, 6, 24), 10, date(2020, 7, 4)),
        (date(2020, 6, 24), 4, date(2020, 6, 28)),
        (date(2020, 6, 24), 2, date(2020, 6, 26)),
        (date(2020, 6, 24), 3, date(2020, 6, 27)),
    ],
)
def test_H1_the_limits_of_the_screens(made: date, days: int, last_day: date) -> None:
    deadline = end_of_day(made + timedelta(days=days))
    assert last_day_before(deadline) == last_day
    assert list_style(deadline - MICROSECOND, Locale.FR) == f"{last_day:%d/%m/%Y} 23h59"
    assert list_style(deadline, Locale.FR) == f"{last_day + timedelta(days=1):%d/%m/%Y} 00h00"


@pytest.mark.parametrize(
    ("instant", "day"),
    [
        ("2026-03-29T22:00:00", date(2026, 3, 29)),
        ("2026-03-29T22:00:00.000001", date(2026, 3, 30)),
        ("2026-03-29T21:59:59.999999", date(2026, 3, 29)),
        ("2026-10-25T22:30:00", date(2026, 10, 25)),
        ("2026-10-25T23:00:00", date(2026, 10, 25)),
        ("2026-11-21T12:00:00", date(2026, 11, 21)),
    ],
)
def test_H1_the_day_to_show_for_a_deadline(instant: str, day: date) -> None:
    assert last_day_before(utc(instant)) == day
    assert last_day_before(utc(instant).astimezone(PARIS)) == day


def test_the_day_before_an_instant_is_found_on_the_time_line_not_on_the_clock_face() -> None:
    havana = ZoneInfo("America/Havana")
    midnight_again = utc("2025-11-02T05:00:00")  # one o'clock becomes midnight: the hour before is the same day's
    assert last_day_before(midnight_again.astimezone(havana), havana) == date(2025, 11, 2)


@pytest.mark.parametrize("function", [today, last_day_before, shown_instant])
def test_a_datetime_without_zone_is_refused(function: Any) -> None:
    with pytest.raises(ValueError, match="no zone"):
        function(datetime(2026, 11, 21, 12))  # noqa: DTZ001


@pytest.mark.parametrize("style", [list_style, voucher_style, mail_style])
def test_a_datetime_without_zone_is_not_written(style: Any) -> None:
    with pytest.raises(ValueError, match="no zone"):
        style(datetime(2026, 11, 21, 12), Locale.FR)  # noqa: DTZ001


@pytest.mark.parametrize(
    "call",
    [
        start_of_day,
        end_of_day,
        lambda at: day_style(at, Locale.FR),
        lambda at: is_business_day(at, ClosingDays.FRANCE),
        lambda at: plus_business_days(at, 1, ClosingDays.FRANCE),
    ],
)
def test_an_instant_is_not_taken_for_a_day(call: Any) -> None:
    with pytest.raises(TypeError, match="not a day"):
        call(utc("2026-11-21T23:30:00"))


EASTER_SUNDAYS = [
    date(2020, 4, 12),
    date(2021, 4, 4),
    date(2022, 4, 17),
    date(2023, 4, 9),
    date(2024, 3, 31),
    date(2025, 4, 20),
    date(2026, 4, 5),
    date(2027, 3, 28),
    date(2028, 4, 16),
    date(2029, 4, 1),
    date(2030, 4, 21),
    date(2031, 4, 13),
    date(2032, 3, 28),
    date(2033, 4, 17),
    date(2034, 4, 9),
    date(2035, 3, 25),
]


@pytest.mark.parametrize("easter", EASTER_SUNDAYS, ids=str)
def test_target_closes_on_its_six_days_and_weekends_only(easter: date) -> None:
    fixed = [(1, 1), (5, 1), (12, 25), (12, 26)]
    closed = {date(easter.year, *day) for day in fixed} | {easter + timedelta(days=shift) for shift in (-2, 1)}
    assert closed_weekdays(easter.year, ClosingDays.TARGET) == {day for day in closed if day.weekday() < 5}


@pytest.mark.parametrize("easter", EASTER_SUNDAYS, ids=str)
def test_france_closes_on_its_eleven_holidays_and_weekends_only(easter: date) -> None:
    fixed = [(1, 1), (5, 1), (5, 8), (7, 14), (8, 15), (11, 1), (11, 11), (12, 25)]
    closed = {date(easter.year, *day) for day in fixed} | {easter + timedelta(days=shift) for shift in (1, 39, 50)}
    assert closed_weekdays(easter.year, ClosingDays.FRANCE) == {day for day in closed if day.weekday() < 5}


def closed_weekdays(year: int, closed: ClosingDays) -> set[date]:
    days = {date(year, 1, 1) + timedelta(days=shift) for shift in range((date(year + 1, 1, 1) - date(year, 1, 1)).days)}
    weekend = {day for day in days if day.weekday() >= 5}
    assert not any(is_business_day(day, closed) for day in weekend)
    return {day for day in days - weekend if not is_business_day(day, closed)}


@pytest.mark.parametrize(
    ("day", "n", "closed", "expected"),
    [
        (date(2026, 4, 30), 4, ClosingDays.FRANCE, date(2026, 5, 7)),
        (date(2026, 4, 30), 5, ClosingDays.FRANCE, date(2026, 5, 11)),
        (date(2026, 4, 30), 5, ClosingDays.TARGET, date(2026, 5, 8)),
        (date(2026, 4, 2), 1, ClosingDays.FRANCE, date(2026, 4, 3)),
        (date(2026, 4, 2), 1, ClosingDays.TARGET, date(2026, 4, 7)),
        (date(2026, 12, 24), 1, ClosingDays.FRANCE, date(2026, 12, 28)),
        (date(2025, 12, 24), 1, ClosingDays.FRANCE, date(2025, 12, 26)),
        (date(2025, 12, 24), 1, ClosingDays.TARGET, date(2025, 12, 29)),
        (date(2026, 12, 31), 1, ClosingDays.TARGET, date(2027, 1, 4)),
        (date(2026, 11, 20), 1, ClosingDays.TARGET, date(2026, 11, 23)),
        (date(2026, 11, 21), 1, ClosingDays.TARGET, date(2026, 11, 23)),
        (date(2026, 11, 21), 0, ClosingDays.TARGET, date(2026, 11, 21)),
    ],
)
def test_C18_business_days(day: date, n: int, closed: ClosingDays, expected: date) -> None:
    assert plus_business_days(day, n, closed) == expected


def test_business_days_are_counted_forwards() -> None:
    with pytest.raises(ValueError, match="forwards"):
        plus_business_days(date(2026, 11, 20), -1, ClosingDays.TARGET)


def test_G1_lists() -> None:
    at = utc("2020-06-22T12:22:59")
    assert list_style(at, Locale.FR) == "22/06/2020 14h22"
    assert list_style(at, Locale.EN) == "22/06/2020 14:22"
    assert list_style(at, Locale.FR, ZoneInfo("Indian/Reunion")) == "22/06/2020 16h22"


def test_G1_vouchers() -> None:
    at = utc("2020-08-06T13:09:30")
    assert voucher_style(at, Locale.FR) == "06/08/2020 15:09"
    assert voucher_style(at, Locale.EN) == "06/08/2020 15:09"


def test_G1_mails() -> None:
    at = utc("2020-06-24T09:59:35")
    assert mail_style(at, Locale.FR) == "24/06/2020 à 11:59:35"
    assert mail_style(at, Locale.EN) == "24/06/2020 at 11:59:35"


def test_G1_days() -> None:
    assert day_style(date(2020, 6, 24), Locale.FR) == "24/06/2020"
    assert day_style(date(2020, 6, 4), Locale.EN) == "04/06/2020"


def test_G1_whatever_zone_an_instant_comes_in() -> None:
    tokyo = datetime(2020, 6, 24, 18, 59, 35, tzinfo=timezone(timedelta(hours=9)))
    assert mail_style(tokyo, Locale.FR) == "24/06/2020 à 11:59:35"


def test_G1_both_hours_of_the_longest_night() -> None:
    assert list_style(utc("2026-10-25T00:30:00"), Locale.FR) == "25/10/2026 02h30"
    assert list_style(utc("2026-10-25T01:30:00"), Locale.FR) == "25/10/2026 02h30"


def test_facts_of_time_are_read_in_the_language_of_their_sentence() -> None:
    text = Text("Le {day}, reçu le {at}", "On {day}, received {at}")
    facts = {"day": shown_day(date(2020, 7, 4)), "at": shown_instant(utc("2020-06-24T09:59:35"))}
    assert text.in_locale(Locale.FR, **facts) == "Le 04/07/2020, reçu le 24/06/2020 à 11:59:35"
    assert text.in_locale(Locale.EN, **facts) == "On 04/07/2020, received 24/06/2020 at 11:59:35"


@unhurried
@given(DAYS, ZONES)
def test_H1_days_follow_each_other_without_gap_or_overlap(day: date, zone: ZoneInfo) -> None:
    assert end_of_day(day, zone) == start_of_day(day + timedelta(days=1), zone)
    assert today(start_of_day(day, zone), zone) == day
    assert today(end_of_day(day, zone) - MICROSECOND, zone) == day
    assert last_day_before(end_of_day(day, zone), zone) == day


@unhurried
@given(INSTANTS, ZONES)
def test_H1_every_instant_lies_in_its_day(at: datetime, zone: ZoneInfo) -> None:
    day = today(at, zone)
    assert start_of_day(day, zone) <= at < end_of_day(day, zone)


@unhurried
@given(st.dates(date(2020, 1, 1), date(2040, 1, 1)), st.integers(1, 30), st.sampled_from(ClosingDays))
def test_C18_business_days_add_up(day: date, n: int, closed: ClosingDays) -> None:
    reached = plus_business_days(day, n, closed)
    assert is_business_day(reached, closed)
    assert plus_business_days(plus_business_days(day, n - 1, closed), 1, closed) == reached
    passed = (day + timedelta(days=shift) for shift in range(1, (reached - day).days + 1))
    assert sum(is_business_day(each, closed) for each in passed) == n
