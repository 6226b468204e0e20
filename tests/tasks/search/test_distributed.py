"""One study worked off by several processes and machines: nothing is lost, nothing is done twice."""

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import optuna
import psutil
import pytest
from optuna.trial import TrialState
from sqlalchemy import create_engine, text

from lstm.config.operations import ExecutionSpec
from lstm.errors import ConfigError, StoreError, TrainingError
from tasks.runtime.network import free_port
from tasks.runtime.process_owner import now, this_process
from tasks.search import backends, coordinator, worker_pool
from tasks.search import storage as study_store
from tasks.search.distributed import collect, run_on_node, search_job
from tasks.search.leases import TrialLeases, search_session, study_lock, trial_leases
from tasks.search.results import SearchResults
from tasks.search.study import ask, load_study, n_failed, open_study, orphaned_trials, suggest_params
from tasks.search.trial_folder import result_of
from tasks.search.trial_logger import trial_logger
from tasks.search.workspace import study_workspace
from tasks.tracking import runs as tracking
from tasks.train import train
from tests.support.paths import ROOT
from tests.support.postgres import postgres_server
from tests.support.prepared_data import prepare
from tests.support.studies import config as study_config
from tests.support.tables import make_hourly

NETWORK = {"sequence_length": 12, "hidden_size": 4, "num_layers": 1, "epochs": 2, "dropout": 0.0, "device": "cpu"}
RATES = {"learning_rate": {"low": 1e-3, "high": 1e-1, "log": True}}
FEW = {"hidden_size": [4, 6, 8], "learning_rate": [0.001, 0.01]}
WORK = "import pickle, sys; from tasks.search.distributed import run_on_node; run_on_node(pickle.load(sys.stdin.buffer), 1)"


@pytest.fixture(scope="module")
def server():
    """The address of a database for studies."""
    with postgres_server() as address:
        yield address


@pytest.fixture
def database(server, monkeypatch):
    monkeypatch.setenv("LSTM_STUDY_STORAGE", server)
    yield server
    storage = study_store.open_storage(Path())  # the next test has another home, where this one's files are not
    for name in optuna.get_all_study_names(storage):
        optuna.delete_study(study_name=name, storage=storage)
    study_store.close_storages()


@pytest.fixture
def called(home, tmp_path):
    """A training run in the middle of its search: a function that gives configuration, study and share."""

    @contextmanager
    def call(called=None, **search):
        section = {"trials": 30, "pruner": "none", "workers": 1, **search}
        config, table, _, windows = prepare(make_hourly(16), tmp_path, model=NETWORK, search=section)
        with (
            tracking.parent_run(config, table, ["cpu"], "") as run,
            study_workspace(config, windows, False) as (study, folder),
            search_session(study, True) as mine,
        ):
            yield search_job(config, windows, run, study, folder, called or mine, float("inf"), n_failed(study)), study

    return call


@pytest.fixture
def searched(home, tmp_path):
    """A function that searches on a cluster; gives what was found, the study's folder and the runs of the trials."""

    def search(execution, model=None, **section):
        found = {"trials": 30, "pruner": "none", "workers": 1, **section}
        changes = {"model": {**NETWORK, **(model or {})}, "search": found, "execution": execution}
        config, table, _, windows = prepare(make_hourly(16), tmp_path, **changes)
        with tracking.parent_run(config, table, ["cpu"], "") as run:
            result = train.fn(config, windows, run, ["cpu"])
        query = f"tags.mlflow.parentRunId = '{run.run_id}'"
        return result, tracking.client().search_runs([run.experiment_id], query)

    return search


def trained(folder):
    return sorted(path.parent.name for path in folder.glob("trial-*/result.json"))


def check_all_there(study, folder, count):
    """Every trial once, none running, and each network trained once."""
    trials = load_study(study, folder).trials
    assert [trial.number for trial in trials] == list(range(count))
    assert {trial.state for trial in trials} == {TrialState.COMPLETE}
    own = [trial for trial in trials if "same_as" not in trial.user_attrs]
    assert trained(folder) == [f"trial-{trial.number:03d}" for trial in own]
    assert set(Counter(trial.user_attrs["network"] for trial in own).values()) == {1}
    assert {trial.user_attrs["network"] for trial in trials} == {trial.user_attrs["network"] for trial in own}
    for trial in own:
        assert result_of(folder / f"trial-{trial.number:03d}")["val_rmse"] == trial.value


