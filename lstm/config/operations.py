"""The sections `execution`, `forecast`, `monitor` and `retention`."""

import re
from typing import Literal, Self

import pandas as pd
from pydantic import Field, field_validator, model_validator

from lstm.calendars.frequency import Frequency
from lstm.config.fields import Duration
from lstm.config.model import StrictModel
from lstm.config.source import VARIABLE, holds_credentials


class ExecutionSpec(StrictModel):
    """Where the search's workers run."""

    runner: Literal["local", "dask", "ray"] = "local"
    address: str | None = Field(
        None, min_length=1, description="of the cluster's scheduler; by default a cluster on this machine"
    )
    workers: int | None = Field(None, ge=1, le=10_000, description="nodes that take part in the search; default: all")

    @field_validator("address")
    @classmethod
    def _no_credentials(cls, value: str | None) -> str | None:
        if value is not None and holds_credentials(value):
            raise ValueError("must not hold credentials, but got an address with some (not shown)")
        return value

    @model_validator(mode="after")
    def _local_has_no_address(self) -> Self:
        if self.runner == "local" and (self.address is not None or self.workers is not None):
            raise ValueError("address and workers belong to runner dask or ray: leave them out, or name that runner")
        return self


class LogSpec(StrictModel):
    """Where scheduled forecasts are stored."""

    format: Literal["parquet", "csv", "sql"] = "parquet"
    uri: str | None = Field(None, description="env:NAME of the variable that holds the SQLAlchemy URL, for sql")
    table: str = Field("lstm_forecasts", pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,62}$", description="in the database")

    @field_validator("uri")
    @classmethod
    def _is_environment_variable(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(VARIABLE, value):
            raise ValueError("must name an environment variable such as env:DB_URI, but got another text (not shown)")
        return value

    @model_validator(mode="after")
    def _sql_has_an_address(self) -> Self:
        if (self.format == "sql") != (self.uri is not None):
            raise ValueError("format sql and `uri` go together: write {format: sql, uri: env:NAME}")
        return self


class ForecastSpec(StrictModel):
    """Scheduled forecasts, one for each slot of a schedule."""

    every: str | None = Field(
        None, description="between two slots: a duration of whole seconds, B, W-MON, MS, …; default: data.frequency"
    )
    backfill: int = Field(24, ge=0, le=10_000, description="missed slots that one run catches up on, at most")
    log: LogSpec = LogSpec()

    @field_validator("every")
    @classmethod
    def _in_whole_seconds(cls, value: str | None) -> str | None:
        if value is not None:
            step = Frequency.parse(value)
            if step.unit is None and step.step % pd.Timedelta(1, "s"):
                raise ValueError(f"must be whole seconds, but got {value!r}")
        return value


class MonitorSpec(StrictModel):
    """When live errors or inputs count as drift."""

    window: Duration = Field("30d", description="newest forecasts and inputs that are compared")
    cooldown: Duration = Field("7d", description="time without a second alarm for the same champion")
    cusum: float = Field(
        4.0, gt=0, le=100, description="summed excess of daily errors over the backtest's, in deviations"
    )
    ratio: float = Field(2.0, ge=1, le=100, description="newest error over the backtest's; drift needs cusum and ratio")
    psi: float = Field(0.25, gt=0, le=100, description="population stability index of an input; with ks, a warning")
    ks: float = Field(0.2, gt=0, le=1, description="Kolmogorov-Smirnov distance of an input")


class RetentionSpec(StrictModel):
    """What is removed and when. A version that has an alias, or was ever champion, is kept."""

    runs: int = Field(50, ge=1, description="newest runs of each kind whose files are kept")
    forecasts: Duration = Field("400d", description="age of scheduled forecasts")
    work: Duration = Field("30d", description="time without use of prepared tables and windows")
