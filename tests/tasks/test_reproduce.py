"""When a version counts as reproduced, and what is needed to train it again."""

import math
import shutil
from dataclasses import replace

import pandas as pd
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st

from lstm.config.model import ModelConfig
from lstm.errors import CheckpointError, StoreError, TrainingError
from lstm.networks.checkpoint import load_checkpoint
from tasks.registry.provenance import TrainingData, load_provenance
from tasks.registry.reproduction import (
    MemberComparison,
    MetricPair,
    ReproductionCheck,
    environment_differences,
    largest_difference,
    pair_metrics,
    same_bits,
)
from tasks.registry.versions import set_alias
from tasks.reproduce import _data_change, reproduce
from tasks.runtime.environment import code_sha256, environment
from tasks.search.fixed_trials import make_jobs, train_networks
from tasks.search.trial_folder import history_of
from tasks.tracking import runs
from tests.support.forecasters import untrained_forecaster
from tests.support.prepared_data import prepare

numbers = st.floats(-1e6, 1e6)
THEN = TrainingData("a" * 64, 100, "2024-01-01T00:00:00+00:00", "2024-01-02T00:00:00+00:00")
MEMBER = MemberComparison("trial-000", 0, 3, 3, True, 0.0)
SAME = ReproductionCheck("none", THEN, THEN, (), (MetricPair("val_rmse", 2.0, 2.0),), (MEMBER,))


@given(numbers, numbers)
def test_the_relative_difference_is_symmetric_and_zero_for_equal_values(first, second):
    assert MetricPair("x", first, second).relative == MetricPair("x", second, first).relative >= 0
    assert MetricPair("x", first, first).relative == 0


def test_a_value_that_is_not_finite_is_infinitely_far_away():
    assert MetricPair("x", 1.0, math.nan).relative == math.inf
    assert MetricPair("x", math.inf, 1.0).relative == math.inf


@pytest.mark.parametrize(
    ("now", "elsewhere", "reproduced"),
    [
        (2.0, (), True),
        (2.0 * (1 + 9e-7), (), True),
        (2.0 * (1 + 2e-6), (), False),
        (2.0 * 1.019, ("torch: 2.12 then, 2.13 now",), True),
        (2.0 * 1.03, ("torch: 2.12 then, 2.13 now",), False),
        (math.nan, ("torch: 2.12 then, 2.13 now",), False),
    ],
)
def test_the_tolerance_is_1e_6_in_the_same_environment_and_2_percent_elsewhere(now, elsewhere, reproduced):
    check = replace(SAME, metrics=(MetricPair("val_rmse", 2.0, now),), differences=elsewhere)
    assert (not check.reasons) is reproduced
    assert check.verdict.startswith("reproduced" if reproduced else "not reproduced")
    assert all("val_rmse was 2" in reason for reason in check.reasons)


def test_in_another_environment_only_rmse_and_mae_are_judged():
    metrics = (MetricPair("val_rmse", 2.0, 2.01), MetricPair("test_r2", 0.5, 0.4))
    assert not replace(SAME, metrics=metrics, differences=("threads: 1 then, 2 now",)).reasons
    assert [reason[:7] for reason in replace(SAME, metrics=metrics).reasons] == ["val_rms", "test_r2"]


def test_changed_data_are_described_with_rows_and_span():
    now = TrainingData("b" * 64, 99, THEN.first, THEN.last)
    check = ReproductionCheck("changed", THEN, now, (), (), ())
    (reason,) = check.reasons
    assert "sha256 aaaaaaaa (100 rows, 2024-01-01T00:00:00+00:00 to 2024-01-02T00:00:00+00:00) then" in reason
    assert "sha256 bbbbbbbb (99 rows" in reason and "unchanged" not in reason
    assert check.verdict == "not reproduced: the data have changed, so that nothing was trained"


def test_appended_rows_are_no_reproduction_and_are_described():
    now = TrainingData("b" * 64, 107, THEN.first, "2024-01-03T00:00:00+00:00")
    check = replace(SAME, change="appended", actual_data=now)
    (reason,) = check.reasons
    assert reason.endswith("The rows of then are unchanged, 7 newer ones have come after 2024-01-02T00:00:00+00:00")
    assert "have newer rows; from the rows of then reproduced to 1e-06" in check.verdict


def test_without_a_logged_metric_nothing_is_reproduced():
    check = replace(SAME, metrics=())
    assert check.reasons == ("its run has logged no metric to compare with",)


def test_differences_of_the_environment_and_missing_records_are_named():
    here = {**environment(), "lock_sha256": "c" * 64}
    assert list(environment_differences(here, here, ("cpu", "cpu"))) == []
    assert list(environment_differences({"lock_sha256": "c" * 64}, here, ("cpu", "cpu"))) == ["not recorded then"]
    then = {**here, "torch": "1.0", "code_sha256": "d" * 64} | {"threads": None}
    lines = list(environment_differences(then, here, ("cuda", "cpu")))
    assert f"torch: 1.0 then, {here['torch']} now" in lines
    assert f"library code: dddddddd then, {code_sha256()[:8]} now" in lines
    assert f"threads: not recorded then, {here['threads']} now" in lines
    assert "device: cuda then, cpu now" in lines


def test_metrics_of_one_side_are_named_and_not_compared():
    both, alone = pair_metrics({"val_rmse": 1.0, "test_mae": 2.0, "epochs": 3.0}, {"val_rmse": 1.0, "val_crps": 4.0})
    assert both == (MetricPair("val_rmse", 1.0, 1.0),) and alone == ("test_mae", "val_crps")


