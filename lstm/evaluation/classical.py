"""AutoETS and AutoTheta of statsforecast as baselines (`pip install lstm[classical]`).

Form and smoothing parameters are chosen once a series, on the end of its training span. They are not fitted again at
the origins: the model's state is made anew from each window's lookback, as the package itself starts a series. (Its
own `forward` starts from the state of the training span's first row: another level, and another hour of the day.)
Everything is additive, on the normalised scale, whose zero means nothing; with `normalize.log` that is multiplicative
in raw units. Hyndman et al. 2002 (automatic ETS), Fiorucci et al. 2016 (optimised Theta).
"""

import importlib
import warnings
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from lstm.data.windows import Windows
from lstm.errors import ConfigError, DataError

CLASSICAL = ("auto_ets", "auto_theta")

_MAX_ROWS = 1000  # newest training rows that a form is chosen on; at least 10 seasons
_MAX_SEASON = 24  # of statsforecast's ETS, as of R's

Model = dict[str, Any]  # as statsforecast fitted it; {}: a constant series


@dataclass(frozen=True)
class ClassicalBaseline:
    """A fitted form with its parameters for each series and target."""

    name: str  # of `CLASSICAL`
    season: int
    models: dict[int, list[Model]]  # by series number, one per target
    new_series_model: int  # series whose models forecast a series without training windows: the longest run

    @classmethod
    def fit(cls, name: str, training: Windows, season: int) -> Self:
        """Choose form and parameters on the end of the last unbroken run of each series.

        Args:
            name: `auto_ets` or `auto_theta`.
            training: windows with at least the lookback of those that are forecast.
            season: steps of a season; 1: no season.

        Raises:
            ConfigError: statsforecast is not installed.
            DataError: the season is longer than the model allows, or than half the lookback.
        """
        require_statsforecast(name)
        if name == "auto_ets" and season > _MAX_SEASON:
            raise DataError(f"auto_ets: `season <= {_MAX_SEASON}` must hold, but got season={season}.")
        if training.sequence_length < max(2 * season, 4):
            raise DataError(
                f"{name}: `lookback >= 2 seasons, and 4 steps` must hold, but got "
                f"lookback={training.sequence_length}, season={season}."
            )
        values, numbers = _values(training), _series(training)
        most = max(_MAX_ROWS, 10 * season)
        rows = {number: _last_run(training, numbers == number, most) for number in np.unique(numbers).tolist()}
        models = {
            number: [_select_form(name, target_values, season) for target_values in values[run].T]
            for number, run in rows.items()
        }
        return cls(name, season, models, max(rows, key=lambda number: len(rows[number])))

    def forecast(self, windows: Windows) -> np.ndarray:
        """Return the normalised forecast: (windows, horizon, targets) float64."""
        values, numbers, length = _values(windows), _series(windows), windows.sequence_length
        origins, others = windows.origins.numpy(), self.models[self.new_series_model]
        forecast = np.empty((len(origins), windows.horizon, values.shape[1]))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of divisions in the seasonal test
            for place, (origin, number) in enumerate(zip(origins.tolist(), numbers.tolist(), strict=True)):
                for target, model in enumerate(self.models.get(number, others)):
                    past = values[origin - length : origin, target]
                    forecast[place, :, target] = _forecast_window(self.name, model, past, windows.horizon)
        return forecast


def require_statsforecast(name: str) -> None:
    """Import the package that a baseline needs.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        _statsforecast("models")
    except ImportError as error:
        raise ConfigError(
            f"evaluate.baselines: {name} needs statsforecast, but it can't be imported ({error}). "
            f"Run `pip install lstm[classical]`, or leave {name} out."
        ) from None


def _statsforecast(part: str) -> Any:
    """Import a module of statsforecast, at its first use, since that takes seconds."""
    return importlib.import_module(f"statsforecast.{part}")


def _select_form(name: str, values: np.ndarray, season: int) -> Model:
    """Return the additive form with the least AICc (ETS) or squared error (Theta) on (rows,) float64."""
    if not np.ptp(values):
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if name == "auto_ets":
            return dict(_statsforecast("ets").ets_f(values, m=season, model="ZZZ", additive_only=True))
        return dict(_statsforecast("theta").auto_theta(values, m=season, decomposition_type="additive"))


def _forecast_window(name: str, model: Model, past: np.ndarray, horizon: int) -> np.ndarray:
    """Forecast (horizon,) from (lookback,): form and parameters of `model`, state from the lookback."""
    if not model or not np.ptp(past):
        return np.repeat(past[-1], horizon)
    return (_ets if name == "auto_ets" else _theta)(model, past, horizon)


def _ets(model: Model, past: np.ndarray, horizon: int) -> np.ndarray:
    ets, (_, trend, seasonal, _) = _statsforecast("ets"), model["components"]
    state = ets.initstate(past, model["m"], trend, seasonal)
    if seasonal != "N":
        state = np.append(state, -state[1 + (trend != "N") :].sum())  # a season's effects add up to 0
    started = {**model, "par": np.concatenate([model["par"][:4], state])}
    return ets.forecast_ets(ets.ets_f(past, m=model["m"], model=started), horizon)["mean"]


def _theta(model: Model, past: np.ndarray, horizon: int) -> np.ndarray:
    theta = _statsforecast("theta")
    fixed = {name: model["par"][name] for name in ("alpha", "theta")}
    started = theta.auto_theta(past, m=model["m"], model=model["modeltype"], decomposition_type="additive", **fixed)
    return theta.forecast_theta(started, horizon)["mean"]


def _values(windows: Windows) -> np.ndarray:
    """Return the targets as networks see them, gaps filled: (rows, targets) float64."""
    return windows.features[:, : windows.targets.shape[1]].numpy().astype(np.float64)


def _series(windows: Windows) -> np.ndarray:
    """Return the series number per window: (windows,) int; 0 if unknown."""
    if windows.series is None:
        return np.zeros(len(windows), np.int64)
    return windows.series[windows.origins].numpy()


def _last_run(windows: Windows, mine: np.ndarray, most: int) -> np.ndarray:
    """Return the newest rows, at most `most`, of a series' windows that overlap each other: (rows,) int64."""
    origins = np.sort(windows.origins.numpy()[mine])
    breaks = np.flatnonzero(np.diff(origins) >= windows.sequence_length + windows.horizon)
    first = origins[breaks[-1] + 1] if len(breaks) else origins[0]
    rows: np.ndarray = np.arange(first - windows.sequence_length, origins[-1] + windows.horizon)
    return rows[-most:]
