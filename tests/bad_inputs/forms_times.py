"""Times, frequencies, gaps and duplicates that are accepted."""

import datetime

from tests.bad_inputs.form import GOOD, PARQUET, TIMES, Form, at, days
from tests.bad_inputs.tables import csv, lines, parquet, saved, stamps

EXTREMES = ("2024-01-01T00:07Z", "2024-01-01T00:20Z", "2024-01-01T00:59Z", "2024-01-01T03:30Z")


def local(zone: str, form: str = "%Y-%m-%d %H:%M") -> str:
    """The good table with times on the clock of a zone, without their offset."""
    return csv(GOOD.assign(time=TIMES.dt.tz_convert(zone).dt.strftime(form)))


def resampled(rule: str, value: float) -> Form:
    """Three rows in one hour, and one three hours later."""
    return Form(
        f"several rows a step become one: {rule}",
        f"resample: {rule}",
        {"sales.csv": lines(*(f"{time},north,{sales}" for time, sales in zip(EXTREMES, (2, 1, 6, 9), strict=True)))},
        (("north", "2024-01-01T00:00", value), ("north", "2024-01-01T03:00", 9.0)),
        (f"4 rows became 2 steps of 1h ({rule})",),
    )


def every(frequency: str, times: str, title: str, utc: str = "", zone: str = "") -> Form:
    """A grid of its own, on the clock of a zone."""
    config = f"frequency: {frequency}" + (f"\ntimezone: {zone}" if zone else "")
    files = {"sales.csv": stamps(*times.split())}
    return Form(title, config, files, days(*(utc or times).split()), frequency=frequency)


TIME = (
    Form(
        "ISO 8601 with Z, or with offsets, which may differ",
        "",
        {
            "sales.csv": csv(
                GOOD.assign(
                    time=[
                        stamp.tz_convert("Europe/Berlin" if number % 2 else "America/New_York").isoformat()
                        for number, stamp in enumerate(TIMES)
                    ]
                )
            )
        },
    ),
    Form("local times without an offset", "timezone: Europe/Berlin", {"sales.csv": local("Europe/Berlin")}),
    Form(
        "another way to write them",
        "timezone: Europe/Berlin\ntime_format: '%d.%m.%Y %H:%M'",
        {"sales.csv": local("Europe/Berlin", "%d.%m.%Y %H:%M")},
    ),
    Form(
        "a format with an offset",
        "time_format: '%d/%m/%y %I:%M %p %z'",
        {"sales.csv": local("Asia/Kolkata", "%d/%m/%y %I:%M %p %z")},
    ),
    Form(
        "whole numbers that a format explains",
        f"{PARQUET}\ntime_format: '%Y%m%d%H'",
        {"sales.parquet": parquet(time=TIMES.dt.strftime("%Y%m%d%H").astype("int64").tolist())},
    ),
    Form(
        "time stamps in Parquet, with a zone",
        PARQUET,
        {"sales.parquet": saved(GOOD.assign(time=TIMES.dt.tz_convert("Asia/Tokyo")))},
    ),
    Form(
        "time stamps in Parquet, without a zone: local",
        f"{PARQUET}\ntimezone: Asia/Tokyo",
        {"sales.parquet": saved(GOOD.assign(time=TIMES.dt.tz_convert("Asia/Tokyo").dt.tz_localize(None)))},
    ),
    Form(
        "dates in Parquet",
        f"{PARQUET}\nfrequency: 1d",
        {"sales.parquet": saved(GOOD[:2].assign(time=[datetime.date(2024, 1, 1), datetime.date(2024, 1, 2)]))},
        (("north", "2024-01-01T00:00", 10.5), ("north", "2024-01-02T00:00", 11.5)),
        frequency="1d",
    ),
    Form(
        "the hour that comes twice, told by its offsets",
        "timezone: America/New_York",
        {"sales.csv": stamps("2024-11-03T01:00-04:00", "2024-11-03T01:00-05:00")},
        days("2024-11-03T05:00", "2024-11-03T06:00"),
    ),
    every(
        "1d",
        "2024-03-30 2024-03-31 2024-04-01 2024-10-27 2024-10-28",
        "local days of 23 and 25 hours",
        "2024-03-29T23:00 2024-03-30T23:00 2024-03-31T22:00 2024-10-26T22:00 2024-10-27T23:00",
        "Europe/Berlin",
    ),
    every(
        "1d",
        "2018-11-03 2018-11-04 2018-11-05",
        "a day whose midnight the clocks skip",
        "2018-11-03T03:00 2018-11-04T03:00 2018-11-05T02:00",
        "America/Sao_Paulo",
    ),
)

FREQUENCIES = (
    every("15min", "2024-01-01T00:00 2024-01-01T00:15 2024-01-01T00:45", "elapsed time: 1s, 15min, 1h, …"),
    every("1d", "2024-01-01T06:00 2024-01-02T06:00", "days, at the time of day of the first row"),
    every("1w", "2024-01-03T00:00 2024-01-17T00:00", "weeks, from the day of the first row"),
    every("B", "2024-01-05T00:00 2024-01-08T00:00", "business days"),
    every("W-MON", "2024-01-01T00:00 2024-01-08T00:00", "weeks that begin on a day"),
    every(
        "MS",
        "2024-01 2024-02 2024-04",
        "months (starts; ME: ends), quarters (QS, QE), years (YS, YE)",
        "2024-01-01T00:00 2024-02-01T00:00 2024-04-01T00:00",
    ),
    Form("a frequency that is found in the data", "frequency: infer"),
    Form(
        "rows that come when they come",
        "frequency: irregular",
        {"sales.csv": stamps(*EXTREMES)},
        days(*(time.removesuffix("Z") for time in EXTREMES)),
        frequency="irregular",
    ),
)

GAPS = (
    Form(
        "rows that are missing",
        "",
        {"sales.csv": csv(GOOD.iloc[[0, 3]])},
        (("north", "2024-01-01T00:00", 10.5), ("north", "2024-01-01T03:00", 13.5)),
    ),
    Form("values that are missing", "", {"sales.csv": csv(GOOD[:2].assign(sales=[None, 11.5]))}, tuple(at(None, 11.5))),
    Form(
        "a row twice, averaged",
        "duplicates: mean",
        {"sales.csv": lines("2024-01-01T00:00Z,north,1", "2024-01-01T00:00Z,north,4")},
        tuple(at(2.5)),
        ("1 duplicate rows were merged (mean)",),
    ),
    Form(
        "a row twice, the last one kept",
        "duplicates: last",
        {"sales.csv": lines("2024-01-01T00:00Z,north,1", "2024-01-01T00:00Z,north,4")},
        tuple(at(4.0)),
        ("1 duplicate rows were merged (last)",),
    ),
    resampled("mean", 3.0),
    resampled("sum", 9.0),
    resampled("min", 1.0),
    resampled("max", 6.0),
    resampled("last", 6.0),
    Form(
        "rows off the calendar, resampled to local days",
        "frequency: 1d\nresample: sum\ntimezone: Asia/Tokyo",
        {"sales.csv": csv(GOOD[:24])},
        (("north", "2023-12-31T15:00", 262.5), ("north", "2024-01-01T15:00", 265.5)),
        ("24 rows became 2 steps of 1d (sum)",),
        "1d",
    ),
)
