"""A search on several processes and machines: no trial is lost, and none is trained twice."""

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import optuna
import psutil
import pytest
from optuna.trial import TrialState
from sqlalchemy import create_engine, text

from lstm.config.operations import ExecutionSpec
from lstm.errors import ConfigError, StoreError, TrainingError
from tasks.runtime.network import free_port
from tasks.runtime.process_owner import heartbeat_time, this_process
from tasks.search import backends, coordinator, worker_pool
from tasks.search import storage as storages
from tasks.search.distributed import collect, run_on_node
from tasks.search.leases import TrialLeases, search_session, study_lock, trial_leases
from tasks.search.results import SearchResults
from tasks.search.search_job import SearchJob
from tasks.search.study import ask, load_study, open_study, orphaned_trials, suggest_params
from tasks.search.trial_folder import result_of
from tasks.search.trial_logger import trial_logger
from tasks.search.workspace import study_workspace
from tasks.tracking import runs
from tasks.train import train
from tests.support.paths import ROOT
from tests.support.postgres import postgres_server
from tests.support.prepared_data import prepare
from tests.support.studies import config as study_config
from tests.support.tables import make_hourly

NETWORK = {"sequence_length": 12, "hidden_size": 4, "num_layers": 1, "epochs": 2, "dropout": 0.0, "device": "cpu"}
RATES = {"learning_rate": {"low": 1e-3, "high": 1e-1, "log": True}}
FEW = {"hidden_size": [4, 6, 8], "learning_rate": [0.001, 0.01]}
RUN_NODE = """
import pickle, sys
from tasks.search.distributed import run_on_node
run_on_node(pickle.load(sys.stdin.buffer), 1)
"""


@pytest.fixture(scope="module")
def server():
    """URL of a database for studies."""
    with postgres_server() as address:
        yield address


@pytest.fixture
def database(server, monkeypatch):
    monkeypatch.setenv("LSTM_STUDY_STORAGE", server)
    yield server
    storage = storages.open_storage(Path())  # the next test has another home, where this one's files are not
    for name in optuna.get_all_study_names(storage):
        optuna.delete_study(study_name=name, storage=storage)
    storages.close_storages()


@pytest.fixture
def open_search(home, tmp_path):
    """A function that starts a training run and its search; it yields the search job and the study."""

    @contextmanager
    def start(**search):
        section = {"trials": 30, "pruner": "none", "workers": 1, **search}
        config, table, _, windows = prepare(make_hourly(16), tmp_path, model=NETWORK, search=section)
        with (
            runs.parent_run(config, table, ["cpu"], "") as run,
            study_workspace(config, windows, False) as (study, folder),
            search_session(study) as owner_run_id,
        ):
            yield SearchJob.of(config, windows, run, study, folder, owner_run_id), study

    return start


@pytest.fixture
def run_search(home, tmp_path):
    """A function that searches on a cluster; it returns the search and the MLflow runs of the trials."""

    def search(execution, **section):
        search_section = {"trials": 30, "pruner": "none", "workers": 1, **section}
        changes = {"model": NETWORK, "search": search_section, "execution": execution}
        config, table, _, windows = prepare(make_hourly(16), tmp_path, **changes)
        with runs.parent_run(config, table, ["cpu"], "") as run:
            result = train.fn(config, windows, run, ["cpu"])
        query = f"tags.mlflow.parentRunId = '{run.run_id}'"
        return result, runs.client().search_runs([run.experiment_id], query)

    return search


def trained_trials(folder):
    return sorted(path.parent.name for path in folder.glob("trial-*/result.json"))


def check_complete(study, folder, count):
    """Check that every trial is complete and each network was trained once."""
    trials = load_study(study, folder).trials
    assert [trial.number for trial in trials] == list(range(count))
    assert {trial.state for trial in trials} == {TrialState.COMPLETE}
    originals = [trial for trial in trials if "same_as" not in trial.user_attrs]
    assert trained_trials(folder) == [f"trial-{trial.number:03d}" for trial in originals]
    assert set(Counter(trial.user_attrs["network"] for trial in originals).values()) == {1}
    assert {trial.user_attrs["network"] for trial in trials} == {trial.user_attrs["network"] for trial in originals}
    for trial in originals:
        assert result_of(folder / f"trial-{trial.number:03d}").metrics.val_rmse_normalized == trial.value


