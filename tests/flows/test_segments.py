"""What is told of the segments of a training run."""

import json
import sys

import pytest

from flows.cli import output
from flows.partitions import SegmentRow, Segments, SegmentsFailedError, task_runner
from lstm.config.operations import ExecutionSpec
from lstm.errors import ConfigError

GOOD = SegmentRow("shops.north", "north", "", "train-1", "abc", 2, True, 1.5, 2.5, 0.25, 7.0)
BAD = SegmentRow("shops.south", "south", "sales.csv: holds no rows. Name a source with data.")


def test_the_table_has_a_line_for_each_segment_whether_it_failed_or_not(capsys):
    output.show_segments(Segments("shops", (GOOD, BAD)), 12.3)
    printed = capsys.readouterr().out
    assert "shops.north   version 2 ★" in printed and "1.500" in printed and "25.0 %" in printed
    assert "shops.south   none: failed" in printed and "1 of 2; failed: 1." in printed
    assert "lstm compare shops.north" in printed


def test_the_json_holds_the_same(capsys):
    segments = json.loads(output.as_json(Segments("shops", (GOOD, BAD)).to_dict()))
    assert [row["name"] for row in segments["segments"]] == ["shops.north", "shops.south"]
    assert segments["segments"][0]["test_rmse"] == 2.5 and segments["segments"][1]["test_rmse"] is None


def test_the_error_names_those_that_failed_each_in_a_line():
    error = SegmentsFailedError(Segments("shops", (GOOD, BAD)), bad_input=True)
    assert str(error).splitlines() == ["1 of 2 segments failed:", f"shops.south: {BAD.error}"]


def test_a_cluster_whose_package_is_missing_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "prefect_ray.task_runners", None)
    monkeypatch.setitem(sys.modules, "prefect_ray", None)
    with pytest.raises(ConfigError, match="runner: ray needs a package that is not installed: pip install 'lstm.ray.'"):
        task_runner(ExecutionSpec(runner="ray"))
