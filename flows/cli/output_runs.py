"""Output of the commands reproduce, backtest and monitor."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from flows.cli.tables import make_console, print_table
from tasks.reporting.tables import METRIC_LABELS, Table, format_metric, make_table

if TYPE_CHECKING:
    from tasks.backtest import Backtest
    from tasks.monitoring.result import MonitorResult
    from tasks.reproduce import Reproduction

_REPRODUCED = ("val_rmse", "val_mae", "test_rmse", "test_mae", "test_mase", "test_coverage_80", "test_coverage_95")
_BACKTEST = ("rmse", "mae", "mase", "crps", "rmse_skill", "coverage_80", "coverage_95")


def show_reproduction(result: "Reproduction") -> None:
    """Print metrics and networks of both trainings, differences of the environment, and the verdict."""
    console = make_console()
    if result.metrics:
        print_table(console, _metrics_then_and_now(result))
        print_table(console, _networks_then_and_now(result))
    for line in result.differences:
        console.print(f"environment, {line}", markup=False, soft_wrap=True)
    for line in result.reasons:
        console.print(f"reason: {line}", markup=False, soft_wrap=True)
    console.print(f"{result.version}: {result.verdict}.", markup=False, soft_wrap=True)
    details = f"All metrics: run {result.run_name}, reproduction.json"
    console.print(f"time: {result.seconds:.0f} s. {details}", soft_wrap=True)


def show_backtest(result: "Backtest") -> None:
    """Print every model's means over the folds, RMSE and times by fold, and the notices."""
    console = make_console()
    keys = [key for key in _BACKTEST if any(key in row for row in result.overall)]
    columns = ("model", *(METRIC_LABELS[key] for key in keys))
    rows = [(row["model"], *(format_metric(key, row.get(key)) for key in keys)) for row in result.overall]
    print_table(console, make_table(f"{result.name}: {result.run_name}", columns, rows))
    print_table(console, _rmse_by_fold(result))
    for line in (*result.notices, *_better_baselines(result)):
        console.print(f"note: {line}", markup=False, soft_wrap=True)
    fitted = "fitted anew before each fold" if result.refit else "fitted once, before the first fold"
    console.print(
        f"{result.networks} networks trained, everything {fitted}; the first table shows means over the folds."
    )
    seconds = result.seconds
    console.print(
        f"time: {sum(seconds.values()):.0f} s, of which training {seconds['train']:.0f} s. All metrics: run "
        f"{result.run_name}, backtest.csv",
        soft_wrap=True,
    )


def show_monitoring(results: "Sequence[MonitorResult]") -> None:
    """Print each model's live and promised metrics, metrics by age, the inputs, and the verdict."""
    console = make_console()
    for result in results:
        if result.live:
            print_table(console, _live_metrics(result))
            print_table(console, _input_shifts(result))
        for line in result.warnings:
            console.print(f"input moved: {line}", markup=False, soft_wrap=True)
        counts = [f"{result.forecasts} forecasts, {result.waiting} of them wait for their actual values"]
        others = {"by other versions": result.others, "repeated": result.repeated}
        counts += [f"{count} {label}" for label, count in others.items() if count]
        console.print(f"since {result.since[:16]}: {', '.join(counts)}", markup=False, soft_wrap=True)
        console.print(f"{result.reason}.", markup=False, soft_wrap=True)


def _live_metrics(result: "MonitorResult") -> Table:
    keys = [key for key in _BACKTEST if key in result.live]
    title = f"{result.version} as of {result.moment[:16]}, {result.age_days} days after the end of its data"

    def row(name: str, windows: str, metrics: Mapping[str, Any]) -> tuple[str, ...]:
        return name, windows, *(format_metric(key, metrics.get(key)) for key in keys)

    rows = [
        row("promised by the backtest", "", result.promised),
        row("live", str(sum(age["windows"] for age in result.by_age)), result.live),
    ]
    for age in result.by_age:
        end = f"to {age['to_day']:g}" if math.isfinite(age["to_day"]) else "on"
        rows.append(row(f"  age {age['from_day']} {end} days", str(age["windows"]), age))
    return make_table(title, ("forecasts", "windows", *(METRIC_LABELS[key] for key in keys)), rows)


def _input_shifts(result: "MonitorResult") -> Table:
    rows = []
    for shift in result.inputs:
        numbers = (f"{shift.psi:.2f}", f"{shift.ks:.2f}", f"{shift.usual_ks:.2f}", f"{shift.moved:+.2f}")
        verdict = "yes" if shift.drifted else "no" if shift.judged else "not judged: training is shorter than a year"
        rows.append((shift.column, *numbers, verdict))
    columns = ("input", "PSI", "KS", "KS in training", "mean moved", "drifted")
    return make_table("inputs compared with training", columns, rows)


def _better_baselines(result: "Backtest") -> list[str]:
    """Return a notice of the baselines with lower errors than the networks over all folds."""
    errors = {row["model"]: row["rmse"] for row in result.overall}
    ours = errors.pop("ensemble")
    better = [f"{name} ({error:.4g})" for name, error in errors.items() if error < ours]
    return [f"better than the networks ({ours:.4g}): {', '.join(better)}"] if better else []


def _rmse_by_fold(result: "Backtest") -> Table:
    models = [row["model"] for row in result.overall]
    errors = {(row["model"], row["fold"]): row["rmse"] for row in result.folds}
    rows = []
    for number, span in enumerate(result.spans, start=1):
        times = (span[key][:16].replace("T", " ") for key in ("learned_until", "from", "to"))
        metrics = (format_metric("rmse", errors[model, number]) for model in models)
        rows.append((str(number), *times, str(span["windows"]), *metrics))
    times_columns = ("learned until", "forecast from", "to")
    return make_table("RMSE by fold", ("fold", *times_columns, "windows", *models), rows, times_columns)


def _metrics_then_and_now(result: "Reproduction") -> Table:
    by_name = {row["name"]: row for row in result.metrics}
    rows = [
        (name, _number(row["then"], ".6g"), _number(row["now"], ".6g"), _number(row["relative"], ".2g"))
        for name, row in ((name, by_name[name]) for name in _REPRODUCED if name in by_name)
    ]
    return make_table(f"{result.version}, trained again", ("metric", "then", "now", "apart"), rows)


def _networks_then_and_now(result: "Reproduction") -> Table:
    rows = []
    for member in result.members:
        then = "–" if member.epochs_then is None else str(member.epochs_then)
        apart = "same bits" if member.same_bits else f"{member.difference:.2g}"
        rows.append((member.trial, str(member.seed), then, str(member.epochs_now), apart))
    return make_table("", ("network", "seed", "epochs then", "epochs now", "weights apart"), rows)


def _number(value: float | None, spec: str) -> str:
    return "–" if value is None else format(value, spec)
