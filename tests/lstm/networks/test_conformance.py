"""Laws that every network obeys, whatever its cell, head, anchor, loss and options."""

import json
import subprocess
import sys

import pytest
import torch

from lstm.config.model import LIKELIHOODS, ModelConfig
from lstm.data.windows import Windows
from lstm.networks.checkpoint import load_checkpoint, save_checkpoint
from lstm.networks.losses import make_loss
from lstm.networks.network import ForecastNetwork
from lstm.networks.training import forecast
from tests.support.network_variants import (
    N_SERIES,
    OBSERVED,
    TARGETS,
    VARIANTS,
    actual_of,
    batch,
    digests,
    network_of,
    point_of,
)
from tests.support.paths import ROOT

every_variant = pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)


def moved_steps(after, before):
    """Which steps of the horizon differ in any bit: (horizon,)."""
    return (after != before).flatten(2).any(dim=2).any(dim=0)


@every_variant
def test_the_forecast_has_the_params_of_the_loss_for_each_step_and_target(changes):
    numbers = {"gaussian": 2, "student_t": 3}.get(changes.get("loss"), len(changes.get("quantiles", [0.5])))
    out = network_of(**changes)(*batch(size=4))
    assert out.shape == (4, 5, 2, numbers)
    assert torch.isfinite(out).all()


@every_variant
def test_a_forecast_does_not_depend_on_the_rest_of_the_batch(changes):
    network, inputs = network_of(**changes), batch(size=4)
    alone = torch.cat([network(*(part[row : row + 1] for part in inputs)) for row in range(4)])
    torch.testing.assert_close(alone, network(*inputs), atol=1e-5, rtol=1e-5)


@every_variant
def test_the_forward_pass_leaves_its_inputs_alone(changes):
    network, inputs = network_of(**changes), (*batch(), actual_of())
    copies = [part.clone() for part in inputs]
    network.train()(*inputs)
    assert all(torch.equal(part, copy) for part, copy in zip(inputs, copies, strict=True))


@every_variant
def test_equal_seeds_give_equal_weights_and_leave_the_global_generator_alone(changes):
    state = torch.random.get_rng_state()
    first, same, other = (network_of(**changes, seed=seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


@every_variant
def test_the_newest_input_moves_the_first_step(changes):
    network, (past, known, series) = network_of(**changes), batch()
    before = network(past, known, series)
    past[:, -1, OBSERVED] += 1.0  # a covariate, so that no anchor does it alone
    assert ((network(past, known, series) - before)[:, 0].abs().amax(dim=(1, 2)) > 1e-6).all()


@every_variant
def test_every_kind_of_input_moves_the_forecast(changes):
    network, (past, known, series) = network_of(**changes), batch()
    before = network(past, known, series)
    for column in range(4):
        changed = past.clone()
        changed[:, -1, column] += 1.0
        moved = (network(changed, known, series) != before).any(dim=3).any(dim=1).any(dim=0)  # (targets,)
        alone = changes.get("channel_independent", False) and column in TARGETS
        assert moved.tolist() == [not alone or column == target for target in TARGETS]
    assert (network(past, known + 1, series) != before).any()
    other = network(past, known, series % N_SERIES + 1)
    assert (other != before).any() == changes.get("series_embedding", False)


@every_variant
def test_a_known_value_moves_its_step_and_others_only_as_the_head_allows(changes):
    network, (past, known, series) = network_of(**changes), batch()
    before = network(past, known, series)
    head = changes.get("head", "direct")
    patch = changes.get("patch_length", 1) if head in ("parallel", "recursive") else 1
    for step in range(5):
        changed = known.clone()
        changed[:, step] += 1.0
        moved = moved_steps(network(past, changed, series), before)
        first, end = step // patch * patch, (step // patch + 1) * patch
        reach = {"bidirectional": range(5), "recursive": range(first, 5)}.get(head, range(first, min(end, 5)))
        assert set(moved.nonzero().flatten().tolist()) <= set(reach)
        assert moved[step]


@every_variant
def test_actual_values_reach_later_patches_of_a_recursive_head_and_nothing_else(changes):
    network, inputs = network_of(**{**changes, "dropout": 0.0}).train(), batch()
    actual = actual_of()
    before = network(*inputs, actual)
    patch = changes.get("patch_length", 1)
    for step in range(5):
        changed = actual.clone()
        changed[:, step] += 1.0
        moved = moved_steps(network(*inputs, changed), before)
        later = (step // patch + 1) * patch
        fed = changes.get("head") == "recursive"
        assert moved.tolist() == [fed and other >= later for other in range(5)]


@every_variant
def test_rows_after_the_origin_matter_only_by_known_covariates(changes):
    network, generator = network_of(**changes), torch.Generator().manual_seed(4)
    features, targets = torch.randn(40, 4, generator=generator), torch.randn(40, 2, generator=generator)
    series = torch.ones(40, dtype=torch.int32)
    windows = Windows(features, targets, torch.tensor([15, 20]), 12, 5, n_known=1, series=series)
    later = features.clone()
    later[20:, :3] += 1.0
    later[25:] += 1.0
    changed = Windows(later, targets + 1, windows.origins, 12, 5, n_known=1, series=series)
    before = forecast(network, windows)
    assert torch.equal(forecast(network, changed), before)
    later[19:20] += 1.0
    assert (forecast(network, changed) != before).flatten(1).any(dim=1).tolist() == [True, True]


def overfit(network, inputs, actual, error):
    """Train on one batch until `error` is under a tenth of its first value; return the share that is left."""
    loss = make_loss(network.config, torch.device("cpu"))
    optimizer = torch.optim.Adam(network.train().parameters(), 0.01)
    errors = []
    for _ in range(500):
        optimizer.zero_grad()
        out = network(*inputs, actual)
        total, count = loss(out, actual, inputs[0][..., TARGETS])
        (total / count).backward()
        optimizer.step()
        errors.append(float((error(out) if error else total / count).detach()))
        if errors[-1] < 0.1 * errors[0]:
            break
    return errors[-1] / errors[0]


@pytest.mark.slow
@every_variant
def test_one_batch_can_be_overfitted(changes):
    network, inputs, actual = network_of(**{**changes, "dropout": 0.0}), batch(size=6), actual_of(size=6)

    def squared(out):  # a log-likelihood has no zero to fall to
        return (point_of(network, out) - actual).square().mean()

    assert overfit(network, inputs, actual, squared if changes.get("loss") in LIKELIHOODS else None) < 0.1


@every_variant
def test_saved_and_loaded_it_gives_the_same_bits(changes, tmp_path):
    network, inputs = network_of(**changes), batch()
    network.train()(*inputs, actual_of())  # so that batch norm has statistics of its own
    config = network.eval().config
    meta = {"config": config.model_dump(mode="json"), "targets": TARGETS, "series": network.n_series}
    save_checkpoint(tmp_path / "network", network.state_dict(), meta)
    tensors, again = load_checkpoint(tmp_path / "network")
    loaded = ForecastNetwork(ModelConfig.parse(again["config"]), again["targets"], 1, again["series"])
    for parameter in loaded.parameters():
        torch.nn.init.zeros_(parameter)
    loaded.load_state_dict(tensors)
    assert torch.equal(loaded.eval()(*inputs), network(*inputs))


@pytest.mark.slow
def test_another_process_gets_the_same_bits():
    code = (
        "import json, torch; torch.set_num_threads(1)\n"
        "from tests.support.network_variants import digests\n"
        "print(json.dumps(digests()))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == digests()
    assert len(set(digests().values())) == len(VARIANTS)
