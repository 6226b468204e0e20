"""Each known trouble gives a finding with figures and remedy; its healthy counterpart gives none."""

import json
import math
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp

import lstm.diagnostics.spans
from lstm.config.model import ModelConfig
from lstm.config.pipeline import PipelineConfig
from lstm.data.windows import Windows
from lstm.diagnostics.diagnosis import (
    LeaderboardRow,
    Span,
    Spans,
    TrainingRecord,
    diagnose,
    diagnose_spans,
    diagnose_test,
    diagnose_training,
)
from lstm.diagnostics.scale_checks import diagnose_scaling
from lstm.diagnostics.shift import diagnose_shift
from lstm.evaluation.baselines import Persistence
from lstm.networks.network import ForecastNetwork
from lstm.networks.training import fit
from tests.support.audited_runs import make_gappy, make_run
from tests.support.network_variants import wave_network, wave_windows
from tests.support.tables import DATA

CONFIG = ModelConfig(epochs=8, hidden_size=32, sequence_length=48, season=24, anchor="last", precision="fp32")
HEALTHY = [1.0, 0.6, 0.45, 0.4, 0.38, 0.37, 0.36, 0.355]
NAIVE = {"persistence": 0.9, "seasonal_naive": 0.8}
DAY = np.timedelta64(1, "D")


def history(train=HEALTHY, validation=HEALTHY, norms=(0.3,) * 8, rmse=None):
    rmse = rmse or [math.sqrt(abs(loss)) for loss in validation]
    columns = zip(train, validation, rmse, norms, strict=False)
    return [
        {"epoch": n, "train_loss": a, "val_loss": b, "val_rmse": c, "gradient_norm": d, "learning_rate": 1e-3}
        for n, (a, b, c, d) in enumerate(columns, start=1)
    ]


def troubles(findings):
    return [finding.trouble for finding in findings]


def diagnose_real_training(inputs, targets, **changes):
    """Train a network, with the last third as validation, and diagnose it."""
    config = ModelConfig(
        **{"hidden_size": 16, "num_layers": 1, "sequence_length": 8, "dropout": 0.0, "patience": None, **changes},
        input_size=inputs.shape[1],
        output_size=1,
        device="cpu",
    )
    cut = 2 * len(inputs) // 3
    x, y = torch.from_numpy(inputs.astype(np.float32)), torch.from_numpy(targets.astype(np.float32)[:, None])
    windows = [Windows(x, y, torch.arange(a, b), 8, 1) for a, b in ((8, cut), (cut + 8, len(inputs) - 1))]
    fitted = fit(ForecastNetwork(config, range(1)), *windows)
    actual = windows[1].actual(torch.arange(len(windows[1]))).numpy()
    naive = float(np.sqrt(np.square(Persistence().forecast(windows[1]) - actual).mean()))
    return diagnose_training("trial-000", fitted.history, config, fitted.findings, {"persistence": naive})


def wave(rows=360):
    return np.sin(2 * np.pi * np.arange(rows) / 12)[:, None] + np.random.default_rng(0).normal(0, 0.05, (rows, 1))


def test_a_healthy_training_is_silent():
    assert diagnose_training("trial-000", history(), CONFIG, "", NAIVE) == ()


def test_a_real_healthy_training_is_silent():
    assert diagnose_real_training(wave(), wave()[:, 0], epochs=15, learning_rate=0.01) == ()


def test_a_real_training_with_a_vanishing_learning_rate_does_not_learn():
    (finding,) = diagnose_real_training(wave(), wave()[:, 0], epochs=4, learning_rate=1e-7)
    assert (finding.trouble, finding.where) == ("not_learning", "trial-000")
    assert "is no better than that of persistence" in finding.evidence
    assert finding.remedy == "Raise learning_rate (1e-07; try 0.001)"


def test_a_real_training_on_noise_by_a_large_network_overfits():
    noise = np.random.default_rng(1).normal(0, 1, (120, 1))
    findings = diagnose_real_training(
        noise, noise[:, 0], epochs=60, learning_rate=0.01, hidden_size=64, weight_decay=0.0
    )
    (finding,) = [finding for finding in findings if finding.trouble == "overfitting"]
    assert "while the training loss went on falling" in finding.evidence
    for fragment in ("dropout (0; try 0.2)", "weight_decay (0;", "augment", "hidden_size (64; try 32)", "patience: 3"):
        assert fragment in finding.remedy


