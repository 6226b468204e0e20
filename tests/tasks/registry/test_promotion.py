"""Promotion and rollback: when the champion may change, and what is recorded."""

import os
import re
import subprocess
import sys
import threading
import time

import pytest
from mlflow.exceptions import MlflowException

from flows.cli import app
from lstm.errors import CheckpointError, InputError, StoreError
from tasks.registry import alias_swap, promotion
from tasks.registry.decision import Check, GateDecision
from tasks.registry.promotion import judge_and_promote, promote, promotion_lock, rollback
from tasks.registry.versions import alias_version, set_alias, tag_version, version_tags
from tasks.tracking import runs
from tests.support.paths import ROOT
from tests.support.postgres import QUOTED, SECRETS
from tests.support.versions import aliases, better_if_newer, decide, register_versions


@pytest.fixture
def shops(store, saved):
    """Five registered versions, the first of them champion."""
    return register_versions(saved)


def test_previous_is_set_before_champion_and_the_new_champion_is_no_challenger(shops, monkeypatch):
    set_alias(shops, "challenger", 2)
    moved = []

    def recorded(name, alias, number):
        moved.append((alias, number))
        set_alias(name, alias, number)

    monkeypatch.setattr(alias_swap, "set_alias", recorded)
    judge_and_promote(shops, better_if_newer(2))
    assert moved == [("previous", 1), ("champion", 2)]
    assert aliases() == {"champion": 2, "previous": 1}


def test_a_losing_candidate_becomes_challenger_only(shops):
    set_alias(shops, "champion", 3)
    judge_and_promote(shops, better_if_newer(2))
    assert aliases() == {"champion": 3, "challenger": 2}
    assert version_tags(shops, 2)["gate"] == "challenger"


def test_a_candidate_is_judged_again_when_the_champion_has_changed(shops):
    incumbents = []

    def judge(incumbent):
        incumbents.append(incumbent)
        if len(incumbents) == 1:  # meanwhile another one is promoted
            judge_and_promote(shops, better_if_newer(4))
        return better_if_newer(3)(incumbent)

    assert not judge_and_promote(shops, judge).champion
    assert incumbents == [1, 4]
    assert aliases() == {"champion": 4, "previous": 1, "challenger": 3}
    assert version_tags(shops, 3)["gate_against"] == "4"


def test_a_champion_that_always_changes_is_an_error(shops):
    def judge(incumbent):
        set_alias(shops, "champion", incumbent % 4 + 1)
        return better_if_newer(5)(incumbent)

    with pytest.raises(StoreError, match="shops: another champion was promoted during each of 5 judgements. Run it"):
        judge_and_promote(shops, judge)
    assert alias_version(shops, "previous") is None


def test_one_process_at_a_time_holds_the_promotion_lock(shops):
    check_lock()


def check_lock():
    """Check that a second holder waits for the first, and one of another name does not."""
    order, inside = [], threading.Event()

    def second():
        inside.wait()
        with promotion_lock("shops"):
            order.append("second")

    waiting = threading.Thread(target=second)
    waiting.start()
    with promotion_lock("shops"):
        inside.set()
        with promotion_lock("others"):
            order.append("other")
        time.sleep(0.5)
        order.append("first")
    waiting.join(30)
    assert order == ["other", "first", "second"]


def test_a_lock_that_is_never_released_is_an_error(shops, monkeypatch):
    monkeypatch.setattr(promotion, "_LOCK_TIMEOUT_S", 0.1)
    with (
        promotion_lock(shops),
        pytest.raises(StoreError, match=r"promote-shops\.lock: the lock .* is held"),
    ):
        judge_and_promote(shops, better_if_newer(2))
    assert aliases() == {"champion": 1}


# Two processes, each with a candidate that is better than the champion it finds.

