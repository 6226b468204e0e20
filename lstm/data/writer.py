"""Arrays that grow on disk: rows are appended as they are made, and memory-mapped later."""

from pathlib import Path
from typing import BinaryIO, Self

import numpy as np


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
