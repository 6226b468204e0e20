"""Leakage audit: what a forecast sees must not depend on what comes after it, nor scaling on what training can't know.

It runs on some series and origins, through the code that forecasts run through, and it raises nothing: what failed is
told with its evidence.

    future        change or remove everything from an origin on: inputs and forecast must keep every bit
    arrays        what evaluation was given must be those inputs, and training's last rows made of its span alone
    normaliser    center and scale, computed anew from the training rows, must be the ones that are used
    categories    every category has an input of its own only if the training rows hold it
    known         no column that counts as known ahead may be a copy of a target of that time
    spans         targets of training, validation and test must lie in their own spans, the arrays too
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from lstm.config.preparation import NormalizeSpec
from lstm.data.arrays import SplitArrays
from lstm.data.ingest import Table
from lstm.data.panel_store import PanelStore
from lstm.diagnostics.future import ForecastOrigin, select_origins, check_training_end, probe_origin
from lstm.diagnostics.training_rows import CheckOutcome, check_categories, check_scaling, check_known_columns
from lstm.errors import LstmError
from lstm.evaluation.ridge import sample_evenly
from lstm.forecasting.forecaster import Forecaster

_SERIES = 3  # that are looked at by their rows
_MOST_SERIES = 1000  # whose spans are looked at


@dataclass(frozen=True)
class Check:
    """One question, and what was found."""

    name: str
    passed: bool
    evidence: str


@dataclass(frozen=True)
class Audit:
    """All checks of a training run."""

    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether no check failed."""
        return not self.failures

    @property
    def failures(self) -> tuple[Check, ...]:
        """The failed checks."""
        return tuple(check for check in self.checks if not check.passed)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"passed": self.passed, "checks": [asdict(check) for check in self.checks]}


def audit_leakage(
    forecaster: Forecaster,
    table: Table,
    panel: PanelStore,
    splits: Mapping[str, SplitArrays],
    normalize: NormalizeSpec,
) -> Audit:
    """Look for leaks in a forecaster and the data that it was trained and scored on.

    Args:
        forecaster: what would be registered.
        table: that the panel was made of; read in part.
        panel: that the splits were made of.
        splits: the arrays of `train`, `validation` and `test`.
        normalize: the strategy that scaling was asked to follow.
    """
    names = [name for name in panel.names if name not in forecaster.left_out]
    picked = [names[number] for number in sample_evenly(len(names), _SERIES)]
    return Audit(
        (
            *_future(forecaster, table, panel, splits, picked),
            _checked("normaliser", lambda: check_scaling(forecaster, table, panel, normalize, picked)),
            _checked("categories", lambda: check_categories(forecaster, table, panel)),
            _checked("known", lambda: check_known_columns(forecaster, table, panel, picked)),
            _spans(panel, splits),
        )
    )


def _checked(name: str, found: Callable[[], CheckOutcome]) -> Check:
    """`found` returns what is wrong, and what was looked at."""
    try:
        wrong, seen = found()
    except LstmError as error:
        wrong, seen = [str(error)], ""
    return Check(name, not wrong, _few(wrong) or seen)


def _few(wrong: Sequence[str]) -> str:
    return "; ".join(wrong[:3]) + (f"; and {len(wrong) - 3} more" if len(wrong) > 3 else "")


def _future(
    forecaster: Forecaster, table: Table, panel: PanelStore, splits: Mapping[str, SplitArrays], names: Sequence[str]
) -> Iterator[Check]:
    moved: list[str] = []
    other: list[str] = []
    origins: list[ForecastOrigin] = []
    try:
        origins = list(select_origins(forecaster, table, panel, splits, names))
        for name in names:
            other += check_training_end(forecaster, table, panel, splits["train"], name)
        for origin in origins:
            by_future, by_arrays = probe_origin(forecaster, table, origin)
            moved, other = [*moved, *by_future], [*other, *by_arrays]
    except LstmError as error:  # a table that could be read before can't be any more
        moved.append(f"with another future: {error}")
    series = len({origin.series for origin in origins})
    seen = f"{len(origins)} origins in validation and test, of {series} series"
    yield Check("future", not moved, _few(moved) or f"{seen}: inputs and forecasts keep every bit")
    yield Check("arrays", not other, _few(other) or f"{seen}: the arrays hold what a forecast sees")


def _spans(panel: PanelStore, splits: Mapping[str, SplitArrays]) -> Check:
    """Rows that may be targets lie in their own span, and arrays end where the next span begins."""
    wrong, ends = [], []
    for split, (start, end) in panel.cuts.spans.items():
        arrays = splits[split]
        codes = np.unique(arrays.series[sample_evenly(len(arrays.series), _MOST_SERIES)])
        for low, high in _bounds(arrays, codes):
            times, allowed = arrays.times[low:high], arrays.allowed[low:high]
            first = int(np.searchsorted(times, start))
            name = panel.names[arrays.series[low]]
            if times[-1] >= end:
                wrong.append(f"{split}: the arrays of series {name!r} reach to {times[-1]}, beyond {end}")
            if allowed[:first].any():
                early = times[int(allowed[:first].argmax())]
                wrong.append(f"{split}: series {name!r} has a target at {early}, before {start}")
            if split == "train" and first:
                wrong.append(f"train: the arrays of series {name!r} begin at {times[0]}, before {start}")
        ends.append(f"{split} [{start}, {end})")
    return Check("spans", not wrong, _few(wrong) or f"targets and arrays lie in {', '.join(ends)}")


def _bounds(arrays: SplitArrays, codes: np.ndarray) -> Iterator[tuple[int, int]]:
    codes = codes.astype(arrays.series.dtype)  # of another type, numpy would convert the whole array
    lows, highs = (np.searchsorted(arrays.series, codes, side) for side in ("left", "right"))
    yield from zip(lows.tolist(), highs.tolist(), strict=True)
