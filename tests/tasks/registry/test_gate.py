"""The gate, with real forecasters that are registered in a temporary store."""

import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
import torch

from lstm.data.panel_store import PanelStore
from lstm.errors import StoreError
from tasks.handles import Candidate, Evaluation, RunHandle
from tasks.register import register
from tasks.registry import models
from tasks.registry.decision import GateDecision
from tasks.registry.gate import GateCase, serves
from tasks.registry.versions import alias_version, version_tags
from tasks.run_context import PreparedData, RunContext
from tasks.tracking import runs
from tests.support.forecasters import shift_forecasts, untrained_forecaster
from tests.support.prepared_data import prepare

FOLDS = 4
pytestmark = pytest.mark.filterwarnings("ignore:Operation with range")  # mlflow's, when it saves an input example


@dataclass
class Shops:
    """Prepared data, and the end of a training flow: candidates are scored and registered."""

    parts: tuple[Any, ...]  # configuration, table, panel, windows
    folder: Path

    @property
    def config(self):
        return self.parts[0]

    @property
    def test(self):
        return PreparedData.open(*self.parts).splits["test"]

    def forecaster(self, by: float = 0.0, **changes):
        """Return a forecaster of yesterday's values plus `by` (normalised)."""
        forecaster = untrained_forecaster(self.config, self.parts[2], anchor="seasonal", season=24)
        with torch.no_grad():
            for member in forecaster.members:
                member.head.out.weight.zero_()
                member.head.out.bias.zero_()
        return replace(shift_forecasts(forecaster, by), **changes)

    def evaluation(self, forecaster, kind="best-ensemble", **scores):
        """Return the evaluation of a saved candidate and persistence on the test windows."""
        test, number = self.test, len(list(self.folder.glob("candidate-*")))
        forecaster.save(self.folder / f"candidate-{number}")
        rows = {
            kind: forecaster.forecast_windows(test.windows),
            "persistence": np.repeat(test.windows.targets.numpy()[test.windows.origins - 1][:, None], 6, axis=1),
        }
        errors = {name: test.denormalize(row) - test.denormalize(test.actual) for name, row in rows.items()}
        folds = {name: self.by_fold(error, test.times) for name, error in errors.items()}
        rmse = {name: float(np.sqrt(np.mean(np.square(error)))) for name, error in errors.items()}
        values = {"val_rmse": 1.0, "test_rmse": rmse[kind], "test_rmse_skill": 0.0, **scores}
        run = runs.start_run(runs.experiment_id("shops"), kind, {})
        candidate = Candidate(kind, self.folder / f"candidate-{number}", run.run_id, kind, values)
        other = replace(candidate, kind="best-single", scores={**values, "val_rmse": 2.0})
        board = ({"name": "persistence", "test_rmse": rmse["persistence"]},)
        return Evaluation((other, candidate), (), board, folds, self.folder, ())

    @staticmethod
    def by_fold(error, times):
        edges = np.quantile(times.astype("int64"), np.linspace(0, 1, FOLDS + 1)[1:-1])
        fold = np.searchsorted(edges, times.astype("int64"))
        return tuple(float(np.sqrt(np.mean(np.square(error[fold == number])))) for number in range(FOLDS))

    def register(self, forecaster, **scores) -> tuple[GateDecision, RunHandle]:
        run = runs.start_run(runs.experiment_id("shops"), "train", {})
        return register.fn(RunContext(*self.parts, run), self.evaluation(forecaster, **scores)), run

    def aliases(self):
        names = ("champion", "challenger", "previous")
        return {name: number for name in names if (number := alias_version("shops", name)) is not None}


@pytest.fixture
def shops(hourly, store, tmp_path):
    changes = {"register": {"gate": {"beats": "persistence"}}, "evaluate": {"season": 24}}
    return Shops(prepare(hourly, tmp_path, **changes), tmp_path)


@pytest.mark.slow
def test_the_gate_judges_worse_broken_equal_and_better_candidates(shops):
    first, _ = shops.register(shops.forecaster(by=0.5))
    assert first.champion and first.reason.endswith("; there was no champion")
    assert shops.aliases() == {"champion": 2}  # 1 is the best single model

    worse, _ = shops.register(shops.forecaster(by=0.55))
    assert not worse.champion and worse.p_value > 0.9 and worse.effect < 0
    assert worse.reason.startswith("does not beat the champion, version 2, on the same 115 origins of the test span")

    broken, _ = shops.register(shops.forecaster(by=float("nan")))
    assert not broken.champion and [check.passed for check in broken.checks] == [False]
    assert broken.reason == "its forecast of the newest rows is not finite"

    equal, _ = shops.register(shops.forecaster(by=-0.5))
    assert not equal.champion and abs(equal.effect) < 0.05
    assert "p is not below alpha 0.05" in equal.reason

    same = shops.forecaster(by=0.5)
    twin, _ = shops.register(replace(same, name="another"))
    assert not twin.champion and twin.p_value is None
    assert twin.reason.startswith("is equal to the champion, version 2: the same forecasts")
    assert shops.aliases() == {"champion": 2, "challenger": twin.version}

    better, run = shops.register(shops.forecaster())
    assert better.champion and better.p_value < 0.05 and better.effect > 0.1
    assert [check.name for check in better.checks if check.passed] == ["serves", "baseline", "champion"]
    assert shops.aliases() == {"champion": better.version, "previous": 2, "challenger": twin.version}
    tell_the_same(better, run)


