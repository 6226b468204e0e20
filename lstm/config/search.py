"""The section `search` of a configuration: budget, sampler, pruner, and the space (docs/search.md)."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import Discriminator, Field, Tag, ValidationInfo, field_validator, model_validator

from lstm.config.fields import Duration
from lstm.config.model import ModelConfig, StrictModel, is_partial
from lstm.errors import did_you_mean

# Keys of the model that another section says.
DERIVED_KEYS = {
    "horizon": "window.horizon",
    "season": "evaluate.season",
    "input_size": "the columns of data",
    "output_size": "data.target",
}

_WIDEST_GRID = 1_000_000  # values of one key


class _Conditional(StrictModel):
    """What may be asked only where other keys of the space have certain values."""

    when: dict[str, tuple[Any, ...]] = Field({}, description="asked only where each of these keys has such a value")

    @model_validator(mode="before")
    @classmethod
    def _no_other_keys(cls, values: Any) -> Any:
        for key in values if isinstance(values, dict) else ():
            if key not in cls.model_fields:
                raise ValueError(f"unknown key {key!r}.{did_you_mean(str(key), cls.model_fields)}")
        return values


class Range(_Conditional):
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


class Choices(_Conditional):
    """A list with a condition."""

    choices: tuple[Any, ...]


def _form(value: Any) -> str:
    """Which form of options was meant; the names are hidden from messages by their capital."""
    if isinstance(value, Choices) or (isinstance(value, dict) and "choices" in value):
        return "Choices"
    return "Range" if isinstance(value, Range | dict) else "List"


Options = Annotated[
    Annotated[tuple[Any, ...], Tag("List")] | Annotated[Range, Tag("Range")] | Annotated[Choices, Tag("Choices")],
    Discriminator(_form),
]

# The tuning guide that this project was made by; docs/models.md has it with what was measured.
DEFAULT_SPACE: dict[str, Options] = {
    "hidden_size": (32, 64, 128),
    "num_layers": Range(low=1, high=3),
    "dropout": Range(low=0.0, high=0.5),
    "learning_rate": Range(low=1e-4, high=1e-2, log=True),
}


class SearchSpec(StrictModel):
    """The Optuna search. It sees training and validation windows, never the test span."""

    trials: int = Field(20, ge=1, description="networks to train; the members of the ensemble are the first of them")
    timeout: Duration | None = None
    workers: int | Literal["auto"] = Field("auto", description="auto: one per GPU, or per core with one thread each")
    seed: int = Field(0, ge=0, lt=2**32)
    sampler: Literal["tpe", "random", "gp", "grid"] = "tpe"
    pruner: Literal["median", "hyperband", "successive_halving", "patient", "none"] = Field(
        "median", description="with several objectives none: they can't be pruned"
    )
    plateau: int | None = Field(None, ge=1, description="stop after so many trials in a row without a better one")
    objectives: tuple[Literal["error", "latency"], ...] = ("error",)
    warm_start: bool = Field(True, description="first propose the best trial of the last search of the same name")
    space: dict[str, Options] = DEFAULT_SPACE

    @model_validator(mode="before")
    @classmethod
    def _several_objectives_are_not_pruned(cls, values: Any) -> Any:
        objectives = values.get("objectives") if isinstance(values, dict) else None
        several = isinstance(objectives, list | tuple) and "latency" in objectives
        return {"pruner": "none", **values} if several else values

    @field_validator("workers")
    @classmethod
    def _some_workers(cls, value: int | str) -> int | str:
        if isinstance(value, int) and value < 1:
            raise ValueError("must be 1 or more, or auto")
        return value

    @field_validator("objectives")
    @classmethod
    def _error_first(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if value[:1] != ("error",) or len(set(value)) < len(value):
            raise ValueError(f"must hold error first, and each once, but got {list(value)}. Write [error, latency]")
        return value

    @field_validator("space")
    @classmethod
    def _known_keys(cls, value: dict[str, Options]) -> dict[str, Options]:
        before: dict[str, Options] = {}
        for key, options in value.items():
            if key not in ModelConfig.model_fields:
                raise ValueError(f"{key!r} is no key of the model.{did_you_mean(key, ModelConfig.model_fields)}")
            if key in (*DERIVED_KEYS, "device", "quantiles", "lags", "augment"):
                raise ValueError(f"{key!r} can't be searched: set it in `model`")
            _check_options(key, options)
            _check_condition(key, options, before, value)
            before[key] = options
        return value

    @model_validator(mode="after")
    def _pruner_and_sampler_can(self, info: ValidationInfo) -> Self:
        if len(self.objectives) > 1 and self.pruner != "none":
            raise ValueError(
                f"`pruner` must be none with several objectives, which can't be pruned, but got {self.pruner}: "
                "leave search.pruner out"
            )
        space_to_come = is_partial(info) and "space" not in self.model_fields_set
        for key, options in self.space.items() if self.sampler == "grid" and not space_to_come else ():
            _check_grid(key, options)
        return self

    def bounds(self, key: str) -> tuple[Any, ...]:
        """What can be proposed for a key: its choices, or the two ends of its range; nothing if it isn't searched."""
        return bounds(key, self.space[key]) if key in self.space else ()


