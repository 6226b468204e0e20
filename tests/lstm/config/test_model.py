"""Configurations of networks and pipelines: defaults, overrides, and messages of refused values."""

import pytest
import yaml

import lstm
from lstm.config.model import ModelConfig
from lstm.errors import ConfigError
from lstm.load_config import load_config
from tests.support.paths import ROOT

EXAMPLE = ROOT / "examples" / "nyc_weather.yaml"


def test_defaults_are_the_seed_configuration():
    config = ModelConfig()
    assert (config.hidden_size, config.num_layers, config.dropout) == (64, 2, 0.2)
    assert (config.learning_rate, config.epochs, config.batch_size, config.sequence_length) == (0.001, 100, 32, 20)


def test_unknown_key_names_the_nearest_known_one():
    with pytest.raises(ConfigError, match="unknown key 'hiden_size'. Did you mean 'hidden_size'"):
        ModelConfig.parse({"hiden_size": 3})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"dropout": 1.5}, "key 'dropout': .* less than 1, but got 1.5"),
        ({"hidden_size": 0}, "key 'hidden_size'"),
        ({"patch_length": 3}, "multiple of `patch_length`, but got sequence_length=20, patch_length=3"),
        ({"anchor": "seasonal"}, "needs `2 <= season <= sequence_length`"),
        ({"anchor": "seasonal", "season": 24}, "season=24, sequence_length=20"),
        ({"quantiles": [0.9, 0.5]}, "must rise"),
        ({"quantiles": [0.1, 0.9]}, "hold 0.5"),
        ({"loss": "pinball"}, "needs `quantiles`"),
        ({"loss": "mse", "quantiles": [0.5]}, "need loss pinball, gaussian or student_t"),
        ({"layer_norm": True, "batch_norm": True}, "exclude each other"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"cell": "rnn"}, "key 'cell'"),
    ],
)
def test_broken_rules_are_named_in_one_line(values, message):
    with pytest.raises(ConfigError, match=message) as caught:
        ModelConfig.parse(values)
    assert "\n" not in str(caught.value)


def test_quantiles_bring_their_loss():
    assert ModelConfig(quantiles=(0.1, 0.5, 0.9)).trained_loss == "pinball"
    assert ModelConfig().trained_loss == "mse"


def test_config_is_frozen_and_replace_validates():
    config = ModelConfig()
    with pytest.raises(ValueError, match="frozen"):
        config.epochs = 3
    assert config.replace(epochs=3).epochs == 3
    with pytest.raises(ConfigError):
        config.replace(epochs=0)


def test_all_public_names_can_be_imported():
    assert all(getattr(lstm, name) for name in lstm.__all__)
    with pytest.raises(AttributeError, match="no attribute 'LSTMmodel'"):
        lstm.LSTMmodel  # noqa: B018


def test_example_fills_in_horizon_and_season():
    config = load_config(EXAMPLE)
    network = config.network_config(config.trial_params({}))
    assert (network.horizon, network.season) == (24, 24)


def test_an_anchor_may_use_the_season_of_evaluate():
    assert load_config(EXAMPLE, ("model.anchor=seasonal",)).model.season == 24


def test_a_logged_configuration_loads_to_the_same(tmp_path):
    config = load_config(EXAMPLE)
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config.to_dict()))
    assert load_config(path) == config


def test_two_lines_are_a_configuration(tmp_path):
    path = tmp_path / "my.yaml"
    path.write_text("name: a\ndata: {source: a.csv, time: t, target: y}\n")
    assert load_config(path).name == "a"


def test_overrides_reach_nested_keys():
    config = load_config(EXAMPLE, ("search.trials=3", "evaluate.levels=[50]", "data.observed=[]"))
    assert (config.search.trials, config.evaluate.levels, config.data.observed) == (3, (50,), ())


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("search.trails=3", "unknown key 'search.trails'. Did you mean 'trials'"),
        ("model.epoch=3", "unknown key 'model.epoch'. Did you mean 'epochs'"),
        ("model.horizon=3", "follows from window.horizon"),
        ("data.target=[]", "at least one column"),
        ("data.observed=[temp]", "'temp' is named twice"),
        ("data.timezone=Mars", "tz database"),
        ("data.calendar.holidays=XX", "holidays"),
        ("data.missing.max_gap=soon", "duration above zero"),
        ("data.frequency=-1h", "must be a duration such as"),
        ("search.space.hidden=[3]", "'hidden' is no key of the model. Did you mean 'hidden_size'"),
        ("search.space.horizon=[3]", "can't be searched"),
        ("search.space.hidden_size=[]", "at least one choice"),
        ("search.space.dropout={low: 0.5, high: 0.1}", "`low <= high` must hold"),
        ("search.space.dropout={low: 0.5, high: 1.5}", "search.space.dropout"),
        ("search.space.cell={low: 1, high: 2}", "'cell' holds no number: list its choices"),
        ("search.space.hidden_size={low: 8.5, high: 16}", "'hidden_size' holds whole numbers"),
        ("search.space.sequence_length=[24, '48']", "'sequence_length' holds numbers, but got"),
        ("search.seed=-1", "key 'search.seed'"),
        ("split.validation=true", "must not be true or false"),
        ("split.validation=0", "must be rows \\(1 or more\\)"),
        ("split.test=1.5", "a fraction between 0 and 1"),
        ("window.horizon=true", "'horizon' must not be true or false"),
        ("evaluate.levels=[80, 80]", "each once"),
        ("data.target=time", "can't be called 'time'"),
        ("name=2024-13-45", "no valid YAML"),
        ("search.workers=0", "1 or more, or auto"),
        ("evaluate.levels=[100]", "1 to 99"),
        ("name=a/b", "key 'name'"),
        ("search", "must read `dotted.key=value`"),
        ("name.x=1", "holds a value, not keys"),
        ("search.trials=[", "no valid YAML"),
    ],
)
def test_bad_pipeline_values_are_named_in_one_line(override, message):
    with pytest.raises(ConfigError, match=message) as caught:
        load_config(EXAMPLE, (override,))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: [", "line 1 is no valid YAML"),
        (b"name: 2024-13-45", "is no valid YAML"),
        (b"name: a\nname: b", "line 2 is no valid YAML \\(.*'name' is given twice"),
        (b"[" * 3000, "is no valid YAML"),
        (b"- 1", "must hold `key: value` pairs, but holds list"),
        (b"\xff\xfe\x00", "no(t text| valid)"),
        (b"name: x\ndata: {source: a, time: t}\n", "key 'data.target' is required"),
    ],
)
def test_bad_files_are_named(tmp_path, content, message):
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        load_config(path)
    with pytest.raises(ConfigError, match=r"gone.yaml: can't be read"):
        load_config(tmp_path / "gone.yaml")
