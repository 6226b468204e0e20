"""Reconcile repairs what dead processes left and nothing else."""

import json
import os
import subprocess
import sys
import time
import urllib.request
from uuid import uuid4

import optuna
import pytest
from optuna.trial import TrialState

from flows.cli import app
from lstm.scratch import orphaned_folders, scratch_folder
from tasks.operations import doctor
from tasks.operations.reconcile import Repairs, problems, reconcile
from tasks.registry import alias_swap
from tasks.registry.decision import GateDecision
from tasks.registry.promotion import judge_and_promote, promote, rollback
from tasks.registry.versions import alias_version, set_alias
from tasks.runtime.flow_run_owner import flow_runs_by_liveness, owned_flow_run
from tasks.runtime.process_owner import this_process
from tasks.search.storage import journal_path, open_storage
from tasks.tracking import runs
from tests.support.paths import ROOT
from tests.support.versions import aliases, better_if_newer, decide, register_versions

DEAD_SCRATCH = """
import sys; from pathlib import Path; from lstm.scratch import scratch_folder
with scratch_folder("ingest", Path(sys.argv[1])) as made:
    (made / "half").touch(); print(made, flush=True); input()
"""


@pytest.fixture(scope="session")
def dead():
    """The owner text of a process that has ended."""
    command = [sys.executable, "-c", "from tasks.runtime.process_owner import this_process; print(this_process())"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def run(store):
    """A function that creates a RUNNING run in an experiment, with or without a parent, and returns its id."""
    experiments = {}

    def start(experiment, parent=None, **tags):
        if experiment not in experiments:
            experiments[experiment] = runs.experiment_id(experiment)
        nested = {"mlflow.parentRunId": parent} if parent else {}
        return runs.client().create_run(experiments[experiment], tags={**tags, **nested}).info.run_id

    return start


def status(run_id):
    return runs.client().get_run(run_id).info.status


def old(folder):
    """Set the times of a folder to an hour ago."""
    os.utime(folder, (time.time() - 3600, time.time() - 3600))
    return folder


def test_orphaned_runs_and_their_children_are_killed_in_every_experiment(run, dead):
    parents = [run("shops", owner=dead), run("weather", owner=dead)]
    trial = run("shops", parents[0], kind="trial", trial_state="running")
    repairs = reconcile()
    assert repairs.runs == 2 and len(repairs.lines) == 2 and not repairs.left
    assert {status(run_id) for run_id in [*parents, trial]} == {"KILLED"}
    assert runs.client().get_run(trial).data.tags["trial_state"] == "interrupted"
    assert reconcile() == Repairs()


def test_runs_of_living_processes_and_without_an_owner_are_kept(run):
    living = run("shops", owner=this_process())
    stranger, elsewhere = run("theirs"), run("shops", owner="elsewhere:1:b/1/1")
    theirs_ended = run("theirs")
    runs.client().set_terminated(theirs_ended, "FINISHED")
    run_ids = [living, stranger, elsewhere, run("shops", living, kind="trial"), run("theirs", theirs_ended)]
    assert reconcile() == Repairs()
    assert {status(run_id) for run_id in run_ids} == {"RUNNING"}


def test_a_run_of_another_host_is_killed_when_its_heartbeat_is_stale(run):
    silent = run("shops", owner="elsewhere:1:b/1/1", owner_seen="2024-01-01T00:00:00+00:00")
    assert reconcile().runs == 1
    assert status(silent) == "KILLED"


def test_a_running_child_of_an_ended_run_is_killed(run):
    parent = run("shops", owner=this_process())
    child = run("shops", parent, kind="trial", trial_state="running")
    runs.client().set_terminated(parent, "FINISHED")
    assert reconcile().runs == 1
    assert status(child) == "KILLED" and status(parent) == "FINISHED"


def test_folders_of_ended_runs_are_deleted_and_those_of_running_ones_kept(run, dead, home):
    killed, ended, running = run("shops", owner=dead), run("shops"), run("shops", owner=this_process())
    runs.client().set_terminated(ended, "FINISHED")
    for name in (killed, ended, running, "unknown"):
        (home / "work" / f"run-{name}" / "candidates").mkdir(parents=True)
    repairs = reconcile()
    assert (repairs.runs, repairs.leftovers) == (1, 1)
    assert sorted(path.name for path in (home / "work").iterdir()) == sorted([f"run-{running}", "run-unknown"])


def test_scratch_is_kept_while_its_process_lives_and_deleted_after_a_kill(home):
    (home / "work").mkdir(parents=True)
    command = [sys.executable, "-c", DEAD_SCRATCH, str(home / "work")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    scratch = process.stdout.readline().strip()
    old(scratch)
    assert reconcile() == Repairs()
    process.kill()
    process.communicate()
    assert os.path.exists(scratch) and reconcile().leftovers == 1
    assert not os.path.exists(scratch)


def test_new_scratch_is_not_orphaned(tmp_path):
    (tmp_path / ".ingest-new").mkdir()
    old_one = tmp_path / ".ingest-old"
    old_one.mkdir()
    old(old_one)
    with scratch_folder("ingest", tmp_path) as living:
        old(living)
        assert orphaned_folders(tmp_path) == [old_one]
    assert not living.exists()


def test_without_a_store_there_are_no_problems_and_none_is_created(home):
    assert problems() == []
    assert not (home / "mlflow.db").exists()


@pytest.fixture
def shops(store, saved):
    """Five registered versions; version 2 is champion and version 1 previous."""
    name = register_versions(saved)
    judge_and_promote(name, better_if_newer(2))
    return name


def cut_off(monkeypatch, after, work):
    """Run `work` as a process that is killed after `after` changes of an alias."""
    count = 0

    def counted(name, alias, number):
        nonlocal count
        if count == after:
            raise KeyboardInterrupt
        count += 1
        set_alias(name, alias, number)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(alias_swap, "set_alias", counted)
        work()


PROMOTIONS = {
    "settle": (lambda name: judge_and_promote(name, better_if_newer(3)), {"champion": 3, "previous": 2}),
    "promote": (lambda name: promote(name, "4", True), {"champion": 4, "previous": 2}),
    "rollback": (rollback, {"champion": 1, "previous": 2}),
}


@pytest.mark.slow
@pytest.mark.parametrize("after", [0, 1])
@pytest.mark.parametrize(("work", "meant"), PROMOTIONS.values(), ids=PROMOTIONS)
def test_an_interrupted_alias_swap_is_finished(shops, monkeypatch, work, meant, after):
    cut_off(monkeypatch, after, lambda: work(shops))
    assert alias_version(shops, "champion") == 2  # there is one at every moment
    repairs = reconcile()
    assert repairs.aliases == 1 and shops in repairs.lines[0]
    assert aliases() == meant
    assert reconcile() == Repairs()


def test_the_next_promotion_finishes_an_interrupted_one_first(shops, monkeypatch):
    cut_off(monkeypatch, 1, lambda: judge_and_promote(shops, better_if_newer(3)))
    judge_and_promote(shops, better_if_newer(5))
    assert aliases() == {"champion": 5, "previous": 3}


def test_a_swap_to_a_deleted_version_is_dropped(shops, monkeypatch):
    cut_off(monkeypatch, 0, lambda: judge_and_promote(shops, better_if_newer(3)))
    runs.client().delete_model_version(shops, "3")
    assert reconcile().aliases == 1
    assert aliases() == {"champion": 2, "previous": 1} and problems() == []


def test_a_first_champion_and_a_challenger_leave_no_pending_swap(store, saved):
    name = register_versions(saved)
    judge_and_promote(name, lambda incumbent: decide(2, False, incumbent))
    assert isinstance(judge_and_promote(name, better_if_newer(3)), GateDecision) and problems() == []


def test_a_flow_run_has_an_owner_while_its_flow_runs(home):
    flow_run = str(uuid4())
    with owned_flow_run(flow_run):
        assert flow_runs_by_liveness() == ({flow_run}, set())
        assert problems() == []
    assert flow_runs_by_liveness() == (set(), set())
    with owned_flow_run(""):  # without Prefect
        assert flow_runs_by_liveness() == (set(), set())


def test_a_dead_flow_run_is_reported_until_prefect_answers(home, dead, monkeypatch, tmp_path):
    monkeypatch.setenv("PREFECT_PROFILES_PATH", str(tmp_path / "none.toml"))
    flow_run = str(uuid4())
    mark = home / "work" / "owners" / flow_run
    mark.parent.mkdir(parents=True)
    mark.write_text(dead)
    repairs = reconcile()
    assert repairs.flow_runs == 0 and flow_run in repairs.left[0] and "PREFECT_API_URL: is not set" in repairs.left[0]
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    assert "does not answer" in reconcile().left[0]
    assert mark.exists()


def test_a_flow_run_that_another_process_continues_is_not_crashed(run, dead):
    flow_run = str(uuid4())
    run("shops", owner=dead, prefect_flow_run_id=flow_run)
    with owned_flow_run(flow_run):
        assert [problem.kind for problem in problems()] == ["runs"]
    assert [problem.kind for problem in problems()] == ["runs", "flow_runs"]


def command(monkeypatch, capsys, *arguments):
    """Run `lstm doctor` in this process; return exit code, stdout and stderr."""
    monkeypatch.setattr("sys.argv", ["lstm", "doctor", *arguments])
    with pytest.raises(SystemExit) as ended:
        app.main()
    printed = capsys.readouterr()
    return ended.value.code, printed.out, printed.err


def test_doctor_reports_and_repairs_once(run, dead, monkeypatch, capsys):
    run("shops", owner=dead)
    code, out, _ = command(monkeypatch, capsys)
    assert code == 1 and "problem: MLflow run" in out and "lstm doctor --repair" in out and "healthy" not in out
    code, out, _ = command(monkeypatch, capsys, "--repair")
    assert code == 0 and "repaired: MLflow run" in out and "healthy" in out
    code, out, _ = command(monkeypatch, capsys, "--repair", "--json")
    report = json.loads(out)
    assert code == 0 and report["problems"] == [] and report["repairs"]["lines"] == []


def test_doctor_says_that_a_machine_without_a_store_is_healthy(home, monkeypatch, capsys):
    code, out, err = command(monkeypatch, capsys, "--repair")
    assert code == 0 and "healthy" in out and err == ""
    assert not (home / "mlflow.db").exists()


def test_doctor_says_in_one_line_that_a_store_does_not_answer(home, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    code, out, err = command(monkeypatch, capsys, "--repair")
    assert code == 1 and "python" in out and "healthy" not in out
    assert err.startswith("lstm: MLFLOW_TRACKING_URI=http://127.0.0.1:9: the server does not answer")
    assert err.count("\n") == 1


def test_interrupted_trials_are_reported_and_stay_running(store, dead):
    folder = store / "studies" / "shops" / "0123"
    study = optuna.create_study(storage=open_storage(folder), study_name="shops/0123")
    for owner in (dead, "elsewhere:1:b/1/1"):
        trial = study.ask()
        trial.set_user_attr("owner", owner)
    report = doctor.report()
    assert journal_path(folder).exists() and report["problems"] == []
    assert [line.partition(" were")[0] for line in report["interrupted"]] == ["search shops/0123: 1 trials"]
    reconcile()
    assert {trial.state for trial in study.trials} == {TrialState.RUNNING}


SERVED = """
import sys, time
from prefect import flow, task
from prefect.runtime import flow_run
from tasks.runtime.flow_run_owner import owned_flow_run
@task
def waits():
    print(flow_run.id, flush=True); time.sleep(300)
@flow
def killed():
    with owned_flow_run(flow_run.id):
        waits()
killed()
"""


def states(flow_run):
    """Return the states of a flow run and its task runs on the server."""
    url = os.environ["PREFECT_API_URL"]
    with urllib.request.urlopen(f"{url}/flow_runs/{flow_run}") as answer:
        flow_states = [json.load(answer)["state_type"]]
    body = json.dumps({"flow_runs": {"id": {"any_": [flow_run]}}}).encode()
    request = urllib.request.Request(f"{url}/task_runs/filter", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        return flow_states + [task_run["state_type"] for task_run in json.load(answer)]


@pytest.mark.service
def test_a_killed_flow_run_and_its_tasks_are_set_to_crashed(home, tmp_path, monkeypatch):
    from flows.services.prefect_server import prefect_server, wait_until_ready

    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    with prefect_server():
        wait_until_ready()
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        process = subprocess.Popen([sys.executable, "-c", SERVED], env=environment, stdout=subprocess.PIPE, text=True)
        flow_run, deadline = process.stdout.readline().strip(), time.monotonic() + 30
        while states(flow_run) != ["RUNNING", "RUNNING"] and time.monotonic() < deadline:
            time.sleep(0.2)
        assert flow_runs_by_liveness() == ({flow_run}, set()) and reconcile() == Repairs()
        process.kill()
        process.communicate()
        repairs = reconcile()
        assert (repairs.flow_runs, repairs.left) == (1, ())
        assert states(flow_run) == ["CRASHED", "CRASHED"] and reconcile() == Repairs()
    assert not list((home / "work" / "owners").iterdir())
