"""One step's forward and backward pass on CUDA as a graph: small networks wait for launches, not for arithmetic."""

import os
from collections.abc import Callable

import torch
from torch import Tensor, nn

from lstm.config.model import ModelConfig

_EAGER_FIRST = 3  # steps, in which libraries choose their kernels and allocate what they keep
Pass = Callable[[Tensor], tuple[Tensor, ...]]


def graphs(config: ModelConfig, device: torch.device, dtype: torch.dtype | None) -> bool:
    """Whether a step can be a graph: its numbers come from the device alone. `LSTM_CUDA_GRAPHS=0`: none is."""
    sampled = config.head == "recursive" and config.scheduled_sampling
    eager = config.augment or sampled or config.gradient_accumulation > 1 or dtype == torch.float16
    return device.type == "cuda" and not eager and os.environ.get("LSTM_CUDA_GRAPHS") != "0"


class GraphedPass:
    """A pass over one batch, which fills the gradients: as it comes at first, then recorded, then played back.

    Gradients lie where the recording has put them: between two passes they may be set to zero, never to None.
    """

    def __init__(self, work: Pass, network: nn.Module, batch_size: int, device: torch.device) -> None:
        """`work` takes indices (batch_size,) and adds to the gradients, which are None when it is recorded."""
        self.work, self.network, self.seen = work, network, 0
        self.index = torch.zeros(batch_size, dtype=torch.int64, device=device)
        self.stream = torch.cuda.Stream(device)
        self.graph: torch.cuda.CUDAGraph | None = None
        self.out: tuple[Tensor, ...] = ()

    @property
    def recorded(self) -> bool:
        """Whether the gradients' places are fixed."""
        return self.graph is not None

    def __call__(self, index: Tensor) -> tuple[Tensor, ...]:
        """What `work` makes of these indices; the gradients are those of this batch alone."""
        self.index.copy_(index)
        if self.graph is None and self.seen < _EAGER_FIRST:
            self.seen += 1
            return self._beside()
        if self.graph is None:
            self._record()
        assert self.graph is not None
        self.graph.replay()
        return tuple(one.clone() for one in self.out)

    def _beside(self) -> tuple[Tensor, ...]:
        """On a stream of its own, as a recording is."""
        self.network.zero_grad(set_to_none=True)
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            out = self.work(self.index)
        torch.cuda.current_stream().wait_stream(self.stream)
        return out

    def _record(self) -> None:
        self.network.zero_grad(set_to_none=True)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self.stream, capture_error_mode="thread_local"):
            self.out = self.work(self.index)
        self.graph = graph
