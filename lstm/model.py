"""`LSTMModel`: fit and predict on arrays, for use outside the pipeline."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Self

import numpy as np
import torch
from rich.progress import Progress

from lstm.config.model import ModelConfig
from lstm.data.matrices import finite_matrix, target_matrix
from lstm.data.origins import window_origins
from lstm.data.windows import Windows
from lstm.errors import CheckpointError, ConfigError, DataError
from lstm.metrics.metrics import naive_errors, point_scores
from lstm.networks import outputs
from lstm.networks.checkpoint import load_checkpoint, save_checkpoint
from lstm.networks.network import ForecastNetwork
from lstm.networks.trainer import EpochRecord
from lstm.networks.training import OnEpoch, fit, forecast


class LSTMModel:
    """An LSTM forecaster on arrays. Scale `X` and `y` first, see `DataNormalizer`.

    Rows are equally spaced in time. The window that starts at row k sees `X[k : k + sequence_length]`
    and forecasts `y[k + sequence_length :][:horizon]`. All keys of `config`: `lstm.config.model.ModelConfig`.

    >>> model = LSTMModel({"sequence_length": 24, "epochs": 5})      # doctest: +SKIP
    >>> model.fit(X_train, y_train).predict(X_test)                  # doctest: +SKIP
    """

    def __init__(self, config: Mapping[str, Any] | None = None) -> None:
        """Validate the settings. `fit` infers `input_size` and `output_size` from the data.

        Raises:
            ConfigError: an unknown key, or a value that breaks a rule.
        """
        self.config = ModelConfig.parse(config or {})
        self.train_history: list[EpochRecord] = []
        self._network: ForecastNetwork | None = None
        self._flat = True  # whether y was one-dimensional
        self._naive_error: list[float] = []

    def fit(self, X: Any, y: Any, validation_split: float = 0.1, verbose: bool = True) -> Self:  # noqa: N803
        """Train on all rows but the last `validation_split`, which stop the training and select the epoch.

        Args:
            X: (rows, features) or (rows,), finite. Include the target's own past as a feature.
            y: (rows,) or (rows, targets), the values at the same times as the rows of X; NaN: not measured.
            validation_split: share of rows, in [0, 1). 0: the training windows select the epoch.
            verbose: show a progress bar.

        Raises:
            DataError: shapes don't agree, X is not finite, or there are too few rows.
            ConfigError: a size in `config` is not that of the data, a key needs the target's past and X lacks it,
                `series_embedding` is set, or this machine lacks the device or its precision.
            TrainingError: the loss was never finite.
        """
        x, targets = finite_matrix(X), target_matrix(y)
        if len(x) != len(targets):
            raise DataError(f"X and y must have equally many rows, but got {len(x)} and {len(targets)}.")
        if not isinstance(validation_split, int | float) or not 0 <= validation_split < 1:
            raise ConfigError(f"`0 <= validation_split < 1` must hold, but got {validation_split!r}.")
        config = self._config_with_sizes(x, targets)
        self._check_rows(len(x), validation_split)
        self._flat = np.ndim(y) == 1
        train, validation = self._split(x, targets, validation_split)
        for windows, name in ((train, "training"), (validation, "validation")):
            if torch.isnan(windows.targets[self.config.sequence_length :]).all():
                raise DataError(f"y has no measured value in the {name} rows: all of them are NaN.")
        network = ForecastNetwork(config, self._target_columns(x, targets))
        self._naive_error = self._in_sample_error(targets[: len(train.features)])
        with _progress(config.epochs, verbose) as on_epoch:
            result = fit(network, train, validation, on_epoch)
        self._network, self.train_history = result.network, result.history
        return self

    def predict(self, X: Any, steps: int = 1) -> np.ndarray:  # noqa: N803
        """Forecast from every window of X.

        Args:
            X: (rows, features), scaled as for `fit`.
            steps: steps ahead. More than `horizon` needs every feature to be a target: forecasts are fed back.

        Returns:
            (rows - sequence_length + 1, steps[, targets]) float32, with the last axis if y had one. Row k is the
            forecast from `X[k : k + sequence_length]`. With `quantiles` set it is the median.

        Raises:
            DataError: not fitted, fewer rows than a window, or other columns than fitted.
            ConfigError: `steps` is under 1, or over `horizon` with features that are no targets.
        """
        network = self._fitted_network()
        out = self._forecast(X, steps)[..., outputs.point_index(network.config)]
        return out[..., 0] if self._flat else out

    def predict_quantiles(self, X: Any, steps: int = 1) -> np.ndarray:  # noqa: N803
        """Forecast quantiles: as `predict`, with a last axis for the levels.

        The levels are those of `quantiles`; by default 0.1, 0.5, 0.9 with a likelihood as the loss.

        Raises:
            ConfigError: the model forecasts points alone; and as `predict`.
        """
        config = self._fitted_network().config
        if len(config.levels) == 1:
            raise ConfigError(
                "predict_quantiles needs a model with quantiles: LSTMModel({'quantiles': [0.1, 0.5, 0.9]})."
            )
        out = outputs.quantiles(self._forecast(X, steps), config)
        return out[:, :, 0] if self._flat else out

    def evaluate(self, X: Any, y: Any) -> dict[str, float]:  # noqa: N803
        """Metrics over all windows of X whose whole horizon lies in y: rmse, mae, mape, smape, r2, mase.

        Raises:
            DataError: shapes don't agree, or there are too few rows.
        """
        network = self._fitted_network()
        horizon, length = network.config.horizon, network.config.sequence_length
        x, targets = self._inputs(X), target_matrix(y)
        if len(x) != len(targets) or targets.shape[1] != network.n_targets or len(x) < length + horizon:
            raise DataError(
                f"evaluate needs X and y of equal length, {network.n_targets} output(s) and at least "
                f"{length + horizon} rows, but got X {x.shape} and y {targets.shape}."
            )
        windows = _windows(x, targets, length, horizon)
        actual = windows.actual(torch.arange(len(windows))).numpy().astype(np.float64)
        out = self.predict(X, steps=horizon)[: len(windows)].reshape(actual.shape)
        return point_scores(actual, out.astype(np.float64), np.array(self._naive_error))

    def save(self, path: str) -> None:
        """Write weights and JSON to one safetensors file, whatever the suffix of `path`."""
        network = self._fitted_network()
        meta = {
            "config": network.config.model_dump(mode="json"),
            "target_columns": network.target_columns,
            "flat": self._flat,
            "naive_error": [None if np.isnan(error) else error for error in self._naive_error],
            "train_history": [
                {key: value if np.isfinite(value) else None for key, value in epoch.items()}
                for epoch in self.train_history
            ],
        }
        save_checkpoint(path, network.state_dict(), meta)

    def load(self, path: str) -> Self:
        """Restore a saved model, bit for bit, and return self.

        Raises:
            CheckpointError: the file is missing, a pickle, or damaged.
        """
        tensors, meta = load_checkpoint(path)
        try:
            config = ModelConfig.parse(meta["config"], where=str(path))
            network = ForecastNetwork(config, meta["target_columns"])
            network.load_state_dict(tensors)
        except (KeyError, RuntimeError) as error:
            raise CheckpointError(f"{path}: holds no LSTMModel ({str(error).splitlines()[0]}).") from None
        self.config, self._network, self._flat = config, network.eval(), meta["flat"]
        self._naive_error = [float("nan") if error is None else error for error in meta["naive_error"]]
        self.train_history = meta["train_history"]
        return self

    def _fitted_network(self) -> ForecastNetwork:
        if self._network is None:
            raise DataError("this LSTMModel is not fitted. Call fit or load first.")
        return self._network

    def _config_with_sizes(self, x: np.ndarray, targets: np.ndarray) -> ModelConfig:
        sizes = {"input_size": x.shape[1], "output_size": targets.shape[1]}
        for key, size in sizes.items():
            given = getattr(self.config, key)
            if given not in (None, size):
                raise ConfigError(f"{key}={given}, but the data have {size}. Leave {key} out: it is inferred.")
        return self.config.model_copy(update=sizes)

    def _check_rows(self, rows: int, validation_split: float) -> None:
        window = self.config.sequence_length + self.config.horizon
        held_out = round(rows * validation_split)
        if rows - held_out < window or (validation_split and held_out < self.config.horizon):
            raise DataError(
                f"X has {rows} rows, {held_out} of them for validation: too few for windows of sequence_length="
                f"{self.config.sequence_length} + horizon={self.config.horizon}. Bring more rows."
            )

    def _split(self, x: np.ndarray, targets: np.ndarray, validation_split: float) -> tuple[Windows, Windows]:
        length, horizon = self.config.sequence_length, self.config.horizon
        cut = len(x) - round(len(x) * validation_split)
        train = _windows(x[:cut], targets[:cut], length, horizon)
        if cut == len(x):
            return train, train
        # The lookback of the first validation window reaches over the cut; its targets do not.
        return train, _windows(x[cut - length :], targets[cut - length :], length, horizon)

    def _target_columns(self, x: np.ndarray, targets: np.ndarray) -> list[int]:
        """Return which columns of X are the targets: anchors need them, and forecasts past the horizon."""
        columns: list[int] = []
        needing = _key_that_needs_past(self.config)
        for output in range(targets.shape[1]):
            measured = ~np.isnan(targets[:, output])
            values = targets[measured, output]
            same = [n for n in range(x.shape[1]) if measured.any() and np.array_equal(x[measured, n], values)]
            if not same and needing:
                raise ConfigError(
                    f"{needing} needs the target's own past: pass y (output {output}) as a column of X, scaled alike, "
                    "or leave that key out."
                )
            columns += [n for n in same if n not in columns][:1] or same[:1]
        if self.config.channel_independent and len(set(columns)) < len(columns):
            raise ConfigError("channel_independent needs a column of X for each output, but two outputs share one.")
        return columns

    def _in_sample_error(self, targets: np.ndarray) -> list[float]:
        single_series = np.zeros(len(targets), dtype=np.int64)
        errors = naive_errors(single_series, single_series, targets.astype(np.float64), self.config.season or 1, 1)
        return [float(error) for error in errors[0]]

    def _inputs(self, X: Any) -> np.ndarray:  # noqa: N803
        x = finite_matrix(X)
        if x.shape[1] != self._fitted_network().config.input_size:
            raise DataError(
                f"X must have {self._fitted_network().config.input_size} columns as fitted, but has {x.shape[1]}."
            )
        return x

    def _forecast(self, X: Any, steps: int) -> np.ndarray:  # noqa: N803
        network, x = self._fitted_network(), self._inputs(X)
        config = network.config
        if not isinstance(steps, int | np.integer) or steps < 1:
            raise ConfigError(f"`steps >= 1` must hold for a whole number, but got {steps!r}.")
        if len(x) < config.sequence_length:
            raise DataError(f"X must have at least sequence_length={config.sequence_length} rows, but has {len(x)}.")
        ends = _windows(x, np.zeros((len(x), network.n_targets), np.float32), config.sequence_length, 0)
        windows = replace(ends, horizon=config.horizon)  # the last horizons lie beyond the rows of X
        if steps <= config.horizon:
            return forecast(network, windows)[:, :steps].numpy()
        if sorted(network.target_columns) != list(range(x.shape[1])) or x.shape[1] != network.n_targets:
            raise ConfigError(
                f"`steps <= horizon` must hold where X has columns besides the targets (their future is unknown), but "
                f"got steps={steps}, horizon={config.horizon}. Fit with LSTMModel({{'horizon': {steps}}})."
            )
        return _roll_forward(network, windows, steps)


def _key_that_needs_past(config: ModelConfig) -> str:
    """Return the first key that needs the targets' own past, empty if none does."""
    keys = {
        f"anchor={config.anchor!r}": config.anchor != "none",
        f"lags={list(config.lags)}": bool(config.lags),
        "channel_independent": config.channel_independent,
        "loss='mase'": config.loss == "mase",
    }
    return next((key for key, needs in keys.items() if needs), "")