def processes(share, count=2):
    """Shares in processes of their own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    running = []
    for _ in range(count):
        one = subprocess.Popen([sys.executable, "-c", WORK], cwd=ROOT, env=environment, stdin=subprocess.PIPE)
        with one.stdin as pipe:
            pickle.dump(share, pipe)
        running.append(one)
    return running


def wait_for(condition, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert condition()


# Two processes on one study.


@pytest.mark.service
@pytest.mark.parametrize("kept_in", ["PostgreSQL", "a journal"])
def test_two_processes_do_every_trial_once_and_train_no_network_twice(called, request, kept_in):
    if kept_in == "PostgreSQL":
        request.getfixturevalue("database")
    with called(space=FEW, sampler="random") as (share, study):
        running = processes(share)
        assert [one.wait(180) for one in running] == [0, 0]
        owners = {trial.user_attrs["owner"] for trial in study.trials}
        assert len(owners) == 2 and len(trained(share.folder)) <= 7
        check_all_there(share.study, share.folder, 30)
        runs = tracking.client().search_runs([share.run.experiment_id], "tags.kind = 'trial'")
        assert sorted(run.info.run_name for run in runs) == [f"trial-{number:03d}" for number in range(30)]
        assert {run.info.status for run in runs} == {"FINISHED"}


@pytest.mark.service
def test_what_a_killed_share_was_at_the_other_one_finishes(called, database):
    with called(space=RATES, trials=16) as (share, study):
        running = processes(share)
        wait_for(lambda: len({trial.user_attrs.get("owner") for trial in study.trials}) == 2)
        wait_for(lambda: len(trained(share.folder)) > 4)
        running[0].kill()
        assert running[0].wait() == -signal.SIGKILL
        assert running[1].wait(180) == 0
        check_all_there(share.study, share.folder, 16)


@pytest.mark.service
def test_a_share_ends_with_the_run_that_it_is_for_and_gives_its_trials_back(called, database):
    with called(space=RATES, trials=10_000) as (share, study):
        (running,) = processes(share, 1)
        wait_for(lambda: len(trained(share.folder)) > 1)
        study.set_user_attr("run", "another")
        assert running.wait(60) == 1
        running_still = study.get_trials(states=(TrialState.RUNNING,))
        assert [trial.user_attrs["owner"] for trial in running_still] == [""] * len(running_still)
        assert len(study.trials) < 10_000


def test_a_share_answers_a_twin_whose_other_has_ended_elsewhere_before_it_ends_itself(called):
    with (
        called(space=FEW, trials=2) as (share, study),
        trial_logger(share.run) as runs,
        trial_leases(study, share.folder, share.called) as mine,
        trial_leases(study, share.folder, share.called) as others,
    ):
        first, twin = asked(study, share.config, others), asked(study, share.config, mine)
        runs.start(twin.number, share.config.model)
        tally = SearchResults(share.config, runs, lambda ended, best: None)
        loop = coordinator.TrialCoordinator(share.config, share.windows, study, share.folder, tally, mine, 60, 0)
        loop.twins = [(twin, first.number)]
        study.tell(first, 2.5)
        loop.go([])
        assert (study.trials[1].state, study.trials[1].value) == (TrialState.COMPLETE, 2.5)
        assert study.trials[1].user_attrs["same_as"] == 0 and not loop.cut


def test_a_trial_whose_share_died_before_it_wrote_its_run_has_one_all_the_same(called):
    with called(space=RATES, trials=4) as (share, study):
        report = run_on_node(share, 1)
        client, query = tracking.client(), "tags.kind = 'trial'"
        written = {run.info.run_name: run for run in client.search_runs([share.run.experiment_id], query)}
        client.update_run(written["trial-000"].info.run_id, "RUNNING")
        client.delete_run(written["trial-001"].info.run_id)
        with trial_logger(share.run) as runs:
            tally = SearchResults(share.config, runs, lambda ended, best: None)
            collect(share, study, tally, [report], set())
            found = tally.search(study, share.folder)
        assert (found.n_ended, len(found.trials), found.n_missing) == (4, 4, 0)
        now = client.search_runs([share.run.experiment_id], query)
        finished = {run.info.run_id: run for run in now if run.info.status == "FINISHED"}
        assert sorted(run.info.run_name for run in finished.values()) == sorted(written)
        assert {trial.run_id for trial in found.trials} == set(finished)
        for run in finished.values():
            before = written[run.info.run_name].data
            assert run.data.metrics == before.metrics and run.data.params == before.params
        assert [run.info.run_name for run in now if run.info.status == "KILLED"] == ["trial-000"]


# A cluster of Dask.


@pytest.fixture
def dask(tmp_path):
    """A scheduler and two workers as they are started by hand; gives the address and the workers' processes."""
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
        for one in reversed(started):
            one.kill()
            one.wait()


