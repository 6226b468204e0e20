"""The search with real workers: what it leaves, what it does not do twice, and what survives a kill."""

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
from tasks.tracking import runs as tracking
from tasks.train import train
from tests.support.paths import ROOT
from tests.support.prepared_data import prepare
from tests.support.searches import NETWORK, RATES, SEARCH


@pytest.fixture
def searched(hourly, home, tmp_path):
    """A function that searches, and gives what was found and the MLflow runs by name."""

    def search(fresh=False, model=NETWORK, workers=1, ensemble=None, **section):
        found = {"trials": 3, "space": RATES, "pruner": "none", **section}
        config, table, _, windows = prepare(hourly, tmp_path, model=model, search=found, ensemble=ensemble or {})
        with tracking.parent_run(config, table, ["cpu"] * workers, "") as run:
            result = train.fn(config, windows, run, ["cpu"] * workers, fresh)
        query = f"tags.mlflow.parentRunId = '{run.run_id}'"
        children = tracking.client().search_runs([run.experiment_id], query)
        return result, {child.info.run_name: child for child in children}, windows

    return search


def networks(search):
    return {trial.number: load_checkpoint(trial.folder / "network.safetensors")[0] for trial in search.trials}


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one) and one.keys() == other.keys()


def test_trials_are_ranked_and_each_has_a_run_with_its_curves(searched):
    found, runs, windows = searched(workers=2)
    assert [trial.val_rmse_normalized for trial in found.trials] == sorted(trial.val_rmse_normalized for trial in found.trials)
    assert found.summary == "3 of 3 trials, 0 of them pruned"
    assert set(runs) == {"trial-000", "trial-001", "trial-002"} and found.cpu_seconds > 0
    for trial in found.trials:
        run = runs[trial.name]
        assert (run.info.run_id, run.info.status) == (trial.run_id, "FINISHED")
        assert run.data.tags["trial_state"] == "complete"
        assert run.data.metrics["val_rmse_normalized"] == trial.val_rmse_normalized
        steps = [point.step for point in tracking.client().get_metric_history(trial.run_id, "train_loss")]
        assert steps == [1, 2, 3]
        assert len(np.load(trial.folder / "validation.npy")) == windows.validation
        assert not (trial.folder / "progress.safetensors").exists()


def test_the_same_search_again_is_answered_from_the_first(searched):
    first, before, _ = searched()
    again, runs, _ = searched()
    assert again.cpu_seconds == 0 and again.n_cached == 3
    assert again.summary == "3 of 3 trials, 0 of them pruned, 3 known from an earlier run"
    assert [trial.val_rmse_normalized for trial in again.trials] == [trial.val_rmse_normalized for trial in first.trials]
    assert {run.info.run_id for run in runs.values()}.isdisjoint(run.info.run_id for run in before.values())
    for name, run in runs.items():
        assert run.data.tags["answered_from"].startswith("shops/") and run.data.tags["first_trained"]
        assert run.data.metrics == before[name].data.metrics
        assert run.data.params == before[name].data.params
        assert len(tracking.client().get_metric_history(run.info.run_id, "val_loss")) == 3


@pytest.mark.slow
def test_more_trials_add_to_those_that_are_there(searched):
    searched()
    more, _, _ = searched(trials=5)
    assert (more.n_cached, more.n_ended, len(more.trials)) == (3, 5, 5)
    whole, _, _ = searched(trials=5, fresh=True)
    assert whole.n_cached == 0 and whole.cpu_seconds > 0
    assert all(same(networks(more)[number], networks(whole)[number]) for number in range(5))


def test_what_a_result_depends_on_makes_another_search(hourly, home, tmp_path):
    config, _, _, windows = prepare(hourly, tmp_path, model=NETWORK, search={"space": RATES})
    key = study_key(config, windows)
    for budget in ({"trials": 9}, {"timeout": "1h"}, {"plateau": 4}, {"workers": 1}):
        other, _, _, _ = prepare(hourly, tmp_path, model=NETWORK, search={"space": RATES, **budget})
        assert study_key(other, windows) == key
    for search, model in (({"seed": 1}, {}), ({"sampler": "random"}, {}), ({"space": {}}, {}), ({}, {"epochs": 4})):
        other, _, _, _ = prepare(hourly, tmp_path, model={**NETWORK, **model}, search={"space": RATES, **search})
        assert study_key(other, windows) != key
    warmer = hourly.assign(sales=hourly["sales"] + 1)
    assert study_key(config, prepare(warmer, tmp_path, model=NETWORK, search={"space": RATES})[3]) != key


def test_a_network_that_was_trained_already_is_answered(searched):
    found, runs, _ = searched(trials=5, space={"hidden_size": [4, 8]}, sampler="random")
    assert len(found.trials) == 2 and found.n_ended == 5
    twins = [run for run in runs.values() if "same_as" in run.data.tags]
    assert len(twins) == 3
    for run in twins:
        assert run.data.params["hidden_size"] == runs[run.data.tags["same_as"]].data.params["hidden_size"]
    again, _, _ = searched(trials=5, space={"hidden_size": [4, 8]}, sampler="random")
    assert (again.n_ended, again.n_cached, len(again.trials), again.cpu_seconds) == (5, 5, 2, 0)


