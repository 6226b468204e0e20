"""Formatted tables, which the terminal, the report and HTML pages render alike."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

REFERENCE = "seasonal_naive"
METRIC_LABELS = {
    "val_rmse": "val RMSE",
    "test_rmse": "test RMSE",
    "test_rmse_skill": "skill",
    "test_mae": "test MAE",
    "test_mase": "test MASE",
    "test_crps": "test CRPS",
    "test_coverage_80": "in 80 %",
    "test_coverage_95": "in 95 %",
    "rmse": "RMSE",
    "mae": "MAE",
    "mase": "MASE",
    "crps": "CRPS",
    "rmse_skill": "skill",
    "coverage_80": "in 80 %",
    "coverage_95": "in 95 %",
}


@dataclass(frozen=True)
class Cell:
    """A formatted value."""

    text: str
    detail: str = ""  # shown small, such as an interval
    marked: bool = False  # bold
    bar: float | None = None  # length of a bar behind the text, 0 to 1


@dataclass(frozen=True)
class Table:
    """Formatted rows. The first column names the row."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    title: str = ""  # above
    caption: str = ""  # below
    text_columns: frozenset[str] = frozenset()  # left-aligned, besides the first
    highlighted: frozenset[int] = frozenset()  # rows


def make_table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], text_columns: Sequence[str] = ()
) -> Table:
    """Return a table of plain texts; `text_columns` are left-aligned, besides the first column."""
    cells = tuple(tuple(Cell(text) for text in row) for row in rows)
    return Table(tuple(columns), cells, title, text_columns=frozenset(text_columns))


def format_metric(key: str, value: Any) -> str:
    """Format a metric: skills and coverages in percent, others with four digits; a dash without a value."""
    if not is_number(value):
        return "–"
    if _is_share(key):
        return f"{100 * value:.1f} %".replace("-", "−")
    whole = isinstance(value, int) or abs(value) >= 1000
    return (f"{value:,.0f}" if whole else f"{value:#.4g}").replace("-", "−")


def metric_cell(key: str, row: Mapping[str, Any]) -> Cell:
    """Format `row[key]`, with its interval from `KEY_low` to `KEY_high` as the detail."""
    return Cell(format_metric(key, row.get(key)), _interval(key, row.get(f"{key}_low"), row.get(f"{key}_high")))


def _interval(key: str, low: Any, high: Any) -> str:
    """Format an interval with one digit less than its metric."""
    if not (is_number(low) and is_number(high)):
        return ""
    if _is_share(key):
        return f"{100 * low:.0f} to {100 * high:.0f} %".replace("-", "−")
    return f"{low:#.3g} to {high:#.3g}".replace("-", "−")


def _is_share(key: str) -> bool:
    return "skill" in key or "coverage" in key


def known_metrics(keys: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the keys that have a number in some row."""
    return [key for key in keys if any(is_number(row.get(key)) for row in rows)]


def networks(trials: Sequence[Mapping[str, Any]], limit: int, join_params: bool = False) -> Table:
    """Return the best trials: the parameters in which they differ, and in the caption those that they share.

    Args:
        trials: rows of `flows.pipeline.Outcome`, best first.
        limit: rows at most.
        join_params: put the differing parameters into one column, for a narrow table.
    """
    shown = trials[:limit]
    keys = list(shown[0]["network"]) if shown else []
    differing = [key for key in keys if len({str(trial["network"][key]) for trial in shown}) > 1]
    columns = ("differs in",) if join_params else tuple(differing)
    rows = tuple(
        (
            Cell(trial["name"]),
            Cell(f"{trial['val_rmse']:.4f}"),
            Cell("yes" if trial["in_ensemble"] else "no"),
            *map(Cell, _params(trial["network"], differing, join_params)),
            *(Cell(format_metric(key, trial[key])) for key in ("best_epoch", "parameters")),
            Cell(f"{trial['seconds']:.0f}"),
        )
        for trial in shown
    )
    shared = [key for key in keys if key not in differing]
    count = f"{len(shown)} of {len(trials)} networks. " if len(shown) < len(trials) else ""
    return Table(
        ("network", "val RMSE, scaled", "in ensemble", *columns, "best epoch", "parameters", "seconds"),
        rows,
        caption=f"{count}All have {_params(shown[0]['network'], shared, True)[0]}." if shared else count,
        text_columns=frozenset(columns if join_params else ()),
    )


def _params(network: Mapping[str, Any], keys: Sequence[str], joined: bool) -> list[str]:
    if joined:
        return [", ".join(f"{key} {_format_param(network[key])}" for key in keys)]
    return [_format_param(network[key]) for key in keys]


def _format_param(value: Any) -> str:
    if isinstance(value, list | tuple):
        return " + ".join(map(str, value)) or "none"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def is_number(value: Any) -> bool:
    """Whether the value is a finite number, and no bool."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
