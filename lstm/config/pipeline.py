"""The whole configuration of a pipeline: one YAML file (docs: README, "Your own data")."""

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from lstm.config.data import DataSpec
from lstm.config.fields import Duration
from lstm.config.model import EnsembleMethod, ModelConfig, StrictModel, is_partial
from lstm.config.operations import ExecutionSpec, ForecastSpec, MonitorSpec, RetentionSpec
from lstm.config.preparation import NormalizeSpec, SplitSpec
from lstm.config.search import DERIVED_KEYS, SearchSpec
from lstm.config.search_space import bounds, condition_met, conditions, nearest_to
from lstm.errors import ConfigError

Baseline = Literal["persistence", "seasonal_naive", "drift", "ridge", "auto_ets", "auto_theta"]


class WindowSpec(StrictModel):
    """Horizon and stride of the windows; their lookback is `model.sequence_length`."""

    horizon: int = Field(24, ge=1, le=1_000_000)
    stride: int = Field(1, ge=1, le=1_000_000, description="steps between training windows; evaluation uses all")


class EnsembleSpec(StrictModel):
    """Which networks are combined, and how."""

    members: tuple[dict[str, Any], ...] | None = Field(
        None, description="keys of the model in which the first trials differ; default: the preset's"
    )
    size: int = Field(5, ge=1, description="number of networks: the members, then the best of the other trials")
    method: EnsembleMethod = "mean"


class BacktestSpec(StrictModel):
    """Folds of the rolling origins in the test span."""

    folds: int = Field(4, ge=2, le=100, description="equal parts of the test span, each scored separately")


