"""What a training run is told of its data: counts, gaps, outliers, strengths, and drift between the splits.

Made for people to read. The test span is described like the others; nothing of it flows into training.
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
from lstm.profiling.coverage import Coverage, coverage, outliers
from lstm.profiling.distributions import column_spread, series_spread
from lstm.profiling.series_tests import DIAGNOSES, diagnose, training_excerpt

DIAGNOSED_SERIES = 20  # the tests that take long are done for the first so many


@dataclass(frozen=True)
class Profile:
    """A table and its panel, described."""

    summary: dict[str, Any]  # JSON-ready; None where a figure can't be had
    series: pd.DataFrame  # one row a series, see `profile`
    columns: pd.DataFrame  # one row a column and split, see `lstm.profiling.distributions.column_spread`
    gap_lengths: dict[int, int]  # steps of a gap: how many gaps are so long


def profile(table: Table, panel: PanelStore, spec: DataSpec, season: int) -> Profile:
    """Describe a table and the panel made of it, in a bounded amount of memory.

    Args:
        table: canonical.
        panel: made of it.
        spec: its roles, with the table's frequency.
        season: steps of a season; 1: there is none.

    Returns:
        `series` has the columns of `lstm.profiling.distributions.series_spread`; of the series that are not
        left out `steps`, `missing`, `filled`, `gaps`, `longest_gap` (all in steps of the grid, see `Coverage`)
        and `outliers`; and of the first 20 of these the figures of `diagnose`, from `diagnosed_rows` unbroken
        rows of the training span (3,000 at most).
    """
    with tempfile.TemporaryDirectory(prefix=".profile-", dir=table.path.parent) as scratch:
        series = series_spread(table, spec, panel.cuts, Path(scratch))
        columns = column_spread(table, spec, panel.cuts, Path(scratch))
    covered = coverage(panel)
    series = series.join(_counts(covered, panel)).join(_diagnoses(panel, season)).reset_index()
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
        **_gaps(covered),
        **_values(series, columns),
    }
    return Profile(summary, series, columns, covered.gap_lengths)


def _counts(covered: Coverage, panel: PanelStore) -> pd.DataFrame:
    names = ("steps", "missing", "filled", "gaps", "longest_gap")
    counts = {name: getattr(covered, name) for name in names}
    return pd.DataFrame(counts, index=panel.names, dtype="Int64").assign(outliers=outliers(panel))


def _diagnoses(panel: PanelStore, season: int) -> pd.DataFrame:
    chosen = panel.names[:DIAGNOSED_SERIES]
    records = [diagnose(training_excerpt(panel, code), season) for code in range(len(chosen))]
    frame = pd.DataFrame(records, index=chosen, columns=list(DIAGNOSES), dtype=float)
    return frame.rename(columns={"rows": "diagnosed_rows"})


def _gaps(covered: Coverage) -> dict[str, Any]:
    """Steps of the grid over all series that are not left out; shares of them are 0 to 1."""
    steps, missing, filled = (int(counts.sum()) for counts in (covered.steps, covered.missing, covered.filled))
    return {
        "steps": steps,
        "missing": missing,
        "missing_share": missing / steps,
        "filled": filled,
        "filled_share": filled / steps,
        "gaps": int(covered.gaps.sum()),
        "longest_gap": int(covered.longest_gap.max(initial=0)),
        "runs": sum(covered.run_lengths.values()),
        "median_run": covered.median_run,
    }


def _values(series: pd.DataFrame, columns: pd.DataFrame) -> dict[str, Any]:
    train = columns[columns["split"] == "train"]
    return {
        "constant_series": int(series["constant"].sum()),
        "constant_columns": train.loc[train["min"] == train["max"], "column"].tolist(),
        "outliers": int(series["outliers"].sum()),
        **{f"median_{name}": _figure(series[name].median()) for name in DIAGNOSES[1:]},
        "drift_psi_max": _figure(columns["psi"].max()),
        "drift_ks_max": _figure(columns["ks"].max()),
        "drift_column": _most_moved(columns),
    }


def _most_moved(columns: pd.DataFrame) -> str | None:
    """The column and split with the largest PSI."""
    moved = columns.dropna(subset="psi")
    if moved.empty:
        return None
    row = moved.iloc[int(np.argmax(moved["psi"]))]
    return f"{row['column']} ({row['split']})"


def _figure(value: Any) -> float | None:
    return None if pd.isna(value) or not math.isfinite(value) else float(value)
