"""Which devices a search trains on, and what they can't compute in."""

import pytest

from lstm.errors import ConfigError
from tasks.search.worker_pool import search_devices
from tests.support.prepared_data import make_config

CPU = {"sequence_length": 24, "device": "cpu"}


def test_there_are_never_more_workers_than_trials():
    assert search_devices(make_config("-", model=CPU, search={"trials": 1})) == ["cpu"]


@pytest.mark.parametrize(
    "sections",
    [
        {"model": {**CPU, "precision": "bf16"}},
        {"ensemble": {"members": [{}, {"precision": "bf16"}]}},
        {"search": {"space": {"precision": ["fp32", "bf16"]}}},
        {"search": {"space": {"precision": ["auto", "bf16"]}}, "ensemble": {"members": [{"precision": "bf16"}]}},
    ],
)
def test_a_precision_that_the_device_lacks_is_told_before_any_trial(sections):
    with pytest.raises(ConfigError, match="precision='bf16' needs a CUDA device, but this is cpu"):
        search_devices(make_config("-", **{"model": CPU, **sections}))


def test_a_member_that_is_never_trained_may_have_any_precision():
    members = {"members": [{}, {"precision": "bf16"}]}
    assert search_devices(make_config("-", model=CPU, search={"trials": 1}, ensemble=members)) == ["cpu"]
