"""The forecasting network: lookback in, all steps of the horizon out at once.

anchor  the level that a window is centred on, added back to its forecast     anchors.py
embed   patches of the lookback as steps of the cell
cell    reads the steps                                                       cells.py
head    decodes the steps ahead, with what is known of them                   heads.py
output  points, quantiles, or a distribution                                  outputs.py
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lstm.config.model import ModelConfig
from lstm.errors import ConfigError
from lstm.networks import outputs
from lstm.networks.anchors import Anchor, lagged_rows
from lstm.networks.cells import make_cell
from lstm.networks.heads import Recursive, make_head


class ForecastNetwork(nn.Module):
    """The network that a `ModelConfig` describes."""

    _covariates: Tensor
    _lagged: Tensor

    def __init__(
        self, config: ModelConfig, target_columns: Sequence[int] = (), n_known: int = 0, n_series: int = 0
    ) -> None:
        """Build the layers with weights drawn from `config.seed`; the global generator is left alone.

        Args:
            config: with `input_size` and `output_size` set.
            target_columns: which inputs hold the targets' own past, in the targets' order; needed by
                every anchor but `none`, by `lags`, `channel_independent` and loss mase.
            n_known: how many of the last inputs are known for the horizon too.
            n_series: series of the training data, numbered from 1; 0 stands for a series unseen in training.

        Raises:
            ConfigError: `series_embedding` without series.
        """
        super().__init__()
        assert config.input_size and config.output_size
        if config.series_embedding and not n_series:
            raise ConfigError("series_embedding needs series to tell apart: leave it out, or train by the pipeline.")
        self.config, self.n_known, self.n_series = config, n_known, n_series
        self.target_columns = list(target_columns)
        self._targets = _as_slice(self.target_columns)
        self.n_targets = config.output_size
        covariates = sorted(set(range(config.input_size)) - set(self.target_columns))
        self.register_buffer("_covariates", torch.tensor(covariates, dtype=torch.int64), persistent=False)
        self.register_buffer("_lagged", lagged_rows(config, config.lags), persistent=False)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self._build(config)

    def _build(self, config: ModelConfig) -> None:
        inputs, n_targets = config.input_size or 0, self.n_targets
        if config.channel_independent:
            inputs, n_targets = inputs - self.n_targets + 1, 1
        width = inputs * config.patch_length
        channels = self.n_targets if config.channel_independent and self.n_targets > 1 else 0
        embedded = config.patch_length > 1 or config.head != "direct" or config.series_embedding or channels > 0
        self.anchor = Anchor(config)
        self.embed = nn.Sequential(nn.Linear(width, config.hidden_size), nn.ReLU()) if embedded else None
        self.cell = make_cell(config.hidden_size if embedded else width, config)
        features, n_params = self.n_known + len(config.lags) * n_targets, outputs.n_params(config)
        self.head = make_head(config, self.cell, features, n_targets, n_params, outputs.point_index(config))
        self.channel = nn.Parameter(torch.randn(channels, config.hidden_size) * 0.02) if channels else None
        self.series = nn.Embedding(self.n_series + 1, config.hidden_size) if config.series_embedding else None
        if self.series is not None:
            nn.init.normal_(self.series.weight, std=0.02)

    def forward(
        self, past: Tensor, known: Tensor, series: Tensor | None = None, actual: Tensor | None = None
    ) -> Tensor:
        """Forecast all steps of the horizon.

        Args:
            past: (B, sequence_length, input_size).
            known: (B, horizon, n_known), the last inputs' values at the steps ahead.
            series: (B,) int64, for `series_embedding`; None: all series are unseen.
            actual: (B, horizon, output_size), for scheduled sampling in training alone.

        Returns:
            (B, horizon, output_size, n_params): point, quantiles or parameters of a distribution, see `outputs`.
        """
        without_anchor = self.config.anchor == "none"
        center, scale, base = self._anchor_of(past)
        targets = None
        if self.target_columns and (self.config.lags or self.config.channel_independent or not without_anchor):
            targets = self.targets_of(past)
            targets = targets if without_anchor else (targets - center) / scale
        past, ahead = self._with_targets(past, targets), self._features_ahead(known, targets)
        if actual is not None and isinstance(self.head, Recursive):
            actual = (actual - base.detach()) / scale  # on the scale of the head's outputs
        series_embedding = self._series_embedding(past.shape[0], series)
        if self.config.channel_independent:
            past, ahead, actual = self._fold_channels(past, known, targets, actual)
        actual = actual if isinstance(self.head, Recursive) else None
        out = self._decode(past, ahead, series_embedding, actual)
        if self.config.channel_independent:
            # (B * O, H, n_params) -> (B, H, O, n_params)
            out = out.unflatten(0, (-1, self.n_targets)).transpose(1, 2)
        else:
            out = out.unflatten(2, (self.n_targets, -1))
        out = outputs.constrain(out, self.config)
        return out if without_anchor else outputs.rescale(out, base, scale, self.config)

    def targets_of(self, past: Tensor) -> Tensor:
        """Return the targets' own past among the inputs: (B, L, input_size) -> (B, L, targets)."""
        return past[..., self._targets]

    def _anchor_of(self, past: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return center, scale and base of the anchor; without one 0, 1 and 0."""
        if self.config.anchor == "none":
            zero = past.new_zeros(1, 1, 1)
            return zero, zero + 1, zero
        center, scale, base = self.anchor(self.targets_of(past))
        return center, scale, base

    def _with_targets(self, past: Tensor, targets: Tensor | None) -> Tensor:
        """Return the inputs with the anchored targets in place of the raw ones."""
        if targets is None or self.config.anchor == "none":
            return past
        past = past.clone()
        past[..., self._targets] = targets
        return past

    def _features_ahead(self, known: Tensor, targets: Tensor | None) -> Tensor:
        """Return what is known of each step ahead: (B, horizon, n_known + lags * O)."""
        if not self.config.lags or targets is None:
            return known
        return torch.cat([known, targets[:, self._lagged].flatten(2)], dim=2)

    def _series_embedding(self, batch: int, series: Tensor | None) -> Tensor:
        """Return the learned vector of each row's series and channel: (B, B * O or 1, hidden)."""
        embedding = next(self.parameters()).new_zeros(1, self.config.hidden_size)
        if self.series is not None:
            number = torch.zeros(batch, dtype=torch.int64, device=embedding.device) if series is None else series
            embedding = self.series(number)
            if self.config.channel_independent:
                embedding = embedding.repeat_interleave(self.n_targets, dim=0)
        if self.channel is not None:
            embedding = embedding + self.channel.repeat(batch, 1)
        return embedding

    def _fold_channels(
        self, past: Tensor, known: Tensor, targets: Tensor | None, actual: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return each target as a row of the batch, with all covariates: (B * O, …)."""
        assert targets is not None
        channels = targets.transpose(1, 2).flatten(0, 1)[..., None]  # (B * O, L, 1)
        shared = past[..., self._covariates].repeat_interleave(self.n_targets, dim=0)
        ahead = self._features_ahead(known.repeat_interleave(self.n_targets, dim=0), channels)
        if actual is not None:
            actual = actual.transpose(1, 2).flatten(0, 1)[..., None]
        return torch.cat([channels, shared], dim=2), ahead, actual

    def _decode(self, past: Tensor, ahead: Tensor, series_embedding: Tensor, actual: Tensor | None) -> Tensor:
        if self.embed is not None:
            # (B, L, F) -> (B, L / P, P * F) -> (B, L / P, hidden)
            past = self.embed(past.reshape(past.shape[0], past.shape[1] // self.config.patch_length, -1))
            if self.config.head == "direct":  # the other heads add the embedding themselves
                past = past + series_embedding[:, None]
        encoding, state = self.cell(past)
        out: Tensor = self.head(encoding, state, ahead, series_embedding, actual)
        return out


def _as_slice(columns: list[int]) -> slice | list[int]:
    """Return adjacent columns as a slice: indexing with it makes a view, with a list a copy."""
    first = columns[0] if columns else 0
    return slice(first, first + len(columns)) if columns == list(range(first, first + len(columns))) else columns
