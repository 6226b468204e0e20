"""A split on disk: flat arrays that are memory-mapped, so that workers share one copy of the pages.

Each split has arrays of its own. The training arrays end where validation begins, and the validation
arrays end where the test begins: what is not in the array can't leak.
"""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import BinaryIO, Self

import numpy as np
import torch

from lstm.data.windows import Windows, window_origins


class ArrayWriter:
    """Named .npy files in a folder that grow by their first axis; complete when the block ends."""

    def __init__(self, folder: Path) -> None:
        """Write into `folder`, which is made if missing."""
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._files: dict[str, BinaryIO] = {}
        self._kinds: dict[str, tuple[tuple[int, ...], np.dtype]] = {}
        self.rows = 0

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def append(self, **arrays: np.ndarray) -> None:
        """Add the same number of rows to each file; the first call says which files there are."""
        for name, array in arrays.items():
            if name not in self._files:
                self._files[name] = (self._folder / f"{name}.npy").open("wb")
                self._kinds[name] = (array.shape[1:], array.dtype)
                self._header(name, 0)
            self._files[name].write(np.ascontiguousarray(array).view(np.uint8).data)
        self.rows += len(next(iter(arrays.values())))

    def _header(self, name: str, rows: int) -> None:
        """numpy leaves room in the header for the first axis to grow."""
        shape, dtype = self._kinds[name]
        described = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (rows, *shape)}
        np.lib.format.write_array_header_1_0(self._files[name], described)

    def __exit__(self, *_: object) -> None:
        """Say in each file how many rows it has."""
        for name, file in self._files.items():
            file.seek(0)
            self._header(name, self.rows)
            file.close()


@dataclass(frozen=True)
class SplitArrays:
    """Rows of one split; those before its first target time are look-back only."""

    features: np.ndarray  # (rows, features) float32, normalised, gaps filled
    targets: np.ndarray  # (rows, targets) float32, normalised, NaN where not measured
    allowed: np.ndarray  # (rows,) bool: a window may have its origin here
    segment: np.ndarray  # (rows,) int32
    series: np.ndarray  # (rows,) int32
    times: np.ndarray  # (rows,) datetime64[us], UTC

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Map the arrays that `ArrayWriter` wrote; pages are copied on write, which nothing here does."""
        arrays = (np.load(folder / f"{field.name}.npy", mmap_mode="c", allow_pickle=False) for field in fields(cls))
        return cls(*arrays)

    def windows(self, sequence_length: int, horizon: int, n_known: int, stride: int = 1) -> Windows:
        """The windows of this split, as views of its arrays."""
        origins = window_origins(self.segment, sequence_length, horizon, stride, self.allowed)
        return Windows(
            torch.from_numpy(self.features),
            torch.from_numpy(self.targets),
            torch.from_numpy(origins),
            sequence_length,
            horizon,
            n_known,
        )