def test_a_network_that_is_being_trained_is_not_trained_beside_it(searched):
    found, runs, _ = searched(trials=4, workers=2, space={"hidden_size": [4]}, ensemble={"members": []})
    assert len(found.trials) == 1 and found.n_ended == 4
    assert found.summary == "4 of 4 trials, 0 of them pruned, 3 with the network of another"
    twins = [run for run in runs.values() if "same_as" in run.data.tags]
    assert {run.data.metrics["val_rmse_normalized"] for run in twins} == {found.trials[0].val_rmse_normalized}


@pytest.mark.parametrize("file", ["validation.npy", "network.safetensors", "result.json"])
def test_a_trial_whose_files_are_damaged_is_lost_and_the_others_count(searched, file):
    first, _, _ = searched()
    damaged = first.trials[0].folder / file
    damaged.write_bytes(damaged.read_bytes()[:20])
    again, runs, _ = searched()
    assert [trial.number for trial in again.trials] == [trial.number for trial in first.trials[1:]]
    assert "1 lost, since their files are damaged or gone (--fresh trains anew)" in again.summary
    assert runs[first.trials[0].name].data.tags["error"].startswith("its files are damaged or gone")


@pytest.mark.slow
def test_a_trial_that_the_timeout_cut_short_goes_on_with_more_time(searched):
    slow = {**NETWORK, "epochs": 60, "patience": None}
    cut, runs, _ = searched(trials=1, model=slow, timeout="2s")
    assert cut.summary.endswith("1 cut short") and runs["trial-000"].data.tags["trial_state"] == "cut"
    assert len(cut.trials) == 1 and len(tracking.client().get_metric_history(cut.trials[0].run_id, "val_loss")) < 60
    more, runs, _ = searched(trials=1, model=slow)
    assert more.summary == "1 of 1 trials, 0 of them pruned" and "resumed_at_epoch" in runs["trial-000"].data.tags
    whole, _, _ = searched(trials=1, model=slow, fresh=True)
    assert same(networks(more)[0], networks(whole)[0])


@pytest.mark.slow
def test_a_grid_ends_when_every_point_was_tried(searched):
    found, _, _ = searched(trials=9, sampler="grid", space={"hidden_size": [4, 8], "num_layers": {"low": 1, "high": 2}})
    assert found.n_ended == 4 and found.summary.endswith("then every point of the grid had been tried")


@pytest.mark.slow
def test_a_plateau_ends_the_search(searched):
    found, _, _ = searched(trials=30, plateau=2, model={**NETWORK, "epochs": 1})
    assert found.n_ended < 30 and found.summary.endswith("then 2 trials in a row had not been better (search.plateau)")


@pytest.mark.slow
def test_error_and_latency_make_a_front(searched):
    found, runs, _ = searched(objectives=["error", "latency"], space={"hidden_size": [4, 64]}, trials=2)
    assert all(trial.latency_ms > 0 for trial in found.trials)
    assert found.pareto_front and set(found.pareto_front) <= {trial.number for trial in found.trials}
    assert runs["trial-000"].data.metrics["latency_ms"] > 0
    parent = runs["trial-000"].data.tags["mlflow.parentRunId"]
    assert "search/pareto.png" in {one.path for one in tracking.client().list_artifacts(parent, "search")}


@pytest.mark.slow
def test_a_dead_worker_is_replaced_and_its_trial_goes_on_to_the_same_bits(searched):
    slow = {**NETWORK, "epochs": 40, "patience": None}
    undisturbed, _, _ = searched(trials=2, model=slow)
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
    disturbed, runs, _ = searched(trials=2, model=slow, fresh=True)
    thread.join(10)
    assert killed and disturbed.n_ended == 2 and disturbed.n_failed == 0
    assert all(same(networks(disturbed)[number], networks(undisturbed)[number]) for number in range(2))
    for run in runs.values():
        steps = [point.step for point in tracking.client().get_metric_history(run.info.run_id, "val_loss")]
        assert sorted(set(steps)) == list(range(1, 41))


@pytest.mark.slow
def test_a_trial_that_kills_its_workers_fails_and_the_others_go_on(searched, monkeypatch):
    fatal = (
        "import os, signal\n"
        "from tasks.search import worker\n"
        "train = worker.train\n"
        "def deadly(job, report):\n"
        "    if job.folder.name == 'trial-001':\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return train(job, report)\n"
        "worker.train = deadly\n"
        "worker.main()\n"
    )
    monkeypatch.setattr(worker_pool, "_START", fatal)
    found, runs, _ = searched()
    assert sorted(trial.number for trial in found.trials) == [0, 2] and found.n_failed == 1
    assert "its worker died 3 times (exit code -9). If memory ran out, lower search.workers" in found.summary
    assert runs["trial-001"].info.status == "FAILED"
    assert "died 3 times" in runs["trial-001"].data.tags["error"]