RACER = """
import sys, time
from pathlib import Path
from tasks.registry.decision import GateDecision
from tasks.registry.promotion import judge_and_promote
version, folder = int(sys.argv[1]), Path(sys.argv[2])
def judge(incumbent):
    with (folder / f"judged-{version}").open("a") as file:
        file.write(f"{incumbent}\\n")
    deadline = time.monotonic() + 60
    while len(list(folder.glob("judged-*"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    won = version > incumbent
    return GateDecision(version, "best-ensemble", won, f"{version} or {incumbent}", 1.0, 1.0, incumbent)
judge_and_promote("shops", judge)
"""


def race(folder, environment):
    command = [sys.executable, "-c", RACER]
    racers = [
        subprocess.Popen([*command, number, str(folder)], cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)
        for number in ("2", "3")
    ]
    assert [(racer.communicate(timeout=120)[1], racer.returncode) for racer in racers] == [("", 0), ("", 0)]
    judged = {number: (folder / f"judged-{number}").read_text().split() for number in "23"}
    # Both were judged against the first champion. The slower one again, against the other.
    assert sorted(judged.values()) in ([["1"], ["1", "3"]], [["1"], ["1", "2"]])
    first = "2" if judged["2"] == ["1"] else "3"
    if first == "2":
        assert aliases() == {"champion": 3, "previous": 2}
    else:
        assert aliases() == {"champion": 3, "previous": 1, "challenger": 2}
    assert version_tags("shops", 5 - int(first))["gate_against"] == first
    return int(first)


@pytest.mark.slow
def test_of_two_processes_that_promote_at_once_the_slower_is_judged_again(shops, tmp_path):
    assert race(tmp_path, dict(os.environ)) in (2, 3)


