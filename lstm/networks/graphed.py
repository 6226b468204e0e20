"""CUDA graphs of a step's forward and backward pass: small networks wait for kernel launches, not for arithmetic."""

import os
from collections.abc import Callable

import torch
from torch import Tensor, nn

from lstm.config.model import ModelConfig

_WARMUP_STEPS = 3  # in which libraries choose their kernels and allocate their workspaces
Pass = Callable[[Tensor], tuple[Tensor, ...]]


def can_capture(config: ModelConfig, device: torch.device, dtype: torch.dtype | None) -> bool:
    """Whether a step can be a CUDA graph: no random number comes from the CPU. `LSTM_CUDA_GRAPHS=0` disables graphs."""
    sampled = config.head == "recursive" and config.scheduled_sampling
    eager = config.augment or sampled or config.gradient_accumulation > 1 or dtype == torch.float16
    return device.type == "cuda" and not eager and os.environ.get("LSTM_CUDA_GRAPHS") != "0"


class GraphedPass:
    """A forward and backward pass over one batch: run eagerly at first, then captured, then replayed.

    After the capture the gradients have fixed addresses: set them to zero, never to None.
    """

    def __init__(self, run: Pass, network: nn.Module, batch_size: int, device: torch.device) -> None:
        """Wrap `run`, which takes indices (batch_size,) and accumulates gradients."""
        self.run, self.network, self.n_warmup = run, network, 0
        self.index = torch.zeros(batch_size, dtype=torch.int64, device=device)
        self.stream = torch.cuda.Stream(device)
        self.graph: torch.cuda.CUDAGraph | None = None
        self.out: tuple[Tensor, ...] = ()

    @property
    def captured(self) -> bool:
        """Whether the graph was captured, so that the gradients have fixed addresses."""
        return self.graph is not None

    def __call__(self, index: Tensor) -> tuple[Tensor, ...]:
        """Run the pass over these indices; afterwards the gradients are those of this batch alone."""
        self.index.copy_(index)
        if self.graph is None and self.n_warmup < _WARMUP_STEPS:
            self.n_warmup += 1
            return self._warm_up()
        if self.graph is None:
            self._capture()
        assert self.graph is not None
        self.graph.replay()
        return tuple(tensor.clone() for tensor in self.out)

    def _warm_up(self) -> tuple[Tensor, ...]:
        """Run eagerly on the side stream that the capture will use."""
        self.network.zero_grad(set_to_none=True)
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            out = self.run(self.index)
        torch.cuda.current_stream().wait_stream(self.stream)
        return out

    def _capture(self) -> None:
        self.network.zero_grad(set_to_none=True)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self.stream, capture_error_mode="thread_local"):
            self.out = self.run(self.index)
        self.graph = graph
