"""Normalized panels and their splits on disk, written block by block."""

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

_MAX_CATEGORIES = 50  # of a column; rarer ones count as unknown
_DESCRIPTION = "panel.json"
_ARRAYS = ("features", "targets", "causal", "segment", "series", "times")
_ROWS = 1_000_000  # rows that are copied at a time


@dataclass(frozen=True)
class PanelStore:
    """A normalized panel in a folder, with its arrays (`_ARRAYS`) as .npy files."""

    folder: Path
    names: tuple[str, ...]  # of the series
    columns: tuple[str, ...]  # of the features
    n_known: int
    normalizer: PanelNormalizer
    categories: dict[str, list[str]]  # of each categorical column
    cuts: Cuts
    left_out: dict[str, str]  # reason by series

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read the description that `write_panel` wrote."""
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
        """Return whether the description and all arrays exist, the arrays with the same number of rows."""
        try:
            return len({len(cls.load(folder).array(name)) for name in _ARRAYS}) == 1
        except (OSError, ValueError, KeyError):
            return False

    def array(self, name: str) -> np.ndarray:
        """Return one of the arrays, memory-mapped."""
        array: np.ndarray = np.load(self.folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
        return array


def write_panel(table: Table, spec: DataSpec, normalize: NormalizeSpec, cuts: Cuts, folder: Path) -> None:
    """Build the panel of a table, normalize it, and write it.

    Args:
        table: canonical.
        spec: roles and rules, with the table's frequency.
        normalize: strategy, and whether it is fitted per series.
        cuts: statistics and categories come from [start, validation) only; rows after the end are left out.
        folder: to write into; also used as scratch space.

    Raises:
        DataError: no series can be normalized from the training span, or a target has no logarithm.
    """
    categorical = [name for name in spec.values if name in spec.categorical]
    categories = {name: frequent_categories(table.path, name, cuts, folder, _MAX_CATEGORIES) for name in categorical}
    normalizer, left_out = _fit_normalizer(table, spec, normalize, cuts, folder)
    names: list[str] = []
    with ArrayWriter(folder) as writer:
        pieces = _normalizable_pieces(table, normalizer, left_out, cuts.end)
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


def _fit_normalizer(
    table: Table, spec: DataSpec, normalize: NormalizeSpec, cuts: Cuts, scratch: Path
) -> tuple[PanelNormalizer, dict[str, str]]:
    """Return the normalizer, and the series that it can't be fitted for with the reason."""
    columns = [name for name in (*spec.target, *spec.observed, *spec.known, *spec.static) if name in spec.numeric]
    static = [name for name in spec.static if name in spec.numeric]
    pool_name, quartiles = (ALL_SERIES if normalize.per == "all" else None), normalize.strategy == "robust"
    logs = spec.target if normalize.log else ()
    statistics = compute_training_statistics(table.path, columns, cuts, scratch, pool_name, quartiles, logs)
    pooled = compute_training_statistics(table.path, static, cuts, scratch, ALL_SERIES, quartiles) if static else None
    n_varying = len(columns) - len(static)
    empty = np.isnan(statistics.mean[:, :n_varying])
    if not len(statistics.names) or empty.all(axis=0).any() or (pooled and np.isnan(pooled.mean).any()):
        _raise_empty(statistics, pooled, columns, n_varying)
    complete = ~empty.any(axis=1)
    if not complete.any():
        raise DataError(
            "no series has a value of every column in the training span. Leave out the column that is most often "
            "empty, set normalize.per: all, or shorten split.validation."
        )
    left_out = {
        name: f"column {columns[int(row.argmax())]!r} has no value in the training span"
        for name, row in zip(statistics.names, empty, strict=True)
        if row.any()
    }
    kept = Statistics(
        mean=statistics.mean[complete],
        std=statistics.std[complete],
        low=statistics.low[complete],
        high=statistics.high[complete],
        quartiles=None if statistics.quartiles is None else statistics.quartiles[:, complete],
        names=tuple(np.array(statistics.names, dtype=object)[complete]),
    )
    return PanelNormalizer.fit(kept, normalize, len(spec.target), pooled), left_out


def _raise_empty(statistics: Statistics, pooled: Statistics | None, columns: list[str], n_varying: int) -> None:
    if not len(statistics.names):
        raise DataError("the training span holds no row. Shorten split.validation and split.test.")
    empty = np.isnan(statistics.mean[:, :n_varying]).all(axis=0)
    if pooled is not None:
        empty = np.r_[empty, np.isnan(pooled.mean[0])]
    raise DataError(
        f"column {columns[int(empty.argmax())]!r} has no value in the training span. Leave the column out, or shorten "
        "split.validation."
    )


def _normalizable_pieces(
    table: Table, normalizer: PanelNormalizer, left_out: dict[str, str], end: np.datetime64
) -> Iterator[pd.DataFrame]:
    """Yield the measured rows before `end` of the series that can be normalized; add the others to `left_out`."""
    last, until = pd.Timestamp(table.last), pd.Timestamp(end, tz="UTC")
    for piece in table.pieces():
        unknown = [name for name in piece[SERIES].unique() if not normalizer.knows(name)]
        for name in unknown:
            left_out.setdefault(name, "it has no row in the training span")
        kept = piece[~piece[SERIES].isin(unknown) & (piece[TIME] <= last) & (piece[TIME] < until)]
        if len(kept):
            yield kept


def write_splits(panel: PanelStore, lookback: int, folder: Path) -> None:
    """Cut a panel into the folders `train`, `validation` and `test` for `SplitArrays.load`.

    Validation and test rows are preceded by `lookback` rows of their series, the history of their first windows. A row
    may be the origin of a window only if `lookback` rows of its segment come before it.
    """
    names = ("features", "targets", "segment", "series", "times")
    arrays = {name: panel.array(name) for name in (*names, "causal")}
    codes = np.arange(
        len(panel.names) + 1, dtype=np.int32
    )  # the type of `series`: numpy would convert the array otherwise
    bounds = np.searchsorted(arrays["series"], codes)
    for split, (start, end) in panel.cuts.spans.items():
        history = 0 if split == "train" else lookback
        with ArrayWriter(folder / split) as writer:
            writer.append(**{name: arrays[name][:0] for name in names}, allowed=arrays["causal"][:0])
            for low, high in itertools.pairwise(bounds.tolist()):
                first, last = low + np.searchsorted(arrays["times"][low:high], np.array([start, end]))
                for begin in range(first, last, _ROWS):
                    stop = min(begin + _ROWS, last)
                    since = max(begin - history, low) if begin == first else begin
                    rows = {name: arrays[name][since:stop] for name in names}
                    writer.append(**rows, allowed=_allowed_origins(arrays, since, begin, stop, history))


def _allowed_origins(arrays: dict[str, np.ndarray], since: int, begin: int, stop: int, lookback: int) -> np.ndarray:
    """(stop - since,) bool: whether a row may be the origin of a window; never before `begin`."""
    row = np.arange(begin, stop)
    allowed = arrays["causal"][np.maximum(row - 1, 0)] | (row == 0)  # the last row of a window's history
    if lookback:
        allowed &= row >= lookback
        allowed &= arrays["segment"][np.maximum(row - lookback, 0)] == arrays["segment"][begin:stop]
    return np.r_[np.zeros(begin - since, bool), allowed]
