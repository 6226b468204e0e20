"""The presets `fast` and `accurate`: defaults for everything that a configuration leaves out.

Networks come from `recipes`; this module adds budgets and strides. Keys that the configuration gives hold for every
member, and members that become equal thereby count once.
"""

import math
from typing import Any

from lstm.config.pipeline import PipelineConfig
from lstm.config.search_space import Options, Range, choices
from lstm.errors import ConfigError
from lstm.presets.recipes import ModelParams, drop_unreachable_lags, largest_divisor, suggest_networks
from lstm.profiling.run_lengths import RunLengths

_MAX_MEMBERS = {"fast": 2, "accurate": 8}
_EXTRA_TRIALS = 4  # after the members: with `accurate`, and wherever the configuration has a search space
_BEST_EXTRA = 2  # extra trials that join the ensemble
_TIMEOUT = {"fast": "10min", "accurate": "30min"}
_WINDOWS_PER_EPOCH = {"fast": 100_000, "accurate": 300_000}  # above it, the stride of training windows grows
_LENGTH_KEYS = {"sequence_length", "patch_length"}
_COMMON_PARAMS = {"num_layers": 1, "batch_size": 64, "patience": 3}


def with_defaults(config: PipelineConfig, runs: RunLengths | None = None) -> PipelineConfig:
    """Return the configuration with the preset's defaults for all keys that it leaves out.

    Args:
        config: as the file has it; its frequency may still be `infer`.
        runs: run lengths of the panel; None: the data are not read yet, and assumed to be long enough.

    Raises:
        ConfigError: a value of the file does not go together with the defaults.
    """
    explicit = config.explicit_values
    model, preset_members = _model_and_members(config, runs)
    ensemble, search = explicit.get("ensemble", {}), {"space": _default_space(config), **explicit.get("search", {})}
    extra = _extra_trials(config, search["space"])
    members = ensemble.get("members") or []
    budget = _budget(len(members), extra)
    values = {
        **explicit,
        "model": model,
        "window": {"stride": _training_stride(config, model, runs), **explicit.get("window", {})},
        "search": {"trials": budget["trials"], "timeout": _TIMEOUT[config.preset], **search},
        "ensemble": {"size": budget["size"], **ensemble, "members": members},
    }
    completed = PipelineConfig.parse(values)
    if ensemble.get("members") is not None:
        return completed
    members = _usable_members(completed, preset_members)
    budget = _budget(len(members), extra)
    return completed.model_copy(
        update={
            "search": completed.search.model_copy(update={"trials": search.get("trials", budget["trials"])}),
            "ensemble": completed.ensemble.model_copy(
                update={"members": tuple(members), "size": ensemble.get("size", budget["size"])}
            ),
        }
    )


def _budget(n_members: int, extra: int) -> dict[str, int]:
    """Return the number of trials and the size of the ensemble. Without members the model itself is the only one."""
    planned = max(n_members, 1)
    return {"trials": planned + extra, "size": planned + min(_BEST_EXTRA, extra)}


def _extra_trials(config: PipelineConfig, space: dict[str, Any]) -> int:
    """Return the number of trials after the members."""
    if not space:
        return 0  # they would all be the first network
    return _EXTRA_TRIALS if config.preset == "accurate" or "space" in config.explicit_values.get("search", {}) else 0


def _model_and_members(config: PipelineConfig, runs: RunLengths | None) -> tuple[ModelParams, list[ModelParams]]:
    """Return the params of the first network, and what each member changes in them."""
    explicit = config.explicit_values.get("model", {})
    networks = suggest_networks(config, runs)[: _MAX_MEMBERS[config.preset]]
    fixed = {*explicit, "loss"} if explicit.get("quantiles") else set(explicit)  # quantiles have a loss of their own
    searched = {key: _length_bounds(options) for key, options in config.search.space.items() if key in _LENGTH_KEYS}
    if fixed & _LENGTH_KEYS or searched:
        fixed |= _LENGTH_KEYS
        lengths = _choose_lengths(networks[0], explicit, searched)
        networks = [_fit_to_lookbacks({**network, **lengths}, config, searched) for network in networks]
    channels = {"channel_independent": len(config.data.target) > 1}
    first = {key: value for key, value in networks[0].items() if key not in fixed or key in _LENGTH_KEYS}
    model = {**_COMMON_PARAMS, **channels, **first, **explicit}
    members = [
        {key: value for key, value in network.items() if key not in fixed and value != networks[0][key]}
        for network in networks
    ]
    return model, members


def _default_space(config: PipelineConfig) -> dict[str, Any]:
    """Return the search space without the keys that the configuration gives, in the model or in members."""
    explicit = set().union(config.explicit_values.get("model", {}), *(config.ensemble.members or ()))
    space = config.model_dump(mode="json")["search"]["space"]
    return {key: options for key, options in space.items() if key not in explicit}


def _length_bounds(options: Options) -> list[int]:
    """Return the choices; of a range its ends and one more length, so that no patch but 1 divides them all."""
    if isinstance(options, Range):
        return [int(options.low), min(int(options.low) + 1, int(options.high)), int(options.high)]
    return [int(option) for option in choices(options)]


def _fit_to_lookbacks(network: ModelParams, config: PipelineConfig, searched: dict[str, list[int]]) -> ModelParams:
    """Drop lags and anchors that reach further than the shortest lookback of the search."""
    shortest = min(searched.get("sequence_length", [network["sequence_length"]]))
    reachable = drop_unreachable_lags({**network, "sequence_length": shortest}, config.evaluate.season)
    return {**reachable, "sequence_length": network["sequence_length"]}


def _choose_lengths(network: ModelParams, explicit: dict[str, Any], searched: dict[str, list[int]]) -> dict[str, int]:
    """Return the network's lookback and patch, changed so that they divide what is given or searched of either."""
    length, patch = network["sequence_length"], network["patch_length"]
    if "sequence_length" in searched and "patch_length" not in explicit:
        patch = largest_divisor(math.gcd(*searched["sequence_length"]), patch)
        length = max(searched["sequence_length"])
    if "patch_length" in searched and "sequence_length" not in explicit:
        step = math.lcm(*searched["patch_length"])
        length, patch = max(length // step, 1) * step, searched["patch_length"][0]
    if "patch_length" in explicit:
        patch = explicit["patch_length"]
        length = max(length // patch, 1) * patch
    if "sequence_length" in explicit:
        length = explicit["sequence_length"]
        patch = explicit.get("patch_length") or largest_divisor(length, patch)
    return {"sequence_length": length, "patch_length": patch}


def _usable_members(config: PipelineConfig, members: list[ModelParams]) -> list[ModelParams]:
    """Return the members that are valid with the rest of the configuration, without those that give equal networks."""
    by_network: dict[str, ModelParams] = {}
    for member in members:
        try:
            config.network_config(member)
            network = config.network_config(config.trial_params(member))
        except ConfigError:
            continue
        by_network.setdefault(network.model_dump_json(), member)
    return list(by_network.values())


def _training_stride(config: PipelineConfig, model: ModelParams, runs: RunLengths | None) -> int:
    """Return the smallest stride that keeps an epoch within `_WINDOWS_PER_EPOCH`."""
    if runs is None:
        return 1
    n_windows = runs.windows(model["sequence_length"], config.window.horizon)[0] * len(config.data.target)
    return -(-n_windows // _WINDOWS_PER_EPOCH[config.preset]) or 1
