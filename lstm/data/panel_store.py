"""From a canonical table on disk to a normalised panel on disk, and from there to its splits, block by block."""

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd

from lstm.config.data import DataSpec
from lstm.config.preparation import NormalizeSpec
from lstm.data.ingest import Table
from lstm.data.layout import Layout
from lstm.data.normalize import Statistics
from lstm.data.panel import panel_blocks
from lstm.data.rows import SERIES, TIME
from lstm.data.scaling import ALL_SERIES, PanelNormalizer
from lstm.data.splits import Cuts
from lstm.data.statistics import compute_training_statistics, frequent_categories
from lstm.data.writer import ArrayWriter
from lstm.errors import DataError

_MAX_CATEGORIES = 50  # rarer categories of a column count as unknown
_DESCRIPTION = "panel.json"
_ARRAYS = ("features", "targets", "causal", "segment", "series", "times")
_ROWS = 1_000_000  # copied at a time


@dataclass(frozen=True)
class PanelStore:
    """A normalised panel in a folder, its arrays as .npy files: features, targets, causal, segment, series, times."""

    folder: Path
    names: tuple[str, ...]  # of the series
    columns: tuple[str, ...]  # of the features
    n_known: int
    normalizer: PanelNormalizer
    categories: dict[str, list[str]]  # of each categorical column
    cuts: Cuts
    left_out: dict[str, str]  # series: why

    @classmethod
    def load(cls, folder: Path) -> Self:
        """What `write_panel` wrote."""
        state = json.loads((folder / _DESCRIPTION).read_text(encoding="utf-8"))
        return cls(
            folder=folder,
            names=tuple(state["names"]),
            columns=tuple(state["columns"]),
            n_known=state["n_known"],
            normalizer=PanelNormalizer.from_dict(state["normalizer"]),
            categories=state["levels"],
            cuts=Cuts(*(np.datetime64(state["cuts"][name], "us") for name in ("start", "validation", "test", "end"))),
            left_out=state["left_out"],
        )

    @classmethod
    def is_complete(cls, folder: Path) -> bool:
        """Whether the description and all arrays are there, of as many rows each."""
        try:
            return len({len(cls.load(folder).array(name)) for name in _ARRAYS}) == 1
        except (OSError, ValueError, KeyError):
            return False

    def array(self, name: str) -> np.ndarray:
        """One of the arrays, memory-mapped."""
        mapped: np.ndarray = np.load(self.folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
        return mapped


def write_panel(table: Table, spec: DataSpec, normalize: NormalizeSpec, cuts: Cuts, folder: Path) -> None:
    """Grid, fill, scale, and write.

    Args:
        table: canonical.
        spec: roles and rules, with the table's frequency.
        normalize: strategy, by series or not.
        cuts: statistics and categories come from [start, validation) alone; rows after the end are left out.
        folder: to write into; also scratch space.

    Raises:
        DataError: no series has what a normaliser needs in the training span, or a target has no logarithm.
    """
    categorical = [name for name in spec.values if name in spec.categorical]
    categories = {name: frequent_categories(table.path, name, cuts, folder, _MAX_CATEGORIES) for name in categorical}
    normalizer, left_out = _fitted(table, spec, normalize, cuts, folder)
    names: list[str] = []
    with ArrayWriter(folder) as writer:
        pieces = _known(table, normalizer, left_out, cuts.end)
        for block in panel_blocks(pieces, spec, categories, borders=(cuts.validation, cuts.test)):
            new = block.names[1:] if names and block.names[:1] == (names[-1],) else block.names
            names += new
            writer.append(
                features=normalizer.normalize_features(block),
                targets=normalizer.normalize_targets(block),
                causal=block.causal,
                segment=block.segment,
                series=block.series + np.int32(len(names) - len(block.names)),
                times=block.times,
            )
    layout = Layout.of(spec, categories)
    description: dict[str, Any] = {
        "names": names,
        "columns": layout.columns,
        "n_known": layout.n_known,
        "normalizer": normalizer.to_dict(),
        "levels": categories,
        "cuts": {name: str(moment) for name, moment in vars(cuts).items()},
        "left_out": left_out,
    }
    (folder / _DESCRIPTION).write_text(json.dumps(description), encoding="utf-8")


def _fitted(
    table: Table, spec: DataSpec, normalize: NormalizeSpec, cuts: Cuts, scratch: Path
) -> tuple[PanelNormalizer, dict[str, str]]:
    """The normaliser, and the series that it can't be fitted for."""
    columns = [name for name in (*spec.target, *spec.observed, *spec.known, *spec.static) if name in spec.numeric]
    static = [name for name in spec.static if name in spec.numeric]
    together, quartiles = (ALL_SERIES if normalize.per == "all" else None), normalize.strategy == "robust"
    logs = spec.target if normalize.log else ()
    found = compute_training_statistics(table.path, columns, cuts, scratch, together, quartiles, logs)
    pooled = compute_training_statistics(table.path, static, cuts, scratch, ALL_SERIES, quartiles) if static else None
    own = len(columns) - len(static)
    empty = np.isnan(found.mean[:, :own])
    if not len(found.names) or empty.all(axis=0).any() or (pooled and np.isnan(pooled.mean).any()):
        _raise_empty(found, pooled, columns, own)
    whole = ~empty.any(axis=1)
    if not whole.any():
        raise DataError(
            "no series has a value of every column in the training span. Leave out the column that is most often "
            "empty, set normalize.per: all, or shorten split.validation."
        )
    left_out = {
        name: f"column {columns[int(row.argmax())]!r} has no value in the training span"
        for name, row in zip(found.names, empty, strict=True)
        if row.any()
    }
    kept = Statistics(
        mean=found.mean[whole],
        std=found.std[whole],
        low=found.low[whole],
        high=found.high[whole],
        quartiles=None if found.quartiles is None else found.quartiles[:, whole],
        names=tuple(np.array(found.names, dtype=object)[whole]),
    )
    return PanelNormalizer.fit(kept, normalize, len(spec.target), pooled), left_out


def _raise_empty(found: Statistics, pooled: Statistics | None, columns: list[str], own: int) -> None:
    if not len(found.names):
        raise DataError("the training span holds no row. Shorten split.validation and split.test.")
    empty = np.isnan(found.mean[:, :own]).all(axis=0)
    if pooled is not None:
        empty = np.r_[empty, np.isnan(pooled.mean[0])]
    raise DataError(
        f"column {columns[int(empty.argmax())]!r} has no value in the training span. Leave the column out, or shorten "
        "split.validation."
    )


def _known(
    table: Table, normalizer: PanelNormalizer, left_out: dict[str, str], end: np.datetime64
) -> Iterator[pd.DataFrame]:
    """The measured span, before `end`, of the series that can be normalised; the others are noted in `left_out`."""
    last, until = pd.Timestamp(table.last), pd.Timestamp(end, tz="UTC")
    for piece in table.pieces():
        unknown = [name for name in piece[SERIES].unique() if not normalizer.knows(name)]
        for name in unknown:
            left_out.setdefault(name, "it has no row in the training span")
        kept = piece[~piece[SERIES].isin(unknown) & (piece[TIME] <= last) & (piece[TIME] < until)]
        if len(kept):
            yield kept


def write_splits(panel: PanelStore, lookback: int, folder: Path) -> None:
    """Cut a panel into `train`, `validation` and `test`, a folder each as `SplitArrays` reads it.

    Validation and test rows are preceded by the `lookback` rows of their series that their first windows see, and
    may be the origin of a window only where so many unbroken rows come before.
    """
    names = ("features", "targets", "segment", "series", "times")
    arrays = {name: panel.array(name) for name in (*names, "causal")}
    codes = np.arange(len(panel.names) + 1, dtype=np.int32)  # of another type, numpy would convert the whole array
    bounds = np.searchsorted(arrays["series"], codes)
    for split, (start, end) in panel.cuts.spans.items():
        before = 0 if split == "train" else lookback
        with ArrayWriter(folder / split) as writer:
            writer.append(**{name: arrays[name][:0] for name in names}, allowed=arrays["causal"][:0])
            for low, high in itertools.pairwise(bounds.tolist()):
                first, last = low + np.searchsorted(arrays["times"][low:high], np.array([start, end]))
                for begin in range(first, last, _ROWS):
                    stop = min(begin + _ROWS, last)
                    seen = max(begin - before, low) if begin == first else begin
                    rows = {name: arrays[name][seen:stop] for name in names}
                    writer.append(**rows, allowed=_allowed(arrays, seen, begin, stop, before))


def _allowed(arrays: dict[str, np.ndarray], seen: int, begin: int, stop: int, lookback: int) -> np.ndarray:
    """(stop - seen,) bool: whether a window may have its origin in the row; not before `begin`."""
    row = np.arange(begin, stop)
    allowed = arrays["causal"][np.maximum(row - 1, 0)] | (row == 0)  # the last row that a window sees
    if lookback:
        allowed &= row >= lookback
        allowed &= arrays["segment"][np.maximum(row - lookback, 0)] == arrays["segment"][begin:stop]
    return np.r_[np.zeros(begin - seen, bool), allowed]
