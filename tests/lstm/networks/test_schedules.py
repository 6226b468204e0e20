"""Learning rates against values worked out by hand."""

import math

import pytest
import torch

from lstm.config.model import ModelConfig
from lstm.networks.schedules import make_schedule


def rates(scheduler, epochs, steps, losses=None):
    """Return the rate of every optimizer step, as shares of the learning rate, and the rate after the last step."""
    config = ModelConfig(scheduler=scheduler, epochs=epochs, learning_rate=2.0)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=config.learning_rate)
    schedule = make_schedule(optimizer, config, steps)
    lrs = []
    for epoch in range(epochs):
        for _ in range(steps):
            lrs.append(optimizer.param_groups[0]["lr"] / 2.0)
            optimizer.step()
            schedule.after_step()
        schedule.after_epoch(losses[epoch] if losses else 1.0)
    return [*lrs, optimizer.param_groups[0]["lr"] / 2.0]


def test_a_cosine_warms_up_over_a_tenth_of_the_steps_and_ends_at_one_percent():
    lrs = rates("cosine", epochs=10, steps=10)
    assert lrs[:11] == pytest.approx([*(step / 10 for step in range(1, 11)), 1.0])
    assert lrs[55] == pytest.approx(0.01 + 0.99 / 2)  # half way down
    assert lrs[40] == pytest.approx(0.01 + 0.99 * (1 + math.cos(math.pi / 3)) / 2)  # a third of the way
    assert lrs[100] == pytest.approx(0.01)
    assert lrs[10:] == sorted(lrs[10:], reverse=True)


def test_a_cosine_warms_up_over_at_most_a_hundred_steps():
    lrs = rates("cosine", epochs=20, steps=100)
    assert [lrs[0], lrs[49], lrs[99], lrs[100]] == pytest.approx([0.01, 0.5, 1.0, 1.0])
    assert lrs[1050] == pytest.approx(0.505)


def test_a_cosine_of_a_few_steps_starts_at_the_whole_rate():
    assert rates("cosine", epochs=1, steps=3)[0] == 1.0


def test_one_cycle_is_highest_at_three_tenths_of_the_steps():
    lrs = rates("onecycle", epochs=10, steps=10)
    assert max(range(101), key=lrs.__getitem__) == 30
    assert [lrs[0], lrs[15], lrs[30], lrs[65], lrs[100]] == pytest.approx(
        [0.04, 0.04 + 0.96 / 2, 1.0, 1e-4 + (1 - 1e-4) / 2, 1e-4]
    )


def test_one_cycle_rises_before_its_peak_and_falls_after_it():
    lrs = rates("onecycle", epochs=10, steps=10)
    assert lrs[:31] == sorted(lrs[:31])
    assert lrs[30:] == sorted(lrs[30:], reverse=True)


def test_steps_are_a_tenth_after_each_third_of_the_epochs():
    lrs = rates("step", epochs=6, steps=2)
    assert lrs == pytest.approx([1.0] * 4 + [0.1] * 4 + [0.01] * 4 + [0.001])


def test_a_plateau_halves_the_rate_at_the_fourth_epoch_without_gain_and_counts_anew():
    losses = [1.0, 0.9, 0.95, 0.9, 0.91, 0.92, 0.9, 0.8, 0.7, 0.7, 0.7, 0.7, 0.7]
    lrs = rates("plateau", epochs=13, steps=1, losses=losses)
    assert lrs == pytest.approx([1.0] * 6 + [0.5] * 7 + [0.25])


def test_no_schedule_keeps_the_rate():
    assert rates("none", epochs=3, steps=4) == [1.0] * 13


@pytest.mark.parametrize("scheduler", ["cosine", "onecycle", "step", "plateau", "none"])
def test_no_schedule_ever_asks_for_more_than_the_rate_or_for_none(scheduler):
    for epochs, steps in ((1, 1), (1, 7), (3, 1), (40, 3)):
        assert all(0 < rate <= 1.0 + 1e-12 for rate in rates(scheduler, epochs, steps))
