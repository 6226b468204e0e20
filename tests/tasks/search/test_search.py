"""The search with real workers: what it writes, what it does not repeat, and how it continues after a kill."""

import json
import logging
import os
import subprocess
import sys
import threading
import time

import numpy as np
import psutil
import pytest
import torch
from filelock import FileLock

from lstm.errors import TrainingError
from lstm.networks.checkpoint import load_checkpoint
from tasks.search import worker_pool
from tasks.search.study import load_study
from tasks.search.workspace import study_key, study_workspace
from tasks.tracking import runs
from tasks.train import train
from tests.support.paths import ROOT
from tests.support.prepared_data import prepare
from tests.support.searches import NETWORK, RATES, SEARCH


@pytest.fixture
def run_search(hourly, home, tmp_path):
    """A function that searches; it returns the search, the MLflow runs of its trials by name, and the windows."""

    def search(fresh=False, model=NETWORK, workers=1, ensemble=None, **section):
        section = {"trials": 3, "space": RATES, "pruner": "none", **section}
        config, table, _, windows = prepare(hourly, tmp_path, model=model, search=section, ensemble=ensemble or {})
        with runs.parent_run(config, table, ["cpu"] * workers, "") as run:
            result = train.fn(config, windows, run, ["cpu"] * workers, fresh)
        query = f"tags.mlflow.parentRunId = '{run.run_id}'"
        children = runs.client().search_runs([run.experiment_id], query)
        return result, {child.info.run_name: child for child in children}, windows

    return search


def networks(search):
    return {trial.number: load_checkpoint(trial.folder / "network.safetensors")[0] for trial in search.trials}


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_trials_are_ranked_and_each_has_a_run_with_its_curves(run_search):
    search, mlflow_runs, windows = run_search(workers=2)
    errors = [trial.val_rmse_normalized for trial in search.trials]
    assert errors == sorted(errors)
    assert search.summary == "3 of 3 trials, 0 of them pruned"
    assert set(mlflow_runs) == {"trial-000", "trial-001", "trial-002"} and search.cpu_seconds > 0
    for trial in search.trials:
        run = mlflow_runs[trial.name]
        assert (run.info.run_id, run.info.status) == (trial.run_id, "FINISHED")
        assert run.data.tags["trial_state"] == "complete"
        assert run.data.metrics["val_rmse_normalized"] == trial.val_rmse_normalized
        steps = [point.step for point in runs.client().get_metric_history(trial.run_id, "train_loss")]
        assert steps == [1, 2, 3]
        assert len(np.load(trial.folder / "validation.npy")) == windows.validation
        assert not (trial.folder / "progress.safetensors").exists()


def test_the_seed_tag_is_that_of_the_model_in_parent_and_trial(run_search):
    _, mlflow_runs, _ = run_search(trials=1, model={**NETWORK, "epochs": 1, "seed": 5}, seed=7)
    trial = mlflow_runs["trial-000"].data.tags
    parent = runs.client().get_run(trial["mlflow.parentRunId"]).data.tags
    assert (trial["seed"], parent["seed"], parent["search_seed"]) == ("5", "5", "7")


def test_the_same_search_again_reuses_every_trial(run_search):
    first, before, _ = run_search()
    again, mlflow_runs, _ = run_search()
    assert again.cpu_seconds == 0 and again.n_cached == 3
    assert again.summary == "3 of 3 trials, 0 of them pruned, 3 known from an earlier run"
    assert [trial.val_rmse_normalized for trial in again.trials] == [
        trial.val_rmse_normalized for trial in first.trials
    ]
    assert {run.info.run_id for run in mlflow_runs.values()}.isdisjoint(run.info.run_id for run in before.values())
    for name, run in mlflow_runs.items():
        assert run.data.tags["answered_from"].startswith("shops/") and run.data.tags["first_trained"]
        assert run.data.metrics == before[name].data.metrics
        assert run.data.params == before[name].data.params
        assert len(runs.client().get_metric_history(run.info.run_id, "val_loss")) == 3


@pytest.mark.slow
def test_more_trials_continue_the_search(run_search):
    run_search()
    more, _, _ = run_search(trials=5)
    assert (more.n_cached, more.n_ended, len(more.trials)) == (3, 5, 5)
    whole, _, _ = run_search(trials=5, fresh=True)
    assert whole.n_cached == 0 and whole.cpu_seconds > 0
    assert all(same(networks(more)[number], networks(whole)[number]) for number in range(5))


def test_the_key_of_a_search_changes_with_what_its_results_depend_on(hourly, home, tmp_path):
    config, _, _, windows = prepare(hourly, tmp_path, model=NETWORK, search={"space": RATES})
    key = study_key(config, windows)
    for budget in ({"trials": 9}, {"timeout": "1h"}, {"plateau": 4}, {"workers": 1}):
        other, _, _, _ = prepare(hourly, tmp_path, model=NETWORK, search={"space": RATES, **budget})
        assert study_key(other, windows) == key
    for search, model in (({"seed": 1}, {}), ({"sampler": "random"}, {}), ({"space": {}}, {}), ({}, {"epochs": 4})):
        other, _, _, _ = prepare(hourly, tmp_path, model={**NETWORK, **model}, search={"space": RATES, **search})
        assert study_key(other, windows) != key
    changed = hourly.assign(sales=hourly["sales"] + 1)
    assert study_key(config, prepare(changed, tmp_path, model=NETWORK, search={"space": RATES})[3]) != key


@pytest.mark.slow
def test_a_network_that_was_trained_before_is_a_duplicate(run_search):
    search, mlflow_runs, _ = run_search(trials=5, space={"hidden_size": [4, 8]}, sampler="random")
    assert len(search.trials) == 2 and search.n_ended == 5
    duplicates = [run for run in mlflow_runs.values() if "same_as" in run.data.tags]
    assert len(duplicates) == 3
    for run in duplicates:
        assert run.data.params["hidden_size"] == mlflow_runs[run.data.tags["same_as"]].data.params["hidden_size"]
    again, _, _ = run_search(trials=5, space={"hidden_size": [4, 8]}, sampler="random")
    assert (again.n_ended, again.n_cached, len(again.trials), again.cpu_seconds) == (5, 5, 2, 0)


@pytest.mark.slow
def test_a_network_that_is_being_trained_is_not_trained_by_another_worker(run_search):
    search, mlflow_runs, _ = run_search(trials=4, workers=2, space={"hidden_size": [4]}, ensemble={"members": []})
    assert len(search.trials) == 1 and search.n_ended == 4
    assert search.summary == "4 of 4 trials, 0 of them pruned, 3 with the network of another trial"
    duplicates = [run for run in mlflow_runs.values() if "same_as" in run.data.tags]
    assert {run.data.metrics["val_rmse_normalized"] for run in duplicates} == {search.trials[0].val_rmse_normalized}


@pytest.mark.slow
@pytest.mark.parametrize("file", ["validation.npy", "network.safetensors", "result.json"])
def test_a_trial_with_damaged_files_is_missing_and_the_others_count(run_search, file):
    first, _, _ = run_search()
    damaged = first.trials[0].folder / file
    damaged.write_bytes(damaged.read_bytes()[:20])
    again, mlflow_runs, _ = run_search()
    assert [trial.number for trial in again.trials] == [trial.number for trial in first.trials[1:]]
    assert "1 with damaged or missing files (train them again with --fresh)" in again.summary
    assert mlflow_runs[first.trials[0].name].data.tags["error"].startswith("its files are damaged or missing")


@pytest.mark.slow
def test_an_interrupted_trial_continues_with_more_time(run_search):
    slow = {**NETWORK, "epochs": 60, "patience": None}
    interrupted, mlflow_runs, _ = run_search(trials=1, model=slow, timeout="2s")
    assert (
        interrupted.summary.endswith("1 interrupted by search.timeout")
        and mlflow_runs["trial-000"].data.tags["trial_state"] == "cut"
    )
    assert len(interrupted.trials) == 1
    assert len(runs.client().get_metric_history(interrupted.trials[0].run_id, "val_loss")) < 60
    more, mlflow_runs, _ = run_search(trials=1, model=slow)
    assert more.summary == "1 of 1 trials, 0 of them pruned"
    assert "resumed_at_epoch" in mlflow_runs["trial-000"].data.tags
    whole, _, _ = run_search(trials=1, model=slow, fresh=True)
    assert same(networks(more)[0], networks(whole)[0])


@pytest.mark.slow
def test_a_grid_search_ends_when_every_point_was_tried(run_search):
    search, _, _ = run_search(
        trials=9, sampler="grid", space={"hidden_size": [4, 8], "num_layers": {"low": 1, "high": 2}}
    )
    assert search.n_ended == 4 and search.summary.endswith("stopped early: every point of the grid was tried")


@pytest.mark.slow
def test_a_plateau_ends_the_search(run_search):
    search, _, _ = run_search(trials=30, plateau=2, model={**NETWORK, "epochs": 1})
    assert search.n_ended < 30
    assert search.summary.endswith("2 trials in a row did not improve the best error (search.plateau)")


@pytest.mark.slow
def test_two_objectives_give_a_pareto_front(run_search):
    search, mlflow_runs, _ = run_search(objectives=["error", "latency"], space={"hidden_size": [4, 64]}, trials=2)
    assert all(trial.latency_ms > 0 for trial in search.trials)
    assert search.pareto_front and set(search.pareto_front) <= {trial.number for trial in search.trials}
    assert mlflow_runs["trial-000"].data.metrics["latency_ms"] > 0
    parent = mlflow_runs["trial-000"].data.tags["mlflow.parentRunId"]
    assert "search/pareto.png" in {artifact.path for artifact in runs.client().list_artifacts(parent, "search")}


@pytest.mark.slow
def test_a_dead_worker_is_replaced_and_its_trial_continues_to_the_same_weights(run_search):
    slow = {**NETWORK, "epochs": 40, "patience": None}
    undisturbed, _, _ = run_search(trials=2, model=slow)
    killed = []

    def kill_the_worker():
        while not killed:
            for child in psutil.Process().children():
                if "tasks.search.worker" in " ".join(child.cmdline()) and child.cpu_times().user > 3:
                    child.kill()
                    killed.append(child.pid)
            time.sleep(0.02)

    thread = threading.Thread(target=kill_the_worker, daemon=True)
    thread.start()
    disturbed, mlflow_runs, _ = run_search(trials=2, model=slow, fresh=True)
    thread.join(10)
    assert killed and disturbed.n_ended == 2 and disturbed.n_failed == 0
    assert all(same(networks(disturbed)[number], networks(undisturbed)[number]) for number in range(2))
    for run in mlflow_runs.values():
        steps = [point.step for point in runs.client().get_metric_history(run.info.run_id, "val_loss")]
        assert sorted(set(steps)) == list(range(1, 41))


@pytest.mark.slow
def test_a_trial_that_kills_its_workers_fails_and_the_others_continue(run_search, monkeypatch):
    start = (
        "import os, signal\n"
        "from tasks.search import worker\n"
        "train = worker.train\n"
        "def train_and_die(job, report):\n"
        "    if job.folder.name == 'trial-001':\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return train(job, report)\n"
        "worker.train = train_and_die\n"
        "worker.main()\n"
    )
    monkeypatch.setattr(worker_pool, "_START", start)
    search, mlflow_runs, _ = run_search()
    assert sorted(trial.number for trial in search.trials) == [0, 2] and search.n_failed == 1
    assert "its worker died 3 times (exit code -9). If memory ran out, lower search.workers" in search.summary
    assert mlflow_runs["trial-001"].info.status == "FAILED"
    assert "died 3 times" in mlflow_runs["trial-001"].data.tags["error"]


@pytest.mark.slow
def test_a_trial_whose_workers_die_between_epochs_is_finished(run_search, monkeypatch):
    start = (
        "import os, signal\n"
        "from tasks.search import worker\n"
        "train = worker.train\n"
        "def train_and_die(job, report):\n"
        "    def report_and_die(record, epochs=[]):\n"
        "        reply = report(record)\n"
        "        epochs.append(record)\n"
        "        if len(epochs) == 3:\n"
        "            os.kill(os.getpid(), signal.SIGKILL)\n"
        "        return reply\n"
        "    return train(job, report_and_die)\n"
        "worker.train = train_and_die\n"
        "worker.main()\n"
    )
    replaced, replace = [], worker_pool.Worker.replace
    monkeypatch.setattr(worker_pool.Worker, "replace", lambda self: (replaced.append(self), replace(self)))
    monkeypatch.setattr(worker_pool, "_START", start)
    search, _, _ = run_search(trials=1, model={**NETWORK, "epochs": 10, "patience": None})
    assert len(replaced) > 3 and (search.n_ended, search.n_failed) == (1, 0)


@pytest.mark.slow
def test_a_failed_trial_is_retried_by_the_next_run(run_search, monkeypatch):
    start = worker_pool._START
    monkeypatch.setattr(
        worker_pool, "_START", "import tasks.search.worker as w\nw._load_windows = lambda job: 1 / 0\nw.main()"
    )
    with pytest.raises(TrainingError, match=r"none of 3 trials could be finished. The last one: ZeroDivisionError"):
        run_search()
    monkeypatch.setattr(worker_pool, "_START", start)
    search, _, _ = run_search()
    assert len(search.trials) == 3 and search.n_failed == 0
    assert [trial.member for trial in sorted(search.trials, key=lambda trial: trial.number)].count(0) == 1


