"""The training windows in random order, pass after pass, a batch at a time."""

import torch
from torch import Tensor

from lstm.config.model import ModelConfig


class Batches:
    """Indices of windows, (batch_size,) int64 on `device`; every window once a pass, the last batch may be smaller.

    A last window all alone joins the batch before where there is batch norm, which can't compare it with itself.
    """

    def __init__(self, windows: int, config: ModelConfig, generator: torch.Generator, device: torch.device) -> None:
        """Draw each pass's order from `generator`."""
        self.windows, self.size, self.generator, self.device = windows, config.batch_size, generator, device
        alone = config.batch_norm and windows > self.size and windows % self.size == 1
        self.in_a_pass = windows // self.size if alone else -(-windows // self.size)
        self.taken = self.in_a_pass  # of this pass

    def shuffle(self) -> None:
        """Draw the next pass's order where this pass is over."""
        if self.taken < self.in_a_pass:
            return
        self.drawn_from = self.generator.get_state()
        # int32: of a hundred million windows the order is the largest thing in memory
        self.order = torch.randperm(self.windows, generator=self.generator, dtype=torch.int32).to(self.device)
        self.taken = 0

    def next(self) -> Tensor:
        """The next batch."""
        self.shuffle()
        start, self.taken = self.taken * self.size, self.taken + 1
        end = self.windows if self.taken == self.in_a_pass else start + self.size
        return self.order[start:end].long()

    def restore(self, drawn_from: Tensor, taken: int) -> None:
        """Go on in a pass whose order was drawn from that state of the generator, which is left as it is."""
        now = self.generator.get_state()
        self.generator.set_state(drawn_from)
        self.shuffle()
        self.taken = taken
        self.generator.set_state(now)