def _roll_forward(network: ForecastNetwork, windows: Windows, steps: int) -> np.ndarray:
    """Forecast `steps` steps by feeding point forecasts back as history."""
    point = outputs.point_index(network.config)
    past, known, _ = windows.inputs(torch.arange(len(windows)))
    parts: list[torch.Tensor] = []
    with torch.inference_mode():
        while sum(part.shape[1] for part in parts) < steps:
            parts.append(network(past, known))
            ahead = torch.empty_like(past[:, :1]).repeat(1, network.config.horizon, 1)
            ahead[..., network.target_columns] = parts[-1][..., point]
            past = torch.cat([past, ahead], dim=1)[:, -network.config.sequence_length :]
    return torch.cat(parts, dim=1)[:, :steps].numpy()


def _windows(x: np.ndarray, targets: np.ndarray, length: int, horizon: int) -> Windows:
    origins = window_origins(np.zeros(len(x), dtype=np.int64), length, horizon)
    return Windows(torch.from_numpy(x), torch.from_numpy(targets), torch.from_numpy(origins), length, horizon)


@contextmanager
def _progress(epochs: int, verbose: bool) -> Iterator[OnEpoch | None]:
    """Show a progress bar over the epochs; yield the callback that advances it, or None without `verbose`."""
    if not verbose:
        yield None
        return
    with Progress(transient=True) as bar:
        task = bar.add_task("training", total=epochs)

        def advance(epoch: EpochRecord) -> None:
            bar.update(task, completed=epoch["epoch"], description=f"val_loss {epoch['val_loss']:.4f}")

        yield advance