@pytest.mark.service
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")
def test_two_dask_workers_of_which_one_is_killed_find_every_trial_once(home, database, dask, searched):
    address, workers = dask

    def kill_one():
        wait_for(lambda: len(list(home.glob("studies/shops/*/trial-*/result.json"))) > 5)
        workers[0].kill()

    killer = threading.Thread(target=kill_one)
    killer.start()
    found, runs = searched({"runner": "dask", "address": address, "workers": 2}, space=RATES)
    killer.join()
    folder = next((home / "studies" / "shops").iterdir())
    assert (found.n_ended, len(found.trials), found.n_failed, found.n_missing) == (30, 30, 0, 0)
    assert workers[0].poll() == -signal.SIGKILL
    check_all_there(f"shops/{folder.name}", folder, 30)
    assert {run.info.status for run in runs} <= {"FINISHED", "KILLED"}
    finished = {run.info.run_id: run.info.run_name for run in runs if run.info.status == "FINISHED"}
    assert sorted(finished.values()) == [f"trial-{number:03d}" for number in range(30)]
    assert {trial.run_id for trial in found.trials} == set(finished)
    again, _ = searched({"runner": "local"}, space=RATES)
    assert (again.n_cached, again.n_ended, again.cpu_seconds) == (30, 30, 0)


@pytest.mark.service
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")
def test_without_an_address_dask_runs_here_and_a_journal_will_do(home, searched):
    found, runs = searched({"runner": "dask", "workers": 2}, space=RATES, trials=8)
    folder = next((home / "studies" / "shops").iterdir())
    assert found.summary == "8 of 8 trials, 0 of them pruned" and found.cpu_seconds > 0 and len(runs) == 8
    check_all_there(f"shops/{folder.name}", folder, 8)


@pytest.mark.service
def test_ray_runs_the_same_search(home, searched):
    found, runs = searched({"runner": "ray", "workers": 2}, space=RATES, trials=8)
    folder = next((home / "studies" / "shops").iterdir())
    assert found.summary == "8 of 8 trials, 0 of them pruned" and len(runs) == 8
    check_all_there(f"shops/{folder.name}", folder, 8)


