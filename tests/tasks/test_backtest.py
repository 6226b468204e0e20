"""The refitting backtest: folds, their training spans, and metrics against the raw data."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstm.calendars.frequency import Frequency
from lstm.data.splits import Cuts
from lstm.errors import DataError
from lstm.evaluation.rolling_origins import Fold, FoldWindows, fold_table, join_fold_bands, join_folds, make_folds
from lstm.forecasting.conformal import Conformal
from tasks.backtest import backtest
from tasks.run_context import PreparedData
from tasks.tracking import runs
from tests.support.prepared_data import make_config, prepare

NETWORK = {"sequence_length": 12, "hidden_size": 4, "num_layers": 1, "epochs": 2, "dropout": 0.0, "device": "cpu"}
HOURLY = Frequency.parse("1h")


def utc(text):
    return np.datetime64(text, "us")


def hours(start, validation, test, end):
    """Return cuts in hours after the start of 2024."""
    return Cuts(*(utc("2024-01-01") + np.timedelta64(hour, "h") for hour in (start, validation, test, end)))


@given(st.integers(1, 50), st.integers(2, 500), st.integers(2, 20), st.booleans(), st.booleans())
def test_folds_cover_the_test_span_once_and_each_trains_on_what_lies_before_it(learned, rows, count, refit, sliding):
    cuts = hours(0, 100, 100 + learned, 100 + learned + rows)
    if rows < count:
        with pytest.raises(DataError, match=f"{count} folds can't be cut from the {rows} rows"):
            make_folds(cuts, count, HOURLY, refit, sliding)
        return
    folds = make_folds(cuts, count, HOURLY, refit, sliding)
    assert [fold.since for fold in folds[1:]] == [fold.cuts.end for fold in folds[:-1]]
    assert (folds[0].since, folds[-1].cuts.end, len(folds)) == (cuts.test, cuts.end, count)
    lengths = [(fold.cuts.end - fold.since) / np.timedelta64(1, "h") for fold in folds]
    assert max(lengths) - min(lengths) <= 1 and min(lengths) >= 1
    for fold in folds:
        assert fold.cuts.test == (fold.since if refit else cuts.test)
        assert fold.cuts.test - fold.cuts.validation == cuts.test - cuts.validation
        kept = fold.cuts.validation - fold.cuts.start == cuts.validation - cuts.start
        assert kept if sliding else fold.cuts.start == cuts.start


def test_folds_of_months_are_counted_in_months():
    cuts = Cuts(utc("2010-01-01"), utc("2013-01-01"), utc("2014-01-01"), utc("2016-01-01"))
    folds = make_folds(cuts, 4, Frequency.parse("MS"), refit=True)
    starts = [str(fold.since)[:10] for fold in folds]
    assert starts == ["2014-01-01", "2014-07-01", "2015-01-01", "2015-07-01"]
    assert [str(fold.cuts.validation)[:10] for fold in folds] == [
        "2013-01-01",
        "2013-07-01",
        "2014-01-01",
        "2014-07-01",
    ]


def test_irregular_rows_are_cut_into_parts_of_equal_duration():
    folds = make_folds(hours(0, 10, 20, 30), 4, None, refit=True)
    assert [(fold.cuts.end - fold.since) / np.timedelta64(1, "m") for fold in folds] == [150] * 4


def test_joined_folds_score_like_the_whole_split(hourly, home, tmp_path):
    data = PreparedData.open(*prepare(hourly, tmp_path))
    split = data.splits["test"]
    middle = np.sort(split.times)[len(split.times) // 3]
    late = FoldWindows.of(split, Fold(data.panel.cuts, middle))
    folds = [replace(late, in_fold=~late.in_fold), late]
    forecast = split.actual + np.random.default_rng(0).normal(size=split.actual.shape)
    intervals = Conformal.fit(split.actual, forecast)
    bands = intervals.bands(forecast, (80, 95), split.scale)
    whole = split.score(forecast, bands.items(), (80, 95), 1)
    points = np.concatenate([forecast[fold.in_fold] for fold in folds])
    same = join_folds(folds).score(points, join_fold_bands(folds, [bands.items()] * 2), (80, 95), 1)
    assert same.overall == pytest.approx(whole.overall, rel=1e-9)
    rows = fold_table(same, same, folds).set_index("fold")
    assert rows["windows"].tolist() == [int(fold.in_fold.sum()) for fold in folds]
    error = split.denormalize(forecast) - split.denormalize(split.actual)
    errors = [error[fold.in_fold] for fold in folds]
    assert rows["rmse"].tolist() == pytest.approx([np.sqrt(np.mean(np.square(error))) for error in errors])
    assert rows["rmse_skill"].tolist() == pytest.approx([0, 0], abs=1e-12)


@pytest.fixture
def run_backtest(home, tmp_path):
    """Return a function that backtests a frame."""

    def run(frame, refit=True, **sections):
        path = tmp_path / "shops.csv"
        frame.to_csv(path, index=False)
        given = {"model": NETWORK, "search": {"workers": 1}, "evaluate": {"backtest": {"folds": 2}, "season": 24}}
        return backtest.fn(make_config(path, **{**given, **sections}), refit)

    return run


def naive_error(frame, since, until, season=24, horizon=6):
    """Return the RMSE of the value a day before, from raw values, over origins with their horizon in [since, until)."""
    errors = []
    for _, rows in frame.groupby("shop"):
        values = rows["sales"].to_numpy()
        for origin in range(since, until - horizon + 1):
            ahead = np.arange(origin, origin + horizon)
            errors.append(values[ahead] - values[ahead - season])
    return float(np.sqrt(np.mean(np.square(errors))))


@pytest.mark.slow
def test_data_after_a_fold_do_not_change_its_metrics(hourly, run_backtest):
    result = run_backtest(hourly)
    rows = {(row["model"], row["fold"]): row for row in result.folds}
    later = hourly["time"] >= str(result.spans[0]["to"])[:19]
    changed = run_backtest(hourly.assign(sales=hourly["sales"].where(~later, 3 * hourly["sales"])))
    again = {(row["model"], row["fold"]): row for row in changed.folds}
    for model in ("ensemble", "ridge", "drift"):
        first, second = ({**fold_rows[model, 1], "model": 0} for fold_rows in (rows, again))
        assert second == pytest.approx(first, rel=1e-9, nan_ok=True)
        assert again[model, 2]["rmse"] != rows[model, 2]["rmse"]


@pytest.mark.slow
def test_without_refit_one_network_forecasts_all_folds_and_the_first_fold_is_equal(hourly, run_backtest):
    anew, once = run_backtest(hourly), run_backtest(hourly, refit=False)
    assert (anew.networks, once.networks, anew.refit, once.refit) == (2, 1, True, False)
    first, second = ({(row["model"], row["fold"]): row["rmse"] for row in result.folds} for result in (anew, once))
    assert first["ensemble", 1] == second["ensemble", 1] and first["ensemble", 2] != second["ensemble", 2]
    assert {span["learned_until"] for span in once.spans} == {once.spans[0]["from"]}


@pytest.mark.slow
def test_metrics_follow_from_the_raw_data_and_nothing_is_registered(hourly, run_backtest, home):
    result = run_backtest(hourly)
    rows = {(row["model"], row["fold"]): row for row in result.folds}
    borders = (35 * 24, 35 * 24 + 60, 40 * 24)
    for number in (1, 2):
        expected = naive_error(hourly, borders[number - 1], borders[number])
        assert rows["seasonal_naive", number]["rmse"] == pytest.approx(expected, rel=1e-6)
        assert rows["seasonal_naive", number]["windows"] == 2 * (60 - 6 + 1)
    assert [span["windows"] for span in result.spans] == [110, 110] and result.networks == 2
    assert [row["rmse"] for row in result.overall] == sorted(row["rmse"] for row in result.overall)
    means = pd.DataFrame(result.folds).groupby("model")["rmse"].mean().to_dict()
    assert {row["model"]: row["rmse"] for row in result.overall} == pytest.approx(means)
    client = runs.client()
    run = client.get_run(result.run_id)
    assert run.info.status == "FINISHED" and run.info.run_name.startswith("backtest-")
    assert (run.data.tags["kind"], run.data.tags["refit"], run.data.tags["folds"]) == ("backtest", "true", "2")
    ours = next(row for row in result.overall if row["model"] == "ensemble")
    assert run.data.metrics["backtest_rmse"] == ours["rmse"]
    assert run.data.metrics["backtest_rmse_skill"] == ours["rmse_skill"]
    path = client.download_artifacts(run.info.run_id, "backtest.csv")
    table = pd.read_csv(path)
    assert list(table.columns[:3]) == ["model", "fold", "windows"] and len(table) == len(result.folds)
    assert not client.search_registered_models()
    assert not list((home / "work").glob(".backtest-*"))


def test_an_error_names_the_fold_that_is_too_short(hourly, run_backtest):
    with pytest.raises(DataError, match=r"^backtest, fold 1 of 30: split test .* holds no window"):
        run_backtest(hourly, evaluate={"season": 24, "backtest": {"folds": 30}})
