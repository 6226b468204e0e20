"""The pipeline's configuration: one YAML file from source to champion (docs: README, "Your own data")."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

import yaml
from pydantic import BeforeValidator, Field, field_validator, model_validator

from lstm.config import ModelConfig, Strict
from lstm.durations import duration
from lstm.errors import ConfigError, nearest


def _as_tuple(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


def _duration(value: Any) -> Any:
    if isinstance(value, str):
        try:
            duration(value)
        except ValueError:
            raise ValueError("must be a duration above zero such as 30d, 6h, 10min") from None
    return value


def _span(value: Any) -> Any:
    whole = isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 1_000_000_000
    share = isinstance(value, float) and 0 < value < 1
    if not isinstance(value, str) and not whole and not share:
        raise ValueError("must be rows (1 or more), a fraction between 0 and 1, or a duration such as 30d")
    return _duration(value)


Columns = Annotated[tuple[str, ...], BeforeValidator(_as_tuple)]
Duration = Annotated[str, BeforeValidator(_duration)]
Span = Annotated[
    int | float | str, BeforeValidator(_span), Field(description="rows, a fraction of the span, or a duration")
]


class CalendarSpec(Strict):
    """Known-ahead features that follow from the time stamp, in local time."""

    features: tuple[Literal["hour", "dayofweek", "dayofyear", "month"], ...] = ()
    holidays: str | None = Field(None, description="country code of the `holidays` package, such as US")


class MissingSpec(Strict):
    """Gaps up to `max_gap` are filled; a longer gap in a target splits the series."""

    max_gap: Duration = "6h"
    method: Literal["linear", "forward", "none"] = "linear"


class DataSpec(Strict):
    """Where the table is and what its columns mean."""

    source: str = Field(description="catalogue name, or path of a .csv, .csv.gz or .parquet file")
    time: str
    series: Columns = ()
    target: Columns
    observed: Columns = ()
    known: Columns = ()
    static: Columns = ()
    frequency: Duration = "1h"
    timezone: str = "UTC"
    calendar: CalendarSpec = CalendarSpec()
    missing: MissingSpec = MissingSpec()

    @field_validator("target")
    @classmethod
    def _some_target(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise ValueError("must name at least one column")
        return value

    @field_validator("timezone")
    @classmethod
    def _real_zone(cls, value: str) -> str:
        from zoneinfo import ZoneInfo

        try:
            ZoneInfo(value)
        except (KeyError, ValueError, OSError):
            raise ValueError("must be a time zone of the tz database such as UTC or America/New_York") from None
        return value

    @field_validator("calendar")
    @classmethod
    def _real_country(cls, value: CalendarSpec) -> CalendarSpec:
        if value.holidays is not None:
            from holidays import list_supported_countries

            if value.holidays not in list_supported_countries():
                raise ValueError(
                    f"holidays={value.holidays!r} is no country of the `holidays` package; use one like US"
                )
        return value

    @model_validator(mode="after")
    def _columns_once(self) -> Self:
        values = (*self.target, *self.observed, *self.known, *self.static)
        for name in ("series", "time"):
            if name in values:
                raise ValueError(f"a target or covariate can't be called {name!r}, which the prepared table uses")
        roles = [self.time, *self.series, *self.target, *self.observed, *self.known, *self.static]
        twice = sorted({name for name in roles if roles.count(name) > 1})
        if twice:
            raise ValueError(
                f"a column plays one role, but {twice[0]!r} is named twice "
                "(the target's own past is always an input: no need to list it as observed)"
            )
        return self


class SplitSpec(Strict):
    """The last `test` of the span is scored once, the `validation` before it selects."""

    validation: Span = 0.1
    test: Span = 0.1
    train: Span | None = Field(None, description="rows before validation to keep; all of them by default")


class NormalizeSpec(Strict):
    """How inputs and targets are scaled; statistics come from the training span alone."""

    strategy: Literal["zscore", "minmax", "robust", "none"] = "zscore"
    per: Literal["series", "all"] = "series"


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


DEFAULT_SPACE: dict[str, tuple[Any, ...] | Range] = {
    "hidden_size": (32, 64, 128),
    "dropout": Range(low=0.2, high=0.6),
    "learning_rate": Range(low=3e-4, high=3e-3, log=True),
}


class SearchSpec(Strict):
    """The Optuna search. It sees training and validation windows, never the test span."""

    trials: int = Field(20, ge=1)
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
            if key in (*_SET_ELSEWHERE, "device", "quantiles", "loss"):
                raise ValueError(f"{key!r} can't be searched: trials that differ in it can't be compared")
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
    """How the best trials are combined."""

    size: int = Field(5, ge=1)
    method: Literal["mean", "median", "inverse_error"] = "mean"


class EvaluateSpec(Strict):
    """What the candidates are measured against and how wide their intervals are."""

    season: int = Field(24, ge=1, le=1_000_000, description="steps of a season, which the seasonal naive repeats")
    levels: tuple[int, ...] = Field((80, 95), description="nominal coverage of the intervals, in percent")

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
    def _every_choice_is_valid(self) -> Self:
        try:
            self.network(self.default_trial)
        except ConfigError as error:
            raise ValueError(f"model and search.space: the first trial's values don't go together: {error}") from None
        for key, options in self.search.space.items():
            for choice in (options.low, options.high) if isinstance(options, Range) else options:
                try:
                    self.network({**self.default_trial, key: choice})
                except ConfigError as error:
                    raise ValueError(f"search.space.{key}: {error}") from None
        return self

    @property
    def default_trial(self) -> dict[str, Any]:
        """The model's own values of the searched keys, where the space allows them: the first trial."""
        fixed = self.model.model_dump()
        allowed = {}
        for key, options in self.search.space.items():
            value = fixed[key]
            if isinstance(options, Range):
                start = options.low if value is None else min(max(value, options.low), options.high)
                allowed[key] = (number_type(key) or float)(start)
            else:
                allowed[key] = value if value in options else options[0]
        return allowed

    def network(self, trial: dict[str, Any]) -> ModelConfig:
        """The configuration of one network: `model` with a trial's values.

        Raises:
            ConfigError: the trial's values don't go together.
        """
        return self.model.replace(**trial)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, every default written out; `PipelineConfig.parse` makes the same of it again."""
        values = self.model_dump(mode="json", by_alias=True)
        values["model"] = {key: value for key, value in values["model"].items() if key not in _SET_ELSEWHERE}
        return values

    @property
    def longest_lookback(self) -> int:
        """Steps of history that the longest window of the search needs."""
        choices = self.search.space.get("sequence_length", (self.model.sequence_length,))
        return int(choices.high if isinstance(choices, Range) else max(*choices, self.model.sequence_length))


def _said(values: dict[str, Any], section: str, key: str, spec: type[Strict]) -> dict[str, int]:
    """The key of a section that is not validated yet, or its default; nothing where it is no such number."""
    given = values.get(section)
    value = given.get(key) if isinstance(given, dict) else None
    value = spec.model_fields[key].default if value is None else value
    return {key: value} if isinstance(value, int) and (key == "horizon" or value > 1) else {}


_PRESETS: dict[str, dict[str, Any]] = {
    "fast": {"search": {"trials": 12, "timeout": "5min"}, "model": {"epochs": 8, "patience": 2}},
    "accurate": {"search": {"trials": 40, "timeout": "1h"}, "model": {"epochs": 20, "patience": 4}},
}
_MODEL = {"num_layers": 1, "dropout": 0.4, "batch_size": 64, "anchor": "last"}  # evidence: DECISIONS.md


def _defaults(values: dict[str, Any]) -> dict[str, Any]:
    """What the preset fills in where the file says nothing: budgets, one layer, and a look-back of two seasons."""
    name, evaluate = values.get("preset", "fast"), values.get("evaluate")
    preset = _PRESETS.get(name, {}) if isinstance(name, str) else {}
    season = evaluate.get("season", 24) if isinstance(evaluate, dict) else 24
    lookback = 2 * season if isinstance(season, int) and season > 1 else 24
    return _merged(preset, {"model": {**_MODEL, "sequence_length": lookback}})


def load_config(path: str | Path, overrides: tuple[str, ...] = ()) -> PipelineConfig:
    """Read, complete by the preset, override, and validate a pipeline configuration.

    Args:
        path: the YAML file.
        overrides: `dotted.key=value` each, the value in YAML: `search.trials=50`.

    Raises:
        ConfigError: the file is missing or no YAML mapping, or a key or value breaks a rule.
    """
    path = Path(path)
    values = _read_yaml(path)
    for override in overrides:
        _set(values, override)
    return PipelineConfig.parse(_merged(_defaults(values), values), where=path.name)


# A value such as 2024-13-45, or a thousand brackets, gets past the parser and fails in the making of the object.
_YAML_ERRORS = (yaml.YAMLError, ValueError, TypeError, AttributeError, OverflowError, RecursionError)


class _UniqueKeys(yaml.SafeLoader):
    """A safe loader that refuses a key given twice, where YAML's own would let the last one win."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Build the mapping of a node."""
        seen = set()
        for key_node, _ in node.value:
            if key_node.value in seen and key_node.tag != "tag:yaml.org,2002:merge":
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key_node.value!r} is given twice", key_node.start_mark
                )
            seen.add(key_node.value if isinstance(key_node.value, str) else id(key_node))
        return super().construct_mapping(node, deep)


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), _UniqueKeys)
    except OSError as error:
        raise ConfigError(f"{path}: can't be read ({error.strerror}). Name a YAML file.") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is not text in UTF-8. Name a YAML file.") from None
    except _YAML_ERRORS as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{path}:{line} is no valid YAML ({getattr(error, 'problem', error)}).") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: must hold `key: value` pairs, but holds {type(values).__name__}.")
    return values


def _set(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--set {override!r}: must read `dotted.key=value`, such as search.trials=50.")
    *parents, last = key.strip().split(".")
    for parent in parents:
        child = values.setdefault(parent, {})
        if not isinstance(child, dict):
            raise ConfigError(f"--set {override!r}: {parent!r} holds a value, not keys.")
        values = child
    try:
        values[last] = yaml.load(text, _UniqueKeys)
    except _YAML_ERRORS:
        raise ConfigError(f"--set {override!r}: {text!r} is no valid YAML value.") from None


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = _merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged
