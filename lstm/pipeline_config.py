"""The pipeline's configuration: one YAML file from source to champion (docs: README, "Your own data")."""

from typing import Any, Literal, Self, get_args

from pydantic import Field, ValidationInfo, field_validator, model_validator

from lstm.config import ModelConfig, Strict, is_unfinished
from lstm.data.spec import DataSpec, Duration, NormalizeSpec, SplitSpec
from lstm.errors import ConfigError, nearest


class WindowSpec(Strict):
    """What a window forecasts; its look-back is `sequence_length`."""

    horizon: int = Field(24, ge=1, le=1_000_000)
    stride: int = Field(1, ge=1, le=1_000_000, description="steps between training windows; evaluation uses all")


class Range(Strict):
    """A numeric search range, both ends included."""

    low: float
    high: float
    log: bool = False

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"`low <= high` must hold, but got low={self.low}, high={self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"`low > 0` must hold on a log scale, but got low={self.low}")
        return self


# The tuning guide that this project was made by; docs/models.md has it with what was measured.
DEFAULT_SPACE: dict[str, tuple[Any, ...] | Range] = {
    "hidden_size": (32, 64, 128),
    "num_layers": Range(low=1, high=3),
    "dropout": Range(low=0.0, high=0.5),
    "learning_rate": Range(low=1e-4, high=1e-2, log=True),
}


class SearchSpec(Strict):
    """The Optuna search. It sees training and validation windows, never the test span."""

    trials: int = Field(20, ge=1, description="networks to train; the members of the ensemble are the first of them")
    timeout: Duration | None = None
    workers: int | Literal["auto"] = Field("auto", description="auto: one per GPU, or per core with one thread each")
    seed: int = Field(0, ge=0, lt=2**32)
    space: dict[str, tuple[Any, ...] | Range] = DEFAULT_SPACE

    @field_validator("workers")
    @classmethod
    def _some_workers(cls, value: int | str) -> int | str:
        if isinstance(value, int) and value < 1:
            raise ValueError("must be 1 or more, or auto")
        return value

    @field_validator("space")
    @classmethod
    def _known_keys(cls, value: dict[str, Any]) -> dict[str, Any]:
        for key, options in value.items():
            if key not in ModelConfig.model_fields:
                raise ValueError(f"{key!r} is no key of the model.{nearest(key, ModelConfig.model_fields)}")
            if key in (*_SET_ELSEWHERE, "device", "quantiles", "lags", "augment"):
                raise ValueError(f"{key!r} can't be searched: set it in `model`")
            _check_options(key, options)
        return value


def number_type(key: str) -> type[int] | type[float] | None:
    """`int` or `float` for a key of the model that holds such a number (or null), None for any other."""
    annotation = ModelConfig.model_fields[key].annotation
    kinds = set(get_args(annotation) or (annotation,)) - {type(None)}
    return int if kinds == {int} else float if kinds == {float} else None


def _check_options(key: str, options: tuple[Any, ...] | Range) -> None:
    kind = number_type(key)
    if isinstance(options, Range):
        if kind is None:
            raise ValueError(f"{key!r} holds no number: list its choices instead of a range")
        if kind is int and not (options.low.is_integer() and options.high.is_integer()):
            raise ValueError(f"{key!r} holds whole numbers, but got low={options.low}, high={options.high}")
    elif not options:
        raise ValueError(f"{key!r} needs at least one choice")
    elif kind and not all(isinstance(one, int | float) and not isinstance(one, bool) for one in options):
        raise ValueError(f"{key!r} holds numbers, but got {list(options)}")


class EnsembleSpec(Strict):
    """Which networks are combined, and how."""

    members: tuple[dict[str, Any], ...] | None = Field(
        None, description="keys of the model in which the first trials differ; by default the preset's"
    )
    size: int = Field(5, ge=1, description="members first, then the best of the other trials")
    method: Literal["mean", "median", "inverse_error"] = "mean"


