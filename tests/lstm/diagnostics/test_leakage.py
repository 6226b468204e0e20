"""The leakage audit passes whatever the library builds, and finds each leak that is injected."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from lstm import Forecaster
from lstm.config.preparation import NormalizeSpec
from lstm.data import covariates, gaps, panel, panel_store, scaling
from lstm.data.ingest import Table
from lstm.data.windows import Windows
from lstm.diagnostics import training_rows
from tests.support.audited_runs import make_gappy, make_run
from tests.support.tables import make_hourly


def failed_checks(audit):
    return [check.name for check in audit.failures]


COVARIATES = {
    "observed": ["visitors", "weather"],
    "known": ["price", "promotion"],
    "static": ["area", "kind"],
    "categorical": ["weather", "promotion", "kind"],
    "calendar": {"features": ["hour", "dayofweek"], "holidays": "US"},
}


def with_covariates():
    random = np.random.default_rng(1)
    frame = make_gappy()
    size = len(frame)
    frame = frame.assign(
        weather=random.choice(["sun", "rain", None], size),
        promotion=random.choice(["none", "half"], size),
        price=random.normal(5, 1, size),
        area=frame["shop"].map({"north": 100.0, "south": 300.0}),
        kind=frame["shop"].map({"north": "big", "south": "small"}),
    )
    return frame


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"missing": {"method": "forward", "max_gap": 2}},
        {"missing": {"method": "none"}},
        {"missing": {"method": "seasonal", "season": 24, "max_gap": 4, "indicators": True}},
        {"target": ["sales", "visitors"], "observed": []},
        COVARIATES,
        {**COVARIATES, "missing": {"indicators": True}, "timezone": "America/New_York"},
    ],
    ids=["linear", "forward", "none", "seasonal", "targets", "covariates", "indicators"],
)
def test_what_the_library_builds_passes(tmp_path, changes):
    audit = make_run(with_covariates(), tmp_path, **changes).audit()
    assert audit.passed, audit.failures
    assert [check.name for check in audit.checks] == ["future", "arrays", "normaliser", "categories", "known", "spans"]
    assert int(audit.checks[0].evidence.split()[0]) >= 8  # origins: two in each split of each shop at least
    assert json.loads(json.dumps(audit.to_dict()))["passed"] is True


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["zscore", "minmax", "robust", "none"])
@pytest.mark.parametrize("per", ["series", "all"])
@pytest.mark.parametrize("log", [True, False])
def test_every_normalisation_passes(tmp_path, strategy, per, log):
    audit = make_run(make_gappy(), tmp_path, NormalizeSpec(strategy=strategy, per=per, log=log)).audit()
    assert audit.passed, audit.failures
    assert ("all series" if per == "all" else "series 'north', series 'south'") in audit.checks[2].evidence


def test_irregular_rows_pass(tmp_path):
    random = np.random.default_rng(0)
    minutes = np.cumsum(random.exponential(30, 1500) + 1).round()
    time = pd.Timestamp("2024-03-01", tz="UTC") + pd.to_timedelta(minutes, unit="min")
    frame = pd.DataFrame({"time": time, "sales": random.normal(0, 1, 1500), "visitors": random.normal(0, 1, 1500)})
    frame.loc[random.integers(0, 1500, 100), "visitors"] = np.nan
    audit = make_run(frame, tmp_path, series=[], frequency="irregular", missing={"max_gap": "3h"}).audit()
    assert audit.passed, audit.failures
    assert "1 series" in audit.checks[0].evidence


def test_a_wide_table_passes_and_three_of_its_series_are_checked(tmp_path):
    time = pd.date_range("2024-03-01", periods=600, freq="h", tz="UTC")
    values = np.random.default_rng(0).normal(5, 1, (600, 12)).cumsum(axis=0)
    frame = pd.DataFrame(values, columns=[f"s{number}" for number in range(12)]).assign(time=time)
    audit = make_run(frame, tmp_path, series=[], wide="all", observed=[]).audit()
    assert audit.passed, audit.failures
    assert "of 3 series" in audit.checks[0].evidence


def test_series_that_are_left_out_are_not_checked(tmp_path):
    run = make_run(make_gappy(), tmp_path, left_out=("north", "south"))
    assert run.audit().passed
    assert "0 origins" in run.audit().checks[0].evidence


def test_a_normaliser_fitted_on_all_rows_is_found(tmp_path, monkeypatch):
    frame = make_gappy()
    frame.loc[frame["time"] >= "2024-04-05", ["sales", "visitors"]] *= 1.1
    original = panel_store.compute_training_statistics

    def leaky(path, columns, cuts, *rest):
        return original(path, columns, replace(cuts, validation=cuts.end), *rest)

    monkeypatch.setattr(panel_store, "compute_training_statistics", leaky)
    audit = make_run(frame, tmp_path).audit()
    assert failed_checks(audit) == ["normaliser"]
    assert "series 'north', column 'sales': center and scale are" in audit.failures[0].evidence


@pytest.mark.parametrize("strategy", ["zscore", "minmax", "robust"])
def test_one_row_too_many_in_the_statistics_is_found(tmp_path, monkeypatch, strategy):
    original = panel_store.compute_training_statistics

    def leaky(path, columns, cuts, *rest):
        return original(path, columns, replace(cuts, validation=cuts.validation + np.timedelta64(1, "h")), *rest)

    frame, spec = make_gappy(), NormalizeSpec(strategy=strategy)
    time = pd.to_datetime(frame["time"])
    frame.loc[time == time.min() + pd.Timedelta(672, "h"), ["sales", "visitors"]] = 50.0  # the first validation row
    run = make_run(frame, tmp_path, spec)
    assert run.panel.cuts.validation == np.datetime64("2024-03-29T00:00") and run.audit().passed
    monkeypatch.setattr(panel_store, "compute_training_statistics", leaky)
    assert failed_checks(make_run(frame, tmp_path, spec).audit()) == ["normaliser"]


def test_a_fill_of_covariates_from_the_next_value_is_found(tmp_path, monkeypatch):
    def leaky(self, values, limit):
        return pd.Series(values).bfill().to_numpy()

    monkeypatch.setattr(covariates.GridRows, "forward_fill", leaky)
    audit = make_run(make_gappy(), tmp_path).audit()
    assert "future" in failed_checks(audit)
    assert "input 'visitors' before it moves where the future is changed" in audit.failures[0].evidence


def test_an_interpolated_gap_that_a_window_may_end_in_is_found(tmp_path, monkeypatch):
    original = gaps.GapFiller.fill

    def leaky(self, *arguments):
        filled, broken, causal = original(self, *arguments)
        return filled, broken, np.ones_like(causal)

    monkeypatch.setattr(gaps.GapFiller, "fill", leaky)
    audit = make_run(make_gappy(), tmp_path).audit()
    assert "future" in failed_checks(audit)
    assert "input 'sales' before it moves" in audit.failures[0].evidence


@pytest.mark.slow
@pytest.mark.parametrize(
    ("missing", "fragment"),
    [("value", "input 'sales' is not made of the training span alone"), ("row", "the gap that its training span ends")],
)
def test_a_gap_at_the_end_of_training_that_is_filled_from_beyond_is_found(tmp_path, monkeypatch, missing, fragment):
    frame = make_gappy()
    start = pd.Timestamp("2024-03-28T22:00", tz="UTC")
    hole = pd.to_datetime(frame["time"]).between(start, start + pd.Timedelta(3, "h"))
    frame = frame[~hole] if missing == "row" else frame.assign(sales=frame["sales"].mask(hole))
    assert make_run(frame, tmp_path).audit().passed
    original = gaps.GapFiller.__init__

    def borderless(self, spec, frequency, borders):
        original(self, spec, frequency, borders[:0])

    monkeypatch.setattr(gaps.GapFiller, "__init__", borderless)
    audit = make_run(frame, tmp_path).audit()
    assert failed_checks(audit) == ["arrays"]
    assert fragment in audit.failures[0].evidence


def test_a_feature_that_looks_ahead_is_found(tmp_path, monkeypatch):
    original = panel.build_covariates

    def leaky(inputs, targets, *rest):
        columns = original(inputs, targets, *rest)
        columns[:, 0] = pd.Series(targets[:, 0]).rolling(3, center=True, min_periods=1).mean()
        return columns

    monkeypatch.setattr(panel, "build_covariates", leaky)
    audit = make_run(make_gappy(), tmp_path).audit()
    assert {"future"} <= set(failed_checks(audit))
    assert "input 'visitors' before it moves" in audit.failures[0].evidence
    assert "the forecast moves" in " ".join(check.evidence for check in audit.failures)


def test_a_network_that_reads_the_future_is_found(tmp_path, monkeypatch):
    run = make_run(make_gappy(), tmp_path)

    def cheating(self, windows):
        return windows.actual(torch.arange(len(windows))).numpy()

    monkeypatch.setattr(Forecaster, "forecast_windows", cheating)
    audit = run.audit()
    assert failed_checks(audit) == ["future"]
    assert "the forecast moves where the future is changed" in audit.failures[0].evidence


def test_an_input_window_one_row_too_late_is_found(tmp_path, monkeypatch):
    original = Windows.inputs

    def shifted(self, index):
        return original(replace(self, origins=self.origins + 1), index)

    run = make_run(make_gappy(), tmp_path)
    monkeypatch.setattr(Windows, "inputs", shifted)
    assert "future" in failed_checks(run.audit())


def test_arrays_that_are_not_what_a_forecast_sees_are_found(tmp_path, monkeypatch):
    original = scaling.PanelNormalizer.normalize_features

    def smoothed(self, block):
        features = original(self, block)
        features[:-1, 1] = (features[:-1, 1] + features[1:, 1]) / 2
        return features

    with monkeypatch.context() as patched:
        patched.setattr(scaling.PanelNormalizer, "normalize_features", smoothed)
        run = make_run(make_gappy(), tmp_path)
    audit = run.audit()
    assert failed_checks(audit) == ["arrays"]
    assert "input 'visitors' of the arrays is not what a forecast sees" in audit.failures[0].evidence


@pytest.mark.slow
def test_a_category_of_later_rows_with_an_input_is_found(tmp_path, monkeypatch):
    late = pd.to_datetime(make_hourly()["time"]) >= "2024-04-05"
    frame, roles = (
        make_gappy(kind=np.where(late, "new", "old")),
        {"observed": ["visitors", "kind"], "categorical": "kind"},
    )
    assert make_run(frame, tmp_path, **roles).audit().passed
    original = panel_store.frequent_categories

    def leaky(path, column, cuts, *rest):
        return original(path, column, replace(cuts, validation=cuts.end), *rest)

    monkeypatch.setattr(panel_store, "frequent_categories", leaky)
    audit = make_run(frame, tmp_path, **roles).audit()
    assert failed_checks(audit) == ["categories"]
    assert "'new' has an input, but is in no row of the training span" in audit.failures[0].evidence


@pytest.mark.slow
@pytest.mark.parametrize(("lag", "leaks"), [(0, True), (5, True), (-3, True), (6, False), (24, False)])
def test_a_known_column_that_is_the_target_itself_is_found(tmp_path, lag, leaks):
    """In other units and shifted: only a copy that trails by the horizon of 6 or more is really known."""
    frame = make_gappy()
    shifted = frame.groupby("shop")["sales"].shift(lag)
    frame["plan"] = (32 + 1.8 * shifted).fillna(0 if lag >= 0 else 1)
    frame["plan"] = frame["plan"].where(shifted.notna())
    audit = make_run(frame, tmp_path, known=["plan"], missing={"method": "forward"}).audit()
    assert failed_checks(audit) == (["known"] if leaks else []), audit.failures
    assert not leaks or "known column 'plan' is the target 'sales'" in audit.failures[0].evidence


def test_a_plain_wave_may_be_a_known_column(tmp_path):
    wave = np.sin(2 * np.pi * np.arange(40 * 24) / 24)
    frame = make_hourly().assign(sales=np.tile(10 + wave, 2), tide=np.tile(wave, 2))
    assert make_run(frame, tmp_path, known=["tide"]).audit().passed


def test_targets_out_of_their_span_are_found(tmp_path):
    run = make_run(make_gappy(), tmp_path)
    validation, test = run.splits["validation"], run.splits["test"]
    early = replace(validation, allowed=np.ones_like(validation.allowed))
    audit = replace(run, splits={**run.splits, "validation": early}).audit()
    assert "validation: series 'north' has a target at" in audit.failures[-1].evidence
    audit = replace(run, splits={**run.splits, "train": test}).audit()
    assert "train: the arrays of series 'north' reach to" in audit.failures[-1].evidence


@pytest.mark.slow
def test_a_table_over_the_limit_is_read_by_series_and_skipped_checks_are_reported(tmp_path, monkeypatch):
    original, read = Table.read_rows, []

    def counted(self, *arguments):
        read.append(len(rows := original(self, *arguments)))
        return rows

    run = make_run(make_gappy(), tmp_path)
    monkeypatch.setattr(training_rows, "MAX_ROWS", 1000)
    monkeypatch.setattr(Table, "read_rows", counted)
    assert run.table.rows == 1920 and "series 'south'" in run.audit().checks[2].evidence
    assert max(read) <= 1000
    together = make_run(make_gappy(), tmp_path, NormalizeSpec(per="all"))
    assert "not computed anew" in together.audit().checks[2].evidence
