import sqlite3

import pytest

from lstm.errors import ConfigError
from tasks import settings
from tasks.tracking import runs


def test_local_store_is_sqlite_in_wal_mode(home):
    uri = settings.tracking_uri()
    assert uri == f"sqlite:///{home / 'mlflow.db'}" and not (home / "mlflow.db").exists()
    runs.client()
    with sqlite3.connect(home / "mlflow.db") as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()
    assert settings.artifact_location() == (home / "artifacts").as_uri()


def test_a_partly_created_store_is_created_again(home):
    """A killed process leaves some of the tables, which MLflow could never use."""
    home.mkdir(parents=True)
    beside = home / ".mlflow.db.making"
    with sqlite3.connect(beside) as connection:
        connection.execute("CREATE TABLE secrets (secret_id VARCHAR(36))")
    connection.close()
    assert runs.client().search_experiments()[0].name == "Default"
    assert not beside.exists()


def test_a_configured_tracking_server_wins(home, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking:5000")
    assert settings.tracking_uri() == "http://tracking:5000"
    assert settings.artifact_location() is None
    assert not (home / "mlflow.db").exists()


def test_a_prefect_server_is_found_in_the_environment_or_the_active_profile(home, tmp_path, monkeypatch):
    profiles = tmp_path / "profiles.toml"
    monkeypatch.setenv("PREFECT_PROFILES_PATH", str(profiles))
    assert settings.prefect_api_url() is None
    profiles.write_text('active = "work"\n[profiles.work]\nPREFECT_API_URL = "http://office/api"\n[profiles.other]\n')
    assert settings.prefect_api_url() == "http://office/api"
    monkeypatch.setenv("PREFECT_PROFILE", "other")
    assert settings.prefect_api_url() is None
    monkeypatch.setenv("PREFECT_API_URL", "http://mine/api")
    assert settings.prefect_api_url() == "http://mine/api"
    monkeypatch.delenv("PREFECT_API_URL")
    profiles.write_text("broken = [")
    assert settings.prefect_api_url() is None


def test_a_folder_appears_complete_or_not_at_all(tmp_path):
    with pytest.raises(RuntimeError), settings.atomic_folder(tmp_path / "x") as making:
        (making / "half").touch()
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    for _ in range(2):  # the second one finds that another was first
        with settings.atomic_folder(tmp_path / "x") as making:
            (making / "whole").touch()
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_telemetry_is_off_unless_the_user_said_otherwise(monkeypatch):
    monkeypatch.delenv("MLFLOW_DISABLE_TELEMETRY", raising=False)
    monkeypatch.setenv("DO_NOT_TRACK", "mine")
    settings.set_default_environment()
    import os

    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert os.environ["DO_NOT_TRACK"] == "mine"


def test_an_empty_lstm_home_counts_as_unset(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LSTM_HOME", "")
    assert settings.home() == tmp_path / "mlruns"


@pytest.mark.parametrize(
    "address",
    [
        "ftp://user:PLANTED73@host/database",
        "http://user:PLA/PLANTED73@127.0.0.1:1",
        "HTTP://user:PLANTED73@127.0.0.1:1",
        "postgresql+psycopg://user:PLANTED73@127.0.0.1:1/database",
    ],
)
def test_a_bad_address_is_a_one_line_error_without_its_password(home, monkeypatch, address):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    with pytest.raises(ConfigError, match="^MLFLOW_TRACKING_URI") as caught:
        runs.client()
    assert "PLANTED73" not in str(caught.value) and "\n" not in str(caught.value)
