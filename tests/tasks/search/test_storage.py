"""Storage of studies: damaged journals, and databases that can and can't be used."""

import os
import time

import pytest

from lstm.errors import ConfigError
from tasks.search import storage
from tasks.search.duplicates import find_duplicate
from tasks.search.study import (
    ask,
    delete_study,
    load_study,
    open_study,
    orphaned_trials,
    report,
    suggest_params,
)
from tests.support.postgres import QUOTED, SECRETS
from tests.support.studies import config, content, error_of, search, train, warm_starts


def test_a_lock_of_a_dead_process_does_not_block_and_an_incomplete_line_is_dropped(tmp_path):
    settings = config()
    before = search(open_study(settings, "s", tmp_path), settings, 3)
    journal = tmp_path / "study.journal"
    os.symlink(journal, f"{journal}.lock")  # as Optuna's own lock would be left
    (tmp_path / "study.lock").touch()
    lines = journal.read_bytes()
    journal.write_bytes(lines + b'{"op_code":4,"worker')
    started = time.monotonic()
    study = open_study(settings, "s", tmp_path)
    assert [trial.params for trial in study.trials] == before
    search(study, settings, 1)
    assert len(open_study(settings, "s", tmp_path).trials) == 4
    assert time.monotonic() - started < 5


def test_an_invalid_journal_is_an_error(tmp_path):
    (tmp_path / "study.journal").write_text("hello\nworld\n")
    with pytest.raises(ConfigError, match="study.journal: is not a journal of a search, or is damaged"):
        open_study(config(), "s", tmp_path)
    assert load_study("s", tmp_path) is None
    delete_study("s", tmp_path)
    assert open_study(config(), "s", tmp_path).trials


# Databases.


@pytest.fixture(autouse=True)
def _closed():
    yield
    storage.close_storages()


def walk(settings, folder):
    """Run a search that is killed twice; return the content of its study."""
    study = open_study(settings, "walk", folder)
    search(study, settings, 4)
    trial = ask(study, settings)
    report(trial, error_of(suggest_params(trial, settings)) * 2, 0)
    study = open_study(settings, "walk", folder)
    (resumed,) = orphaned_trials(study)
    report(resumed, 0.0, 0)
    train(study, settings, resumed)
    search(study, settings, 3)
    assert find_duplicate(study, ask(study, settings), settings.model) is None
    study = load_study("walk", folder)
    assert [trial.number for trial in orphaned_trials(study)] == [8]
    return content(study)[:8]


def check_store(settings, folder, monkeypatch):
    stored = walk(settings, folder)
    assert not (folder / "study.journal").exists()
    previous = load_study("walk", folder)
    study = open_study(settings, "next", folder, previous)
    assert [name.split("#")[0] for name in warm_starts(study)] == ["walk"]
    assert load_study("nowhere", folder) is None
    delete_study("nowhere", folder)
    delete_study("walk", folder)
    assert load_study("walk", folder) is None
    monkeypatch.delenv("LSTM_STUDY_STORAGE")
    assert walk(settings, folder) == stored


@pytest.mark.slow
def test_a_study_in_sqlite_equals_one_in_a_journal(tmp_path, monkeypatch):
    monkeypatch.setenv("LSTM_STUDY_STORAGE", f"sqlite:///{tmp_path}/studies.db")
    check_store(config(), tmp_path, monkeypatch)


@pytest.mark.service
@pytest.mark.parametrize("scheme", ["postgresql", "postgresql+psycopg"])
def test_a_study_in_postgres_equals_one_in_a_journal(tmp_path, monkeypatch, postgres, scheme):
    monkeypatch.setenv("LSTM_STUDY_STORAGE", f"{scheme}://reader:{QUOTED}@{postgres}/postgres")
    check_store(config(), tmp_path, monkeypatch)


def error_for(address, folder, monkeypatch):
    monkeypatch.setenv("LSTM_STUDY_STORAGE", address)
    with pytest.raises(ConfigError, match="^LSTM_STUDY_STORAGE: ") as caught:
        open_study(config(), "s", folder)
    message = str(caught.value)
    assert "\n" not in message
    assert [secret for secret in SECRETS if secret in message] == []
    return message


@pytest.mark.parametrize(
    ("address", "fragment"),
    [
        ("secretkey73", "its value (not shown) is not a database URL. Set it to a URL such as postgresql+psycopg://"),
        ("postgresql://me:{0}@127.0.0.1:x/db", "not a database URL"),
        ("nosuch://me:{0}@host/db", "SQLAlchemy does not know the database"),
        ("mysql://me:{0}@host/db", "needs a package that is not installed"),
        ("sqlite:////nowhere/at/all.db", "can't be used for studies (unable to open database file)"),
        ("postgresql://me:{0}@127.0.0.1:9/db", "can't be used for studies"),
        ("postgresql://127.0.0.1:9/db?user=me&password={0}", "the database can't be used for studies"),
    ],
)
def test_the_error_for_a_bad_database_shows_no_password(tmp_path, monkeypatch, address, fragment):
    assert fragment in error_for(address.format(QUOTED), tmp_path, monkeypatch)


@pytest.mark.service
def test_the_error_for_a_wrong_password_does_not_show_it(tmp_path, monkeypatch, postgres):
    message = error_for(f"postgresql://reader:{QUOTED}x@{postgres}/postgres", tmp_path, monkeypatch)
    assert "authentication failed" in message
