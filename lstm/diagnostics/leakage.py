"""Leakage audit: no forecast may depend on later values, no scaling on rows outside the training span.

The audit takes a sample of series and origins through the code that makes forecasts. It raises nothing: each failed
check holds its evidence.

    future        change or remove all values from an origin on: inputs and forecast must stay equal in every bit
    arrays        evaluation arrays must be the inputs of forecasts, the last training rows made of training rows alone
    normaliser    center and scale must equal those computed anew from the training rows
    categories    each category that has an input must occur in the training rows
    known         no known covariate may be a copy of a target at a time that is forecast
    spans         targets and arrays of each split must lie in the split's own span
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from lstm.config.preparation import NormalizeSpec
from lstm.data.arrays import SplitArrays
from lstm.data.ingest import Table
from lstm.data.panel_store import PanelStore
from lstm.diagnostics.future import ForecastOrigin, check_training_end, probe_origin, select_origins
from lstm.diagnostics.training_rows import CheckOutcome, check_categories, check_known_columns, check_scaling
from lstm.errors import LstmError
from lstm.evaluation.ridge import sample_evenly
from lstm.forecasting.forecaster import Forecaster

_N_SERIES = 3  # whose rows are read
_MAX_SERIES = 1000  # whose spans are checked
_MAX_SHOWN = 3  # errors in the evidence of a check


@dataclass(frozen=True)
class Check:
    """The result of one check."""

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
        """Return JSON-ready values."""
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
        table: the source of the panel; read in part.
        panel: the source of the splits.
        splits: the arrays of `train`, `validation` and `test`.
        normalize: the configured scaling.
    """
    names = [name for name in panel.names if name not in forecaster.left_out]
    sample = [names[number] for number in sample_evenly(len(names), _N_SERIES)]
    return Audit(
        (
            *_check_future(forecaster, table, panel, splits, sample),
            _run_check("normaliser", lambda: check_scaling(forecaster, table, panel, normalize, sample)),
            _run_check("categories", lambda: check_categories(forecaster, table, panel)),
            _run_check("known", lambda: check_known_columns(forecaster, table, panel, sample)),
            _check_spans(panel, splits),
        )
    )


def _run_check(name: str, check: Callable[[], CheckOutcome]) -> Check:
    try:
        errors, scope = check()
    except LstmError as error:
        errors, scope = [str(error)], ""
    return Check(name, not errors, _format_errors(errors) or scope)


def _format_errors(errors: Sequence[str]) -> str:
    more = f"; and {len(errors) - _MAX_SHOWN} more" if len(errors) > _MAX_SHOWN else ""
    return "; ".join(errors[:_MAX_SHOWN]) + more


def _check_future(
    forecaster: Forecaster, table: Table, panel: PanelStore, splits: Mapping[str, SplitArrays], names: Sequence[str]
) -> Iterator[Check]:
    leaks: list[str] = []
    array_errors: list[str] = []
    origins: list[ForecastOrigin] = []
    try:
        origins = list(select_origins(forecaster, table, panel, splits, names))
        for name in names:
            array_errors += check_training_end(forecaster, table, panel, splits["train"], name)
        for origin in origins:
            by_future, by_arrays = probe_origin(forecaster, table, origin)
            leaks, array_errors = [*leaks, *by_future], [*array_errors, *by_arrays]
    except LstmError as error:  # the changed table breaks a rule that the original one keeps
        leaks.append(f"with another future: {error}")
    series = len({origin.series for origin in origins})
    scope = f"{len(origins)} origins in validation and test, of {series} series"
    yield Check("future", not leaks, _format_errors(leaks) or f"{scope}: inputs and forecasts keep every bit")
    evidence = _format_errors(array_errors) or f"{scope}: the arrays hold what a forecast sees"
    yield Check("arrays", not array_errors, evidence)


def _check_spans(panel: PanelStore, splits: Mapping[str, SplitArrays]) -> Check:
    """Check that possible targets lie in their own span, and that arrays end where the next span begins."""
    errors, spans = [], []
    for split, (start, end) in panel.cuts.spans.items():
        arrays = splits[split]
        codes = np.unique(arrays.series[sample_evenly(len(arrays.series), _MAX_SERIES)])
        for low, high in _bounds(arrays, codes):
            times, allowed = arrays.times[low:high], arrays.allowed[low:high]
            first = int(np.searchsorted(times, start))
            name = panel.names[arrays.series[low]]
            if times[-1] >= end:
                errors.append(f"{split}: the arrays of series {name!r} reach to {times[-1]}, beyond {end}")
            if allowed[:first].any():
                early = times[int(allowed[:first].argmax())]
                errors.append(f"{split}: series {name!r} has a target at {early}, before {start}")
            if split == "train" and first:
                errors.append(f"train: the arrays of series {name!r} begin at {times[0]}, before {start}")
        spans.append(f"{split} [{start}, {end})")
    return Check("spans", not errors, _format_errors(errors) or f"targets and arrays lie in {', '.join(spans)}")


def _bounds(arrays: SplitArrays, codes: np.ndarray) -> Iterator[tuple[int, int]]:
    codes = codes.astype(arrays.series.dtype)  # with another type, numpy would convert the whole array
    lows, highs = (np.searchsorted(arrays.series, codes, side) for side in ("left", "right"))
    yield from zip(lows.tolist(), highs.tolist(), strict=True)
