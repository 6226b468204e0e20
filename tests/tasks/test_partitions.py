"""Configurations and names of the segments of partitioned data."""

import re

import pandas as pd
import pytest

from lstm.config.pipeline import PipelineConfig
from lstm.errors import ConfigError, DataError
from lstm.forecasting.forecaster import Forecaster
from lstm.load_config import load_config
from tasks.partitions import partition_configs, segment_label
from tests.support.forecasters import make_forecaster
from tests.support.prepared_data import make_config
from tests.support.tables import DATA, make_hourly


def parts_of(path, values, **data) -> tuple[PipelineConfig, ...]:
    """Return the partition configurations of a table with these values in the column `shop`."""
    pd.DataFrame({"time": "2024-01-01T00:00Z", "shop": values, "sales": 1.0, "kind": "a"}).to_csv(path, index=False)
    values = {"time": "time", "target": "sales", "source": str(path), "partition_by": "shop", **data}
    return partition_configs(make_config(path, data=values))


def test_data_that_are_not_partitioned_have_one_configuration(home, tmp_path):
    config = make_config(tmp_path / "nowhere.csv")
    assert partition_configs(config) == (config,)


def test_each_segment_has_a_name_and_rows_and_is_not_partitioned(home, tmp_path):
    north, south = parts_of(tmp_path / "shops.csv", ["north", "south", "north"], where={"kind": "a"})
    assert (north.name, south.name) == ("shops.north", "shops.south")
    assert south.data.where == {"kind": ("a",), "shop": ("south",)} and south.data.partition_by == ()
    assert PipelineConfig.parse(south.to_dict()).data == south.data


def test_several_columns_form_a_segment_per_combination_of_values(home, tmp_path):
    path = tmp_path / "shops.csv"
    make_hourly(3).assign(year=2024).to_csv(path, index=False)
    config = make_config(path, data={**DATA, "source": str(path), "partition_by": ["shop", "year"]})
    parts = partition_configs(config)
    assert [part.name for part in parts] == ["shops.north-2024", "shops.south-2024"]
    assert [segment_label(config, part) for part in parts] == ["north, 2024", "south, 2024"]


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("north", "shops.north"),
        ("São Paulo", "shops.Sao_Paulo"),
        ("a/b: c", "shops.a_b__c"),
        ("007", "shops.007"),
        ("7.0", "shops.7"),
        ("-1.5", "shops.-1.5"),
        ("東京", "shops.__-"),
    ],
)
def test_a_segments_name_is_valid_for_mlflow(home, tmp_path, value, name):
    (part,) = parts_of(tmp_path / "shops.csv", [value])
    assert part.name.startswith(name) and re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", part.name)
    assert part.name == name or name.endswith("-")


def test_letters_without_an_ascii_form_still_distinguish_segments(home, tmp_path):
    tokyo, osaka = parts_of(tmp_path / "shops.csv", ["東京", "大阪"])
    assert tokyo.name != osaka.name


@pytest.mark.parametrize("values", [("a b", "a/b"), ("North", "north"), ("São", "Sao")])
def test_segments_that_would_share_a_name_are_refused(home, tmp_path, values):
    with pytest.raises(ConfigError, match="the models of segments '.*' and '.*' would both be called 'shops"):
        parts_of(tmp_path / "shops.csv", values)


def test_a_name_that_is_too_long_is_refused(home, tmp_path):
    with pytest.raises(ConfigError, match="a name has at most 100 characters. Shorten `name`"):
        parts_of(tmp_path / "shops.csv", ["x" * 95])


def test_a_row_without_a_segment_is_refused(home, tmp_path):
    with pytest.raises(DataError, match="column 'shop' of data.partition_by is empty or NA in 2 rows"):
        parts_of(tmp_path / "shops.csv", ["north", None, None])


def test_thousands_of_segments_have_configurations(home, tmp_path):
    parts = parts_of(tmp_path / "shops.csv", [f"s{number}" for number in range(5000)])
    assert len({part.name for part in parts}) == 5000


def test_a_served_model_does_not_need_the_column_of_where(home, tmp_path):
    """`where` applies to sources only: a given frame holds the segment's rows."""
    frame = make_hourly(10, ("north",))
    config = make_config(tmp_path / "shops.csv", data={**DATA, "source": "-", "where": {"zone": "a"}})
    forecaster: Forecaster = make_forecaster(config.data, frame)
    forecasts = forecaster.forecast(frame)
    assert len(forecasts) == forecaster.horizon and "zone" not in frame
    forecaster.save(tmp_path / "model")
    assert Forecaster.load(tmp_path / "model").spec.where == {"zone": ("a",)}
    pd.testing.assert_frame_equal(Forecaster.load(tmp_path / "model").forecast(frame), forecasts)


def test_where_is_set_from_the_command_line(home, tmp_path):
    path = tmp_path / "shops.yaml"
    path.write_text("name: shops\ndata: {source: shops.csv, time: time, target: sales}\n")
    config = load_config(path, ("data.where={shop: [north, 7], open: true}",))
    assert config.data.where == {"shop": ("north", 7), "open": (True,)}
