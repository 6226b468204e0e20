"""Train a registered version again from its logged configuration and data, and compare the results."""

import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from lstm.data.fingerprint import Fingerprint
from lstm.data.ingest import Table, ingest_table
from lstm.data.rows import TIME
from lstm.forecasting.forecaster import Forecaster
from lstm.scratch import scratch_folder
from tasks.handles import RunHandle, Trial
from tasks.normalize import prepare_panel, split_cuts
from tasks.registry.provenance import Provenance, TrainingData, load_provenance
from tasks.registry.reproduction import (
    DataChange,
    MemberComparison,
    MetricPair,
    ReproductionCheck,
    environment_differences,
    largest_difference,
    pair_metrics,
    same_bits,
)
from tasks.run_context import PreparedData
from tasks.scoring.candidates import score_forecaster
from tasks.search.fixed_trials import make_jobs, train_networks
from tasks.search.trial_folder import history_of
from tasks.search.worker_pool import search_devices
from tasks.settings import store_folder
from tasks.tracking import runs
from tasks.window import window


@dataclass(frozen=True)
class Reproduction:
    """The content of `reproduction.json`; JSON-ready with `dataclasses.asdict`."""

    version: str
    training_run_id: str  # of the version
    run_name: str
    run_id: str  # of this comparison
    reproduced: bool
    verdict: str
    reasons: tuple[str, ...]  # why it counts as not reproduced
    tolerance: float  # relative
    differences: tuple[str, ...]  # of the environment
    data: dict[str, Any]  # change, then, now
    metrics: tuple[dict[str, Any], ...]  # name, then, now, relative
    not_compared: tuple[str, ...]  # metrics that only one side has
    members: tuple[MemberComparison, ...]
    same: dict[str, bool]  # whether the other parts of the forecaster are equal
    seconds: float


@dataclass(frozen=True)
class _Retrained:
    """The result of training again."""

    forecaster: Forecaster
    trials: list[Trial]
    scores: dict[str, float]


@task(cache_policy=NO_CACHE, persist_result=False)
def reproduce(model: str, flow_run_id: str = "") -> Reproduction:
    """Train the networks of a version again and compare data, weights and metrics. Nothing is registered.

    The search is not repeated, since its suggestions depend on the order in which workers finish. Only the networks of
    the version are trained, from the rows that the source holds now; panel, windows, ensemble and intervals follow.

    Args:
        model: see `tasks.registry.provenance.load_provenance`.
        flow_run_id: of Prefect, for the record.

    Raises:
        InputError: the version, its configuration or its data can't be read.
        TrainingError: a network can't be trained.
    """
    started = time.perf_counter()
    provenance = load_provenance(model)
    devices = _select_devices(provenance)
    with scratch_folder("reproduction", store_folder("work")) as scratch:
        # Without the file's hash, changed data are read and reported by their rows.
        source = provenance.config.data.model_copy(update={"sha256": None})
        table = ingest_table(source, scratch, store_folder("downloads"))
        change = _data_change(provenance.data, table)
        with runs.parent_run(provenance.config, table, devices, flow_run_id, "reproduction") as run:
            runs.tag(run, reproduces=provenance.version, reproduces_run_id=provenance.run_id)
            retrained = None if change == "changed" else _retrain(provenance, table, change, devices, run, scratch)
            result = _compare(provenance, table, change, devices, retrained, run, started)
            _log(result, run)
    return result


def _select_devices(provenance: Provenance) -> list[str]:
    """Return devices of the type that the networks were trained on, if this machine has them."""
    config, members = provenance.config, provenance.forecaster.members
    model = config.model.replace(device="cpu" if _trained_device(provenance) == "cpu" else "auto")
    search = config.search.model_copy(update={"workers": "auto", "trials": len(members)})
    return search_devices(config.model_copy(update={"model": model, "search": search}))


def _trained_device(provenance: Provenance) -> str:
    kinds = {member.config.device.partition(":")[0] for member in provenance.forecaster.members}
    return ", ".join(sorted(kinds))


def _data_change(expected: TrainingData, table: Table) -> DataChange:
    """Return whether the table has the expected rows, those and newer ones, or others."""
    if table.sha256 == expected.sha256:
        return "none"
    if expected.last is None or table.last <= expected.last:
        return "changed"
    digest = Fingerprint()
    for piece in table.pieces():
        digest.update(piece[piece[TIME] <= expected.last])
    return "appended" if digest.hexdigest() == expected.sha256 else "changed"


