"""Tables of the report, from the files of an evaluation folder and from the configuration."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lstm.metrics.skill import skill
from tasks.reporting.tables import (
    METRIC_LABELS,
    REFERENCE,
    Cell,
    Table,
    format_metric,
    is_number,
    known_metrics,
    metric_cell,
)

_WORST_SERIES = 10
_MAX_STEPS = 24  # rows of the table by horizon
_TOLERANCE = 0.03  # of coverage
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_KINDS = {"best-single": "best single network", "best-ensemble": "ensemble", "baseline": "baseline"}
_LEADERBOARD = ("val_rmse", "test_rmse", "test_rmse_skill", "test_mae", "test_mase", "test_crps")
_ERRORS = ("rmse", "mae", "mase", "crps")
_ROLES = {
    "time": "time",
    "series": "names the series",
    "wide": "is a series",
    "target": "target: what is forecast",
    "observed": "covariate, known up to now",
    "known": "covariate, known ahead",
    "static": "covariate, constant",
}
Scores = Mapping[str, Mapping[str, Any]]  # as in scores.json, by model


def read_json(path: Path) -> Any:
    """Return the file's content; None if there is no file."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def read_metrics(path: Path, by: str) -> pd.DataFrame:
    """Return columns `model` and `by` as text, all others as numbers; empty if there is no file."""
    if not path.exists():
        return pd.DataFrame(columns=["model", by])
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    metrics = table.columns.difference(["model", by], sort=False)
    return table.assign(**{name: pd.to_numeric(table[name], errors="coerce") for name in metrics})


def proposed_model(scores: Scores, kind: str) -> str:
    """Return the name of the model of the judged kind; without one, the best network on validation."""
    networks = [name for name, model in scores.items() if model["kind"] != "baseline"]
    of_kind = [name for name in networks if scores[name]["kind"] == kind]
    return min(of_kind or networks, key=lambda name: _val_rmse(scores[name]), default="")


def leaderboard(scores: Scores, proposed: str) -> Table:
    """Return all models, best on validation first, with bootstrap intervals of the test metrics."""
    ranked = sorted(scores, key=lambda name: _val_rmse(scores[name]))
    metrics = {name: _flat(scores[name]) for name in ranked}
    keys = known_metrics(_LEADERBOARD, list(metrics.values()))
    rows = tuple(
        (
            Cell(name + (" ★" if name == proposed else ""), _kind(scores[name])),
            *(metric_cell(key, metrics[name]) for key in keys),
        )
        for name in ranked
    )
    caption = (
        f"The lowest validation RMSE first; ★ was judged. Skill: share of the RMSE of {REFERENCE} that is "
        "gone on the same windows. Small: 95 % by bootstrap."
    )
    highlighted = frozenset(number for number, name in enumerate(ranked) if name == proposed)
    return Table(("model", *(METRIC_LABELS[key] for key in keys)), rows, caption=caption, highlighted=highlighted)


def _kind(model: Mapping[str, Any]) -> str:
    return _KINDS.get(model["kind"], str(model["kind"]))


