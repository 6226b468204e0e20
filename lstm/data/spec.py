"""The configuration of what goes in: source and columns, gaps, splits, normalisation."""

from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import BeforeValidator, Field, field_validator, model_validator

from lstm.config import Strict
from lstm.durations import duration


def _as_tuple(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


def _duration(value: Any) -> Any:
    if isinstance(value, str):
        try:
            duration(value)
        except ValueError:
            raise ValueError("must be a duration above zero such as 30d, 6h, 10min") from None
    return value


def _span(value: Any) -> Any:
    whole = isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 1_000_000_000
    share = isinstance(value, float) and 0 < value < 1
    if not isinstance(value, str) and not whole and not share:
        raise ValueError("must be rows (1 or more), a fraction between 0 and 1, or a duration such as 30d")
    return _duration(value)


Columns = Annotated[tuple[str, ...], BeforeValidator(_as_tuple)]
Duration = Annotated[str, BeforeValidator(_duration)]
Span = Annotated[
    int | float | str, BeforeValidator(_span), Field(description="rows, a fraction of the span, or a duration")
]


class CalendarSpec(Strict):
    """Known-ahead features that follow from the time stamp, in local time."""

    features: tuple[Literal["hour", "dayofweek", "dayofyear", "month"], ...] = ()
    holidays: str | None = Field(None, description="country code of the `holidays` package, such as US")


class MissingSpec(Strict):
    """Gaps up to `max_gap` are filled; a longer gap in a target splits the series."""

    max_gap: Duration = "6h"
    method: Literal["linear", "forward", "none"] = "linear"


class DataSpec(Strict):
    """Where the table is and what its columns mean."""

    source: str = Field(description="catalogue name, or path of a .csv, .csv.gz or .parquet file")
    time: str
    series: Columns = ()
    target: Columns
    observed: Columns = ()
    known: Columns = ()
    static: Columns = ()
    frequency: Duration = "1h"
    timezone: str = "UTC"
    calendar: CalendarSpec = CalendarSpec()
    missing: MissingSpec = MissingSpec()

    @field_validator("target")
    @classmethod
    def _some_target(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise ValueError("must name at least one column")
        return value

    @field_validator("timezone")
    @classmethod
    def _real_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (KeyError, ValueError, OSError):
            raise ValueError("must be a time zone of the tz database such as UTC or America/New_York") from None
        return value

    @field_validator("calendar")
    @classmethod
    def _real_country(cls, value: CalendarSpec) -> CalendarSpec:
        if value.holidays is not None:
            from holidays import list_supported_countries

            if value.holidays not in list_supported_countries():
                raise ValueError(
                    f"holidays={value.holidays!r} is no country of the `holidays` package; use one like US"
                )
        return value

    @model_validator(mode="after")
    def _columns_once(self) -> Self:
        values = (*self.target, *self.observed, *self.known, *self.static)
        for name in ("series", "time"):
            if name in values:
                raise ValueError(f"a target or covariate can't be called {name!r}, which the prepared table uses")
        roles = [self.time, *self.series, *self.target, *self.observed, *self.known, *self.static]
        twice = sorted({name for name in roles if roles.count(name) > 1})
        if twice:
            raise ValueError(
                f"a column plays one role, but {twice[0]!r} is named twice "
                "(the target's own past is always an input: no need to list it as observed)"
            )
        return self


class SplitSpec(Strict):
    """The last `test` of the span is scored once, the `validation` before it selects."""

    validation: Span = 0.1
    test: Span = 0.1
    train: Span | None = Field(None, description="rows before validation to keep; all of them by default")


class NormalizeSpec(Strict):
    """How inputs and targets are scaled; statistics come from the training span alone."""

    strategy: Literal["zscore", "minmax", "robust", "none"] = "zscore"
    per: Literal["series", "all"] = "series"
