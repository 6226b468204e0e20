"""What a preset fills in where a configuration says nothing: lengths, sizes, anchors, members, budgets.

The rules follow what was measured (docs/models.md has them as a table, DECISIONS.md the evidence). With s the steps of
a season, H the horizon, L the look-back and P the patch length:

| case                | look-backs and patches                   | anchors            |
|---------------------|------------------------------------------|--------------------|
| s = 1               | (4 H, between 24 and 96)                 | last               |
| H >= 4 s            | (14 s, s), (30 s, 2 s)                   | seasonal, last     |
| H < 4 s, s is a day | (a week, s / 4), (2 s, s / 4)            | seasonal, last     |
| H < 4 s, otherwise  | (2 s, s / 4), (4 s, s / 4)               | last, seasonal     |

A look-back that costs windows (more than 5 % of those of validation or test, 20 % of training) is cut down to fewer
seasons, or below one. Keys that the configuration says hold for every member; members that then are equal count once.
"""

from typing import Any

from lstm.data.frequency import Frequency
from lstm.data.runs import Runs
from lstm.pipeline_config import PipelineConfig

FEW = 30_000  # training windows, each target counted, below which networks are kept small
_MOST = {"fast": 100_000, "accurate": 300_000}  # windows an epoch; over that, training windows are thinned
_LONGEST_PATCH = 48
_LONGEST = 1_000_000  # that `sequence_length` may be
_DAY = 86_400  # seconds


def completed(config: PipelineConfig, runs: Runs | None = None) -> PipelineConfig:
    """The configuration with every default written out.

    Args:
        config: as the file has it; its frequency may still be `infer`.
        runs: of the panel; None: before the data are known, so that as many windows as wanted are assumed.

    Raises:
        ConfigError: what the file says and what follows from it don't go together.
    """
    said = config.said
    model, members = _networks(config, runs)
    model = {**model, **said.get("model", {})}
    ensemble = said.get("ensemble", {})
    own = members if ensemble.get("members") is None else ensemble["members"]
    networks = max(len(own), 1)  # no members: the model as it is
    values = {
        **said,
        "model": model,
        "ensemble": {"size": networks, **ensemble, "members": own},
        "search": {**_budget(config.preset, networks), **said.get("search", {})},
        "window": {"stride": _stride(config, model, runs), **said.get("window", {})},
    }
    return PipelineConfig.parse(values)


def _budget(preset: str, members: int) -> dict[str, Any]:
    if preset == "fast":
        return {"trials": members, "timeout": "10min"}
    return {"trials": members + 8, "timeout": "30min"}


def _networks(config: PipelineConfig, runs: Runs | None) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What all members have, and what each has of its own."""
    said, season = config.said.get("model", {}), config.evaluate.season
    lengths = [_divided(length, patch, said) for length, patch in _lengths(config, runs)]
    few = runs is not None and _count(config, lengths[0][0], runs) < FEW
    model = {
        "sequence_length": lengths[0][0],
        "patch_length": lengths[0][1],
        "num_layers": 1,
        "batch_size": 64,
        "head": _head(config, lengths[0][1]),
        "lags": _lags(config, [length for length, _ in lengths]),
        "channel_independent": len(config.data.target) > 1,
        "epochs": 8 if few else 6,
        "patience": 3,
        "hidden_size": 64,
        "dropout": 0.4 if few else 0.3,
        "learning_rate": 5e-4 if few else 1e-3,
    }
    members: list[dict[str, Any]] = []
    held = {*said, "loss"} if said.get("quantiles") else said  # quantiles have a loss of their own
    for member in _members(config.preset, lengths, season, few):
        own = {key: value for key, value in member.items() if key not in held}
        if own not in members:
            members.append(own)
    return model, members


def _members(preset: str, lengths: list[tuple[int, int]], season: int, few: bool) -> list[dict[str, Any]]:
    """Networks that differ in anchor, loss and lengths: what an average gains from (measured: seeds add nothing)."""
    made = []
    for length, patch in lengths:
        seasonal = season > 1 and length >= 7 * season
        own = {"sequence_length": length, "patch_length": patch}
        made.append({**own, "anchor": "seasonal" if seasonal else "last", "loss": "mse"})
        made.append({**own, "anchor": "seasonal" if seasonal else "last", "loss": "mae"})
    return made


def _lengths(config: PipelineConfig, runs: Runs | None) -> list[tuple[int, int]]:
    """Look-backs and patches, the best one first."""
    season, horizon = config.evaluate.season, config.window.horizon
    if season == 1:
        wanted = min(max(4 * horizon, 24), 96)
        length = wanted if runs is None else _affordable(wanted, 1, horizon, runs)
        return [(length, 1)]
    if horizon >= 4 * season:
        wanted_seasons, patches = (14, 30), (season, 2 * season)
    else:
        week = 7 if _is_day(season, config.data.frequency) else 4
        wanted_seasons, patches = ((week, 2) if week == 7 else (2, week)), (max(season // 4, 1),) * 2
    found = []
    for seasons, patch in zip(wanted_seasons, patches, strict=True):
        length = min(seasons, max(_LONGEST // season, 1)) * season
        length = length if runs is None else _affordable(length, season, horizon, runs)
        pair = (length, _divisor(length, min(patch, _LONGEST_PATCH)))
        found += [pair] if pair not in found else []
    return found


def _affordable(length: int, season: int, horizon: int, runs: Runs) -> int:
    """The longest look-back of up to `length` that leaves windows; whole seasons, or less than one."""
    least = runs.windows(1, horizon)
    seasons = [count * season for count in range(length // season, 0, -1)]
    shorter = [season * part // 8 for part in range(7, 0, -1)]
    for tried in (*seasons, *shorter):
        found = runs.windows(max(tried, 1), horizon)
        shares = (0.8, 0.95, 0.95)
        if tried and all(one >= share * most for one, share, most in zip(found, shares, least, strict=True)):
            return tried
    return 1


def _divisor(length: int, most: int) -> int:
    return max(size for size in range(1, most + 1) if length % size == 0)


def _divided(length: int, patch: int, said: dict[str, Any]) -> tuple[int, int]:
    """Length and patch that go together with what the configuration says of either."""
    if isinstance(said.get("patch_length"), int):
        patch = said["patch_length"]
        length = max(length // patch, 1) * patch
    if isinstance(said.get("sequence_length"), int):
        length = said["sequence_length"]
        patch = said.get("patch_length") or _divisor(length, patch)
    return length, patch


def _head(config: PipelineConfig, patch: int) -> str:
    if config.data.known:
        return "bidirectional"
    return "direct" if config.window.horizon <= patch else "parallel"


def _lags(config: PipelineConfig, lengths: list[int]) -> tuple[int, ...]:
    """With covariates known ahead each step is shown the target one season and one week before."""
    season = config.evaluate.season
    if not config.data.known or season == 1:
        return ()
    return tuple(lag for lag in (season, 7 * season) if lag <= min(lengths))


def _is_day(season: int, frequency: str) -> bool:
    if frequency in ("infer", "irregular"):
        return False
    return abs(Frequency.parse(frequency).step.total_seconds() * season - _DAY) < 1


def _count(config: PipelineConfig, length: int, runs: Runs) -> int:
    channels = len(config.data.target)
    return runs.windows(length, config.window.horizon)[0] * channels


def _stride(config: PipelineConfig, model: dict[str, Any], runs: Runs | None) -> int:
    """Thin the training windows of long data: neighbours tell almost the same."""
    if runs is None:
        return 1
    return max(_count(config, model["sequence_length"], runs) // _MOST[config.preset], 1)