def test_a_real_training_on_raw_values_explodes():
    raw = 1e4 * wave()
    findings = diagnose_real_training(raw, raw[:, 0], epochs=4, learning_rate=0.1)
    finding = next(finding for finding in findings if finding.trouble == "exploding_gradients")
    assert "most steps are clipped" in finding.evidence and "normalize.strategy" in finding.remedy


@pytest.mark.parametrize(
    ("course", "config", "remedy"),
    [
        ([1.0, 0.999, 0.998, 0.997], {"learning_rate": 1e-6}, "Raise learning_rate (1e-06; try 0.001)"),
        ([1.0, 1.2, 1.5, 2.0], {"learning_rate": 0.05}, "Lower learning_rate (0.05; try 0.005)"),
        ([1.0, 0.999, 0.998, 0.997], {}, "aise hidden_size (32; try 64) and sequence_length (48; try 96)"),
        ([1.0, 0.999, 0.998, 0.997], {"anchor": "none"}, "set anchor: seasonal (none now)"),
    ],
)
def test_a_loss_that_does_not_fall_is_not_learning(course, config, remedy):
    (finding,) = diagnose_training("trial-000", history(course, course), CONFIG.replace(**config))
    assert finding.trouble == "not_learning"
    assert f"the training loss went from 1 to {course[-1]:g} in 4 epochs" in finding.evidence
    assert remedy in finding.remedy


def test_vanished_gradients_have_their_own_remedy():
    course = [1.0, 1.0, 1.0, 1.0]
    (finding,) = diagnose_training("trial-000", history(course, course, norms=[1e-7] * 4), CONFIG)
    assert "median norm 1e-07" in finding.remedy and "layer_norm: true (now false)" in finding.remedy


def test_a_flat_loss_far_below_the_naive_forecast_is_learning():
    flat = [0.2, 0.2, 0.2, 0.2]
    assert diagnose_training("trial-000", history(flat, flat), CONFIG, "", NAIVE) == ()
    assert troubles(diagnose_training("trial-000", history(flat, flat), CONFIG)) == ["not_learning"]


def test_a_network_no_better_than_the_best_naive_baseline_has_not_learned():
    (finding,) = diagnose_training("trial-000", history(rmse=[0.85] * 8), CONFIG.replace(epochs=20), "", NAIVE)
    assert finding.trouble == "not_learning" and "seasonal_naive, 0.8" in finding.evidence


def test_more_epochs_are_the_remedy_if_the_last_one_was_the_best():
    (finding,) = diagnose_training("trial-000", history(rmse=[0.85] * 8), CONFIG, "", NAIVE)
    assert finding.remedy.startswith("Raise epochs (8)")


def test_a_validation_loss_that_turns_up_is_overfitting():
    turned = [1.0, 0.6, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75]
    (finding,) = diagnose_training("trial-001", history(validation=turned), CONFIG, "", NAIVE)
    assert finding.trouble == "overfitting"
    # By hand: best 0.5 in epoch 3, the last three mean 0.7, training from 0.45 to 0.355.
    assert "best in epoch 3 of 8 (0.5) and then rose by 40% (threshold 15%) to 0.7" in finding.evidence
    assert "falling by 21%, from 0.45 to 0.355" in finding.evidence
    assert "dropout (0.2; try 0.4)" in finding.remedy and "num_layers (2)" in finding.remedy


@pytest.mark.parametrize(
    ("train", "validation"),
    [
        (HEALTHY, [1.0, 0.6, 0.5, 0.51, 0.5, 0.51, 0.5, 0.51]),  # a plateau
        ([1.0, 0.6, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5], [1.0, 0.6, 0.5, 0.7, 0.6, 0.8, 0.6, 0.7]),  # noise: no fall
        (HEALTHY, [1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.6]),  # one bad epoch at the end
    ],
)
def test_a_plateau_noise_or_one_bad_epoch_is_no_overfitting(train, validation):
    assert diagnose_training("trial-000", history(train, validation), CONFIG) == ()