def _flat(model: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metrics of one model, with interval ends as `KEY_low` and `KEY_high`."""
    ends = {f"{key}_{end}": value for end in ("low", "high") for key, value in model.get(end, {}).items()}
    return {**model["metrics"], **ends}


def _val_rmse(model: Mapping[str, Any]) -> float:
    return _finite_or(model["metrics"].get("val_rmse"), math.inf)


def all_metrics(model: Mapping[str, Any]) -> Table:
    """Return all metrics of one model, on validation and test, with bootstrap intervals of the test metrics."""
    names = dict.fromkeys(key.partition("_")[2] for key in model["metrics"] if key.startswith(("val_", "test_")))
    metrics = _flat(model)
    rows = tuple(
        (Cell(name), Cell(format_metric(name, metrics.get(f"val_{name}"))), metric_cell(f"test_{name}", metrics))
        for name in names
    )
    return Table(("metric", "validation", "test"), rows, caption="Small: 95 % by bootstrap.")


def intervals(scores: Scores, levels: Sequence[int]) -> Table:
    """Return nominal and empirical coverage of every model, and the mean width of its intervals."""
    rows = []
    for name, model in scores.items():
        metrics = _flat(model)
        for level in levels:
            coverage: Any = metrics.get(f"test_coverage_{level}")
            if is_number(coverage):
                excess = coverage - level / 100
                rows.append(
                    (
                        Cell(name),
                        Cell(f"{level} %"),
                        Cell(format_metric("coverage", metrics.get(f"val_coverage_{level}"))),
                        metric_cell(f"test_coverage_{level}", metrics),
                        Cell(f"{100 * excess:+.1f}".replace("-", "−"), marked=abs(excess) > _TOLERANCE),
                        Cell(format_metric("width", metrics.get(f"test_width_{level}"))),
                    )
                )
    columns = ("model", "nominal", "on validation", "on test", "off by, points", "mean width")
    caption = "Bold: more than 3 points off. Width in units of the target."
    return Table(columns, tuple(rows), caption=caption)


def rmse_by_group(table: pd.DataFrame, by: str, heading: str, proposed: str) -> Table:
    """Return RMSE by group and model, the lowest of a row bold, and the skill of the proposed model."""
    groups = list(dict.fromkeys(table[by]))
    models = list(dict.fromkeys(table["model"]))
    rmse = table.pivot_table("rmse", by, "model", sort=False, dropna=False).reindex(index=groups, columns=models)
    shown = np.linspace(0, len(groups) - 1, min(len(groups), _MAX_STEPS)).round().astype(int)
    rows = []
    for group in (groups[number] for number in shown):
        errors = rmse.loc[group].to_numpy(float)
        best = np.nanmin(errors) if np.isfinite(errors).any() else math.nan
        cells = [Cell(format_metric("rmse", error), marked=bool(error == best)) for error in errors.tolist()]
        skill = _skill(rmse.loc[group].get(proposed), rmse.loc[group].get(REFERENCE))
        rows.append((Cell(group), *cells, Cell(format_metric("skill", skill))))
    caption = "RMSE in units of the target; the lowest of each row is bold."
    return Table((heading, *models, f"skill of {proposed}"), tuple(rows), caption=caption)


def worst_series(table: pd.DataFrame, proposed: str) -> Table:
    """Return the series that the proposed model forecasts worst, by MASE if known, else by RMSE."""
    measure = "mase" if "mase" in table and table["mase"].notna().any() else "rmse"
    proposed_rows = table[table["model"] == proposed].sort_values(measure, ascending=False, kind="stable")
    worst = proposed_rows.head(_WORST_SERIES)
    caption = f"{proposed}: the {len(worst)} worst of {len(proposed_rows)} series, by {METRIC_LABELS[measure]}."
    keys = [key for key in _ERRORS if key in proposed_rows and proposed_rows[key].notna().any()]
    keys += [name for name in map(str, proposed_rows) if name.startswith("coverage_")]
    return _model_by_group(table, worst, "series", caption, keys)


def metrics_by_group(table: pd.DataFrame, by: str, proposed: str) -> Table:
    """Return errors of the proposed model by hour or weekday, with bars."""
    proposed_rows = table[table["model"] == proposed]
    coverages = [name for name in map(str, proposed_rows) if name.startswith("coverage_")]
    caption = f"{proposed}, by {by} of the time that is forecast (local time)."
    return _model_by_group(table, proposed_rows, by, caption, ["rmse", *coverages[:1]])


def _model_by_group(
    table: pd.DataFrame, proposed_rows: pd.DataFrame, by: str, caption: str, keys: Sequence[str]
) -> Table:
    """Return metrics of the proposed model by group, with bars in the first column, and its skill."""
    reference = table[table["model"] == REFERENCE].set_index(by).get("rmse", pd.Series(dtype=float)).to_dict()
    longest = {key: _finite_or(proposed_rows[key].max(), 0.0) for key in keys[:1]}
    rows = []
    for row in proposed_rows.to_dict("records"):
        cells = [
            Cell(format_metric(key, row[key]), bar=_share(row[key], longest[key]) if key in longest else None)
            for key in keys
        ]
        skill = _skill(row.get("rmse"), reference.get(row[by]))
        group = _WEEKDAYS[int(row[by])] if by == "weekday" and row[by] in set("0123456") else str(row[by])
        windows = Cell(format_metric("windows", row.get("windows")))
        rows.append((Cell(group), windows, *cells, Cell(format_metric("skill", skill))))
    labels = [METRIC_LABELS[key] if key in _ERRORS else f"in {key.removeprefix('coverage_')} %" for key in keys]
    return Table((by, "windows", *labels, "skill"), tuple(rows), caption=caption)


def audit_checks(checks: Sequence[Mapping[str, Any]]) -> Table:
    """Return the checks of the leakage audit; failed ones are bold."""
    rows = tuple(
        (
            Cell(check["name"]),
            Cell("passed" if check["passed"] else "failed", marked=not check["passed"]),
            Cell(check["evidence"]),
        )
        for check in checks
    )
    return Table(("check", "result", "evidence"), rows)


def ensemble_methods(errors: Mapping[str, Any], used: str) -> Table:
    """Return the validation error of each way to combine the same networks; the used one is bold."""
    ranked = sorted(errors, key=lambda method: _finite_or(errors[method], math.inf))
    rows = tuple(
        (Cell(method, marked=method == used), Cell(format_metric("rmse", errors[method]))) for method in ranked
    )
    return Table(("method", "val RMSE, scaled"), rows, caption=f"Bold: {used}, which was used.")


def column_roles(data: Mapping[str, Any]) -> Table:
    """Return the columns of the section `data` and their roles."""
    columns = {role: data.get(role) or () for role in _ROLES}
    columns["wide"] = ("all others",) if columns["wide"] == "all" else columns["wide"]
    categorical = set(data.get("categorical") or ())
    rows = [
        (Cell(name), Cell(_ROLES[role] + (", categories" if name in categorical else "")))
        for role, names in columns.items()
        for name in ((names,) if isinstance(names, str) else names)
    ]
    calendar = data.get("calendar") or {}
    rows += [(Cell(name), Cell("calendar, known ahead")) for name in calendar.get("features") or ()]
    if calendar.get("holidays"):
        rows.append((Cell(f"holidays of {calendar['holidays']}"), Cell("calendar, known ahead")))
    return Table(("column", "role"), tuple(rows))


def _skill(rmse: Any, reference: Any) -> float:
    return skill(rmse, reference) if is_number(rmse) and is_number(reference) else math.nan


def _share(value: Any, longest: float) -> float | None:
    return value / longest if is_number(value) and longest > 0 else None


def _finite_or(value: Any, default: float) -> float:
    return float(value) if is_number(value) else default
