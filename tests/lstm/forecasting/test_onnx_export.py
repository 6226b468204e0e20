"""Networks as ONNX, against torch and against what a program without torch does with them."""

import importlib
import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from lstm.config.model import ModelConfig
from lstm.errors import CheckpointError, ConfigError
from lstm.forecasting.forecaster import Forecaster
from lstm.forecasting.onnx_export import TOLERANCE, export_onnx
from lstm.networks.network import ForecastNetwork
from tests.support.forecasters import make_forecaster
from tests.support.network_variants import VARIANTS, batch, network_of

for _name in ("onnx", "onnxruntime"):
    pytest.importorskip(_name, reason=f"needs the package {_name}: pip install onnx onnxruntime")


@pytest.fixture
def forecaster(spec, hourly):
    return make_forecaster(spec, hourly)


def with_members(forecaster, *members):
    return replace(forecaster, members=members, weights=(1 / len(members),) * len(members))


def run(path, **given):
    session = importlib.import_module("onnxruntime").InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(["out"], {one.name: given[one.name] for one in session.get_inputs()})[0]


@pytest.mark.slow
@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_every_kind_of_network_is_exported_exactly_for_batches_of_any_size(changes, forecaster, tmp_path):
    network = network_of(**changes)
    (made,) = export_onnx(with_members(forecaster, network), tmp_path / "made")
    assert made.difference < TOLERANCE / 10
    for size in (1, 2, 64):
        past, known, series = batch(size, seed=size)
        with torch.inference_mode():
            ours = network(past, known, series).numpy()
        theirs = run(tmp_path / "made" / made.file, past=past.numpy(), known=known.numpy(), series=series.numpy())
        np.testing.assert_allclose(theirs, ours, atol=TOLERANCE, rtol=TOLERANCE)