def start_nodes(job, count=2):
    """Start nodes as processes of this machine."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    running = []
    for _ in range(count):
        node = subprocess.Popen([sys.executable, "-c", RUN_NODE], cwd=ROOT, env=environment, stdin=subprocess.PIPE)
        with node.stdin as pipe:
            pickle.dump(job, pipe)
        running.append(node)
    return running


def wait_for(condition, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert condition()


# Two nodes on one study.


@pytest.mark.service
@pytest.mark.parametrize("kept_in", ["PostgreSQL", "a journal"])
def test_two_nodes_finish_every_trial_and_train_no_network_twice(open_search, request, kept_in):
    if kept_in == "PostgreSQL":
        request.getfixturevalue("database")
    with open_search(space=FEW, sampler="random") as (job, study):
        nodes = start_nodes(job)
        assert [node.wait(180) for node in nodes] == [0, 0]
        owners = {trial.user_attrs["owner"] for trial in study.trials}
        assert len(owners) == 2 and len(trained_trials(job.folder)) <= 7
        check_complete(job.study_name, job.folder, 30)
        mlflow_runs = runs.client().search_runs([job.run.experiment_id], "tags.kind = 'trial'")
        assert sorted(run.info.run_name for run in mlflow_runs) == [f"trial-{number:03d}" for number in range(30)]
        assert {run.info.status for run in mlflow_runs} == {"FINISHED"}


@pytest.mark.service
def test_a_node_finishes_the_trials_of_a_killed_one(open_search, database):
    with open_search(space=RATES, trials=16) as (job, study):
        nodes = start_nodes(job)
        wait_for(lambda: len({trial.user_attrs.get("owner") for trial in study.trials}) == 2)
        wait_for(lambda: len(trained_trials(job.folder)) > 4)
        nodes[0].kill()
        assert nodes[0].wait() == -signal.SIGKILL
        assert nodes[1].wait(180) == 0
        check_complete(job.study_name, job.folder, 16)


@pytest.mark.service
def test_a_node_stops_and_releases_its_trials_when_another_run_takes_over(open_search, database):
    with open_search(space=RATES, trials=10_000) as (job, study):
        (node,) = start_nodes(job, 1)
        wait_for(lambda: len(trained_trials(job.folder)) > 1)
        study.set_user_attr("run", "another")
        assert node.wait(60) == 1
        left_running = study.get_trials(states=(TrialState.RUNNING,))
        assert [trial.user_attrs["owner"] for trial in left_running] == [""] * len(left_running)
        assert len(study.trials) < 10_000


def test_a_node_copies_the_result_of_a_trial_that_another_node_has_finished(open_search):
    with (
        open_search(space=FEW, trials=2) as (job, study),
        trial_logger(job.run) as logger,
        trial_leases(study, job.folder, job.owner_run_id, True) as ours,
        trial_leases(study, job.folder, job.owner_run_id, True) as theirs,
    ):
        original, duplicate = start_trial(study, job.config, theirs), start_trial(study, job.config, ours)
        logger.start(duplicate.number, job.config.model)
        results = SearchResults(job.config, logger, lambda n_ended, best: None)
        node = coordinator.TrialCoordinator(replace(job, until=time.time() + 60), study, results, ours)
        node.duplicates = [(duplicate, original.number)]
        study.tell(original, 2.5)
        node.run([])
        assert (study.trials[1].state, study.trials[1].value) == (TrialState.COMPLETE, 2.5)
        assert study.trials[1].user_attrs["same_as"] == 0 and not node.interrupted


@pytest.mark.slow
def test_the_run_of_a_trial_is_written_if_its_node_died_before_it_could(open_search):
    with open_search(space=RATES, trials=4) as (job, study):
        report = run_on_node(job, 1)
        client, query = runs.client(), "tags.kind = 'trial'"
        written = {run.info.run_name: run for run in client.search_runs([job.run.experiment_id], query)}
        client.update_run(written["trial-000"].info.run_id, "RUNNING")
        client.delete_run(written["trial-001"].info.run_id)
        with trial_logger(job.run) as logger:
            results = SearchResults(job.config, logger, lambda n_ended, best: None)
            collect(job, study, results, [report], set())
            search = results.search(study, job.folder)
        assert (search.n_ended, len(search.trials), search.n_missing) == (4, 4, 0)
        mlflow_runs = client.search_runs([job.run.experiment_id], query)
        finished = {run.info.run_id: run for run in mlflow_runs if run.info.status == "FINISHED"}
        assert sorted(run.info.run_name for run in finished.values()) == sorted(written)
        assert {trial.run_id for trial in search.trials} == set(finished)
        for run in finished.values():
            before = written[run.info.run_name].data
            assert run.data.metrics == before.metrics and run.data.params == before.params
        assert [run.info.run_name for run in mlflow_runs if run.info.status == "KILLED"] == ["trial-000"]


# A cluster of Dask.


@pytest.fixture
def dask(tmp_path):
    """A scheduler and two workers, started by their commands; yields the address and the processes of the workers."""
    address = f"tcp://127.0.0.1:{free_port()}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    port = address.rpartition(":")[2]
    here = ["--host", "127.0.0.1", "--no-dashboard"]
    commands = [
        ["scheduler", "--port", port, *here],
        *[["worker", address, "--nthreads", "1", "--no-nanny", *here]] * 2,
    ]
    started = []
    try:
        for command in commands:
            log = (tmp_path / f"dask-{len(started)}.log").open("w")
            started.append(
                subprocess.Popen(
                    [sys.executable, "-m", "dask", *command], cwd=tmp_path, env=environment, stdout=log, stderr=log
                )
            )
            log.close()
        yield address, started[1:]
    finally:
        for process in reversed(started):
            process.kill()
            process.wait()


@pytest.mark.service
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")
def test_a_dask_cluster_finishes_every_trial_when_a_worker_is_killed(home, database, dask, run_search):
    address, workers = dask

    def kill_one():
        wait_for(lambda: len(list(home.glob("studies/shops/*/trial-*/result.json"))) > 5)
        workers[0].kill()

    killer = threading.Thread(target=kill_one)
    killer.start()
    search, mlflow_runs = run_search({"runner": "dask", "address": address, "workers": 2}, space=RATES)
    killer.join()
    folder = next((home / "studies" / "shops").iterdir())
    assert (search.n_ended, len(search.trials), search.n_failed, search.n_missing) == (30, 30, 0, 0)
    assert workers[0].poll() == -signal.SIGKILL
    check_complete(f"shops/{folder.name}", folder, 30)
    assert {run.info.status for run in mlflow_runs} <= {"FINISHED", "KILLED"}
    finished = {run.info.run_id: run.info.run_name for run in mlflow_runs if run.info.status == "FINISHED"}
    assert sorted(finished.values()) == [f"trial-{number:03d}" for number in range(30)]
    assert {trial.run_id for trial in search.trials} == set(finished)
    again, _ = run_search({"runner": "local"}, space=RATES)
    assert (again.n_cached, again.n_ended, again.cpu_seconds) == (30, 30, 0)


@pytest.mark.service
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")
def test_without_an_address_dask_runs_on_this_machine_with_a_journal(home, run_search):
    search, mlflow_runs = run_search({"runner": "dask", "workers": 2}, space=RATES, trials=8)
    folder = next((home / "studies" / "shops").iterdir())
    assert search.summary == "8 of 8 trials, 0 of them pruned" and search.cpu_seconds > 0 and len(mlflow_runs) == 8
    check_complete(f"shops/{folder.name}", folder, 8)


@pytest.mark.service
def test_ray_runs_the_same_search(home, run_search):
    search, mlflow_runs = run_search({"runner": "ray", "workers": 2}, space=RATES, trials=8)
    folder = next((home / "studies" / "shops").iterdir())
    assert search.summary == "8 of 8 trials, 0 of them pruned" and len(mlflow_runs) == 8
    check_complete(f"shops/{folder.name}", folder, 8)


def test_the_error_for_a_missing_package_names_the_extra(monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(backends, "import_module", missing)
    for runner in ("dask", "ray"):
        with pytest.raises(ConfigError, match=rf"{runner} needs a package .* pip install 'lstm\[{runner}\]'"):
            list(backends.run_on_cluster(ExecutionSpec(runner=runner), int, lambda: None))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")
def test_an_address_without_a_cluster_is_an_error(monkeypatch):
    monkeypatch.setattr(backends, "_CONNECT_TIMEOUT_S", 1.0)
    address = f"tcp://127.0.0.1:{free_port()}"
    with pytest.raises(ConfigError, match=f"'{address}': no dask cluster answers there"):
        list(backends.run_on_cluster(ExecutionSpec(runner="dask", address=address), int, lambda: None))


# A node that is not set up for the search.


@pytest.mark.slow
def test_a_node_that_does_not_see_the_stores_is_an_error(open_search, tmp_path, monkeypatch):
    with open_search(space=RATES) as (job, _):
        moved = job.windows.folder.with_name("moved")
        job.windows.folder.rename(moved)
        with pytest.raises(ConfigError, match="mlruns is missing. LSTM_HOME must be a folder that all machines see"):
            run_on_node(job, 1)
        moved.rename(job.windows.folder)
        with monkeypatch.context() as patch:
            patch.setenv("LSTM_HOME", str(tmp_path / "other"))
            with pytest.raises(ConfigError, match="LSTM_HOME is .*other, but must be .*mlruns"):
                run_on_node(job, 1)
        with monkeypatch.context() as patch:
            patch.setenv("LSTM_STUDY_STORAGE", f"sqlite:///{tmp_path}/studies.db")
            with pytest.raises(ConfigError, match="LSTM_STUDY_STORAGE must be set, or not set, as on"):
                run_on_node(job, 1)


@pytest.mark.slow
def test_a_node_with_another_version_is_an_error(open_search, monkeypatch):
    with open_search(space=RATES) as (job, _):
        monkeypatch.setattr("tasks.search.workspace.code_sha256", lambda: "another")
        with pytest.raises(ConfigError, match="has another version of lstm or torch"):
            run_on_node(job, 1)


# The owner of a trial.


def start_trial(study, settings, leases, owner=None):
    trial = ask(study, settings)
    leases.acquire(trial)
    suggest_params(trial, settings)
    if owner is not None:
        trial.set_user_attr("owner", owner)
    return trial


def orphaned_numbers(study):
    return [trial.number for trial in orphaned_trials(study)]


HOST = this_process().partition(":")[0]
ELSEWHERE = "elsewhere:7:1.00"


def test_trials_of_dead_owners_are_orphaned(tmp_path):
    settings = study_config()
    study = open_study(settings, "s", tmp_path)
    with trial_leases(study, tmp_path, "run", True) as leases:
        for owner in (None, f"{HOST}:1:1.00", f"{HOST}:999999999:1.00", ELSEWHERE, ""):
            start_trial(study, settings, leases, owner)
        ask(study, settings)  # its process died before it could write its owner
        assert orphaned_numbers(study) == [1, 2, 4, 5]
        study._storage.set_trial_user_attr(study.trials[3]._trial_id, "seen", "2020-01-01T00:00:00+00:00")
        assert orphaned_numbers(study) == [1, 2, 3, 4, 5]
        study._storage.set_trial_user_attr(study.trials[3]._trial_id, "seen", heartbeat_time())
        assert orphaned_numbers(study) == [1, 2, 4, 5]
    assert orphaned_numbers(study) == [0, 1, 2, 3, 4, 5]


@pytest.mark.service
def test_in_a_database_a_trial_of_another_machine_is_orphaned_when_its_heartbeat_is_stale(tmp_path, database):
    settings = study_config()
    study = open_study(settings, "heartbeats", tmp_path)
    with trial_leases(study, tmp_path, "run", True) as leases:
        for _ in range(2):
            start_trial(study, settings, leases, ELSEWHERE)
        assert orphaned_numbers(study) == []
        engine = create_engine(database)
        with engine.begin() as connection:
            late = "update trial_heartbeats set heartbeat = heartbeat - interval '121 seconds' where trial_id = :id"
            connection.execute(text(late), {"id": study.trials[1]._trial_id})
        engine.dispose()
        assert orphaned_numbers(study) == [1]
        leases.heartbeat()
        assert orphaned_numbers(study) == []


def test_a_node_loses_a_lease_that_another_node_has_acquired(tmp_path):
    settings = study_config()
    study = open_study(settings, "s", tmp_path)
    first, second = (TrialLeases(study, tmp_path, "run", True) for _ in range(2))
    trial = ask(study, settings)
    first.acquire(trial)
    assert first.holds(trial) and not second.holds(trial)
    second.acquire(trial)
    assert second.holds(trial) and not first.holds(trial)


@pytest.mark.service
def test_machines_without_a_shared_folder_lock_the_search_in_the_database(tmp_path, database):
    def lock(folder):
        return study_lock("the search shops/1", tmp_path / folder / "lock", 0.2)

    with lock("one"), pytest.raises(StoreError, match="the lock for the search shops/1 is held"), lock("two"):
        pass
    with lock("two"):
        assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_an_unreachable_database_is_an_error_at_once(open_search, monkeypatch, caplog):
    monkeypatch.setenv("LSTM_STUDY_STORAGE", "postgresql://me:secret@127.0.0.1:9/studies")
    message = "127.0.0.1:9/studies: the lock for the search shops/"
    with pytest.raises(StoreError, match=message) as caught, open_search():
        pass
    assert "secret" not in str(caught.value) and "waiting" not in caplog.text


@pytest.mark.slow
def test_a_worker_that_hangs_long_after_the_timeout_is_killed(home, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(coordinator, "_HUNG_TIMEOUT_S", 2.0)
    monkeypatch.setattr(worker_pool, "_START", "import tasks.search.worker as w, os, signal\nfit = w.fit\n"
        "w.fit = lambda *a: os.kill(os.getpid(), signal.SIGSTOP)\nw.main()")  # fmt: skip
    section = {"trials": 2, "space": RATES, "timeout": "3s"}
    config, table, _, windows = prepare(make_hourly(16), tmp_path, model=NETWORK, search=section)
    started = time.monotonic()
    with runs.parent_run(config, table, ["cpu"], "") as run, pytest.raises(TrainingError) as caught:
        train.fn(config, windows, run, ["cpu"])
    assert 5 <= time.monotonic() - started < 30
    assert "none of 1 trials could be finished. The last one: its worker did not answer for" in str(caught.value)
    assert "after search.timeout, and was killed" in caplog.text
    children = psutil.Process().children()
    assert not [child for child in children if "tasks.search.worker" in " ".join(child.cmdline())]
