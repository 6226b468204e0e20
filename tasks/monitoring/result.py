"""The result of monitoring one model at one moment: the content of `monitor.json`."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from lstm.monitoring.drift import InputShift


@dataclass(frozen=True)
class ErrorChart:
    """CUSUM chart of daily errors, and the ratio of the newest errors to the backtest's."""

    cusum: float
    limit: float
    ratio: float  # over the days since `since`, at most the newest seven
    since: str  # first day of the rise in which the chart ends, ISO 8601; "": no rise
    days: tuple[dict[str, Any], ...]  # `until`, `ratio` to the backtest's error, `cusum`


@dataclass(frozen=True)
class MonitorResult:
    """Forecasts of one version scored as of one moment."""

    name: str
    version: str  # NAME/3
    moment: str  # ISO 8601, UTC
    age_days: int  # days since the end of the version's data
    since: str  # start of the monitored window, ISO 8601
    forecasts: int  # rows of the log by this version, one per series, target, step and slot
    waiting: int  # of these, rows whose actual value is not known yet
    repeated: int  # duplicate rows
    others: int  # rows by other versions, which are not scored
    promised: Mapping[str, float]  # metrics of the backtest
    live: Mapping[str, float]  # the same metrics of the logged forecasts; empty: no actual value yet
    rmse_interval: tuple[float, float] | None  # 95 % by block bootstrap; None: too few days
    errors: ErrorChart | None  # None: fewer than five days of backtest, or no actual value yet
    inputs: tuple[InputShift, ...]
    by_age: tuple[dict[str, Any], ...]
    by_step: tuple[dict[str, Any], ...]
    drifted: bool
    reason: str  # one line
    warnings: tuple[str, ...]
    alarmed: bool = False  # whether an alarm was raised; False within the cool-down

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return asdict(self)
