"""The section `search`: accepted and refused values, round trips, and conditions."""

import re

import pytest
import yaml

from lstm.config.pipeline import PipelineConfig
from lstm.config.search import DEFAULT_SPACE, SearchSpec
from lstm.config.search_space import Choices, Range, grid_values, is_valid, nearest_to
from lstm.errors import ConfigError
from lstm.load_config import load_config
from lstm.presets.presets import with_defaults
from tests.support.paths import ROOT

LAYERS = {"low": 1, "high": 3}
CONDITIONAL = {
    "hidden_size": [32, 64, 128],
    "num_layers": LAYERS,
    "dropout": {"low": 0.0, "high": 0.5, "when": {"num_layers": [2, 3]}},
    "learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
    "patch_length": [1, 24],
    "head": {"choices": ["direct", "parallel"], "when": {"patch_length": [24]}},
}
GIVEN = {
    "sampler": "gp",
    "pruner": "hyperband",
    "plateau": 5,
    "objectives": ["error"],
    "warm_start": False,
    "space": CONDITIONAL,
}


def make_config(**sections):
    values = {
        "name": "sales",
        "data": {"source": "a.csv", "time": "t", "target": "y", "frequency": "1h"},
        "window": {"horizon": 24},
        "model": {"sequence_length": 48},
    }
    return PipelineConfig.parse({**values, **sections})


def write_config(folder, **search):
    path = folder / "my.yaml"
    data = {"source": "a.csv", "time": "t", "target": "y", "frequency": "1h"}
    path.write_text(yaml.safe_dump({"name": "sales", "data": data, "search": search}, sort_keys=False))
    return path


def test_all_that_the_guide_shows_is_accepted():
    search = make_config(search=GIVEN).search
    assert search.space["hidden_size"] == (32, 64, 128)
    assert search.space["dropout"] == Range(low=0, high=0.5, when={"num_layers": (2, 3)})
    assert search.space["head"] == Choices(choices=("direct", "parallel"), when={"patch_length": (24,)})
    assert (search.sampler, search.pruner, search.plateau, search.warm_start) == ("gp", "hyperband", 5, False)


def test_the_default_is_a_tpe_search_with_median_pruning_by_error():
    search = SearchSpec()
    assert (search.sampler, search.pruner, search.plateau) == ("tpe", "median", None)
    assert (search.objectives, search.warm_start, search.space) == (("error",), True, DEFAULT_SPACE)


@pytest.mark.parametrize(
    "search",
    [
        GIVEN,
        {"sampler": "grid", "space": {"hidden_size": [8, 16], "num_layers": LAYERS}},
        {"objectives": ["error", "latency"]},
        {},
    ],
    ids=["conditional", "grid", "two objectives", "defaults"],
)
def test_a_dumped_configuration_parses_to_the_same(search):
    for settings in (make_config(search=search), with_defaults(make_config(search=search))):
        again = PipelineConfig.parse(yaml.safe_load(yaml.safe_dump(settings.to_dict(), sort_keys=False)))
        assert again == settings
        assert list(again.search.space) == list(settings.search.space)
    assert with_defaults(again) == again


def test_several_objectives_are_not_pruned_unless_the_file_asks_for_it():
    both = ["error", "latency"]
    assert SearchSpec.parse({"objectives": both}).pruner == "none"
    assert SearchSpec.parse({"objectives": both, "pruner": "none"}).objectives == ("error", "latency")
    with pytest.raises(ConfigError, match="`pruner` must be none with several objectives, .* but got median"):
        SearchSpec.parse({"objectives": both, "pruner": "median"})


