"""Options of a searched key: a range or a list, with conditions, and their checks (docs/search.md)."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Self, get_args

from pydantic import Discriminator, Field, Tag, model_validator

from lstm.config.model import ModelConfig, StrictModel
from lstm.errors import did_you_mean

_MAX_GRID_VALUES = 1_000_000  # of one key


class _Conditional(StrictModel):
    """Search options that may depend on the values of other keys."""

    when: dict[str, tuple[Any, ...]] = Field({}, description="searched only if each of these keys has such a value")

    @model_validator(mode="before")
    @classmethod
    def _no_unknown_keys(cls, values: Any) -> Any:
        for key in values if isinstance(values, dict) else ():
            if key not in cls.model_fields:
                raise ValueError(f"unknown key {key!r}.{did_you_mean(str(key), cls.model_fields)}")
        return values


class Range(_Conditional):
    """A numeric range, both ends included."""

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
    """A list of values with conditions."""

    choices: tuple[Any, ...]


def _options_tag(value: Any) -> str:
    """Return which form of options is meant. Capitalized tags are left out of messages, see `_is_union_tag`."""
    if isinstance(value, Choices) or (isinstance(value, dict) and "choices" in value):
        return "Choices"
    return "Range" if isinstance(value, Range | dict) else "List"


Options = Annotated[
    Annotated[tuple[Any, ...], Tag("List")] | Annotated[Range, Tag("Range")] | Annotated[Choices, Tag("Choices")],
    Discriminator(_options_tag),
]


def number_type(key: str) -> type[int] | type[float] | None:
    """Return `int` or `float` for a numeric key of the model (which may allow null), None for any other."""
    annotation = ModelConfig.model_fields[key].annotation
    types = set(get_args(annotation) or (annotation,)) - {type(None)}
    return int if types == {int} else float if types == {float} else None


def choices(options: tuple[Any, ...] | Choices) -> tuple[Any, ...]:
    """Return the values of a list, with or without conditions."""
    return options.choices if isinstance(options, Choices) else options


def bounds(key: str, options: Options) -> tuple[Any, ...]:
    """Return the choices, or the two ends of a range in the key's type."""
    if isinstance(options, Range):
        number = number_type(key) or float
        return number(options.low), number(options.high)
    return choices(options)


def grid_values(key: str, options: Options) -> Sequence[Any]:
    """Return the choices, or every whole number of a range."""
    return range(int(options.low), int(options.high) + 1) if isinstance(options, Range) else choices(options)


def is_valid(key: str, options: Options, value: Any) -> bool:
    """Whether the options of the key allow the value."""
    if not isinstance(options, Range):
        return any(_equal(value, choice) for choice in choices(options))
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    has_type = is_number and (number_type(key) is not int or float(value).is_integer())
    return has_type and options.low <= value <= options.high


def nearest_to(key: str, options: Options, value: Any) -> Any:
    """Return the value if the options allow it, else the nearest end of the range, or the first choice."""
    if isinstance(options, Range):
        number = options.low if value is None else min(max(value, options.low), options.high)
        return (number_type(key) or float)(number)
    return value if is_valid(key, options, value) else choices(options)[0]


def conditions(options: Options) -> Mapping[str, tuple[Any, ...]]:
    """Return the values that other keys must have for the key to be searched; {}: it always is."""
    return {} if isinstance(options, tuple) else options.when


def condition_met(options: Options, values: Mapping[str, Any]) -> bool:
    """Whether the values of a whole network meet the conditions."""
    return all(any(_equal(values[key], value) for value in wanted) for key, wanted in conditions(options).items())


def _equal(a: Any, b: Any) -> bool:
    return bool(a == b) and isinstance(a, bool) == isinstance(b, bool)  # `true` is not 1


def check_options(key: str, options: Options) -> None:
    """Raise ValueError if the options don't fit the type of the key."""
    number = number_type(key)
    if isinstance(options, Range):
        if number is None:
            raise ValueError(f"{key!r} holds no number: list its choices instead of a range")
        if number is int and not (options.low.is_integer() and options.high.is_integer()):
            raise ValueError(f"{key!r} holds whole numbers, but got low={options.low}, high={options.high}")
        return
    values = choices(options)
    if not values:
        raise ValueError(f"{key!r} needs at least one choice")
    if number and not all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        raise ValueError(f"{key!r} holds numbers, but got {list(values)}")
    if any(_equal(value, earlier) for n, value in enumerate(values) for earlier in values[:n]):
        raise ValueError(f"{key!r} must list each choice once, but got {list(values)}")


def check_conditions(key: str, options: Options, before: Mapping[str, Options], space: Mapping[str, Options]) -> None:
    """Raise ValueError if a condition names no key before this one, or a value that it can't have."""
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
                allowed = bounds(other, before[other])
                known = "{} to {}".format(*allowed) if isinstance(before[other], Range) else str(list(allowed))
                raise ValueError(f"{key!r}: `when` must hold possible values of {other!r} ({known}), but got {value!r}")


def check_grid(key: str, options: Options) -> None:
    """Raise ValueError if the sampler `grid` can't list the values of the key."""
    remedy = "list its values in search.space, or take another sampler"
    if conditions(options):
        raise ValueError(f"sampler grid needs keys without `when`, but got one at {key!r}: drop it, or the sampler")
    if isinstance(options, Range) and number_type(key) is not int:
        raise ValueError(
            f"sampler grid needs lists or whole numbers, but got a range of fractions at {key!r}: {remedy}"
        )
    if isinstance(options, Range) and options.log:
        raise ValueError(f"sampler grid needs ranges without log, but got log=true at {key!r}: {remedy}")
    if isinstance(options, Range) and options.high - options.low > _MAX_GRID_VALUES:
        raise ValueError(
            f"sampler grid needs at most {_MAX_GRID_VALUES:,} values of a key, but {key!r} has more: {remedy}"
        )
