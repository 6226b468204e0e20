"""Field types shared by several keys: columns, durations, spans, filter values."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from lstm.calendars.durations import parse_duration


def _as_tuple(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


def _as_filter_values(value: Any) -> Any:
    values = value if isinstance(value, list | tuple) else (value,)
    if not values or not all(isinstance(item, str | int | float) for item in values):
        raise ValueError("must be a text, a number or true or false, or a list of them (put a date in quotes)")
    return tuple(values)


def _check_duration(value: Any) -> Any:
    if isinstance(value, str):
        try:
            parse_duration(value)
        except ValueError:
            raise ValueError("must be a duration above zero such as 30d, 6h, 10min") from None
    return value


def _check_duration_with_unit(value: Any) -> Any:
    if isinstance(value, int | float):
        raise ValueError("must be a duration with its unit, such as 60s or 10min")
    return _check_duration(value)


def _check_span(value: Any) -> Any:
    whole = isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 1_000_000_000
    share = isinstance(value, float) and 0 < value < 1
    if not isinstance(value, str) and not whole and not share:
        raise ValueError("must be rows (1 or more), a fraction between 0 and 1, or a duration such as 30d")
    return _check_duration(value)


def _check_steps(value: Any) -> Any:
    whole = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 1_000_000_000
    if not isinstance(value, str) and not whole:
        raise ValueError("must be a number of steps, or a duration such as 6h")
    return _check_duration(value)


Columns = Annotated[tuple[str, ...], BeforeValidator(_as_tuple)]
WideColumns = Annotated[
    tuple[str, ...] | Literal["all"], BeforeValidator(lambda value: value if value == "all" else _as_tuple(value))
]
FilterValues = Annotated[tuple[str | int | float | bool, ...], BeforeValidator(_as_filter_values)]
Duration = Annotated[str, BeforeValidator(_check_duration_with_unit)]
StepsOrDuration = Annotated[int | str, BeforeValidator(_check_steps)]
Span = Annotated[
    int | float | str, BeforeValidator(_check_span), Field(description="rows, a fraction of the span, or a duration")
]