BAD = [
    ("sampler: cmaes", "key 'sampler': input should be 'tpe', 'random', 'gp' or 'grid', but got 'cmaes'"),
    ("pruner: asha", "key 'pruner': input should be 'median', 'hyperband',"),
    ("plateau: 0", "key 'plateau': input should be greater than or equal to 1, but got 0"),
    ("plateau: true", "'plateau' must not be true or false"),
    ("objectives: []", "key 'objectives': must hold error first, and each once, but got []. Write [error, latency]"),
    ("objectives: [latency]", "must hold error first"),
    ("objectives: [latency, error]", "must hold error first, and each once, but got ['latency', 'error']"),
    ("objectives: [error, error]", "each once"),
    ("objectives: [error, size]", "key 'objectives.1': input should be 'error' or 'latency', but got 'size'"),
    ("objectives: error", "key 'objectives': input should be a valid list, but got 'error'"),
    ("warm_start: 3", "key 'warm_start'"),
    ("objectives: [error, latency]\npruner: hyperband", "which can't be pruned, but got hyperband"),
    ("sample: tpe", "unknown key 'sample'. Did you mean 'sampler'"),
    # The space.
    ("space: {dropout: 0.5}", "key 'space.dropout': input should be a valid list, but got 0.5"),
    ("space: {dropout: null}", "key 'space.dropout': input should be a valid list, but got None"),
    ("space: {dropout: {low: 0.1}}", "key 'space.dropout.high' is required"),
    ("space: {dropout: {low: 0.1, high: x}}", "key 'space.dropout.high': input should be a valid number"),
    ("space: {dropout: {low: 0.1, high: 0.3, step: 0.1}}", "key 'space.dropout': unknown key 'step'. Known: high, lo"),
    ("space: {dropout: {low: 0.1, high: 0.3, wen: {}}}", "unknown key 'wen'. Did you mean 'when'?"),
    ("space: {dropout: {choices: [0.1], low: 0}}", "unknown key 'low'. Known: choices, when"),
    ("space: {dropout: {choices: []}}", "'dropout' needs at least one choice"),
    ("space: {dropout: {choices: ['a']}}", "'dropout' holds numbers, but got ['a']"),
    ("space: {dropout: {choices: 0.5}}", "key 'space.dropout.choices': input should be a valid list"),
    ("space: {hidden_size: [8, 16, 8]}", "'hidden_size' must list each choice once, but got [8, 16, 8]"),
    ("space: {hiden: {choices: [8]}}", "'hiden' is no key of the model. Did you mean 'hidden_size'?"),
    # Conditions.
    (
        "space: {dropout: {choices: [0.1], when: {num_layers: [2]}}}",
        "'dropout': `when` needs a key of the space that stands before it, but got 'num_layers'. Known: []",
    ),
    (
        "space: {dropout: {choices: [0.1], when: {num_layers: [2]}}, num_layers: [1, 2]}",
        "but got 'num_layers'. List 'num_layers' above 'dropout'",
    ),
    ("space: {dropout: {choices: [0.1, 0.2], when: {dropout: [0.1]}}}", "stands before it, but got 'dropout'"),
    (
        "space: {num_layers: {low: 1, high: 3}, dropout: {low: 0, high: 0.5, when: {num_layers: [2, 4]}}}",
        "'dropout': `when` must hold possible values of 'num_layers' (1 to 3), but got 4",
    ),
    (
        "space: {num_layers: {low: 1, high: 3}, dropout: {low: 0, high: 0.5, when: {num_layers: [1.5]}}}",
        "possible values of 'num_layers' (1 to 3), but got 1.5",
    ),
    (
        "space: {num_layers: [1, 2], dropout: {low: 0, high: 0.5, when: {num_layers: [true]}}}",
        "possible values of 'num_layers' ([1, 2]), but got True",
    ),
    (
        "space: {cell: [lstm, gru], dropout: {low: 0, high: 0.5, when: {cell: [bilstm]}}}",
        "possible values of 'cell' (['lstm', 'gru']), but got 'bilstm'",
    ),
    ("space: {cell: [gru], dropout: {low: 0, high: 0.5, when: {cell: []}}}", "needs at least one value of 'cell'"),
    ("space: {cell: [gru], dropout: {low: 0, high: 0.5, when: {cell: gru}}}", "valid list, but got 'gru'"),
    ("space: {cell: [gru], dropout: {low: 0, high: 0.5, when: [cell]}}", "key 'space.dropout.when': Input should be"),
    # The grid.
    ("sampler: grid", "sampler grid needs lists or whole numbers, but got a range of fractions at 'dropout': list"),
    ("sampler: grid\nspace: {dropout: {low: 0, high: 0.5}}", "but got a range of fractions at 'dropout'"),
    (
        "sampler: grid\nspace: {hidden_size: {low: 1, high: 1.0e+19}}",
        "at most 1,000,000 values of a key, but 'hidden_size'",
    ),
    ("sampler: grid\nspace: {batch_size: {low: 8, high: 64, log: true}}", "without log, but got log=true at 'batch_s"),
    (
        "sampler: grid\nspace: {cell: [gru, lstm], dropout: {choices: [0.1], when: {cell: [gru]}}}",
        "sampler grid needs keys without `when`, but got one at 'dropout'",
    ),
]