@pytest.mark.slow
@pytest.mark.parametrize("head", ["direct", "parallel", "bidirectional", "recursive"])
def test_a_network_without_known_columns_reads_the_past_alone(head, forecaster, tmp_path):
    config = ModelConfig(sequence_length=12, horizon=20, input_size=2, output_size=1, head=head, hidden_size=8)
    network = ForecastNetwork(config, [0]).eval()
    (made,) = export_onnx(with_members(forecaster, network), tmp_path / "made")
    past = torch.randn(4, 12, 2, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        ours = network(past, torch.zeros(4, 20, 0)).numpy()
    np.testing.assert_allclose(run(tmp_path / "made" / made.file, past=past.numpy()), ours, atol=1e-6)
    described = json.loads((tmp_path / "made" / "forecaster.json").read_text())["onnx"]
    assert described["members"][0]["inputs"] == ["past"]


def test_what_is_written_is_enough_to_forecast_without_torch_and_without_this_package(forecaster, hourly, tmp_path):
    export_onnx(forecaster, tmp_path / "made")
    assert sorted(path.name for path in (tmp_path / "made").iterdir()) == [
        "forecaster.json",
        "member-0.onnx",
        "member-1.onnx",
    ]
    told = json.loads((tmp_path / "made" / "forecaster.json").read_text())
    how, normalizer = told["onnx"], told["normalizer"]
    assert how["columns"] == ["sales", "visitors", "hour_sin", "hour_cos"] and how["n_known"] == 2
    expected = forecaster.forecast(hourly, levels=(80,))
    for shop in ("north", "south"):
        row = normalizer["names"].index(shop)
        center, scale = np.array(normalizer["center"][row]), np.array(normalizer["scale"][row])
        rows = hourly[hourly["shop"] == shop]
        measured = (rows[["sales", "visitors"]].to_numpy() - center) / scale
        angle = 2 * np.pi * np.arange(len(rows) + how["horizon"]) / 24  # the first row is midnight
        waves = np.stack([np.sin(angle), np.cos(angle)], axis=1)
        total = 0.0
        for member, weight in zip(how["members"], told["weights"], strict=True):
            begin = len(rows) - member["sequence_length"]
            past = np.hstack([measured, waves[: len(rows)]])[begin:].astype(np.float32)[None]
            known = waves[len(rows) :].astype(np.float32)[None]
            out = run(tmp_path / "made" / member["file"], past=past, known=known)
            total = total + weight * out[0, :, 0, member["point"]]
        mine = expected[expected["series"] == shop]
        np.testing.assert_allclose(total * scale[0] + center[0], mine["forecast"], rtol=1e-5)
        radius = np.array(told["intervals"]["radius"])[79, :, 0] * scale[0]
        np.testing.assert_allclose(total * scale[0] + center[0] + radius, mine["hi-80"], rtol=1e-5)


def test_an_export_leaves_torch_its_fast_path(forecaster, tmp_path):
    export_onnx(forecaster, tmp_path / "made")
    assert torch.backends.mha.get_fastpath_enabled()


def test_what_depends_on_its_numbers_is_refused_and_nothing_is_left(forecaster, tmp_path):
    first, second = forecaster.members

    class Doubled(torch.nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner, self.encoding_size = inner, inner.encoding_size

        def forward(self, x):
            encoding, state = self.inner(x)
            return (encoding * 2 if len(x) < 3 else encoding), state  # a trace sees one side only

    second.cell = Doubled(second.cell)
    with pytest.raises(ConfigError) as told:
        export_onnx(with_members(forecaster, first, second), tmp_path / "made")
    assert str(told.value).startswith(
        "network 1 (cell lstm, head direct, anchor last, loss mse) can't be exported: its ONNX form must be within "
        "1e-05 of torch, but is "
    )
    assert list(tmp_path.iterdir()) == []


def test_an_operation_that_onnx_has_not_is_refused_and_nothing_is_left(forecaster, tmp_path):
    class Odd(torch.nn.Module):
        def forward(self, x):
            return torch.special.bessel_j0(x)

    (member,) = forecaster.members[:1]
    member.head.dropout = Odd()
    with pytest.raises(ConfigError, match=r"network 0 \(cell lstm, .*\) can't be exported: it has no ONNX form \(.*"):
        export_onnx(with_members(forecaster, member), tmp_path / "made")
    assert list(tmp_path.iterdir()) == []


def test_a_network_that_puts_out_no_number_is_refused(forecaster, tmp_path):
    forecaster.members[0].head.out.bias.data.fill_(float("nan"))
    with pytest.raises(ConfigError, match="must be within 1e-05 of torch, but is inf away"):
        export_onnx(forecaster, tmp_path / "made")


def test_a_folder_that_is_there_is_left_alone_unless_it_is_empty(forecaster, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match="full: exists already. Name another folder"):
        export_onnx(forecaster, tmp_path / "full")
    with pytest.raises(ConfigError, match="mine.txt: exists already"):
        export_onnx(forecaster, tmp_path / "full" / "mine.txt")
    with pytest.raises(ConfigError, match="mine.txt/new: can't be written"):
        export_onnx(forecaster, tmp_path / "full" / "mine.txt" / "new")
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["mine.txt"]
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "empty", tmp_path / "a" / "new" / "one"):
        assert len(export_onnx(forecaster, folder)) == 2
        assert (folder / "member-1.onnx").exists()


@pytest.mark.parametrize("name", ["onnx", "onnxruntime"])
def test_a_package_that_is_not_there_is_told_with_the_command_that_installs_it(name, forecaster, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigError, match=f"needs the package {name!r}.* Run: pip install onnx onnxruntime$"):
        export_onnx(forecaster, tmp_path / "made")
    assert list(tmp_path.iterdir()) == []


def test_it_is_no_forecaster_s_folder(forecaster, tmp_path):
    export_onnx(forecaster, tmp_path / "made")
    with pytest.raises(CheckpointError, match="model.safetensors"):
        Forecaster.load(tmp_path / "made")
