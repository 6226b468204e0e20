"""How far a forecast is from what came: elementwise quantities, their sums over groups, and metrics made of the sums.

Whatever is scored (everything, one step ahead, one series, one hour, a resample of the bootstrap) is the same
quantities summed over other windows, so no breakdown has formulas of its own. Arrays of forecasts are (windows,
horizon, targets), float64, in the units of the target; where the actual value is NaN nothing counts.
Formulas: Hyndman & Koehler 2006 (MASE, sMAPE), Koenker & Bassett 1978 (pinball), Gneiting & Raftery 2007 (CRPS),
Makridakis, Spiliotis & Assimakopoulos 2020 (OWA, of the M4 competition).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lstm.data.scaling import TargetScale

Scores = dict[str, float]
Band = tuple[np.ndarray, np.ndarray]  # lower and upper ends, in raw units
Bands = dict[int, Band]  # by level in percent
Sums = dict[str, np.ndarray]  # quantity -> what it adds up to in each group, (groups,) float64

CRPS_BANDS = tuple(range(10, 100, 10))  # percent: with the median the quantiles of 5, 10, … 95 %
ERRORS = frozenset(
    {"rmse", "mae", "mape", "smape", "mase", "pinball", "crps", "mse_normalized", "rmse_normalized", "mae_normalized"}
)

_NEAR_ZERO = 1e-6  # of the largest actual value: mape leaves out what is not above
_NAN = float("nan")


def point_scores(actual: np.ndarray, forecast: np.ndarray, naive_error: np.ndarray | float) -> Scores:
    """Point metrics over everything measured.

    Args:
        actual: what came; NaN: not measured.
        forecast: same shape.
        naive_error: in-sample mean absolute error of the seasonal naive, what MASE divides by; a
            number, or (windows, 1, targets).

    Returns:
        `rmse`, `mae` in units; `mape`, `smape` in percent; `mape_left_out`, the share (0 to 1) of actual values of
        (nearly) zero, which are left out of mape; `r2`; `mase`. A metric without a defined value is NaN.
    """
    largest = np.nanmax(np.abs(actual)) if not np.isnan(actual).all() else 0.0
    center = float(np.nanmean(actual)) if largest else 0.0
    found = point_quantities(actual, forecast, naive_error, largest, center)
    return _numbers(point_metrics(sum_all(found)))


def interval_scores(actual: np.ndarray, forecast: np.ndarray, bands: Bands) -> Scores:
    """`coverage_<percent>` (share of actual values inside, 0 to 1) and `width_<percent>` of each band, and `pinball`.

    `pinball` is the mean quantile loss, in units, over the median and both edges of every band.
    """
    found = {"count": _measured(actual), "absolute": _counted(np.abs(forecast - actual), _measured(actual))}
    for level, (lower, upper) in bands.items():
        found |= band_quantities(actual, lower, upper, level)
    return _numbers(interval_metrics(sum_all(found), sorted(bands)))


def skill(ours: float, reference: float) -> float:
    """1 − ours / reference: the share of the reference's error that is gone; NaN against a perfect one."""
    return float(_skill(ours, reference))


def relative_scores(ours: Mapping[str, Any], reference: Mapping[str, Any]) -> dict[str, Any]:
    """What is said of a forecast beside a reference on the same windows; values may be numbers or arrays.

    Returns:
        `<metric>_skill` of each error in `ours`, and `owa`: the mean of sMAPE and MASE, each over the reference's.
        In the M4 competition the reference is Naive 2; here it is the one given, the seasonal naive.
        A `val_` or `test_` before the metrics' names is kept.
    """
    found: dict[str, Any] = {}
    for name in ours:
        split = next((one for one in ("val_", "test_") if name.startswith(one)), "")
        metric = name.removeprefix(split)
        if metric in ERRORS:
            found[f"{name}_skill"] = _skill(ours[name], reference[name])
        if metric == "smape" and f"{split}mase" in ours:
            left = [1 - _skill(ours[one], reference[one]) for one in (name, f"{split}mase")]
            found[f"{split}owa"] = sum(left) / 2
    return found


def point_quantities(
    actual: np.ndarray,
    forecast: np.ndarray,
    naive_error: np.ndarray | float,
    largest: np.ndarray | float,
    center: float,
) -> Sums:
    """The elementwise quantities that `point_metrics` needs the sums of, each of the shape of `actual`.

    Args:
        actual: what came; NaN: not measured.
        forecast: same shape.
        naive_error: what MASE divides by; where it is 0 or NaN nothing counts for it.
        largest: the largest absolute actual value, which "nearly zero" is said beside; both a number, or
            (windows, 1, targets).
        center: any value amid the actual ones, so that the sums of their squares lose no digits.
    """
    measured = _measured(actual)
    error, size = np.abs(forecast - actual), np.abs(actual)
    naive = np.broadcast_to(naive_error, actual.shape)
    apart = measured & (size > _NEAR_ZERO * np.asarray(largest))
    scalable = measured & (naive > 0)
    both = size + np.abs(forecast)
    return {
        "count": measured.astype(np.float64),
        "squared": _counted(np.square(error), measured),
        "absolute": _counted(error, measured),
        "percentage": np.divide(error, size, out=np.zeros_like(error), where=apart),
        "percentages": apart.astype(np.float64),
        "symmetric": np.divide(error, both, out=np.zeros_like(error), where=measured & (both != 0)),
        "scaled": np.divide(error, naive, out=np.zeros_like(error), where=scalable),
        "scalable": scalable.astype(np.float64),
        "level": _counted(actual - center, measured),
        "level_squared": _counted(np.square(actual - center), measured),
    }


