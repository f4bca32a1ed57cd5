"""Instants are aware and in UTC; days are the civil days of the issuer's zone, Europe/Paris unless said otherwise. A
deadline is the exclusive instant at which its last civil day ends, on nights of 23, 24 or 25 hours alike (H1)."""

from datetime import UTC, date, datetime, time, timedelta, tzinfo
from enum import StrEnum
from functools import cache
from typing import Final
from zoneinfo import ZoneInfo

from babel.dates import format_date
from holidays import country_holidays, financial_holidays

from domain.texts import Fact, Locale

PARIS: Final = ZoneInfo("Europe/Paris")


class ClosingDays(StrEnum):
    """Which days besides Saturdays and Sundays are not business days."""

    FRANCE = "FRANCE"
    """The public holidays of metropolitan France: deliveries."""
    TARGET = "TARGET"
    """The closing days of the euro's settlement system: transfers between banks."""


def today(now: datetime, zone: ZoneInfo = PARIS) -> date:
    """The civil day that an instant falls in. Raises ValueError for a naive datetime."""
    return _local(now, zone).date()


def start_of_day(day: date, zone: ZoneInfo = PARIS) -> datetime:
    """The instant, in UTC, at which a civil day begins."""
    return datetime.combine(_civil(day), time.min, zone).astimezone(UTC)


def end_of_day(day: date, zone: ZoneInfo = PARIS) -> datetime:
    """The exclusive instant, in UTC, at which a civil day ends (H1): what happens at it happens on the next day."""
    return start_of_day(day + timedelta(days=1), zone)


def last_day_before(instant: datetime, zone: ZoneInfo = PARIS) -> date:
    """The last civil day with any time before an exclusive instant: the day to show for a deadline, the inverse of
    `end_of_day`. Raises ValueError for a naive datetime."""
    # In UTC, because subtracting from a local datetime moves its clock face, not the instant.
    return today(_local(instant, UTC) - timedelta(microseconds=1), zone)


def next_within(at: datetime, from_hour: int | None, until_hour: int | None, zone: ZoneInfo = PARIS) -> datetime:
    """That instant when it lies in these hours of the civil day (`until_hour` exclusive), else the next one at which
    they begin; every hour will do where there are none. Raises ValueError for a naive datetime."""
    if from_hour is None or until_hour is None:
        return at
    local = _local(at, zone)
    if from_hour <= local.hour < until_hour:
        return at
    day = local.date() + timedelta(days=local.hour >= until_hour)
    return datetime.combine(day, time(from_hour), zone).astimezone(UTC)


def is_business_day(day: date, closed: ClosingDays) -> bool:
    """Neither Saturday, Sunday nor one of the calendar's closing days."""
    return _civil(day).weekday() < 5 and day not in _closing_days(closed, day.year)


def plus_business_days(day: date, n: int, closed: ClosingDays) -> date:
    """The `n`-th business day after `day`, which itself never counts (C18); `day` as it is when `n` is 0. Raises
    ValueError for a negative `n`."""
    if n < 0:
        raise ValueError("business days are counted forwards")
    while n > 0:
        day += timedelta(days=1)
        if is_business_day(day, closed):
            n -= 1
    return day


def list_style(at: datetime, locale: Locale, zone: ZoneInfo = PARIS) -> str:
    """Lists (G1): "22/06/2020 14h22" in French, "22/06/2020 14:22" in English."""
    return _local(at, zone).strftime("%d/%m/%Y %Hh%M" if locale is Locale.FR else "%d/%m/%Y %H:%M")


def voucher_style(at: datetime, locale: Locale, zone: ZoneInfo = PARIS) -> str:
    """Vouchers (G1): "06/08/2020 15:09" in both languages."""
    return _local(at, zone).strftime("%d/%m/%Y %H:%M")


def mail_style(at: datetime, locale: Locale, zone: ZoneInfo = PARIS) -> str:
    """Mails (G1): "24/06/2020 à 11:59:35" in French, "24/06/2020 at 11:59:35" in English."""
    local = _local(at, zone)
    return f"{local:%d/%m/%Y} {'à' if locale is Locale.FR else 'at'} {local:%H:%M:%S}"


def day_style(day: date, locale: Locale) -> str:
    """A day (G1): "24/06/2020" in both languages."""
    return _civil(day).strftime("%d/%m/%Y")


def month_style(day: date, locale: Locale) -> str:
    """The month of a day: "novembre 2026", "November 2026"."""
    return format_date(_civil(day), "MMMM y", locale=locale.value)


def shown_day(day: date) -> Fact:
    """A day as a fact of a Text."""
    return lambda locale: day_style(day, locale)


def shown_instant(at: datetime, zone: ZoneInfo = PARIS) -> Fact:
    """An instant as a fact of a Text, in the style of mails. Raises ValueError for a naive datetime."""
    local = _local(at, zone)
    return lambda locale: mail_style(local, locale, zone)


def _local(at: datetime, zone: tzinfo) -> datetime:
    if at.utcoffset() is None:
        raise ValueError(f"{at!r} has no zone, so it is no instant")
    return at.astimezone(zone)


def _civil(day: date) -> date:
    # A datetime passes for a date in Python's types, and would silently give the day of its own zone.
    if isinstance(day, datetime):
        raise TypeError(f"{day!r} is an instant, not a day")
    return day


@cache
def _closing_days(closed: ClosingDays, year: int) -> frozenset[date]:
    match closed:
        case ClosingDays.FRANCE:
            return frozenset(country_holidays("FR", years=year))
        case ClosingDays.TARGET:
            return frozenset(financial_holidays("XECB", years=year))
