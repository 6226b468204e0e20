"""Which networks suit a task: lengths, anchors, heads, losses and sizes, by rule.

The rules follow what was measured (DECISIONS.md has the evidence). With s the steps of a season, H the horizon, L the
look-back and P the patch length:

| case                                 | L, P                        | anchors                 | head          |
|--------------------------------------|-----------------------------|-------------------------|---------------|
| s = 1                                | 4 H (from 24 to 96), 1      | last                    | direct        |
| covariates known ahead, H > s / 4    | a cycle, s; two of them, s  | none, gate              | bidirectional |
| H <= s / 4, c < 0.6                  | a cycle, s / 4 and s        | last, gate              | direct        |
| c <= 1.12: the season hardly shows   | 2 s, s / 4                  | last, gate              | direct        |
| H >= 4 s                             | 21 s, s; 30 s, 2 s; 14 s, s | seasonal, last, gate    | direct        |
| otherwise                            | a cycle, s; two of them, s  | gate, seasonal, last    | direct        |

Here c is the mean absolute error of persistence over that of the seasonal naive, on the training rows, one season ahead
at most. A cycle is a week where a season is a day, else four seasons. A look-back that costs windows (more than 5 % of
those of validation or test, 20 % of training) is cut down to fewer seasons; below one it may cost half of the training
windows.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lstm.calendars.frequency import Frequency
from lstm.config.pipeline import PipelineConfig
from lstm.profiling.run_lengths import RunLengths

_FEW = 30_000  # training windows
_SHOWS = 1.12  # of `RunLengths.persistence_ratio`: the weather's is 1.08, ETTh1's 1.28, CO2's 1.7, that of flights 3.2
_CERTAIN = 0.6  # of `RunLengths.persistence_ratio`: below it the last value tells most of what comes next
_LONGEST_PATCH = 48
_LONGEST = 1_000_000  # that `sequence_length` may be
_DAY = 86_400  # seconds
ModelParams = dict[str, Any]


@dataclass(frozen=True)
class ForecastTask:
    """What the rules look at."""

    season: int
    horizon: int
    daily: bool  # a season is a day
    known: bool  # covariates are known ahead, beyond the calendar
    runs: RunLengths | None  # None: before the data are known

    @classmethod
    def of(cls, config: PipelineConfig, runs: RunLengths | None) -> "ForecastTask":
        """The task of a configuration."""
        season, frequency = config.evaluate.season, config.data.frequency
        return cls(season, config.window.horizon, _is_day(season, frequency), bool(config.data.known), runs)

    @property
    def few(self) -> bool:
        """Whether there are too few windows for larger networks."""
        return self.runs is not None and self.runs.windows(1, self.horizon)[0] < _FEW

    @property
    def seasonal(self) -> bool:
        """Whether the value a season before tells more than the last one."""
        return self.runs is None or not self.runs.persistence_ratio <= _SHOWS

    @property
    def certain(self) -> bool:
        """Whether the next few steps hang on the last ones almost without noise."""
        near = self.horizon <= self.season / 4
        return near and (self.runs is None or self.runs.persistence_ratio < _CERTAIN)

    def lengths(self, seasons: int, patch: float) -> dict[str, int]:
        """A look-back of so many seasons, or as many as the data bear, and the largest patch that divides it."""
        wanted = min(seasons, max(_LONGEST // self.season, 1)) * self.season
        length = wanted if self.runs is None else _affordable(wanted, self.season, self.horizon, self.runs)
        most = min(max(int(patch), 1), _LONGEST_PATCH)
        return {"sequence_length": length, "patch_length": largest_divisor(length, most)}


def suggest_networks(config: PipelineConfig, runs: RunLengths | None) -> list[ModelParams]:
    """Keys of the model for each network, the most useful first; they differ in what an average gains from.

    Args:
        config: season, horizon, frequency and roles count.
        runs: of the panel; None: before the data are known, so that there is enough of them.
    """
    task = ForecastTask.of(config, runs)
    made = _case(task)(task)
    return [drop_unreachable_lags(network, task.season) for network in made]


def _case(task: ForecastTask) -> Callable[[ForecastTask], list[ModelParams]]:
    if task.season == 1:
        return _unseasonal
    if task.known and task.horizon > task.season / 4:
        return _known_ahead
    if task.certain:
        return _next
    if not task.seasonal:
        return _level
    return _far if task.horizon >= 4 * task.season else _near


def _unseasonal(task: ForecastTask) -> list[ModelParams]:
    wanted = min(max(4 * task.horizon, 24), 96)
    length = wanted if task.runs is None else _affordable(wanted, 1, task.horizon, task.runs)
    own = {"sequence_length": length, "patch_length": 1, "anchor": "last", "head": "direct", "lags": ()}
    own |= _SMALL if task.few else _MEDIUM
    return [
        {**own, "loss": "mse"},
        {**own, "loss": "mae"},
        {**own, **_LARGE, "loss": "mse"},
        {**own, "loss": "mae", "cell": "gru"},
    ]


def _known_ahead(task: ForecastTask) -> list[ModelParams]:
    cycle = _cycle(task)
    one, two = task.lengths(cycle, task.season), task.lengths(2 * cycle, task.season)
    own = {"head": "bidirectional", "anchor": "none", "lags": (task.season, cycle * task.season)}
    free, large = {**own, **_MEDIUM, "epochs": 10}, {**own, **_LARGE, "epochs": 10}
    return [
        {**free, **one, "dropout": 0.1, "loss": "mse"},
        {**free, **one, "anchor": "gate", "loss": "mae"},
        {**large, **one, "dropout": 0.3, "loss": "mse"},
        {**free, **one, "dropout": 0.2, "loss": "mae"},
        {**large, **one, "dropout": 0.2, "loss": "mae"},
        {**free, **two, "dropout": 0.2, "loss": "mse"},
        {**large, **two, "dropout": 0.3, "loss": "mse"},
    ]


def _level(task: ForecastTask) -> list[ModelParams]:
    """The last value tells more than the one a season before, as in the weather: short looks back, at changes."""
    two, one = task.lengths(2, task.season / 4), task.lengths(1, task.season / 4)
    own = {"anchor": "last", "head": "direct", "lags": (), **(_SMALL if task.few else _MEDIUM)}
    return [
        {**own, **two, "loss": "mae"},
        {**own, **two, "loss": "mse"},
        {**own, **one, "loss": "mae"},
        {**own, **two, "loss": "mae", "cell": "gru"},
        {**own, **two, "loss": "mse", "hidden_size": 64, "dropout": 0.4},
        {**own, **two, "loss": "mae", "anchor": "gate"},
    ]


def _far(task: ForecastTask) -> list[ModelParams]:
    three, four = task.lengths(21, task.season), task.lengths(30, 2 * task.season)
    two = task.lengths(14, task.season)
    own = {"head": "direct", "lags": (), "anchor": "seasonal", "loss": "mse", **_MEDIUM}
    return [
        {**own, **three},
        {**own, **four},
        {**own, **three, **_LARGE},
        {**own, **four, "anchor": "last"},
        {**own, **two, "anchor": "gate"},
        {**own, **four, "head": "parallel"},
        {**own, **two, "loss": "mae"},
        {**own, **four, **_LARGE},
    ]


def _near(task: ForecastTask) -> list[ModelParams]:
    cycle = _cycle(task)
    one, two = task.lengths(cycle, task.season), task.lengths(2 * cycle, task.season)
    fine, lags = task.lengths(cycle, task.season / 4), (task.season, cycle * task.season)
    own = {"head": "direct", "lags": (), **_MEDIUM, "epochs": 10}
    large = {**_LARGE, "epochs": 10, "anchor": "gate", "lags": lags}
    return [
        {**own, **one, "anchor": "gate", "loss": "mse"},
        {**own, **two, "anchor": "seasonal", "loss": "mse"},
        {**own, **one, **large, "loss": "mae"},
        {**own, **fine, "anchor": "last", "loss": "mse"},
        {**own, **fine, **large, "loss": "mse"},
        {**own, **two, "anchor": "seasonal", "loss": "mae"},
    ]


def _next(task: ForecastTask) -> list[ModelParams]:
    """Dropout would only blur what is nearly certain."""
    cycle = _cycle(task)
    fine, one = task.lengths(cycle, task.season / 4), task.lengths(cycle, task.season)
    own = {"head": "direct", "anchor": "last", "loss": "mse", **_EXACT}
    lags = (task.season, cycle * task.season)
    return [
        {**own, **one, "lags": lags},
        {**own, **fine, "lags": ()},
        {**own, **fine, "lags": (), "hidden_size": 128},
        {**own, **fine, "lags": lags, "anchor": "gate", "loss": "mae"},
        {**own, **one, "lags": (), "loss": "mae"},
    ]


_SMALL = {"hidden_size": 32, "dropout": 0.5, "learning_rate": 5e-4, "epochs": 8}
_MEDIUM = {"hidden_size": 64, "dropout": 0.3, "learning_rate": 1e-3, "epochs": 6}
_EXACT = {"hidden_size": 64, "dropout": 0.0, "learning_rate": 2e-3, "epochs": 20}
_LARGE = {"hidden_size": 128, "dropout": 0.5, "learning_rate": 1e-3, "epochs": 6}


def drop_unreachable_lags(network: ModelParams, season: int) -> ModelParams:
    """Without what the look-back does not reach: lags, and anchors on a season."""
    length, anchor = network["sequence_length"], network["anchor"]
    if anchor in ("seasonal", "gate") and length < season:
        anchor = "last"
    lags = [lag for lag in network["lags"] if lag <= length]  # a list, as in a file
    return {"cell": "lstm", **network, "lags": lags, "anchor": anchor}


def _cycle(task: ForecastTask) -> int:
    """Seasons of the longer cycle: a week of days."""
    return 7 if task.daily else 4


def _affordable(length: int, season: int, horizon: int, runs: RunLengths) -> int:
    """The longest look-back of up to `length` that leaves windows; whole seasons, or less than one."""
    seasons = [count * season for count in range(length // season, 0, -1)]
    shorter = [season * part // 8 for part in range(7, 0, -1)]
    for tried in (*seasons, *shorter):
        if tried and _bears(runs, tried, season, horizon):
            return tried
    return 1


def _bears(runs: RunLengths, length: int, season: int, horizon: int) -> bool:
    """Whether a look-back costs few windows. Validation and test look back one season at least: the naive does."""
    least, found = runs.windows(1, horizon)[0], runs.windows(length, horizon)[0]
    scored, kept = runs.windows(season, horizon)[1:], runs.windows(max(length, season), horizon)[1:]
    share = 0.8 if length >= season else 0.5  # below a season each step of history is dear
    return found >= share * least and all(one >= 0.95 * most for one, most in zip(kept, scored, strict=True))


def largest_divisor(length: int, most: int) -> int:
    """The largest number up to `most` that divides `length`."""
    return max(size for size in range(1, most + 1) if length % size == 0)


def _is_day(season: int, frequency: str) -> bool:
    if frequency in ("infer", "irregular"):
        return False
    return abs(Frequency.parse(frequency).step.total_seconds() * season - _DAY) < 1