@pytest.mark.slow
def test_workers_that_cannot_start_are_an_error_at_once(run_search, monkeypatch, capfd):
    monkeypatch.setattr(worker_pool, "_START", "raise SystemExit('no torch here')")
    with pytest.raises(TrainingError, match=r"a search worker could not start \(exit code 1\)"):
        run_search()
    assert "no torch here" in capfd.readouterr().err


@pytest.mark.slow
def test_a_worker_that_is_killed_during_its_start_is_replaced(run_search):
    killed = []

    def kill_the_first():
        while not killed:
            for child in psutil.Process().children():
                if "tasks.search.worker" in " ".join(child.cmdline()):
                    child.kill()
                    killed.append(child.pid)
                    return
            time.sleep(0.01)

    threading.Thread(target=kill_the_first, daemon=True).start()
    search, _, _ = run_search(trials=1)
    assert killed and search.n_ended == 1 and search.n_failed == 0


def test_a_worker_imports_neither_prefect_nor_mlflow_nor_pandas():
    code = (
        "import sys\n"
        "from tasks.search import worker\n"
        "heavy = {'prefect', 'mlflow', 'optuna', 'pandas', 'sklearn', 'matplotlib'} & set(sys.modules)\n"
        "print(sorted(heavy))"
    )
    process = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert process.stdout.strip() == "[]"


PARENT = """
import time
from tasks.search.worker_pool import Worker
print(Worker("cpu", 1).process.pid, flush=True)
time.sleep(60)
"""


@pytest.mark.slow
def test_a_worker_ends_with_its_parent():
    parent = subprocess.Popen([sys.executable, "-c", PARENT], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    time.sleep(3)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 10
    while child.is_running() and child.status() != psutil.STATUS_ZOMBIE and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def test_a_second_run_of_the_same_search_waits_for_the_first(hourly, home, tmp_path, caplog):
    config, _, _, windows = prepare(hourly, tmp_path, model=NETWORK, search={"space": RATES})
    folder = home / "studies" / "shops" / study_key(config, windows)[:16]
    folder.mkdir(parents=True)
    locked, released = threading.Event(), []

    def hold_lock():
        with FileLock(folder / "lock"):
            locked.set()
            time.sleep(0.5)
            released.append(True)

    thread = threading.Thread(target=hold_lock)
    thread.start()
    locked.wait()
    with caplog.at_level(logging.WARNING), study_workspace(config, windows, fresh=False) as (study, workspace):
        assert released and workspace == folder
        assert study.study_name == f"shops/{folder.name}"
    thread.join()
    assert "another run of this search is active" in caplog.text


@pytest.mark.slow
def test_three_searches_of_a_name_are_kept_and_the_newest_warm_starts_the_next(hourly, home, tmp_path, run_search):
    for epochs in (1, 2, 3, 4):
        run_search(model={**NETWORK, "epochs": epochs}, trials=2)
        time.sleep(0.05)
    kept = list((home / "studies" / "shops").iterdir())
    assert len(kept) == 3
    config, _, _, windows = prepare(
        hourly, tmp_path, model={**NETWORK, "epochs": 4}, search={"trials": 2, "space": RATES, "pruner": "none"}
    )
    name = f"shops/{study_key(config, windows)[:16]}"
    newest = load_study(name, home / "studies" / name)
    assert newest is not None
    assert newest.trials[1].user_attrs["warm_start"].startswith("shops/")


@pytest.mark.slow
def test_a_killed_search_continues_with_the_same_suggestions(hourly, tmp_path):
    hourly.to_csv(tmp_path / "shops.csv", index=False)
    search = {"trials": 9, "space": {**RATES, "hidden_size": [4, 8, 16]}}
    sections = json.dumps({"model": {**NETWORK, "epochs": 12}, "search": search})

    def command(name):
        environment = {**os.environ, "LSTM_HOME": str(tmp_path / name), "PYTHONPATH": str(ROOT)}
        return {"args": [sys.executable, "-c", SEARCH, sections], "cwd": tmp_path, "env": environment}

    whole = subprocess.run(**command("whole"), capture_output=True, text=True, check=True)
    for n_ended in (1, 4):  # killed in the middle of the next trial
        running = subprocess.Popen(**command("killed"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while len(list((tmp_path / "killed").glob("studies/shops/*/trial-*/result.json"))) < n_ended:
            time.sleep(0.01)
        time.sleep(0.1)
        running.kill()
        running.wait()
    killed = subprocess.run(**command("killed"), capture_output=True, text=True, check=True)
    (_, _, expected), (n_ended, n_cached, actual) = json.loads(whole.stdout), json.loads(killed.stdout)
    assert n_ended == 9 and n_cached >= 4
    assert actual == expected
