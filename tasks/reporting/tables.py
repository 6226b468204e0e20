"""The tables of a report, as text: from the files of an evaluation folder, and from what is known of the run."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

REFERENCE = "seasonal_naive"
_WORST = 10  # series
_STEPS = 24  # rows of the table by horizon
_NETWORKS = 25
_TOLERANCE = 0.03  # of coverage
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_KINDS = {"best-single": "best single network", "best-ensemble": "ensemble", "baseline": "baseline"}
_SCORES = {
    "val_rmse": "val RMSE",
    "test_rmse": "test RMSE",
    "test_rmse_skill": "skill",
    "test_mae": "test MAE",
    "test_mase": "test MASE",
    "test_crps": "test CRPS",
}
_ERRORS = {"rmse": "RMSE", "mae": "MAE", "mase": "MASE", "crps": "CRPS"}
Scores = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Cell:
    """A figure or a word, and what stands small below it."""

    text: str
    detail: str = ""
    marked: bool = False  # the best, or one to look at
    bar: float | None = None  # 0 to 1, how long a bar behind it is


@dataclass(frozen=True)
class Grid:
    """A table: the first cell of a row names it."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    chosen: frozenset[int] = frozenset()  # rows of the proposed model


def read_json(path: Path) -> Any:
    """What the file holds; None: it is not there."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def read_table(path: Path, by: str) -> pd.DataFrame:
    """Columns `model` and `by` as text, all others as numbers; empty where the file is not there."""
    if not path.exists():
        return pd.DataFrame(columns=["model", by])
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    figures = table.columns.difference(["model", by], sort=False)
    return table.assign(**{name: pd.to_numeric(table[name], errors="coerce") for name in figures})


def figure(key: str, value: Any) -> str:
    """A metric as people read it: shares in percent, four digits, a dash where there is none."""
    if not _is_number(value):
        return "–"
    if "skill" in key or "coverage" in key:
        return f"{100 * value:.1f} %".replace("-", "−")
    whole = isinstance(value, int) or abs(value) >= 1000
    return (f"{value:,.0f}" if whole else f"{value:#.4g}").replace("-", "−")


def proposed(scores: Scores, kind: str) -> str:
    """Name of the model that met the gate; the best network on validation where no kind says so."""
    networks = [name for name, one in scores.items() if one["kind"] != "baseline"]
    own = [name for name in networks if scores[name]["kind"] == kind]
    return min(own or networks, key=lambda name: _finite(scores[name]["metrics"].get("val_rmse")), default="")


def leaderboard(scores: Scores, ours: str) -> Grid:
    """Every model, the best on validation first, with the bootstrap intervals of the test figures."""
    ranked = sorted(scores, key=lambda name: _finite(scores[name]["metrics"].get("val_rmse")))
    keys = [key for key in _SCORES if any(_is_number(one["metrics"].get(key)) for one in scores.values())]
    rows = [
        (
            Cell(name + (" ★" if name == ours else ""), _kind(scores[name])),
            *(_scored(scores[name], key) for key in keys),
        )
        for name in ranked
    ]
    caption = (
        f"The lowest validation RMSE first; ★ was judged. Skill: share of the RMSE of {REFERENCE} that is "
        "gone on the same windows. Small: 95 % by bootstrap."
    )
    chosen = frozenset(number for number, name in enumerate(ranked) if name == ours)
    return Grid(caption, ("model", *(_SCORES[key] for key in keys)), tuple(rows), chosen)


def _kind(one: Mapping[str, Any]) -> str:
    return _KINDS.get(one["kind"], str(one["kind"]))


def _scored(one: Mapping[str, Any], key: str) -> Cell:
    low, high = (one.get(side, {}).get(key) for side in ("low", "high"))
    return Cell(figure(key, one["metrics"].get(key)), _between(key, low, high))


def _between(key: str, low: Any, high: Any) -> str:
    """An interval, shorter than the figure that it belongs to."""
    if not (_is_number(low) and _is_number(high)):
        return ""
    if "skill" in key or "coverage" in key:
        return f"{100 * low:.0f} to {100 * high:.0f} %".replace("-", "−")
    return f"{low:#.3g} to {high:#.3g}".replace("-", "−")


def every_metric(one: Mapping[str, Any]) -> Grid:
    """All metrics of one model, validation beside test, with the bootstrap intervals of the latter."""
    names = dict.fromkeys(key.partition("_")[2] for key in one["metrics"] if key.startswith(("val_", "test_")))
    rows = [
        (Cell(name), Cell(figure(name, one["metrics"].get(f"val_{name}"))), _scored(one, f"test_{name}"))
        for name in names
    ]
    return Grid("Small: 95 % by bootstrap.", ("metric", "validation", "test"), tuple(rows))


def intervals(scores: Scores, levels: Sequence[int]) -> Grid:
    """Nominal against empirical coverage of every model, and how wide the intervals are."""
    rows = []
    for name, one in scores.items():
        for level in levels:
            metrics = one["metrics"]
            found = metrics.get(f"test_coverage_{level}")
            if not _is_number(found):
                continue
            off = found - level / 100
            rows.append(
                (
                    Cell(name),
                    Cell(f"{level} %"),
                    Cell(figure("coverage", metrics.get(f"val_coverage_{level}"))),
                    _scored(one, f"test_coverage_{level}"),
                    Cell(f"{100 * off:+.1f}".replace("-", "−"), marked=abs(off) > _TOLERANCE),
                    Cell(figure("width", metrics.get(f"test_width_{level}"))),
                )
            )
    columns = ("model", "nominal", "on validation", "on test", "off by, points", "mean width")
    return Grid("Bold: more than 3 points off. Width in units of the target.", columns, tuple(rows))


def across(table: pd.DataFrame, by: str, heading: str, ours: str) -> Grid:
    """RMSE by group and model, the best of a row bold, and the skill of the proposed model."""
    groups = list(dict.fromkeys(table[by]))
    models = list(dict.fromkeys(table["model"]))
    found = table.pivot_table("rmse", by, "model", sort=False, dropna=False).reindex(index=groups, columns=models)
    kept = np.linspace(0, len(groups) - 1, min(len(groups), _STEPS)).round().astype(int)
    rows = []
    for group in (groups[number] for number in kept):
        errors = found.loc[group].to_numpy(float)
        best = np.nanmin(errors) if np.isfinite(errors).any() else math.nan
        cells = [Cell(figure("rmse", error), marked=bool(error == best)) for error in errors.tolist()]
        skill = _skill(found.loc[group].get(ours), found.loc[group].get(REFERENCE))
        rows.append((Cell(group), *cells, Cell(figure("skill", skill))))
    columns = (heading, *models, f"skill of {ours}")
    return Grid("RMSE in units of the target; the lowest of each row is bold.", columns, tuple(rows))


def worst_series(table: pd.DataFrame, ours: str) -> Grid:
    """The series that the proposed model forecasts worst, by MASE where that is known."""
    measure = "mase" if "mase" in table and table["mase"].notna().any() else "rmse"
    own = table[table["model"] == ours].sort_values(measure, ascending=False, kind="stable")
    caption = f"{ours}: the {min(len(own), _WORST)} worst of {len(own)} series, by {_ERRORS[measure]}."
    keys = [key for key in _ERRORS if key in own and own[key].notna().any()]
    keys += [name for name in map(str, own) if name.startswith("coverage_")]
    return _of_model(table, own.head(_WORST), "series", caption, keys)


def by_group(table: pd.DataFrame, by: str, ours: str) -> Grid:
    """Errors of the proposed model by hour or weekday, with bars."""
    own = table[table["model"] == ours]
    levels = [name for name in map(str, own) if name.startswith("coverage_")]
    return _of_model(
        table, own, by, f"{ours}, by {by} of the time that is forecast (local time).", ["rmse", *levels[:1]]
    )


def _of_model(table: pd.DataFrame, own: pd.DataFrame, by: str, caption: str, keys: Sequence[str]) -> Grid:
    """The proposed model's figures by group, a bar behind the first of them, and its skill."""
    reference = table[table["model"] == REFERENCE].set_index(by).get("rmse", pd.Series(dtype=float)).to_dict()
    longest = {key: _finite(own[key].max(), 0.0) for key in keys[:1]}
    rows = []
    for record in own.to_dict("records"):
        cells = [
            Cell(figure(key, record[key]), bar=_share(record[key], longest[key]) if key in longest else None)
            for key in keys
        ]
        skill = _skill(record.get("rmse"), reference.get(record[by]))
        name = _WEEKDAYS[int(record[by])] if by == "weekday" and record[by] in set("0123456") else str(record[by])
        windows = Cell(figure("windows", record.get("windows")))
        rows.append((Cell(name), windows, *cells, Cell(figure("skill", skill))))
    heads = [_ERRORS.get(key) or f"in {key.removeprefix('coverage_')} %" for key in keys]
    return Grid(caption, (by, "windows", *heads, "skill"), tuple(rows))


