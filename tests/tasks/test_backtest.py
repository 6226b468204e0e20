"""Rolling origins: where the folds lie, what each may know, and that its figures are those of the raw data."""

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


def moment(text):
    return np.datetime64(text, "us")


def hours(start, validation, test, end):
    """Cuts so many hours after the start of 2024."""
    return Cuts(*(moment("2024-01-01") + np.timedelta64(one, "h") for one in (start, validation, test, end)))


@given(st.integers(1, 50), st.integers(2, 500), st.integers(2, 20), st.booleans(), st.booleans())
def test_folds_cover_the_test_span_once_and_each_knows_what_lies_before_it(learned, rows, count, refit, sliding):
    cuts = hours(0, 100, 100 + learned, 100 + learned + rows)
    if rows < count:
        with pytest.raises(DataError, match=f"{count} folds can't be cut from the {rows} rows"):
            make_folds(cuts, count, HOURLY, refit, sliding)
        return
    folds = make_folds(cuts, count, HOURLY, refit, sliding)
    assert [one.since for one in folds[1:]] == [one.cuts.end for one in folds[:-1]]
    assert (folds[0].since, folds[-1].cuts.end, len(folds)) == (cuts.test, cuts.end, count)
    lengths = [(one.cuts.end - one.since) / np.timedelta64(1, "h") for one in folds]
    assert max(lengths) - min(lengths) <= 1 and min(lengths) >= 1
    for one in folds:
        assert one.cuts.test == (one.since if refit else cuts.test)
        assert one.cuts.test - one.cuts.validation == cuts.test - cuts.validation
        kept = one.cuts.validation - one.cuts.start == cuts.validation - cuts.start
        assert kept if sliding else one.cuts.start == cuts.start


def test_months_are_counted_and_not_their_days():
    cuts = Cuts(moment("2010-01-01"), moment("2013-01-01"), moment("2014-01-01"), moment("2016-01-01"))
    folds = make_folds(cuts, 4, Frequency.parse("MS"), refit=True)
    found = [str(one.since)[:10] for one in folds]
    assert found == ["2014-01-01", "2014-07-01", "2015-01-01", "2015-07-01"]
    assert [str(one.cuts.validation)[:10] for one in folds] == ["2013-01-01", "2013-07-01", "2014-01-01", "2014-07-01"]


def test_irregular_rows_are_cut_into_parts_that_last_equally_long():
    folds = make_folds(hours(0, 10, 20, 30), 4, None, refit=True)
    assert [(one.cuts.end - one.since) / np.timedelta64(1, "m") for one in folds] == [150] * 4


