"""The deployable whole: from raw history to forecasts in raw units, with intervals. Needs no MLflow."""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, Self, get_args

import numpy as np
import pandas as pd
import torch

from lstm.config import ModelConfig
from lstm.data.frequency import Frequency
from lstm.data.grid import SEASONS_BACK
from lstm.data.panel import Panel, build_panel
from lstm.data.rows import SERIES
from lstm.data.scaling import PanelNormalizer
from lstm.data.spec import DataSpec
from lstm.data.table import canonical
from lstm.data.windows import Windows
from lstm.durations import duration
from lstm.ensemble import combine, point_forecast
from lstm.errors import CheckpointError, ConfigError, DataError
from lstm.evaluation.intervals import Conformal
from lstm.evaluation.metrics import Bands
from lstm.networks.checkpoint import load_checkpoint, save_checkpoint, write_atomic
from lstm.networks.network import ForecastNetwork
from lstm.pipeline_config import EnsembleSpec

_DESCRIPTION, _WEIGHTS = "forecaster.json", "model.safetensors"
_BROKEN = (KeyError, TypeError, AttributeError, IndexError, ValueError, AssertionError, RuntimeError)
_SHOWN = 200  # characters of an error


@dataclass(frozen=True)
class Forecaster:
    """Schema, normaliser, calendar, network(s), weights and intervals. An ensemble is a Forecaster."""

    name: str
    spec: DataSpec  # its frequency said, never `infer`
    levels: dict[str, list[str]]  # categories that each categorical column had in training
    normalizer: PanelNormalizer
    members: tuple[ForecastNetwork, ...]
    weights: tuple[float, ...]
    method: str
    intervals: Conformal
    lineage: dict[str, Any]  # JSON-ready: run, data and configuration that it came from
    left_out: tuple[str, ...] = ()  # series of the training data that it can't forecast
    series: tuple[str, ...] = ()  # of the training data, in the order that networks with an embedding know them by

    @property
    def horizon(self) -> int:
        """Steps ahead that it was trained for."""
        return self.members[0].config.horizon

    @property
    def lookback(self) -> int:
        """Unbroken rows of history that it needs of each series."""
        return max(member.config.sequence_length for member in self.members)

    def forecast(
        self, frame: pd.DataFrame, horizon: int | None = None, levels: Sequence[int] = (80, 95)
    ) -> pd.DataFrame:
        """Forecast every series of `frame`, those in `left_out` excepted.

        The first step is the one after the last row in which every target was measured. Where it was trained with
        `normalize.log` the forecast is the median in raw units, not the mean, and the intervals reach farther up than
        down: the mean of exp is not exp of the mean.

        Args:
            frame: raw history, long: the columns that training had, in raw units, at least `lookback`
                rows a series. Columns known ahead go on for the horizon, with the targets left empty.
            horizon: steps ahead, at most what it was trained for (the default).
            levels: nominal coverage of the intervals, in percent.

        Returns:
            `series`, `time` (UTC), `target` (only with several), `forecast`, and `lo-80`, `hi-80`, … a level.

        Raises:
            DataError: a column, time or series breaks a rule, or the history is too short.
            ConfigError: the horizon or a level is out of bounds.
        """
        return self.forecast_table(canonical(frame, self.spec, "history"), horizon, levels)

    def forecast_table(
        self, table: pd.DataFrame, horizon: int | None = None, levels: Sequence[int] = (80, 95)
    ) -> pd.DataFrame:
        """`forecast`, from history in the canonical form."""
        steps = self._checked_horizon(horizon)
        recent = self.recent(table)
        if recent.empty:
            raise DataError("history: holds only series that were left out of the training. Train again with them.")
        panel = build_panel(recent, self.spec, self.levels, ahead=self.horizon)
        windows = self._newest_windows(panel)
        scale = self.normalizer.target_scale(panel.names)[:, None]
        normalized = self.forecast_windows(windows)  # (series, horizon, targets)
        bands = self.intervals.bands(normalized, levels, scale)
        times = panel.times[windows.origins.numpy()[:, None] + np.arange(self.horizon)]
        return self._as_frame(panel.names, times, scale.raw(normalized), bands, steps)

    def forecast_windows(self, windows: Windows) -> np.ndarray:
        """Combined normalised forecast, (windows, horizon, targets). Each member looks back as far as it needs."""
        forecasts = [
            point_forecast(member, windows.looking_back(member.config.sequence_length)) for member in self.members
        ]
        return combine(forecasts, self.method, self.weights)

    def save(self, folder: str | Path) -> None:
        """Write `model.safetensors` and `forecaster.json` into `folder`: tensors and JSON, no pickle."""
        folder = Path(folder)
        tensors = {
            f"{number}.{key}": tensor
            for number, member in enumerate(self.members)
            for key, tensor in member.state_dict().items()
        }
        description = {
            "name": self.name,
            "data": self.spec.model_dump(mode="json"),
            "levels": self.levels,
            "left_out": list(self.left_out),
            "normalizer": self.normalizer.to_dict(),
            "members": [member.config.model_dump(mode="json") for member in self.members],
            "n_known": self.members[0].n_known,
            "series": list(self.series),
            "weights": list(self.weights),
            "method": self.method,
            "intervals": self.intervals.to_dict(),
            "lineage": self.lineage,
        }
        content = json.dumps(description, indent=1, allow_nan=False).encode()
        write_atomic(folder / _DESCRIPTION, content)
        meta = {"members": len(self.members), "description_sha256": hashlib.sha256(content).hexdigest()}
        save_checkpoint(folder / _WEIGHTS, tensors, meta)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read what `save` wrote, on the CPU, bit for bit.

        Raises:
            CheckpointError: a file is missing or damaged.
        """
        folder = Path(folder)
        path = folder / _DESCRIPTION
        try:
            content = path.read_bytes()
        except OSError as error:
            raise CheckpointError(f"{folder}: holds no forecaster ({_DESCRIPTION}: {error}).") from None
        tensors, meta = load_checkpoint(folder / _WEIGHTS)
        if meta.get("description_sha256") != hashlib.sha256(content).hexdigest():
            raise CheckpointError(f"{path}: is damaged: its content is not what was saved. Restore it from a copy.")
        try:
            return cls._restored(json.loads(content, parse_constant=_refuse), tensors, folder)
        except (ConfigError, DataError) as error:
            raise CheckpointError(f"{folder}: {error}") from None
        except _BROKEN as error:
            said = str(error).partition("\n")[0][:_SHOWN]
            raise CheckpointError(f"{path}: is damaged ({type(error).__name__}: {said}).") from None

    @classmethod
    def _restored(cls, state: dict[str, Any], tensors: dict[str, torch.Tensor], folder: Path) -> Self:
        spec = DataSpec.parse(state["data"], where=_DESCRIPTION)
        configs = [ModelConfig.parse(config, where=_DESCRIPTION) for config in state["members"]]
        columns = range(len(spec.target))
        sizes = (state["n_known"], len(state["series"]))
        members = tuple(ForecastNetwork(config, columns, *sizes).eval() for config in configs)
        for number, member in enumerate(members):
            _load_weights(member, tensors, f"{number}.", folder / _WEIGHTS)
        made = cls(
            name=state["name"],
            spec=spec,
            levels=state["levels"],
            left_out=tuple(state["left_out"]),
            series=tuple(state["series"]),
            normalizer=PanelNormalizer.from_dict(state["normalizer"]),
            members=members,
            weights=tuple(state["weights"]),
            method=state["method"],
            intervals=Conformal.from_dict(state["intervals"]),
            lineage=state["lineage"],
        )
        _check(made)
        return made

    def _checked_horizon(self, horizon: int | None) -> int:
        steps = self.horizon if horizon is None else horizon
        if not isinstance(steps, int | np.integer) or not 1 <= steps <= self.horizon:
            raise ConfigError(
                f"`1 <= horizon <= {self.horizon}` must hold, but got {horizon!r}. "
                "For a longer horizon train with a larger window.horizon."
            )
        return steps

    @property
    def reach(self) -> int:
        """Steps of history that a forecast may depend on: the look-back, and a gap that may reach into it."""
        spec = self.spec
        gap = spec.missing.max_gap
        if isinstance(gap, str):
            gap = math.ceil(duration(gap) / Frequency.parse(spec.frequency).step)
        return self.lookback + gap + 1 + SEASONS_BACK * (spec.missing.season or 0)

    def recent(self, table: pd.DataFrame) -> pd.DataFrame:
        """The rows of a canonical table that a forecast can depend on, of the series that can be forecast."""
        table = table[~table[SERIES].isin(self.left_out)]
        if self.spec.frequency == "irregular":
            return table
        place = table.groupby(SERIES).cumcount()
        measured = table[list(self.spec.target)].notna().all(axis=1)
        newest = place.where(measured).groupby(table[SERIES]).transform("max")
        return table[~(place < newest - self.reach)]

    def _newest_windows(self, panel: Panel) -> Windows:
        ends = np.flatnonzero(np.r_[panel.series[1:] != panel.series[:-1], True]) + 1
        origins = ends - self.horizon
        for name, origin in zip(panel.names, origins.tolist(), strict=True):
            self._check_history(panel, name, origin)
        return self.windows(panel, origins)

    def windows(self, panel: Panel, origins: np.ndarray) -> Windows:
        """Windows of a panel, which has this forecaster's columns, with these rows as origins."""
        number = {name: place for place, name in enumerate(self.series, start=1)}
        codes = np.array([number.get(name, 0) for name in panel.names], np.int64)
        return Windows(
            torch.from_numpy(self.normalizer.features(panel)),
            torch.from_numpy(self.normalizer.targets(panel)),
            torch.from_numpy(origins),
            self.lookback,
            self.horizon,
            panel.layout.n_known,
            torch.from_numpy(codes[panel.series]),
        )

    def _check_history(self, panel: Panel, name: str, origin: int) -> None:
        unbroken = origin - int(np.searchsorted(panel.segment, panel.segment[origin - 1]))
        if unbroken < self.lookback:
            raise DataError(
                f"series {name!r}: a forecast needs {self.lookback} rows of history without a gap over "
                f"{self.spec.missing.max_gap}, but there are {unbroken} before "
                f"{pd.Timestamp(panel.times[origin]).isoformat()}Z. Give a longer history."
            )

    def _as_frame(
        self,
        names: Sequence[str],
        times: np.ndarray,
        point: np.ndarray,
        bands: Bands,
        steps: int,
    ) -> pd.DataFrame:
        shape = point[:, :steps].shape  # (series, steps, targets)
        columns: dict[str, Any] = {
            "series": np.repeat(names, steps * shape[2]),
            "time": pd.DatetimeIndex(np.repeat(times[:, :steps].ravel(), shape[2])).tz_localize("UTC"),
        }
        if shape[2] > 1:
            columns["target"] = np.tile(self.spec.target, shape[0] * steps)
        columns["forecast"] = point[:, :steps].ravel()
        for level, (lower, upper) in bands.items():
            columns[f"lo-{level}"] = lower[:, :steps].ravel()
            columns[f"hi-{level}"] = upper[:, :steps].ravel()
        return pd.DataFrame(columns)