def checks(found: Sequence[Mapping[str, Any]]) -> Grid:
    """The questions of an audit, and what was found; a failed one is bold."""
    rows = [
        (
            Cell(one["name"]),
            Cell("passed" if one["passed"] else "failed", marked=not one["passed"]),
            Cell(one["evidence"]),
        )
        for one in found
    ]
    return Grid("", ("check", "result", "evidence"), tuple(rows))


def ensembles(found: Mapping[str, Any], used: str) -> Grid:
    """Validation error of each way to combine the same networks; the one that was used is bold."""
    ranked = sorted(found, key=lambda method: _finite(found[method]))
    rows = [(Cell(method, marked=method == used), Cell(figure("rmse", found[method]))) for method in ranked]
    return Grid(f"Bold: {used}, which was used.", ("method", "val RMSE, scaled"), tuple(rows))


def networks(trials: Sequence[Mapping[str, Any]]) -> Grid:
    """The finished networks, the best first: what they differ in, and what they share in the caption."""
    shown = trials[:_NETWORKS]
    keys = list(shown[0]["network"]) if shown else []
    differ = [key for key in keys if len({str(one["network"][key]) for one in shown}) > 1]
    rows = [
        (
            Cell(one["name"]),
            Cell(f"{one['val_rmse']:.4f}"),
            Cell("yes" if one["in_ensemble"] else "no"),
            *(Cell(_word(one["network"][key])) for key in differ),
            *(Cell(figure(key, one[key])) for key in ("best_epoch", "parameters")),
            Cell(f"{one['seconds']:.0f}"),
        )
        for one in shown
    ]
    same = ", ".join(f"{key} {_word(shown[0]['network'][key])}" for key in keys if key not in differ)
    head = f"{len(shown)} of {len(trials)} networks. " if len(shown) < len(trials) else ""
    columns = ("network", "val RMSE, scaled", "in ensemble", *differ, "best epoch", "parameters", "seconds")
    return Grid(f"{head}All have {same}." if same else head, columns, tuple(rows))