def _retrain(
    provenance: Provenance, table: Table, change: DataChange, devices: Sequence[str], run: RunHandle, scratch: Path
) -> _Retrained:
    """Train and score a forecaster from the original rows, with the functions of the training flow."""
    config, original = provenance.config, provenance.data
    cuts = split_cuts(config, str(original.first), str(original.last)) if change == "appended" else None
    panel = prepare_panel(config, table, cuts, scratch)
    windows = window.fn(config, panel, scratch)
    networks = [member.config for member in provenance.forecaster.members]
    jobs = make_jobs(config, windows, networks, scratch)
    trials = train_networks(jobs, devices, [member.epochs for member in provenance.members])
    data = PreparedData.open(config, table, panel, windows)
    # Greedy weights selected among all trials; the others follow from the members alone.
    weights = provenance.forecaster.weights if config.ensemble.method == "greedy" else None
    deployed, scores = score_forecaster(data, provenance.kind, trials, run, weights)
    return _Retrained(deployed, trials, scores)


def _compare(
    provenance: Provenance,
    table: Table,
    change: DataChange,
    devices: Sequence[str],
    retrained: _Retrained | None,
    run: RunHandle,
    started: float,
) -> Reproduction:
    metrics, unpaired = ((), ()) if retrained is None else pair_metrics(provenance.metrics, retrained.scores)
    lineage = runs.lineage(provenance.config, table)
    trained_on = (_trained_device(provenance), devices[0].partition(":")[0])
    comparison = ReproductionCheck(
        change=change,
        expected_data=provenance.data,
        actual_data=TrainingData(table.sha256, table.rows, table.first, table.last),
        differences=tuple(environment_differences(provenance.lineage, lineage, trained_on)),
        metrics=metrics,
        members=() if retrained is None else _compare_members(provenance, retrained),
    )
    return Reproduction(
        version=provenance.version,
        training_run_id=provenance.training_run_id,
        run_name=run.name,
        run_id=run.run_id,
        reproduced=not comparison.reasons,
        verdict=comparison.verdict,
        reasons=comparison.reasons,
        tolerance=comparison.tolerance,
        differences=comparison.differences,
        data={"change": change, "then": asdict(provenance.data), "now": asdict(comparison.actual_data)},
        metrics=tuple(_metric_row(pair) for pair in metrics),
        not_compared=unpaired,
        members=comparison.members,
        same={} if retrained is None else _equal_parts(provenance.forecaster, retrained.forecaster),
        seconds=time.perf_counter() - started,
    )


def _compare_members(provenance: Provenance, retrained: _Retrained) -> tuple[MemberComparison, ...]:
    networks = zip(
        provenance.forecaster.members, retrained.forecaster.members, retrained.trials, provenance.members, strict=True
    )
    return tuple(
        MemberComparison(
            trial=member.trial,
            seed=old.config.seed,
            epochs_then=member.epochs,
            epochs_now=len(history_of(trial.folder)),
            same_bits=same_bits(old.state_dict(), new.state_dict()),
            difference=largest_difference(old.state_dict(), new.state_dict()),
        )
        for old, new, trial, member in networks
    )


def _metric_row(pair: MetricPair) -> dict[str, Any]:
    """Return a JSON-ready row, with None for values that are not finite."""
    values = {"then": pair.expected, "now": pair.actual, "relative": pair.relative}
    return {"name": pair.name, **{key: value if math.isfinite(value) else None for key, value in values.items()}}


def _equal_parts(old: Forecaster, new: Forecaster) -> dict[str, bool]:
    return {
        "normalizer": old.normalizer.to_dict() == new.normalizer.to_dict(),
        "ensemble": (old.method, old.weights) == (new.method, new.weights),
        "intervals": old.intervals.to_dict() == new.intervals.to_dict(),
    }


def _log(result: Reproduction, run: RunHandle) -> None:
    text = json.dumps(asdict(result), default=str, indent=1)
    runs.client().log_text(run.run_id, text, "reproduction.json")
    runs.log(run, {row["name"]: row["now"] for row in result.metrics if row["now"] is not None})
    runs.tag(run, reproduced=str(result.reproduced).lower(), verdict=result.verdict)
