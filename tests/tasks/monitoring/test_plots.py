"""The plot of a monitoring result, and its JSON."""

import json
from dataclasses import replace

import pandas as pd
import pytest

from lstm.config.pipeline import PipelineConfig
from lstm.monitoring.drift import InputShift
from tasks.monitoring.plots import monitor_plot
from tasks.monitoring.result import ErrorChart, MonitorResult
from tests.support.tables import DATA

CONFIG = PipelineConfig.parse({"name": "shops", "data": DATA, "monitor": {"ratio": 1.5}})


def make_result() -> MonitorResult:
    ends = pd.date_range("2024-04-10 23:00", periods=5, freq="D", tz="UTC")
    days = tuple(
        {"until": end.isoformat(), "ratio": 1.0 + number, "cusum": 2.0 * number} for number, end in enumerate(ends)
    )
    shift = InputShift("visitors", 0.5, 0.4, 0.1, 0.15, 2.0, True, True)
    return MonitorResult(
        name="shops",
        version="shops/3",
        moment="2024-04-15T00:00:00+00:00",
        age_days=5,
        since="2024-03-16T00:00:00+00:00",
        forecasts=100,
        waiting=3,
        repeated=0,
        others=0,
        promised={"rmse": 1.0},
        live={"rmse": float("nan")},
        rmse_interval=None,
        errors=ErrorChart(8.0, 4.0, 4.5, "2024-04-11", days),
        inputs=(shift, replace(shift, column="sales", drifted=False)),
        by_age=(),
        by_step=(),
        drifted=True,
        reason="drift",
        warnings=(),
    )


def test_errors_are_plotted_with_the_promise_and_the_configured_threshold():
    errors, sums, _ = monitor_plot(make_result(), CONFIG).axes
    live, promised, threshold = errors.lines
    assert live.get_ydata().tolist() == [1, 2, 3, 4, 5]
    assert [promised.get_ydata()[0], threshold.get_ydata()[0]] == [1, 1.5]
    assert [sums.lines[0].get_ydata().tolist(), sums.lines[1].get_ydata()[0]] == [[0, 2, 4, 6, 8], 4]


def test_alarms_within_the_plotted_days_are_marked():
    alarms = ["2024-01-01T00:00:00+00:00", "2024-04-14T00:00:00+00:00", "2024-04-15T00:00:00+00:00"]
    errors, sums, _ = monitor_plot(make_result(), CONFIG, alarms).axes
    assert len(errors.lines) == 3 + 2 and len(sums.lines) == 2 + 2
    assert [text.get_text() for text in errors.get_legend().get_texts()].count("alarm") == 1


def test_inputs_show_their_distance_and_drifted_ones_another_colour():
    *_, inputs = monitor_plot(make_result(), CONFIG).axes
    assert [label.get_text() for label in inputs.get_yticklabels()] == ["sales (PSI 0.50)", "visitors (PSI 0.50)"]
    assert [bar.get_width() for bar in inputs.patches] == [0.4, 0.4]
    assert inputs.patches[0].get_facecolor() != inputs.patches[1].get_facecolor()


@pytest.mark.parametrize("changes", [{"errors": None}, {"inputs": ()}])
def test_without_data_a_text_replaces_the_plot(changes):
    figure = monitor_plot(replace(make_result(), reason="nothing to judge yet", **changes), CONFIG)
    shown = " ".join(text.get_text() for axes in figure.axes for text in axes.texts)
    assert shown in ("nothing to judge yet nothing to judge yet", "no input has values to compare")


def test_a_result_is_json_ready():
    content = json.loads(json.dumps(make_result().to_dict()))
    assert content["inputs"][0]["column"] == "visitors" and content["errors"]["ratio"] == 4.5
