"""Advice before training: cases in which another method serves better than an LSTM.

The four checks, and the thresholds of `short_sequences` (5 steps) and `few_samples` (1,000), come from the guide that
this project follows. It names a plain linear trend and strict latency too, without figures.
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

MIN_STEPS = 5
MIN_SAMPLES = 1000
LINE_R2 = 0.98  # of a straight line: the residuals are 2 % of the variance
WHITE_NOISE_P = 0.01  # Ljung–Box: from here on the residuals can't be told from white noise
_N_FORECASTS = 20  # timed; the median counts
_WARM_UP = 3


@dataclass(frozen=True)
class Advisory:
    """A reason why an LSTM may not suit these data."""

    check: str  # short_sequences | few_samples | linear_trend | latency
    evidence: str  # the figure and the threshold
    remedy: str  # what to change, or to use instead

    def __str__(self) -> str:
        """Return the advisory as one line."""
        return f"{self.check}: {self.evidence}. {self.remedy}."


def advise(profile: Profile, config: PipelineConfig, windows: int, panel: PanelStore) -> tuple[Advisory, ...]:
    """Return the cases in which another method serves better.

    Args:
        profile: of the data.
        config: the pipeline's.
        windows: number of training windows.
        panel: its columns are the network's inputs.
    """
    return (
        *_short_sequences(profile, config),
        *_few_samples(windows, config),
        *_linear_trend(profile),
        *_latency(config, panel),
    )


def _short_sequences(profile: Profile, config: PipelineConfig) -> Iterator[Advisory]:
    """Check that there are at least 5 steps to remember."""
    lookback, run = config.longest_lookback, profile.summary["median_run"]
    alternative = "regression on the last values, or exponential smoothing, does as well in less time"
    if lookback < MIN_STEPS:
        evidence = f"the longest lookback of the search is {lookback} steps, fewer than {MIN_STEPS}"
        yield Advisory("short_sequences", evidence, f"Raise model.sequence_length; on so few steps {alternative}")
    if run < MIN_STEPS:
        evidence = f"half of the unbroken runs have {run:g} steps or fewer, under {MIN_STEPS}"
        yield Advisory(
            "short_sequences", evidence, f"Raise data.missing.max_gap, or bring longer series: {alternative}"
        )


def _few_samples(windows: int, config: PipelineConfig) -> Iterator[Advisory]:
    if windows >= MIN_SAMPLES:
        return
    strided = f" (window.stride={config.window.stride})" if config.window.stride > 1 else ""
    yield Advisory(
        "few_samples",
        f"{windows} training windows{strided}, fewer than {MIN_SAMPLES}",
        "Bring more history or more series, or a shorter lookback and horizon; for so few, exponential smoothing "
        "or ARIMA needs less data",
    )


def _linear_trend(profile: Profile) -> Iterator[Advisory]:
    """Check whether at least half of the tested series are a line plus white noise."""
    tests = profile.series[["line_r2", "line_p"]].dropna()
    n_linear = int(((tests["line_r2"] >= LINE_R2) & (tests["line_p"] >= WHITE_NOISE_P)).sum())
    if n_linear and 2 * n_linear >= len(tests):
        r2, p = tests.median()
        yield Advisory(
            "linear_trend",
            f"{n_linear} of {len(tests)} series are a straight line in training: median R² {r2:.4f} (threshold "
            f"{LINE_R2}), and its residuals are white noise (median Ljung–Box p {p:.2g}, threshold {WHITE_NOISE_P})",
            "Use linear regression on time, or exponential smoothing with a trend",
        )


def _latency(config: PipelineConfig, panel: PanelStore) -> Iterator[Advisory]:
    if config.evaluate.latency is None:
        return
    network = config.network_config(config.trial_params(config.members[0]))
    size = min(config.ensemble.size, config.search.trials)
    limit = parse_duration(config.evaluate.latency).total_seconds()
    seconds = forecast_seconds(network, size, len(panel.columns), panel.normalizer.n_targets, panel.n_known)
    if seconds > limit:
        members = f"{size} networks" if size > 1 else "one network"
        yield Advisory(
            "latency",
            f"one forecast of one series takes {1000 * seconds:.3g} ms on one CPU thread (median of {_N_FORECASTS}, "
            f"{members}, lookback {network.sequence_length}), longer than evaluate.latency={config.evaluate.latency}",
            "Lower ensemble.size, model.sequence_length or model.hidden_size, raise model.patch_length, or use "
            "exponential smoothing",
        )


def forecast_seconds(network: ModelConfig, size: int, inputs: int, targets: int, known: int) -> float:
    """Return the median time of a forecast of one window by `size` untrained networks on one CPU thread, in seconds.

    It is the time of the networks alone, without reading and scaling the history.
    """
    import torch

    from lstm.networks.network import ForecastNetwork

    sized = network.model_copy(update={"input_size": inputs, "output_size": targets})
    forecaster = ForecastNetwork(sized, range(targets), known).eval()
    past, known_ahead = torch.zeros(1, sized.sequence_length, inputs), torch.zeros(1, sized.horizon, known)
    durations, threads = [], torch.get_num_threads()
    torch.set_num_threads(1)  # one window is too little work to share between threads
    try:
        with torch.inference_mode():
            for _ in range(_WARM_UP + _N_FORECASTS):
                started = time.perf_counter()
                for _ in range(size):
                    forecaster(past, known_ahead)
                durations.append(time.perf_counter() - started)
    finally:
        torch.set_num_threads(threads)
    return statistics.median(durations[_WARM_UP:])
