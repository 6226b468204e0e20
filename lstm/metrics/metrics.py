"""Forecast metrics: elementwise quantities, their sums over groups, and metrics computed from the sums.

Every score (overall, by step, by series, by hour, of a bootstrap resample) comes from the same quantities, summed over
different windows. Forecasts are arrays (windows, horizon, targets), float64, in the units of the target unless stated
otherwise; where the actual value is NaN, nothing counts.

Sources: Hyndman & Koehler 2006 (MASE, sMAPE), Koenker & Bassett 1978 (pinball loss), Gneiting & Raftery 2007 (CRPS).
"""

from collections.abc import Mapping, Sequence

import numpy as np

from lstm.data.scaling import TargetScale

Scores = dict[str, float]
Band = tuple[np.ndarray, np.ndarray]  # lower and upper ends, in raw units
Bands = dict[int, Band]  # by level in percent
Sums = dict[str, np.ndarray]  # by name of the quantity or metric: (groups,) float64

CRPS_BANDS = tuple(range(10, 100, 10))  # percent; with the median they give the quantiles 5, 10, … 95 %

_NEAR_ZERO = 1e-6  # relative to the largest actual value; mape leaves out smaller values
_NAN = float("nan")


def point_scores(actual: np.ndarray, forecast: np.ndarray, naive_error: np.ndarray | float) -> Scores:
    """Return point metrics over all measured values.

    Args:
        actual: (windows, horizon, targets) float64; NaN where not measured.
        forecast: same shape.
        naive_error: in-sample mean absolute error of the seasonal naive, the denominator of MASE; a number, or
            (windows, 1, targets).

    Returns:
        `rmse`, `mae` in the units of the target; `mape`, `smape` in percent; `mape_left_out`, the share (0 to 1) of
        actual values near zero, which mape leaves out; `r2`; `mase`. An undefined metric is NaN.
    """
    largest = np.nanmax(np.abs(actual)) if not np.isnan(actual).all() else 0.0
    center = float(np.nanmean(actual)) if largest else 0.0
    quantities = point_quantities(actual, forecast, naive_error, largest, center)
    return {name: float(values[0]) for name, values in point_metrics(sum_all(quantities)).items()}


def point_quantities(
    actual: np.ndarray,
    forecast: np.ndarray,
    naive_error: np.ndarray | float,
    largest: np.ndarray | float,
    center: float,
) -> Sums:
    """Return the elementwise quantities whose sums `point_metrics` needs, each of the shape of `actual`.

    Args:
        actual: (windows, horizon, targets); NaN where not measured.
        forecast: same shape.
        naive_error: denominator of MASE, a number or (windows, 1, targets); where it is 0 or NaN, MASE counts nothing.
        largest: largest absolute actual value, relative to which values are near zero; a number or
            (windows, 1, targets).
        center: any value near the actual ones, so that sums of squares lose no precision.
    """
    measured = _measured(actual)
    error, size = np.abs(forecast - actual), np.abs(actual)
    naive = np.broadcast_to(naive_error, actual.shape)
    nonzero = measured & (size > _NEAR_ZERO * np.asarray(largest))
    scalable = measured & (naive > 0)
    sizes = size + np.abs(forecast)
    return {
        "count": measured.astype(np.float64),
        "squared": _zero_unless(np.square(error), measured),
        "absolute": _zero_unless(error, measured),
        "percentage": np.divide(error, size, out=np.zeros_like(error), where=nonzero),
        "percentages": nonzero.astype(np.float64),
        "symmetric": np.divide(error, sizes, out=np.zeros_like(error), where=measured & (sizes != 0)),
        "scaled": np.divide(error, naive, out=np.zeros_like(error), where=scalable),
        "scalable": scalable.astype(np.float64),
        "level": _zero_unless(actual - center, measured),
        "level_squared": _zero_unless(np.square(actual - center), measured),
    }


def normalized_quantities(actual: np.ndarray, forecast: np.ndarray) -> Sums:
    """Return the elementwise quantities whose sums `normalized_metrics` needs besides `count`, of normalised arrays."""
    measured, error = _measured(actual), forecast - actual
    squared, absolute = _zero_unless(np.square(error), measured), _zero_unless(np.abs(error), measured)
    return {"squared_normalized": squared, "absolute_normalized": absolute}


def band_quantities(actual: np.ndarray, lower: np.ndarray, upper: np.ndarray, level: int) -> Sums:
    """Return the elementwise quantities whose sums `interval_metrics` needs for the band of `level` percent.

    They are `inside_<level>`, `width_<level>` and `losses_<level>`, the pinball loss of both ends together.
    """
    measured, tail = _measured(actual), (1 - level / 100) / 2
    losses = _pinball(actual - lower, tail) + _pinball(actual - upper, 1 - tail)
    return {
        f"inside_{level}": ((lower <= actual) & (actual <= upper)).astype(np.float64),
        f"width_{level}": _zero_unless(upper - lower, measured),
        f"losses_{level}": _zero_unless(losses, measured),
    }


def band_levels(levels: Sequence[int]) -> tuple[int, ...]:
    """Return the levels, in percent, of all bands that scoring `levels` and `crps` needs, rising."""
    return tuple(sorted({*levels, *CRPS_BANDS}))