@pytest.fixture
def database(home, monkeypatch, postgres):
    """An MLflow store in PostgreSQL."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"postgresql+psycopg://reader:{QUOTED}@{postgres}/postgres")


@pytest.mark.service
def test_the_same_race_on_postgres(database, home, saved, tmp_path):
    register_versions(saved)
    assert race(tmp_path, dict(os.environ)) in (2, 3)
    check_lock()
    assert not list(home.glob(".promote*"))


@pytest.mark.service
def test_a_lock_in_postgres_ends_with_its_process(database, postgres, monkeypatch):
    held = (
        "from tasks.registry.promotion import promotion_lock\n"
        "with promotion_lock('shops'):\n    print(1, flush=True)\n    "
    )
    command = [sys.executable, "-c", f"{held}import time; time.sleep(600)"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "1\n"
        monkeypatch.setattr(promotion, "_LOCK_TIMEOUT_S", 1)
        with pytest.raises(StoreError, match="lock for promotions of shops is held") as caught, promotion_lock("shops"):
            pass
        assert postgres in str(caught.value) and not [secret for secret in SECRETS if secret in str(caught.value)]
        holder.kill()
    monkeypatch.setattr(promotion, "_LOCK_TIMEOUT_S", 30)
    with promotion_lock("shops"):
        pass


def test_a_missing_database_is_an_error_without_its_password(home, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql+psycopg://me:secret@127.0.0.1:9/mlflow")
    with pytest.raises(
        StoreError, match="127.0.0.1:9/mlflow: the lock for promotions of shops can't be acquired"
    ) as caught:
        promotion_lock("shops").__enter__()
    assert "secret" not in str(caught.value)


# By hand.


def passed(version, against, gate="champion", checks="serves,baseline"):
    tags = {"gate": gate, "gate_against": against, "gate_passed": checks, "gate_reason": "beats all"}
    tag_version("shops", version, tags)


def test_a_version_that_beat_this_champion_is_promoted_without_force(shops):
    passed(2, "1")
    assert promote(shops, "2", force=False).previous == 1
    assert aliases() == {"champion": 2, "previous": 1}
    tags = version_tags(shops, 2)
    assert tags["promoted_over"] == "1" and "@" in tags["promoted_by"] and "forced_by" not in tags


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        (None, "the gate has not judged it"),
        (("1", "challenger"), r"the gate refused it \(beats all\)"),
        (("3",), "it was judged against version 3, but version 1 is champion now"),
        (("none",), "it was judged when there was no champion, but version 1 is champion now"),
        (("1", "challenger", "serves"), r"the gate refused it \(beats all\)"),
    ],
)
def test_a_promotion_against_the_gate_needs_force_which_is_recorded(shops, tags, message):
    if tags is not None:
        passed(2, *tags)
    with pytest.raises(InputError, match=f"^shops/2: is not promoted: {message}. To promote it anyway, add --force.$"):
        promote(shops, "2", force=False)
    assert aliases() == {"champion": 1} and "promoted_by" not in version_tags(shops, 2)
    assert re.search(message, promote(shops, "2", force=True, why="the old one drifts").notice)
    tags_now = version_tags(shops, 2)
    assert (tags_now["forced_over"], tags_now["forced_reason"]) == ("1", "the old one drifts")
    assert re.search(message, tags_now["forced_against"]) and "@" in tags_now["forced_by"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", tags_now["forced_at"])
    assert aliases() == {"champion": 2, "previous": 1}


def test_without_a_champion_the_standalone_checks_decide(shops):
    runs.client().delete_registered_model_alias(shops, "champion")
    passed(2, "1", "challenger")
    passed(3, "1", "challenger", "serves")
    with pytest.raises(InputError, match="the gate refused it"):
        promote(shops, "3", force=False)
    assert promote(shops, "2", force=False).previous is None
    assert aliases() == {"champion": 2}


def test_promoting_the_champion_changes_nothing(shops):
    assert promote(shops, "1", force=True).notice == "it was champion already"
    assert aliases() == {"champion": 1} and version_tags(shops, 1) == {}


@pytest.mark.parametrize("version", ["9", "x", "-1", "0", ""])
def test_a_missing_version_is_an_error(shops, version):
    with pytest.raises(CheckpointError, match=rf"there is no version '{version}' of 'shops'. Known: \[1, 2, 3, 4, 5\]"):
        promote(shops, version, force=True)


def test_a_rollback_is_recorded_and_a_second_one_is_refused(shops):
    promote(shops, "2", force=True)
    back = rollback(shops)
    assert (back.version, back.previous) == (1, 2)
    assert aliases() == {"champion": 1, "previous": 2}
    assert version_tags(shops, 2)["rolled_back_to"] == "1"
    with pytest.raises(InputError, match=r"version 2, the previous champion, was itself rolled back to version 1"):
        rollback(shops)
    assert aliases() == {"champion": 1, "previous": 2}


@pytest.mark.parametrize("force", [False, True])
def test_a_version_that_can_not_be_loaded_never_becomes_champion(shops, force):
    client = runs.client()
    client.create_model_version(shops, "file:///gone/6", await_creation_for=0)
    tag_version(shops, 6, decide(6, True, 1).tags)
    with pytest.raises(StoreError, match="^shops/6: its artifacts at file:///gone/6 can't be fetched"):
        promote(shops, "6", force)
    set_alias(shops, "previous", 6)
    with pytest.raises(StoreError, match="^shops/6: its artifacts"):
        rollback(shops)
    assert aliases() == {"champion": 1, "previous": 6}


def test_a_model_is_found_among_more_than_a_page_of_others(shops):
    for number in range(101):
        runs.client().create_registered_model(f"a{number:03}")
    assert promote(shops, "2", force=True).version == 2


def test_a_past_win_stays_on_record_after_a_later_loss(shops):
    judge_and_promote(shops, decide_version_2(True, "won"))
    promote(shops, "3", force=True)
    judge_and_promote(shops, decide_version_2(False, "lost"))
    assert aliases() == {"champion": 3, "previous": 2, "challenger": 2}
    assert version_tags(shops, 2)["gate"] == "champion" and version_tags(shops, 2)["gate_reason"] == "won"


def test_after_a_rollback_the_winner_needs_no_force(shops):
    judge_and_promote(shops, decide_version_2(True, "won"))
    rollback(shops)
    assert promote(shops, "2", force=False).version == 2


def decide_version_2(champion: bool, reason: str):
    """Return a judge that makes the same decision against every champion."""
    checks = tuple(Check(name, True, "") for name in ("serves", "baseline"))
    return lambda incumbent: GateDecision(2, "best-single", champion, reason, 1, 1, incumbent, checks)


def test_without_a_previous_champion_a_rollback_is_refused(shops):
    for again in range(2):
        with pytest.raises(InputError, match="^shops: there is no previous champion to go back to. See lstm compare"):
            rollback(shops)
        if not again:
            set_alias(shops, "previous", 1)  # as a kill between both moves would leave it
    assert alias_version(shops, "champion") == 1


def run(monkeypatch, capsys, *arguments):
    """Run a command in this process; return exit code, stdout and stderr."""
    monkeypatch.setattr(sys, "argv", ["lstm", *arguments])
    with pytest.raises(SystemExit) as ended:
        app.main()
    printed = capsys.readouterr()
    return ended.value.code or 0, printed.out, printed.err


def test_the_commands_say_what_they_did(shops, monkeypatch, capsys):
    assert run(monkeypatch, capsys, "rollback", "shops") == (
        2,
        "",
        "lstm: shops: there is no previous champion to go back to. See lstm compare shops, and promote a version.\n",
    )
    refused = run(monkeypatch, capsys, "promote", "shops", "2")
    assert refused[0] == 2 and refused[2].count("\n") == 1 and refused[2].endswith("add --force.\n")
    assert run(monkeypatch, capsys, "promote", "shops", "2", "--force", "--reason", "drift")[:2] == (
        0,
        "shops: version 2 is champion (forced, although the gate has not judged it); version 1 is previous\n",
    )
    assert run(monkeypatch, capsys, "rollback", "shops")[1] == "shops: version 1 is champion; version 2 is previous\n"
    unknown = run(monkeypatch, capsys, "rollback", "shop")
    assert unknown[0] == 2 and "there is no registered model 'shop'" in unknown[2]


def test_versions_are_compared_in_the_terminal_as_json_and_as_a_page(shops, monkeypatch, capsys, tmp_path):
    passed(2, "1", "challenger")
    promote(shops, "3", force=True, why="<b>bold</b>")
    run_id = client_run({"val_rmse": 1.25, "val_rmse_low": 1.0, "val_rmse_high": 1.5, "test_coverage_80": 0.79})
    tags = {"kind": "best-ensemble", "run_name": "ensemble"}
    runs.client().create_model_version("shops", "file:///gone", run_id, tags, await_creation_for=0)
    _, table, _ = run(monkeypatch, capsys, "compare", "shops")
    assert "1.250 [1.00 to 1.50]" in table and "79.0 %" in table and "best-ensemble" in table and "…" not in table
    assert "version 2: challenger: beats all" in table and "(<b>bold</b>)" in table
    page = tmp_path / "page.html"
    assert run(monkeypatch, capsys, "compare", "shops", "--html", str(page))[1] == f"{page}: 6 versions of shops\n"
    text = page.read_text()
    assert "1.250 [1.00 to 1.50]" in text and "&lt;b&gt;bold" in text and "<b>" not in text
    assert text.count("<tr") == 7 and 'class="champion"' in text and "http" not in text
    code, _, message = run(monkeypatch, capsys, "compare", "shops", "--html", str(tmp_path))
    assert code == 2 and message == f"lstm: --html {tmp_path}: can't be written (Is a directory).\n"
    _, listed, _ = run(monkeypatch, capsys, "compare", "shops", "--json")
    assert '"val_rmse_low": 1.0' in listed and '"gate_reason": "beats all"' in listed


def client_run(metrics):
    run = runs.start_run(runs.experiment_id("shops"), "ensemble", {})
    runs.log(run, metrics)
    return run.run_id


def test_a_store_that_fails_shows_no_traceback(shops, monkeypatch, capsys):
    def broken(*_):
        raise MlflowException("(sqlite3.OperationalError) disk I/O error\n[SQL: SELECT …]")

    monkeypatch.setattr(runs.client(), "set_registered_model_alias", broken)
    code, _, message = run(monkeypatch, capsys, "promote", "shops", "2", "--force")
    assert code == 2 and message.count("\n") == 1 and message.startswith("lstm: shops: the registry does not answer (")
    assert aliases() == {"champion": 1}
