"""What every model has to beat. Same windows in, same shape out as a network."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from lstm.data.windows import Windows
from lstm.errors import DataError


def persistence(windows: Windows, season: int = 1) -> Tensor:
    """The last value for every step ahead: (windows, horizon, targets). `season` is not used."""
    return _targets(windows)[windows.origins - 1][:, None].expand(-1, windows.horizon, -1)


def seasonal_naive(windows: Windows, season: int) -> Tensor:
    """The value one season before, the last whole season repeated: (windows, horizon, targets).

    Raises:
        DataError: the windows look back less than one season.
    """
    if windows.sequence_length < season:
        raise DataError(
            f"the seasonal naive needs `season <= look-back`, but got season={season}, "
            f"look-back={windows.sequence_length}."
        )
    back = torch.arange(season, device=windows.origins.device) - season
    last = _targets(windows)[windows.origins[:, None] + back]  # (windows, season, targets)
    return last.repeat(1, math.ceil(windows.horizon / season), 1)[:, : windows.horizon]


BASELINES: dict[str, Callable[[Windows, int], Tensor]] = {
    "persistence": persistence,
    "seasonal_naive": seasonal_naive,
}


def _targets(windows: Windows) -> Tensor:
    """The targets' past as the network sees it (the first features): gaps filled."""
    return windows.features[:, : windows.targets.shape[1]]
