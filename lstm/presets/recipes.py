"""Rules that choose networks for a task: lengths, anchors, heads, losses and sizes.

DECISIONS.md has the measurements behind the rules. With s the steps of a season, H the horizon, L the lookback and P
the patch length:

| case                                 | L, P                        | anchors                 | head          |
|--------------------------------------|-----------------------------|-------------------------|---------------|
| s = 1                                | 4 H (24 to 96), 1           | last                    | direct        |
| covariates known ahead, H > s / 4    | a cycle, s; two of them, s  | none, gate              | bidirectional |
| H <= s / 4, c < 0.6                  | a cycle, s / 4 and s        | last, gate              | direct        |
| c <= 1.12: weak season               | 2 s, s / 4                  | last, gate              | direct        |
| H >= 4 s                             | 21 s, s; 30 s, 2 s; 14 s, s | seasonal, last, gate    | direct        |
| otherwise                            | a cycle, s; two of them, s  | gate, seasonal, last    | direct        |

Here c is the mean absolute error of persistence divided by that of the seasonal naive, on the training rows, at most
one season ahead. A cycle is a week if a season is a day, else four seasons. A lookback that leaves too few windows (it
costs more than 5 % of those of validation or test, or 20 % of training) is cut to fewer seasons; below one season it
may cost half of the training windows.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lstm.calendars.frequency import Frequency
from lstm.config.pipeline import PipelineConfig
from lstm.profiling.run_lengths import RunLengths

_FEW_WINDOWS = 30_000  # of training: smaller networks below it
_WEAK_SEASON_RATIO = 1.12  # of `persistence_ratio`, c above; weather has 1.08, ETTh1 1.28, CO2 1.7, flights 3.2
_CERTAIN_RATIO = 0.6  # of `persistence_ratio`; below it the last value says most about the next ones
_MAX_PATCH = 48
_MAX_LOOKBACK = 1_000_000  # the limit of `sequence_length`
_DAY_S = 86_400
ModelParams = dict[str, Any]


@dataclass(frozen=True)
class ForecastTask:
    """The properties of a task that the rules depend on."""

    season: int
    horizon: int
    is_daily: bool  # a season is a day
    has_known: bool  # there are known covariates, beyond the calendar
    runs: RunLengths | None  # None: the data are not read yet

    @classmethod
    def of(cls, config: PipelineConfig, runs: RunLengths | None) -> "ForecastTask":
        """Return the task of a configuration."""
        season, frequency = config.evaluate.season, config.data.frequency
        return cls(season, config.window.horizon, _is_day(season, frequency), bool(config.data.known), runs)

    @property
    def has_few_windows(self) -> bool:
        """Whether there are too few training windows for larger networks."""
        return self.runs is not None and self.runs.windows(1, self.horizon)[0] < _FEW_WINDOWS

    @property
    def is_seasonal(self) -> bool:
        """Whether the value of a season before is a better forecast than the last one."""
        return self.runs is None or not self.runs.persistence_ratio <= _WEAK_SEASON_RATIO

    @property
    def is_nearly_certain(self) -> bool:
        """Whether the next few steps follow from the last ones almost without noise."""
        near = self.horizon <= self.season / 4
        return near and (self.runs is None or self.runs.persistence_ratio < _CERTAIN_RATIO)

    def lengths(self, seasons: int, patch: float) -> dict[str, int]:
        """Return a lookback of that many seasons, or as many as the data allow, and the largest patch dividing it."""
        desired = min(seasons, max(_MAX_LOOKBACK // self.season, 1)) * self.season
        length = desired if self.runs is None else _affordable_lookback(desired, self.season, self.horizon, self.runs)
        max_patch = min(max(int(patch), 1), _MAX_PATCH)
        return {"sequence_length": length, "patch_length": largest_divisor(length, max_patch)}


def suggest_networks(config: PipelineConfig, runs: RunLengths | None) -> list[ModelParams]:
    """Return the model params of each network, the most useful first; they differ where an ensemble gains from it.

    Args:
        config: its season, horizon, frequency and column roles decide.
        runs: run lengths of the panel; None: the data are not read yet, and assumed to be long enough.
    """
    task = ForecastTask.of(config, runs)
    recipe = _choose_recipe(task)
    return [drop_unreachable_lags(network, task.season) for network in recipe(task)]


def _choose_recipe(task: ForecastTask) -> Callable[[ForecastTask], list[ModelParams]]:
    if task.season == 1:
        return _no_season
    if task.has_known and task.horizon > task.season / 4:
        return _known_ahead
    if task.is_nearly_certain:
        return _nearly_certain
    if not task.is_seasonal:
        return _weak_season
    return _long_horizon if task.horizon >= 4 * task.season else _short_horizon


def _no_season(task: ForecastTask) -> list[ModelParams]:
    desired = min(max(4 * task.horizon, 24), 96)
    length = desired if task.runs is None else _affordable_lookback(desired, 1, task.horizon, task.runs)
    common = {"sequence_length": length, "patch_length": 1, "anchor": "last", "head": "direct", "lags": ()}
    common |= _SMALL if task.has_few_windows else _MEDIUM
    return [
        {**common, "loss": "mse"},
        {**common, "loss": "mae"},
        {**common, **_LARGE, "loss": "mse"},
        {**common, "loss": "mae", "cell": "gru"},
    ]


def _known_ahead(task: ForecastTask) -> list[ModelParams]:
    cycle = _cycle(task)
    one_cycle, two_cycles = task.lengths(cycle, task.season), task.lengths(2 * cycle, task.season)
    common = {"head": "bidirectional", "anchor": "none", "lags": (task.season, cycle * task.season)}
    medium, large = {**common, **_MEDIUM, "epochs": 10}, {**common, **_LARGE, "epochs": 10}
    return [
        {**medium, **one_cycle, "dropout": 0.1, "loss": "mse"},
        {**medium, **one_cycle, "anchor": "gate", "loss": "mae"},
        {**large, **one_cycle, "dropout": 0.3, "loss": "mse"},
        {**medium, **one_cycle, "dropout": 0.2, "loss": "mae"},
        {**large, **one_cycle, "dropout": 0.2, "loss": "mae"},
        {**medium, **two_cycles, "dropout": 0.2, "loss": "mse"},
        {**large, **two_cycles, "dropout": 0.3, "loss": "mse"},
    ]


def _weak_season(task: ForecastTask) -> list[ModelParams]:
    """The last value is the better forecast, as in the weather: short lookbacks, anchored at the last value."""
    two_seasons, one_season = task.lengths(2, task.season / 4), task.lengths(1, task.season / 4)
    common = {"anchor": "last", "head": "direct", "lags": (), **(_SMALL if task.has_few_windows else _MEDIUM)}
    return [
        {**common, **two_seasons, "loss": "mae"},
        {**common, **two_seasons, "loss": "mse"},
        {**common, **one_season, "loss": "mae"},
        {**common, **two_seasons, "loss": "mae", "cell": "gru"},
        {**common, **two_seasons, "loss": "mse", "hidden_size": 64, "dropout": 0.4},
        {**common, **two_seasons, "loss": "mae", "anchor": "gate"},
    ]


def _long_horizon(task: ForecastTask) -> list[ModelParams]:
    medium, long = task.lengths(21, task.season), task.lengths(30, 2 * task.season)
    short = task.lengths(14, task.season)
    common = {"head": "direct", "lags": (), "anchor": "seasonal", "loss": "mse", **_MEDIUM}
    return [
        {**common, **medium},
        {**common, **long},
        {**common, **medium, **_LARGE},
        {**common, **long, "anchor": "last"},
        {**common, **short, "anchor": "gate"},
        {**common, **long, "head": "parallel"},
        {**common, **short, "loss": "mae"},
        {**common, **long, **_LARGE},
    ]


def _short_horizon(task: ForecastTask) -> list[ModelParams]:
    cycle = _cycle(task)
    one_cycle, two_cycles = task.lengths(cycle, task.season), task.lengths(2 * cycle, task.season)
    fine, lags = task.lengths(cycle, task.season / 4), (task.season, cycle * task.season)
    common = {"head": "direct", "lags": (), **_MEDIUM, "epochs": 10}
    large = {**_LARGE, "epochs": 10, "anchor": "gate", "lags": lags}
    return [
        {**common, **one_cycle, "anchor": "gate", "loss": "mse"},
        {**common, **two_cycles, "anchor": "seasonal", "loss": "mse"},
        {**common, **one_cycle, **large, "loss": "mae"},
        {**common, **fine, "anchor": "last", "loss": "mse"},
        {**common, **fine, **large, "loss": "mse"},
        {**common, **two_cycles, "anchor": "seasonal", "loss": "mae"},
    ]


def _nearly_certain(task: ForecastTask) -> list[ModelParams]:
    """The next steps are nearly certain: no dropout."""
    cycle = _cycle(task)
    fine, coarse = task.lengths(cycle, task.season / 4), task.lengths(cycle, task.season)
    common = {"head": "direct", "anchor": "last", "loss": "mse", **_EXACT}
    lags = (task.season, cycle * task.season)
    return [
        {**common, **coarse, "lags": lags},
        {**common, **fine, "lags": ()},
        {**common, **fine, "lags": (), "hidden_size": 128},
        {**common, **fine, "lags": lags, "anchor": "gate", "loss": "mae"},
        {**common, **coarse, "lags": (), "loss": "mae"},
    ]


_SMALL = {"hidden_size": 32, "dropout": 0.5, "learning_rate": 5e-4, "epochs": 8}
_MEDIUM = {"hidden_size": 64, "dropout": 0.3, "learning_rate": 1e-3, "epochs": 6}
_EXACT = {"hidden_size": 64, "dropout": 0.0, "learning_rate": 2e-3, "epochs": 20}
_LARGE = {"hidden_size": 128, "dropout": 0.5, "learning_rate": 1e-3, "epochs": 6}


def drop_unreachable_lags(network: ModelParams, season: int) -> ModelParams:
    """Return the network without lags, and anchors on a season, that are longer than its lookback."""
    length, anchor = network["sequence_length"], network["anchor"]
    if anchor in ("seasonal", "gate") and length < season:
        anchor = "last"
    lags = [lag for lag in network["lags"] if lag <= length]  # a list, as YAML has it
    return {"cell": "lstm", **network, "lags": lags, "anchor": anchor}


def _cycle(task: ForecastTask) -> int:
    """Return the seasons of the longer cycle: a week of days, else four seasons."""
    return 7 if task.is_daily else 4


def _affordable_lookback(length: int, season: int, horizon: int, runs: RunLengths) -> int:
    """Return the longest lookback up to `length` that leaves enough windows: whole seasons, or less than one."""
    seasons = [count * season for count in range(length // season, 0, -1)]
    shorter = [season * eighths // 8 for eighths in range(7, 0, -1)]
    affordable = (steps for steps in (*seasons, *shorter) if steps and _leaves_windows(runs, steps, season, horizon))
    return next(affordable, 1)


def _leaves_windows(runs: RunLengths, length: int, season: int, horizon: int) -> bool:
    """Whether a lookback costs few windows. In validation and test the seasonal naive needs one season anyway."""
    all_training, training = runs.windows(1, horizon)[0], runs.windows(length, horizon)[0]
    all_scored, scored = runs.windows(season, horizon)[1:], runs.windows(max(length, season), horizon)[1:]
    share = 0.8 if length >= season else 0.5  # below a season each step of history matters more
    enough = (left >= 0.95 * total for left, total in zip(scored, all_scored, strict=True))
    return training >= share * all_training and all(enough)


def largest_divisor(length: int, limit: int) -> int:
    """Return the largest number up to `limit` that divides `length`."""
    return max(size for size in range(1, limit + 1) if length % size == 0)


def _is_day(season: int, frequency: str) -> bool:
    if frequency in ("infer", "irregular"):
        return False
    return abs(Frequency.parse(frequency).step.total_seconds() * season - _DAY_S) < 1