class EvaluateSpec(Strict):
    """What the candidates are measured against and how wide their intervals are."""

    season: int = Field(24, ge=1, le=1_000_000, description="steps of a season, which the seasonal naive repeats")
    levels: tuple[int, ...] = Field((80, 95), description="nominal coverage of the intervals, in percent")
    latency: Duration | None = Field(None, description="longest time that one forecast of one series may take")

    @field_validator("levels")
    @classmethod
    def _percent(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not value or not all(1 <= level <= 99 for level in value) or len(set(value)) < len(value):
            raise ValueError("must be whole percents from 1 to 99, each once")
        return value


class GateSpec(Strict):
    """What a candidate must beat on validation before it may become champion."""

    beats: Literal["seasonal_naive", "persistence"] = "seasonal_naive"


class RegisterSpec(Strict):
    """When a registered version is promoted."""

    gate: GateSpec = GateSpec()


_SET_ELSEWHERE = {
    "horizon": "window.horizon",
    "season": "evaluate.season",
    "input_size": "the columns of data",
    "output_size": "data.target",
}


class PipelineConfig(Strict):
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

    @model_validator(mode="before")
    @classmethod
    def _complete_model(cls, values: Any) -> Any:
        """Horizon and season are said once, in their own sections, and known to the model."""
        model = values.get("model", {}) if isinstance(values, dict) else None
        if not isinstance(model, dict):
            return values
        for key in set(model) & set(_SET_ELSEWHERE):
            raise ValueError(f"model: {key!r} follows from {_SET_ELSEWHERE[key]}: leave it out here")
        horizon = _said(values, "window", "horizon", WindowSpec)
        season = _said(values, "evaluate", "season", EvaluateSpec)
        return {**values, "model": {**model, **horizon, **season}}

    @model_validator(mode="after")
    def _every_choice_is_valid(self, info: ValidationInfo) -> Self:
        if is_unfinished(info):
            return self
        for number, member in enumerate(self.ensemble.members or ()):
            _check_member(number, member, self.model)
        try:
            first, *others = [self.trial_of(member) for member in self.members]
        except ConfigError as error:
            raise ValueError(f"model and search.space: the first trial's values don't go together: {error}") from None
        _check_different([self.network(values) for values in (first, *others)])
        for key, options in self.search.space.items():
            for choice in (options.low, options.high) if isinstance(options, Range) else options:
                try:
                    self.network({**first, key: choice})
                except ConfigError as error:
                    raise ValueError(f"search.space.{key}: {error}") from None
        return self

    @property
    def said(self) -> dict[str, Any]:
        """What the file says, without defaults."""
        values = self.model_dump(mode="json", by_alias=True, exclude_unset=True)
        model = {key: value for key, value in values.get("model", {}).items() if key not in _SET_ELSEWHERE}
        return {**values, "model": model}

    @property
    def members(self) -> tuple[dict[str, Any], ...]:
        """What the first trials change in `model`: one a member, as many as there are trials."""
        return (self.ensemble.members or ({},))[: self.search.trials]

    def trial_of(self, member: dict[str, Any]) -> dict[str, Any]:
        """A member's values: those of the searched keys where the space allows them, and its own others.

        Raises:
            ConfigError: they don't go together.
        """
        fixed = {**self.model.model_dump(), **member}
        allowed = {}
        for key, options in self.search.space.items():
            value = fixed[key]
            if isinstance(options, Range):
                start = options.low if value is None else min(max(value, options.low), options.high)
                allowed[key] = (number_type(key) or float)(start)
            else:
                allowed[key] = value if value in options else options[0]
        self.network({**member, **allowed})
        return {**member, **allowed}

    def network(self, trial: dict[str, Any]) -> ModelConfig:
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
        values["model"] = {key: value for key, value in values["model"].items() if key not in _SET_ELSEWHERE}
        return values

    @property
    def longest_lookback(self) -> int:
        """Steps of history that the longest window of the search needs."""
        choices = self.search.space.get("sequence_length", ())
        searched = (choices.low, choices.high) if isinstance(choices, Range) else choices
        own = (member.get("sequence_length", self.model.sequence_length) for member in ({}, *self.members))
        return int(max(*searched, *own, 1))


def _check_member(number: int, member: dict[str, Any], model: ModelConfig) -> None:
    for key in member:
        if key in (*_SET_ELSEWHERE, "device", "quantiles"):
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


def _said(values: dict[str, Any], section: str, key: str, spec: type[Strict]) -> dict[str, int]:
    """The key of a section that is not validated yet, or its default; nothing where it is no such number."""
    given = values.get(section)
    value = given.get(key) if isinstance(given, dict) else None
    value = spec.model_fields[key].default if value is None else value
    return {key: value} if isinstance(value, int) and (key == "horizon" or value > 1) else {}
