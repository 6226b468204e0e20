"""Which limits a search holds; tests/flows/test_services.py has what they do on a server."""

import socket
from contextlib import nullcontext

import pytest

from tasks.search import gpu_limits


@pytest.mark.parametrize(
    ("devices", "numbers"),
    [(["cpu", "cpu"], []), (["mps"], []), (["cuda:1", "cuda:0", "cuda:1"], [0, 1]), (["cuda"], [0])],
)
def test_a_search_holds_one_limit_a_gpu_and_asks_no_server_for_a_cpu(monkeypatch, devices, numbers):
    asked: list[str] = []
    monkeypatch.setattr(gpu_limits, "concurrency", lambda names, **_: asked.extend(names) or nullcontext())
    with gpu_limits.gpu_limits(devices):
        assert asked == [f"lstm-{socket.gethostname()}-cuda-{number}" for number in numbers]
