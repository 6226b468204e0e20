"""What the commands print that train again, and what monitoring found: reproduce, backtest, monitor."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from tasks.backtest import Backtest
    from tasks.monitoring.result import MonitorResult
    from tasks.reproduce import Reproduction

_SHOWN = ("val_rmse", "val_mae", "test_rmse", "test_mae", "test_mase", "test_coverage_80", "test_coverage_95")

_BACKTEST = {
    "rmse": "RMSE",
    "mae": "MAE",
    "mase": "MASE",
    "crps": "CRPS",
    "rmse_skill": "skill",
    "coverage_80": "in 80 %",
    "coverage_95": "in 95 %",
}


def show_reproduction(found: "Reproduction") -> None:
    """Print figures then and now, the networks, what differs in the environment, and the verdict."""
    console = _console()
    if found.metrics:
        console.print(_figures(found))
        console.print(_networks(found))
    for line in found.differences:
        console.print(f"environment, {line}", markup=False, soft_wrap=True)
    for line in found.reasons:
        console.print(f"reason: {line}", markup=False, soft_wrap=True)
    console.print(f"{found.version}: {found.verdict}.", markup=False, soft_wrap=True)
    console.print(f"time: {found.seconds:.0f} s. All figures: run {found.run_name}, reproduction.json", soft_wrap=True)


def show_backtest(found: "Backtest") -> None:
    """Print every model's mean figures over the folds, its RMSE in each, what each fold saw, and where to look."""
    console = _console()
    columns = [key for key in _BACKTEST if any(key in row for row in found.overall)]
    table = _table(f"{found.name}: {found.run_name}", ["model"], [_BACKTEST[key] for key in columns])
    for row in found.overall:
        table.add_row(row["model"], *(_figure(key, row.get(key)) for key in columns))
    console.print(table)
    console.print(_by_fold(found))
    for line in (*found.notices, *_beaten(found)):
        console.print(f"note: {line}", markup=False, soft_wrap=True)
    how = "fitted anew before each fold" if found.refit else "fitted once, before the first fold"
    seconds = found.seconds
    console.print(f"{found.networks} networks trained, everything {how}; the first table shows means over the folds.")
    console.print(
        f"time: {sum(seconds.values()):.0f} s, of which training {seconds['train']:.0f} s. All figures: run "
        f"{found.run_name}, backtest.csv",
        soft_wrap=True,
    )


def show_monitoring(found: "Sequence[MonitorResult]") -> None:
    """Print of each model the live figures beside the promised ones, by age, the inputs, and the verdict."""
    console = _console()
    for one in found:
        if one.live:
            console.print(_live(one))
            console.print(_moved(one))
        for line in one.warnings:
            console.print(f"input moved: {line}", markup=False, soft_wrap=True)
        counts = f"{one.forecasts} forecasts, {one.waiting} of them still wait for what they forecast"
        others = {"by other versions": one.others, "repeated": one.repeated}
        told = ", ".join([counts, *(f"{count} {what}" for what, count in others.items() if count)])
        console.print(f"since {one.since[:16]}: {told}", markup=False, soft_wrap=True)
        console.print(f"{one.reason}.", markup=False, soft_wrap=True)


def _live(one: "MonitorResult") -> Table:
    columns = [key for key in _BACKTEST if key in one.live]
    title = f"{one.version} as of {one.moment[:16]}, {one.age_days} days after the end of its data"
    table = _table(title, ["forecasts"], ["windows", *(_BACKTEST[key] for key in columns)])

    def add(name: str, windows: str, values: Mapping[str, Any]) -> None:
        table.add_row(name, windows, *(_figure(key, values.get(key)) for key in columns))

    add("promised by the backtest", "", one.promised)
    add("live", str(sum(row["windows"] for row in one.by_age)), one.live)
    for row in one.by_age:
        to = f"to {row['to_day']:g}" if math.isfinite(row["to_day"]) else "on"
        add(f"  age {row['from_day']} {to} days", str(row["windows"]), row)
    return table


def _moved(one: "MonitorResult") -> Table:
    table = _table("inputs beside training", ["input"], ["PSI", "KS", "KS in training", "mean moved", "drifted"])
    for row in one.inputs:
        figures = (f"{row.psi:.2f}", f"{row.ks:.2f}", f"{row.usual_ks:.2f}", f"{row.moved:+.2f}")
        verdict = "yes" if row.drifted else "no" if row.judged else "not judged: training is shorter than a year"
        table.add_row(row.column, *figures, verdict)
    return table


def _beaten(found: "Backtest") -> list[str]:
    """Baselines that were better than the networks over all folds."""
    errors = {row["model"]: row["rmse"] for row in found.overall}
    ours = errors.pop("ensemble")
    better = [f"{name} ({error:.4g})" for name, error in errors.items() if error < ours]
    return [f"better than the networks ({ours:.4g}): {', '.join(better)}"] if better else []


def _by_fold(found: "Backtest") -> Table:
    models = [row["model"] for row in found.overall]
    errors = {(row["model"], row["fold"]): row["rmse"] for row in found.folds}
    table = _table("RMSE by fold", ["fold", "learned until", "forecast from", "to"], ["windows", *models])
    for number, span in enumerate(found.spans, start=1):
        times = (span[key][:16].replace("T", " ") for key in ("learned_until", "from", "to"))
        figures = (_figure("rmse", errors[model, number]) for model in models)
        table.add_row(str(number), *times, str(span["windows"]), *figures)
    return table


def _figures(found: "Reproduction") -> Table:
    table = _table(f"{found.version}, trained again", ["metric"], ["then", "now", "apart"])
    rows = {row["name"]: row for row in found.metrics}
    for row in (rows[name] for name in _SHOWN if name in rows):
        table.add_row(row["name"], *(_number(row[key], ".6g") for key in ("then", "now")), _number(row["relative"]))
    return table


def _networks(found: "Reproduction") -> Table:
    table = _table("", ["network"], ["seed", "epochs then", "epochs now", "weights apart"])
    for one in found.members:
        then = "–" if one.epochs_then is None else str(one.epochs_then)
        apart = "same bits" if one.same_bits else f"{one.difference:.2g}"
        table.add_row(one.trial, str(one.seed), then, str(one.epochs_now), apart)
    return table


def _table(title: str, names: list[str], figures: list[str]) -> Table:
    table = Table(title=title or None, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1))
    for name in names:
        table.add_column(name)
    for name in figures:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _figure(key: str, value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return "–"
    return f"{100 * value:.1f} %" if key.endswith("skill") or key.startswith("coverage") else f"{value:.3f}"


def _number(value: float | None, form: str = ".2g") -> str:
    return "–" if value is None else format(value, form)


def _console() -> Console:
    """As wide as the terminal; in a pipe or a file wide enough for every table."""
    console = Console()
    return console if console.is_terminal else Console(width=140)
