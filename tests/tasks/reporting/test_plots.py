"""Plots, also of runs with hardly any data."""

import io
import itertools

import matplotlib
import numpy as np
import optuna
import pandas as pd
import pytest
import torch
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState, create_trial

from lstm.config.pipeline import PipelineConfig
from lstm.data.scaling import TargetScale
from lstm.data.windows import Windows
from lstm.evaluation.scoring import ScoredWindows
from tasks.reporting import forecast_plots, plotting, search_plots, training_plots

RANDOM = np.random.default_rng(0)


def config_of(**changes):
    data = {"source": "a.csv", "time": "t", "series": "shop", "target": "y", "frequency": "1h"}
    values = {"name": "shops", "data": data, "window": {"horizon": 6}, "model": {"sequence_length": 24}}
    return PipelineConfig.parse({**values, **changes})


def make_windows(series=2, windows=60, horizon=6, actual=None, gap=0):
    """Return hourly windows of several series; after half of them `gap` hours are left out."""
    rows = windows + 24 + horizon + gap
    begins = np.arange(windows) + np.where(np.arange(windows) < windows // 2, 0, gap)
    origins = np.concatenate([number * rows + 24 + begins for number in range(series)])
    targets = RANDOM.normal(size=(series * rows, 1)) if actual is None else np.full((series * rows, 1), actual)
    tensor = torch.from_numpy(targets.astype(np.float32))
    scored_windows = Windows(
        tensor, tensor, torch.from_numpy(origins), 24, horizon, 0, torch.zeros(len(tensor), dtype=torch.long)
    )
    shape = (len(origins), 1, 1)
    return ScoredWindows(
        windows=scored_windows,
        actual=scored_windows.actual(torch.arange(len(origins))).numpy().astype(np.float64),
        scale=TargetScale(np.full(shape, 10.0), np.full(shape, 2.0)),
        naive_error=np.ones(shape),
        series=np.repeat(np.arange(series), windows),
        times=np.datetime64("2024-01-01", "us") + np.tile(begins, series) * np.timedelta64(1, "h"),
        names=tuple(f"shop {number}" for number in range(series)),
    )


def rendered_shape(figure):
    """Render the figure; return its shape in pixels."""
    assert isinstance(figure, Figure)
    file = io.BytesIO()
    figure.savefig(file)
    return matplotlib.image.imread(io.BytesIO(file.getvalue())).shape


def history(values):
    keys = ("train_loss", "val_loss", "val_rmse", "learning_rate", "gradient_norm")
    return [{"epoch": epoch, **dict.fromkeys(keys, value)} for epoch, value in enumerate(values, start=1)]


def lines(axes):
    return {line.get_label(): np.asarray(line.get_ydata(), float) for line in axes.lines}


def bands_around(forecast, widths):
    return {percent: (forecast - width, forecast + width) for percent, width in widths.items()}


def error_of(hidden_size, learning_rate):
    return 0.3 + (hidden_size == 8) + 0.1 * learning_rate


def make_trial(number, state=TrialState.COMPLETE, **changes):
    params = {"hidden_size": (8, 16)[number % 2], "learning_rate": 10.0 ** -(1 + number % 3)}
    values = {"state": state, "value": error_of(**params) if state == TrialState.COMPLETE else None}
    distributions = {
        "hidden_size": CategoricalDistribution((8, 16)),
        "learning_rate": FloatDistribution(1e-4, 1, log=True),
    }
    frozen = create_trial(**{**values, "params": params, "distributions": distributions, **changes})
    frozen.number = number
    return frozen


def study_of(*trials):
    study = optuna.create_study()
    study.add_trials(trials)
    return study


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["usual", "one window", "not measured", "constant", "not a number", "infinite"])
def test_forecast_plots_render_for_any_values(kind):
    test = make_windows(
        series=1 if kind == "one window" else 2,
        windows=1 if kind == "one window" else 60,
        actual={"not measured": np.nan, "constant": 0.5}.get(kind),
    )
    forecast = np.full_like(test.actual, {"not a number": np.nan, "infinite": np.inf}.get(kind, 0.5))
    bands = bands_around(test.denormalize(forecast), {80: 1.0, 95: 2.0}) if kind != "infinite" else {}
    with np.errstate(invalid="ignore"):
        assert rendered_shape(forecast_plots.forecast_vs_actual(test, forecast, bands, config_of()))[1] == 1350
        assert rendered_shape(forecast_plots.residuals(test, forecast, config_of()))[1] == 1350


