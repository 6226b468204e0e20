"""Panels on disk: statistics, series that are left out, and sources in many chunks."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lstm.config.data import DataSpec
from lstm.config.preparation import NormalizeSpec
from lstm.data import ingest, sorting
from lstm.data.fingerprint import fingerprint
from lstm.data.ingest import ingest_table
from lstm.data.normalize import DataNormalizer
from lstm.data.panel import build_panel
from lstm.data.scaling import ALL_SERIES
from lstm.data.table import canonicalize
from lstm.errors import DataError
from lstm.sources.source import Source
from tests.support.panels import store_panel
from tests.support.tables import DATA, make_hourly


@pytest.mark.parametrize("strategy", ["zscore", "minmax", "robust", "none"])
@pytest.mark.parametrize("per", ["series", "all"])
def test_statistics_are_those_of_the_training_rows(hourly, tmp_path, strategy, per):
    hourly.loc[::7, "sales"] = np.nan
    _, panel = store_panel(hourly, tmp_path, normalize=NormalizeSpec(strategy=strategy, per=per))
    training = hourly[hourly["time"] < "2024-03-31"]
    assert panel.normalizer.names == (("north", "south") if per == "series" else (ALL_SERIES,))
    for number, name in enumerate(panel.normalizer.names):
        rows = training if per == "all" else training[training["shop"] == name]
        reference = DataNormalizer({"strategy": strategy}).fit(rows[["sales", "visitors"]].to_numpy())
        np.testing.assert_allclose(panel.normalizer.center[number], reference.center, rtol=1e-9)
        np.testing.assert_allclose(panel.normalizer.scale[number], reference.scale, rtol=1e-9)


@pytest.mark.slow
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 10 * 24 - 1), st.floats(-1e5, 1e5), st.sampled_from(["zscore", "minmax", "robust"]), st.data())
def test_nothing_after_the_training_span_moves_the_statistics(tmp_path, hour, value, strategy, data):
    frame = make_hourly()
    frame.loc[sorted(data.draw(st.sets(st.integers(0, len(frame) - 1), max_size=50))), "sales"] = np.nan
    changed = frame.copy()
    start = pd.Timestamp("2024-03-31") + pd.Timedelta(hours=hour)
    changed.loc[changed["time"] == start.strftime("%Y-%m-%dT%H:%M:%SZ"), ["sales", "visitors"]] = value
    normalize = NormalizeSpec(strategy=strategy)
    (_, first), (_, second) = (
        store_panel(each, tmp_path / name, normalize=normalize) for name, each in (("a", frame), ("b", changed))
    )
    assert first.normalizer.to_dict() == second.normalizer.to_dict()


def test_static_columns_are_scaled_over_all_series(hourly, tmp_path):
    spec = DataSpec.parse({**DATA, "source": str(tmp_path / "shops.parquet"), "static": ["area"]})
    frame = hourly.assign(area=hourly["shop"].map({"north": 100.0, "south": 300.0}))
    _, panel = store_panel(frame, tmp_path, spec)
    assert panel.columns == ("sales", "visitors", "area")
    assert set(panel.array("features")[panel.array("series") == 0, 2]) == {-1.0}
    assert set(panel.array("features")[panel.array("series") == 1, 2]) == {1.0}


def test_a_series_that_cannot_be_normalized_is_left_out_with_a_reason(tmp_path):
    frame = make_hourly(shops=("early", "late", "half", "whole"))
    frame = frame[(frame["shop"] != "late") | (frame["time"] >= "2024-04-05")]
    frame.loc[(frame["shop"] == "half"), "visitors"] = np.nan
    _, panel = store_panel(frame, tmp_path)
    assert panel.names == ("early", "whole")
    assert panel.left_out == {
        "late": "it has no row in the training span",
        "half": "column 'visitors' has no value in the training span",
    }
    _, together = store_panel(frame, tmp_path, normalize=NormalizeSpec(per="all"))
    assert together.names == ("early", "half", "late", "whole") and not together.left_out


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda f: f.assign(visitors=np.nan), "column 'visitors' has no value in the training span"),
        (
            lambda f: f.assign(sales=f["sales"].where(f["time"] > "2024-04")),
            "column 'sales' has no value in the training",
        ),
        (
            lambda f: f.assign(
                sales=f["sales"].where((f["shop"] == "north") | (f["time"] > "2024-04")),
                visitors=f["visitors"].where((f["shop"] == "south") | (f["time"] > "2024-04")),
            ),
            "no series has a value of every column in the training span",
        ),
    ],
)
def test_columns_without_training_values_are_refused(hourly, tmp_path, change, expected):
    with pytest.raises(DataError, match=expected):
        store_panel(change(hourly), tmp_path)


def test_categories_come_from_the_training_span_only(hourly, tmp_path):
    kind = np.where(hourly["time"] < "2024-03-31", np.where(hourly.index % 3, "often", "seldom"), "new")
    spec = DataSpec.parse(
        {**DATA, "source": str(tmp_path / "shops.parquet"), "observed": "kind", "categorical": "kind"}
    )
    _, panel = store_panel(hourly.assign(kind=kind), tmp_path, spec)
    assert panel.categories == {"kind": ["often", "seldom"]}
    assert panel.columns == ("sales", "kind=often", "kind=seldom")
    later = panel.array("times") >= panel.cuts.validation
    assert (panel.array("features")[later, 1:] == 0).all()


def test_columns_that_differ_only_in_case_are_separate(hourly, tmp_path):
    spec = DataSpec.parse(
        {**DATA, "source": str(tmp_path / "shops.parquet"), "observed": ["visitors", "Visitors", "TIME"]}
    )
    frame = hourly.assign(Visitors=hourly["visitors"] * 10, TIME=7.0)
    _, panel = store_panel(frame, tmp_path, spec)
    np.testing.assert_allclose(panel.normalizer.center[:, 2], panel.normalizer.center[:, 1] * 10)
    assert (panel.normalizer.center[:, 3] == 7).all()


@pytest.mark.parametrize("shuffled", [False, True])
def test_many_chunks_give_the_table_and_panel_of_a_single_chunk(tmp_path, monkeypatch, shuffled):
    frame = make_hourly(days=40, shops=("b", "a", "c"))
    frame = frame.sample(frac=0.9, random_state=0) if shuffled else frame.sort_values(["shop", "time"])
    table, panel = store_panel(frame, tmp_path / "one")
    chunks = Source.chunks
    monkeypatch.setattr(Source, "chunks", lambda self, columns, text, *_: chunks(self, columns, text, rows=200))
    monkeypatch.setattr(ingest, "PIECE_ROWS", 130)
    monkeypatch.setattr(sorting, "BUCKET_ROWS", 300)
    monkeypatch.setattr(sorting, "_SAMPLE_EVERY", 10)
    pieces = ingest.Table.pieces
    monkeypatch.setattr(ingest.Table, "pieces", lambda self: pieces(self, 130))
    many, same = store_panel(frame, tmp_path / "many")
    assert replace(many, path=table.path) == table
    spec = DataSpec.parse({**DATA, "source": "-"})
    assert table.sha256 == fingerprint(canonicalize(frame, spec))
    for name in ("features", "targets", "causal", "segment", "series", "times"):
        np.testing.assert_array_equal(panel.array(name), same.array(name))
    whole = build_panel(canonicalize(frame, spec), spec)
    np.testing.assert_array_equal(panel.array("segment"), whole.segment)
    np.testing.assert_array_equal(panel.array("features"), panel.normalizer.normalize_features(whole))


def test_a_source_is_read_only_once(hourly, tmp_path, monkeypatch):
    first, _ = store_panel(hourly, tmp_path)
    monkeypatch.setattr(Source, "chunks", lambda *_: pytest.fail("read again"))
    spec = DataSpec.parse({**DATA, "source": str(tmp_path / "shops.parquet")})
    assert ingest_table(spec, tmp_path, tmp_path) == first


def test_a_source_that_breaks_a_rule_leaves_no_file(hourly, tmp_path):
    path, work = tmp_path / "shops.csv", tmp_path / "work"
    work.mkdir()
    pd.concat([hourly, hourly.tail(1)]).to_csv(path, index=False)
    with pytest.raises(DataError, match="rows 1920 and 1921: .* twice"):
        ingest_table(DataSpec.parse({**DATA, "source": str(path)}), work, work)
    assert list(work.iterdir()) == []


def test_merged_rows_are_noted(hourly, tmp_path):
    path = tmp_path / "shops.csv"
    pd.concat([hourly, hourly.tail(2)]).to_csv(path, index=False)
    spec = DataSpec.parse({**DATA, "source": str(path), "duplicates": "mean"})
    assert ingest_table(spec, tmp_path, tmp_path).notices == ("2 duplicate rows were merged (mean)",)
    spec = DataSpec.parse({**DATA, "source": str(path), "resample": "sum", "frequency": "1d"})
    assert ingest_table(spec, tmp_path, tmp_path).notices == ("1922 rows became 80 steps of 1d (sum)",)


def test_the_panel_describes_itself_in_json(hourly, tmp_path):
    store_panel(hourly, tmp_path)
    state = json.loads((tmp_path / "panel" / "panel.json").read_text())
    assert state["names"] == ["north", "south"] and state["columns"] == ["sales", "visitors"]


@pytest.mark.parametrize("harm", [lambda path: path.write_bytes(path.read_bytes()[:100]), lambda path: path.unlink()])
@pytest.mark.parametrize("pattern", ["table-*.parquet", "source-*.json"])
def test_a_damaged_cache_is_rebuilt(hourly, tmp_path, harm, pattern):
    first, _ = store_panel(hourly, tmp_path)
    (path,) = tmp_path.glob(pattern)
    harm(path)
    spec = DataSpec.parse({**DATA, "source": str(tmp_path / "shops.parquet")})
    assert ingest_table(spec, tmp_path, tmp_path) == first
    assert sum(map(len, first.pieces())) == first.rows


def test_the_frequency_is_inferred_from_twenty_series_whatever_the_size_of_pieces(tmp_path, monkeypatch):
    hours = make_hourly(days=20, shops=tuple(f"s{number:02d}" for number in range(10)))
    frame = hours[~((hours["shop"] < "s02") & (hours.index % 2 == 1))]  # the first two have a row every two hours
    path = tmp_path / "shops.csv"
    frame.to_csv(path, index=False)
    spec = DataSpec.parse({**DATA, "source": str(path), "frequency": "infer"})
    assert ingest_table(spec, tmp_path, tmp_path).frequency == "1h"
    chunks = Source.chunks
    monkeypatch.setattr(Source, "chunks", lambda self, columns, text, *_: chunks(self, columns, text, rows=100))
    monkeypatch.setattr(ingest, "PIECE_ROWS", 100)
    again = tmp_path / "again"
    again.mkdir()
    assert ingest_table(spec, again, again).frequency == "1h"


def test_rows_ahead_do_not_extend_the_span(hourly, tmp_path):
    spec = DataSpec.parse({**DATA, "source": str(tmp_path / "shops.parquet"), "observed": [], "known": "visitors"})
    ahead = hourly["time"] >= "2024-04-09"
    table, panel = store_panel(hourly.assign(sales=hourly["sales"].mask(ahead)), tmp_path, spec)
    assert (table.rows, table.last) == (1920, "2024-04-08T23:00:00+00:00")
    assert panel.cuts.end == np.datetime64("2024-04-09")
    assert panel.array("times").max() == np.datetime64("2024-04-08T23:00")
