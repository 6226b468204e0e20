"""What the commands print."""

import json
import math
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from html import escape
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table

from tasks.settings import tracking_uri, without_password

if TYPE_CHECKING:
    from flows.partitions import Segments
    from flows.pipeline import Outcome
    from tasks.registry.promotion import ChampionChange

_MOST_NETWORKS = 10  # listed below the leaderboard
_COLUMNS = {
    "val_rmse": "val RMSE",
    "test_rmse": "test RMSE",
    "test_mae": "test MAE",
    "test_mase": "test MASE",
    "test_rmse_skill": "skill",
    "test_coverage_80": "in 80 %",
    "test_coverage_95": "in 95 %",
}

_OF_SEGMENTS = ["val_rmse", "test_rmse", "test_rmse_skill"]
_COMPARED = ("val_rmse", "test_rmse", "test_rmse_skill", "test_coverage_80", "test_coverage_95")  # in the terminal
_STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem; }
table { border-collapse: collapse; }
th, td { padding: .4rem .8rem; text-align: left; vertical-align: top; border-bottom: 1px solid #8886; }
.figure { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.champion { font-weight: 600; }
"""


def as_json(value: Any) -> str:
    """JSON that every parser takes: a figure without a value is null."""
    return json.dumps(_with_nulls(value), allow_nan=False)


def _with_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _with_nulls(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_with_nulls(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def outcome_json(outcome: "Outcome", seconds: float) -> dict[str, Any]:
    """The outcome of a training run, JSON-ready."""
    return {**asdict(outcome), "seconds": {**outcome.seconds, "total": seconds}}


@contextmanager
def notes() -> Iterator[None]:
    """A forecast that goes beyond the trained horizon says so in one line on stderr."""
    from lstm.forecasting.rolling import RollingForward

    with warnings.catch_warnings():
        shown = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *place: Any, **options: Any) -> None:
            if issubclass(category, RollingForward):
                print(f"lstm: note: {message}", file=sys.stderr)
            else:
                shown(message, category, *place, **options)

        warnings.simplefilter("always", RollingForward)
        warnings.showwarning = show
        yield


def show_outcome(outcome: "Outcome", seconds: float) -> None:
    """Print the leaderboard, what to know of the data, the champion, where the time went, and where to look."""
    console = _console()
    console.print(_leaderboard(outcome))
    console.print(_networks(outcome))
    for mark, lines in (("note", outcome.notices), ("finding", outcome.findings), ("advice", outcome.advisories)):
        for line in lines:
            console.print(f"{mark}: {line}", markup=False, soft_wrap=True)
    promotion = outcome.promotion
    verb = "champion" if promotion.champion else "challenger"
    said = f"{verb}: {outcome.name} version {promotion.version} ({promotion.kind}): {promotion.reason}."
    console.print(said, markup=False, soft_wrap=True)
    console.print(f"search: {outcome.search}.")
    work = outcome.seconds["train"] + outcome.seconds["evaluate"]
    console.print(
        f"time: {seconds:.0f} s, of which training {outcome.seconds['train']:.0f} s, evaluation "
        f"{outcome.seconds['evaluate']:.0f} s, everything else {seconds - work:.0f} s."
    )
    console.print(
        f"look: mlflow ui --backend-store-uri {without_password(tracking_uri())} (experiment {outcome.name}, run "
        f"{outcome.run_name}) · lstm compare {outcome.name}",
        soft_wrap=True,
    )
    model = outcome.name if promotion.champion or promotion.incumbent_version else f"{outcome.name}@challenger"
    data = " --data FILE" if outcome.known else ""
    console.print(f"use:  lstm forecast {model}{data} --out forecast.parquet", soft_wrap=True)
    if outcome.known:
        console.print(f"      FILE: the history, and below it the rows ahead with {', '.join(outcome.known)}")


def show_segments(outcome: "Segments", seconds: float) -> None:
    """Print a line for each segment of partitioned data, how many have a champion now, and where to look."""
    console = _console()
    table = _table(f"{outcome.name}: {len(outcome.rows)} segments", ["model", "proposed"], _OF_SEGMENTS)
    table.add_column("seconds", justify="right")
    for row in outcome.rows:
        proposed = "none: failed" if row.error else f"version {row.version}" + (" ★" if row.champion else "")
        spent = "–" if row.seconds is None else f"{row.seconds:.0f}"
        table.add_row(row.name, proposed, *(_figure(key, getattr(row, key)) for key in _OF_SEGMENTS), spent)
    console.print(table)
    champions = sum(row.champion for row in outcome.rows)
    console.print(
        f"★ the proposed version is champion: {champions} of {len(outcome.rows)}; failed: {len(outcome.failed)}."
    )
    console.print(f"time: {seconds:.0f} s.")
    if trained := [row for row in outcome.rows if not row.error]:
        console.print(f"look: lstm compare {trained[0].name} · use: lstm forecast {trained[0].name}", soft_wrap=True)


def _networks(outcome: "Outcome") -> Table:
    """The best trials: what they share, what each has of its own, its size, its time and its error."""
    shown = outcome.trials[:_MOST_NETWORKS]
    differ = [key for key in shown[0]["network"] if len({str(one["network"][key]) for one in shown}) > 1]
    same = _listed({key: value for key, value in shown[0]["network"].items() if key not in differ})
    title = f"networks (· in the ensemble), all with {same}"
    table = Table("network", "", box=box.SIMPLE_HEAD, title=title, title_justify="left")
    for column in ("val RMSE, scaled", "parameters", "seconds"):
        table.add_column(column, justify="right", no_wrap=True)
    for one in shown:
        figures = (f"{one['val_rmse']:.4f}", f"{one['parameters']:,}", f"{one['seconds']:.0f}")
        own = _listed({key: one["network"][key] for key in differ})
        table.add_row(one["name"] + (" ·" if one["in_ensemble"] else ""), own, *figures)
    return table


def _listed(keys: dict[str, Any]) -> str:
    return ", ".join(f"{key} {_short(value)}" for key, value in keys.items())


def _short(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "+".join(map(str, value)) or "none"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def show_versions(name: str, rows: list[dict[str, Any]]) -> None:
    """Print the registered versions, and what the gate said of each. The page and the JSON hold more figures."""
    columns = [key for key in _COMPARED if any(key in row for row in rows)]
    table = _table(name, ["version", "aliases", "kind"], columns)
    for row in rows:
        figures = [_with_interval(key, row) if key.endswith("rmse") else _figure(key, row.get(key)) for key in columns]
        table.add_row(str(row["version"]), ", ".join(row["aliases"]), row["kind"], *figures)
    console = _console()
    console.print(table)
    for row in rows:
        for line in _judged(row):
            console.print(f"version {row['version']}: {line}", markup=False, highlight=False, soft_wrap=True)


def versions_page(name: str, rows: list[dict[str, Any]]) -> str:
    """The same as one HTML page, which needs nothing else."""
    columns = [key for key in _COLUMNS if any(key in row for row in rows)]
    heads = ["version", "aliases", "kind", "run", *(_COLUMNS[key] for key in columns), "gate"]
    lines = []
    for row in rows:
        words = [str(row["version"]), ", ".join(row["aliases"]), row["kind"], row["run"]]
        figures = [_with_interval(key, row) for key in columns]
        cells = "".join(f"<td>{escape(text)}</td>" for text in words)
        cells += "".join(f'<td class="figure">{escape(text)}</td>' for text in figures)
        champion = ' class="champion"' if "champion" in row["aliases"] else ""
        lines.append(f"<tr{champion}>{cells}<td>{escape('; '.join(_judged(row)))}</td></tr>")
    head = "".join(f"<th>{escape(text)}</th>" for text in heads)
    body = "\n".join(lines)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(name)}: versions</title>\n'
        f"<style>{_STYLE}</style></head><body>\n<h1>{escape(name)}</h1>\n"
        f"<table><thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table>\n</body></html>\n"
    )


def show_move(move: "ChampionChange") -> None:
    """Print who is champion now."""
    previous = f"; version {move.previous} is previous" if move.previous is not None else ""
    notice = f" ({move.notice})" if move.notice else ""
    print(f"{move.name}: version {move.version} is champion{notice}{previous}")


def _judged(row: dict[str, Any]) -> list[str]:
    """What the registry holds of judgements of a version."""
    lines = [f"{row['gate']}: {row['gate_reason']}"] if "gate" in row else []
    if "forced_by" in row:
        lines.append(f"forced by {row['forced_by']} at {row['forced_at']} ({row['forced_reason']})")
    if "rolled_back_by" in row:
        lines.append(
            f"rolled back to version {row['rolled_back_to']} by {row['rolled_back_by']} at {row['rolled_back_at']}"
        )
    return lines


def show_report(found: dict[str, Any]) -> None:
    """Print what `lstm doctor` found."""
    console = _console()
    console.print(f"python {found['python']} on {found['platform']}")
    console.print("  ".join(f"{name} {number}" for name, number in found["packages"].items()))
    for device in found["devices"]:
        console.print(device)
    for name, where in found["stores"].items():
        console.print(f"{name}: {where}", soft_wrap=True)
    repairs = found.get("repairs", {"lines": (), "left": ()})
    marked = (("repaired", repairs["lines"]), ("not repaired", repairs["left"]), ("problem", found["problems"]))
    for mark, lines in (*marked, ("interrupted", found["interrupted"])):
        for line in lines:
            console.print(f"{mark}: {line}", markup=False, highlight=False, soft_wrap=True)
    if found["problems"] and "repairs" not in found:
        console.print("repair: lstm doctor --repair")
    elif not (found["problems"] or found["unreachable"]):
        console.print("healthy: dead processes have left nothing that is to be put right")


def _leaderboard(outcome: "Outcome") -> Table:
    columns = [key for key in _COLUMNS if any(key in row for row in outcome.leaderboard)]
    table = _table(f"{outcome.name}: {outcome.run_name}", ["model"], columns)
    for row in outcome.leaderboard:
        mark = " ★" if outcome.promotion.champion and row["kind"] == outcome.promotion.kind else ""
        table.add_row(row["name"] + mark, *(_figure(key, row.get(key)) for key in columns))
    return table


def _table(title: str, names: list[str], figures: list[str]) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1))
    for name in names:
        table.add_column(name)
    for key in figures:
        table.add_column(_COLUMNS[key], justify="right", no_wrap=True)
    return table


def _console() -> Console:
    """As wide as the terminal; in a pipe or a file wide enough for every table."""
    console = Console()
    return console if console.is_terminal else Console(width=140)


def _with_interval(key: str, row: dict[str, Any]) -> str:
    """A figure, with its 95 % interval where the run has one."""
    low, high = (row.get(f"{key}_{end}") for end in ("low", "high"))
    figure = _figure(key, row.get(key))
    return figure if low is None or high is None else f"{figure} [{_figure(key, low)}, {_figure(key, high)}]"


def _figure(key: str, value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return "–"
    if key.endswith("skill") or "coverage" in key:
        return f"{100 * value:.1f} %"
    return f"{value:.3f}"
