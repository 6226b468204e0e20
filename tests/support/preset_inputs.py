"""Configurations and run lengths that presets are tried on."""

from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import strategies as st

from lstm.config.pipeline import PipelineConfig
from lstm.profiling.run_lengths import RunLengths

KNOWN = {"known": ["promo"]}
# Values of `RunLengths.persistence_ratio`: the next steps nearly certain, a weak season, a strong one.
CERTAIN, WEAK, STRONG = 0.5, 1.0, 1.5


def make_config(season: int = 24, horizon: int = 24, frequency: str = "1h", **sections: Any) -> PipelineConfig:
    """Return a configuration without a model section, unless `sections` has one."""
    values = {
        "name": "sales",
        **sections,
        "data": {"source": "a.csv", "time": "t", "target": "y", "frequency": frequency, **sections.get("data", {})},
        "window": {"horizon": horizon, **sections.get("window", {})},
        "evaluate": {"season": season},
    }
    return PipelineConfig.parse(values, partial=True)


def one_run(train: int, validation: int, test: int) -> RunLengths:
    """Return the run lengths of one unbroken series with the given rows per split."""
    return make_runs((0, train + validation + test), cuts=(train, train + validation))


def make_runs(*spans: tuple[int, int], cuts: tuple[int, int]) -> RunLengths:
    """Return run lengths of spans [first, past); training ends at the first cut, validation at the second."""
    first, past = np.array(spans, np.int64).reshape(-1, 2).T
    end = max([past for _, past in spans], default=0)
    return RunLengths(*(np.clip(moment, first, past) - first for moment in (0, *cuts, end)))


LONG = one_run(500_000, 50_000, 50_000)


@st.composite
def run_lengths(draw: st.DrawFn) -> RunLengths:
    """Draw runs of any lengths, consecutive or overlapping, with cuts anywhere."""
    spans, at = [], 0
    for length in draw(st.lists(st.integers(1, 3000) | st.integers(1, 60), max_size=12)):
        at = at + draw(st.integers(1, 50)) if draw(st.booleans()) else 0
        spans.append((at, at := at + length))
    end = max([past for _, past in spans], default=0)
    cuts = sorted((draw(st.integers(0, end)), draw(st.integers(0, end))))
    return replace(
        make_runs(*spans, cuts=(cuts[0], cuts[1])), persistence_ratio=draw(st.sampled_from([CERTAIN, WEAK, STRONG]))
    )


CONFIGS = st.builds(
    make_config,
    season=st.integers(1, 400),
    horizon=st.integers(1, 1000),
    frequency=st.sampled_from(["1h", "30min", "1d", "B", "MS", "infer", "irregular"]),
    preset=st.sampled_from(["fast", "accurate"]),
    data=st.sampled_from([{}, {"target": ["y", "z"]}]),
) | st.builds(make_config, season=st.integers(1, 400), horizon=st.integers(1, 1000), data=st.just(KNOWN))
