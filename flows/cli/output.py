"""Output of the commands: tables and JSON."""

import json
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from flows.cli.tables import html_page, make_console, print_table
from tasks.reporting.tables import METRIC_LABELS, Cell, Table, format_metric, make_table, metric_cell, networks
from tasks.runtime.json_values import nan_to_null
from tasks.settings import tracking_uri, without_password

if TYPE_CHECKING:
    from flows.partitions import Segments
    from flows.pipeline import Outcome
    from tasks.registry.promotion import ChampionChange

_MAX_NETWORKS = 10  # listed below the leaderboard
_LEADERBOARD = (
    *("val_rmse", "test_rmse", "test_mae", "test_mase", "test_rmse_skill"),
    *("test_coverage_80", "test_coverage_95"),
)
_SEGMENTS = ("val_rmse", "test_rmse", "test_rmse_skill")
_VERSIONS = ("val_rmse", "test_rmse", "test_rmse_skill", "test_coverage_80", "test_coverage_95")  # in the terminal


def as_json(value: Any) -> str:
    """Return standard JSON; floats that are not finite become null."""
    return json.dumps(nan_to_null(value), allow_nan=False)


def outcome_json(outcome: "Outcome", seconds: float) -> dict[str, Any]:
    """Return the outcome of a training run, JSON-ready."""
    return {**asdict(outcome), "seconds": {**outcome.seconds, "total": seconds}}


@contextmanager
def print_forecast_notes() -> Iterator[None]:
    """Print a note to stderr, in one line, if a forecast goes beyond the trained horizon."""
    from lstm.forecasting.rolling import RollingForward

    with warnings.catch_warnings():
        show_other = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *location: Any, **options: Any) -> None:
            if issubclass(category, RollingForward):
                print(f"lstm: note: {message}", file=sys.stderr)
            else:
                show_other(message, category, *location, **options)

        warnings.simplefilter("always", RollingForward)
        warnings.showwarning = show
        yield


def show_outcome(outcome: "Outcome", seconds: float) -> None:
    """Print leaderboard, networks, notices, findings, the champion, times, and the next commands."""
    console = make_console()
    print_table(console, _leaderboard(outcome))
    print_table(console, networks(outcome.trials, _MAX_NETWORKS, join_params=True))
    for label, lines in (("note", outcome.notices), ("finding", outcome.findings), ("advice", outcome.advisories)):
        for line in lines:
            console.print(f"{label}: {line}", markup=False, soft_wrap=True)
    promotion = outcome.promotion
    role = "champion" if promotion.champion else "challenger"
    verdict = f"{role}: {outcome.name} version {promotion.version} ({promotion.kind}): {promotion.reason}."
    console.print(verdict, markup=False, soft_wrap=True)
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
    """Print one line per segment, the number of champions, and the next commands."""
    console = make_console()
    rows = []
    for row in outcome.rows:
        proposed = "none: failed" if row.error else f"version {row.version}" + (" ★" if row.champion else "")
        duration = "–" if row.seconds is None else f"{row.seconds:.0f}"
        metrics = (format_metric(key, getattr(row, key)) for key in _SEGMENTS)
        rows.append((row.name, proposed, *metrics, duration))
    columns = ("model", "proposed", *(METRIC_LABELS[key] for key in _SEGMENTS), "seconds")
    print_table(console, make_table(f"{outcome.name}: {len(outcome.rows)} segments", columns, rows, ["proposed"]))
    champions = sum(row.champion for row in outcome.rows)
    console.print(
        f"★ the proposed version is champion: {champions} of {len(outcome.rows)}; failed: {len(outcome.failed)}."
    )
    console.print(f"time: {seconds:.0f} s.")
    if trained := [row for row in outcome.rows if not row.error]:
        console.print(f"look: lstm compare {trained[0].name} · use: lstm forecast {trained[0].name}", soft_wrap=True)


