"""The pipeline's configuration: one YAML file from source to champion (docs: README, "Your own data")."""

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from lstm.config.data import DataSpec, NormalizeSpec, SplitSpec
from lstm.config.fields import Duration
from lstm.config.model import EnsembleMethod, ModelConfig, StrictModel, is_partial
from lstm.config.operations import ExecutionSpec, ForecastSpec, MonitorSpec, RetentionSpec
from lstm.config.search import DERIVED_KEYS, SearchSpec, bounds, condition_met, conditions, nearest_to
from lstm.errors import ConfigError

Baseline = Literal["persistence", "seasonal_naive", "drift", "ridge", "auto_ets", "auto_theta"]


class WindowSpec(StrictModel):
    """What a window forecasts; its look-back is `sequence_length`."""

    horizon: int = Field(24, ge=1, le=1_000_000)
    stride: int = Field(1, ge=1, le=1_000_000, description="steps between training windows; evaluation uses all")


class EnsembleSpec(StrictModel):
    """Which networks are combined, and how."""

    members: tuple[dict[str, Any], ...] | None = Field(
        None, description="keys of the model in which the first trials differ; by default the preset's"
    )
    size: int = Field(5, ge=1, description="members first, then the best of the other trials")
    method: EnsembleMethod = "mean"


class BacktestSpec(StrictModel):
    """How the rolling origins of the test span are cut."""

    folds: int = Field(4, ge=2, le=100, description="equal parts of the test span, each scored on its own")


