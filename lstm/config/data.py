"""The sections `data`, `split` and `normalize`: source, columns, gaps, spans and scales."""

import re
from collections import Counter
from typing import Literal, Self
from zoneinfo import ZoneInfo

import pandas as pd
from pydantic import Field, field_validator, model_validator

from lstm.calendars.frequency import Frequency
from lstm.config.fields import Columns, FilterValues, StepsOrDuration, WideColumns
from lstm.config.model import StrictModel
from lstm.config.source import VARIABLE, CsvSpec, SqlSource, holds_credentials

_FORMAT = "'%d/%m/%Y %H:%M'"
_PERIOD_END = r"(?<=[MQY])E(?=-|$)"  # of ME, QE-NOV, 2YE
_YEAR = r"(?:^|[^%])(?:%%)*%[YyGcx]"  # strptime's directives that hold a year


class CalendarSpec(StrictModel):
    """Features computed from the time stamp in local time, known ahead."""

    features: tuple[Literal["hour", "dayofweek", "dayofyear", "month"], ...] = ()
    holidays: str | None = Field(None, description="country or subdivision of the `holidays` package: US, AU-VIC")


class MissingSpec(StrictModel):
    """How gaps up to `max_gap` are filled; a longer gap in a target splits the series."""

    max_gap: StepsOrDuration = "6h"
    method: Literal["linear", "forward", "seasonal", "none"] = "linear"
    season: int | None = Field(None, ge=2, le=1_000_000, description="steps back that method seasonal copies from")
    indicators: bool = Field(False, description="add a 0/1 input for each target and observed column: was it missing?")

    @model_validator(mode="after")
    def _season_where_needed(self) -> Self:
        if (self.method == "seasonal") != (self.season is not None):
            raise ValueError(f"method 'seasonal' and `season` go together, but got {self.method!r}, {self.season}")
        return self