def test_a_runner_whose_package_is_missing_is_told_with_its_extra(monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(backends, "import_module", missing)
    for runner in ("dask", "ray"):
        with pytest.raises(ConfigError, match=rf"{runner} needs a package .* pip install 'lstm\[{runner}\]'"):
            list(backends.run_on_cluster(ExecutionSpec(runner=runner), int, lambda: None))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")
def test_an_address_where_no_cluster_answers_is_told(monkeypatch):
    monkeypatch.setattr(backends, "_HUNG_TIMEOUT_S", 1.0)
    where = f"tcp://127.0.0.1:{free_port()}"
    with pytest.raises(ConfigError, match=f"'{where}': no dask cluster answers there"):
        list(backends.run_on_cluster(ExecutionSpec(runner="dask", address=where), int, lambda: None))


# A machine that is not set up for it.


def test_a_machine_that_does_not_see_the_stores_says_so(called, tmp_path, monkeypatch):
    with called(space=RATES) as (share, _):
        elsewhere = share.windows.folder.with_name("away")
        share.windows.folder.rename(elsewhere)
        with pytest.raises(ConfigError, match="mlruns is not there. LSTM_HOME must be a folder that all machines see"):
            run_on_node(share, 1)
        elsewhere.rename(share.windows.folder)
        with monkeypatch.context() as other:
            other.setenv("LSTM_HOME", str(tmp_path / "other"))
            with pytest.raises(ConfigError, match="LSTM_HOME is .*other, but must be .*mlruns"):
                run_on_node(share, 1)
        with monkeypatch.context() as other:
            other.setenv("LSTM_STUDY_STORAGE", f"sqlite:///{tmp_path}/studies.db")
            with pytest.raises(ConfigError, match="LSTM_STUDY_STORAGE must be set as where the training run is"):
                run_on_node(share, 1)


def test_a_machine_with_another_version_is_refused(called, monkeypatch):
    with called(space=RATES) as (share, _):
        monkeypatch.setattr("tasks.search.workspace.code_sha256", lambda: "another")
        with pytest.raises(ConfigError, match="has another version of lstm or torch"):
            run_on_node(share, 1)


# Whose a trial is.


def asked(study, settings, mine, owner=None):
    trial = ask(study, settings)
    mine.take(trial)
    suggest_params(trial, settings)
    if owner is not None:
        trial.set_user_attr("owner", owner)
    return trial


def numbers(study):
    return [trial.number for trial in orphaned_trials(study)]


HOST = this_process().partition(":")[0]
ELSEWHERE = "elsewhere:7:1.00"


def test_trials_of_the_dead_are_left_and_those_of_the_living_are_not(tmp_path):
    settings = study_config()
    study = open_study(settings, "s", tmp_path)
    with trial_leases(study, tmp_path, "run") as mine:
        for owner in (None, f"{HOST}:1:1.00", f"{HOST}:999999999:1.00", ELSEWHERE, ""):
            asked(study, settings, mine, owner)
        ask(study, settings)  # its process died before it could write its name
        assert numbers(study) == [1, 2, 4, 5]
        study._storage.set_trial_user_attr(study.trials[3]._trial_id, "seen", "2020-01-01T00:00:00+00:00")
        assert numbers(study) == [1, 2, 3, 4, 5]
        study._storage.set_trial_user_attr(study.trials[3]._trial_id, "seen", now())
        assert numbers(study) == [1, 2, 4, 5]
    assert numbers(study) == [0, 1, 2, 3, 4, 5]


@pytest.mark.service
def test_in_a_database_a_process_elsewhere_is_dead_when_its_heartbeat_is_old(tmp_path, database):
    settings = study_config()
    study = open_study(settings, "heartbeats", tmp_path)
    with trial_leases(study, tmp_path, "run") as mine:
        for _ in range(2):
            asked(study, settings, mine, ELSEWHERE)
        assert numbers(study) == []
        engine = create_engine(database)
        with engine.begin() as connection:
            late = "update trial_heartbeats set heartbeat = heartbeat - interval '121 seconds' where trial_id = :id"
            connection.execute(text(late), {"id": study.trials[1]._trial_id})
        engine.dispose()
        assert numbers(study) == [1]
        mine.beat()
        assert numbers(study) == []


def test_a_share_that_was_taken_for_dead_does_not_end_the_trial_of_another(tmp_path):
    settings = study_config()
    study = open_study(settings, "s", tmp_path)
    first, second = TrialLeases(study, tmp_path, "run"), TrialLeases(study, tmp_path, "run")
    trial = ask(study, settings)
    first.take(trial)
    assert first.has(trial) and not second.has(trial)
    second.take(trial)
    assert second.has(trial) and not first.has(trial)


@pytest.mark.service
def test_machines_without_a_common_folder_wait_for_one_another_in_the_database(tmp_path, database):
    def locked(folder):
        return study_lock("the search shops/1", tmp_path / folder / "lock", 0.2)

    with locked("one"), pytest.raises(StoreError, match="the lock for the search shops/1 is held"), locked("two"):
        pass
    with locked("two"):
        assert not list(tmp_path.iterdir())


def test_a_database_that_is_not_there_is_told_at_once_and_is_not_waited_for(called, monkeypatch, caplog):
    monkeypatch.setenv("LSTM_STUDY_STORAGE", "postgresql://me:secret@127.0.0.1:9/studies")
    told = "127.0.0.1:9/studies: the lock for the search shops/.* can't be had .* Check that it answers"
    with pytest.raises(StoreError, match=told) as caught, called():
        pass
    assert "secret" not in str(caught.value) and "waiting" not in caplog.text


@pytest.mark.slow
def test_a_worker_that_hangs_is_killed_when_the_time_has_been_over_for_long(
    called, home, tmp_path, monkeypatch, caplog
):
    monkeypatch.setattr(coordinator, "_HUNG_TIMEOUT_S", 2.0)
    monkeypatch.setattr(worker_pool, "_START", "import tasks.search.worker as w, os, signal\nfit = w.fit\n"
        "w.fit = lambda *a: os.kill(os.getpid(), signal.SIGSTOP)\nw.main()")  # fmt: skip
    section = {"trials": 2, "space": RATES, "timeout": "3s"}
    config, table, _, windows = prepare(make_hourly(16), tmp_path, model=NETWORK, search=section)
    started = time.monotonic()
    with tracking.parent_run(config, table, ["cpu"], "") as run, pytest.raises(TrainingError) as caught:
        train.fn(config, windows, run, ["cpu"])
    assert 5 <= time.monotonic() - started < 30
    assert "none of 1 trials could be finished. The last one: its worker said nothing for" in str(caught.value)
    assert "after search.timeout, and was killed" in caplog.text
    assert not [one for one in psutil.Process().children() if "tasks.search.worker" in " ".join(one.cmdline())]