class EvaluateSpec(StrictModel):
    """What the candidates are measured against and how wide their intervals are."""

    season: int = Field(24, ge=1, le=1_000_000, description="steps of a season, which the seasonal naive repeats")
    levels: tuple[int, ...] = Field((80, 95), description="nominal coverage of the intervals, in percent")
    intervals: Literal["split", "adaptive"] = Field(
        "adaptive", description="from the validation errors alone, or following the errors that came since"
    )
    backtest: BacktestSpec = BacktestSpec()
    baselines: tuple[Baseline, ...] = Field(
        ("persistence", "seasonal_naive", "drift", "ridge"), description="beside the candidates, on the same windows"
    )
    latency: Duration | None = Field(None, description="longest time that one forecast of one series may take")

    @field_validator("levels")
    @classmethod
    def _percent(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not value or not all(1 <= level <= 99 for level in value) or len(set(value)) < len(value):
            raise ValueError("must be whole percents from 1 to 99, each once")
        return value

    @field_validator("baselines")
    @classmethod
    def _with_reference(cls, value: tuple[Baseline, ...]) -> tuple[Baseline, ...]:
        if "seasonal_naive" not in value or len(set(value)) < len(value):
            raise ValueError("must hold seasonal_naive, which every skill is measured against, and each once")
        return value


class ChampionSpec(StrictModel):
    """How a candidate must beat the champion on the same most recent windows."""

    test: Literal["diebold_mariano"] = "diebold_mariano"
    alpha: float = Field(0.05, gt=0, le=0.5, description="chance of promoting an equal one, at most")
    min_effect: float = Field(0.01, ge=0, lt=1, description="share of the champion's RMSE that must be gone")


class GateSpec(StrictModel):
    """What a candidate must beat on the backtest before it may become champion."""

    beats: Literal["seasonal_naive", "persistence"] = "seasonal_naive"
    against_champion: ChampionSpec = ChampionSpec()


class RegisterSpec(StrictModel):
    """When a registered version is promoted."""

    gate: GateSpec = GateSpec()


class PipelineConfig(StrictModel):
    """The whole file."""

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
    def _complete_model(cls, values: Any) -> Any:
        """Horizon and season are said once, in their own sections, and known to the model."""
        model = values.get("model", {}) if isinstance(values, dict) else None
        if not isinstance(model, dict):
            return values
        for key in set(model) & set(DERIVED_KEYS):
            raise ValueError(f"model: {key!r} follows from {DERIVED_KEYS[key]}: leave it out here")
        horizon = _said(values, "window", "horizon", WindowSpec)
        season = _said(values, "evaluate", "season", EvaluateSpec)
        return {**values, "model": {**model, **horizon, **season}}

    @model_validator(mode="after")
    def _the_bar_is_scored(self) -> Self:
        if self.register_.gate.beats not in self.evaluate.baselines:
            raise ValueError(f"register.gate.beats: {self.register_.gate.beats} must be one of evaluate.baselines")
        return self

    @model_validator(mode="after")
    def _every_choice_is_valid(self, info: ValidationInfo) -> Self:
        if is_partial(info):
            return self
        for number, member in enumerate(self.ensemble.members or ()):
            _check_member(number, member, self.model)
        try:
            first, *others = [self.trial_params(member) for member in self.members]
        except ConfigError as error:
            raise ValueError(f"model and search.space: the first trial's values don't go together: {error}") from None
        _check_different([self.network_config(values) for values in (first, *others)])
        for key, options in self.search.space.items():
            for choice in bounds(key, options):
                try:
                    self.trial_params(self.members[0], {**self._where_asked(key, first), key: choice})
                except ConfigError as error:
                    raise ValueError(f"search.space.{key}: {error}") from None
        return self

    def _where_asked(self, key: str, trial: dict[str, Any]) -> dict[str, Any]:
        """Values of other keys with which a trial that is the same otherwise is asked for this one."""
        found: dict[str, Any] = {}
        for other, wanted in conditions(self.search.space[key]).items():
            now = self._whole(trial)[other]
            found |= {**self._where_asked(other, trial), other: now if now in wanted else wanted[0]}
        return found

    @property
    def explicit_values(self) -> dict[str, Any]:
        """What the file says, without defaults."""
        values = self.model_dump(mode="json", by_alias=True, exclude_unset=True)
        model = {key: value for key, value in values.get("model", {}).items() if key not in DERIVED_KEYS}
        return {**values, "model": model}

    @property
    def members(self) -> tuple[dict[str, Any], ...]:
        """What the first trials change in `model`: one a member, as many as there are trials."""
        return (self.ensemble.members or ({},))[: self.search.trials]

    def trial_params(self, member: dict[str, Any], forced: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """A member's values: those of the searched keys where the space allows them, and its own others.

        Args:
            member: what it changes in `model`.
            forced: values of searched keys that are to be taken as they are, where the key is asked.

        Raises:
            ConfigError: they don't go together.
        """
        values = dict(member)
        for key, options in self.search.space.items():
            if self.is_searched(key, values):
                start = nearest_to(key, options, self._whole(values)[key])
                values[key] = (forced or {}).get(key, start)
        self.network_config(values)
        return values

    def is_searched(self, key: str, trial: dict[str, Any]) -> bool:
        """Whether the search asks for the key where a trial has these values: where not, the model's own is used."""
        return condition_met(self.search.space[key], self._whole(trial))

    def _whole(self, trial: dict[str, Any]) -> dict[str, Any]:
        return {**self.model.model_dump(), **trial}

    def network_config(self, trial: dict[str, Any]) -> ModelConfig:
        """The configuration of one network: `model` with a trial's values.

        Raises:
            ConfigError: the trial's values don't go together.
        """
        return self.model.replace(**trial)

    def with_frequency(self, frequency: str) -> "PipelineConfig":
        """The same with the frequency that was inferred."""
        return self.model_copy(update={"data": self.data.model_copy(update={"frequency": frequency})})

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, every default written out; `PipelineConfig.parse` makes the same of it again."""
        values = self.model_dump(mode="json", by_alias=True)
        values["model"] = {key: value for key, value in values["model"].items() if key not in DERIVED_KEYS}
        return values

    @property
    def longest_lookback(self) -> int:
        """Steps of history that the longest window of the search needs."""
        searched = self.search.bounds("sequence_length")
        own = (member.get("sequence_length", self.model.sequence_length) for member in ({}, *self.members))
        return int(max(*searched, *own, 1))


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


def _said(values: dict[str, Any], section: str, key: str, spec: type[StrictModel]) -> dict[str, int]:
    """The key of a section that is not validated yet, or its default; nothing where it is no such number."""
    given = values.get(section)
    value = given.get(key) if isinstance(given, dict) else None
    value = spec.model_fields[key].default if value is None else value
    return {key: value} if isinstance(value, int) and (key == "horizon" or value > 1) else {}
