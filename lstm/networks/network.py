"""The forecasting network: look-back in, all steps of the horizon out at once.

anchor  what a window is centred on, and added back to its forecast      anchors.py
embed   patches of the look-back as steps of the cell
cell    reads them                                                       cells.py
head    decodes the steps ahead, with what is known of them              heads.py
output  points, quantiles, or a distribution                             outputs.py
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
    """One network as `ModelConfig` describes it."""

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
            n_series: of the training data; series are numbered from 1, and 0 is one that was not there.

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
        self.outputs = config.output_size
        covariates = sorted(set(range(config.input_size)) - set(self.target_columns))
        self.register_buffer("_covariates", torch.tensor(covariates, dtype=torch.int64), persistent=False)
        self.register_buffer("_lagged", lagged_rows(config, config.lags), persistent=False)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self._build(config)

    def _build(self, config: ModelConfig) -> None:
        inputs, outs = config.input_size or 0, self.outputs
        if config.channel_independent:
            inputs, outs = inputs - self.outputs + 1, 1
        width = inputs * config.patch_length
        channels = self.outputs if config.channel_independent and self.outputs > 1 else 0
        embedded = config.patch_length > 1 or config.head != "direct" or config.series_embedding or channels > 0
        self.anchor = Anchor(config)
        self.embed = nn.Sequential(nn.Linear(width, config.hidden_size), nn.ReLU()) if embedded else None
        self.cell = make_cell(config.hidden_size if embedded else width, config)
        features = self.n_known + len(config.lags) * outs
        self.head = make_head(config, self.cell, features, outs, outputs.count(config), outputs.point(config))
        self.channel = nn.Parameter(torch.randn(channels, config.hidden_size) * 0.02) if channels else None
        self.series = nn.Embedding(self.n_series + 1, config.hidden_size) if config.series_embedding else None
        if self.series is not None:
            nn.init.normal_(self.series.weight, std=0.02)

    def forward(
        self, past: Tensor, known: Tensor, series: Tensor | None = None, actual: Tensor | None = None
    ) -> Tensor:
        """Forecast.

        Args:
            past: (B, sequence_length, input_size).
            known: (B, horizon, n_known), the last inputs' values at the steps ahead.
            series: (B,) int64, for `series_embedding`; None: all of them were not there in training.
            actual: (B, horizon, output_size), for scheduled sampling in training alone.

        Returns:
            (B, horizon, output_size, numbers): the value, quantiles that rise, or a distribution, see `outputs`.
        """
        plain = self.config.anchor == "none"
        center, scale, base = self._anchored(past)
        targets = None
        if self.target_columns and (self.config.lags or self.config.channel_independent or not plain):
            targets = self.targets_of(past) if plain else (self.targets_of(past) - center) / scale
        past, ahead = self._centred(past, targets), self._ahead(known, targets)
        if actual is not None and isinstance(self.head, Recursive):
            actual = (actual - base.detach()) / scale  # as its own forecasts are
        identity = self._identity(past.shape[0], series)
        if self.config.channel_independent:
            past, ahead, actual = self._folded(past, known, targets, actual)
        out = self._decoded(past, ahead, identity, actual if isinstance(self.head, Recursive) else None)
        if self.config.channel_independent:
            # (B * O, H, numbers) -> (B, H, O, numbers)
            out = out.unflatten(0, (-1, self.outputs)).transpose(1, 2)
        else:
            out = out.unflatten(2, (self.outputs, -1))
        out = outputs.shaped(out, self.config)
        return out if plain else outputs.placed(out, base, scale, self.config)

    def targets_of(self, past: Tensor) -> Tensor:
        """The targets' own past among the inputs: (B, L, input_size) -> (B, L, targets)."""
        return past[..., self._targets]

    def _anchored(self, past: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if self.config.anchor == "none":
            zero = past.new_zeros(1, 1, 1)
            return zero, zero + 1, zero
        center, scale, base = self.anchor(self.targets_of(past))
        return center, scale, base

    def _centred(self, past: Tensor, targets: Tensor | None) -> Tensor:
        if targets is None or self.config.anchor == "none":
            return past
        past = past.clone()
        past[..., self._targets] = targets
        return past

    def _ahead(self, known: Tensor, targets: Tensor | None) -> Tensor:
        """What is known of each step: (B, horizon, n_known + lags * O)."""
        if not self.config.lags or targets is None:
            return known
        return torch.cat([known, targets[:, self._lagged].flatten(2)], dim=2)

    def _identity(self, batch: int, series: Tensor | None) -> Tensor:
        """(rows of the cell, or 1, hidden): which channel, which series."""
        identity = next(self.parameters()).new_zeros(1, self.config.hidden_size)
        if self.series is not None:
            known = torch.zeros(batch, dtype=torch.int64, device=identity.device) if series is None else series
            identity = self.series(known)
            if self.config.channel_independent:
                identity = identity.repeat_interleave(self.outputs, dim=0)
        if self.channel is not None:
            identity = identity + self.channel.repeat(batch, 1)
        return identity

    def _folded(
        self, past: Tensor, known: Tensor, targets: Tensor | None, actual: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Each target as a row of its own, with all covariates: (B * O, …)."""
        assert targets is not None
        own = targets.transpose(1, 2).flatten(0, 1)[..., None]  # (B * O, L, 1)
        shared = past[..., self._covariates].repeat_interleave(self.outputs, dim=0)
        ahead = self._ahead(known.repeat_interleave(self.outputs, dim=0), own)
        if actual is not None:
            actual = actual.transpose(1, 2).flatten(0, 1)[..., None]
        return torch.cat([own, shared], dim=2), ahead, actual

    def _decoded(self, past: Tensor, ahead: Tensor, identity: Tensor, actual: Tensor | None) -> Tensor:
        if self.embed is not None:
            # (B, L, F) -> (B, L / P, P * F) -> (B, L / P, hidden)
            past = self.embed(past.reshape(past.shape[0], past.shape[1] // self.config.patch_length, -1))
            if self.config.head == "direct":  # elsewhere the head is told
                past = past + identity[:, None]
        state, memory = self.cell(past)
        out: Tensor = self.head(state, memory, ahead, identity, actual)
        return out


def _as_slice(columns: list[int]) -> slice | list[int]:
    """Neighbours as a slice, which makes a view where a list makes a copy."""
    first = columns[0] if columns else 0
    return slice(first, first + len(columns)) if columns == list(range(first, first + len(columns))) else columns
