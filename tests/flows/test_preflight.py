"""Checks before a Prefect server starts: they refuse nothing that the steps accept."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flows.preflight import check_input
from lstm.errors import ConfigError, InputError
from tests.support.prepared_data import make_config, prepare
from tests.support.tables import make_hourly

SPANS = st.sampled_from(["12h", "1d", "31h", "90min", 7, 30, 0.1, 0.33])


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    days=st.integers(2, 5),
    validation=SPANS,
    test=SPANS,
    lookback=st.integers(1, 60),
    horizon=st.integers(1, 40),
    late=st.booleans(),
)
def test_what_the_steps_accept_is_never_refused(home, tmp_path, days, validation, test, lookback, horizon, late):
    frame = make_hourly(days)
    if late:  # the second series begins later, and half an hour off the grid of the first
        frame = frame[(frame["shop"] == "north") | (frame["time"] >= "2024-03-02")]
        times = frame["time"].where(frame["shop"] == "north", frame["time"].str.replace(":00:00Z", ":30:00Z"))
        frame = frame.assign(time=times)
    sections = {
        "split": {"validation": validation, "test": test},
        "window": {"horizon": horizon},
        "model": {"sequence_length": lookback},
        "search": {"space": {}},
        "evaluate": {"season": 1},
    }
    try:
        prepare(frame, tmp_path, **sections)
    except InputError:
        return  # whether it is refused early depends on what the steps alone know
    check_input(make_config(tmp_path / "shops.csv", **sections))


def test_a_baseline_without_its_package_is_refused(home, tmp_path, monkeypatch):
    def missing(*_):
        raise ConfigError("auto_ets needs the package statsforecast")

    monkeypatch.setattr("lstm.evaluation.baselines.check_baselines", missing)
    config = make_config(tmp_path / "gone.csv", evaluate={"baselines": ["seasonal_naive"]})
    with pytest.raises(ConfigError, match="statsforecast"):
        check_input(config)
