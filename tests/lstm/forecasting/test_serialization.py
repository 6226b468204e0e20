"""Saved forecasters that are damaged, or that say what no forecaster can be."""

import pytest

from lstm import Forecaster
from lstm.errors import CheckpointError
from lstm.networks.checkpoint import load_checkpoint, save_checkpoint
from tests.support.forecasters import change_entry, make_forecaster, rewrite_description


@pytest.fixture
def forecaster(spec, hourly):
    return make_forecaster(spec, hourly)


def test_damage_is_told(forecaster, tmp_path):
    folder = tmp_path / "f"
    with pytest.raises(CheckpointError, match="holds no forecaster"):
        Forecaster.load(folder)
    forecaster.save(folder)
    saved = (folder / "forecaster.json").read_bytes()
    for content in (b"{}", b"[]", b"", b"\xff", saved[:-1], saved.replace(b"shops", b"shoqs"), saved + b"\n"):
        (folder / "forecaster.json").write_bytes(content)
        with pytest.raises(CheckpointError, match=r"forecaster\.json: is damaged: its content is not what was saved"):
            Forecaster.load(folder)
    (folder / "model.safetensors").write_bytes(b"half")
    with pytest.raises(CheckpointError, match="damaged"):
        Forecaster.load(folder)


def test_a_description_without_a_checksum_is_of_an_earlier_version(forecaster, tmp_path):
    forecaster.save(tmp_path)
    tensors, meta = load_checkpoint(tmp_path / "model.safetensors")
    save_checkpoint(tmp_path / "model.safetensors", tensors, {"members": meta["members"]})
    with pytest.raises(CheckpointError, match="is damaged"):
        Forecaster.load(tmp_path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (change_entry("members", 0, "hidden_size", value=9), "weights don't fit"),
        (change_entry("members", 0, "hidden_size", value=-1), "hidden_size"),
        (change_entry("members", 0, "input_size", value=None), "AssertionError"),
        (change_entry("members", value=[]), "one weight per member"),
        (change_entry("weights", value=[1.0]), "one weight per member"),
        (change_entry("weights", value=[0.5, float("inf")]), "Infinity"),
        (change_entry("method", value="mode"), "method 'mode'"),
        (change_entry("data", "target", value=7), "target"),
        (change_entry("intervals", "radius", value=[[[0.0]] * 6] * 98), r"intervals .* \(98, 6, 1\)"),
        (change_entry("intervals", "radius", value=[[[None]] * 6] * 99), "intervals"),
        (change_entry("intervals", "radius", value=[[[0.0], [0.0, 1.0]]]), "ValueError"),
        (change_entry("normalizer", "center", 0, 0, value=float("nan")), "NaN"),
        (change_entry("normalizer", "center", 0, 0, value=None), "normalizer"),
        (change_entry("normalizer", "names", value=["north"]), "normalizer"),
        (change_entry("normalizer", "names", value=["a", "b", "c", "d", "e"]), "normalizer|ValueError"),
        (lambda state: {}, "KeyError"),
        (lambda state: [], "TypeError"),
        (lambda state: None, "TypeError"),
        (b"{", "JSONDecodeError"),
        (b'{"weights": [1e999]}', "KeyError"),
        (b"[" * 100_000, "RecursionError"),
    ],
)
def test_a_description_that_breaks_a_rule_is_told_in_one_line(forecaster, tmp_path, change, said):
    forecaster.save(tmp_path)
    rewrite_description(tmp_path, change)
    with pytest.raises(CheckpointError, match=said) as caught:
        Forecaster.load(tmp_path)
    assert str(caught.value).startswith(str(tmp_path)) and "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400
