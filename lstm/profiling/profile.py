"""Profile of a run's data: counts, gaps, outliers, strengths, and shift between the splits.

It is made for people to read. The test span is described like the others; nothing of it is used in training.
"""

import math
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lstm.config.data import DataSpec
from lstm.data.ingest import Table
from lstm.data.panel_store import PanelStore
from lstm.profiling.coverage import Coverage, count_outliers, measure_coverage
from lstm.profiling.distributions import describe_columns, describe_series
from lstm.profiling.series_tests import SERIES_MEASURES, run_series_tests, training_excerpt

TESTED_SERIES = 20  # the first series, for which slow tests are run


@dataclass(frozen=True)
class Profile:
    """Description of a table and its panel."""

    summary: dict[str, Any]  # JSON-ready; None where a figure is undefined
    series: pd.DataFrame  # one row per series, see `build_profile`
    columns: pd.DataFrame  # one row per column and split, see `lstm.profiling.distributions.describe_columns`
    gap_lengths: dict[int, int]  # number of gaps by their length in steps


def build_profile(table: Table, panel: PanelStore, spec: DataSpec, season: int) -> Profile:
    """Describe a table and the panel made of it, with bounded memory.

    Args:
        table: canonical.
        panel: made of it.
        spec: its roles, with the table's frequency.
        season: steps of a season; 1: no season.

    Returns:
        `series` has the columns of `lstm.profiling.distributions.describe_series`; of the series that are not
        left out `steps`, `missing`, `filled`, `gaps`, `longest_gap` (all in steps of the grid, see `Coverage`)
        and `outliers`; and of the first 20 of these the measures of `run_series_tests`, from `diagnosed_rows` unbroken
        rows of the training span (3,000 at most).
    """
    with tempfile.TemporaryDirectory(prefix=".profile-", dir=table.path.parent) as scratch:
        series = describe_series(table, spec, panel.cuts, Path(scratch))
        columns = describe_columns(table, spec, panel.cuts, Path(scratch))
    coverage = measure_coverage(panel)
    series = series.join(_counts(coverage, panel)).join(_test_series(panel, season)).reset_index()
    summary = {
        "sha256": table.sha256,
        "rows": table.rows,
        "series": table.series,
        "first": table.first,
        "last": table.last,
        "frequency": table.frequency,
        "season": season,
        "targets": list(spec.target),
        "inputs": list(panel.columns),
        "splits": {name: [str(moment) for moment in span] for name, span in panel.cuts.spans.items()},
        "notices": list(table.notices),
        "left_out": len(panel.left_out),
        **_gap_summary(coverage),
        **_value_summary(series, columns),
    }
    return Profile(summary, series, columns, coverage.gap_lengths)


def _counts(coverage: Coverage, panel: PanelStore) -> pd.DataFrame:
    names = ("steps", "missing", "filled", "gaps", "longest_gap")
    counts = {name: getattr(coverage, name) for name in names}
    return pd.DataFrame(counts, index=panel.names, dtype="Int64").assign(outliers=count_outliers(panel))


def _test_series(panel: PanelStore, season: int) -> pd.DataFrame:
    names = panel.names[:TESTED_SERIES]
    records = [run_series_tests(training_excerpt(panel, code), season) for code in range(len(names))]
    frame = pd.DataFrame(records, index=names, columns=list(SERIES_MEASURES), dtype=float)
    return frame.rename(columns={"rows": "diagnosed_rows"})


def _gap_summary(coverage: Coverage) -> dict[str, Any]:
    """Return counts of steps over all series that are not left out, and shares from 0 to 1."""
    steps, missing, filled = (int(counts.sum()) for counts in (coverage.steps, coverage.missing, coverage.filled))
    return {
        "steps": steps,
        "missing": missing,
        "missing_share": missing / steps,
        "filled": filled,
        "filled_share": filled / steps,
        "gaps": int(coverage.gaps.sum()),
        "longest_gap": int(coverage.longest_gap.max(initial=0)),
        "runs": sum(coverage.run_lengths.values()),
        "median_run": coverage.median_run,
    }


def _value_summary(series: pd.DataFrame, columns: pd.DataFrame) -> dict[str, Any]:
    train = columns[columns["split"] == "train"]
    return {
        "constant_series": int(series["constant"].sum()),
        "constant_columns": train.loc[train["min"] == train["max"], "column"].tolist(),
        "outliers": int(series["outliers"].sum()),
        **{f"median_{name}": _finite_or_none(series[name].median()) for name in SERIES_MEASURES[1:]},
        "drift_psi_max": _finite_or_none(columns["psi"].max()),
        "drift_ks_max": _finite_or_none(columns["ks"].max()),
        "drift_column": _most_shifted(columns),
    }


def _most_shifted(columns: pd.DataFrame) -> str | None:
    """Return the column and split with the largest PSI."""
    shifted = columns.dropna(subset="psi")
    if shifted.empty:
        return None
    row = shifted.iloc[int(np.argmax(shifted["psi"]))]
    return f"{row['column']} ({row['split']})"


def _finite_or_none(value: Any) -> float | None:
    return None if pd.isna(value) or not math.isfinite(value) else float(value)
