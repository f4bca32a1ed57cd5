"""Number series: numbers that follow each other without a gap, anew in each civil year."""

import sqlalchemy as sa

from domain import calendar
from domain.db import Row
from domain.work import Work


class NumberSeries(
    Row,
    table="number_series",
    key=("name", "year"),
    constraints=(sa.CheckConstraint("last > 0", name="last"),),
    options={"fillfactor": 50},
):
    """The last number of a series in a civil year (V16)."""

    name: str
    year: int
    last: int


async def next_number(work: Work, name: str) -> tuple[int, int]:
    """The civil year and the next number of this series in it; the series stays locked until the commit, so that no
    number is left out or given twice. Call it after the aggregate is taken, and before any account."""
    while True:
        year = calendar.today(work.now).year
        series = await work.take(NumberSeries.maybe(name=name, year=year))
        # The year may have ended while the series was waited for.
        if calendar.today(work.now).year == year:
            break
    if series is None:
        work.add(NumberSeries(tenant=work.tenant, name=name, year=year, last=1))
        return year, 1
    work.change(series, last=series.last + 1)
    return year, series.last