class DataSpec(StrictModel):
    """Source of the table and the roles of its columns."""

    source: str | SqlSource = Field(description="catalogue name, path or glob, URL, env:NAME of a URL, or a query")
    sha256: str | None = Field(None, description="of the source's bytes; other content is refused")
    csv: CsvSpec = CsvSpec()
    time: str
    time_format: str | None = Field(None, description="strptime's, such as %d/%m/%Y %H:%M; by default ISO 8601")
    series: Columns = ()
    wide: WideColumns = Field((), description="columns that are each a series of the one target")
    target: Columns
    observed: Columns = ()
    known: Columns = ()
    static: Columns = ()
    categorical: Columns = Field((), description="covariates that hold categories: encoded as one 0/1 input each")
    where: dict[str, FilterValues] = Field(
        {}, description="keep the rows whose column has this value, or one of these values"
    )
    partition_by: Columns = Field((), description="one model for each value of the column, or of several columns")
    frequency: str = Field("1h", description="a duration, B, W-MON, MS, …; infer, or irregular")
    timezone: str = "UTC"
    resample: Literal["mean", "sum", "min", "max", "last"] | None = Field(
        None, description="how target values within one step of `frequency` are aggregated; covariates: mean, or last"
    )
    duplicates: Literal["refuse", "mean", "last"] = "refuse"
    calendar: CalendarSpec = CalendarSpec()
    missing: MissingSpec = MissingSpec()

    @field_validator("source")
    @classmethod
    def _source_not_empty(cls, value: str | SqlSource) -> str | SqlSource:
        if isinstance(value, str) and not value.strip():
            raise ValueError("must name a data set of the catalogue, a file, a folder, a pattern, a URL or env:NAME")
        if isinstance(value, str) and value.startswith("env:") and not re.fullmatch(VARIABLE, value):
            raise ValueError("must read env:NAME, where NAME is a variable of the environment that holds the address")
        return value

    @field_validator("source")
    @classmethod
    def _no_credentials(cls, value: str | SqlSource) -> str | SqlSource:
        if isinstance(value, str) and holds_credentials(value):
            raise ValueError(
                "must not hold credentials, but got a URL with some (not shown): set it in the environment and write "
                "`source: env:NAME`"
            )
        return value

    @field_validator("sha256")
    @classmethod
    def _sha256_is_hex(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"[0-9a-f]{64}", value):
            raise ValueError("must be 64 hexadecimal digits in lower case, as sha256sum prints them")
        return value

    @field_validator("time_format")
    @classmethod
    def _valid_time_format(cls, value: str | None) -> str | None:
        if value is None:
            return None
        try:
            pd.to_datetime(pd.Series(["2024"]), format=value, errors="coerce")
        except (ValueError, re.error) as error:
            raise ValueError(f"must be a format of strptime such as {_FORMAT}, but got {value!r} ({error})") from None
        if not re.search(_YEAR, value):
            raise ValueError(f"must be a format of strptime with a year (%Y or %y) such as {_FORMAT}")
        return value

    @field_validator("target")
    @classmethod
    def _at_least_one_target(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise ValueError("must name at least one column")
        return value

    @field_validator("frequency")
    @classmethod
    def _valid_frequency(cls, value: str) -> str:
        if value not in ("infer", "irregular"):
            Frequency.parse(value)
        return value

    @field_validator("timezone")
    @classmethod
    def _valid_timezone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (KeyError, ValueError, OSError):
            raise ValueError("must be a time zone of the tz database such as UTC or America/New_York") from None
        return value

    @field_validator("calendar")
    @classmethod
    def _valid_country(cls, value: CalendarSpec) -> CalendarSpec:
        if value.holidays is not None:
            from holidays import list_supported_countries

            country, _, subdivision = value.holidays.partition("-")
            known = list_supported_countries()
            if country not in known or (subdivision and subdivision not in known[country]):
                raise ValueError(
                    f"holidays={value.holidays!r} is no country or subdivision of the `holidays` package; use one "
                    "like US or AU-VIC"
                )
        return value

    @model_validator(mode="after")
    def _one_role_per_column(self) -> Self:
        values = (*self.target, *self.observed, *self.known, *self.static)
        wide = () if self.wide == "all" else self.wide
        roles = [self.time, *self.series, *wide, *values]
        duplicates = sorted(name for name, count in Counter(roles).items() if count > 1)
        if duplicates:
            raise ValueError(
                f"a column has one role, but {duplicates[0]!r} is named twice "
                "(the target's own past is always an input: no need to list it as observed)"
            )
        for name in ("series", "time", "__row__"):
            if name in values:
                raise ValueError(
                    f"a target or covariate can't be called {name!r}, which the prepared table uses: rename the column"
                )
        return self

    @model_validator(mode="after")
    def _categories_are_covariates(self) -> Self:
        for name in self.categorical:
            if name not in (*self.observed, *self.known, *self.static):
                raise ValueError(
                    f"categorical column {name!r} must also be named in observed, known or static, which say when it "
                    "is known"
                )
        return self

    @model_validator(mode="after")
    def _wide_has_one_target(self) -> Self:
        if self.wide and (len(self.target) > 1 or self.series):
            raise ValueError(
                "`wide` makes one series a column: name one `target` (what the values are) and no `series`"
            )
        return self

    @model_validator(mode="after")
    def _row_filters_need_long_tables(self) -> Self:
        for key in ("where", "partition_by"):
            if self.wide and getattr(self, key):
                raise ValueError(
                    f"`{key}` chooses rows by a column, and `wide` makes series of columns: list the columns to keep "
                    "in `wide`"
                )
        duplicates = sorted(name for name, count in Counter(self.partition_by).items() if count > 1)
        if duplicates:
            raise ValueError(f"`partition_by` must name each column once, but {duplicates[0]!r} is named twice")
        values = sorted({self.time, *self.target} & set(self.partition_by))
        if values:
            raise ValueError(f"`partition_by` names columns of segments, but {values[0]!r} is the time or a target")
        return self

    @model_validator(mode="after")
    def _resample_needs_period_start(self) -> Self:
        if self.resample and re.search(_PERIOD_END, self.frequency):
            period_start = re.sub(_PERIOD_END, "S", self.frequency)
            raise ValueError(
                f"frequency {self.frequency!r} is the last day of a step, and `resample` needs the first: use "
                f"{period_start}"
            )
        return self

    @model_validator(mode="after")
    def _irregular_has_no_known_future(self) -> Self:
        if self.frequency == "irregular" and (self.known or self.resample or _any_calendar(self.calendar)):
            raise ValueError(
                "frequency 'irregular' leaves the time of the next row unknown, so that `known`, `calendar` and "
                "`resample` can't be used: leave them out, or name a frequency and a `resample` rule"
            )
        if self.frequency == "irregular" and isinstance(self.missing.max_gap, int):
            raise ValueError("frequency 'irregular' needs missing.max_gap as a duration such as 6h, but got steps")
        return self

    @property
    def grid(self) -> Frequency | None:
        """Frequency of the time grid; None: rows are irregular."""
        return None if self.frequency == "irregular" else Frequency.parse(self.frequency, self.timezone)

    @property
    def values(self) -> tuple[str, ...]:
        """Targets and covariates in the order of the prepared table."""
        return (*self.target, *self.observed, *self.known, *self.static)

    @property
    def numeric(self) -> tuple[str, ...]:
        """The targets and covariates that are not categories."""
        return tuple(name for name in self.values if name not in self.categorical)


def _any_calendar(calendar: CalendarSpec) -> bool:
    return bool(calendar.features or calendar.holidays)
