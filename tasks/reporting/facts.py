"""Labels and values of the report's sections on the gate, the data and the lineage."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from tasks.reporting.tables import format_metric

_LINEAGE_LABELS = {
    "run_id": "MLflow run",
    "run_name": "run name",
    "prefect_flow_run_id": "Prefect flow run",
    "data_sha256": "data, sha256",
    "config_sha256": "configuration, sha256",
    "git_commit": "git commit",
    "lock_sha256": "requirements.lock, sha256",
    "seed": "seed",
    "device": "device",
    "packages": "packages",
}
_GATE_LABELS = {
    "test_rmse": "test RMSE",
    "val_rmse": "validation RMSE",
    "baseline_test_rmse": "test RMSE of the baseline",
    "folds_won": "folds won",
    "folds": "folds",
    "incumbent_version": "champion until then, version",
    "incumbent_test_rmse": "test RMSE of that champion",
    "effect": "share of its error that is gone",
    "min_effect": "least share that counts",
    "statistic": "Diebold–Mariano statistic",
    "p_value": "p value",
    "alpha": "alpha",
    "origins": "origin times compared",
    "freedom": "degrees of freedom",
}


def gate_facts(promotion: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield labels and values of a decision, as in promotion.json."""
    yield from ((label, _gate_value(key, promotion.get(key))) for key, label in _GATE_LABELS.items())


def _gate_value(key: str, value: Any) -> str:
    if value is None:
        return ""
    if key in ("p_value", "alpha"):
        return f"{value:.3g}"
    return format_metric("skill" if key in ("effect", "min_effect") else key, value)


def data_facts(summary: Mapping[str, Any], data: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield labels and values of the data: profile/summary.json, and the configuration's section `data`."""
    source = data.get("source", "")
    yield "source", f"{source.get('sql')} ({source.get('uri')})" if isinstance(source, dict) else str(source)
    if summary.get("first"):
        yield "span", _span((summary["first"], summary["last"]))
    yield "frequency", str(summary.get("frequency") or data.get("frequency", ""))
    for key, label in (("rows", "rows"), ("series", "series"), ("season", "steps of a season")):
        if summary.get(key) is not None:
            yield label, f"{summary[key]:,}"
    for split, span in (summary.get("splits") or {}).items():
        yield split, _span(span)
    if summary.get("missing") is not None:
        counts = (
            f"{summary['missing']:,} of {summary['steps']:,} without a target, {summary['filled']:,} of them filled"
        )
        yield "steps", f"{counts}; {summary['gaps']:,} gaps, the longest of {summary['longest_gap']:,}"
    if summary.get("left_out") is not None:
        yield "series left out", f"{summary['left_out']:,}"
    if summary.get("drift_psi_max") is not None:
        yield "largest drift between splits", f"PSI {summary['drift_psi_max']:.2f}, {summary.get('drift_column')}"
    if summary.get("sha256"):
        yield "sha256 of the prepared table", str(summary["sha256"])


def _span(times: Sequence[str]) -> str:
    """Format start and end, without seconds if they are zero."""
    shown = [pd.Timestamp(time).strftime("%Y-%m-%d %H:%M:%S").removesuffix(":00") for time in times]
    return f"{' to '.join(shown)} UTC"


def lineage_facts(lineage: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield labels and values of the lineage; unknown keys are their own labels."""
    for key in (*_LINEAGE_LABELS, *(key for key in lineage if key not in _LINEAGE_LABELS)):
        value = lineage.get(key)
        if isinstance(value, Mapping):
            value = ", ".join(f"{name} {number}" for name, number in value.items())
        if value:
            yield _LINEAGE_LABELS.get(key, key.replace("_", " ")), str(value)
