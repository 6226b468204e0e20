"""Advisories: each appears on one side of its threshold, not on the other."""

import numpy as np
import pandas as pd
import pytest

from lstm.config.pipeline import PipelineConfig
from lstm.profiling import advice
from lstm.profiling.advice import advise, forecast_seconds
from lstm.profiling.profile import Profile
from lstm.profiling.series_tests import run_series_tests
from tests.support.panels import store_panel
from tests.support.tables import DATA, make_hourly

STEPS = np.arange(400.0)
NOISE = np.random.default_rng(0).normal(size=(5, 400))
LINES, WALKS = 0.1 * STEPS + 0.5 * NOISE, STEPS + 3 * NOISE.cumsum(axis=1)
SEASONS = 0.1 * STEPS + np.sin(2 * np.pi * STEPS / 24)


def config_of(**changes):
    return PipelineConfig.parse({"name": "shops", "data": {**DATA, "source": "-"}, **changes})


def profile_of(series=(), median_run=100.0, season=24):
    frame = pd.DataFrame(
        [run_series_tests(values, season) for values in series], columns=["line_r2", "line_p"], dtype=float
    )
    return Profile({"median_run": median_run}, frame, pd.DataFrame(), {})


@pytest.fixture(scope="module")
def panel(tmp_path_factory):
    return store_panel(make_hourly(), tmp_path_factory.mktemp("panel"))[1]


def checks(advisories):
    return [advisory.check for advisory in advisories]


def test_ordinary_data_get_no_advice(panel):
    assert advise(profile_of(), config_of(), 1000, panel) == ()


@pytest.mark.parametrize(("lengths", "advised"), [([2, 4], True), ([2, 5], False), ({"low": 1, "high": 8}, False)])
def test_a_lookback_under_five_steps_is_short(panel, lengths, advised):
    config = config_of(model={"sequence_length": 2}, search={"space": {"sequence_length": lengths}})
    advisories = advise(profile_of(), config, 5000, panel)
    assert checks(advisories) == ["short_sequences"] * advised
    assert not advised or "is 4 steps, fewer than 5" in str(advisories[0])


@pytest.mark.parametrize(("run", "advised"), [(4.0, True), (5.0, False)])
def test_runs_under_five_steps_are_short(panel, run, advised):
    advisories = advise(profile_of(median_run=run), config_of(), 5000, panel)
    assert checks(advisories) == ["short_sequences"] * advised


@pytest.mark.parametrize(("windows", "advised"), [(999, True), (1000, False)])
def test_under_a_thousand_training_windows_are_few(panel, windows, advised):
    advisories = advise(profile_of(), config_of(window={"stride": 2}), windows, panel)
    assert checks(advisories) == ["few_samples"] * advised
    assert not advised or "999 training windows (window.stride=2), fewer than 1000" in str(advisories[0])


@pytest.mark.parametrize(
    ("series", "advised"),
    [
        (LINES, True),
        ([*LINES[:2], *WALKS[:2]], True),
        ([*LINES[:2], *WALKS[:3]], False),
        ([STEPS], True),
        ([SEASONS], False),
        (WALKS, False),
        (NOISE, False),
        ([np.ones(400)], False),
        ([], False),
    ],
    ids=["lines", "half", "under half", "exact", "with a season", "walks", "noise", "constant", "none"],
)
def test_a_linear_trend_is_advised_if_half_of_the_series_are_nothing_else(panel, series, advised):
    advisories = advise(profile_of(series), config_of(), 5000, panel)
    assert checks(advisories) == ["linear_trend"] * advised


@pytest.mark.parametrize(("seconds", "advised"), [(0.0101, True), (0.01, False)])
def test_latency_is_compared_with_the_configured_limit(panel, monkeypatch, seconds, advised):
    calls = []
    monkeypatch.setattr(advice, "forecast_seconds", lambda *sizes: calls.append(sizes) or seconds)
    config = config_of(evaluate={"latency": "10ms"}, ensemble={"size": 3})
    advisories = advise(profile_of(), config, 5000, panel)
    assert checks(advisories) == ["latency"] * advised
    network = config.network_config(config.trial_params({}))
    assert calls == [(network, 3, 2, 1, 0)]  # networks, inputs, targets, known ahead
    assert not advised or ("10.1 ms" in str(advisories[0]) and "3 networks" in str(advisories[0]))


def test_latency_is_not_measured_without_a_limit(panel, monkeypatch):
    monkeypatch.setattr(advice, "forecast_seconds", lambda *_: pytest.fail("measured"))
    assert advise(profile_of(), config_of(), 5000, panel) == ()


def test_the_time_of_a_forecast_is_measured(panel):
    config = config_of(evaluate={"latency": "1us"}, model={"sequence_length": 24, "hidden_size": 8})
    assert 0 < forecast_seconds(config.network_config(config.trial_params({})), 1, 5, 2, 3) < 10
    assert checks(advise(profile_of(), config, 5000, panel)) == ["latency"]
    assert advise(profile_of(), config_of(evaluate={"latency": "1h"}), 5000, panel) == ()


def test_an_advisory_is_one_line_of_evidence_and_remedy(panel):
    config = config_of(model={"sequence_length": 2}, evaluate={"latency": "1us"})
    advisories = advise(profile_of(LINES, median_run=3.0), config, 10, panel)
    assert checks(advisories) == ["short_sequences", "short_sequences", "few_samples", "linear_trend", "latency"]
    for advisory in advisories:
        line = f"{advisory.check}: {advisory.evidence}. {advisory.remedy}."
        assert str(advisory) == line and "\n" not in line