def test_weights_are_compared_by_their_bits():
    weights = {"w": torch.tensor([1.0, 0.0])}
    assert same_bits(weights, {"w": torch.tensor([1.0, 0.0])})
    assert not same_bits(weights, {"w": torch.tensor([1.0, -0.0])})
    assert largest_difference(weights, {"w": torch.tensor([1.5, 0.0])}) == 0.5


@pytest.fixture
def table(hourly, home, tmp_path):
    return prepare(hourly, tmp_path)[1]


def test_appended_rows_are_distinguished_from_changed_ones(table, hourly, tmp_path):
    then = TrainingData(table.sha256, table.rows, table.first, table.last)
    march = hourly[hourly["time"].str.startswith("2024-03")]
    later = march.assign(time=march["time"].str.replace("2024-03-", "2024-05-"))
    altered = hourly.assign(sales=hourly["sales"].where(hourly.index != 7, 0.5))
    for frame, change in ((hourly, "none"), (hourly[5:], "changed"), (altered, "changed")):
        assert _data_change(then, prepare(frame, tmp_path)[1]) == change
    for before, change in ((hourly, "appended"), (altered, "changed")):
        assert _data_change(then, prepare(pd.concat([before, later]), tmp_path)[1]) == change
    assert _data_change(TrainingData(table.sha256[::-1]), table) == "changed"


@pytest.fixture
def version(hourly, home, tmp_path):
    """The run of a registered version with an untrained network and all that a training run logs."""
    config, data, panel, _ = prepare(hourly, tmp_path)
    with runs.parent_run(config, data, ["cpu"], "") as run:
        pass
    forecaster = replace(
        untrained_forecaster(config, panel), lineage={"run_id": run.run_id, **runs.lineage(config, data)}
    )
    forecaster.save(tmp_path / "saved")
    client = runs.client()
    client.create_registered_model("shops")
    client.create_model_version("shops", (tmp_path / "saved").as_uri(), run.run_id, tags={"kind": "best-single"})
    set_alias("shops", "champion", 1)
    runs.log(run, {"val_rmse": 1.0})
    return run


def test_provenance_is_found_by_name_alias_number_and_run(version):
    for model in ("shops", "shops@champion", "shops/1", version.run_id):
        provenance = load_provenance(model)
        assert (provenance.version, provenance.training_run_id, provenance.metrics["val_rmse"]) == (
            "shops/1",
            version.run_id,
            1.0,
        )
        assert provenance.config.name == "shops" and provenance.members[0].epochs is None


@pytest.mark.slow
def test_epochs_come_from_the_lineage_or_the_logged_curve(version, tmp_path):
    runs.log_curves(version, [{"epoch": number, "val_loss": 1.0} for number in (1, 2, 3)])
    assert [member.epochs for member in load_provenance("shops").members] == [3]
    path = tmp_path / "saved"
    forecaster = load_provenance("shops").forecaster
    replace(
        forecaster, lineage={**forecaster.lineage, "members": [{"trial": "trial-004", "epochs": 2, "seed": 0}]}
    ).save(path)
    (member,) = load_provenance("shops").members
    assert (member.trial, member.epochs) == ("trial-004", 2)


def test_a_missing_or_changed_configuration_is_an_error(version):
    client = runs.client()
    text = yaml.safe_dump({**load_provenance("shops").config.to_dict(), "name": "other"})
    client.log_text(version.run_id, text, "config.yaml")
    with pytest.raises(StoreError, match=r"shops/1: config\.yaml of its training run .* is not what was logged"):
        reproduce.fn("shops")
    artifacts = client.get_run(version.run_id).info.artifact_uri
    shutil.rmtree(artifacts.removeprefix("file://"))
    with pytest.raises(StoreError, match=r"shops/1: config\.yaml of its training run .* can't be fetched"):
        reproduce.fn("shops")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "error", "message"),
    [
        ("shops/9", CheckpointError, "there is no version '9'"),
        ("nobody", CheckpointError, "there is no registered model 'nobody'"),
        ("0" * 32, StoreError, "MLflow has no run 0000"),
    ],
)
def test_a_missing_model_version_or_run_is_an_error(version, model, error, message):
    with pytest.raises(error, match=message):
        reproduce.fn(model)


def test_a_run_without_a_version_and_a_folder_are_errors(version, tmp_path):
    other = runs.start_run(version.experiment_id, "trial-007", {"kind": "trial"})
    with pytest.raises(CheckpointError, match="'trial-007' has registered no version"):
        reproduce.fn(other.run_id)
    with pytest.raises(CheckpointError, match="is a folder, without logged metrics"):
        reproduce.fn(str(tmp_path / "saved"))


def test_an_empty_store_is_an_error_and_none_is_created(home):
    with pytest.raises(CheckpointError, match="Run: lstm train CONFIG"):
        reproduce.fn("f" * 32)
    assert not (home / "mlflow.db").exists()


@pytest.mark.slow
def test_networks_are_trained_for_the_given_epochs_to_the_same_bits(hourly, home, tmp_path):
    config, _, _, windows = prepare(hourly, tmp_path)
    values = {"sequence_length": 12, "hidden_size": 4, "horizon": 6, "epochs": 3, "patience": None}
    networks = [ModelConfig(**values, seed=seed) for seed in (1, 2, 1)]
    jobs = make_jobs(config, windows, networks, tmp_path / "again")
    trials = train_networks(jobs, ["cpu"], [None, 2, None])
    assert [len(history_of(trial.folder)) for trial in trials] == [3, 2, 3]
    first, second, third = (load_checkpoint(job.folder / "network.safetensors")[0] for job in jobs)
    assert same_bits(first, third) and not same_bits(first, second)
    bad = make_jobs(config, windows, [ModelConfig(**{**values, "sequence_length": 10_000})], tmp_path / "bad")
    with pytest.raises(TrainingError, match="a network could not be trained"):
        train_networks(bad, ["cpu"])
