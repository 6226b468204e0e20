"""What a preset fills in where a configuration says nothing: networks by `recipes`, budgets, and how much is read.

Keys that the configuration says hold for every member; members that then are equal count once.
"""

import math
from typing import Any

from lstm.config.pipeline import PipelineConfig
from lstm.config.search_space import Options, Range, choices
from lstm.errors import ConfigError
from lstm.presets.recipes import ModelParams, drop_unreachable_lags, largest_divisor, suggest_networks
from lstm.profiling.run_lengths import RunLengths

_MEMBERS = {"fast": 2, "accurate": 8}  # at most
_SEARCHED = 4  # trials beside the members, of `accurate` and wherever the configuration has a space
_JOIN = 2  # the best of them, into the ensemble
_TIMEOUT = {"fast": "10min", "accurate": "30min"}
_WINDOWS = {"fast": 100_000, "accurate": 300_000}  # an epoch, about; of longer data the training windows are thinned
_LENGTHS = {"sequence_length", "patch_length"}
_COMMON = {"num_layers": 1, "batch_size": 64, "patience": 3}


def with_defaults(config: PipelineConfig, runs: RunLengths | None = None) -> PipelineConfig:
    """The configuration with every default written out.

    Args:
        config: as the file has it; its frequency may still be `infer`.
        runs: of the panel; None: before the data are known, so that as many windows as wanted are assumed.

    Raises:
        ConfigError: what the file says and what follows from it don't go together.
    """
    said = config.explicit_values
    model, members = _model_and_members(config, runs)
    ensemble, search = said.get("ensemble", {}), {"space": _space(config), **said.get("search", {})}
    values = {
        **said,
        "model": model,
        "window": {"stride": _stride(config, model, runs), **said.get("window", {})},
        "search": search,
        "ensemble": {**ensemble, "members": ensemble.get("members") or []},
    }
    if ensemble.get("members") is None:
        values["ensemble"]["members"] = _fitting(PipelineConfig.parse(values), members)
    count = max(len(values["ensemble"]["members"]), 1)  # no members: the model as it is
    more = _beside(config, search["space"])
    values["search"] = {"trials": count + more, "timeout": _TIMEOUT[config.preset], **search}
    values["ensemble"] = {"size": count + min(_JOIN, more), **values["ensemble"]}
    return PipelineConfig.parse(values)


def _beside(config: PipelineConfig, space: dict[str, Any]) -> int:
    """How many trials there are beside the members."""
    if not space:
        return 0  # they would all be the first network
    return _SEARCHED if config.preset == "accurate" or "space" in config.explicit_values.get("search", {}) else 0


def _model_and_members(config: PipelineConfig, runs: RunLengths | None) -> tuple[ModelParams, list[ModelParams]]:
    """What the first network is, and what each changes in it."""
    said = config.explicit_values.get("model", {})
    made = suggest_networks(config, runs)[: _MEMBERS[config.preset]]
    held = {*said, "loss"} if said.get("quantiles") else set(said)  # quantiles have a loss of their own
    searched = {key: _bounds(options) for key, options in config.search.space.items() if key in _LENGTHS}
    if held & _LENGTHS or searched:
        held |= _LENGTHS
        lengths = _lengths(made[0], said, searched)
        made = [_reaching({**network, **lengths}, config, searched) for network in made]
    several = {"channel_independent": len(config.data.target) > 1}
    first = {key: value for key, value in made[0].items() if key not in held or key in _LENGTHS}
    model = {**_COMMON, **several, **first, **said}
    members = [
        {key: value for key, value in network.items() if key not in held and value != made[0][key]} for network in made
    ]
    return model, members


def _space(config: PipelineConfig) -> dict[str, Any]:
    """What is searched by default: no key that the configuration says, of the model or of members."""
    said = set().union(config.explicit_values.get("model", {}), *(config.ensemble.members or ()))
    space = config.model_dump(mode="json")["search"]["space"]
    return {key: options for key, options in space.items() if key not in said}


def _bounds(options: Options) -> list[int]:
    """The choices; of a range its ends and a number beside them, with which no patch but 1 goes."""
    if isinstance(options, Range):
        return [int(options.low), min(int(options.low) + 1, int(options.high)), int(options.high)]
    return [int(option) for option in choices(options)]


def _reaching(network: ModelParams, config: PipelineConfig, searched: dict[str, list[int]]) -> ModelParams:
    """Without lags and anchors that the shortest look-back of the search does not reach."""
    shortest = min(searched.get("sequence_length", [network["sequence_length"]]))
    reached = drop_unreachable_lags({**network, "sequence_length": shortest}, config.evaluate.season)
    return {**reached, "sequence_length": network["sequence_length"]}


def _lengths(network: ModelParams, said: dict[str, Any], searched: dict[str, list[int]]) -> dict[str, int]:
    """Look-back and patch that go together with what the configuration says of either, or searches."""
    length, patch = network["sequence_length"], network["patch_length"]
    if "sequence_length" in searched and "patch_length" not in said:
        patch = largest_divisor(math.gcd(*searched["sequence_length"]), patch)
        length = max(searched["sequence_length"])
    if "patch_length" in searched and "sequence_length" not in said:
        step = math.lcm(*searched["patch_length"])
        length, patch = max(length // step, 1) * step, searched["patch_length"][0]
    if "patch_length" in said:
        patch = said["patch_length"]
        length = max(length // patch, 1) * patch
    if "sequence_length" in said:
        length = said["sequence_length"]
        patch = said.get("patch_length") or largest_divisor(length, patch)
    return {"sequence_length": length, "patch_length": patch}


def _fitting(config: PipelineConfig, members: list[ModelParams]) -> list[ModelParams]:
    """Members that go with the rest of the configuration, such as its search space, and are other networks there."""
    found: dict[str, ModelParams] = {}
    for member in members:
        try:
            network = config.network_config(config.trial_params(member))
        except ConfigError:
            continue
        found.setdefault(network.model_dump_json(), member)
    return list(found.values())


def _stride(config: PipelineConfig, model: ModelParams, runs: RunLengths | None) -> int:
    """Thin the training windows of long data: neighbours tell almost the same."""
    if runs is None:
        return 1
    count = runs.windows(model["sequence_length"], config.window.horizon)[0] * len(config.data.target)
    return -(-count // _WINDOWS[config.preset]) or 1
