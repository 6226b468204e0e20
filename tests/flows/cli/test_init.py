"""`lstm init`: a configuration that trains as it stands, and never over a file that is there."""

import sqlite3

import pytest

from flows.cli import app
from lstm.load_config import load_config
from tests.support.tables import make_hourly


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """The command in a folder with a table: exit code, stdout, stderr."""
    make_hourly().to_csv(tmp_path / "shops.csv", index=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LSTM_HOME", str(tmp_path / "mlruns"))

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["lstm", *arguments])
        with pytest.raises(SystemExit) as ended:
            app.main()
        return ended.value.code, *capsys.readouterr()

    return run


def test_a_file_becomes_a_configuration_that_loads(run, tmp_path):
    code, printed, _ = run("init", "shops.csv")
    assert (code, printed) == (0, "shops.yaml is written. Read it, then run: lstm train shops.yaml\n")
    config = load_config(tmp_path / "shops.yaml")
    assert (config.data.time, config.data.series, config.data.target) == ("time", ("shop",), ("sales",))
    assert config.evaluate.season == 24


def test_a_query_becomes_one_too(run, tmp_path, monkeypatch):
    with sqlite3.connect(tmp_path / "shops.db") as database:
        make_hourly().to_sql("shops", database, index=False)
    database.close()
    monkeypatch.setenv("SHOPS", f"sqlite:///{tmp_path / 'shops.db'}")
    assert run("init", "env:SHOPS", "--sql", "SELECT * FROM shops", "--name", "from-sql")[0] == 0
    text = (tmp_path / "from-sql.yaml").read_text()
    assert "env:SHOPS" in text and "sqlite" not in text
    assert load_config(tmp_path / "from-sql.yaml").data.target == ("sales",)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("gone.csv",), "gone.csv: no such file"),
        (("shops.csv", "--name", "a b"), "name"),
        (("shops.csv", "--out", "there.yaml"), "there.yaml: already exists. Name another file with --out"),
        (("shops.csv", "--out", "no/such/folder.yaml"), "can't be written"),
        (("sqlite:///shops.db", "--sql", "SELECT 1"), "must name an environment variable"),
    ],
)
def test_what_does_not_do_is_told_and_nothing_written(run, tmp_path, arguments, message):
    (tmp_path / "there.yaml").write_text("mine")
    code, out, err = run("init", *arguments)
    assert (code, out) == (2, "")
    assert message in err and err.startswith("lstm: ") and err.count("\n") == 1
    assert (tmp_path / "there.yaml").read_text() == "mine"
    assert [path.name for path in tmp_path.glob("*.yaml")] == ["there.yaml"]
