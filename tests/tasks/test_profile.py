"""Profile, notices and advice of a run's data, and plots of unusual data."""

import io

import numpy as np
import pandas as pd
import pytest

from lstm.data.panel_store import PanelStore
from lstm.errors import DataError
from tasks.profile import describe, log_profile
from tasks.reporting.data_plots import plot_data
from tasks.run_context import RunContext
from tasks.tracking import runs
from tests.support.prepared_data import prepare
from tests.support.tables import DATA, make_hourly


def describe_frame(frame, folder, strict=False, **changes):
    parts = prepare(frame, folder, **changes)
    return *parts, describe.fn(*parts, strict)


def test_notices_name_what_was_changed_or_left_out(home, tmp_path):
    frame = make_hourly(shops=("a", "b", "late-1", "late-2", "late-3", "late-4", "late-5", "late-6", "short"))
    frame = frame[~frame["shop"].str.startswith("late") | (frame["time"] >= "2024-04-08")]
    frame = frame[(frame["shop"] != "short") | (frame["time"] < "2024-03-02")].reset_index(drop=True)
    frame.loc[100:102, "sales"] = np.nan
    frame.loc[200:219, "sales"] = np.nan
    frame = pd.concat([frame, frame.tail(2)])
    data = {**DATA, "source": str(tmp_path / "shops.csv"), "duplicates": "last"}
    *_, description = describe_frame(frame, tmp_path, data=data)
    assert description.notices == (
        "2 duplicate rows were merged (last)",
        "3 of 1944 steps lacked a target and were filled (missing.method: linear, max_gap: 6h)",
        "20 of 1944 steps lack a target and were not filled (missing.method: linear, max_gap: 6h): no window crosses "
        "them",
        "6 series left out: late-1, late-2, late-3, late-4, late-5 and 1 more (it has no row in the training span)",
        "1 series have no window of lookback 48 + horizon 6 unbroken steps, and are left out: short",
    )
    assert description.advisories == ()


def test_a_notice_counts_rows_after_a_split_by_row_counts(home, tmp_path):
    *_, description = describe_frame(make_hourly(), tmp_path, split={"train": 600, "validation": 100, "test": 100})
    assert description.notices == (
        "split: 160 rows after 2024-04-03T07:00:00Z are not used (row counts count from the start; use durations such "
        "as 30d to keep to the newest)",
    )
    assert description.profile.summary["steps"] == 2 * 800
    *_, whole = describe_frame(make_hourly(), tmp_path, split={"train": 760, "validation": 100, "test": 100})
    assert whole.notices == ()


def test_strict_raises_all_advice_in_one_line(home, tmp_path):
    changes = {"model": {"sequence_length": 4}, "search": {"space": {}}, "window": {"horizon": 6, "stride": 2}}
    *_, description = describe_frame(make_hourly(), tmp_path, **changes)
    assert [advisory.check for advisory in description.advisories] == ["short_sequences", "few_samples"]
    with pytest.raises(DataError, match=r"^short_sequences: .* few_samples: .* Drop --strict to train all the same\.$"):
        describe_frame(make_hourly(), tmp_path, strict=True, **changes)


def unusual_frame(kind):
    frame = make_hourly()
    season = {"evaluate": {"season": 1}}
    if kind == "irregular":
        kept = frame.sample(frac=0.8, random_state=0).sort_index()
        return kept, {"data": {**DATA, "frequency": "irregular", "missing": {"max_gap": "12h"}}, **season}
    if kind == "constant":
        return frame.assign(sales=1.0, visitors=2.0), {}
    if kind == "long gaps":
        return frame[(frame.index % 960 < 300) | (frame.index % 960 > 400)], {}
    if kind == "no season":
        return frame, season
    if kind == "rows left over":
        return frame, {"split": {"train": 600, "validation": 100, "test": 100}}
    if kind == "logarithms":
        return frame, {"normalize": {"log": True}}
    if kind == "thinned training":
        return frame, {"split": {"validation": "5d", "test": "5d", "train": "10d"}}
    return frame.assign(kind="x"), {"data": {**DATA, "observed": ["kind"], "categorical": ["kind"]}}


UNUSUAL = (
    *("irregular", "constant", "long gaps", "no season", "thinned training", "category", "rows left over"),
    "logarithms",
)


@pytest.mark.slow
@pytest.mark.parametrize("kind", UNUSUAL)
def test_unusual_data_are_profiled_and_plotted(home, tmp_path, kind):
    frame, changes = unusual_frame(kind)
    if "data" in changes:
        changes["data"]["source"] = str(tmp_path / "shops.csv")
    config, table, panel, _windows, description = describe_frame(frame, tmp_path, **changes)
    assert description.profile.summary["rows"] == table.rows == len(frame)
    figures = plot_data(description.profile, PanelStore.load(panel.folder), config)
    assert set(figures) == {"series", "gaps", "distribution", "autocorrelation"}
    for figure in figures.values():
        figure.savefig(io.BytesIO())


@pytest.mark.slow
def test_metrics_without_a_value_are_not_logged(home, tmp_path):
    frame, changes = unusual_frame("no season")
    config, table, panel, windows, description = describe_frame(frame, tmp_path, **changes)
    with runs.parent_run(config, table, ["cpu"], "") as run:
        log_profile.fn(RunContext(config, table, panel, windows, run), description)
    logged = {artifact.path for artifact in runs.client().list_artifacts(run.run_id, "profile")}
    assert len(logged) == 7
    metrics = runs.client().get_run(run.run_id).data.metrics
    assert metrics["data_rows"] == 1920 and "data_median_season_strength" not in metrics
