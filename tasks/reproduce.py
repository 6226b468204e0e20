"""Train a registered version again, from what its run logged, and hold the result against it."""

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
from tasks.handles import RunHandle
from tasks.normalize import cuts_of, panel_of
from tasks.registry.provenance import DataThen, Origin, origin_of
from tasks.registry.reproduction import (
    Change,
    Comparison,
    Figure,
    Member,
    differences,
    figures,
    largest_difference,
    same_bits,
)
from tasks.scoring.candidates import evaluated, forecaster_of, scored_splits
from tasks.search.fixed_trials import jobs_of, train_all, trial_of
from tasks.search.trial_folder import Result
from tasks.search.worker_pool import search_devices
from tasks.settings import folder
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
    reasons: tuple[str, ...]  # why not
    tolerance: float  # relative
    differences: tuple[str, ...]  # of the environment
    data: dict[str, Any]  # change, then, now
    metrics: tuple[dict[str, Any], ...]  # name, then, now, relative
    not_compared: tuple[str, ...]  # metrics that are known of one side alone
    members: tuple[Member, ...]
    same: dict[str, bool]  # other parts of the forecaster, to the bit
    seconds: float


@dataclass(frozen=True)
class _Again:
    """What was made anew."""

    forecaster: Forecaster
    results: list[Result]
    scores: dict[str, float]


@task(cache_policy=NO_CACHE, persist_result=False)
def reproduce(model: str, flow_run_id: str = "") -> Reproduction:
    """Train the networks of a version again and compare data, weights and metrics. Nothing is registered.

    The search is not repeated: what it proposes depends on which worker was first. Its networks are trained as its
    workers trained them, from the rows that the source holds now; panel, windows, ensemble and intervals are made anew.

    Args:
        model: see `tasks.registry.provenance.origin_of`.
        flow_run_id: of Prefect, for the record.

    Raises:
        InputError: the version, its configuration or its data can't be had.
        TrainingError: a network can't be trained any more.
    """
    started = time.perf_counter()
    origin = origin_of(model)
    devices = _devices(origin)
    with scratch_folder("reproduction", folder("work")) as scratch:
        # Any content is read, so that another one is told by its rows and not by the hash of a file.
        source = origin.config.data.model_copy(update={"sha256": None})
        table = ingest_table(source, scratch, folder("downloads"))
        change = _change(origin.data, table)
        with runs.parent_run(origin.config, table, devices, flow_run_id, "reproduction") as run:
            runs.tag(run, reproduces=origin.version, reproduces_run_id=origin.run_id)
            again = None if change == "changed" else _again(origin, table, change, devices, run, scratch)
            found = _found(origin, table, change, devices, again, run, started)
            _log(found, run)
    return found


def _devices(origin: Origin) -> list[str]:
    """Of the kind that the networks were trained on, where this machine has it."""
    config, members = origin.config, origin.forecaster.members
    model = config.model.replace(device="cpu" if _device_then(origin) == "cpu" else "auto")
    search = config.search.model_copy(update={"workers": "auto", "trials": len(members)})
    return search_devices(config.model_copy(update={"model": model, "search": search}))


def _device_then(origin: Origin) -> str:
    kinds = {member.config.device.partition(":")[0] for member in origin.forecaster.members}
    return ", ".join(sorted(kinds))


def _change(then: DataThen, table: Table) -> Change:
    """Whether the table holds other rows than then, or the same ones and newer ones."""
    if table.sha256 == then.sha256:
        return "none"
    if then.last is None or table.last <= then.last:
        return "changed"
    digest = Fingerprint()
    for piece in table.pieces():
        digest.update(piece[piece[TIME] <= then.last])
    return "appended" if digest.hexdigest() == then.sha256 else "changed"


def _again(
    origin: Origin, table: Table, change: Change, devices: Sequence[str], run: RunHandle, scratch: Path
) -> _Again:
    """A forecaster from the rows of then, and its scores, by the functions of the training flow."""
    config, then = origin.config, origin.data
    cuts = cuts_of(config, str(then.first), str(then.last)) if change == "appended" else None
    panel = panel_of(config, table, cuts, scratch)
    windows = window.fn(config, panel, scratch)
    networks = [member.config for member in origin.forecaster.members]
    jobs = jobs_of(config, windows, networks, scratch)
    results = train_all(jobs, devices, [member.epochs for member in origin.members])
    trials = [trial_of(number, *pair) for number, pair in enumerate(zip(jobs, results, strict=True))]
    splits = scored_splits(config, panel, windows)
    old = origin.forecaster
    weights = old.weights if config.ensemble.method == "greedy" else None  # which chose among all trials
    made = forecaster_of(config, table, panel, windows, splits["validation"], trials, run, weights)
    deployed, scores = evaluated(made, origin.kind, splits, config, windows, run)
    return _Again(deployed, results, scores)


def _found(
    origin: Origin,
    table: Table,
    change: Change,
    devices: Sequence[str],
    again: _Again | None,
    run: RunHandle,
    started: float,
) -> Reproduction:
    both, one_sided = ((), ()) if again is None else figures(origin.metrics, again.scores)
    now = runs.lineage(origin.config, table)
    on = (_device_then(origin), devices[0].partition(":")[0])
    comparison = Comparison(
        change=change,
        then=origin.data,
        now=DataThen(table.sha256, table.rows, table.first, table.last),
        differences=tuple(differences(origin.lineage, now, on)),
        figures=both,
        members=() if again is None else _members(origin, again),
    )
    return Reproduction(
        version=origin.version,
        training_run_id=origin.training_run_id,
        run_name=run.name,
        run_id=run.run_id,
        reproduced=not comparison.reasons,
        verdict=comparison.verdict,
        reasons=comparison.reasons,
        tolerance=comparison.tolerance,
        differences=comparison.differences,
        data={"change": change, "then": asdict(comparison.then), "now": asdict(comparison.now)},
        metrics=tuple(_row(one) for one in both),
        not_compared=one_sided,
        members=comparison.members,
        same={} if again is None else _same(origin.forecaster, again.forecaster),
        seconds=time.perf_counter() - started,
    )


def _members(origin: Origin, again: _Again) -> tuple[Member, ...]:
    networks = zip(origin.forecaster.members, again.forecaster.members, again.results, origin.members, strict=True)
    return tuple(
        Member(
            trial=told.trial,
            seed=old.config.seed,
            epochs_then=told.epochs,
            epochs_now=len(result["history"]),
            same_bits=same_bits(old.state_dict(), new.state_dict()),
            difference=largest_difference(old.state_dict(), new.state_dict()),
        )
        for old, new, result, told in networks
    )


def _row(figure: Figure) -> dict[str, Any]:
    """JSON-ready: what is no number is None."""
    values = {"then": figure.then, "now": figure.now, "relative": figure.relative}
    return {"name": figure.name, **{key: value if math.isfinite(value) else None for key, value in values.items()}}


def _same(old: Forecaster, new: Forecaster) -> dict[str, bool]:
    return {
        "normalizer": old.normalizer.to_dict() == new.normalizer.to_dict(),
        "ensemble": (old.method, old.weights) == (new.method, new.weights),
        "intervals": old.intervals.to_dict() == new.intervals.to_dict(),
    }


def _log(found: Reproduction, run: RunHandle) -> None:
    text = json.dumps(asdict(found), default=str, indent=1)
    runs.client().log_text(run.run_id, text, "reproduction.json")
    runs.log(run, {one["name"]: one["now"] for one in found.metrics if one["now"] is not None})
    runs.tag(run, reproduced=str(found.reproduced).lower(), verdict=found.verdict)