def test_bands_are_plotted_around_the_forecast_in_raw_units():
    test = make_windows()
    forecast = np.zeros_like(test.actual)
    bands = bands_around(test.denormalize(forecast), {80: 3.0, 95: 7.0})
    (axes,) = forecast_plots.forecast_vs_actual(test, forecast, bands, config_of()).axes
    boxes = {band.get_label(): band.get_paths()[0].get_extents() for band in axes.collections}
    assert {name: (box.ymin, box.ymax) for name, box in boxes.items()} == {
        "95 % interval": (3.0, 17.0),
        "80 % interval": (7.0, 13.0),
    }
    assert set(lines(axes)["forecast, renewed every 6 steps"]) == {10.0}
    assert "shop 0" in axes.figure.get_suptitle()


def test_the_autocorrelation_of_residuals_follows_its_definition():
    test = make_windows(series=1, windows=200)
    residuals = test.denormalize(test.actual)[:, 0, 0] - 10.0
    _, axes = forecast_plots.residuals(test, np.zeros_like(test.actual), config_of(evaluate={"season": 24})).axes
    centered = residuals - residuals.mean()
    expected = [np.sum(centered[lag:] * centered[:-lag]) / np.sum(centered**2) for lag in range(1, 25)]
    np.testing.assert_allclose(lines(axes)["shop 0"], expected, atol=1e-12)


def test_residuals_on_both_sides_of_a_gap_are_not_neighbours():
    # Alternating signs, so that lag 1 is -1 and lag 2 is +1; 31 left-out hours shift the second half by an odd number.
    test = make_windows(series=1, windows=400, gap=31)
    signs = np.where((test.windows.origins.numpy() % 2) == 0, 1.0, -1.0)
    forecast = test.actual - signs[:, None, None]
    _, axes = forecast_plots.residuals(test, forecast, config_of()).axes
    correlations = lines(axes)["shop 0"]
    np.testing.assert_allclose(correlations[:4], [-1, 1, -1, 1], atol=0.05)


def test_normal_residuals_lie_under_the_normal_reference():
    test = make_windows(series=1, windows=4000)
    left, _ = forecast_plots.residuals(test, np.zeros_like(test.actual), config_of()).axes
    reference = lines(left)["normal of the same mean and spread"]
    heights = [patch.get_height() for container in left.containers for patch in container.patches]
    heights = heights or [patch.get_path().vertices[:, 1].max() for patch in left.patches]
    assert max(heights) == pytest.approx(reference.max(), rel=0.15)


@pytest.mark.slow
@pytest.mark.parametrize(
    "histories",
    [
        {},
        {"trial-000": history([0.5])},
        {"trial-000": history([np.nan, 0.4]), "trial-001": history([0.0, 0.0])},
        {f"trial-{number:03d}": history([1.0, 0.1, 0.01]) for number in range(40)},
    ],
    ids=["none", "one epoch", "NaN and zero", "forty networks"],
)
def test_training_curves_render_for_any_number_of_networks(histories):
    assert rendered_shape(training_plots.training_curves(histories, config_of()))[1] == 1350


def test_the_best_epoch_is_the_one_of_the_lowest_validation_loss():
    losses, *_ = training_plots.training_curves({"trial-000": history([0.5, 0.2, 0.3])}, config_of()).axes
    circle = next(line for line in losses.lines if line.get_markersize() == 8)
    assert (circle.get_xdata()[0], circle.get_ydata()[0]) == (2, 0.2)


def test_calibration_is_in_percent_on_both_axes():
    (axes,) = forecast_plots.calibration({"ensemble": {95: 0.9, 10: 0.15}, "none": {}}, config_of()).axes
    assert list(lines(axes)["ensemble"]) == [15.0, 90.0]
    assert axes.get_aspect() == 1.0 and rendered_shape(axes.figure)[1] == 1350


def test_the_leaderboard_is_ranked_by_test_error_and_leaves_out_what_has_none():
    scores = {
        "ensemble": {"kind": "best-ensemble", "metrics": {"test_rmse": 2.0}, "low": {"test_rmse": 1.5}, "high": {}},
        "naive": {
            "kind": "baseline",
            "metrics": {"test_rmse": 4.0},
            "low": {"test_rmse": 3.0},
            "high": {"test_rmse": 6},
        },
        "broken": {"kind": "best-single", "metrics": {"test_rmse": None}},
        "perfect": {"kind": "best-single", "metrics": {"test_rmse": 0.0}, "low": {"test_rmse": None}},
    }
    (axes,) = forecast_plots.leaderboard(scores, config_of()).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["naive", "ensemble", "perfect"]
    assert [patch.get_width() for patch in axes.patches] == [4.0, 2.0, 0.0]
    assert rendered_shape(axes.figure)[1] == 1350
    assert rendered_shape(forecast_plots.leaderboard({}, config_of()))[1] == 1350


