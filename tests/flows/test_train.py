"""What a training run leaves behind."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlparse

import mlflow
import pandas as pd
import pytest
from mlflow import MlflowClient

from flows.cli import app, output
from flows.train import Outcome
from lstm import Forecaster
from tasks.registry.decision import GateDecision
from tasks.tracking import runs
from tests.support.workspace import Place

pytestmark = pytest.mark.xdist_group("trained")  # one process trains for all of them


@pytest.fixture(scope="module")
def client(trained) -> MlflowClient:
    place, _ = trained
    uri = f"sqlite:///{place.folder / 'mlruns' / 'mlflow.db'}"
    mlflow.set_tracking_uri(uri)
    return MlflowClient(uri)


@pytest.fixture(scope="module")
def mlflow_runs(client):
    experiment = client.get_experiment_by_name("shops")
    return {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}


def test_the_leaderboard_holds_candidates_and_baselines_best_validation_first(trained):
    _, outcome = trained
    rows = outcome["leaderboard"]
    assert {row["name"] for row in rows} >= {"ensemble-mean-2", "persistence", "seasonal_naive", "drift", "ridge"}
    assert [row["val_rmse"] for row in rows] == sorted(row["val_rmse"] for row in rows)
    assert outcome["promotion"]["champion"] is True
    naive = next(row for row in rows if row["name"] == "seasonal_naive")
    assert naive["test_rmse_skill"] == 0
    assert set(outcome["seconds"]) == {"prepare", "train", "evaluate", "register", "report", "train_cpu", "total"}
    assert outcome["search"].startswith("3 of 3 trials")


def test_every_trial_is_a_child_run_with_curves(trained, client, mlflow_runs):
    _, outcome = trained
    parent = mlflow_runs[outcome["run_name"]]
    for number in range(3):
        trial = mlflow_runs[f"trial-{number:03d}"]
        assert trial.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert trial.data.tags["kind"] == "trial"
        assert trial.data.tags["trial_state"] in ("complete", "pruned")
        assert trial.data.params["hidden_size"] == "16"
        for metric in ("train_loss", "val_loss", "learning_rate", "gradient_norm"):
            steps = [point.step for point in client.get_metric_history(trial.info.run_id, metric)]
            assert steps == list(range(1, len(steps) + 1)) and steps


def test_nothing_is_left_running(mlflow_runs):
    assert {run.info.status for run in mlflow_runs.values()} == {"FINISHED"}


def test_only_candidates_and_baselines_have_seen_the_test_span(mlflow_runs):
    seen = {
        name for name, run in mlflow_runs.items() if "test_rmse" in run.data.metrics and not name.startswith("train-")
    }
    best = next(name for name, run in mlflow_runs.items() if run.data.tags.get("best_single") == "true")
    assert seen == {best, "ensemble-mean-2", "persistence", "seasonal_naive", "drift", "ridge"}
    trials = [run for name, run in mlflow_runs.items() if name.startswith("trial-")]
    complete = [run for run in trials if run.data.tags["trial_state"] == "complete"]
    assert all("val_rmse_skill" in run.data.metrics for run in complete)


def test_the_parent_run_says_where_it_came_from(trained, mlflow_runs):
    _, outcome = trained
    parent = mlflow_runs[outcome["run_name"]]
    tags = parent.data.tags
    assert tags["kind"] == "train"
    assert len(tags["data_sha256"]) == len(tags["config_sha256"]) == 64
    assert outcome["run_name"].endswith(tags["data_sha256"][:8])
    assert tags["prefect_flow_run_id"]
    proposed = next(row for row in outcome["leaderboard"] if row["kind"] == outcome["promotion"]["kind"])
    assert parent.data.metrics["test_rmse"] == proposed["test_rmse"]


def test_artifacts_are_there(trained, client, mlflow_runs):
    _, outcome = trained
    run_id = mlflow_runs[outcome["run_name"]].info.run_id
    artifacts = {artifact.path for artifact in client.list_artifacts(run_id)}
    assert artifacts >= {"config.yaml", "promotion.json", "report.html", "evaluation", "search", "profile"}
    search = {
        artifact.path for artifact in client.list_artifacts(mlflow_runs[outcome["run_name"]].info.run_id, "search")
    }
    assert search == {f"search/{name}.png" for name in ("search_history", "importance", "parallel_coordinates")}


@pytest.fixture(scope="module")
def evaluation(trained, mlflow_runs) -> Path:
    """The evaluation folder of the parent run."""
    parent = mlflow_runs[trained[1]["run_name"]]
    return Path(mlflow.artifacts.download_artifacts(run_id=parent.info.run_id, artifact_path="evaluation"))


def test_every_score_is_logged_with_its_skill_and_interval(trained, evaluation, mlflow_runs):
    scores = json.loads((evaluation / "scores.json").read_text())
    assert set(scores) == {row["name"] for row in trained[1]["leaderboard"]}
    ours, logged = scores["ensemble-mean-2"], mlflow_runs["ensemble-mean-2"].data.metrics
    for metric in ("rmse", "mae", "mape", "smape", "mase", "pinball", "crps"):
        for prefix in ("val", "test", "backtest") if metric != "crps" else ("test",):
            assert logged[f"{prefix}_{metric}"] == ours["metrics"][f"{prefix}_{metric}"]
            skill = 1 - logged[f"{prefix}_{metric}"] / scores["seasonal_naive"]["metrics"][f"{prefix}_{metric}"]
            assert logged[f"{prefix}_{metric}_skill"] == pytest.approx(skill)
        assert ours["low"][f"test_{metric}"] <= ours["metrics"][f"test_{metric}"] <= ours["high"][f"test_{metric}"]
    assert logged["test_rmse_skill_low"] <= logged["test_rmse_skill"] <= logged["test_rmse_skill_high"]
    assert 0 < logged["test_coverage_80"] < 1 and logged["test_width_80"] < logged["test_width_95"]
    assert logged["test_owa"] < 1 and logged["test_mse_normalized"] > 0 and logged["test_r2"] < 1


@pytest.mark.parametrize(
    ("file", "by", "groups"),
    [
        ("by_horizon.csv", "horizon", range(1, 7)),
        ("by_series.csv", "series", ["north", "south"]),
        ("by_hour.csv", "hour", range(24)),
        ("by_weekday.csv", "weekday", range(7)),
        ("backtest.csv", "fold", range(1, 5)),
    ],
)
def test_scores_are_broken_down(evaluation, trained, file, by, groups):
    table = pd.read_csv(evaluation / file)
    assert set(table["model"]) == {row["name"] for row in trained[1]["leaderboard"]}
    for _, rows in table.groupby("model"):
        assert set(rows[by]) <= set(groups) and len(rows) >= min(len(groups), 4)
        assert (rows["windows"] > 0).all() and (rows["rmse"] > 0).all()


def test_the_backtest_is_the_mean_over_the_folds(evaluation, mlflow_runs):
    folds = pd.read_csv(evaluation / "backtest.csv").groupby("model")["rmse"].mean()
    for name in ("ensemble-mean-2", "ridge", "seasonal_naive"):
        assert mlflow_runs[name].data.metrics["backtest_rmse"] == pytest.approx(folds[name])


def test_a_leakage_audit_is_part_of_every_run(evaluation):
    audit = json.loads((evaluation / "audit.json").read_text())
    assert audit["passed"] and {check["name"] for check in audit["checks"]} >= {"future", "normaliser", "spans"}


def test_ways_to_combine_are_compared_on_validation(evaluation, mlflow_runs):
    methods = json.loads((evaluation / "ensembles.json").read_text())
    assert set(methods) == {"mean", "median", "inverse_error", "greedy"}
    logged = mlflow_runs["ensemble-mean-2"].data.metrics
    assert logged["val_rmse_normalized"] == pytest.approx(methods["mean"], rel=1e-6)
    assert methods["greedy"] <= methods["mean"] + 1e-9


def test_pictures_are_pngs(evaluation):
    names = ("training_curves", "forecast_vs_actual", "error_by_horizon", "residuals", "calibration", "leaderboard")
    assert {path.stem for path in evaluation.glob("*.png")} == set(names)
    assert all((evaluation / f"{name}.png").read_bytes().startswith(b"\x89PNG") for name in names)


def test_the_report_is_one_file_that_names_model_and_decision(trained, client, mlflow_runs):
    _, outcome = trained
    run_id = mlflow_runs[outcome["run_name"]].info.run_id
    page = Path(mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path="report.html")).read_text()
    assert outcome["name"] in page and outcome["promotion"]["reason"].split(" (")[0] in page
    assert "<script" not in page and 'src="http' not in page


def test_the_parent_run_holds_a_profile_of_the_data(trained, client, mlflow_runs):
    place, outcome = trained
    parent = mlflow_runs[outcome["run_name"]]
    artifacts = {artifact.path for artifact in client.list_artifacts(parent.info.run_id, "profile")}
    tables, pictures = (
        ("columns.csv", "series.csv", "summary.json"),
        ("autocorrelation", "distribution", "gaps", "series"),
    )
    assert artifacts == {f"profile/{name}" for name in tables} | {f"profile/{name}.png" for name in pictures}
    folder = Path(mlflow.artifacts.download_artifacts(run_id=parent.info.run_id, artifact_path="profile"))
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["sha256"] == parent.data.tags["data_sha256"]
    assert pd.read_csv(folder / "series.csv")["series"].tolist() == ["north", "south"]
    assert set(pd.read_csv(folder / "columns.csv")["split"]) == {"train", "validation", "test"}
    assert parent.data.metrics["data_rows"] == len(pd.read_csv(place.folder / "shops.csv"))
    assert parent.data.metrics["data_filled_share"] == 0 < parent.data.metrics["data_drift_psi_max"]
    assert parent.data.tags["advisories"] == "none" and outcome["advisories"] == []
    assert not any(notice for notice in outcome["notices"] if not notice.startswith("ridge regression"))


@pytest.mark.slow
def test_advice_becomes_an_error_where_that_is_asked_for(place: Place):
    place.write(model={"sequence_length": 3}, search={"trials": 1, "space": {}})
    done = place.run("train", "shops.yaml", "--strict", check=False)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("lstm: short_sequences: the longest lookback of the search is 3 steps, fewer than 5")
    assert done.stderr.endswith("Drop --strict to train all the same.\n") and done.stderr.count("\n") == 1
    assert not (place.folder / "mlruns" / "mlflow.db").exists()


def test_notes_and_advice_are_printed_as_they_are(trained, capsys):
    _, outcome = trained
    seconds = outcome["seconds"]
    changes = {
        "promotion": GateDecision(**outcome["promotion"]),
        "notices": ("[b] was left out",),
        "advisories": ("few: 9",),
    }
    output.show_outcome(Outcome(**{**outcome, **changes}), seconds["total"])
    lines = capsys.readouterr().out.splitlines()
    assert "note: [b] was left out" in lines and "advice: few: 9" in lines


def test_two_versions_are_registered_and_the_best_is_champion(trained, client):
    _, outcome = trained
    versions = client.search_model_versions("name = 'shops'")
    assert {version.tags["kind"] for version in versions} == {"best-single", "best-ensemble"}
    aliases = client.get_registered_model("shops").aliases
    assert set(aliases) == {"best-single", "best-ensemble", "champion"}
    assert int(aliases["champion"]) == outcome["promotion"]["version"]


def test_no_pickle_is_anywhere(trained):
    place, _ = trained
    suspects = [
        path for path in place.folder.rglob("*") if path.suffix in (".pkl", ".pickle", ".pt", ".pth", ".joblib")
    ]
    assert suspects == []


def test_the_registered_model_loads_without_pickle_and_forecasts_like_the_forecaster(trained, client, monkeypatch):
    place, _ = trained
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    served = mlflow.pyfunc.load_model("models:/shops@champion")
    history = pd.read_csv(place.folder / "shops.csv")
    forecasts = served.predict(history, params={"horizon": 3, "levels": [50]})
    folder = next(Path(mlflow.artifacts.download_artifacts("models:/shops@champion")).rglob("forecaster.json")).parent
    direct = Forecaster.load(folder).forecast(history, 3, (50,))
    pd.testing.assert_frame_equal(pd.DataFrame(forecasts), direct, check_exact=True)
    with pytest.raises(mlflow.exceptions.MlflowException, match="24 rows of history"):
        served.predict(history.groupby("shop").tail(5))


def test_work_is_cleaned_up_and_nothing_lies_outside_the_stores(trained):
    place, _ = trained
    assert sorted(path.name for path in place.folder.iterdir()) == ["mlruns", "prefect", "shops.csv", "shops.yaml"]
    assert not list((place.folder / "mlruns" / "work").glob("run-*"))


@pytest.mark.slow
def test_a_second_run_on_the_same_data_keeps_the_champion_unless_it_is_surely_better(trained, client):
    place, outcome = trained
    again = json.loads(place.run("train", "shops.yaml", "--set", "model.seed=1", "--json").stdout)
    first, second = outcome["promotion"], again["promotion"]
    assert second["incumbent_version"] == first["version"] != second["version"]
    assert second["incumbent_test_rmse"] == pytest.approx(first["test_rmse"], rel=1e-6)
    sure = second["p_value"] < second["alpha"] and second["effect"] >= second["min_effect"]
    assert second["champion"] is sure
    champion = int(client.get_registered_model("shops").aliases["champion"])
    assert champion == (second["version"] if sure else first["version"])


@pytest.mark.slow
def test_the_same_model_is_not_registered_twice(trained, client):
    place, outcome = trained
    before = {version.version for version in client.search_model_versions("name = 'shops'")}
    again = json.loads(place.run("train", "shops.yaml", "--json").stdout)
    assert {version.version for version in client.search_model_versions("name = 'shops'")} == before
    version = outcome["promotion"]["version"]
    assert again["promotion"]["version"] == version
    assert f"version {version} is the same model: it was not registered again" in again["notices"]


@pytest.mark.slow
def test_a_damaged_version_is_registered_anew_and_replaced(place: Place):
    place.write(search={"trials": 1, "space": {}})
    first = json.loads(place.run("train", "shops.yaml", "--json").stdout)["promotion"]
    assert first["champion"] is True
    client = MlflowClient(f"sqlite:///{place.folder / 'mlruns' / 'mlflow.db'}")
    source = Path(urlparse(client.get_model_version_download_uri("shops", str(first["version"]))).path)
    weights = next(source.rglob("model.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    second = json.loads(place.run("train", "shops.yaml", "--json").stdout)["promotion"]
    assert second["version"] != first["version"] and second["champion"] is True
    assert "artefact_sha256" in second["reason"]  # what is there is not what was registered


@pytest.mark.slow
def test_over_a_champion_that_can_not_be_fetched_nothing_is_promoted(trained, client):
    place, _ = trained
    before = client.get_registered_model("shops").aliases
    source = client.get_model_version_download_uri("shops", before["champion"])
    artifacts = Path(urlparse(source).path)
    artifacts.rename(artifacts.with_name("away"))
    try:
        done = place.run("train", "shops.yaml", "--set", "model.seed=2", check=False)
    finally:
        artifacts.with_name("away").rename(artifacts)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"lstm: shops/{before['champion']}: its artifacts at file://")
    challenger = re.search(r"Nothing is promoted over it: shops/(\d+) is the challenger\.$", done.stderr)
    after = client.get_registered_model("shops").aliases
    assert after["champion"] == before["champion"]
    assert challenger is not None and str(after["challenger"]) == challenger[1] != str(before["champion"])


@pytest.mark.slow
def test_a_candidate_that_beats_no_baseline_is_not_promoted(trained, client):
    place, _ = trained
    weak = ("--set", "name=weak", "--set", "search.trials=1", "--set", "model.epochs=1", "--set", "model.hidden_size=1")
    promotion = json.loads(place.run("train", "shops.yaml", *weak, "--json").stdout)["promotion"]
    assert promotion["champion"] is False
    assert "does not beat seasonal_naive" in promotion["reason"]
    assert set(client.get_registered_model("weak").aliases) == {"best-single", "best-ensemble", "challenger"}


@pytest.mark.slow
def test_forecast_writes_every_series_with_intervals(trained):
    place, _ = trained
    for suffix, read in (("parquet", pd.read_parquet), ("csv", pd.read_csv)):
        place.run("forecast", "shops", "--data", "shops.csv", "--out", f"f.{suffix}")
        forecasts = read(place.folder / f"f.{suffix}")
        assert forecasts.groupby("series").size().to_dict() == {"north": 6, "south": 6}
        assert (forecasts["lo-95"] < forecasts["forecast"]).all() and (forecasts["forecast"] < forecasts["hi-80"]).all()
        os.remove(place.folder / f"f.{suffix}")


@pytest.mark.slow
def test_compare_lists_the_versions_with_their_aliases(trained):
    place, _ = trained
    rows = json.loads(place.run("compare", "shops", "--json").stdout)
    assert any("champion" in row["aliases"] for row in rows)
    assert [row["val_rmse"] for row in rows] == sorted(row["val_rmse"] for row in rows)
    assert "champion" in place.run("compare", "shops").stdout


@pytest.mark.slow
def test_doctor_tells_versions_devices_and_stores(place: Place):
    status = json.loads(place.run("doctor", "--json").stdout)
    assert status["packages"]["torch"].startswith("2.")
    assert status["devices"][0].startswith("cpu")
    assert status["stores"]["home"] == str(place.folder / "mlruns")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("forecast", "shop"), "there is no registered model 'shop', nor a folder of that name. Did you mean 'shops'"),
        (("forecast", "shops@best"), "'shops' has no alias 'best'"),
        (("forecast", "shops/99"), "there is no version '99' of 'shops'"),
        (
            ("forecast", "shops", "--horizon", "601"),
            "`1 <= horizon <= 600` (100 times the trained 6) must hold, but got 601",
        ),
        (("forecast", "shops", "--out", "f.xlsx"), "must end in .parquet or .csv"),
        (("forecast", "shops", "--data", "gone.csv"), "gone.csv: no such file"),
        (("forecast", "shops", "--levels", "eighty"), "different whole percents"),
        (("compare", "shop"), "there is no registered model 'shop'"),
    ],
)
def test_bad_requests_end_with_one_line_and_exit_code_2(trained, monkeypatch, capsys, arguments, message):
    place, _ = trained
    monkeypatch.chdir(place.folder)
    monkeypatch.setenv("LSTM_HOME", str(place.folder / "mlruns"))
    monkeypatch.setattr(sys, "argv", ["lstm", *arguments])
    runs.client.cache_clear()
    with pytest.raises(SystemExit) as ended:
        app.main()
    assert ended.value.code == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.err.startswith("lstm: ") and printed.err.count("\n") == 1
    assert not list(place.folder.glob("f.*"))


@pytest.mark.slow
def test_time_that_is_over_ends_the_running_trials_too(place: Place):
    model = {"sequence_length": 24, "hidden_size": 16, "epochs": 100_000, "patience": None}
    place.write(search={"trials": 9, "timeout": "5s"}, model=model)
    outcome = json.loads(place.run("train", "shops.yaml", "--json").stdout)
    assert outcome["seconds"]["train"] < 40
    assert "search.timeout is over" in outcome["search"]
    assert len(outcome["leaderboard"]) == 6


@pytest.mark.slow
def test_a_frame_from_python_trains_like_its_file(place: Place):
    place.write()
    script = (
        "import pandas as pd\nfrom flows.frame import train_frame\n"
        "frame = pd.read_csv('shops.csv').set_index(['shop', 'time'])\n"
        "print(train_frame(frame, 'shops.yaml', ['search.trials=1']).promotion.kind)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=place.folder, env=place.environment, capture_output=True, text=True
    )
    assert done.stdout.splitlines()[-1:] in (["best-single"], ["best-ensemble"]), done.stderr
    assert len(list((place.folder / "mlruns" / "work").glob("frame-*.parquet"))) == 1


def test_a_trials_val_rmse_is_that_of_the_network_that_was_kept(trained, client, mlflow_runs):
    _, outcome = trained
    naive = next(row["val_rmse"] for row in outcome["leaderboard"] if row["name"] == "seasonal_naive")
    for name in (trial["name"] for trial in outcome["trials"]):
        metrics = mlflow_runs[name].data.metrics
        assert metrics["val_rmse"] / naive == pytest.approx(1 - metrics["val_rmse_skill"], rel=1e-6)
