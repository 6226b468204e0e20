"""Sorting of rows that don't fit into memory: distribute them to buckets by key, then sort each bucket.

The borders of the buckets come from a sample of the keys, which makes the buckets about equally large (sample sort;
Frazer and McKellar, Journal of the ACM 17, 1970).
"""

from bisect import bisect_left
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from lstm.data.rows import ROW, SERIES, TIME

BUCKET_ROWS = 500_000  # rows of a bucket, which is sorted in memory
_MAX_BUCKETS = 500  # files that are open at a time
_SAMPLE_EVERY = 1000  # rows per key of the sample


def sort_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """Sort rows by series, time and row number in the source."""
    codes, _ = pd.factorize(rows[SERIES], sort=True)
    order = np.lexsort((rows[ROW].to_numpy(), rows[TIME].to_numpy("datetime64[us]"), codes))
    return rows.iloc[order].reset_index(drop=True)


def sample_keys(rows: pd.DataFrame) -> list[tuple[str, Any]]:
    """Return a sample of the keys of sorted rows."""
    sample = rows.iloc[::_SAMPLE_EVERY]
    return list(zip(sample[SERIES], sample[TIME].to_numpy("datetime64[us]"), strict=True))


def sort_in_buckets(
    runs: Iterator[pa.Table], sample: list[tuple[str, Any]], rows: int, scratch: Path
) -> Iterator[pd.DataFrame]:
    """Yield the rows of all runs in order, one bucket at a time.

    Args:
        runs: sorted tables with the same schema.
        sample: of the keys of all runs.
        rows: number of rows of all runs.
        scratch: folder for the buckets.
    """
    count = min(-(-rows // BUCKET_ROWS), _MAX_BUCKETS)
    sample = sorted(sample)
    borders = [sample[number * len(sample) // count] for number in range(1, count)]
    paths = [scratch / f"bucket-{number:03d}.arrow" for number in range(count)]
    _distribute(runs, borders, paths)
    for path in paths:
        with pa.OSFile(str(path)) as file, pa.ipc.open_stream(file) as stream:
            yield sort_rows(stream.read_all().to_pandas(split_blocks=True, self_destruct=True))
        path.unlink()


def _distribute(runs: Iterator[pa.Table], borders: list[tuple[str, Any]], paths: list[Path]) -> None:
    options = pa.ipc.IpcWriteOptions(compression="lz4")
    with ExitStack() as stack:
        writers: list[Any] = []
        for run in runs:
            if not writers:
                writers = [stack.enter_context(pa.ipc.new_stream(path, run.schema, options=options)) for path in paths]
            keys = _Keys(run)
            cuts = [0, *(bisect_left(keys, border) for border in borders), len(keys)]
            for writer, start, stop in zip(writers, cuts[:-1], cuts[1:], strict=True):
                if stop > start:
                    writer.write_table(run.slice(start, stop - start))


class _Keys:
    """The keys of a sorted run as a sequence for bisect; keys are converted only when accessed."""

    def __init__(self, run: pa.Table) -> None:
        self._series = run[SERIES].combine_chunks()
        self._times = run[TIME].cast(pa.timestamp("us")).to_numpy()

    def __len__(self) -> int:
        return len(self._times)

    def __getitem__(self, row: int) -> tuple[str, Any]:
        return self._series[row].as_py(), self._times[row]