def test_error_by_horizon_is_plotted_from_the_table_of_the_evaluation_folder():
    table = pd.DataFrame({"model": ["a", "a", "b", "b"], "horizon": [1, 2, 1, 2], "rmse": [1.0, 2.0, 3.0, np.nan]})
    (axes,) = forecast_plots.error_by_horizon(table, config_of()).axes
    assert list(lines(axes)["a"]) == [1.0, 2.0] and rendered_shape(axes.figure)[1] == 1350


@pytest.mark.slow
@pytest.mark.parametrize(
    "trials",
    [
        [],
        [make_trial(0)],
        [make_trial(0, TrialState.FAIL)],
        [make_trial(0, TrialState.PRUNED, intermediate_values={0: 0.4})],
        [
            make_trial(0),
            make_trial(1, TrialState.PRUNED, intermediate_values={0: np.inf}),
            make_trial(2, TrialState.PRUNED),
        ],
        [make_trial(number, value=1.0) for number in range(6)],
        [make_trial(number, params={}, distributions={}) for number in range(6)],
        [make_trial(number) for number in range(8)],
    ],
    ids=["none", "one", "one failed", "one pruned", "pruned at infinity", "all the same", "nothing searched", "eight"],
)
def test_search_plots_render_for_any_search(trials):
    figures = search_plots.plot_search(study_of(*trials), "shops")
    assert {name: rendered_shape(figure)[1] for name, figure in figures.items()} == dict.fromkeys(
        ("search_history", "importance", "parallel_coordinates"), 1350
    )


def test_the_best_so_far_never_rises_and_pruned_trials_are_marked():
    errors = [0.9, 0.5, 0.7, 0.4]
    trials = [make_trial(number, value=error) for number, error in enumerate(errors)]
    trials.append(make_trial(4, TrialState.PRUNED, intermediate_values={0: 0.95, 3: 0.8}))
    (axes,) = search_plots.search_history(trials, "shops").axes
    assert list(lines(axes)["best so far"]) == [0.9, 0.5, 0.5, 0.4]
    assert list(lines(axes)["pruned, at its last error"]) == [0.8]


def test_importances_name_the_key_that_makes_the_difference_and_add_up_to_one():
    shares = search_plots.importances(study_of(*(make_trial(number) for number in range(12))))
    assert max(shares, key=shares.get) == "hidden_size" and shares["hidden_size"] > 0.8
    assert sum(shares.values()) == pytest.approx(1)


def test_too_few_trials_or_keys_give_a_reason_instead():
    assert search_plots.importances(study_of(*(make_trial(number) for number in range(3)))) == (
        "importances need 4 finished trials, and there are 3"
    )
    same = [make_trial(number, params={}, distributions={}) for number in range(5)]
    assert search_plots.importances(study_of(*same)) == (
        "importances need two keys that all trials have and that differ, and there are 0"
    )


def test_parallel_coordinates_put_the_lowest_value_below_and_break_at_a_missing_key():
    complete = [make_trial(number) for number in range(4)]
    without = make_trial(
        4, params={"hidden_size": 8}, distributions={"hidden_size": CategoricalDistribution((8, 16))}, value=9.0
    )
    axes, _ = search_plots.parallel_coordinates([*complete, without], "shops").axes
    plotted_lines = [np.asarray(line.get_ydata(), float) for line in axes.lines if len(line.get_xdata()) == 2]
    broken = [heights for heights in plotted_lines if np.isnan(heights).any()]
    assert len(broken) == 1 and broken[0][0] == 0.0
    assert {0.0, 1.0} <= {heights[0] for heights in plotted_lines}


def test_plots_are_nine_inches_wide_and_change_no_global_state(tmp_path):
    before = dict(matplotlib.rcParams)
    figure = forecast_plots.calibration({"ensemble": {80: 0.8}}, config_of())
    plotting.save_plots(tmp_path, {"calibration": figure})
    assert figure.get_figwidth() * 100 == 900
    assert (tmp_path / "calibration.png").read_bytes().startswith(b"\x89PNG")
    assert dict(matplotlib.rcParams) == before


def test_colours_differ_for_red_and_green_blindness():
    # Viénot, Brettel & Mollon 1999: dichromats' views, in linear light; the distance of two shades there.
    protan = np.array([[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]])
    deutan = np.array([[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]])
    colors = [np.array(to_rgb(color)) ** 2.2 for color in plotting.PALETTE]
    for view in (np.eye(3), protan, deutan):
        seen = [np.clip(view @ color, 0, 1) ** (1 / 2.2) for color in colors]
        assert min(np.linalg.norm(first - second) for first, second in itertools.combinations(seen, 2)) > 0.1


def test_no_two_of_24_lines_look_alike():
    styles = {tuple(sorted(plotting.line_style(number, 10).items())) for number in range(24)}
    assert len(styles) == 24