def number_type(key: str) -> type[int] | type[float] | None:
    """`int` or `float` for a key of the model that holds such a number (or null), None for any other."""
    annotation = ModelConfig.model_fields[key].annotation
    kinds = set(get_args(annotation) or (annotation,)) - {type(None)}
    return int if kinds == {int} else float if kinds == {float} else None


def choices(options: tuple[Any, ...] | Choices) -> tuple[Any, ...]:
    """The choices of a list, with a condition or without."""
    return options.choices if isinstance(options, Choices) else options


def bounds(key: str, options: Options) -> tuple[Any, ...]:
    """The choices; the two ends of a range, in the key's type."""
    if isinstance(options, Range):
        kind = number_type(key) or float
        return kind(options.low), kind(options.high)
    return choices(options)


def grid_values(key: str, options: Options) -> Sequence[Any]:
    """The choices; every whole number of a range."""
    return range(int(options.low), int(options.high) + 1) if isinstance(options, Range) else choices(options)


def is_valid(key: str, options: Options, value: Any) -> bool:
    """Whether the key may be given the value."""
    if not isinstance(options, Range):
        return any(_same(value, choice) for choice in choices(options))
    number = isinstance(value, int | float) and not isinstance(value, bool)
    whole = number and (number_type(key) is not int or float(value).is_integer())
    return whole and options.low <= value <= options.high


def nearest_to(key: str, options: Options, value: Any) -> Any:
    """The value where it is possible; else the end of the range that is nearest, or the first choice."""
    if isinstance(options, Range):
        number = options.low if value is None else min(max(value, options.low), options.high)
        return (number_type(key) or float)(number)
    return value if is_valid(key, options, value) else choices(options)[0]


def conditions(options: Options) -> Mapping[str, tuple[Any, ...]]:
    """What must hold for the key to be asked; empty: it always is."""
    return {} if isinstance(options, tuple) else options.when


def condition_met(options: Options, values: Mapping[str, Any]) -> bool:
    """Whether the condition holds for the values of a whole network."""
    return all(any(_same(values[key], one) for one in wanted) for key, wanted in conditions(options).items())


def _same(one: Any, other: Any) -> bool:
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)  # `true` is not 1


def _check_options(key: str, options: Options) -> None:
    kind = number_type(key)
    if isinstance(options, Range):
        if kind is None:
            raise ValueError(f"{key!r} holds no number: list its choices instead of a range")
        if kind is int and not (options.low.is_integer() and options.high.is_integer()):
            raise ValueError(f"{key!r} holds whole numbers, but got low={options.low}, high={options.high}")
        return
    values = choices(options)
    if not values:
        raise ValueError(f"{key!r} needs at least one choice")
    if kind and not all(isinstance(one, int | float) and not isinstance(one, bool) for one in values):
        raise ValueError(f"{key!r} holds numbers, but got {list(values)}")
    if any(_same(one, other) for n, one in enumerate(values) for other in values[:n]):
        raise ValueError(f"{key!r} must list each choice once, but got {list(values)}")


def _check_condition(key: str, options: Options, before: Mapping[str, Options], space: Mapping[str, Options]) -> None:
    for other, wanted in conditions(options).items():
        if other not in before:
            remedy = f"List {other!r} above {key!r}" if other in space and other != key else f"Known: {list(before)}"
            raise ValueError(
                f"{key!r}: `when` needs a key of the space that stands before it, but got {other!r}. {remedy}"
            )
        if not wanted:
            raise ValueError(f"{key!r}: `when` needs at least one value of {other!r}, but got []: list one")
        for value in wanted:
            if not is_valid(other, before[other], value):
                choices = bounds(other, before[other])
                known = "{} to {}".format(*choices) if isinstance(before[other], Range) else str(list(choices))
                raise ValueError(f"{key!r}: `when` must hold possible values of {other!r} ({known}), but got {value!r}")


def _check_grid(key: str, options: Options) -> None:
    remedy = "list its values in search.space, or take another sampler"
    if conditions(options):
        raise ValueError(f"sampler grid needs keys without `when`, but got one at {key!r}: drop it, or the sampler")
    if isinstance(options, Range) and number_type(key) is not int:
        raise ValueError(
            f"sampler grid needs lists or whole numbers, but got a range of fractions at {key!r}: {remedy}"
        )
    if isinstance(options, Range) and options.log:
        raise ValueError(f"sampler grid needs ranges without log, but got log=true at {key!r}: {remedy}")
    if isinstance(options, Range) and options.high - options.low > _WIDEST_GRID:
        raise ValueError(f"sampler grid needs at most {_WIDEST_GRID:,} values of a key, but {key!r} has more: {remedy}")