def show_versions(name: str, rows: list[dict[str, Any]]) -> None:
    """Print the registered versions and the gate's decisions. The HTML page and the JSON hold more metrics."""
    console = make_console()
    print_table(console, _versions_table(name, rows, _VERSIONS, ("version", "aliases", "kind")))
    for row in rows:
        for line in _decisions(row):
            console.print(f"version {row['version']}: {line}", markup=False, highlight=False, soft_wrap=True)


def versions_page(name: str, rows: list[dict[str, Any]]) -> str:
    """Return the registered versions and the gate's decisions as an HTML page."""
    table = _versions_table(name, rows, _LEADERBOARD, ("version", "aliases", "kind", "run"), decisions=True)
    return html_page(f"{name}: versions", name, table)


def _versions_table(
    name: str, rows: list[dict[str, Any]], keys: Sequence[str], texts: tuple[str, ...], decisions: bool = False
) -> Table:
    keys = [key for key in keys if any(key in row for row in rows)]
    cells = []
    for row in rows:
        values = {**row, "version": str(row["version"]), "aliases": ", ".join(row["aliases"])}
        last = (Cell("; ".join(_decisions(row))),) if decisions else ()
        cells.append((*(Cell(values[text]) for text in texts), *(metric_cell(key, row) for key in keys), *last))
    gate = ("gate",) if decisions else ()
    return Table(
        (*texts, *(METRIC_LABELS[key] for key in keys), *gate),
        tuple(cells),
        title=name,
        text_columns=frozenset((*texts, *gate)),
        highlighted=frozenset(number for number, row in enumerate(rows) if "champion" in row["aliases"]),
    )


def show_champion_change(move: "ChampionChange") -> None:
    """Print the new and the previous champion."""
    previous = f"; version {move.previous} is previous" if move.previous is not None else ""
    notice = f" ({move.notice})" if move.notice else ""
    print(f"{move.name}: version {move.version} is champion{notice}{previous}")


def _decisions(row: dict[str, Any]) -> list[str]:
    """Return the recorded decisions about a version."""
    lines = [f"{row['gate']}: {row['gate_reason']}"] if "gate" in row else []
    if "forced_by" in row:
        lines.append(f"forced by {row['forced_by']} at {row['forced_at']} ({row['forced_reason']})")
    if "rolled_back_by" in row:
        lines.append(
            f"rolled back to version {row['rolled_back_to']} by {row['rolled_back_by']} at {row['rolled_back_at']}"
        )
    return lines


def show_doctor_report(report: dict[str, Any]) -> None:
    """Print versions, devices, stores and problems."""
    console = make_console()
    console.print(f"python {report['python']} on {report['platform']}")
    console.print("  ".join(f"{name} {number}" for name, number in report["packages"].items()))
    for device in report["devices"]:
        console.print(device)
    for name, location in report["stores"].items():
        console.print(f"{name}: {location}", soft_wrap=True)
    repairs = report.get("repairs", {"lines": (), "left": ()})
    labelled = (("repaired", repairs["lines"]), ("not repaired", repairs["left"]), ("problem", report["problems"]))
    for label, lines in (*labelled, ("interrupted", report["interrupted"])):
        for line in lines:
            console.print(f"{label}: {line}", markup=False, highlight=False, soft_wrap=True)
    if report["problems"] and "repairs" not in report:
        console.print("repair: lstm doctor --repair")
    elif not (report["problems"] or report["unreachable"]):
        console.print("healthy: dead processes have left nothing to repair")


def _leaderboard(outcome: "Outcome") -> Table:
    keys = [key for key in _LEADERBOARD if any(key in row for row in outcome.leaderboard)]
    rows = []
    for row in outcome.leaderboard:
        is_champion = outcome.promotion.champion and row["kind"] == outcome.promotion.kind
        rows.append((row["name"] + (" ★" if is_champion else ""), *(format_metric(key, row.get(key)) for key in keys)))
    return make_table(f"{outcome.name}: {outcome.run_name}", ("model", *(METRIC_LABELS[key] for key in keys)), rows)
