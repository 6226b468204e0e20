"""Batches of training windows: their indices in random order, pass after pass."""

import torch
from torch import Tensor

from lstm.config.model import ModelConfig


class Batches:
    """Indices of windows, (batch_size,) int64 on `device`; a pass has every window once, its last batch may be smaller.

    With batch norm, which needs two windows, a single window left over joins the batch before it.
    """

    def __init__(self, n_windows: int, config: ModelConfig, generator: torch.Generator, device: torch.device) -> None:
        """Draw the order of each pass from `generator`."""
        self.n_windows, self.size, self.generator, self.device = n_windows, config.batch_size, generator, device
        single_left = config.batch_norm and n_windows > self.size and n_windows % self.size == 1
        self.per_pass = n_windows // self.size if single_left else -(-n_windows // self.size)
        self.position = self.per_pass  # batches of this pass that were returned

    def shuffle(self) -> None:
        """Draw the order of the next pass if this pass is over."""
        if self.position < self.per_pass:
            return
        self.generator_state = self.generator.get_state()
        # int32: the order of a hundred million windows is the largest array in memory
        self.order = torch.randperm(self.n_windows, generator=self.generator, dtype=torch.int32).to(self.device)
        self.position = 0

    def next(self) -> Tensor:
        """Return the next batch."""
        self.shuffle()
        start, self.position = self.position * self.size, self.position + 1
        end = self.n_windows if self.position == self.per_pass else start + self.size
        return self.order[start:end].long()

    def restore(self, generator_state: Tensor, position: int) -> None:
        """Continue a pass whose order was drawn from that state of the generator. The generator's state is kept."""
        current = self.generator.get_state()
        self.generator.set_state(generator_state)
        self.shuffle()
        self.position = position
        self.generator.set_state(current)