def normalized_quantities(actual: np.ndarray, forecast: np.ndarray) -> Sums:
    """What `normalized_metrics` needs the sums of beside `count`, from arrays on the networks' scale."""
    measured, error = _measured(actual), forecast - actual
    squared, absolute = _counted(np.square(error), measured), _counted(np.abs(error), measured)
    return {"squared_normalized": squared, "absolute_normalized": absolute}


def band_quantities(actual: np.ndarray, lower: np.ndarray, upper: np.ndarray, level: int) -> Sums:
    """What `interval_metrics` needs the sums of for the band of `level` percent: inside, width, both edges' losses."""
    measured, tail = _measured(actual), (1 - level / 100) / 2
    losses = _pinball(actual - lower, tail) + _pinball(actual - upper, 1 - tail)
    return {
        f"inside_{level}": ((lower <= actual) & (actual <= upper)).astype(np.float64),
        f"width_{level}": _counted(upper - lower, measured),
        f"losses_{level}": _counted(losses, measured),
    }


def band_levels(levels: Sequence[int]) -> tuple[int, ...]:
    """The bands, in percent, that `levels` and `crps` are scored with."""
    return tuple(sorted({*levels, *CRPS_BANDS}))


def sum_all(quantities: Mapping[str, np.ndarray]) -> Sums:
    """Of everything: one group."""
    return {name: np.array([values.sum()]) for name, values in quantities.items()}


def point_metrics(sums: Sums) -> Sums:
    """`point_scores` of each group, (groups,) each, from the sums of `point_quantities`."""
    count, level = sums["count"], sums["level_squared"]
    spread = level - _ratio(np.square(sums["level"]), count)
    spread = np.where(spread > 1e-12 * level, spread, _NAN)  # less is rounding: all are equal
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
    """`interval_scores` of each group, and `crps` where all of `CRPS_BANDS` are in the sums.

    `crps`, in units, is twice the mean quantile loss over the median and the edges of `CRPS_BANDS`: on a grid of 19
    equal steps it approaches the integral from above, by 5 % for a normal distribution. It doesn't depend on `levels`.
    """
    count = sums["count"]
    found = {}
    for level in levels:
        found[f"coverage_{level}"] = _ratio(sums[f"inside_{level}"], count)
        found[f"width_{level}"] = _ratio(sums[f"width_{level}"], count)
    found["pinball"] = _mean_loss(sums, levels)
    if all(f"losses_{level}" in sums for level in CRPS_BANDS):
        found["crps"] = 2 * _mean_loss(sums, CRPS_BANDS)
    return found


def normalized_metrics(sums: Sums) -> Sums:
    """Mean squared error, its root and the mean absolute error on the networks' scale: all that was measured counts."""
    mse = _ratio(sums["squared_normalized"], sums["count"])
    mae = _ratio(sums["absolute_normalized"], sums["count"])
    return {"mse_normalized": mse, "rmse_normalized": np.sqrt(mse), "mae_normalized": mae}


def _mean_loss(sums: Sums, levels: Sequence[int]) -> np.ndarray:
    total = 0.5 * sums["absolute"] + sum(sums[f"losses_{level}"] for level in levels)
    return _ratio(total, sums["count"]) / (1 + 2 * len(levels))


def _pinball(error: np.ndarray, level: float) -> np.ndarray:
    return np.maximum(level * error, (level - 1) * error)


def _skill(ours: Any, reference: Any) -> np.ndarray:
    reference = np.asarray(reference)
    return 1 - np.asarray(ours) / np.where(reference > 0, reference, _NAN)


def _measured(actual: np.ndarray) -> np.ndarray:
    return ~np.isnan(actual)


def _counted(values: np.ndarray, where: np.ndarray) -> np.ndarray:
    return np.where(where, values, 0.0)


def _ratio(total: np.ndarray, count: np.ndarray) -> np.ndarray:
    return np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)


def _numbers(metrics: Sums) -> Scores:
    return {name: float(values[0]) for name, values in metrics.items()}


_BLOCK_ROWS = 1_000_000  # rows that are looked at in one go


def naive_errors(
    series: np.ndarray,
    segment: np.ndarray,
    targets: np.ndarray,
    season: int,
    count: int,
    scale: TargetScale | None = None,
) -> np.ndarray:
    """In-sample mean absolute error of the seasonal naive, for MASE.

    Args:
        series: (rows,) int, which series a row is of, below `count`.
        segment: (rows,) int, equal within an unbroken run.
        targets: (rows, targets), NaN where not measured.
        season: steps that the naive forecast looks back.
        count: number of series.
        scale: (count, targets), what `targets` are normalised by; None: they are in raw units.

    Returns:
        (count, targets), in raw units; NaN for a series without a pair of rows a season apart.
    """
    sums, pairs = np.zeros((count, targets.shape[1])), np.zeros((count, targets.shape[1]))
    for start in range(0, len(targets) - season, _BLOCK_ROWS):
        stop = min(start + _BLOCK_ROWS, len(targets) - season)
        now, before = slice(start + season, stop + season), slice(start, stop)
        apart = (segment[now] != segment[before]) | (series[now] != series[before])
        values = targets[start : stop + season].astype(np.float64)
        if scale is not None:
            values = scale[series[start : stop + season]].denormalize(values)
        difference = np.abs(values[season:] - values[:-season])
        difference[apart] = np.nan
        for target, column in enumerate(difference.T):
            there = ~np.isnan(column)
            sums[:, target] += np.bincount(series[now][there], column[there], minlength=count)
            pairs[:, target] += np.bincount(series[now][there], minlength=count)
    return np.divide(sums, pairs, out=np.full_like(sums, np.nan), where=pairs > 0)