def columns_of(data: Mapping[str, Any]) -> Grid:
    """Every column of the configuration's `data` and its role."""
    roles = {
        "time": "time",
        "series": "names the series",
        "wide": "is a series",
        "target": "target: what is forecast",
        "observed": "covariate, known up to now",
        "known": "covariate, known ahead",
        "static": "covariate, constant",
    }
    named = {role: data.get(role) or () for role in roles}
    named["wide"] = ("all others",) if named["wide"] == "all" else named["wide"]
    categories = set(data.get("categorical") or ())
    rows = [
        (Cell(name), Cell(roles[role] + (", categories" if name in categories else "")))
        for role, names in named.items()
        for name in ((names,) if isinstance(names, str) else names)
    ]
    calendar = data.get("calendar") or {}
    rows += [(Cell(name), Cell("calendar, known ahead")) for name in calendar.get("features") or ()]
    if calendar.get("holidays"):
        rows.append((Cell(f"holidays of {calendar['holidays']}"), Cell("calendar, known ahead")))
    return Grid("", ("column", "role"), tuple(rows))


def _word(value: Any) -> str:
    if isinstance(value, list | tuple):
        return " + ".join(map(str, value)) or "none"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _skill(ours: Any, reference: Any) -> float:
    return 1 - ours / reference if _is_number(ours) and _is_number(reference) and reference > 0 else math.nan


def _share(value: Any, longest: float) -> float | None:
    return value / longest if _is_number(value) and longest > 0 else None


def _finite(value: Any, instead: float = math.inf) -> float:
    return float(value) if _is_number(value) else instead


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