def test_log_likelihoods_are_judged_in_nats_since_they_cross_zero():
    config, fall = CONFIG.replace(loss="gaussian"), [0.5, 0.1, -0.2, -0.4, -0.5]
    assert diagnose_training("trial-000", history(fall, fall, rmse=[0.5] * 5), config, "", NAIVE) == ()
    rise = [0.5, 0.01, 0.3, 0.4, 0.5]
    (finding,) = diagnose_training("trial-000", history(fall, rise, rmse=[0.5] * 5), config, "", NAIVE)
    assert finding.trouble == "overfitting" and "rose by 0.39 nats" in finding.evidence


@pytest.mark.parametrize(
    ("norms", "config", "evidence"),
    [
        ([0.3, 0.3, 30.0, 0.3, 0.3], {}, "reached 30 in epoch 3, 100 times its median of 0.3"),
        ([0.3, math.inf, 0.3, 0.3, 0.3], {}, "was not finite in 1 of 5 epochs"),
        ([0.3, math.nan, math.inf, math.inf, 0.3], {"precision": "fp16"}, "was not finite in 3 of 5 epochs"),
        ([5.0, 6.0, 4.0, 5.0, 0.3], {}, "most steps are clipped: in 4 of 5 epochs"),
    ],
)
def test_exploding_gradients_are_found(norms, config, evidence):
    epochs = history(HEALTHY[:5], HEALTHY[:5], norms)
    (finding,) = diagnose_training("trial-000", epochs, CONFIG.replace(**config), "", NAIVE)
    assert finding.trouble == "exploding_gradients" and evidence in finding.evidence
    assert finding.remedy.startswith("Lower learning_rate (0.001; try 0.0001)")
    assert ("set precision: fp32 (now fp16)" in finding.remedy) == bool(config)


def test_a_restart_is_an_explosion_and_other_remarks_are_not():
    rescue = "the loss of epoch 2 was not finite: went on from the best weights before it with learning rate 0.0003"
    memory = "a batch did not fit into the GPU's memory: worked off in 2 parts"
    for remarks in (rescue, (memory, rescue)):
        (finding,) = diagnose_training("trial-000", history(), CONFIG.replace(gradient_clip=None), remarks, NAIVE)
        assert rescue in finding.evidence and "set gradient_clip: 1.0 (null now)" in finding.remedy
    assert diagnose_training("trial-000", history(), CONFIG, memory, NAIVE) == ()
    assert troubles(diagnose_training("trial-000", [], CONFIG, rescue)) == ["exploding_gradients"]


def test_the_remark_of_a_real_training_on_an_infinite_loss_is_recognized():
    network, windows = wave_network(epochs=4), wave_windows()
    forward, calls = network.forward, []

    def failing(*inputs):
        calls.append(network.training)
        return forward(*inputs) * (math.nan if len(calls) == 20 else 1)

    network.forward = failing
    fitted = fit(network, windows, windows)
    findings = diagnose_training("trial-000", fitted.history, network.config, fitted.findings)
    assert "exploding_gradients" in troubles(findings) and fitted.findings[0] in findings[0].evidence


def test_steps_that_the_scaler_of_fp16_skips_are_no_explosion():
    norms = [math.inf, *[0.3] * 7]
    assert diagnose_training("trial-000", history(norms=norms), CONFIG.replace(precision="fp16"), "", NAIVE) == ()


def pipeline(**changes):
    return PipelineConfig.parse({"name": "x", "data": {**DATA, "calendar": {}}, **changes})