def sum_all(quantities: Mapping[str, np.ndarray]) -> Sums:
    """Return the sums over all elements, as one group: (1,) each."""
    return {name: np.array([values.sum()]) for name, values in quantities.items()}


def point_metrics(sums: Sums) -> Sums:
    """Return the metrics of `point_scores` by group, (groups,) each, from the sums of `point_quantities`."""
    count, level = sums["count"], sums["level_squared"]
    spread = level - _ratio(np.square(sums["level"]), count)
    spread = np.where(spread > 1e-12 * level, spread, _NAN)  # a smaller spread is rounding: all values are equal
    return {
        "rmse": np.sqrt(_ratio(sums["squared"], count)),
        "mae": _ratio(sums["absolute"], count),
        "mape": 100 * _ratio(sums["percentage"], sums["percentages"]),
        "mape_left_out": 1 - _ratio(sums["percentages"], count),
        "smape": 200 * _ratio(sums["symmetric"], count),
        "r2": 1 - sums["squared"] / spread,
        "mase": _ratio(sums["scaled"], sums["scalable"]),
    }


def interval_metrics(sums: Sums, levels: Sequence[int]) -> Sums:
    """Return interval metrics by group, (groups,) each.

    Args:
        sums: of `point_quantities`, and of `band_quantities` for each of `levels`.
        levels: in percent.

    Returns:
        `coverage_<level>`: share of the actual values inside, 0 to 1. `width_<level>`: mean width, raw units.
        `pinball`: mean pinball loss over the median and both ends of each level, raw units.
        `crps`, if the sums hold all of `CRPS_BANDS`: twice the mean pinball loss over the median and the ends of
        `CRPS_BANDS`, raw units. On this grid of 19 quantiles it is above the integral, by 5 % for a normal
        distribution. It does not depend on `levels`.
    """
    count = sums["count"]
    values = {}
    for level in levels:
        values[f"coverage_{level}"] = _ratio(sums[f"inside_{level}"], count)
        values[f"width_{level}"] = _ratio(sums[f"width_{level}"], count)
    values["pinball"] = _mean_loss(sums, levels)
    if all(f"losses_{level}" in sums for level in CRPS_BANDS):
        values["crps"] = 2 * _mean_loss(sums, CRPS_BANDS)
    return values


def normalized_metrics(sums: Sums) -> Sums:
    """Return mean squared, root mean squared and mean absolute error by group, on the normalised scale."""
    mse = _ratio(sums["squared_normalized"], sums["count"])
    mae = _ratio(sums["absolute_normalized"], sums["count"])
    return {"mse_normalized": mse, "rmse_normalized": np.sqrt(mse), "mae_normalized": mae}


def all_metrics(sums: Sums, levels: Sequence[int]) -> Sums:
    """Return point, interval and normalised metrics by group, (groups,) each; `levels` as for `interval_metrics`."""
    return {**point_metrics(sums), **interval_metrics(sums, levels), **normalized_metrics(sums)}


def _mean_loss(sums: Sums, levels: Sequence[int]) -> np.ndarray:
    total = 0.5 * sums["absolute"] + sum(sums[f"losses_{level}"] for level in levels)
    return _ratio(total, sums["count"]) / (1 + 2 * len(levels))


def _pinball(error: np.ndarray, level: float) -> np.ndarray:
    return np.maximum(level * error, (level - 1) * error)


def _measured(actual: np.ndarray) -> np.ndarray:
    return ~np.isnan(actual)


def _zero_unless(values: np.ndarray, where: np.ndarray) -> np.ndarray:
    return np.where(where, values, 0.0)


def _ratio(total: np.ndarray, count: np.ndarray) -> np.ndarray:
    return np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)


_BLOCK_ROWS = 1_000_000  # rows in memory at once


def naive_errors(
    series: np.ndarray,
    segment: np.ndarray,
    targets: np.ndarray,
    season: int,
    count: int,
    scale: TargetScale | None = None,
) -> np.ndarray:
    """Return the in-sample mean absolute error of the seasonal naive, the denominator of MASE.

    Args:
        series: (rows,) int, number of the series, below `count`.
        segment: (rows,) int, equal within a stretch without gaps.
        targets: (rows, targets), NaN where not measured.
        season: steps of a season.
        count: number of series.
        scale: (count, targets), with which `targets` are normalised; None: they are in raw units.

    Returns:
        (count, targets) float64, raw units; NaN for a series without two rows a season apart.
    """
    sums, pairs = np.zeros((count, targets.shape[1])), np.zeros((count, targets.shape[1]))
    for start in range(0, len(targets) - season, _BLOCK_ROWS):
        stop = min(start + _BLOCK_ROWS, len(targets) - season)
        now, before = slice(start + season, stop + season), slice(start, stop)
        separate = (segment[now] != segment[before]) | (series[now] != series[before])
        values = targets[start : stop + season].astype(np.float64)
        if scale is not None:
            values = scale[series[start : stop + season]].denormalize(values)
        difference = np.abs(values[season:] - values[:-season])
        difference[separate] = np.nan
        for target, column in enumerate(difference.T):
            measured = ~np.isnan(column)
            sums[:, target] += np.bincount(series[now][measured], column[measured], minlength=count)
            pairs[:, target] += np.bincount(series[now][measured], minlength=count)
    return np.divide(sums, pairs, out=np.full_like(sums, np.nan), where=pairs > 0)