def _load_weights(member: ForecastNetwork, tensors: dict[str, torch.Tensor], prefix: str, path: Path) -> None:
    own = {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}
    try:
        member.load_state_dict(own)
    except RuntimeError as error:
        raise CheckpointError(
            f"{path}: its weights don't fit its configuration ({str(error).splitlines()[-1].strip()})."
        ) from None


def _check(made: Forecaster) -> None:
    """What a forecast would stumble over, or silently use."""
    count, center, scale = len(made.members), made.normalizer.center, made.normalizer.scale
    if not len(made.weights) == count > 0:
        raise ValueError(
            f"there must be as many weights as members, and one, but there are {len(made.weights)} and {count}"
        )
    methods = get_args(EnsembleSpec.model_fields["method"].annotation)
    if made.method not in methods:
        raise ValueError(f"method {made.method!r} is none of {', '.join(methods)}")
    shape = (99, made.horizon, len(made.spec.target))
    if made.intervals.radius.shape != shape:
        raise ValueError(f"intervals must be of shape {shape}, but are of {made.intervals.radius.shape}")
    rows = {len(made.normalizer.names), len(center), len(scale)}
    if len(rows) > 1 or center.ndim != 2 or center.shape != scale.shape:
        raise ValueError("normalizer: each name must have a row of center and of scale")
    if not all(np.isfinite(numbers).all() for numbers in (made.weights, made.intervals.radius, center, scale)):
        raise ValueError("weights, intervals and normalizer must be finite")


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")