def test_joined_folds_score_as_the_windows_they_were_cut_from(hourly, home, tmp_path):
    data = PreparedData.open(*prepare(hourly, tmp_path))
    split = data.splits["test"]
    middle = np.sort(split.times)[len(split.times) // 3]
    late = FoldWindows.of(split, Fold(data.panel.cuts, middle))
    folds = [replace(late, in_fold=~late.in_fold), late]
    forecast = split.actual + np.random.default_rng(0).normal(size=split.actual.shape)
    intervals = Conformal.fit(split.actual, forecast)
    bands = intervals.bands(forecast, (80, 95), split.scale)
    whole = split.score(forecast, bands.items(), (80, 95), 1)
    points = np.concatenate([forecast[one.in_fold] for one in folds])
    same = join_folds(folds).score(points, join_fold_bands(folds, [bands.items()] * 2), (80, 95), 1)
    assert same.overall == pytest.approx(whole.overall, rel=1e-9)
    rows = fold_table(same, same, folds).set_index("fold")
    assert rows["windows"].tolist() == [int(one.in_fold.sum()) for one in folds]
    error = split.raw(forecast) - split.raw(split.actual)
    errors = [error[one.in_fold] for one in folds]
    assert rows["rmse"].tolist() == pytest.approx([np.sqrt(np.mean(np.square(error))) for error in errors])
    assert rows["rmse_skill"].tolist() == pytest.approx([0, 0], abs=1e-12)


@pytest.fixture
def tested(home, tmp_path):
    """A function that backtests a frame."""

    def run(frame, refit=True, **sections):
        path = tmp_path / "shops.csv"
        frame.to_csv(path, index=False)
        given = {"model": NETWORK, "search": {"workers": 1}, "evaluate": {"backtest": {"folds": 2}, "season": 24}}
        return backtest.fn(make_config(path, **{**given, **sections}), refit)

    return run


def naive_error(frame, since, until, season=24, horizon=6):
    """RMSE of the value a day before, of every origin whose whole horizon lies in [since, until): from raw values."""
    errors = []
    for _, rows in frame.groupby("shop"):
        values = rows["sales"].to_numpy()
        for origin in range(since, until - horizon + 1):
            ahead = np.arange(origin, origin + horizon)
            errors.append(values[ahead] - values[ahead - season])
    return float(np.sqrt(np.mean(np.square(errors))))


@pytest.mark.slow
def test_what_comes_after_a_fold_changes_nothing_of_its_figures(hourly, tested):
    found = tested(hourly)
    rows = {(row["model"], row["fold"]): row for row in found.folds}
    later = hourly["time"] >= str(found.spans[0]["to"])[:19]
    changed = tested(hourly.assign(sales=hourly["sales"].where(~later, 3 * hourly["sales"])))
    again = {(row["model"], row["fold"]): row for row in changed.folds}
    for model in ("ensemble", "ridge", "drift"):
        first, second = ({**one[model, 1], "model": 0} for one in (rows, again))
        assert second == pytest.approx(first, rel=1e-9, nan_ok=True)
        assert again[model, 2]["rmse"] != rows[model, 2]["rmse"]


@pytest.mark.slow
def test_without_refit_one_network_forecasts_all_folds_and_the_first_fold_is_the_same(hourly, tested):
    anew, once = tested(hourly), tested(hourly, refit=False)
    assert (anew.networks, once.networks, anew.refit, once.refit) == (2, 1, True, False)
    first, second = ({(row["model"], row["fold"]): row["rmse"] for row in one.folds} for one in (anew, once))
    assert first["ensemble", 1] == second["ensemble", 1] and first["ensemble", 2] != second["ensemble", 2]
    assert {span["learned_until"] for span in once.spans} == {once.spans[0]["from"]}


@pytest.mark.slow
def test_a_fold_scores_what_the_raw_data_say_in_a_run_of_its_own_and_nothing_is_registered(hourly, tested, home):
    found = tested(hourly)
    rows = {(row["model"], row["fold"]): row for row in found.folds}
    borders = (35 * 24, 35 * 24 + 60, 40 * 24)
    for number in (1, 2):
        expected = naive_error(hourly, borders[number - 1], borders[number])
        assert rows["seasonal_naive", number]["rmse"] == pytest.approx(expected, rel=1e-6)
        assert rows["seasonal_naive", number]["windows"] == 2 * (60 - 6 + 1)
    assert [span["windows"] for span in found.spans] == [110, 110] and found.networks == 2
    assert [row["rmse"] for row in found.overall] == sorted(row["rmse"] for row in found.overall)
    means = pd.DataFrame(found.folds).groupby("model")["rmse"].mean().to_dict()
    assert {row["model"]: row["rmse"] for row in found.overall} == pytest.approx(means)
    client = runs.client()
    run = client.get_run(found.run_id)
    assert run.info.status == "FINISHED" and run.info.run_name.startswith("backtest-")
    assert (run.data.tags["kind"], run.data.tags["refit"], run.data.tags["folds"]) == ("backtest", "true", "2")
    ours = next(row for row in found.overall if row["model"] == "ensemble")
    assert run.data.metrics["backtest_rmse"] == ours["rmse"]
    assert run.data.metrics["backtest_rmse_skill"] == ours["rmse_skill"]
    path = client.download_artifacts(run.info.run_id, "backtest.csv")
    table = pd.read_csv(path)
    assert list(table.columns[:3]) == ["model", "fold", "windows"] and len(table) == len(found.folds)
    assert not client.search_registered_models()
    assert not list((home / "work").glob(".backtest-*"))


def test_folds_too_short_for_a_window_are_told_by_their_number(hourly, tested):
    with pytest.raises(DataError, match=r"^backtest, fold 1 of 30: split test .* holds no window"):
        tested(hourly, evaluate={"season": 24, "backtest": {"folds": 30}})