class EvaluateSpec(StrictModel):
    """Baselines, intervals and limits of the evaluation."""

    season: int = Field(24, ge=1, le=1_000_000, description="steps of a season, which the seasonal naive repeats")
    levels: tuple[int, ...] = Field((80, 95), description="nominal coverage of the intervals, in percent")
    intervals: Literal["split", "adaptive"] = Field(
        "adaptive", description="from validation errors alone, or updated with later errors"
    )
    backtest: BacktestSpec = BacktestSpec()
    baselines: tuple[Baseline, ...] = Field(
        ("persistence", "seasonal_naive", "drift", "ridge"), description="scored on the same windows as the candidates"
    )
    latency: Duration | None = Field(None, description="longest allowed time of one forecast of one series")

    @field_validator("levels")
    @classmethod
    def _whole_percents(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not value or not all(1 <= level <= 99 for level in value) or len(set(value)) < len(value):
            raise ValueError("must be whole percents from 1 to 99, each once")
        return value

    @field_validator("baselines")
    @classmethod
    def _includes_reference(cls, value: tuple[Baseline, ...]) -> tuple[Baseline, ...]:
        if "seasonal_naive" not in value or len(set(value)) < len(value):
            raise ValueError("must hold seasonal_naive, which every skill is measured against, and each once")
        return value


class ChampionSpec(StrictModel):
    """The test by which a candidate must beat the champion on the same most recent windows."""

    test: Literal["diebold_mariano"] = "diebold_mariano"
    alpha: float = Field(0.05, gt=0, le=0.5, description="highest chance of promoting a candidate that is no better")
    min_effect: float = Field(0.01, ge=0, lt=1, description="smallest relative improvement of the champion's RMSE")


class GateSpec(StrictModel):
    """What a candidate must beat to become champion."""

    beats: Literal["seasonal_naive", "persistence"] = "seasonal_naive"
    against_champion: ChampionSpec = ChampionSpec()


class RegisterSpec(StrictModel):
    """The gate of the promotion."""

    gate: GateSpec = GateSpec()


class PipelineConfig(StrictModel):
    """The whole configuration file."""

    name: str = Field(
        max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", description="MLflow experiment and registered model"
    )
    preset: Literal["fast", "accurate"] = "fast"
    data: DataSpec
    split: SplitSpec = SplitSpec()
    normalize: NormalizeSpec = NormalizeSpec()
    window: WindowSpec = WindowSpec()
    model: ModelConfig = ModelConfig()
    search: SearchSpec = SearchSpec()
    ensemble: EnsembleSpec = EnsembleSpec()
    evaluate: EvaluateSpec = EvaluateSpec()
    register_: RegisterSpec = Field(RegisterSpec(), alias="register")
    execution: ExecutionSpec = ExecutionSpec()
    forecast: ForecastSpec = ForecastSpec()
    monitor: MonitorSpec = MonitorSpec()
    retention: RetentionSpec = RetentionSpec()

    @model_validator(mode="before")
    @classmethod
    def _add_derived_keys(cls, values: Any) -> Any:
        """Copy horizon and season from their sections into the model, where they must not be given."""
        model = values.get("model", {}) if isinstance(values, dict) else None
        if not isinstance(model, dict):
            return values
        for key in set(model) & set(DERIVED_KEYS):
            raise ValueError(f"model: {key!r} follows from {DERIVED_KEYS[key]}: leave it out here")
        horizon = _value_or_default(values, "window", "horizon", WindowSpec)
        season = _value_or_default(values, "evaluate", "season", EvaluateSpec)
        return {**values, "model": {**model, **horizon, **season}}

    @model_validator(mode="after")
    def _gate_baseline_is_scored(self) -> Self:
        if self.register_.gate.beats not in self.evaluate.baselines:
            raise ValueError(f"register.gate.beats: {self.register_.gate.beats} must be one of evaluate.baselines")
        return self

    @model_validator(mode="after")
    def _all_trials_are_valid(self, info: ValidationInfo) -> Self:
        if is_partial(info):
            return self
        for number, member in enumerate(self.ensemble.members or ()):
            _check_member(number, member, self.model)
        try:
            first, *others = [self.trial_params(member) for member in self.members]
        except ConfigError as error:
            raise ValueError(f"model and search.space: the first trial's values don't go together: {error}") from None
        _check_different([self.network_config(params) for params in (first, *others)])
        for key, options in self.search.space.items():
            for value in bounds(key, options):
                try:
                    self.trial_params(self.members[0], {**self._meeting_conditions(key, first), key: value})
                except ConfigError as error:
                    raise ValueError(f"search.space.{key}: {error}") from None
        return self

    def _meeting_conditions(self, key: str, params: dict[str, Any]) -> dict[str, Any]:
        """Return values of other keys that meet the conditions of `key`, as close to `params` as possible."""
        values: dict[str, Any] = {}
        for other, wanted in conditions(self.search.space[key]).items():
            current = self._all_params(params)[other]
            values |= {**self._meeting_conditions(other, params), other: current if current in wanted else wanted[0]}
        return values

    @property
    def explicit_values(self) -> dict[str, Any]:
        """What the file says: every key that was given, without defaults."""
        values = self.model_dump(mode="json", by_alias=True, exclude_unset=True)
        model = {key: value for key, value in values.get("model", {}).items() if key not in DERIVED_KEYS}
        return {**values, "model": model}

    @property
    def members(self) -> tuple[dict[str, Any], ...]:
        """What each planned trial changes in `model`: one entry a member, at most `search.trials`."""
        return (self.ensemble.members or ({},))[: self.search.trials]

    def trial_params(self, member: dict[str, Any], forced: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return the hyperparameters of a member's trial: the member's, moved into the search space where needed.

        Args:
            member: what it changes in `model`.
            forced: values of searched keys that replace the member's.

        Raises:
            ConfigError: the values don't go together.
        """
        params = dict(member)
        for key, options in self.search.space.items():
            if self.is_searched(key, params):
                start = nearest_to(key, options, self._all_params(params)[key])
                params[key] = (forced or {}).get(key, start)
        self.network_config(params)
        return params

    def is_searched(self, key: str, params: dict[str, Any]) -> bool:
        """Whether a trial with these hyperparameters meets the conditions of `key`; if not, `model`'s value is used."""
        return condition_met(self.search.space[key], self._all_params(params))

    def _all_params(self, params: dict[str, Any]) -> dict[str, Any]:
        return {**self.model.model_dump(), **params}

    def network_config(self, params: dict[str, Any]) -> ModelConfig:
        """Return the configuration of one network: `model` with a trial's hyperparameters.

        Raises:
            ConfigError: the values don't go together.
        """
        return self.model.replace(**params)

    def with_frequency(self, frequency: str) -> "PipelineConfig":
        """Return a copy with the inferred frequency."""
        return self.model_copy(update={"data": self.data.model_copy(update={"frequency": frequency})})

    def to_dict(self) -> dict[str, Any]:
        """Return all keys and defaults, JSON-ready; `PipelineConfig.parse` accepts the result."""
        values = self.model_dump(mode="json", by_alias=True)
        values["model"] = {key: value for key, value in values["model"].items() if key not in DERIVED_KEYS}
        return values

    @property
    def longest_lookback(self) -> int:
        """Steps of history in the longest window of the search."""
        searched = self.search.bounds("sequence_length")
        planned = (member.get("sequence_length", self.model.sequence_length) for member in ({}, *self.members))
        return int(max(*searched, *planned, 1))


def _check_member(number: int, member: dict[str, Any], model: ModelConfig) -> None:
    for key in member:
        if key in (*DERIVED_KEYS, "device", "quantiles"):
            raise ValueError(f"ensemble.members.{number}: members can't differ in {key!r}: set it in `model`")
    try:
        model.replace(**member)
    except ConfigError as error:
        raise ValueError(f"ensemble.members.{number}: {error}") from None


def _check_different(networks: list[ModelConfig]) -> None:
    for number, network in enumerate(networks):
        if network in networks[:number]:
            same = networks.index(network)
            raise ValueError(
                f"ensemble.members: {same} and {number} are the same network (where search.space has a key, only its "
                "values count): leave one out, or give it another seed"
            )


def _value_or_default(values: dict[str, Any], section: str, key: str, spec: type[StrictModel]) -> dict[str, int]:
    """Return the key of a section that is not validated yet, or its default; {} if it is no such number."""
    given = values.get(section)
    value = given.get(key) if isinstance(given, dict) else None
    value = spec.model_fields[key].default if value is None else value
    return {key: value} if isinstance(value, int) and (key == "horizon" or value > 1) else {}