def tell_the_same(promotion, run):
    """Check that decision, `promotion.json` and tags of the version agree."""
    path = mlflow.artifacts.download_artifacts(run_id=run.run_id, artifact_path="promotion.json")
    decision = json.loads(Path(path).read_text())
    assert decision == json.loads(json.dumps(promotion.to_dict()))
    tags = version_tags("shops", promotion.version)
    assert (tags["gate"], tags["gate_against"], tags["gate_reason"]) == ("champion", "2", promotion.reason)
    assert tags["gate_passed"] == "serves,baseline,champion"
    for name in ("p_value", "statistic", "effect", "test_rmse", "incumbent_test_rmse", "baseline_test_rmse"):
        assert float(tags[f"gate_{name}"]) == pytest.approx(decision[name], rel=1e-5)
    assert (int(tags["gate_origins"]), int(tags["gate_folds_won"]), int(tags["gate_folds"])) == (115, 4, 4)


def test_a_candidate_that_loses_to_the_baseline_is_not_compared_to_the_champion(shops):
    promotion, _ = shops.register(shops.forecaster(by=9))
    assert not promotion.champion and promotion.incumbent_version is None
    assert "does not beat persistence" in promotion.reason
    assert [(check.name, check.passed) for check in promotion.checks] == [("serves", True), ("baseline", False)]
    assert shops.aliases() == {"challenger": 2}


def test_a_rerun_registers_nothing_twice_and_keeps_its_champion(shops):
    first, _ = shops.register(shops.forecaster())
    again, _ = shops.register(shops.forecaster(lineage={"run_id": "another"}))
    assert again.champion and again.version == first.version == again.incumbent_version
    assert again.reason == "is the champion already"
    assert again.notice == "version 2 is the same model: it was not registered again"
    assert first.notice == ""
    assert sorted(row["version"] for row in models.list_versions("shops")) == [1, 2]
    assert shops.aliases() == {"champion": first.version}
    assert version_tags("shops", first.version)["gate_reason"] == first.reason


def case_of(shops, forecaster) -> GateCase:
    """Return the case of a registered forecaster that was not judged."""
    from tasks.register import _register_version
    from tasks.registry.packaging import build_input_example

    evaluation = shops.evaluation(forecaster)
    example = build_input_example(shops.config, shops.parts[1], PanelStore.load(shops.parts[2].folder).names)
    number, _ = _register_version(shops.config, evaluation.proposed, example)
    return GateCase(PreparedData.open(*shops.parts), evaluation, evaluation.proposed, number, example)


def test_a_version_serves_the_forecasters_own_numbers(shops):
    mlflow.set_tracking_uri(runs.client().tracking_uri)
    case, path = case_of(shops, shops.forecaster()), list(sys.path)
    assert serves(case).passed
    assert sys.path == path


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda case: replace(case, version=99), "can't be served: "),
        (lambda case: replace(case, example=case.example.tail(3)), "needs 24 rows of history"),
        (lambda case: replace(case, candidate=replace(case.candidate, folder=Path("gone"))), "holds no forecaster"),
    ],
)
def test_a_version_that_can_not_be_served_fails_with_a_reason(shops, spoil, message):
    mlflow.set_tracking_uri(runs.client().tracking_uri)
    verdict = serves(spoil(case_of(shops, shops.forecaster())))
    assert not verdict.passed and message in verdict.reason and "\n" not in verdict.reason


def test_a_version_that_serves_another_model_fails(shops, tmp_path):
    mlflow.set_tracking_uri(runs.client().tracking_uri)
    case = case_of(shops, shops.forecaster())
    shops.forecaster(by=1e-6).save(tmp_path / "other")
    verdict = serves(replace(case, candidate=replace(case.candidate, folder=tmp_path / "other")))
    assert verdict.reason == "column 'forecast' is served with other values than the forecaster's own"


@pytest.mark.slow
def test_without_the_champions_files_the_candidate_becomes_challenger(shops, monkeypatch):
    shops.register(shops.forecaster(by=0.5))
    champion = runs.client().get_model_version_download_uri("shops", "2")
    download = mlflow.artifacts.download_artifacts

    def silent(artifact_uri, **more):
        if artifact_uri == champion:
            raise OSError("no route to host")
        return download(artifact_uri=artifact_uri, **more)

    monkeypatch.setattr(mlflow.artifacts, "download_artifacts", silent)
    with pytest.raises(StoreError, match=r"no route to host.*Nothing is promoted over it: shops/\d+ is the challenger"):
        shops.register(shops.forecaster())
    assert shops.aliases() == {"champion": 2, "challenger": 4}
