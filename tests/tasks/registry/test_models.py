"""Loading by registered name, and which champions a candidate may replace."""

import shutil
from dataclasses import replace

import mlflow
import numpy as np
import pytest
from mlflow.exceptions import MlflowException

from lstm.errors import CheckpointError, StoreError
from tasks.handles import Candidate, Evaluation
from tasks.registry.decision import Check
from tasks.registry.gate import GateCase, judge
from tasks.registry.models import fingerprint, list_versions, load_forecaster
from tasks.registry.versions import alias_version, find_version, set_alias
from tasks.run_context import PreparedData
from tasks.tracking import runs
from tests.support.forecasters import shift_forecasts, untrained_forecaster
from tests.support.prepared_data import prepare

PASSED = (Check("serves", True, "served"), Check("baseline", True, "beats seasonal_naive"))


@pytest.fixture
def shops(hourly, store, tmp_path):
    """Prepared data, a function that registers a forecaster as champion, and one that judges a candidate."""
    config, table, panel, windows = prepare(hourly, tmp_path)

    def champion(forecaster):
        folder = tmp_path / f"champion-{len(list(tmp_path.glob('champion-*')))}"
        forecaster.save(folder / "artifacts")
        client = runs.client()
        if not client.search_registered_models():
            client.create_registered_model("shops")
        version = client.create_model_version("shops", (folder / "artifacts").as_uri(), await_creation_for=0)
        set_alias("shops", "champion", int(version.version))
        return folder / "artifacts"

    def judged(candidate):
        candidate.save(tmp_path / "candidate")
        scores = {"val_rmse": 1.0, "test_rmse": 1.0}
        best = Candidate("best-single", tmp_path / "candidate", "", "trial-000", scores)
        folds = {"trial-000": (1.0, 1.0), "seasonal_naive": (2.0, 2.0)}
        evaluation = Evaluation((best,), (), ({"name": "seasonal_naive", "test_rmse": 2.0},), folds, tmp_path, ())
        case = GateCase(PreparedData.open(config, table, panel, windows), evaluation, best, 7, table.read_rows())
        return judge(case, PASSED, alias_version("shops", "champion"))

    return (config, panel), champion, judged


def test_a_forecaster_is_loaded_by_version_and_as_champion(shops):
    arguments, champion, _ = shops
    champion(untrained_forecaster(*arguments))
    assert [load_forecaster(name)[1] for name in ("shops", "shops@champion", "shops/1")] == ["shops/1"] * 3


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError("connection refused"), "connection refused"),
        (TimeoutError(), "TimeoutError"),
        (
            MlflowException("The following failures occurred while downloading …:\n##### File a\nno route to host\n…"),
            "no route to host",
        ),
        (RuntimeError("x" * 5000), "x" * 50),
    ],
)
def test_a_champion_that_can_not_be_downloaded_is_never_replaced(shops, monkeypatch, error, message):
    arguments, champion, judge = shops
    champion(shift_forecasts(untrained_forecaster(*arguments), 9))

    def silent(**_):
        raise error

    monkeypatch.setattr(mlflow.artifacts, "download_artifacts", silent)
    expected = rf"^shops/1: its artifacts at file://.* can't be fetched \({message}"
    with pytest.raises(StoreError, match=expected) as caught:
        judge(untrained_forecaster(*arguments))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600


def test_missing_or_empty_artifacts_are_a_store_error(shops):
    arguments, champion, judge = shops
    folder = champion(untrained_forecaster(*arguments))
    for gone in (lambda: [path.unlink() for path in folder.iterdir()], lambda: shutil.rmtree(folder)):
        gone()
        with pytest.raises(StoreError, match="shops/1: its artifacts at .* can't be fetched"):
            judge(untrained_forecaster(*arguments))


def test_a_damaged_champion_is_named_and_loses(shops):
    arguments, champion, judge = shops
    folder = champion(untrained_forecaster(*arguments))
    (folder / "model.safetensors").write_bytes(b"half")
    with pytest.raises(CheckpointError, match=r"^shops/1/model\.safetensors: is damaged"):
        load_forecaster("shops")
    promotion = judge(untrained_forecaster(*arguments))
    assert promotion.champion and promotion.incumbent_version == 1
    assert "the champion, version 1, can't forecast these windows (shops/1/model.safetensors" in promotion.reason
    (folder / "forecaster.json").unlink()
    with pytest.raises(CheckpointError, match=r"^shops/1: holds no forecaster of this package"):
        load_forecaster("shops")