@pytest.mark.parametrize(("text", "message"), BAD, ids=[text.replace("\n", ", ") for text, _ in BAD])
def test_a_bad_search_is_refused_in_one_line(text, message):
    with pytest.raises(ConfigError) as caught:
        SearchSpec.parse(yaml.safe_load(text))
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_the_file_and_the_whole_key_lead_the_message(tmp_path):
    path = write_config(
        tmp_path, space={"num_layers": LAYERS, "dropout": {"choices": [0.1], "when": {"num_layers": [9]}}}
    )
    with pytest.raises(ConfigError, match=r"^my.yaml: key 'search.space': 'dropout': `when` must hold possible"):
        load_config(path)


def test_the_default_space_is_a_grid_if_the_model_fixes_the_fractions(tmp_path):
    path = write_config(tmp_path, sampler="grid")
    with pytest.raises(ConfigError, match="sampler grid needs lists or whole numbers"):
        load_config(path)
    settings = with_defaults(load_config(path, ("model.dropout=0.1", "model.learning_rate=0.001")))
    assert list(settings.search.space) == ["hidden_size", "num_layers"]


# Trials.


def test_a_choice_is_checked_where_its_conditions_are_met():
    """A patch of 24 does not divide a lookback of 36."""
    space = {"patch_length": [1, 24], "sequence_length": {"choices": [36], "when": {"patch_length": [24]}}}
    with pytest.raises(ConfigError, match=r"search.space.* must be a multiple of `patch_length`"):
        make_config(search={"space": space})
    assert make_config(search={"space": {**space, "sequence_length": [48]}})
    allowed = {"patch_length": [1, 24], "sequence_length": {"choices": [36, 48], "when": {"patch_length": [1]}}}
    assert make_config(search={"space": allowed}).longest_lookback == 48


def test_conditions_may_depend_on_conditional_keys():
    space = {
        "cell": ["lstm", "gru"],
        "num_layers": {"low": 1, "high": 3, "when": {"cell": ["gru"]}},
        "dropout": {"choices": [0.1, 1.5], "when": {"num_layers": [3]}},
    }
    with pytest.raises(ConfigError, match=r"search.space.dropout: key 'dropout': input should be less than 1"):
        make_config(search={"space": space})


def test_a_member_keeps_its_value_of_a_key_that_is_not_searched():
    settings = make_config(search={"space": CONDITIONAL})
    assert settings.trial_params({"num_layers": 1, "dropout": 0.9})["dropout"] == 0.9
    assert settings.trial_params({"num_layers": 2, "dropout": 0.9})["dropout"] == 0.5
    assert "dropout" not in settings.trial_params({"num_layers": 1})
    assert settings.network_config(settings.trial_params({"num_layers": 1})).dropout == settings.model.dropout


def test_lookbacks_with_conditions_count_as_the_others_do(tmp_path):
    space = {"hidden_size": [8, 16], "sequence_length": {"choices": [48, 336], "when": {"hidden_size": [8]}}}
    settings = with_defaults(load_config(write_config(tmp_path, space=space)))
    assert settings.longest_lookback == 336
    assert 48 % settings.model.patch_length == 0


@pytest.mark.parametrize(
    ("key", "options", "value", "expected"),
    [
        ("hidden_size", (8, 16), 8, 8),
        ("hidden_size", (8, 16), 9, 8),
        ("hidden_size", Choices(choices=(8, 16)), 16, 16),
        ("residual", (True, False), False, False),
        ("num_layers", Range(low=2, high=4), 7, 4),
        ("num_layers", Range(low=2, high=4), 1, 2),
        ("patience", Range(low=2, high=4), None, 2),
        ("dropout", Range(low=0.1, high=0.4), 0.25, 0.25),
    ],
)
def test_a_trial_starts_at_the_valid_value_nearest_to_the_models(key, options, value, expected):
    start = nearest_to(key, options, value)
    assert (start, type(start)) == (expected, type(expected))
    assert is_valid(key, options, start)
    assert is_valid(key, options, value) is (value == expected)


def test_a_range_of_whole_numbers_holds_both_of_its_ends():
    assert tuple(grid_values("num_layers", Range(low=2, high=4))) == (2, 3, 4)
    assert SearchSpec.parse({"space": CONDITIONAL}).bounds("num_layers") == (1, 3)
    assert SearchSpec.parse({"space": CONDITIONAL}).bounds("head") == ("direct", "parallel")
    assert SearchSpec().bounds("head") == ()


def test_the_guide_names_every_key_and_every_value():
    guide = (ROOT / "docs" / "search.md").read_text(encoding="utf-8")
    fields = SearchSpec.model_fields
    values = [value for name in ("sampler", "pruner") for value in fields[name].annotation.__args__]
    code = " ".join(re.findall("`([^`]*)`", guide))
    names = (*fields, *values, "latency", "when", "choices")
    assert [name for name in names if not re.search(rf"\b{name}\b", code)] == []