@pytest.mark.slow
def test_a_trial_whose_workers_die_for_other_reasons_than_its_own_comes_to_its_end(searched, monkeypatch):
    mortal = (
        "import os, signal\n"
        "from tasks.search import worker\n"
        "train = worker.train\n"
        "def killed(job, report):\n"
        "    def reported(record, epochs=[]):\n"
        "        answer = report(record)\n"
        "        epochs.append(record)\n"
        "        if len(epochs) == 3:\n"
        "            os.kill(os.getpid(), signal.SIGKILL)\n"
        "        return answer\n"
        "    return train(job, reported)\n"
        "worker.train = killed\n"
        "worker.main()\n"
    )
    replaced, replace = [], worker_pool.Worker.replace
    monkeypatch.setattr(worker_pool.Worker, "replace", lambda self: (replaced.append(self), replace(self)))
    monkeypatch.setattr(worker_pool, "_START", mortal)
    found, _, _ = searched(trials=1, model={**NETWORK, "epochs": 10, "patience": None})
    assert len(replaced) > 3 and (found.n_ended, found.n_failed) == (1, 0)


@pytest.mark.slow
def test_a_failed_trial_is_tried_again_by_the_next_run(searched, monkeypatch):
    start = worker_pool._START
    monkeypatch.setattr(
        worker_pool, "_START", "import tasks.search.worker as w\nw._windows = lambda job: 1 / 0\nw.main()"
    )
    with pytest.raises(TrainingError, match=r"none of 3 trials could be finished. The last one: ZeroDivisionError"):
        searched()
    monkeypatch.setattr(worker_pool, "_START", start)
    found, _, _ = searched()
    assert len(found.trials) == 3 and found.n_failed == 0
    assert [trial.member for trial in sorted(found.trials, key=lambda one: one.number)].count(0) == 1


def test_workers_that_cannot_start_are_told_at_once(searched, monkeypatch, capfd):
    monkeypatch.setattr(worker_pool, "_START", "raise SystemExit('no torch here')")
    with pytest.raises(TrainingError, match=r"a search worker could not start \(exit code 1\): see what it said"):
        searched()
    assert "no torch here" in capfd.readouterr().err


@pytest.mark.slow
def test_a_worker_that_is_killed_while_it_starts_is_replaced(searched):
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
    found, _, _ = searched(trials=1)
    assert killed and found.n_ended == 1 and found.n_failed == 0


def test_a_worker_imports_neither_prefect_nor_mlflow_nor_pandas():
    code = (
        "import sys\n"
        "from tasks.search import worker\n"
        "heavy = {'prefect', 'mlflow', 'optuna', 'pandas', 'sklearn', 'matplotlib'} & set(sys.modules)\n"
        "print(sorted(heavy))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


PARENT = """
import time
from tasks.search.worker_pool import Worker
print(Worker("cpu", 1).process.pid, flush=True)
time.sleep(60)
"""


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
    held, ended = threading.Event(), []

    def first():
        with FileLock(folder / "lock"):
            held.set()
            time.sleep(0.5)
            ended.append(True)

    thread = threading.Thread(target=first)
    thread.start()
    held.wait()
    with caplog.at_level(logging.WARNING), study_workspace(config, windows, fresh=False) as (study, place):
        assert ended and place == folder
        assert study.study_name == f"shops/{folder.name}"
    thread.join()
    assert "another run is at this very search: waiting until it ends" in caplog.text


@pytest.mark.slow
def test_three_searches_of_a_name_are_kept_and_the_last_one_warms_up_the_next(hourly, home, tmp_path, searched):
    for epochs in (1, 2, 3, 4):
        searched(model={**NETWORK, "epochs": epochs}, trials=2)
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
def test_a_killed_search_goes_on_and_proposes_what_it_would_have(hourly, tmp_path):
    hourly.to_csv(tmp_path / "shops.csv", index=False)
    search = {"trials": 9, "space": {**RATES, "hidden_size": [4, 8, 16]}}
    sections = json.dumps({"model": {**NETWORK, "epochs": 12}, "search": search})

    def command(name):
        environment = {**os.environ, "LSTM_HOME": str(tmp_path / name), "PYTHONPATH": str(ROOT)}
        return {"args": [sys.executable, "-c", SEARCH, sections], "cwd": tmp_path, "env": environment}

    whole = subprocess.run(**command("whole"), capture_output=True, text=True, check=True)
    for ended in (1, 4):  # killed in the middle of what comes then
        running = subprocess.Popen(**command("killed"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while len(list((tmp_path / "killed").glob("studies/shops/*/trial-*/result.json"))) < ended:
            time.sleep(0.01)
        time.sleep(0.1)
        running.kill()
        running.wait()
    killed = subprocess.run(**command("killed"), capture_output=True, text=True, check=True)
    (ended, _, expected), (again, answered, found) = json.loads(whole.stdout), json.loads(killed.stdout)
    assert ended == again == 9 and answered >= 4
    assert found == expected