def span(values, start, days, series=1):
    """Rows of `series` series, one after the other."""
    rows = len(values) // series
    times = np.datetime64("2024-01-01T00:00", "us") + (np.arange(rows) * (days * 24 * 60) // rows).astype("m8[m]")
    return Span(values.astype(np.float32), np.repeat(np.arange(series), rows), np.tile(times + start * DAY, series))


def spans(change=lambda values, split: values, series=1, seed=0, train_rows=8000):
    """Sales and visitors, standard normal, ten days of training and one each of validation and test."""
    random = np.random.default_rng(seed)
    sizes = {"train": train_rows, "validation": 800, "test": 800}
    drawn = {split: random.normal(0, 1, (rows * series, 2)) for split, rows in sizes.items()}
    for values in drawn.values():
        values[::9, 0] = np.nan
    of = {split: change(values, split) for split, values in drawn.items()}
    places = {"train": (0, 10), "validation": (10, 1), "test": (11, 1)}
    names = tuple(f"s{number}" for number in range(series))
    parts = {split: span(of[split], *places[split], series) for split in of}
    return Spans(("sales", "visitors"), 2, 1, names, **parts)


def test_spans_of_one_distribution_are_silent():
    for series in (1, 4):
        assert diagnose_spans(spans(series=series), pipeline()) == ()


@pytest.mark.parametrize(
    ("column", "name", "remedy"), [(0, "sales", "model.anchor: standard"), (1, "visitors", "data.observed")]
)
def test_a_shifted_column_is_found_by_name_and_size(column, name, remedy):
    def change(values, split):
        return values + np.eye(2)[column] * (1.5 if split == "test" else 0)

    (finding,) = diagnose_shift(spans(change), pipeline())
    assert (finding.trouble, finding.where) == ("shift", f"column {name}")
    # Of two normal distributions 1.5 apart the distance is 2Φ(0.75) − 1 = 0.547, and the mean moves by 1.5.
    distance = float(finding.evidence.split("distance ")[1].split()[0])
    moved = float(finding.evidence.split("mean moved by ")[1].split()[0])
    assert distance == pytest.approx(0.547, abs=0.04) and moved == pytest.approx(1.5, abs=0.1)
    assert finding.evidence.startswith("test against training: PSI") and remedy in finding.remedy


def test_a_shift_of_the_spread_alone_is_found():
    (finding,) = diagnose_shift(spans(lambda values, split: values * (4 if split == "test" else 1)), pipeline())[:1]
    assert finding.trouble == "shift" and "spread 4" in finding.evidence


def test_a_significant_but_small_shift_is_silent():
    moved = spans(lambda values, split: values + (0.15 if split == "test" else 0), series=10, train_rows=20_000)
    train, test = (part.values[~np.isnan(part.values[:, 0]), 0] for part in (moved.train, moved.test))
    assert ks_2samp(train, test).pvalue < 1e-10
    assert diagnose_shift(moved, pipeline()) == ()


def test_a_season_that_training_has_seen_is_no_shift_and_one_that_it_has_not_is():
    def seasonal(values, split):
        start, stop = {"train": (0, 10), "validation": (10, 11), "test": (11, 12)}[split]
        return values * 0.2 + 2 * np.sin(2 * np.pi * np.linspace(start, stop, len(values)) / 5)[:, None]

    assert diagnose_shift(spans(seasonal), pipeline()) == ()
    new = spans(lambda values, split: seasonal(values, split) + (4 if split == "test" else 0))
    assert {finding.where for finding in diagnose_shift(new, pipeline())} == {"column sales", "column visitors"}


def test_a_trend_that_goes_on_is_a_shift():
    def growing(values, split):
        start, stop = {"train": (0, 10), "validation": (10, 11), "test": (11, 12)}[split]
        return values * 0.1 + np.linspace(start, stop, len(values))[:, None]

    findings = diagnose_shift(spans(growing), pipeline())
    assert {finding.where for finding in findings} == {"column sales", "column visitors"}
    assert "100% outside of training's range" in findings[0].evidence


def test_many_shifted_columns_are_summarized():
    moved = spans(lambda values, split: values + (3 if split == "test" else 0))
    wide = {
        split: replace(getattr(moved, split), values=np.tile(getattr(moved, split).values, 7))
        for split in ("train", "validation", "test")
    }
    findings = diagnose_shift(
        replace(moved, columns=tuple(f"c{n}" for n in range(14)), n_measured=14, **wide), pipeline()
    )
    assert len(findings) == 11 and findings[-1].where == "4 more columns"


@pytest.mark.parametrize(
    ("change", "config", "evidence", "remedy"),
    [
        (lambda v, s: v * [5, 1], {}, "have mean", "were not made by this normaliser"),
        (lambda v, s: v + np.array([1, 0]), {}, "have mean 1", "were not made by this normaliser"),
        (lambda v, s: v * [0, 1], {}, "never changes", "Leave the series out"),
        (lambda v, s: v * [1, 0] + [0, 3], {}, "never changes", "Leave the column out"),
        (
            lambda v, s: v * ([1000, 1] if s == "test" else 1),
            {},
            "in test series 's0' varies",
            "one unit over the whole span",
        ),
        (lambda v, s: v + ([40, 0] if s == "validation" else 0), {}, "in validation series 's0'", "one unit"),
        (lambda v, s: 1013 + 8 * v, {"strategy": "none"}, "networks are to be given numbers", "zscore (now none)"),
        (lambda v, s: v, {"strategy": "minmax"}, "values within [0, 1]", "were not made by this normaliser"),
    ],
)
def test_inconsistent_normalisation_is_found(change, config, evidence, remedy):
    findings = diagnose_scaling(spans(change), pipeline(normalize=config))
    assert set(troubles(findings)) == {"inconsistent_normalisation"}
    assert evidence in findings[0].evidence and remedy in findings[0].remedy


@pytest.mark.parametrize(
    ("change", "config"),
    [
        (lambda v, s: (v + 10) / 20, {"strategy": "minmax"}),
        (lambda v, s: v * 1.4, {"strategy": "robust"}),
        (lambda v, s: v * 3 + 1, {"strategy": "none"}),
    ],
)
def test_data_as_each_strategy_produces_them_are_silent(change, config):
    assert diagnose_scaling(spans(change), pipeline(normalize=config)) == ()


def test_series_on_different_scales_are_found_if_they_share_a_normaliser():
    def uneven(values, split):
        rows = len(values) // 4
        return values * np.repeat([0.01, 1, 1, 1.5], rows)[:, None] / 1.03

    findings = diagnose_scaling(spans(uneven, series=4), pipeline(normalize={"per": "all"}))
    assert [finding.where for finding in findings] == ["column sales", "column visitors"]
    assert "series 's3' varies" in findings[0].evidence and "as much as 's0'" in findings[0].evidence
    assert "normalize.per: series" in findings[0].remedy


NAIVE_BASELINE = LeaderboardRow(
    "seasonal_naive",
    "baseline",
    {"val_rmse": 10.0, "test_rmse": 10.5, "val_rmse_normalized": 0.8, "test_rmse_skill": 0},
)


def candidate(validation, test, low=None, high=None):
    metrics = {"val_rmse": validation, "test_rmse": test, "val_rmse_normalized": 0.5}
    bounds = ({} if value is None else {"test_rmse": value} for value in (low, high))
    return LeaderboardRow("ensemble", "best-ensemble", metrics, *bounds)


@pytest.mark.parametrize(
    "row",
    [
        candidate(6, 6.5),
        candidate(6, 5),
        candidate(6, 7.8, low=5.5, high=10.0),  # noise explains it
    ],
)
def test_a_test_like_the_validation_is_silent(row):
    assert diagnose_test([row, NAIVE_BASELINE]) == ()


def test_a_test_span_that_is_harder_for_the_baseline_too_is_silent_until_errors_double():
    harder = replace(NAIVE_BASELINE, metrics={**NAIVE_BASELINE.metrics, "test_rmse": 15.0})
    assert diagnose_test([candidate(6, 9), harder]) == ()
    much = replace(NAIVE_BASELINE, metrics={**NAIVE_BASELINE.metrics, "test_rmse": 25.0})
    assert troubles(diagnose_test([candidate(6, 15), much])) == ["poor_test"]


def test_a_poor_test_is_found_with_its_interval():
    (finding,) = diagnose_test([candidate(6, 9, low=8.0, high=10.0), NAIVE_BASELINE])
    assert (finding.trouble, finding.where) == ("poor_test", "test span")
    assert "test RMSE 9 (95 % of block bootstraps: 8 to 10) is 1.50 times the validation RMSE 6" in finding.evidence
    assert "that of seasonal_naive changed 1.05 times" in finding.evidence
    assert "lengthen split.validation" in finding.remedy


def test_lost_skill_is_a_poor_test_though_the_error_grew_little():
    easier = replace(NAIVE_BASELINE, metrics={**NAIVE_BASELINE.metrics, "test_rmse": 6.0})
    (finding,) = diagnose_test([candidate(6, 7), easier])
    assert "skill against seasonal_naive fell from 40.0% on validation to -16.7% on the test" in finding.evidence


def test_baselines_get_no_finding_and_the_reference_may_be_missing():
    poor = replace(NAIVE_BASELINE, metrics={**NAIVE_BASELINE.metrics, "test_rmse": 30.0})
    assert diagnose_test([candidate(6, 6), poor]) == ()
    assert troubles(diagnose_test([candidate(6, 9)])) == ["poor_test"]


def test_a_shift_is_reported_only_as_the_cause_of_a_poor_test():
    moved = spans(lambda values, split: values + (1.5 if split == "test" else 0))
    runs, config = [TrainingRecord("trial-000", history(), CONFIG)], pipeline()
    assert diagnose(config, runs, [candidate(6, 6.1), NAIVE_BASELINE], moved) == ()
    findings = diagnose(config, runs, [candidate(6, 9), NAIVE_BASELINE], moved)
    assert troubles(findings) == ["poor_test", "shift", "shift"]
    assert "shift of column sales" in findings[0].remedy
    assert json.loads(json.dumps([asdict(finding) for finding in findings]))[1]["where"].startswith("column ")
    assert str(findings[0]).startswith("test span: poor_test: ensemble: test RMSE 9")


def test_a_trial_is_compared_with_the_naive_baselines_of_the_leaderboard():
    findings = diagnose(
        pipeline(),
        [TrainingRecord("trial-7", history(rmse=[0.81] * 8), CONFIG)],
        [candidate(6, 6), NAIVE_BASELINE],
        spans(),
    )
    assert [(finding.trouble, finding.where) for finding in findings] == [("not_learning", "trial-7")]


def test_a_real_panel_is_silent_and_one_whose_unit_changes_is_not(tmp_path):
    def diagnose_frame(frame):
        run = make_run(frame, tmp_path)
        return diagnose_spans(Spans.of(run.panel, run.forecaster.spec, run.splits), pipeline())

    assert diagnose_frame(make_gappy()) == ()
    frame = make_gappy()
    frame.loc[frame["time"] >= "2024-04-05", "sales"] *= 1000
    findings = diagnose_frame(frame)
    assert {"column sales"} == {finding.where for finding in findings}
    assert set(troubles(findings)) == {"shift", "inconsistent_normalisation"}


def test_samples_hold_only_measured_rows_of_their_own_span(tmp_path):
    run = make_run(make_gappy(kind="x"), tmp_path, observed=["visitors", "kind"], categorical="kind")
    sample = Spans.of(run.panel, run.forecaster.spec, run.splits)
    assert sample.columns == ("sales", "visitors", "kind=x") and (sample.n_measured, sample.n_targets) == (2, 1)
    for split, (start, end) in run.panel.cuts.spans.items():
        part = getattr(sample, split)
        assert part.complete and (part.times >= start).all() and (part.times < end).all()
    cuts = run.panel.cuts
    raw = run.table.read_rows(None, cuts.start, cuts.validation)["sales"]
    assert np.isfinite(sample.train.values[:, 0]).sum() == raw.notna().sum()


def test_samples_are_bounded(tmp_path, monkeypatch):
    run = make_run(make_gappy(), tmp_path)
    monkeypatch.setattr(lstm.diagnostics.spans, "_MAX_ROWS", 300)
    sample = Spans.of(run.panel, run.forecaster.spec, run.splits)
    assert not sample.train.complete and len(sample.train.series) == 300 and set(sample.train.series) == {0, 1}
    assert diagnose_spans(sample, pipeline()) == ()
