"""The configuration of what goes on after a training: where it runs, forecasts, monitoring, and what is kept."""

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
        None, min_length=1, description="of the cluster's scheduler; by default a cluster of this machine"
    )
    workers: int | None = Field(None, ge=1, le=10_000, description="machines' shares of the search; default: all")

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
    """Where scheduled forecasts are kept."""

    format: Literal["parquet", "csv", "sql"] = "parquet"
    uri: str | None = Field(None, description="env:NAME of the variable that holds the SQLAlchemy URL, for sql")
    table: str = Field("lstm_forecasts", pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,62}$", description="of the database")

    @field_validator("uri")
    @classmethod
    def _from_the_environment(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(VARIABLE, value):
            raise ValueError("must name an environment variable such as env:DB_URI, but got another text (not shown)")
        return value

    @model_validator(mode="after")
    def _sql_has_an_address(self) -> Self:
        if (self.format == "sql") != (self.uri is not None):
            raise ValueError("format sql and `uri` go together: write {format: sql, uri: env:NAME}")
        return self


class ForecastSpec(StrictModel):
    """Scheduled forecasts: one slot each step of a schedule."""

    every: str | None = Field(
        None, description="between two slots: a duration of whole seconds, B, W-MON, MS, …; default: data.frequency"
    )
    backfill: int = Field(24, ge=0, le=10_000, description="missed slots that a run makes up for, at most")
    log: LogSpec = LogSpec()

    @field_validator("every")
    @classmethod
    def _whole_seconds(cls, value: str | None) -> str | None:
        if value is not None:
            step = Frequency.parse(value)
            if step.unit is None and step.step % pd.Timedelta(1, "s"):
                raise ValueError(f"must be whole seconds, but got {value!r}")
        return value


class MonitorSpec(StrictModel):
    """When the world has moved."""

    window: Duration = Field("30d", description="newest forecasts and inputs that are looked at")
    cooldown: Duration = Field("7d", description="no second alarm of the same champion within it")
    cusum: float = Field(4.0, gt=0, le=100, description="days' errors over the backtest's, summed, in its deviations")
    ratio: float = Field(2.0, ge=1, le=100, description="newest error over the backtest's: with cusum, drift")
    psi: float = Field(0.25, gt=0, le=100, description="population stability index of an input")
    ks: float = Field(0.2, gt=0, le=1, description="Kolmogorov-Smirnov distance of an input: with psi, a warning")


class RetentionSpec(StrictModel):
    """What is removed, and when. A version that has an alias, or was champion once, is never touched."""

    runs: int = Field(50, ge=1, description="runs of the name, of each kind the newest, that are kept whole")
    forecasts: Duration = Field("400d", description="scheduled forecasts")
    work: Duration = Field("30d", description="prepared tables and windows that no run has used since")
