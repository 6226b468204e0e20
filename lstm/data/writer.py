"""Arrays that grow on disk, to be memory-mapped later."""

from pathlib import Path
from typing import BinaryIO, Self

import numpy as np


class ArrayWriter:
    """Writes .npy files that grow along their first axis. They are complete when the context ends."""

    def __init__(self, folder: Path) -> None:
        """Write into `folder`, which is created if missing."""
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._files: dict[str, BinaryIO] = {}
        self._layouts: dict[str, tuple[tuple[int, ...], np.dtype]] = {}
        self.rows = 0

    def __enter__(self) -> Self:
        """Return self."""
        return self

    def append(self, **arrays: np.ndarray) -> None:
        """Append the same number of rows to each file; the first call determines the files."""
        for name, array in arrays.items():
            if name not in self._files:
                self._files[name] = (self._folder / f"{name}.npy").open("wb")
                self._layouts[name] = (array.shape[1:], array.dtype)
                self._write_header(name, 0)
            self._files[name].write(np.ascontiguousarray(array).view(np.uint8).data)
        self.rows += len(next(iter(arrays.values())))

    def _write_header(self, name: str, rows: int) -> None:
        """Write the header; numpy pads it so that the number of rows can grow."""
        shape, dtype = self._layouts[name]
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (rows, *shape)}
        np.lib.format.write_array_header_1_0(self._files[name], header)

    def __exit__(self, *_: object) -> None:
        """Write the final number of rows into each file."""
        for name, file in self._files.items():
            file.seek(0)
            self._write_header(name, self.rows)
            file.close()
