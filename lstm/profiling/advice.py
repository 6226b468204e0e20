"""When an LSTM is not the tool: said before the training, with the evidence and what to use instead.

The four checks and the thresholds of `short_sequences` (5 steps), `few_samples` (1,000) are those of the guide that
this project was made by; it names a plain linear trend and strict latency too, without figures.
"""

import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass

from lstm.calendars.durations import parse_duration
from lstm.config.model import ModelConfig
from lstm.config.pipeline import PipelineConfig
from lstm.data.panel_store import PanelStore
from lstm.profiling.profile import Profile

FEWEST_STEPS = 5
FEWEST_SAMPLES = 1000
STRAIGHT = 0.98  # R² of a line: what it leaves is 2 % of the variance
WHITE = 0.01  # Ljung–Box: over that, what the line leaves can't be told from white noise
_FORECASTS = 20  # timed; the median counts
_WARM_UP = 3


@dataclass(frozen=True)
class Advisory:
    """Why an LSTM may not be the tool for these data."""

    check: str  # short_sequences | few_samples | linear_trend | latency
    evidence: str  # the figure and the threshold
    remedy: str  # what to change, or to use instead

    def __str__(self) -> str:
        """One line."""
        return f"{self.check}: {self.evidence}. {self.remedy}."


def advise(profile: Profile, config: PipelineConfig, windows: int, panel: PanelStore) -> tuple[Advisory, ...]:
    """Hold the data and the configuration against the cases in which another method serves better.

    Args:
        profile: of the data.
        config: the pipeline's.
        windows: how many there are to train on.
        panel: its columns are what a network reads.
    """
    found = (
        *_short_sequences(profile, config),
        *_few_samples(windows, config),
        *_linear_trend(profile),
        *_latency(config, panel),
    )
    return tuple(found)


def _short_sequences(profile: Profile, config: PipelineConfig) -> Iterator[Advisory]:
    """Under 5 steps there is no sequence to remember."""
    longest, run = config.longest_lookback, profile.summary["median_run"]
    alternative = "regression on the last values, or exponential smoothing, does as well in less time"
    if longest < FEWEST_STEPS:
        evidence = f"the longest look-back of the search is {longest} steps, fewer than {FEWEST_STEPS}"
        yield Advisory("short_sequences", evidence, f"Raise model.sequence_length; on so few steps {alternative}")
    if run < FEWEST_STEPS:
        evidence = f"half of the unbroken runs have {run:g} steps or fewer, under {FEWEST_STEPS}"
        yield Advisory(
            "short_sequences", evidence, f"Raise data.missing.max_gap, or bring longer series: {alternative}"
        )


def _few_samples(windows: int, config: PipelineConfig) -> Iterator[Advisory]:
    if windows >= FEWEST_SAMPLES:
        return
    strided = f" (window.stride={config.window.stride})" if config.window.stride > 1 else ""
    yield Advisory(
        "few_samples",
        f"{windows} training windows{strided}, fewer than {FEWEST_SAMPLES}",
        "Bring more history or more series, or a shorter look-back and horizon; for so few, exponential smoothing "
        "or ARIMA needs less data",
    )


def _linear_trend(profile: Profile) -> Iterator[Advisory]:
    """At least half of the diagnosed series are a line, and leave nothing to learn beside it."""
    found = profile.series[["line_r2", "line_p"]].dropna()
    straight = int(((found["line_r2"] >= STRAIGHT) & (found["line_p"] >= WHITE)).sum())
    if straight and 2 * straight >= len(found):
        r2, p = found.median()
        yield Advisory(
            "linear_trend",
            f"{straight} of {len(found)} series are a straight line in training: median R² {r2:.4f} (threshold "
            f"{STRAIGHT}), and what it leaves is white noise (median Ljung–Box p {p:.2g}, threshold {WHITE})",
            "Use linear regression on time, or exponential smoothing with a trend",
        )


def _latency(config: PipelineConfig, panel: PanelStore) -> Iterator[Advisory]:
    if config.evaluate.latency is None:
        return
    network = config.network_config(config.trial_params(config.members[0]))
    size = min(config.ensemble.size, config.search.trials)
    limit = parse_duration(config.evaluate.latency).total_seconds()
    taken = forecast_seconds(network, size, len(panel.columns), panel.normalizer.n_targets, panel.n_known)
    if taken > limit:
        members = f"{size} networks" if size > 1 else "one network"
        yield Advisory(
            "latency",
            f"one forecast of one series takes {1000 * taken:.3g} ms on one CPU thread (median of {_FORECASTS}, "
            f"{members}, look-back {network.sequence_length}), longer than evaluate.latency={config.evaluate.latency}",
            "Lower ensemble.size, model.sequence_length or model.hidden_size, raise model.patch_length, or use "
            "exponential smoothing",
        )


def forecast_seconds(network: ModelConfig, size: int, inputs: int, targets: int, known: int) -> float:
    """Median time of a forecast of one window by `size` untrained networks, one after the other, on one CPU thread.

    The networks alone: reading the history and scaling it come on top.
    """
    import torch

    from lstm.networks.network import ForecastNetwork

    sized = network.model_copy(update={"input_size": inputs, "output_size": targets})
    made = ForecastNetwork(sized, range(targets), known).eval()
    past, ahead = torch.zeros(1, sized.sequence_length, inputs), torch.zeros(1, sized.horizon, known)
    spent, threads = [], torch.get_num_threads()
    torch.set_num_threads(1)  # one window is too little to share; with others on the cores threads wait for each other
    try:
        with torch.inference_mode():
            for _ in range(_WARM_UP + _FORECASTS):
                started = time.perf_counter()
                for _ in range(size):
                    made(past, ahead)
                spent.append(time.perf_counter() - started)
    finally:
        torch.set_num_threads(threads)
    return statistics.median(spent[_WARM_UP:])
