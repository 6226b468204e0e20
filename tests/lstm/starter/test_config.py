"""Guesses as YAML: with any column names, `load_config` reads the guessed values."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from sqlalchemy import create_engine

from lstm.config.pipeline import PipelineConfig
from lstm.config.source import SqlSource
from lstm.errors import ConfigError
from lstm.load_config import load_config
from lstm.starter.config import format_config, guess_from_source
from lstm.starter.guess import guess_config, pipeline_name
from tests.support.tables import make_hourly


def table(columns: list[str], factor: float = 1.0) -> pd.DataFrame:
    """Return daily rows; each column is `factor` times as large as the previous one."""
    random = np.random.default_rng(0)
    values = {name: random.normal(9, 1, 300) * factor**number for number, name in enumerate(columns)}
    return pd.DataFrame({"on": pd.date_range("2024-01-01", periods=300), **values})


def read(text: str, folder: Path) -> PipelineConfig:
    (folder / "guess.yaml").write_text(text, encoding="utf-8")
    return load_config(folder / "guess.yaml")


def test_unusual_column_names_survive(tmp_path):
    names = ["a: b", "- c", "#d", "[e]", "yes", "1.5", "null", "quo\"te's", " space ", "tab\there", "ünï 😀", "x, y"]
    text = format_config(guess_config(table(names, factor=50), "table.csv"))
    data = read(text, tmp_path).data
    assert (data.time, *data.observed, *data.target) == ("on", *names)
    assert max(map(len, text.splitlines())) <= 120


def test_a_long_list_of_columns_is_wrapped(tmp_path):
    names = [f"station {number}" for number in range(80)]
    text = format_config(guess_config(table(names).assign(unit="MW"), "table.csv"))
    assert read(text, tmp_path).data.wide == tuple(names)
    assert max(map(len, text.splitlines())) <= 120


def test_very_many_wide_columns_become_all(tmp_path):
    text = format_config(guess_config(table([f"station {number}" for number in range(80)]), "table.csv"))
    assert read(text, tmp_path).data.wide == "all"


def test_every_key_has_a_reason(tmp_path):
    lines = format_config(guess_config(make_hourly(), "table.csv")).splitlines()
    keys = [number for number, line in enumerate(lines) if ":" in line and not line.lstrip().startswith("#")]
    without_reason = [
        lines[number] for number in keys if "# " not in lines[number] and lines[number - 1].lstrip()[0] != "#"
    ]
    assert without_reason == ["data:"]


def test_the_model_is_left_to_the_preset():
    text = format_config(guess_config(make_hourly(), "table.csv"))
    values = yaml.safe_load(text)
    assert values["preset"] == "fast" and not {"model", "search", "ensemble"} & set(values)
    assert "accurate: " in next(line for line in text.splitlines() if line.startswith("preset: fast"))


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("data/My sales (new).csv.gz", "My-sales-new"),
        ("https://host.org/a/b.csv?version=3", "b"),
        ("env:SALES_URL", "SALES_URL"),
        ("s3://bucket/parts/*.parquet", "forecast"),
        ("äöü", "forecast"),
    ],
)
def test_a_pipeline_is_named_after_its_source(source, name):
    assert pipeline_name(source) == name


def test_a_given_name_is_checked():
    guess = guess_config(make_hourly(), "table.csv")
    assert yaml.safe_load(format_config(guess, "own-name"))["name"] == "own-name"
    with pytest.raises(ConfigError, match="lstm init: key 'name'"):
        format_config(guess, "not/allowed")


def test_credentials_are_not_written():
    guess = guess_config(make_hourly(), "table.csv")
    with pytest.raises(ConfigError, match="must not hold credentials"):
        format_config(replace(guess, source=replace(guess.source, value="https://me:word@host.org/a.csv")))


def test_a_query_is_written_as_a_query(tmp_path, monkeypatch):
    url = f"sqlite:///{tmp_path / 'shop.db'}"
    engine = create_engine(url)
    make_hourly().to_sql("sales", engine, index=False)
    engine.dispose()
    monkeypatch.setenv("SHOP_DB", url)
    guess = guess_from_source(SqlSource(sql='SELECT *\nFROM "sales"', uri="env:SHOP_DB"), tmp_path)
    data = read(format_config(guess), tmp_path).data
    assert data.source == guess.source.value
    assert (data.series, data.target, guess.name.value) == (("shop",), ("sales",), "SHOP_DB")