def test_the_better_of_candidate_and_champion_wins(shops):
    arguments, champion, judge = shops
    champion(untrained_forecaster(*arguments))
    assert not judge(shift_forecasts(untrained_forecaster(*arguments), 9)).champion
    assert not judge(untrained_forecaster(*arguments)).champion  # a tie
    champion(shift_forecasts(untrained_forecaster(*arguments), 9))
    won = judge(untrained_forecaster(*arguments))
    assert won.champion and won.test_rmse < won.incumbent_test_rmse and won.p_value < 0.05


def test_a_champion_without_a_finite_rmse_loses_to_a_candidate_with_one(shops):
    arguments, champion, judge = shops
    champion(shift_forecasts(untrained_forecaster(*arguments), float("nan")))
    promotion = judge(untrained_forecaster(*arguments))
    assert promotion.champion and np.isnan(promotion.incumbent_test_rmse)
    assert "the champion, version 1, can't forecast these windows (its RMSE is nan)" in promotion.reason
    assert not judge(shift_forecasts(untrained_forecaster(*arguments), float("nan"))).champion


def test_a_candidate_that_is_not_finite_on_the_windows_never_wins(shops):
    arguments, champion, judge = shops
    champion(untrained_forecaster(*arguments))
    promotion = judge(shift_forecasts(untrained_forecaster(*arguments), float("nan")))
    assert not promotion.champion
    assert promotion.reason == "its RMSE on the windows of the champion, version 1, is nan"


def test_a_store_that_fails_is_a_one_line_error(shops, monkeypatch):
    arguments, champion, judge = shops
    champion(untrained_forecaster(*arguments))

    def broken(*_):
        raise MlflowException("(sqlite3.OperationalError) disk I/O error\n[SQL: SELECT …]\n(Background …)")

    monkeypatch.setattr(runs.client(), "get_registered_model", broken)
    with pytest.raises(StoreError, match="^shops: the registry does not answer .*disk I/O error.* Check") as caught:
        judge(untrained_forecaster(*arguments))
    assert "\n" not in str(caught.value)


def test_a_fingerprint_depends_on_weights_and_description_but_not_on_lineage(shops, tmp_path):
    arguments, *_ = shops
    forecaster = untrained_forecaster(*arguments)

    def of(forecaster, *more):
        forecaster.save(tmp_path / "printed")
        return fingerprint(tmp_path / "printed", *more)

    assert of(forecaster) == of(untrained_forecaster(*arguments))
    assert of(forecaster) == of(replace(forecaster, lineage={"run_id": "another"}))
    others = (
        untrained_forecaster(*arguments, seed=1),
        replace(forecaster, name="other"),
        shift_forecasts(untrained_forecaster(*arguments), 1e-6),
    )
    assert len({of(forecaster), of(forecaster, "kind"), *map(of, others)}) == 5


def test_the_newest_version_with_a_fingerprint_is_found(shops):
    arguments, champion, _ = shops
    for _ in range(3):
        champion(untrained_forecaster(*arguments))
    for number, value in ((1, "a"), (2, "a"), (3, "b")):
        runs.client().set_model_version_tag("shops", str(number), "fingerprint", value)
    assert [find_version("shops", value) for value in "abc"] == [2, 3, None]


def test_a_version_whose_run_is_gone_is_listed_with_its_own_tags(shops):
    arguments, champion, _ = shops
    champion(untrained_forecaster(*arguments))
    client = runs.client()
    tags = {"val_rmse": "1.5", "run_name": "ensemble"}
    version = client.create_model_version("shops", "file:///gone", "f" * 32, tags)
    row = next(row for row in list_versions("shops") if row["version"] == int(version.version))
    assert (row["run"], row["val_rmse"], row["aliases"]) == ("ensemble", 1.5, [])


def test_a_damaged_candidate_is_no_reason_to_replace_the_champion(shops, tmp_path):
    arguments, champion, judge = shops
    champion(untrained_forecaster(*arguments))
    candidate = replace(untrained_forecaster(*arguments), weights=())
    with pytest.raises(CheckpointError, match="candidate"):
        judge(candidate)
